"""The comparator passes the kit that the built-in readouts pass, and does what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from my_chip import Comparator

import archsim
from archsim.testing import conform

CHIP = Path(__file__).parent / "chip.yaml"


def test_it_conforms() -> None:
    report = conform(Comparator, threshold="20 uA", decision_time="2 ns")
    assert not report.refused
    assert "mathematics: equal" in str(report)


def test_columns_fire_above_the_threshold_and_only_there() -> None:
    rng = np.random.default_rng(5)
    q = rng.uniform(0, 1, (2, 20, 64))
    k, v = rng.normal(0, 0.2, (2, *q.shape))
    found = archsim.attend(q, k, v, CHIP, details=True)
    assert found.scores is not None
    assert found.pulse_widths is not None
    assert np.array_equal(found.pulse_widths, found.scores > 20.0)
    assert 0 < found.pulse_widths.mean() < 0.5


def test_a_decision_takes_its_time_and_its_energy() -> None:
    trace = archsim.load_trace("reference").select(tokens=16, layers=slice(0, 1))
    result = archsim.simulate(trace, CHIP)
    assert result.latency["attention_ns"]["mean"] == 66.0
    slower = archsim.load_hardware(CHIP, {"readout.decision_time": "3 ns"})
    assert archsim.simulate(trace, slower).latency["attention_ns"]["mean"] == 68.0
    energy = result.simulation.ledger.sum_by(lambda posting: posting.action.label)
    columns = 1024 * trace.heads * trace.tokens
    assert np.isclose(energy["comparators: decide"], columns * 50e-15)
    assert energy["comparators: drive word lines"] > 0
