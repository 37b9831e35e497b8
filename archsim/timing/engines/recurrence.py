"""The fast engine: the same declaration as a recurrence.

Where the order in which every resource is used is known beforehand, a start time is a maximum over
times already known: of the stages before, and of whoever held a private resource last. No events
are needed. In numpy there are two forms:

* a token that runs alone (``generate``): all tokens, layers and heads at once; tokens follow each
  other by a cumulative sum;
* tokens that follow each other through the layers (``prefill``): a wavefront over
  tokens + layers, vectorised over layers and heads.

Compiled (`archsim.timing.engines.loops`) one loop covers both. It also covers blocks that serve
overlapping tokens first come, first served: their order follows within a closed group of heads.

`obstacle` says whether a declaration is of that kind. Times equal those of
`archsim.timing.engines.contested`, event by event; tests hold that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archsim.chip.stage import Periodic, Resource, Ticks
from archsim.errors import ConfigError, InvariantError
from archsim.machine.compiled import NotCompiledError, asked_for, pays
from archsim.timing.declaration import Declaration, Schedule
from archsim.timing.engines.constraints import steps


def obstacle(declaration: Declaration) -> str | None:
    """Why the recurrence cannot be exact here, or None if it is."""
    if declaration.longest_run >= 2**62:
        return "times beyond 64 bits"
    for resource in declaration.resources:
        if resource.heads == 1:
            continue
        takers = declaration.users(resource.name)
        if resource.capacity > 1 or len(takers) > 1:
            return f"{resource.name}: several holders at once depend on who finishes first"
        giver, point = declaration.giver(resource.name, takers[0])
        if giver is not takers[0] or point != "end":
            return f"{resource.name}: held over several stages, so its order depends on the run"
        if _order_follows(declaration, resource):
            if _buffer(declaration) is not None:
                return (
                    f"{resource.name}: first come, first served depends on the next layer's buffer"
                )
            if declaration.longest_run >= KERNEL_LIMIT:
                return "the search for who is served first counts to 2^51 ticks"
    if any(name != declaration.first for name in declaration.periodic):
        return "periodic work amid what a head does with a token"
    for stage in declaration.stages:
        if sum(declaration.resource(name).heads > 1 for name in stage.takes) > 1:
            return f"{stage.name}: takes two shared resources"
    return None


def searches(declaration: Declaration) -> bool:
    """Whether some block's order of service is found on the way."""
    return any(_order_follows(declaration, resource) for resource in declaration.resources)


def _order_follows(declaration: Declaration, resource: Resource) -> bool:
    """Whether a block's order of service is only found on the way."""
    overlapping = declaration.prompt > 1 and declaration.shape[0] > 1
    return resource.heads > 1 and resource.discipline == "fifo" and overlapping


def _buffer(declaration: Declaration) -> int | None:
    """Tokens that fit between two layers; None for any number, or where there is one layer."""
    lags = [c.lag for stage in declaration.stages for c in stage.after if c.next_layer]
    return min(lags) if lags and declaration.shape[1] > 1 else None


KERNEL_LIMIT = 2**51
"""Times in ticks that `archsim.timing.engines.loops` rounds to clock edges exactly."""

LARGE = 1 << 16
"""Head-tokens from which on compiled loops pay: numpy then takes longer than loading them."""

SEARCHED = 1 << 13
"""The same where the order of service is searched for, which only compiled loops do quickly."""


def search_pays(declaration: Declaration) -> bool:
    """Whether to search for the order of service in compiled loops; events do it too."""
    return pays(int(np.prod(declaration.shape)) >= SEARCHED)


def run_fast(declaration: Declaration, compiled: bool | None = None) -> Schedule:
    """Times of a declaration by recurrence; `compiled` None: where that pays.

    Raises ConfigError with the reason if that would not be exact.
    """
    reason = obstacle(declaration)
    if reason is not None:
        raise ConfigError(f"the fast engine cannot run this: {reason}; use --engine simpy")
    searching, short = searches(declaration), declaration.longest_run < KERNEL_LIMIT
    chosen = compiled is not None
    if compiled is None:
        large = int(np.prod(declaration.shape)) >= LARGE
        compiled = short and (search_pays(declaration) if searching else pays(large))
    if compiled and not short:
        raise ConfigError(
            "the compiled engine counts to 2^51 ticks: use fewer tokens or smaller gaps"
        )
    if compiled:
        try:
            return _Loops(declaration, True).run(searching)
        except NotCompiledError:
            if asked_for() or chosen:
                raise
    if searching:
        return _Loops(declaration, False).run(True)
    return _Recurrence(declaration).run()


class _Loops:
    """A declaration as the tables that `archsim.timing.engines.loops` works on."""

    def __init__(self, declaration: Declaration, compiled: bool) -> None:
        from archsim.timing.engines import loops as kernel

        self.declaration, self.compiled = declaration, compiled
        self.in_turn, self.first_come = (
            loop if compiled else loop.interpreted for loop in (kernel.in_turn, kernel.first_come)
        )
        order = [stage.name for stage in declaration.stages]
        compiled_steps = steps(declaration)
        most = max(len(step.constraints) for step in compiled_steps)
        self.limits = np.array([len(step.constraints) for step in compiled_steps])
        self.constraints = np.zeros((len(order), most, 5), np.int64)
        for index, step in enumerate(compiled_steps):
            for row, c in enumerate(step.constraints):
                point = 1 if c.point == "end" else 0
                self.constraints[index, row] = (
                    order.index(c.stage),
                    point,
                    c.lag,
                    c.from_token,
                    c.next_layer,
                )
        heads = declaration.shape[2]
        shared = [step.shared[0] if step.shared else None for step in compiled_steps]
        self.group = np.array([min(r.heads, heads) if r else 0 for r in shared])
        self.fifo = np.array([r is not None and r.discipline == "fifo" for r in shared])
        sizes = [size for size in self.group.tolist() if size]
        self.bounds = np.array(
            [*(h for h in range(heads) if all(h % size == 0 for size in sizes)), heads]
        )

    @property
    def periodic(self) -> tuple[Ticks, Ticks]:
        """The periodic stage, and what it waits for where something is due."""
        order = [stage.name for stage in self.declaration.stages]
        for name, every in self.declaration.periodic.items():
            about = np.array([order.index(name), every.period, every.lasts])
            return about, np.array([order.index(stage) for stage in every.free], np.int64)
        return np.array([-1, 1, 0]), np.zeros(0, np.int64)

    def run(self, searching: bool) -> Schedule:
        """Times; `searching` where some block's order of service is found on the way.

        Raises InvariantError if the search found no next grant, which no declaration should cause.
        """
        d = self.declaration
        names = [stage.name for stage in d.stages]
        times = np.empty((2, len(names), *d.shape), np.int64)
        ready = np.empty(d.shape[:2], np.int64)
        durations = _one_behind_the_other([d.durations[name] for name in names])
        known, first = max(1, min(d.prompt, d.shape[0])), 0
        shared = (self.constraints, self.limits, self.group, self.fifo)
        tables = (*shared, *self.periodic, d.period, d.layer_gap)
        if searching:
            scratch = np.empty((4, len(names), d.shape[2]), np.int64)
            if self.first_come(times, *durations, ready, *tables, self.bounds, known, *scratch):
                raise InvariantError("the schedule came to a stop before the last token")
            first = known
        free = np.zeros((len(names), *d.shape[1:]), np.int64)
        scratch = np.empty((2, d.shape[2]), np.int64)
        self.in_turn(times, *durations, ready, *tables, d.token_gap, first, known, free, *scratch)
        start, end = (dict(zip(names, times[point], strict=True)) for point in (0, 1))
        return Schedule(start, end, ready, "fast (compiled)" if self.compiled else "fast")


def _one_behind_the_other(arrays: Sequence[Ticks]) -> tuple[Ticks, Ticks]:
    """All of some arrays' numbers, and where each array's are: see `archsim.timing.engines.loops`.

    What is the same along an axis is there once.
    """
    pieces, places, first = [], np.zeros((len(arrays), 4), np.int64), 0
    for place, array in zip(places, arrays, strict=True):
        repeated = [not stride for stride in array.strides]
        piece = np.ascontiguousarray(array[tuple(slice(1 if once else None) for once in repeated)])
        place[0] = first
        place[1:] = np.where(repeated, 0, piece.strides) // piece.itemsize
        pieces.append(piece.ravel())
        first += piece.size
    return np.concatenate(pieces), places


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
        slant = 2 if _buffer(d) == 1 else 1
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
