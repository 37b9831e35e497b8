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

from archsim.chip.stage import Resource, Ticks
from archsim.errors import ConfigError, InvariantError
from archsim.machine.compiled import NotCompiledError, asked_for, worth_compiling
from archsim.timing.declaration import Declaration, Schedule
from archsim.timing.engines.constraints import layer_buffer, steps
from archsim.timing.engines.vectorised import Vectorised


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
            if layer_buffer(declaration) is not None:
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


KERNEL_LIMIT = 2**51
"""Times in ticks that `archsim.timing.engines.loops` rounds to clock edges exactly."""

LARGE = 1 << 16
"""Head-tokens from which on compiled loops pay: numpy then takes longer than loading them."""

SEARCHED = 1 << 13
"""The same where the order of service is searched for, which only compiled loops do quickly."""


def search_worth_compiling(declaration: Declaration) -> bool:
    """Whether to search for the order of service in compiled loops; events do it too."""
    return worth_compiling(int(np.prod(declaration.shape)) >= SEARCHED)


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
        compiled = short and (
            search_worth_compiling(declaration) if searching else worth_compiling(large)
        )
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
    return Vectorised(declaration).run()


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
