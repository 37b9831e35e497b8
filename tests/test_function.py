"""The functional result: what it depends on, what is kept, and retention on the simulated clock."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archsim
from archsim.chip.activity import Activity
from archsim.chip.laws import laws_of
from archsim.config.section import leaf_paths, value_at, with_leaf
from archsim.config.voltages import VoltageRange
from archsim.errors import InvariantError
from archsim.function import (
    CACHE,
    FunctionCache,
    Functions,
    function_key,
    run_function,
)
from archsim.hardware.load import Hardware
from archsim.hardware.sections import HardwareConfig
from archsim.simulation import simulate_trace
from archsim.timing.declaration import Schedule
from archsim.traces.trace import Trace

DEPENDS_ON = (
    "window",
    "array.columns",
    "cell.model",
    "cell.polynomial",
    "cell.linear_slope",
    "cell.mid_rail",
    "cell.supply",
    "retention.model",
    "retention.decay_per_token",
    "levels",
    "converter.score.saturation_current",
    "converter.output.saturation_current",
)
COUNTED_IN_EDGES = ("converter.t_max", "controller.clock")
WHERE_SPLIT = (
    "array.rows",
    "readout.partial_levels",
    "readout.partial_saturation_current",
    "readout.pulse_levels",
)
"""What decides the function: always, with ideal counters, and where dot products are split."""


def compute(trace: Trace, hardware: Hardware) -> Functions:
    """What a trace does on a hardware, not kept."""
    laws, volts = laws_of(hardware.config, trace.head_dim), VoltageRange.of(hardware.config.cell)
    return run_function(trace, laws, volts, cache=None)


def key_of(trace: Trace, hardware: Hardware) -> str:
    return function_key(trace, laws_of(hardware.config, trace.head_dim))


OTHER: dict[str, Any] = {
    "window": 40,
    "array.rows": 32,
    "array.columns": 16,
    "cell.model": "linear",
    "cell.mid_rail": "0.44 V",
    "retention.model": "nominal",
    "levels.query": 6,
    "levels.key_value": 4,
    "levels.output": None,
    "pulse_generator.t_max": "30 ns",
    "converter.buffers": 2,
    "array.write_during_read": True,
    "controller.phases": "early_end",
    "controller.pipelining": "stages",
    "controller.heads_in_parallel": 1,
    "controller.layer_buffer": 2,
    "controller.gate_unwritten": True,
    "controller.clock": "2 GHz",
    "description": "other",
    "readout.model": "charge_to_pulse",
    "readout.partial_levels": 3,
    "readout.pulse_levels": 4,
    "digital.weights": "resident",
}
"""Another value of parameters that are no plain quantity."""


def changed(hardware: Hardware, key: str) -> Hardware | None:
    """The hardware with another value of one leaf; None where only one value fits the trace."""
    if key in OTHER:
        return hardware.changed({key: OTHER[key]})
    if key.endswith("arbitration"):
        return hardware.changed({key: "fifo"})
    if key.startswith("heads_per", key.rfind(".") + 1):
        return hardware.changed({key: 2})
    value = value_at(hardware.config, key)
    if value is None or isinstance(value, str):
        return None
    return replace(hardware, config=with_leaf(hardware.config, key, value * 1.25 or 1e-9))


def decides(key: str, config: HardwareConfig) -> bool:
    split = config.readout.model == "digital_sum"
    counted = config.levels.output is None or (
        split and value_at(config, "readout.partial_levels") is None
    )
    depends = DEPENDS_ON + (COUNTED_IN_EDGES if counted else ())
    depends += (*WHERE_SPLIT, "readout.model") if split else ()
    return any(key == name or key.startswith(name + ".") for name in depends)


SPLIT = {"readout.model": "digital_sum", "array.rows": 24}


@pytest.mark.parametrize(
    "overrides",
    [{}, {"levels.output": None}, SPLIT, {**SPLIT, "readout.partial_levels": None}],
    ids=["usual", "ideal counter", "split", "split, ideal counter"],
)
def test_only_what_is_listed_decides_the_function(
    small_trace: Trace, overrides: dict[str, Any]
) -> None:
    hardware = archsim.load_hardware(overrides=overrides)
    trace = small_trace.select(tokens=20, layers=slice(0, 1))
    reference = compute(trace, hardware)
    key = key_of(trace, hardware)
    for leaf in leaf_paths(HardwareConfig):
        other = changed(hardware, leaf)
        if other is None:
            continue
        if decides(leaf, hardware.config):
            same = other.config == hardware.config  # levels.output is null already
            assert same or key_of(trace, other) != key, leaf
            continue
        assert key_of(trace, other) == key, leaf
        again = compute(trace, other)
        for a, b in zip(reference, again, strict=True):
            assert (a.saturation, a.signal, a.error) == (b.saturation, b.signal, b.error), leaf
            for field in fields(Activity):
                values = getattr(a.activity, field.name), getattr(b.activity, field.name)
                assert np.array_equal(*values), (leaf, field.name)


def test_the_function_is_computed_once(small_trace: Trace) -> None:
    CACHE.clear()
    hardware = archsim.load_hardware()
    first = archsim.simulate(small_trace, hardware)
    other = hardware.changed({"controller.clock": "2 GHz", "accumulator.heads_per_adder": 2})
    archsim.simulate(small_trace, other)
    assert (CACHE.misses, CACHE.hits) == (1, 1)
    archsim.simulate(small_trace, hardware.changed({"window": 32}))
    archsim.simulate(small_trace, hardware, precision="float32")
    archsim.simulate(small_trace.select(tokens=10), hardware)
    assert (CACHE.misses, CACHE.hits) == (4, 1)
    again = archsim.simulate(small_trace, hardware)
    assert CACHE.hits == 2
    assert again.document(wall=False) == first.document(wall=False)


def test_the_cache_forgets_what_was_not_asked_for_longest(small_trace: Trace) -> None:
    hardware = archsim.load_hardware()
    result = compute(small_trace, hardware)
    size = sum(layer.nbytes for layer in result)
    cache = FunctionCache(limit=2 * size)
    cache.put("a", result)
    cache.put("b", result)
    assert cache.get("a") is result
    cache.put("c", result)
    assert cache.get("b") is None
    assert cache.get("a") is result
    assert cache.get("c") is result


def test_a_changed_trace_is_another_trace(small_trace_folder: Path) -> None:
    trace = archsim.load_trace(small_trace_folder)
    hardware = archsim.load_hardware()
    silent = replace(trace, v=np.zeros_like(trace.v))
    assert key_of(silent, hardware) != key_of(trace, hardware)
    with pytest.raises(TypeError):
        trace.scalers["output"] = trace.scalers["v"]  # type: ignore[index]
    result = archsim.simulate(trace, hardware)
    with pytest.raises(ValueError, match="read-only"):
        result.simulation.function[0].activity.counts[:] = 0


def test_nominal_retention_is_a_rate_a_token(small_trace: Trace) -> None:
    per_token = archsim.load_hardware(overrides={"retention.decay_per_token": 0.01})
    nominal = archsim.load_hardware(
        overrides={
            "retention.model": "nominal",
            "retention.tau": "100 us",
            "retention.token_period": "1 us",
        }
    )
    one, other = (archsim.simulate(small_trace, h) for h in (per_token, nominal))
    assert other.energy_pj == pytest.approx(one.energy_pj, rel=1e-12)
    assert other.function["sqnr_db"] == pytest.approx(one.function["sqnr_db"], rel=1e-9)


def test_simulated_retention_of_fixed_phases_takes_one_pass(small_trace: Trace) -> None:
    """Two layers of 65 ns: a key's age is 130 ns a token, as with nominal retention."""
    overrides = {"retention.model": "simulated", "retention.tau": "20 us"}
    simulated = archsim.simulate(small_trace, archsim.load_hardware(overrides=overrides))
    assert simulated.function["passes"] == 1
    period = f"{65 * small_trace.layers} ns"
    overrides |= {"retention.model": "nominal", "retention.token_period": period}
    nominal = archsim.simulate(small_trace, archsim.load_hardware(overrides=overrides))
    keys = [
        np.stack([f.activity.key_current for f in result.simulation.function])
        for result in (simulated, nominal)
    ]
    assert np.allclose(*keys, rtol=1e-12)
    # values wait 15 ns longer for their read
    assert simulated.function["sqnr_db"] != nominal.function["sqnr_db"]


EARLY = {
    "retention.model": "simulated",
    "retention.tau": "3 us",
    "controller.phases": "early_end",
    "accumulator.heads_per_adder": 2,
}


@pytest.mark.parametrize("arbitration", ["static", "fifo"])
@pytest.mark.parametrize("order", ["generate", "prefill"])
def test_simulated_retention_settles_wherever_it_starts(
    small_trace: Trace, order: str, arbitration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardware = archsim.load_hardware(overrides={**EARLY, "accumulator.arbitration": arbitration})
    one = simulate_trace(small_trace, hardware, order=order)
    assert one.function_passes > 1

    def idlest(heads: int, tokens: int) -> Activity:
        return Activity(*(np.zeros((heads, tokens)) for _ in fields(Activity)))

    monkeypatch.setattr(Activity, "busiest", idlest)
    other = simulate_trace(small_trace, hardware, order=order)
    assert other.schedule.same_times(one.schedule)


def test_what_never_settles_is_an_error(
    small_trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Schedule, "same_times", lambda self, other: False)
    monkeypatch.setattr("archsim.simulation.MOST_PASSES", 3)
    hardware = archsim.load_hardware(overrides=EARLY)
    with pytest.raises(InvariantError, match="3 passes"):
        simulate_trace(small_trace, hardware)
