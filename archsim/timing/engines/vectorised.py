"""The recurrence in numpy: a token alone by a running sum, overlapping tokens by a wavefront."""

from __future__ import annotations

import numpy as np

from archsim.chip.stage import Periodic, Resource, Ticks
from archsim.timing.declaration import Declaration, Schedule
from archsim.timing.engines.constraints import layer_buffer, steps


class Vectorised:
    """One run of a declaration, over arrays of tokens, layers and heads."""

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.steps = steps(declaration)
        self.tokens, self.layers, self.heads = shape = declaration.shape
        self.start = {stage.name: np.zeros(shape, np.int64) for stage in declaration.stages}
        self.end = {stage.name: np.zeros(shape, np.int64) for stage in declaration.stages}
        self.ready = np.zeros(shape[:2], np.int64)

    def run(self) -> Schedule:
        known = max(1, min(self.declaration.prompt, self.tokens))
        if known > 1:
            self._overlapping(known)
            self._alone(known)
        else:
            self._alone(0)
        return Schedule(self.start, self.end, self.ready, "fast")

    def _aligned(self, time: Ticks) -> Ticks:
        period = self.declaration.period
        return -(-time // period) * period

    def _turns(self, resource: Resource, wanted: Ticks, held: Ticks, free: Ticks) -> Ticks:
        """Start times (..., heads) when heads of a group take turns; `free` (..., groups).

        Static: in order of heads. Fifo: in order of the time wanted, ties by head. `free` is
        updated to when each group's resource is given back last.
        """
        start = np.empty_like(wanted)
        if resource.discipline == "static":
            for turn in range(resource.heads):
                members = slice(turn, None, resource.heads)  # this turn's head of every group
                groups = slice(0, wanted[..., members].shape[-1])
                begin = self._aligned(np.maximum(wanted[..., members], free[..., groups]))
                start[..., members] = begin
                free[..., groups] = begin + held[..., members]
            return start
        for group in range(free.shape[-1]):
            members = slice(group * resource.heads, (group + 1) * resource.heads)
            asked, lasts = wanted[..., members], held[..., members]
            order = np.argsort(asked, axis=-1, kind="stable")
            given = np.empty_like(asked)
            for turn in range(asked.shape[-1]):
                who = order[..., turn : turn + 1]
                begin = self._aligned(
                    np.maximum(np.take_along_axis(asked, who, -1)[..., 0], free[..., group])
                )
                np.put_along_axis(given, who, begin[..., None], -1)
                free[..., group] = begin + np.take_along_axis(lasts, who, -1)[..., 0]
            start[..., members] = given
        return start

    def _alone(self, first: int) -> None:
        """Tokens from `first` on, each alone in the chip: relative times, then a running sum."""
        if first >= self.tokens:
            return
        d = self.declaration
        rows = slice(first, self.tokens)
        start, end = self._relative({name: lasts[rows] for name, lasts in d.durations.items()})
        took = end[d.last].max(axis=2)  # (tokens, layers), from the edge the token entered at
        gaps = np.full(took.shape, d.layer_gap)
        gaps[:, -1] = d.token_gap
        origin = 0
        if first:
            left = int(self.end[d.last][first - 1, -1].max())
            self.ready[first, 0] = left + d.token_gap
            origin = int(self._aligned(self.ready[first, :1])[0])
        if d.periodic:
            entered = self._entering(first, origin, start, end, gaps)
            took = end[d.last].max(axis=2)
        else:
            visits = self._aligned(took + gaps).ravel()
            entered = origin + np.concatenate(([0], np.cumsum(visits)[:-1])).reshape(took.shape)
        ready = (entered + took + gaps).ravel()[:-1]
        self.ready[rows].reshape(-1)[1:] = ready
        for name in start:
            self.start[name][rows] = start[name] + entered[:, :, None]
            self.end[name][rows] = end[name] + entered[:, :, None]

    def _relative(self, durations: dict[str, Ticks]) -> tuple[dict[str, Ticks], dict[str, Ticks]]:
        """Starts and ends (..., heads) of tokens alone in the chip, from when each enters."""
        start: dict[str, Ticks] = {}
        end: dict[str, Ticks] = {}
        for step in self.steps:
            held = durations[step.name]
            begin = np.zeros_like(held)
            for c in step.constraints:
                if c.lag == 0 and not c.next_layer:
                    times = end if c.point == "end" else start
                    begin = np.maximum(begin, times[c.stage])
            begin = self._aligned(begin)
            if step.shared:
                free = np.zeros((*begin.shape[:-1], self._groups(step.shared[0])), np.int64)
                begin = self._turns(step.shared[0], begin, held, free)
            start[step.name], end[step.name] = begin, begin + held
        return start, end

    def _entering(
        self, first: int, origin: int, start: dict[str, Ticks], end: dict[str, Ticks], gaps: Ticks
    ) -> Ticks:
        """When tokens from `first` on enter each layer, (tokens, layers), one after the other.

        Those that find something due, and not finished, are worked out anew in `start` and `end`.
        """
        d = self.declaration
        ((name, every),) = d.periodic.items()
        visits = self._aligned(end[d.last].max(axis=2) + gaps).tolist()
        entered = np.zeros(gaps.shape, np.int64)
        nothing = np.zeros(self.heads, np.int64)
        last = self.start[name][first - 1] if first else np.zeros_like(self.start[name][0])
        done = (last // every.period).min(axis=1).tolist()
        now = origin
        for token, steps_on in enumerate(visits):
            for layer in range(self.layers):
                entered[token, layer] = now
                due = now // every.period
                if due > done[layer]:
                    done[layer] = due
                    free = nothing
                    for stage in every.free:
                        if token:
                            left = end[stage][token - 1, layer] + entered[token - 1, layer]
                        else:
                            left = self.end[stage][first - 1, layer] if first else nothing
                        free = np.maximum(free, left)
                    before = entered[token - 1, layer] + nothing if token else last[layer]
                    wait = every.wait(now + nothing, before, free, d.period)
                    if wait.any():
                        lasts = {n: x[first + token, layer] for n, x in d.durations.items()}
                        again = self._relative({**lasts, name: wait})
                        for times, found in zip((start, end), again, strict=True):
                            for n in times:
                                times[n][token, layer] = found[n]
                        took = end[d.last][token, layer].max() + gaps[token, layer]
                        steps_on[layer] = int(self._aligned(took))
                now += steps_on[layer]
        return entered

    def _groups(self, resource: Resource) -> int:
        return -(-self.heads // resource.heads)

    def _overlapping(self, known: int) -> None:
        """The first `known` tokens, ready together: a wavefront over tokens + layers."""
        d = self.declaration
        free = {
            step.name: np.zeros((self.layers, self._groups(step.shared[0])), np.int64)
            for step in self.steps
            if step.shared
        }
        # a buffer of one token: token t waits for t - 1 in the next layer, which must come first
        slant = 2 if layer_buffer(d) == 1 else 1
        for diagonal in range(slant * (known - 1) + self.layers):
            layer = np.arange(self.layers)
            token, off = np.divmod(diagonal - layer, slant)
            here = (token >= 0) & (token < known) & (off == 0)
            layer, token = layer[here], token[here]
            inner = layer > 0
            self.ready[token[inner], layer[inner]] = (
                self.end[d.last][token[inner], layer[inner] - 1].max(axis=1) + d.layer_gap
            )
            for step in self.steps:
                begin = np.zeros((len(layer), self.heads), np.int64)
                if step.name == d.first:
                    begin += self.ready[token, layer][:, None]
                for c in step.constraints:
                    times = (self.end if c.point == "end" else self.start)[c.stage]
                    if c.next_layer:
                        applies = (token >= c.lag) & (layer + 1 < self.layers)
                        after = times[token[applies] - c.lag, layer[applies] + 1].max(axis=1)
                        begin[applies] = np.maximum(begin[applies], after[:, None])
                        continue
                    if c.lag == 0 and c.from_token == 0:
                        begin = np.maximum(begin, times[token, layer])
                        continue
                    applies = (token >= c.lag) & (token >= c.from_token)
                    if applies.any():
                        before = times[np.maximum(token - c.lag, 0), layer]
                        begin = np.where(applies[:, None], np.maximum(begin, before), begin)
                begin = self._aligned(begin)
                held = d.durations[step.name][token, layer]
                if step.periodic is not None:
                    begin, held = self._due(step.name, step.periodic, begin, token, layer)
                if step.shared:
                    mine = free[step.name][layer]
                    begin = self._turns(step.shared[0], begin, held, mine)
                    free[step.name][layer] = mine
                self.start[step.name][token, layer] = begin
                self.end[step.name][token, layer] = begin + held

    def _due(
        self, name: str, every: Periodic, begin: Ticks, token: Ticks, layer: Ticks
    ) -> tuple[Ticks, Ticks]:
        """When phases of something periodic start that could at `begin`, and how long they are."""
        place, follows = (np.maximum(token - 1, 0), layer), (token > 0)[:, None]
        before = np.where(follows, self.start[name][place], 0)
        ends = [np.where(follows, self.end[stage][place], 0) for stage in every.free]
        free = np.maximum.reduce([np.zeros_like(begin), *ends])
        due = begin // every.period > before // every.period
        begin = np.where(due, np.maximum(begin, self._aligned(free)), begin)
        return begin, every.wait(begin, before, free, self.declaration.period)
