"""The reference engine: the declaration run as a discrete-event simulation in SimPy.

A stage of a head is one long-lived process that works through the tokens in order: wait for what
comes before, take the resources, wait for the next clock edge, hold for the duration, give back.
Contention, arbitration and back-pressure are what happens between these processes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator

import numpy as np
import simpy
from simpy.events import EventPriority

from archsim.timing.model import FIRST, LAST, Declaration, Resource, Schedule, Stage

DELTA = EventPriority(2)
"""Event priority of a grant: after everything else that happens at the same instant."""

Progress = Callable[[int], None]


class InOrder:
    """A resource that serves its uses in program order, `capacity` at a time."""

    def __init__(self, env: simpy.Environment, capacity: int) -> None:
        self.env = env
        self.free = capacity
        self.next_use = 0
        self.waiting: dict[int, simpy.Event] = {}

    def request(self, use: int, token: int, head: int) -> simpy.Event | None:
        """None if granted at once, else an event."""
        if use == self.next_use and self.free:
            self.free -= 1
            self.next_use += 1
            self._serve()
            return None
        event = self.waiting[use] = self.env.event()
        return event

    def release(self) -> None:
        self.free += 1
        self._serve()

    def _serve(self) -> None:
        while self.free and self.next_use in self.waiting:
            self.free -= 1
            self.waiting.pop(self.next_use).succeed()
            self.next_use += 1


class FirstCome:
    """A resource that serves by request time, ties by (token, head), in a delta step.

    The grant is an event of its own at the end of the instant, so the order in which processes
    happened to be woken never decides.
    """

    def __init__(self, env: simpy.Environment, capacity: int) -> None:
        self.env = env
        self.free = capacity
        self.queue: list[tuple[int, int, int, int, simpy.Event]] = []

    def request(self, use: int, token: int, head: int) -> simpy.Event:
        event = self.env.event()
        heapq.heappush(self.queue, (int(self.env.now), token, head, use, event))
        self._schedule_grant()
        return event

    def release(self) -> None:
        self.free += 1
        if self.queue:
            self._schedule_grant()

    def _schedule_grant(self) -> None:
        step = simpy.Event(self.env)
        step._ok, step._value = True, None
        step.callbacks = [self._grant]
        self.env.schedule(step, priority=DELTA)

    def _grant(self, _: simpy.Event) -> None:
        while self.free and self.queue:
            self.free -= 1
            heapq.heappop(self.queue)[4].succeed()


class Milestones:
    """Moments that processes wait for: (stage, point, layer, head) reaching a token."""

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env
        self.reached: dict[tuple[object, ...], int] = {}
        self.waiting: dict[tuple[object, ...], dict[int, list[simpy.Event]]] = {}

    def reach(self, key: tuple[object, ...], token: int) -> None:
        self.reached[key] = token
        for event in self.waiting.get(key, {}).pop(token, ()):
            event.succeed()

    def wait(self, key: tuple[object, ...], token: int) -> simpy.Event | None:
        """None if `key` has reached `token` already, else an event."""
        if self.reached.get(key, -1) >= token:
            return None
        event = self.env.event()
        self.waiting.setdefault(key, {}).setdefault(token, []).append(event)
        return event


Server = InOrder | FirstCome


def _release(given: list[list[list[Server]]], unit: int) -> None:
    for instances in given:
        for server in instances[unit if len(instances) > 1 else 0]:
            server.release()


class Simulation:
    """One run of a declaration."""

    def __init__(
        self, declaration: Declaration, progress: Progress | None = None, reverse: bool = False
    ) -> None:
        self.declaration = declaration
        self.env = simpy.Environment()
        self.milestones = Milestones(self.env)
        self.progress = progress
        self.tokens, self.layers, self.heads = shape = declaration.shape
        self.start = {s.name: np.zeros(shape, np.int64) for s in declaration.stages}
        self.end = {s.name: np.zeros(shape, np.int64) for s in declaration.stages}
        self.ready = np.zeros(shape[:2], np.int64)
        self.unfinished = np.full(shape[:2], self.heads)
        self.servers = {
            (resource.name, layer, group, unit): self._server(resource)
            for resource in declaration.resources
            for layer in range(self.layers)
            for group in range(-(-self.heads // resource.heads))
            for unit in range(self._units(resource))
        }
        order = [
            (layer, head, stage)
            for layer in range(self.layers)
            for head in range(self.heads)
            for stage in declaration.stages
        ]
        for layer, head, stage in reversed(order) if reverse else order:
            self.env.process(self._stage(stage, layer, head))
        for token in range(max(1, min(declaration.prompt, self.tokens))):
            self.milestones.reach(("ready", 0), token)

    def _units(self, resource: Resource) -> int:
        """Arrays to simulate: one that no token is ever written to is only read, in order."""
        return min(resource.units, int(self.declaration.sub_tiles.max()) + 1)

    def _server(self, resource: Resource) -> Server:
        kind = FirstCome if resource.discipline == "fifo" else InOrder
        return kind(self.env, resource.capacity)

    def _instances(self, name: str, stage: Stage, layer: int, head: int) -> list[list[Server]]:
        """Servers that a stage takes or gives, by sub-tile of the token (one entry: whatever)."""
        resource = self.declaration.resource(name)
        units = [
            self.servers[name, layer, head // resource.heads, unit]
            for unit in range(self._units(resource))
        ]
        return [[unit] for unit in units] if stage.one_unit else [units]

    def _stage(self, stage: Stage, layer: int, head: int) -> Generator[simpy.Event, object, None]:
        env, declaration, milestones = self.env, self.declaration, self.milestones
        name, period = stage.name, declaration.period_ps
        started, ended = (name, "start", layer, head), (name, "end", layer, head)
        takes = []
        for taken in stage.takes:
            resource = declaration.resource(taken)
            instances = self._instances(taken, stage, layer, head)
            uses = [
                declaration.uses(resource, stage, head, unit).tolist()
                for unit in range(self._units(resource))
            ]
            takes.append((resource.heads > 1, instances, uses))
        at_start = [self._instances(r, stage, layer, head) for r in stage.gives_at_start]
        at_end = [self._instances(r, stage, layer, head) for r in stage.gives_at_end]
        durations = declaration.durations[name][:, layer, head].tolist()
        sub_tiles = declaration.sub_tiles.tolist()

        for token in range(self.tokens):
            if name == FIRST:
                gate = milestones.wait(("ready", layer), token)
                if gate is not None:
                    yield gate
            for after in stage.after:
                if token - after.lag >= 0 and token >= after.from_token:
                    event = milestones.wait(
                        (after.stage, after.point, layer, head), token - after.lag
                    )
                    if event is not None:
                        yield event
            unit = sub_tiles[token]
            for shared, instances, uses in takes:
                if shared and (late := -env.now % period):
                    yield env.timeout(late)  # shared blocks are asked for on a clock edge
                chosen = unit if len(instances) > 1 else 0
                for position, server in enumerate(instances[chosen], chosen):
                    grant = server.request(uses[position][token], token, head)
                    if grant is not None:
                        yield grant
            if late := -env.now % period:
                yield env.timeout(late)
            self.start[name][token, layer, head] = env.now
            _release(at_start, unit)
            milestones.reach(started, token)
            if durations[token]:
                yield env.timeout(durations[token])
            self.end[name][token, layer, head] = env.now
            _release(at_end, unit)
            milestones.reach(ended, token)
            if name == LAST:
                self._finished(token, layer)

    def _finished(self, token: int, layer: int) -> None:
        """A head latched its output; the last one of a layer lets the token go on."""
        self.unfinished[token, layer] -= 1
        if self.unfinished[token, layer]:
            return
        if layer + 1 < self.layers:
            self._open(token, layer + 1, self.declaration.layer_gap_ps)
            return
        if self.progress is not None:
            self.progress(token)
        if token + 1 < self.tokens and token + 1 >= self.declaration.prompt:
            self._open(token + 1, 0, self.declaration.token_gap_ps)

    def _open(self, token: int, layer: int, delay: int) -> None:
        self.ready[token, layer] = int(self.env.now) + delay
        key = ("ready", layer)
        if delay:
            timeout = self.env.timeout(delay)
            timeout.callbacks.append(lambda _: self.milestones.reach(key, token))
        else:
            self.milestones.reach(key, token)

    def run(self) -> Schedule:
        """Run to the end; every token has passed every layer."""
        self.env.run()
        if self.unfinished.any():
            raise RuntimeError("the schedule came to a stop before the last token")
        return Schedule(self.start, self.end, self.ready, "simpy")


def run_simpy(declaration: Declaration, progress: Progress | None = None) -> Schedule:
    """Times of a declaration by discrete-event simulation."""
    return Simulation(declaration, progress).run()
