"""Which designs of a sweep compete: those on one workload, or aggregated over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.sweeps.axes import workload_of
from archsim.sweeps.design import Parameters
from archsim.sweeps.exploration import DesignPoint, Exploration
from archsim.sweeps.figures import REFERENCE, Objective
from archsim.sweeps.judging import Judged, drowned, judged_by
from archsim.sweeps.point import same_design

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """A design and its value in each objective.

    `points`: indices of its points, one unless it is aggregated over workloads; none of the
    published design where that is no point of the sweep.
    """

    points: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Contest:
    """Designs that compete.

    `workload`: parameters that all of them share; none where the sweep has one workload, or where
    designs are aggregated over all. `incomplete`: designs that lack a result on some workload, and
    so do not compete. `paper`: the published design, None if it has not every objective;
    `paper_ranks`: whether its figures mean the same as those of the others.
    """

    workload: Parameters
    objectives: tuple[Objective, ...]
    candidates: tuple[Candidate, ...]
    paper: Candidate | None
    incomplete: int = 0
    paper_ranks: bool = True

    @property
    def costs(self) -> Array:
        """(candidates, objectives), all to be minimised."""
        values = [candidate.values for candidate in self.candidates]
        return np.array(values, float).reshape(len(values), len(self.objectives)) * self.signs

    @property
    def signs(self) -> Array:
        """+1 for an objective to be minimised, -1 for another."""
        return np.array([o.sign for o in self.objectives])

    @property
    def front(self) -> list[Candidate]:
        """The candidates that none beats, by the first objective."""
        costs = self.costs
        chosen = np.flatnonzero(non_dominated(costs))
        order = chosen[np.lexsort(costs[chosen].T[::-1])] if len(chosen) else chosen
        return [self.candidates[i] for i in order]

    @property
    def paper_beaten(self) -> bool:
        """Whether some design is better than the published one in one objective, worse in none."""
        if self.paper is None or not self.paper_ranks:
            return False
        costs, paper = self.costs, np.array(self.paper.values) * self.signs
        return bool((np.all(costs <= paper, axis=1) & np.any(costs < paper, axis=1)).any())


def non_dominated(costs: Array) -> NDArray[np.bool_]:
    """Which rows of (points, objectives), all minimised, none beats; equal rows all stay."""
    kept = np.zeros(len(costs), bool)
    order = np.lexsort(costs.T[::-1])
    front = np.empty((0, costs.shape[1]))
    for index in order:  # whoever dominates a row comes before it
        row = costs[index]
        if not (np.all(front <= row, axis=1) & np.any(front < row, axis=1)).any():
            kept[index] = True
            front = np.vstack([front, row])
    return kept


def equals(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Candidates with the same values together, in order of the first of them."""
    groups: dict[tuple[float, ...], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.values, []).append(candidate)
    return list(groups.values())


def judging(exploration: Exploration) -> Judged:
    """What ranks the points of a sweep that have results."""
    points = (
        (point.parameters, str(point.results.get(REFERENCE)))
        for point in exploration.points
        if point.results is not None
    )
    found = judged_by(exploration.sweep, points)
    against = tuple(o for o in found.objectives if o.against_ideal)
    best = max(_sqnr_of(exploration), default=0.0)
    if not against or best >= 0:
        return found
    told = drowned(against, best, exploration.sweep.measures_loss)
    return Judged(found.objectives, found.left_out, told)


def _sqnr_of(exploration: Exploration) -> Iterator[float]:
    for point in exploration.points:
        value = (point.results or {}).get("sqnr_db")
        if isinstance(value, float):
            yield value


def values_of(point: DesignPoint, objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """A point's value in every objective; None if it lacks one."""
    if point.status != "ok" or point.results is None:
        return None
    values = [o.value(point.results) for o in objectives]
    numbers = [value for value in values if value is not None and np.isfinite(value)]
    return tuple(numbers) if len(numbers) == len(values) else None


def contests(
    exploration: Exploration, objectives: Sequence[Objective] | None = None
) -> list[Contest]:
    """One contest a workload, or one over all where the sweep aggregates.

    `objectives`: those that rank the sweep's points if None.
    """
    goals = tuple(judging(exploration).objectives if objectives is None else objectives)
    workloads: dict[str, Parameters] = {}
    members: dict[str, list[int]] = {}
    for index, point in enumerate(exploration.points):
        workload = workload_of(point.parameters)
        workloads.setdefault(_text(workload), workload)
        members.setdefault(_text(workload), []).append(index)
    papers = {_text(paper.parameters): paper for paper in exploration.papers}
    if exploration.sweep.aggregate is not None and len(workloads) > 1:
        return [_aggregated(exploration, goals, list(workloads), papers)]
    found = []
    for text, workload in workloads.items():
        valued = [(i, values_of(exploration.points[i], goals)) for i in members[text]]
        candidates = tuple(Candidate((i,), v) for i, v in valued if v is not None)
        paper = papers.get(text, exploration.paper if len(workloads) == 1 else None)
        shared = workload if len(workloads) > 1 else {}
        ours = [exploration.points[i] for one in candidates for i in one.points]
        ranks = paper is None or _one_meaning([*ours, paper], goals)
        published = _paper(exploration, paper, goals)
        found.append(Contest(shared, goals, candidates, published, paper_ranks=ranks))
    return found


def _one_meaning(points: Sequence[DesignPoint], goals: Sequence[Objective]) -> bool:
    """Whether points on one workload have objectives that compare with the same thing."""
    if not any(o.against_ideal for o in goals):
        return True
    return len({(point.results or {}).get(REFERENCE) for point in points}) == 1


def _text(parameters: Parameters) -> str:
    return repr(sorted(parameters.items()))


def _paper(
    exploration: Exploration, paper: DesignPoint | None, goals: Sequence[Objective]
) -> Candidate | None:
    values = None if paper is None else values_of(paper, goals)
    if paper is None or values is None:
        return None
    points = enumerate(exploration.points)
    return Candidate(tuple(i for i, p in points if same_design(p.key, paper.key)), values)


def _aggregated(
    exploration: Exploration,
    goals: tuple[Objective, ...],
    workloads: Sequence[str],
    papers: dict[str, DesignPoint],
) -> Contest:
    designs: dict[str, dict[str, int]] = {}
    for index, point in enumerate(exploration.points):
        workload = workload_of(point.parameters)
        design = {key: v for key, v in point.parameters.items() if key not in workload}
        designs.setdefault(_text(design), {})[_text(workload)] = index
    candidates = []
    for places in designs.values():
        points = [exploration.points[places[text]] for text in workloads if text in places]
        values = _together(points, goals, exploration.sweep.aggregate, len(workloads))
        if values is not None:
            candidates.append(Candidate(tuple(places[text] for text in workloads), values))
    published = [papers[text] for text in workloads if text in papers]
    values = _together(published, goals, exploration.sweep.aggregate, len(workloads))
    paper = None
    if values is not None:
        keys = [point.key for point in published]
        same = (
            c.points
            for c in candidates
            if all(
                same_design(exploration.points[i].key, key)
                for i, key in zip(c.points, keys, strict=True)
            )
        )
        paper = Candidate(next(same, ()), values)
    ranks = all(
        _one_meaning([paper, *_on(exploration, text)], goals) for text, paper in papers.items()
    )
    missing = len(designs) - len(candidates)
    return Contest({}, goals, tuple(candidates), paper, missing, ranks)


def _on(exploration: Exploration, workload: str) -> list[DesignPoint]:
    """Points with results on a workload."""
    return [
        point
        for point in exploration.points
        if point.results is not None and _text(workload_of(point.parameters)) == workload
    ]


def _together(
    points: Sequence[DesignPoint], goals: Sequence[Objective], how: Any, count: int
) -> tuple[float, ...] | None:
    """Mean or worst value over all workloads in each objective; None if one lacks a result."""
    rows = [values_of(point, goals) for point in points]
    table = [row for row in rows if row is not None]
    if len(table) < count:
        return None
    signs = np.array([o.sign for o in goals])
    costs = np.array(table, float) * signs
    joined = costs.mean(axis=0) if how == "mean" else costs.max(axis=0)
    return tuple((joined * signs).tolist())
