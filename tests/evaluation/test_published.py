"""The calibration workload: what is fitted holds, and what is not fitted is predicted rightly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import archsim
from archsim.components.head import Head
from archsim.config.hardware import Hardware
from archsim.evaluation.calibration import PUBLISHED_PJ, Calibration, calibrate
from archsim.evaluation.published import Validation, assumed_bounds
from archsim.workload.trace import Trace


@pytest.fixture(scope="module")
def validation() -> Validation:
    return archsim.validate(archsim.load_hardware())


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(archsim.load_hardware(), heads=2)


def test_every_published_figure_is_within_its_tolerance(validation: Validation) -> None:
    failed = [f"{f.name}: {f.simulated}" for f in validation.figures if not f.passes]
    assert not failed
    decisive = {f.name: f for f in validation.figures if f.tolerance is not None}
    assert decisive["attention latency"].simulated == 65.0
    for figure in decisive.values():
        if figure.status == "calibrated" and figure.unit == "pJ":
            assert figure.tolerance == 0.01


def test_at_most_one_coefficient_a_total_is_fitted_and_all_are_positive(
    validation: Validation,
) -> None:
    fitted = [fit.parameter for fit in validation.fits]
    assert len(fitted) == len(set(fitted)) == len(PUBLISHED_PJ) + 1
    assert all(fit.fitted > 0 for fit in validation.fits)
    hardware = archsim.load_hardware()
    marked = {key for key, found in hardware.provenance.items() if found.source == "calibrated"}
    assert marked == set(fitted), "the YAML marks as calibrated exactly what is fitted"


def test_config_holds_what_the_fit_gives(validation: Validation) -> None:
    for fit in validation.fits:
        assert fit.current == pytest.approx(fit.fitted, rel=2e-3), fit.parameter


def test_a_broken_parameter_is_found() -> None:
    """The table can fail: half the cell voltage takes Q.K out of its tolerance."""
    broken = archsim.load_hardware(overrides={"cell.effective_voltage": "0.225 V"})
    outside = {f.name for f in archsim.validate(broken).figures if not f.passes}
    assert "energy phi(Q.K)" in outside
    assert "attention latency" not in outside


def components(hardware: Hardware, trace: Trace) -> dict[str, float]:
    return archsim.simulate(trace, hardware).simulation.ledger.by_component()


def uniform_trace(tokens: int, q: float | None = None, seed: int = 0) -> Trace:
    rng = np.random.default_rng(seed)
    shape = (1, 1, tokens, 64)
    identity = (np.ones((1, 1)), np.zeros((1, 1)))
    queries = rng.uniform(0, 1, shape) if q is None else np.full(shape, q)
    return Trace.from_arrays(
        queries,
        rng.uniform(0, 0.9, shape),
        rng.uniform(0, 0.9, shape),
        scalers=dict.fromkeys(("q", "k", "v", "output"), identity),
    )


def test_prediction_without_a_query_only_converters_fire() -> None:
    hardware = archsim.load_hardware()
    spent = components(hardware, uniform_trace(80, q=0.0))
    assert spent["K arrays"] == 0.0
    assert spent["pulse generators"] == 0.0
    assert spent["converters"] == pytest.approx(80 * 1024 * 0.1737e-12)
    # score 0 gives no pulse, so the V arrays are silent as well
    assert spent["V arrays"] == 0.0


def test_prediction_half_a_window_halves_the_energy_of_cells(calibration: Calibration) -> None:
    half = calibrate(archsim.load_hardware(overrides={"window": 512}), heads=2)
    spent = [
        sum(
            posting.energy[run.first :].mean()
            for posting in run.simulation.ledger
            if posting.action.component in {"K arrays", "V arrays"}
        )
        for run in (half, calibration)
    ]
    assert spent[0] / spent[1] == pytest.approx(0.5, rel=0.02)
    assert half.buckets_pj()["dac"] == pytest.approx(calibration.buckets_pj()["dac"], rel=1e-3)


def test_prediction_area_follows_instance_counts() -> None:
    """Twice the window: twice of everything that belongs to a slot, the same DACs and control."""
    one = {b.component: b for b in Head(archsim.load_hardware().config).footprints(1)}
    doubled = archsim.load_hardware(overrides={"window": 2048})
    two = {b.component: b for b in Head(doubled.config).footprints(1)}
    for name, block in one.items():
        factor = 1 if name in {"DACs", "controller"} else 2
        assert two[name].instances == factor * block.instances, name
    assert one["converters"].instances == 1024
    assert one["signed converters"].instances == 16 * 64


def test_prediction_sharing_trades_area_for_time() -> None:
    """Area counts the blocks that the schedule has: one for every started group of heads."""

    def dacs(sharing: int, heads: int) -> float:
        shared = archsim.load_hardware(overrides={"write_path.heads_per_driver": sharing})
        blocks = {b.component: b for b in Head(shared.config).footprints(heads)}
        return heads * blocks["DACs"].instances

    assert [dacs(n, 4) for n in (1, 2, 3, 4, 4096)] == [512, 256, 256, 128, 128]


def test_energy_of_cells_is_voltage_times_current_times_time() -> None:
    """One token, everything at a level: worked by hand (FACTS 3, derived)."""
    shape = (1, 1, 1, 64)
    identity = (np.ones((1, 1)), np.zeros((1, 1)))
    trace = Trace.from_arrays(
        np.full(shape, 1.0),
        np.full(shape, 0.9),
        np.full(shape, 0.0),
        scalers=dict.fromkeys(("q", "k", "v", "output"), identity),
    )
    spent = components(archsim.load_hardware(), trace)
    y = 0.45
    current = 0.52136361 + 13.61226063 * y - 2.62044562 * y**2 + 46.05483778 * y**3
    assert spent["K arrays"] == pytest.approx(0.45 * 64 * current * 1e-6 * 15e-9, rel=1e-12)
    # 64 x 10.3 uA is beyond S_sat, so the score pulse is T_max long
    low = abs(0.52136361 - 13.61226063 * y - 2.62044562 * y**2 - 46.05483778 * y**3)
    assert spent["V arrays"] == pytest.approx(0.45 * 64 * low * 1e-6 * 15e-9, rel=1e-12)
    assert spent["counters"] == pytest.approx(64 * 0.2e-12 * 1.0184 * 4, rel=0.3)


def test_bounds_cover_the_nominal_result_and_move_with_their_parameter() -> None:
    overrides: dict[str, Any] = {"window": 64, "array.columns": 64}
    hardware = archsim.load_hardware(overrides=overrides)
    bounds = assumed_bounds(hardware)
    rows = {row.parameter: row for row in bounds.bounds}
    assert rows["write_path.pulse"].attention_ns == (60.0, 75.0)
    assert rows["accumulator.time"].attention_ns == (60.0, 75.0)
    low, high = rows["cell.effective_voltage"].energy_pj
    assert low < bounds.energy_pj < high
    assert bounds.spread("attention_ns") == (60.0, 75.0)
    ranged = {k for k, p in hardware.provenance.items() if p.low is not None}
    unused = ("digital.", "mapping.")  # not simulated, and not in use
    assert set(rows) == {key for key in ranged if not key.startswith(unused)}
