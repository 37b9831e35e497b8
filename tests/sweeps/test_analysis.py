"""Pareto front, hypervolume and sensitivity against what can be computed by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from archsim.errors import ConfigError
from archsim.sweeps.analysis import (
    best,
    hypervolume,
    pareto,
    sensitivity,
    sobol_indices,
)
from archsim.sweeps.axes import Axis, axis_from_text
from archsim.sweeps.contest import contests, non_dominated
from archsim.sweeps.definition import Sweep, quick_sweep
from archsim.sweeps.design import design
from archsim.sweeps.exploration import DesignPoint, Exploration
from archsim.sweeps.figures import objectives


def explored(sweep: Sweep, figures: list[dict[str, float | None]]) -> Exploration:
    points = [
        DesignPoint(parameters, str(i), "ok", dict(values), "")
        for i, (parameters, values) in enumerate(zip(design(sweep), figures, strict=True))
    ]
    return Exploration(sweep, points, (DesignPoint({}, "paper", "ok", {}, ""),))


def two(values: list[tuple[float, float | None]]) -> Exploration:
    axis = Axis("window", tuple(range(1, len(values) + 1)))
    sweep = quick_sweep([axis], objectives=objectives(["energy", "sqnr"]))
    return explored(sweep, [{"energy_pj": e, "sqnr_db": s} for e, s in values])


def test_front_by_brute_force() -> None:
    rng = np.random.default_rng(1)
    for dimensions in (1, 2, 3, 4):
        costs = rng.integers(0, 6, (60, dimensions)).astype(float)
        beaten = [
            any((other <= row).all() and (other < row).any() for other in costs) for row in costs
        ]
        assert (~non_dominated(costs) == beaten).all()


def test_directions_and_points_without_a_figure() -> None:
    exploration = two([(1, 1), (2, 5), (2, 4), (3, 5), (0.5, None)])
    assert pareto(exploration) == [0, 1]


def test_a_point_that_divides_by_zero_lacks_that_objective_alone() -> None:
    given = {"x": {"expression": "energy_pj / sqnr_db", "direction": "minimise"}}
    sweep = quick_sweep([axis_from_text("window=1,2,3")], objectives=objectives(given))
    figures: list[dict[str, float | None]] = [
        {"energy_pj": 1.0, "sqnr_db": s} for s in (0.0, 2.0, 4.0)
    ]
    assert pareto(explored(sweep, figures)) == [2]


def test_hypervolume_by_hand_and_by_sampling() -> None:
    found = hypervolume(*contests(two([(0, 0), (5, 6), (10, 10)])))
    assert found is not None
    # costs in the unit box: (0, 1), (0.5, 0.4), (1, 0); dominated: 0.5 x 0.6
    assert found.share == pytest.approx(0.3)
    rng = np.random.default_rng(2)
    axis = Axis("window", tuple(range(1, 41)))
    goals = objectives(["energy", "area", "latency", "sqnr"])
    names = ("energy_pj", "area_mm2", "layer_ns", "sqnr_db")
    rows = rng.random((40, 4))
    exploration = explored(
        quick_sweep([axis], objectives=goals), [dict(zip(names, row, strict=True)) for row in rows]
    )
    found = hypervolume(*contests(exploration))
    assert found is not None
    costs = rows * [1, 1, 1, -1]
    costs = (costs - costs.min(0)) / np.ptp(costs, axis=0)
    draws = rng.random((40_000, 4))
    share = (draws[:, None] >= costs).all(-1).any(1).mean()
    assert found.share == pytest.approx(share, abs=0.01)


def test_main_effects_add_up_where_nothing_interacts() -> None:
    axes = [axis_from_text("array.rows=1,2,3"), axis_from_text("array.columns=1,2,3,4")]
    sweep = quick_sweep(axes, objectives=objectives(["energy"]))
    values = [{"energy_pj": 10 * p["array.rows"] + p["array.columns"]} for p in design(sweep)]  # type: ignore[operator]
    rows, columns = sensitivity(explored(sweep, values))
    assert (rows.axis, columns.axis) == ("array.rows", "array.columns")
    assert rows.share + columns.share == pytest.approx(1)
    assert rows.best == ("1", 12.5)
    assert rows.worst == ("3", 32.5)


def test_sobol_indices_of_the_ishigami_function() -> None:
    """Ishigami & Homma 1990: analytic indices, one axis acting only through another."""
    keys = ("retention.decay_per_token", "calibration.digital_energy", "calibration.periphery_area")
    axes = [Axis(key, None, 0.001, 1.001) for key in keys]
    sweep = quick_sweep(axes, method="sobol", points=2048 * 5, objectives=objectives(["energy"]))

    def ishigami(parameters: dict[str, object]) -> float:
        x, y, z = ((float(parameters[key]) - 0.001) * 2 * math.pi - math.pi for key in keys)  # type: ignore[arg-type]
        return math.sin(x) + 7 * math.sin(y) ** 2 + 0.1 * z**4 * math.sin(x)

    exploration = explored(sweep, [{"energy_pj": ishigami(p)} for p in design(sweep)])
    found = sobol_indices(exploration)
    for key, first, total in zip(keys, (0.314, 0.442, 0), (0.558, 0.442, 0.244), strict=True):
        assert found[key, "energy"] == pytest.approx((first, total), abs=0.03)


def chosen(exploration: Exploration, goal: str, where: Sequence[str] = ()) -> object:
    (winner,) = best(exploration, goal, where)
    (index,) = winner.points
    return exploration.points[index].parameters


def test_best_under_a_budget() -> None:
    exploration = two([(1, 1), (2, 5), (3, 9)])
    assert chosen(exploration, "energy", ["sqnr_db > 2"]) == {"window": 2}
    assert chosen(exploration, "sqnr_db:maximise") == {"window": 3}
    assert chosen(exploration, "sqnr") == {"window": 3}
    assert chosen(exploration, "energy", ["window > 1 and sqnr_db > 6"]) == {"window": 3}
    with pytest.raises(ConfigError, match="unknown name"):
        best(exploration, "energy", ["array.rows < 64"])  # not varied
    with pytest.raises(ConfigError, match="no point of 3 meets"):
        best(exploration, "energy", ["sqnr_db > 100"])
    with pytest.raises(ConfigError, match="did you mean"):
        best(exploration, "energyy")


def test_what_a_best_point_shows_is_what_was_asked_for() -> None:
    from rich.console import Console

    from archsim.report.sweep import best_text

    given = {"cost": {"expression": "2 * energy_pj", "direction": "minimise"}}
    sweep = quick_sweep([axis_from_text("window=1,2")], objectives=objectives(given))
    exploration = explored(
        sweep,
        [
            {"energy_pj": e, "run_energy_pj": 90.0, "energy_qk_pj": q}
            for e, q in ((3.0, 5.0), (4.0, 7.0))
        ],
    )
    where = ["energy_pj < 10"]
    winners = best(exploration, "energy_qk_pj:minimise", where)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(best_text(exploration, "energy_qk_pj:minimise", where, winners))
    rows = [line.split() for line in capture.get().splitlines()]
    for row in (["cost", "6"], ["energy_qk_pj", "5", "pJ"], ["energy_pj", "3", "pJ"]):
        assert row in rows
    assert not any(row[:1] == ["run_energy_pj"] for row in rows)
