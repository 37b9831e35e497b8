"""The fast engine: the same declaration as a recurrence, in numpy.

Where the order in which every resource is used is known beforehand, a start time is a maximum over
times already known: of the stages before, and of whoever held a private resource last. No events
are needed. Two forms cover it:

* a token that runs alone (``generate``): all tokens, layers and heads at once; tokens follow each
  other by a cumulative sum;
* tokens that follow each other through the layers (``prefill``): a wavefront over
  tokens + layers, vectorised over layers and heads.

`obstacle` says whether a declaration is of that kind. Times equal those of `archsim.timing.des`,
event by event; tests hold that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archsim.errors import ConfigError
from archsim.timing.model import (
    FIRST,
    LAST,
    After,
    Declaration,
    Picoseconds,
    Resource,
    Schedule,
    Stage,
)


@dataclass(frozen=True)
class Step:
    """One stage with everything private to a head turned into constraints."""

    name: str
    constraints: tuple[After, ...]
    shared: Resource | None


def obstacle(declaration: Declaration) -> str | None:
    """Why the recurrence cannot be exact here, or None if it is."""
    tokens = declaration.shape[0]
    overlapping = declaration.prompt > 1 and tokens > 1
    for resource in declaration.resources:
        if resource.heads == 1:
            continue
        takers = declaration.users(resource.name)
        if resource.capacity > 1 or len(takers) > 1:
            return f"{resource.name}: several holders at once depend on who finishes first"
        giver, point = declaration.giver(resource.name, takers[0])
        if giver is not takers[0] or point != "end":
            return f"{resource.name}: held over several stages, so its order depends on the run"
        if resource.discipline == "fifo" and overlapping:
            return f"{resource.name}: first come, first served among tokens that overlap"
    for stage in declaration.stages:
        if sum(declaration.resource(name).heads > 1 for name in stage.takes) > 1:
            return f"{stage.name}: takes two shared resources"
    return None


def steps(declaration: Declaration) -> list[Step]:
    """The stages in order, private resources as constraints on whoever held them before."""
    compiled = []
    for stage in declaration.stages:
        constraints = list(stage.after)
        shared = None
        for name in stage.takes:
            resource = declaration.resource(name)
            if resource.heads > 1:
                shared = resource
            else:
                constraints.append(_holder_before(declaration, resource, stage))
        compiled.append(Step(stage.name, tuple(constraints), shared))
    return compiled


def _holder_before(declaration: Declaration, resource: Resource, stage: Stage) -> After:
    """The release a private use waits for: `capacity` uses earlier in program order.

    Arrays count as one resource: every read takes all of them, so a write to any follows the read
    before it and precedes the read after it.
    """
    users = declaration.users(resource.name)
    position = users.index(stage) - resource.capacity
    lag = -(position // len(users))
    giver, point = declaration.giver(resource.name, users[position % len(users)])
    return After(giver.name, point, lag, 0)


def run_fast(declaration: Declaration) -> Schedule:
    """Times of a declaration by recurrence.

    Raises ConfigError with the reason if that would not be exact.
    """
    reason = obstacle(declaration)
    if reason is not None:
        raise ConfigError(f"the fast engine cannot run this: {reason}; use --engine simpy")
    return _Recurrence(declaration).run()


class _Recurrence:
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

    def _aligned(self, time: Picoseconds) -> Picoseconds:
        period = self.declaration.period_ps
        return -(-time // period) * period

    def _turns(
        self, resource: Resource, wanted: Picoseconds, held: Picoseconds, free: Picoseconds
    ) -> Picoseconds:
        """Start times (..., heads) when heads of a group take turns; `free` (..., groups).

        Static: in order of heads. Fifo: in order of the time wanted, ties by head. `free` is
        updated to when each group's resource is given back last.
        """
        start = np.empty_like(wanted)
        for group in range(free.shape[-1]):
            members = slice(group * resource.heads, (group + 1) * resource.heads)
            asked, lasts = wanted[..., members], held[..., members]
            if resource.discipline == "fifo":
                order = np.argsort(asked, axis=-1, kind="stable")
            else:
                order = np.broadcast_to(np.arange(asked.shape[-1]), asked.shape)
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
        start: dict[str, Picoseconds] = {}
        end: dict[str, Picoseconds] = {}
        for step in self.steps:
            begin = np.zeros((self.tokens - first, self.layers, self.heads), np.int64)
            for c in step.constraints:
                if c.lag == 0:
                    times = end if c.point == "end" else start
                    begin = np.maximum(begin, times[c.stage])
            begin = self._aligned(begin)
            held = d.durations[step.name][rows]
            if step.shared is not None:
                free = np.zeros((*begin.shape[:2], self._groups(step.shared)), np.int64)
                begin = self._turns(step.shared, begin, held, free)
            start[step.name], end[step.name] = begin, begin + held
        took = end[LAST].max(axis=2)  # (tokens, layers), from the edge the token entered at
        gaps = np.full(took.shape, d.layer_gap_ps)
        gaps[:, -1] = d.token_gap_ps
        visits = self._aligned(took + gaps).ravel()
        origin = 0
        if first:
            left = int(self.end[LAST][first - 1, -1].max())
            self.ready[first, 0] = left + d.token_gap_ps
            origin = int(self._aligned(self.ready[first, :1])[0])
        entered = origin + np.concatenate(([0], np.cumsum(visits)[:-1])).reshape(took.shape)
        ready = (entered + took + gaps).ravel()[:-1]
        self.ready[rows].reshape(-1)[1:] = ready
        for name in start:
            self.start[name][rows] = start[name] + entered[:, :, None]
            self.end[name][rows] = end[name] + entered[:, :, None]

    def _groups(self, resource: Resource) -> int:
        return -(-self.heads // resource.heads)

    def _overlapping(self, known: int) -> None:
        """The first `known` tokens, ready together: a wavefront over tokens + layers."""
        d = self.declaration
        free = {
            step.name: np.zeros((self.layers, self._groups(step.shared)), np.int64)
            for step in self.steps
            if step.shared is not None
        }
        for diagonal in range(known + self.layers - 1):
            low, high = max(0, diagonal - known + 1), min(self.layers, diagonal + 1)
            layer = np.arange(low, high)
            token = diagonal - layer
            inner = layer > 0
            self.ready[token[inner], layer[inner]] = (
                self.end[LAST][token[inner], layer[inner] - 1].max(axis=1) + d.layer_gap_ps
            )
            for step in self.steps:
                begin = np.zeros((len(layer), self.heads), np.int64)
                if step.name == FIRST:
                    begin += self.ready[token, layer][:, None]
                for c in step.constraints:
                    times = (self.end if c.point == "end" else self.start)[c.stage]
                    if c.lag == 0 and c.from_token == 0:
                        begin = np.maximum(begin, times[token, layer])
                        continue
                    applies = (token >= c.lag) & (token >= c.from_token)
                    if applies.any():
                        before = times[np.maximum(token - c.lag, 0), layer]
                        begin = np.where(applies[:, None], np.maximum(begin, before), begin)
                begin = self._aligned(begin)
                held = d.durations[step.name][token, layer]
                if step.shared is not None:
                    mine = free[step.name][low:high]
                    begin = self._turns(step.shared, begin, held, mine)
                self.start[step.name][token, layer] = begin
                self.end[step.name][token, layer] = begin + held
