"""The declaration of a token's way through a head: stages, and the resources they hold.

This is the one description of the schedule (DESIGN, timing). An engine turns it into start and end
times; nothing about times is written down anywhere else. It is put together from what every block
says of itself (`stages` of each block in `archsim.chip`); of the published design that makes:

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

Digital readouts put phases of their own between ``read_key`` and ``read_value``; periodic refresh
puts one before ``write_key`` (`archsim.chip.stage.Periodic`).

All times are whole ticks (`archsim.config.clock`). Array order is program order: the write of token
t + 1 waits for the read of token t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from archsim.chip.activity import Activity
from archsim.chip.head import Head
from archsim.chip.stage import Periodic, Phase, Point, Resource, Stage, Ticks
from archsim.config.clock import Clock

Progress = Callable[[int], None]
"""Called by an engine with each token whose last layer is done."""


@dataclass(frozen=True)
class Declaration:
    """Everything an engine needs: structure, clock, and durations of (tokens, layers, heads)."""

    stages: tuple[Stage, ...]
    resources: tuple[Resource, ...]
    durations: dict[str, Ticks]
    """Of periodic stages 0, until a schedule says how long they are: see `as_run`."""

    clock: Clock
    layer_gap: int
    token_gap: int
    sub_tiles: Ticks
    """The sub-tile each token is written to, (tokens,)."""

    prompt: int
    """Tokens known from the start; later ones wait for the one before to leave the last layer."""

    @property
    def first(self) -> str:
        """The phase in which a token enters a head."""
        return self.stages[0].name

    @property
    def last(self) -> str:
        """The phase that a token leaves a head with."""
        return self.stages[-1].name

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
        for every in self.periodic.values():  # what falls due while a head is busy is made up for
            busy = heads * phases + self.period
            phases += every.lasts * (every.period + busy) // (every.period - every.lasts)
        gaps = self.layer_gap + self.token_gap + 2 * self.period
        return tokens * layers * (heads * phases + gaps)

    @cached_property
    def periodic(self) -> dict[str, Periodic]:
        """Stages whose durations follow from when they start."""
        return {s.name: s.periodic for s in self.stages if s.periodic is not None}

    def excluding(self, resource: str) -> dict[str, Periodic]:
        """Periodic stages that exclude all other use of a resource."""
        return {name: every for name, every in self.periodic.items() if resource in every.occupies}

    def as_run(self, schedule: Schedule) -> Declaration:
        """The same with the durations that periodic stages have in a schedule."""
        if not self.periodic:
            return self
        took = {name: schedule.end[name] - schedule.start[name] for name in self.periodic}
        return replace(self, durations={**self.durations, **took})

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

    def giver(self, resource: str, taker: Stage) -> tuple[Stage, Point]:
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

    The stages are in the order of the declaration.

    `engine` computed them, with so many simulated `events` (0: none were needed).
    """

    start: dict[str, Ticks]
    end: dict[str, Ticks]
    ready: Ticks
    engine: str
    events: int = 0

    @cached_property
    def entered(self) -> Ticks:
        """When each head begins with each token: with the first phase."""
        return next(iter(self.start.values()))

    @cached_property
    def latched(self) -> Ticks:
        """When each head has latched its output: at the end of the last phase."""
        return next(reversed(self.end.values()))

    def times(self, stage: str) -> tuple[Ticks, Ticks]:
        """Starts and ends of a phase, (tokens, layers, heads) each."""
        return self.start[stage], self.end[stage]

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


def declare(head: Head, activities: list[Activity], prompt: int) -> Declaration:
    """The declaration of a hardware and a trace's activity (one per layer)."""
    controller = head.controller

    def by_layer(name: str) -> NDArray[np.float64]:  # (tokens, layers, heads)
        return np.stack([getattr(a, name) for a in activities]).transpose(2, 0, 1)

    shape = by_layer("longest_query").shape
    stages, resources, phases = head.structure(shape[2])

    def lasting(phase: Phase) -> Ticks:
        if phase.periodic is not None:
            return np.zeros(shape, np.int64)
        if phase.longest is not None:
            return controller.phase(by_layer(phase.longest), phase.ticks)
        return np.full(shape, phase.ticks, np.int64)

    return Declaration(
        stages,
        resources,
        {phase.name: np.ascontiguousarray(lasting(phase)) for phase in phases},
        controller.clock,
        controller.layer_gap,
        controller.token_gap,
        np.array([head.sub_tiles.sub_tile(token) for token in range(shape[0])]),
        prompt,
    )
