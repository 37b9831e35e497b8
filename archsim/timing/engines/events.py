"""The naive discrete-event engine: every phase of every sub-tile is an event, in SimPy.

A stage of a head is one long-lived process that works through the tokens in order: wait for what
comes before, take the resources, wait for the next clock edge, hold for the duration, give back.
Where a phase happens in every sub-tile, each sub-tile is a process of its own, which asks for its
own array, converters or counters and emits its own pulse. Nothing is derived: contention,
arbitration and back-pressure are what happens between these processes. The other engines are held
against this one.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import simpy

from archsim.chip.stage import After, Periodic, Stage
from archsim.timing.declaration import Declaration, Progress, Schedule
from archsim.timing.engines.servers import Server, long_lived, server

Moment = tuple[str, str, int, int]
"""Stage, its start or end, layer, head; or "ready", "", layer, 0."""

Process = Generator[simpy.Event, object, None]


class Milestones:
    """Moments that processes wait for: (stage, point, layer, head) reaching a token."""

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env
        self.reached: dict[Moment, int] = {}
        self.waiting: dict[Moment, dict[int, list[simpy.Event]]] = {}

    def reach(self, key: Moment, token: int) -> None:
        self.reached[key] = token
        if key in self.waiting:
            for event in self.waiting[key].pop(token, ()):
                event.succeed()

    def wait(self, key: Moment, token: int) -> simpy.Event | None:
        """None if `key` has reached `token` already, else an event."""
        if self.reached.get(key, -1) >= token:
            return None
        event = self.env.event()
        self.waiting.setdefault(key, {}).setdefault(token, []).append(event)
        return event


class Phase:
    """A phase that happens in `size` sub-tiles at once: what its processes tell each other."""

    def __init__(self, env: simpy.Environment, size: int) -> None:
        self.env, self.size = env, size
        self.missing = size
        self.ask, self.granted, self.begin, self.done = (env.event() for _ in range(4))

    def arrive(self, reached: simpy.Event) -> None:
        """A sub-tile is there; the last one triggers `reached`."""
        self.missing -= 1
        if not self.missing:
            self.missing = self.size
            reached.succeed()

    def again(self) -> None:
        """Before the pulses end: new events for the next token."""
        self.ask, self.granted = self.env.event(), self.env.event()


class EventRun:
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
        self.unfinished = np.full(shape[:2], self.heads).tolist()
        self.sub_tiles = max(resource.units for resource in declaration.resources)
        self.servers: dict[tuple[str, int, int, int], Server] = {
            (resource.name, layer, group, unit): server(
                self.env, declaration, resource, group * resource.heads
            )
            for resource in declaration.resources
            for layer in range(self.layers)
            for group in range(-(-self.heads // resource.heads))
            for unit in range(resource.units)
        }
        self.kept: dict[tuple[str, str, int, int], list[int]] = {}
        order = [
            (layer, head, stage)
            for layer in range(self.layers)
            for head in range(self.heads)
            for stage in declaration.stages
        ]
        for layer, head, stage in reversed(order) if reverse else order:
            self._build(stage, layer, head)
        for token in range(max(1, min(declaration.prompt, self.tokens))):
            self.milestones.reach(("ready", "", 0, 0), token)

    def _everywhere(self, stage: Stage, name: str) -> bool:
        """Whether a stage takes this resource in every sub-tile."""
        return self.declaration.resource(name).units > 1 and not stage.one_unit

    def _server(self, name: str, layer: int, head: int, unit: int = 0) -> Server:
        resource = self.declaration.resource(name)
        return self.servers[name, layer, head // resource.heads, unit]

    def _uses(self, name: str, stage: Stage, head: int, unit: int) -> list[int]:
        """`Declaration.uses`, kept: heads that do not share use a resource in the same order."""
        resource = self.declaration.resource(name)
        key = (name, stage.name, head if resource.heads > 1 else 0, unit)
        if key not in self.kept:
            self.kept[key] = self.declaration.uses(resource, stage, head, unit).tolist()
        return self.kept[key]

    def _build(self, stage: Stage, layer: int, head: int) -> None:
        everywhere = [name for name in stage.takes if self._everywhere(stage, name)]
        phase = Phase(self.env, self.sub_tiles) if everywhere else None
        durations = self.declaration.durations[stage.name][:, layer, head].tolist()
        self.env.process(self._stage(stage, layer, head, durations, phase))
        if phase is not None:
            for unit in range(self.sub_tiles):
                place = (layer, head, unit)
                self.env.process(self._sub_tile(stage, place, durations, everywhere, phase))

    def _sub_tile(
        self,
        stage: Stage,
        place: tuple[int, int, int],
        durations: list[int],
        takes: list[str],
        phase: Phase,
    ) -> Process:
        """The part of one sub-tile (layer, head, unit) in a phase: its blocks, then its pulse."""
        env = self.env
        layer, head, unit = place
        blocks = [
            (self._server(name, layer, head, unit).request, self._uses(name, stage, head, unit))
            for name in takes
        ]
        given = [
            self._server(name, layer, head, unit).release
            for name in stage.gives_at_end
            if self._everywhere(stage, name)
        ]
        for token, lasts in enumerate(durations):
            yield phase.ask
            for request, uses in blocks:
                yield request(uses[token], token, head) or env.event().succeed()
            phase.arrive(phase.granted)
            yield phase.begin
            yield env.timeout(lasts)
            for release in given:
                release()
            phase.arrive(phase.done)

    def _afters(self, stage: Stage, layer: int, head: int) -> list[tuple[After, list[Moment]]]:
        """What a stage waits for: moments of its own head, or of all heads of the next layer."""
        found: list[tuple[After, list[Moment]]] = []
        for after in stage.after:
            if not after.next_layer:
                found.append((after, [(after.stage, after.point, layer, head)]))
            elif layer + 1 < self.layers:
                heads = range(self.heads)
                found.append((after, [(after.stage, after.point, layer + 1, h) for h in heads]))
        return found

    def _stage(
        self, stage: Stage, layer: int, head: int, durations: list[int], phase: Phase | None
    ) -> Process:
        env, declaration, milestones = self.env, self.declaration, self.milestones
        name, period = stage.name, declaration.period
        started, ended = (name, "start", layer, head), (name, "end", layer, head)
        sub_tiles = declaration.sub_tiles.tolist()
        afters = self._afters(stage, layer, head)
        takes = []
        for taken in stage.takes:
            if not self._everywhere(stage, taken):
                resource = declaration.resource(taken)
                units = range(resource.units)
                servers = [self._server(taken, layer, head, unit) for unit in units]
                uses = [self._uses(taken, stage, head, unit) for unit in units]
                takes.append((resource.heads > 1, servers, uses))
        at_start, at_end = (
            [
                [self._server(name, layer, head, unit) for unit in range(resource.units)]
                for name, resource in ((name, declaration.resource(name)) for name in names)
                if not by_sub_tiles or resource.units == 1
            ]
            for names, by_sub_tiles in (
                (stage.gives_at_start, False),  # they all start at once
                (stage.gives_at_end, phase is not None),
            )
        )

        def release(given: list[list[Server]], token: int) -> None:
            for servers in given:
                if stage.one_unit and len(servers) > 1:
                    servers[sub_tiles[token]].release()
                else:
                    for server in servers:
                        server.release()

        for token, lasts in enumerate(durations):
            if name == declaration.first:
                gate = milestones.wait(("ready", "", layer, 0), token)
                if gate is not None:
                    yield gate
            for after, moments in afters:
                if token - after.lag >= 0 and token >= after.from_token:
                    for moment in moments:
                        event = milestones.wait(moment, token - after.lag)
                        if event is not None:
                            yield event
            if phase is not None:
                phase.ask.succeed()
                yield phase.granted
            for shared, servers, uses in takes:
                if shared and (late := -env.now % period):
                    yield env.timeout(late)  # shared blocks are asked for on a clock edge
                unit = sub_tiles[token] if len(servers) > 1 else 0
                grant = servers[unit].request(uses[unit][token], token, head)
                if grant is not None:
                    yield grant
            if late := -env.now % period:
                yield env.timeout(late)
            if stage.periodic is not None:
                lasts = yield from self._due(stage, stage.periodic, token, layer, head)
            self.start[name][token, layer, head] = env.now
            release(at_start, token)
            milestones.reach(started, token)
            if phase is not None:
                phase.again()
                phase.begin.succeed()
                yield phase.done
                phase.begin, phase.done = env.event(), env.event()
            elif lasts:
                yield env.timeout(lasts)
            self.end[name][token, layer, head] = env.now
            release(at_end, token)
            milestones.reach(ended, token)
            if name == declaration.last:
                self._finished(token, layer)

    def _due(
        self, stage: Stage, every: Periodic, token: int, layer: int, head: int
    ) -> Generator[simpy.Event, object, int]:
        """Wait for what something due needs, if it is due now; how long the token then waits."""
        env, before, free = self.env, 0, 0
        if token:
            before = int(self.start[stage.name][token - 1, layer, head])
        if env.now // every.period == before // every.period:
            return 0
        for name in every.free if token else ():
            event = self.milestones.wait((name, "end", layer, head), token - 1)
            if event is not None:
                yield event
            free = max(free, int(self.end[name][token - 1, layer, head]))
        if late := -env.now % self.declaration.period:
            yield env.timeout(late)
        now, last, since = (np.asarray(each) for each in (env.now, before, free))
        return int(every.wait(now, last, since, self.declaration.period))

    def _finished(self, token: int, layer: int) -> None:
        """A head latched its output; the last one of a layer lets the token go on."""
        self.unfinished[token][layer] -= 1
        if self.unfinished[token][layer]:
            return
        if layer + 1 < self.layers:
            self._open(token, layer + 1, self.declaration.layer_gap)
            return
        if self.progress is not None:
            self.progress(token)
        if token + 1 < self.tokens and token + 1 >= self.declaration.prompt:
            self._open(token + 1, 0, self.declaration.token_gap)

    def _open(self, token: int, layer: int, delay: int) -> None:
        self.ready[token, layer] = int(self.env.now) + delay
        key = ("ready", "", layer, 0)
        if delay:
            timeout = self.env.timeout(delay)
            timeout.callbacks.append(lambda _: self.milestones.reach(key, token))
        else:
            self.milestones.reach(key, token)

    def run(self) -> Schedule:
        """Run to the end; every token has passed every layer."""
        with long_lived():
            self.env.run()
        if any(any(row) for row in self.unfinished):
            raise RuntimeError("the schedule came to a stop before the last token")
        return Schedule(self.start, self.end, self.ready, "simpy full", next(self.env._eid))


def run_simpy_full(declaration: Declaration, progress: Progress | None = None) -> Schedule:
    """Times of a declaration by discrete-event simulation, an event for every sub-tile phase."""
    return EventRun(declaration, progress).run()
