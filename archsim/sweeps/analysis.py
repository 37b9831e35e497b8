"""What a sweep says: Pareto front, hypervolume, sensitivity to each axis, best under a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ConfigError
from archsim.sweeps.axes import Axis, si_value
from archsim.sweeps.contest import Contest, contests, judging, non_dominated, values_of
from archsim.sweeps.definition import Sweep
from archsim.sweeps.design import Parameters, Space, sobol_rows
from archsim.sweeps.exploration import DesignPoint, Exploration
from archsim.sweeps.expression import Expression, Value, parse_expression
from archsim.sweeps.figures import NAMED, UNREAD, Objective, better_end, figure_names, objective

Array = NDArray[np.float64]

EXACT_VOLUME = 2_000_000
"""Rough number of steps up to which a hypervolume is computed and not sampled."""

SAMPLES = 200_000
ROUNDING = 1e-12
"""Shares of variance below this are rounding."""
BINS = 8
"""Parts a continuous axis is cut into for its main effect, equally many points in each."""


def valued(exploration: Exploration, objectives: Sequence[Objective]) -> tuple[list[int], Array]:
    """Indices of points with all objectives, and their values (points, objectives)."""
    found = [(i, values_of(point, objectives)) for i, point in enumerate(exploration.points)]
    rows = [(i, values) for i, values in found if values is not None]
    numbers = np.array([values for _, values in rows], float)
    return [i for i, _ in rows], numbers.reshape(len(rows), len(objectives))


def pareto(exploration: Exploration) -> list[int]:
    """Indices of the points on the front of any contest, each by the first objective."""
    found = contests(exploration)
    return [index for contest in found for one in contest.front for index in one.points]


@dataclass(frozen=True)
class Hypervolume:
    """Share of the box between the best and the worst of each objective that the front dominates.

    `sampled` where it was estimated with `SAMPLES` fixed draws.
    """

    share: float
    sampled: bool


def hypervolume(contest: Contest) -> Hypervolume | None:
    """The front's dominated share of the box of all designs; None with fewer than two.

    Objectives that do not vary are left out: the box has no extent there.
    """
    costs = contest.costs
    if len(costs) < 2:
        return None
    low, high = costs.min(axis=0), costs.max(axis=0)
    varies = high > low
    if not varies.any():
        return None
    scaled = (costs[:, varies] - low[varies]) / (high - low)[varies]
    front = np.unique(scaled[non_dominated(scaled)], axis=0)
    dimensions = front.shape[1]
    if dimensions <= 2 or len(front) ** (dimensions - 1) <= EXACT_VOLUME:
        return Hypervolume(_volume(front), False)
    draws = np.random.Generator(np.random.Philox(key=0)).random((SAMPLES, dimensions))
    hit = np.zeros(SAMPLES, bool)
    for row in front:
        hit |= (draws >= row).all(axis=1)
    return Hypervolume(float(hit.mean()), True)


def _volume(front: Array) -> float:
    """Volume of [0, 1]^d that rows dominate, all minimised: slices along the last objective."""
    if front.shape[1] == 1:
        return float(1 - front.min())
    order = front[np.argsort(front[:, -1], kind="stable")]
    depths = np.append(order[:, -1], 1.0)
    total = 0.0
    for count in range(1, len(order) + 1):
        thickness = depths[count] - depths[count - 1]
        if thickness > 0:
            below = order[:count, :-1]
            total += thickness * _volume(below[non_dominated(below)])
    return total


@dataclass(frozen=True)
class Effect:
    """How one axis moves one objective.

    `share`: of the objective's variance, what the means over this axis explain. `best` and `worst`:
    the axis' values with the best and worst mean, and those means. `first` and `total`: Sobol
    indices, for a sobol sweep.
    """

    axis: str
    objective: str
    share: float
    best: tuple[str, float]
    worst: tuple[str, float]
    first: float | None = None
    total: float | None = None


def sensitivity(exploration: Exploration) -> list[Effect]:
    """Main effect of every axis on every objective that varies, largest first by objective."""
    indices: dict[tuple[str, str], tuple[float, float]] = {}
    sweep = exploration.sweep
    if sweep.method == "sobol":
        indices = sobol_indices(exploration)
    effects: list[Effect] = []
    for o in judging(exploration).objectives:
        rows, values = valued(exploration, [o])
        if len(rows) < 2 or np.ptp(values) == 0:
            continue
        found = []
        for axis in sweep.axes:
            given = [exploration.points[i].parameters[axis.key] for i in rows]
            groups = _groups(axis, given)
            if len(set(groups)) > 1:
                first, total = indices.get((axis.key, o.name), (None, None))
                found.append(_effect(axis, o, groups, values[:, 0], first, total))
        effects += sorted(found, key=lambda e: -(e.share if e.total is None else e.total))
    return effects


def _groups(axis: Axis, given: Sequence[Value]) -> list[str]:
    """Label of each point's level on an axis; a continuous one is cut into equally full parts."""
    if axis.values is not None or len(set(map(repr, given))) <= BINS:
        return [str(value) for value in given]
    numbers = np.array([_plain(axis.key, value) for value in given])
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)))
    part = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    ends: dict[int, tuple[Value, Value]] = {}
    for index in sorted(range(len(given)), key=lambda i: numbers[i]):
        low, _ = ends.get(int(part[index]), (given[index], None))
        ends[int(part[index])] = (low, given[index])
    return ["{} .. {}".format(*ends[int(p)]) for p in part]


def _plain(key: str, value: Value) -> float:
    number = si_value(key, value)
    return float(number) if isinstance(number, int | float) else float("nan")


def _effect(
    axis: Axis,
    o: Objective,
    groups: Sequence[str],
    values: Array,
    first: float | None,
    total: float | None,
) -> Effect:
    means: dict[str, float] = {}
    between = 0.0
    names = np.array(groups)
    for name in dict.fromkeys(groups):
        here = values[names == name]
        means[name] = float(here.mean())
        between += len(here) * (here.mean() - values.mean()) ** 2
    share = float(between / ((values - values.mean()) ** 2).sum())
    share = share if share > ROUNDING else 0.0
    ordered = sorted(means.items(), key=lambda item: o.sign * item[1])
    return Effect(axis.key, o.name, share, ordered[0], ordered[-1], first, total)


def sobol_indices(exploration: Exploration) -> dict[tuple[str, str], tuple[float, float]]:
    """First-order and total Sobol index by (axis, objective), from Saltelli's design.

    Estimators (b) and (f) of Table 2 in Saltelli et al., Computer Physics Communications 181,
    259-270 (2010). A row counts only where all its points have results; with fewer than 8 such
    rows there are no indices. Raises MissingExtraError without SciPy.
    """
    sweep = exploration.sweep
    rows = sobol_rows(sweep, Space(sweep))
    by_value = {_identity(point.parameters): point for point in exploration.points}
    axes = len(sweep.axes)
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for o in judging(exploration).objectives:
        values = np.full(len(rows), np.nan)
        for index, row in enumerate(rows):
            point = None if row is None else by_value.get(_identity(row))
            value = o.value(point.results) if point is not None and point.results else None
            values[index] = np.nan if value is None else value
        table = values.reshape(axes + 2, -1)
        table = table[:, np.isfinite(table).all(axis=0)]
        if table.shape[1] < 8 or np.ptp(table[:2]) == 0:
            continue
        a, b, *mixed = table - table[:2].mean()
        variance = float(np.concatenate([a, b]).var())
        for axis, m in zip(sweep.axes, mixed, strict=True):
            first = float((b * (m - a)).mean()) / variance
            total = float(((a - m) ** 2).mean()) / (2 * variance)
            found[axis.key, o.name] = (first, total)
    return found


def _identity(parameters: dict[str, Value]) -> tuple[str, ...]:
    return tuple(f"{key}={parameters[key]!r}" for key in sorted(parameters))


def goal_objective(sweep: Sweep, goal: str) -> Objective:
    """What ``--best`` names: an objective of the sweep, else any other, else a figure.

    Raises ConfigError for an unknown name, or a figure without a direction.
    """
    name, separator, direction = goal.partition(":")
    own = {o.name: o for o in sweep.objectives}
    if name in own and not separator:
        return own[name]
    default = better_end(name) if name not in NAMED else None
    return objective(name, direction if separator else default)


def budget(sweep: Sweep, where: Sequence[str]) -> list[Expression]:
    """Conditions over a point's figures and what the sweep varies (that in SI units).

    Raises ConfigError for what cannot be read.
    """
    names = [*figure_names(), *(axis.key for axis in sweep.axes), *sweep.derived]
    return [parse_expression(text, names) for text in where]


@dataclass(frozen=True)
class Best:
    """A best design: its point, or its point on each workload where the sweep aggregates.

    `workload` says on what it is the best, where there are several; `value` is of the goal.
    """

    workload: Parameters
    points: tuple[int, ...]
    value: float


def best(exploration: Exploration, goal: str, where: Sequence[str] = ()) -> list[Best]:
    """The best design by one objective or figure among those that meet all conditions.

    One for every workload on which some design meets them, unless the sweep aggregates. Raises
    ConfigError for an unknown goal or name, if no design meets the conditions, or if the goal
    does not compare with the same thing at every point.
    """
    sweep = exploration.sweep
    wanted = goal_objective(sweep, goal)
    conditions = budget(sweep, where)
    ranks = judging(replace(exploration, sweep=replace(sweep, objectives=(wanted,))))
    if not ranks.objectives:
        raise ConfigError(f"--best {goal}: {ranks.reason}")
    found = contests(exploration, [wanted])
    count = sum(len(contest.candidates) for contest in found)
    if not count:
        raise ConfigError(f"--best {goal}: no point has it")
    winners = []
    for contest in found:
        met = [
            one
            for one in contest.candidates
            if all(_meets(exploration.points[i], c) for i in one.points for c in conditions)
        ]
        if met:
            winner = min(met, key=lambda one: wanted.sign * one.values[0])
            winners.append(Best(contest.workload, winner.points, winner.values[0]))
    if not winners:
        raise ConfigError(
            f"--where: no point of {count:,} meets {' and '.join(repr(t) for t in where)}"
        )
    return winners


def _meets(point: DesignPoint, condition: Expression) -> bool:
    names = {
        **(point.results or {}),
        **{key: si_value(key, v) for key, v in point.parameters.items()},
    }
    if any(names.get(name) is None for name in condition.names):
        return False
    return condition.holds(names)


def unread(exploration: Exploration) -> dict[str, tuple[int, int]]:
    """Keys that a sweep gives and some point does not read: at how many points, of how many."""
    sweep = exploration.sweep
    given = [*(axis.key for axis in sweep.axes), *sweep.derived, *sweep.fixed]
    lists = [
        str(point.results.get(UNREAD) or "").split(", ")
        for point in exploration.points
        if point.results is not None
    ]
    counts = {key: sum(key in names for names in lists) for key in given}
    return {key: (count, len(lists)) for key, count in counts.items() if count}
