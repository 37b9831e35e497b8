"""The default discrete-event engine: events where something can be contended, in SimPy.

Private blocks are used in a known order, so their times are closed forms of times found before.
Events are made for what is not: the turn at a shared block, and a token that is handed from one
layer, or from one token, to the next. One process works through a segment of stages of a head
(`archsim.timing.engines.constraints.segments`), token after token.
`archsim.timing.engines.events` makes an event of every phase of every sub-tile; the times are the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import numpy as np
import simpy

from archsim.chip.stage import Periodic, Resource, Ticks
from archsim.timing.declaration import Declaration, Progress, Schedule
from archsim.timing.engines.constraints import Step, segments, steps
from archsim.timing.engines.servers import Server, long_lived, server


class Times:
    """One point of one stage of one head, token after token, as far as it is known."""

    __slots__ = ("env", "values", "waiting")

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env
        self.values: list[int] = []
        self.waiting: dict[int, list[simpy.Event]] = {}

    def append(self, value: int) -> None:
        token = len(self.values)
        self.values.append(value)
        if self.waiting:
            for event in self.waiting.pop(token, ()):
                event.succeed()

    def known(self, token: int) -> simpy.Event:
        """An event for the moment the time of `token`, not known yet, becomes known."""
        event = self.env.event()
        self.waiting.setdefault(token, []).append(event)
        return event


Constraint = tuple[Times, list[int], int, int]
"""Times, their values, lag, and the first token the constraint applies to."""


class ContestedRun:
    """One run of a declaration."""

    def __init__(
        self, declaration: Declaration, progress: Progress | None = None, reverse: bool = False
    ) -> None:
        self.declaration = declaration
        self.env = simpy.Environment()
        self.progress = progress
        self.tokens, self.layers, self.heads = declaration.shape
        self.times = {
            (stage.name, point, layer, head): Times(self.env)
            for stage in declaration.stages
            for point in ("start", "end")
            for layer in range(self.layers)
            for head in range(self.heads)
        }
        self.gates = [Times(self.env) for _ in range(self.layers)]
        self.unfinished = np.full((self.tokens, self.layers), self.heads).tolist()
        self.latest = np.zeros((self.tokens, self.layers), np.int64).tolist()
        compiled = steps(declaration)
        self.servers: dict[tuple[str, int, int], Server] = {
            (resource.name, layer, group): server(
                self.env, declaration, resource, group * resource.heads
            )
            for resource in dict.fromkeys(r for step in compiled for r in step.shared)
            for layer in range(self.layers)
            for group in range(-(-self.heads // resource.heads))
        }
        order = [
            (layer, head, segment)
            for layer in range(self.layers)
            for head in range(self.heads)
            for segment in segments(compiled)
        ]
        for layer, head, segment in reversed(order) if reverse else order:
            self.env.process(self._segment(segment, layer, head))
        for _ in range(max(1, min(declaration.prompt, self.tokens))):
            self.gates[0].append(0)

    def _constraints(self, step: Step, layer: int, head: int) -> Iterator[Constraint]:
        if step.name == self.declaration.first:
            yield self.gates[layer], self.gates[layer].values, 0, 0
        for after in step.constraints:
            heads: Iterator[int] | list[int] = [head]
            at = layer
            if after.next_layer:
                heads, at = iter(range(self.heads)), layer + 1
                if at == self.layers:
                    continue
            for which in heads:
                times = self.times[after.stage, after.point, at, which]
                yield times, times.values, after.lag, after.from_token

    def _segment(
        self, segment: list[Step], layer: int, head: int
    ) -> Generator[simpy.Event, object, None]:
        env, declaration, period = self.env, self.declaration, self.declaration.period
        work = []
        for step in segment:
            stage = declaration.stage(step.name)
            shared = [
                (
                    self._server(resource, layer, head),
                    declaration.uses(resource, stage, head, 0).tolist(),
                )
                for resource in step.shared
            ]
            given = [
                self._server(resource, layer, head)
                for resource in map(declaration.resource, stage.gives_at_end)
                if resource.heads > 1
            ]
            work.append(
                (
                    step.name == declaration.last,
                    list(self._constraints(step, layer, head)),
                    shared,
                    given,
                    declaration.durations[step.name][:, layer, head].tolist(),
                    self.times[step.name, "start", layer, head],
                    self.times[step.name, "end", layer, head],
                    step.periodic,
                    self._ends(step.periodic, layer, head),
                )
            )
        for token in range(self.tokens):
            for last, constraints, shared, given, durations, starts, ends, every, free in work:
                begin = 0
                for times, values, lag, from_token in constraints:
                    before = token - lag
                    if before < 0 or token < from_token:
                        continue
                    if len(values) <= before:
                        yield times.known(before)
                    if values[before] > begin:
                        begin = values[before]
                begin += -begin % period
                for serves, uses in shared:
                    if begin > env.now:
                        yield env.timeout(begin - env.now)
                    grant = serves.request(uses[token], token, head)
                    if grant is not None:
                        yield grant
                    now = int(env.now)
                    begin = now + -now % period
                lasts = durations[token]
                if every is not None:
                    before = starts.values[-1] if token else 0
                    if begin // every.period > before // every.period:
                        begin, lasts = yield from self._due(every, free, token, begin, before)
                end = begin + lasts
                for serves in given:
                    self._at(end, serves.release)
                starts.append(begin)
                ends.append(end)
                if last:
                    self._finished(token, layer, end)

    def _ends(self, every: Periodic | None, layer: int, head: int) -> list[Times]:
        """What something due comes after."""
        stages = () if every is None else every.free
        return [self.times[stage, "end", layer, head] for stage in stages]

    def _due(
        self, every: Periodic, free: list[Times], token: int, begin: int, before: int
    ) -> Generator[simpy.Event, object, tuple[int, int]]:
        """When the phase of something due starts, and how long it is."""
        period, since = self.declaration.period, 0
        for times in free if token else ():
            if len(times.values) < token:
                yield times.known(token - 1)
            since = max(since, times.values[token - 1])
        begin = max(begin, since + -since % period)
        now, last, done = (np.asarray(each) for each in (begin, before, since))
        return begin, int(every.wait(now, last, done, period))

    def _server(self, resource: Resource, layer: int, head: int) -> Server:
        return self.servers[resource.name, layer, head // resource.heads]

    def _at(self, time: int, action: Callable[[], None]) -> None:
        timeout = self.env.timeout(time - self.env.now)
        timeout.callbacks.append(lambda _: action())

    def _finished(self, token: int, layer: int, end: int) -> None:
        """It is known when a head latches; with the last one, when the token goes on."""
        self.unfinished[token][layer] -= 1
        latest = self.latest[token][layer] = max(self.latest[token][layer], end)
        if not self.unfinished[token][layer]:
            self._at(latest, lambda: self._leave(token, layer))

    def _leave(self, token: int, layer: int) -> None:
        if layer + 1 < self.layers:
            self._open(layer + 1, self.declaration.layer_gap)
            return
        if self.progress is not None:
            self.progress(token)
        if token + 1 < self.tokens and token + 1 >= self.declaration.prompt:
            self._open(0, self.declaration.token_gap)

    def _open(self, layer: int, delay: int) -> None:
        """Let the next token into a layer."""
        gate, ready = self.gates[layer], int(self.env.now) + delay
        if delay:
            self._at(ready, lambda: gate.append(ready))
        else:
            gate.append(ready)

    def run(self) -> Schedule:
        """Run to the end; every token has passed every layer."""
        with long_lived():
            self.env.run()
        if any(any(row) for row in self.unfinished):
            raise RuntimeError("the schedule came to a stop before the last token")
        shape = self.declaration.shape

        def gathered(point: str) -> dict[str, Ticks]:
            result = {}
            for stage in self.declaration.stages:
                times = np.empty(shape, np.int64)
                for layer in range(self.layers):
                    for head in range(self.heads):
                        times[:, layer, head] = self.times[stage.name, point, layer, head].values
                result[stage.name] = times
            return result

        ready = np.array([gate.values for gate in self.gates], np.int64).T
        events = next(self.env._eid)
        return Schedule(
            gathered("start"), gathered("end"), np.ascontiguousarray(ready), "simpy", events
        )


def run_simpy(declaration: Declaration, progress: Progress | None = None) -> Schedule:
    """Times of a declaration by discrete-event simulation, events only where needed."""
    return ContestedRun(declaration, progress).run()
