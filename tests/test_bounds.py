"""Bounds of a trace's energy without a second run: the same that second runs give."""

from __future__ import annotations

from typing import Any

import pytest

import archsim
from archsim.bounds import assumed_ranges
from archsim.hardware.load import load_hardware
from archsim.traces.trace import Trace

OVERRIDES: dict[str, Any] = {"window": 40, "array.columns": 16, "controller.phases": "early_end"}
NO_COSTS = {
    "write_path.pulse", "accumulator.time", "controller.clock", "readout.add_time",
    "readout.partial_saturation_current",
}  # fmt: skip
"""Assumed parameters that change what happens, when or how often: bounds leave them alone."""


@pytest.mark.parametrize(
    "more", [{}, {"cell.model": "linear"}, {"array.rows": 20, "readout.model": "digital_sum"}]
)
def test_each_cost_at_its_bound_is_a_run_at_its_bound(
    small_trace: Trace, more: dict[str, Any]
) -> None:
    trace, hardware = small_trace.select(tokens=12), load_hardware(overrides=OVERRIDES | more)
    bounds = archsim.simulate(trace, hardware).energy_bounds

    def run(changed: dict[str, object]) -> float:
        result = archsim.simulate(trace, hardware.changed(changed))
        return result.energy_per_token_per_head_pj["total"]

    assert bounds.nominal == pytest.approx(run({}), rel=1e-12)
    ranges = {name: ends for name, ends in assumed_ranges(hardware).items() if name not in NO_COSTS}
    moved = set()
    for name, (low, high) in ranges.items():
        ends = (run({name: low}), run({name: high}))
        if ends[0] != ends[1]:
            moved.add(name)
            assert bounds.parameters[name] == pytest.approx(ends, rel=1e-10), name
    assert moved == set(bounds.parameters)
    assert {"cell.effective_voltage", "static.power_per_head", "counter.energy_per_count"} <= moved
    every = [run({name: ends[side] for name, ends in ranges.items() if name in bounds.parameters})
             for side in (0, 1)]  # fmt: skip
    assert bounds.all_together == pytest.approx(every, rel=1e-10)
    singles = [value for ends in bounds.parameters.values() for value in ends]
    assert bounds.one_at_a_time == (min(singles), max(singles))


def test_they_stand_in_the_document_and_where_nothing_is_assumed_there_are_none(
    small_trace: Trace,
) -> None:
    trace, hardware = small_trace.select(tokens=4), load_hardware()
    found = archsim.simulate(trace, hardware)
    document = found.document()["energy_bounds_per_token_per_head"]
    assert document["nominal_pj"] == pytest.approx(found.energy_per_token_per_head_pj["total"])
    low, high = document["one_at_a_time_pj"]
    assert low < document["nominal_pj"] < high
    assert document["all_together_pj"][0] < low < high < document["all_together_pj"][1]
    set_all = {name: low for name, (low, _) in assumed_ranges(hardware).items()}
    bounds = archsim.simulate(trace, hardware.changed(set_all)).energy_bounds
    assert bounds.parameters == {}
    assert bounds.one_at_a_time == bounds.all_together == (bounds.nominal, bounds.nominal)
