"""A sweep with the results of its points, as far as a store has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archsim.errors import ConfigError, one_line
from archsim.notes import AdaptedTo
from archsim.sweeps.definition import Sweep
from archsim.sweeps.design import Parameters
from archsim.sweeps.expression import Value
from archsim.sweeps.figures import Figures
from archsim.sweeps.point import Job, Outcome
from archsim.sweeps.store import Member, Store
from archsim.sweeps.sweep_file import sweep_from_values

PAPER = -1
"""Position of the published design among a sweep's members; on further workloads -2, -3, ..."""


@dataclass(frozen=True)
class DesignPoint:
    """A design point; `status` ``waiting`` where it has not been run (yet, or in this shard)."""

    parameters: Parameters
    key: str
    status: str
    results: Figures | None
    reason: str
    adapted: AdaptedTo | None = None

    def __repr__(self) -> str:
        given = ", ".join(f"{key}={value}" for key, value in self.parameters.items())
        return f"<DesignPoint {one_line(given, 120)}: {self.status}>"

    def figure(self, name: str) -> Value:
        """A figure by name; None where the point has none."""
        return None if self.results is None else self.results.get(name)


@dataclass(frozen=True)
class Exploration:
    """A sweep and its points; `papers` are the published design on each of their workloads.

    The parameters of those say which workload it is; there are none where all points have one.
    """

    sweep: Sweep
    points: list[DesignPoint]
    papers: tuple[DesignPoint, ...]

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {status}" for status, count in self.counts.items())
        return f"<Exploration of {self.sweep.name}: {counts or 'no points'}>"

    @property
    def paper(self) -> DesignPoint:
        """The published design on the first workload."""
        return self.papers[0]

    @property
    def complete(self) -> bool:
        """Whether every point was run."""
        return all(point.status != "waiting" for point in self.points)

    @property
    def counts(self) -> dict[str, int]:
        """Points by status, in order of first appearance."""
        counts: dict[str, int] = {}
        for point in self.points:
            counts[point.status] = counts.get(point.status, 0) + 1
        return counts


def note(store: Store, number: int, papers: Sequence[Job], jobs: Sequence[Job]) -> list[Member]:
    """Keep which points a sweep has; the published design goes first."""
    members = [Member(PAPER - i, job.key, job.parameters, job.loss) for i, job in enumerate(papers)]
    members += [Member(i, job.key, job.parameters, job.loss) for i, job in enumerate(jobs)]
    store.add_members(number, members)
    return members


def explored(sweep: Sweep, members: Sequence[Member], store: Store) -> Exploration:
    """What the store has of a sweep."""
    answers = with_losses(store.known(keys_of(members)), {m.key: m.loss for m in members})

    def point(member: Member) -> DesignPoint:
        found = answers.get(member.key)
        if found is None:
            return DesignPoint(member.parameters, member.key, "waiting", None, "")
        return DesignPoint(
            member.parameters, member.key, found.status, found.results, found.reason, found.adapted
        )

    points = {member.position: point(member) for member in members}
    papers = [points[position] for position in sorted(points, reverse=True) if position < 0]
    ours = [points[position] for position in sorted(points) if position >= 0]
    return Exploration(sweep, ours, tuple(papers))


def stored_explorations(store: Store, name: str | None = None) -> list[Exploration]:
    """Every sweep begun in a store, or those of a name, as far as the store has them.

    Raises ConfigError if there is none.
    """
    begun = [stored for stored in store.sweeps() if name is None or stored.name == name]
    if not begun:
        known = ", ".join(dict.fromkeys(stored.name for stored in store.sweeps())) or "none"
        what = "no sweep" if name is None else f"no sweep named {name!r}"
        raise ConfigError(f"{store.path}: {what} was begun here (has: {known})")
    found = []
    for stored in begun:
        members = store.members(stored.id)
        if members:
            sweep = sweep_from_values(stored.definition)
            found.append(explored(sweep, members, store))
    return found


def with_losses(answers: Mapping[str, Outcome], losses: Mapping[str, str]) -> dict[str, Outcome]:
    """Outcomes of points with their losses; a point that needs one has none before its loss has."""
    joined = {}
    for key, loss in losses.items():
        outcome = answers.get(key)
        if outcome is not None and loss and outcome.results is not None:
            measured = answers.get(loss)
            outcome = None if measured is None else outcome.with_loss(measured)
        if outcome is not None:
            joined[key] = outcome
    return joined


def keys_of(members: Sequence[Member]) -> list[str]:
    """Keys of the points and of their losses."""
    return [key for member in members for key in (member.key, member.loss) if key]
