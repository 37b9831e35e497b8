"""The declaration of a token's way through a head: stages, and the resources they hold.

This is the one description of the schedule (DESIGN, timing). An engine turns it into start and end
times; nothing about times is written down anywhere else. All times are whole ticks
(`archsim.config.clock`).

======================  ==========================================  ===========================
stage                   starts after                                holds
======================  ==========================================  ===========================
``write_key``           the token is ready in this layer            K DACs, K arrays
``write_value``         the start of ``write_key``                  V DACs, V arrays
``read_key``            ``write_key``                               pulse generators, K arrays,
                                                                    converters (to read_value)
``read_value``          ``read_key``, ``write_value``               V arrays, converters,
                                                                    signed converters (to count)
``count``               ``read_value``                              signed converters, counters
``accumulate``          ``count``; a place in the layer buffer      adder tree
======================  ==========================================  ===========================

Where dot products are split digitally, ``read_key`` takes partial converters, and two stages come
between it and ``read_value``, which then also holds value pulse generators:

======================  ==========================================  ===========================
``count_partial``       ``read_key``                                partial converters and
                                                                    counters
``add_partial``         ``count_partial``                           partial adders (to the start
                                                                    of ``read_value``)
======================  ==========================================  ===========================

Array order is program order: the write of token t + 1 waits for the read of token t.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from archsim.chip.accumulator import add_time
from archsim.chip.action import Discipline, Law
from archsim.chip.controller import phase_law
from archsim.chip.head import Head
from archsim.chip.pulses import longest_converted, longest_query
from archsim.chip.row_split import partial_add_time
from archsim.chip.write_path import write_time
from archsim.config.clock import Clock
from archsim.datapath.attention import Activity

Ticks = NDArray[np.int64]


@dataclass(frozen=True)
class Resource:
    """Something a stage must hold. One instance serves `heads` neighbouring heads of a layer.

    ``static`` serves in program order (token, then stage, then head); ``fifo`` in order of request
    time, ties broken by (token, head). `capacity` holders at once. `units` > 1 are the blocks of a
    head's sub-tiles, each a resource of its own: a read takes all of them, a write the one array
    that the token's slot lies in.
    """

    name: str
    capacity: int = 1
    heads: int = 1
    discipline: Discipline = "static"
    units: int = 1


@dataclass(frozen=True)
class After:
    """A precedence: not before `point` of `stage` of the token `lag` before this one.

    Applies from token `from_token` on. `next_layer`: the stage meant is the next layer's, on all
    its heads (nothing to wait for in the last layer).
    """

    stage: str
    point: Literal["start", "end"] = "end"
    lag: int = 0
    from_token: int = 0
    next_layer: bool = False


@dataclass(frozen=True)
class Stage:
    """One phase of a token: what it waits for, takes, and gives back.

    `one_unit`: of a resource with several units it takes the one of the token's slot, not all.
    Otherwise the phase happens in every sub-tile at once. `laws` give how long it lasts.
    """

    name: str
    after: tuple[After, ...] = ()
    takes: tuple[str, ...] = ()
    one_unit: bool = False
    gives_at_start: tuple[str, ...] = ()
    gives_at_end: tuple[str, ...] = ()
    laws: tuple[Law, ...] = ()


@dataclass(frozen=True)
class Declaration:
    """Everything an engine needs: structure, clock, and durations of (tokens, layers, heads)."""

    stages: tuple[Stage, ...]
    resources: tuple[Resource, ...]
    durations: dict[str, Ticks]
    clock: Clock
    layer_gap: int
    token_gap: int
    sub_tiles: Ticks
    """The sub-tile each token is written to, (tokens,)."""

    prompt: int
    """Tokens known from the start; later ones wait for the one before to leave the last layer."""

    @property
    def period(self) -> int:
        """The clock period in ticks."""
        return self.clock.period

    @property
    def shape(self) -> tuple[int, int, int]:
        """(tokens, layers, heads)."""
        tokens, layers, heads = self.durations[self.stages[0].name].shape
        return tokens, layers, heads

    @cached_property
    def longest_run(self) -> int:
        """No run lasts longer, in ticks: every phase in full, one after another."""
        tokens, layers, heads = self.shape
        phases = sum(int(times.max()) + self.period for times in self.durations.values())
        gaps = self.layer_gap + self.token_gap + 2 * self.period
        return tokens * layers * (heads * phases + gaps)

    def stage(self, name: str) -> Stage:
        return next(s for s in self.stages if s.name == name)

    def resource(self, name: str) -> Resource:
        return next(r for r in self.resources if r.name == name)

    def users(self, resource: str) -> list[Stage]:
        """Stages that take a resource, in program order."""
        return [stage for stage in self.stages if resource in stage.takes]

    def uses(self, resource: Resource, stage: Stage, head: int, unit: int) -> Ticks:
        """Position of a stage's use in the program order of one instance, by token (tokens,).

        For a token that does not use this unit the position means nothing.
        """
        tokens, _, heads = self.shape
        users = self.users(resource.name)
        if resource.units > 1:
            uses = np.stack(
                [self.sub_tiles == unit if s.one_unit else np.ones(tokens, bool) for s in users]
            )  # (users, tokens), heads == 1
            before = np.cumsum(uses.sum(axis=0)) - uses.sum(axis=0)
            position: Ticks = before + uses[: users.index(stage)].sum(axis=0)
            return position
        first = head - head % resource.heads
        members = min(resource.heads, heads - first)
        offset = users.index(stage) * members + head - first
        return np.arange(tokens) * (len(users) * members) + offset

    def giver(self, resource: str, taker: Stage) -> tuple[Stage, Literal["start", "end"]]:
        """The stage, and its end or start, that gives back what `taker` took."""
        for stage in self.stages[self.stages.index(taker) :]:
            if resource in stage.gives_at_end:
                return stage, "end"
            if resource in stage.gives_at_start and stage is not taker:
                return stage, "start"
        raise ValueError(f"{taker.name} takes {resource} and nothing gives it back")


@dataclass(frozen=True)
class Schedule:
    """Times in ticks: `start`/`end` by stage (tokens, layers, heads), `ready` (tokens, layers).

    `engine` computed them, with so many simulated `events` (0: none were needed).
    """

    start: dict[str, Ticks]
    end: dict[str, Ticks]
    ready: Ticks
    engine: str
    events: int = 0

    def same_times(self, other: Schedule) -> bool:
        """Whether every start and end is the same."""
        return all(
            np.array_equal(mine[name], theirs[name])
            for mine, theirs in ((self.start, other.start), (self.end, other.end))
            for name in mine
        )

    @cached_property
    def makespan(self) -> int:
        """From time 0 to the last output, in ticks."""
        return max(int(times.max()) for times in self.end.values())


FIRST, LAST = "write_key", "accumulate"


def declare(head: Head, activities: list[Activity], prompt: int) -> Declaration:
    """The declaration of a hardware and a trace's activity (one per layer)."""
    controller = head.controller

    def by_layer(name: str) -> NDArray[np.float64]:  # (tokens, layers, heads)
        return np.stack([getattr(a, name) for a in activities]).transpose(2, 0, 1)

    shape = by_layer("longest_query").shape
    convert_ticks = head.score_converter.t_max_ticks
    durations = {
        "write_key": np.full(shape, head.write_path.pulse_ticks, np.int64),
        "write_value": np.full(shape, head.write_path.pulse_ticks, np.int64),
        "read_key": controller.phase(by_layer("longest_query"), head.pulse_generator.t_max_ticks),
        "read_value": controller.phase(by_layer("longest_score"), convert_ticks),
        "count": controller.phase(by_layer("longest_output"), head.output_converter.t_max_ticks),
        "accumulate": np.full(shape, head.accumulator.time_ticks, np.int64),
    }
    split = head.row_split
    if split is not None:
        longest = by_layer("longest_partial")
        durations["count_partial"] = controller.phase(longest, split.converter.t_max_ticks)
        durations["add_partial"] = np.full(shape, split.add_ticks, np.int64)
    stages, resources = structure(head, shape[2])
    return Declaration(
        stages,
        resources,
        {name: np.ascontiguousarray(lasts) for name, lasts in durations.items()},
        controller.clock,
        controller.layer_gap,
        controller.token_gap,
        np.array([head.sub_tiles.sub_tile(token) for token in range(shape[0])]),
        prompt,
    )


def structure(head: Head, heads: int) -> tuple[tuple[Stage, ...], tuple[Resource, ...]]:
    """Stages and resources of a hardware; `heads` a layer bounds every kind of sharing."""
    controller, write = head.controller, head.write_path
    generator, adder = head.pulse_generator, head.accumulator
    split, sub_tiles = head.row_split, head.sub_tiles.count
    converters = "converters" if split is None else "partial converters"
    resources = [
        Resource("K arrays", units=head.sub_tiles.count),
        Resource("V arrays", units=head.sub_tiles.count),
        Resource("K DACs", 1, min(write.heads_per_driver, heads), write.arbitration),
        Resource("V DACs", 1, min(write.heads_per_driver, heads), write.arbitration),
        Resource(
            "pulse generators", 1, min(generator.heads_per_generator, heads), generator.arbitration
        ),
        Resource(converters, head.score_converter.buffers, units=sub_tiles),
        Resource("signed converters", head.output_converter.buffers, units=head.sub_tiles.count),
        Resource("counters", units=head.sub_tiles.count),
        Resource("adder tree", 1, min(adder.heads_per_adder, heads), adder.arbitration),
    ]
    if split is not None:
        named = ("partial counters", "partial adders", "value pulse generators")
        resources += [Resource(name, units=sub_tiles) for name in named]
    entry: tuple[str, ...] = ()
    if controller.pipelining == "none":
        resources.append(Resource("token in flight"))
        entry = ("token in flight",)
    if controller.heads_in_parallel is not None and controller.heads_in_parallel < heads:
        resources.append(Resource("heads in parallel", controller.heads_in_parallel, heads))
        entry = (*entry, "heads in parallel")

    common = {resource.name for resource in resources if resource.heads > 1}

    def own_first(*names: str) -> tuple[str, ...]:
        """What is shared is asked for last, when nothing else is missing."""
        return tuple(sorted(names, key=common.__contains__))

    write_key: tuple[After, ...] = ()
    write_value: tuple[After, ...] = (After("write_key", "start"),)
    key_array: tuple[str, ...] = ("K arrays",)
    value_array: tuple[str, ...] = ("V arrays",)
    if head.sub_tiles.write_during_read:
        # other slots may be written during a read, one token ahead and no more (a query waits with
        # its key); a slot that is overwritten was still being read
        window = head.sub_tiles.window
        write_key = (
            After("read_key", "start", lag=1),
            After("read_key", lag=1, from_token=window),
        )
        write_value += (
            After("read_value", "start", lag=1),
            After("read_value", lag=1, from_token=window),
        )
        key_array = value_array = ()
    accumulate: tuple[After, ...] = (After("count"),)
    if controller.layer_buffer is not None:
        # the latched output goes into a buffer that the next layer empties by writing the token
        accumulate += (After(FIRST, "start", lag=controller.layer_buffer, next_layer=True),)
    if split is None:
        read_value: tuple[Stage, ...] = (
            Stage(
                "read_value",
                (After("read_key"), After("write_value")),
                ("V arrays", "signed converters"),
                gives_at_end=("V arrays", converters),
                laws=(phase_law, longest_converted),
            ),
        )
    else:
        read_value = (
            Stage(
                "count_partial",
                (After("read_key"),),
                ("partial counters",),
                gives_at_end=(converters,),
                laws=(phase_law, longest_converted),
            ),
            Stage(
                "add_partial",
                (After("count_partial"),),
                ("partial adders",),
                gives_at_start=("partial counters",),  # the adders latch the counts
                laws=(partial_add_time,),
            ),
            Stage(
                "read_value",
                (After("add_partial"), After("write_value")),
                ("V arrays", "signed converters", "value pulse generators"),
                gives_at_start=("partial adders",),  # the generators latch the sums
                gives_at_end=("V arrays", "value pulse generators"),
                laws=(phase_law, longest_converted),
            ),
        )
    stages = (
        Stage(
            "write_key",
            write_key,
            own_first(*entry, *key_array, "K DACs"),
            one_unit=True,
            gives_at_end=(*key_array, "K DACs"),
            laws=(write_time,),
        ),
        Stage(
            "write_value",
            write_value,
            own_first(*value_array, "V DACs"),
            one_unit=True,
            gives_at_end=(*value_array, "V DACs"),
            laws=(write_time,),
        ),
        Stage(
            "read_key",
            (After("write_key"),),
            own_first("K arrays", converters, "pulse generators"),
            gives_at_end=("K arrays", "pulse generators"),
            laws=(phase_law, longest_query),
        ),
        *read_value,
        Stage(
            "count",
            (After("read_value"),),
            ("counters",),
            gives_at_end=("signed converters",),
            laws=(phase_law, longest_converted),
        ),
        Stage(
            "accumulate",
            accumulate,
            ("adder tree",),
            gives_at_start=("counters",),  # the adder latches the count
            gives_at_end=("adder tree", *entry),
            laws=(add_time,),
        ),
    )
    return stages, tuple(resources)
