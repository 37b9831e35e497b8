"""What blocks say of time: the phases they lead, what they hold, and for what they wait.

Every block yields its own part (`Declared`); `archsim.timing.declaration` puts the parts of all
blocks of a head together, once. All times are whole ticks (`archsim.config.clock`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from archsim.chip.action import Discipline, Law
from archsim.config.section import Section

Ticks = NDArray[np.int64]

Point = Literal["start", "end"]

WRITE_KEY, WRITE_VALUE = "write_key", "write_value"
READ_KEY, READ_VALUE = "read_key", "read_value"
COUNT, ACCUMULATE = "count", "accumulate"
"""The phases of every head; readouts between the two products may add their own."""

ENTRY, EXIT = "first phase", "last phase"
"""Stand for the phase in which a token enters a head, and the one that it leaves with."""


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
    point: Point = "end"
    lag: int = 0
    from_token: int = 0
    next_layer: bool = False


@dataclass(frozen=True)
class Turns:
    """A block that `heads` neighbouring heads of a layer take turns at, by a `discipline`."""

    heads: int
    discipline: Discipline

    @classmethod
    def of(cls, section: Section, heads: str) -> Turns:
        """As a section says: its field `heads` how many, and `arbitration` in which order."""
        count: int = getattr(section, heads)
        return cls(count, getattr(section, "arbitration") if count > 1 else "static")  # noqa: B009

    def resource(self, name: str, heads: int) -> Resource:
        """The block in a layer of so many `heads`."""
        return Resource(name, 1, min(self.heads, heads), self.discipline)

    def instances(self, each: int, heads: int) -> float:
        """Instances a head of what the block has `each` of, in a layer of so many `heads`."""
        groups = -(-heads // min(self.heads, heads))
        return each * groups / heads


Times = Callable[[str], tuple[Ticks, Ticks]]
"""Starts and ends of a phase in the schedule found so far, (tokens, layers, heads) each."""


@dataclass(frozen=True)
class Periodic:
    """Work of a head that falls due at every multiple of `period` from the start of the run.

    It takes `lasts`, a whole number of clock periods, comes after the ends of the phases `free` of
    the token before, and excludes all other use of `occupies`. It starts when due, or as soon after
    that as the head has what it needs; what is overdue is done one after another. A token waits, in
    the phase of this, for what is not finished: for nothing where it was done while the head had
    nothing else to do.
    All in ticks.
    """

    period: int
    lasts: int
    free: tuple[str, ...]
    occupies: tuple[str, ...]

    def latest(self, now: Ticks, before: Ticks, free: Ticks, clock: int) -> Ticks:
        """When the last that is due by `now` starts, one at least since the phase `before`.

        `now` and `before` are starts of this phase, of a token and the one before it (0: none); the
        head had what it needs from `free` on; a `clock` period has so many ticks.
        """
        due = now // self.period
        overdue = due - before // self.period
        after_others = -(-free // clock) * clock + (overdue - 1) * self.lasts
        return np.maximum(-(-due * self.period // clock) * clock, after_others)

    def last_starts(self, begin: Ticks, ends: list[Ticks], clock: int) -> Ticks:
        """When the last before each token started, 0: none yet, from `begin` of their phases.

        All (tokens, layers, heads); `ends` of what a token before must be done with.
        """
        before, free = np.zeros_like(begin), np.zeros_like(begin)
        before[1:] = begin[:-1]
        for end in ends:
            free[1:] = np.maximum(free[1:], end[:-1])
        due = begin // self.period > before // self.period
        latest = np.where(due, self.latest(begin, before, free, clock), 0)
        return np.maximum.accumulate(latest, axis=0)

    def wait(self, now: Ticks, before: Ticks, free: Ticks, clock: int) -> Ticks:
        """How long a token waits that comes at `now`; see `latest`."""
        left = self.latest(now, before, free, clock) + self.lasts - now
        return np.where(now // self.period > before // self.period, np.maximum(left, 0), 0)


@dataclass(frozen=True)
class Phase:
    """A phase that a block leads.

    It lasts `ticks`; with ``controller.phases: early_end`` as long as the longest of its pulses,
    where `longest` names the activity that says how long that is, as a share of `ticks`. Or it is
    `periodic`, and lasts as long as a token has to wait for that, most often 0. `one_unit`: of a
    resource with several units it takes the one of the token's slot, not all. `laws` give `ticks`.
    """

    name: str
    after: tuple[After, ...]
    ticks: int
    laws: tuple[Law, ...]
    longest: str | None = None
    one_unit: bool = False
    periodic: Periodic | None = None


@dataclass(frozen=True)
class Hold:
    """A resource is taken at the start of phase `stage` and given back at `point` of `until`."""

    resource: str
    stage: str
    until: str
    point: Point = "end"


@dataclass(frozen=True)
class Wait:
    """A phase of another block has one thing more to come after."""

    stage: str
    after: After


Declared = Iterator[Resource | Phase | Hold | Wait]


@dataclass(frozen=True)
class Stage:
    """One phase of a token: what it waits for, takes, and gives back; see `Phase`.

    Unless it takes one unit the phase happens in every sub-tile at once.
    """

    name: str
    after: tuple[After, ...] = ()
    takes: tuple[str, ...] = ()
    one_unit: bool = False
    gives_at_start: tuple[str, ...] = ()
    gives_at_end: tuple[str, ...] = ()
    laws: tuple[Law, ...] = ()
    ticks: int = 0
    longest: str | None = None
    periodic: Periodic | None = None

    @property
    def beside(self) -> bool:
        """Whether it starts with another phase of its token, and so runs beside it."""
        return any(a.point == "start" and not a.lag and not a.next_layer for a in self.after)


def put_together(
    declared: Declared,
) -> tuple[tuple[Stage, ...], tuple[Resource, ...], tuple[Phase, ...]]:
    """Stages and resources in the order of the blocks, and the phases they come from.

    What is shared is asked for last, when nothing else is missing; a token's place in the head
    before anything else.
    """
    parts = list(declared)
    resources = tuple(part for part in parts if isinstance(part, Resource))
    phases = tuple(part for part in parts if isinstance(part, Phase))
    ends = {ENTRY: phases[0].name, EXIT: phases[-1].name}
    holds = [part for part in parts if isinstance(part, Hold)]
    waits = [part for part in parts if isinstance(part, Wait)]
    shared = {resource.name for resource in resources if resource.heads > 1}
    holds.sort(key=lambda hold: (hold.resource in shared, hold.stage != ENTRY))

    def named(name: str) -> str:
        return ends.get(name, name)

    def built(phase: Phase) -> Stage:
        given: dict[Point, list[str]] = {"start": [], "end": []}
        for part in parts:
            if isinstance(part, Hold) and named(part.until) == phase.name:
                given[part.point].append(part.resource)
        more = (wait.after for wait in waits if named(wait.stage) == phase.name)
        return Stage(
            phase.name,
            tuple(
                After(named(a.stage), a.point, a.lag, a.from_token, a.next_layer)
                for a in (*phase.after, *more)
            ),
            tuple(hold.resource for hold in holds if named(hold.stage) == phase.name),
            phase.one_unit,
            tuple(given["start"]),
            tuple(given["end"]),
            phase.laws,
            phase.ticks,
            phase.longest,
            phase.periodic,
        )

    return tuple(built(phase) for phase in phases), resources, phases
