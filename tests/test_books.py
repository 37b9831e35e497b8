"""The books of a run hold what blocks spent against what shapes imply, and catch who is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import archsim
from archsim.chip.accumulator import Accumulator
from archsim.chip.pulse_generator import PulseGenerator
from archsim.chip.readouts.charge_to_pulse import ChargeToPulse
from archsim.chip.readouts.digital_sum import DigitalSum
from archsim.chip.work import Spent, Work
from archsim.chip.write_path import WritePath
from archsim.errors import InvariantError
from archsim.traces.trace import Trace

SPLIT = {"readout.model": "digital_sum", "array.rows": 24}


@pytest.mark.parametrize("overrides", [{}, SPLIT, {"controller.gate_unwritten": True}])
def test_every_block_posts_what_it_implies(overrides: dict[str, Any], small_trace: Trace) -> None:
    cut = small_trace.select(20, slice(0, 1))
    run = archsim.simulate(cut, archsim.load_hardware(overrides=overrides)).simulation
    posted = [posting.action for posting in run.ledger]
    assert len(posted) == len(set(posted)) == (13 if "array.rows" not in overrides else 16) + 2
    assert {block.__class__.__name__ for block in run.head.blocks} >= {"Arrays", "Controller"}


@pytest.mark.parametrize(
    ("block", "overrides"),
    [
        (ChargeToPulse, {}),
        (DigitalSum, SPLIT),
        (WritePath, {}),
        (PulseGenerator, {"window": 70}),
        (Accumulator, {"controller.gate_unwritten": True}),
    ],
)
@pytest.mark.parametrize("factor", [0.5, 2.0, 1.01])
def test_a_block_that_counts_wrong_is_caught_by_name(
    block: type,
    overrides: dict[str, Any],
    factor: float,
    small_trace: Trace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = block.spend  # type: ignore[attr-defined]

    def wrong(self: object, work: Work) -> Spent:
        first = True
        for action, energy, operations in right(self, work):
            yield action, energy, operations * (factor if first else 1.0)
            first = False

    monkeypatch.setattr(block, "spend", wrong)
    cut, hardware = small_trace.select(20, slice(0, 1)), archsim.load_hardware(overrides=overrides)
    with pytest.raises(InvariantError, match=r"operations issued, .* implied"):
        archsim.simulate(cut, hardware)


def test_an_action_that_only_one_side_knows_is_caught(
    small_trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChargeToPulse, "implied", lambda self, shapes: iter(()))
    with pytest.raises(InvariantError, match="converters: convert posted or implied, not both"):
        archsim.simulate(small_trace.select(5, slice(0, 1)), archsim.load_hardware())


def test_negative_energy_is_caught(small_trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    def negative(self: object, work: Work) -> Spent:
        from archsim.chip.accumulator import ADD

        yield ADD, np.full(work.columns.shape, -1e-15), work.conversions

    monkeypatch.setattr(Accumulator, "spend", negative)
    with pytest.raises(InvariantError, match="negative or not finite"):
        archsim.simulate(small_trace.select(5, slice(0, 1)), archsim.load_hardware())
