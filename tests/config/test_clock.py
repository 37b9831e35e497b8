"""The clock law: edges at exact fractions, whole steps judged exactly, no silent rounding."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.api import simulate
from archsim.chip.head import Head
from archsim.config.clock import MOST_TICKS, Clock
from archsim.errors import ConfigError
from archsim.hardware.load import Hardware, load_hardware
from archsim.timing.engines.events import run_simpy_full
from archsim.timing.engines.recurrence import run_fast
from archsim.traces.trace import Trace

FREQUENCIES = st.integers(10**6, 10**12)


@settings(max_examples=200, deadline=None)
@given(FREQUENCIES)
def test_an_edge_is_where_it_is(frequency: int) -> None:
    clock = Clock.of(float(frequency))
    exact = Fraction(10**12, frequency)
    period = Fraction(clock.period, clock.per_ps)
    assert clock.per_ps <= MOST_TICKS
    assert abs(period - exact) < Fraction(1, MOST_TICKS)
    if exact.denominator <= MOST_TICKS:
        assert period == exact


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([0.3e9, 0.7e9, 1e9, 3e9, 7e11, 1.1e9, 333.333e6]), st.integers(1, 3_000))
def test_a_time_is_kept_to_the_picosecond_and_on_its_edge(frequency: float, picos: int) -> None:
    clock = Clock.of(frequency)
    ticks = clock.ticks(picos * 1e-11)
    off = abs(Fraction(ticks, clock.per_ps) - picos * 10)
    assert off * 1000 * clock.per_ps < clock.period or off == 0
    if frequency == 1e9:
        assert (clock.period, clock.per_ps, off) == (1000, 1, 0)


def on(clock: str, **more: str | int) -> Hardware:
    return load_hardware(overrides={"controller.clock": clock, **more})


@pytest.mark.parametrize(
    ("clock", "t_max", "edges"),
    [("3 GHz", "15 ns", 45), ("0.6 GHz", "25 ns", 15), ("7 GHz", "15 ns", 105),
     ("333.333 MHz", "45 ns", 15), ("333.334 MHz", "45 ns", 15)],
)  # fmt: skip
def test_whole_steps_are_accepted_and_t_max_is_on_an_edge(
    clock: str, t_max: str, edges: int
) -> None:
    head = Head(on(clock, **{"pulse_generator.t_max": t_max}).config)
    assert head.pulse_generator.t_max_ticks == edges * head.controller.clock.period


@pytest.mark.parametrize("clock", ["2.5 GHz", "1.001 GHz", "3.03 GHz", "700 GHz", "0.9999 GHz"])
def test_steps_that_are_not_whole_are_refused(clock: str) -> None:
    if clock == "700 GHz":  # 10.5 edges are not whole, 700 are
        assert on(clock).config.controller.clock == 7e11
        clock = "700.5 GHz"
    with pytest.raises(ConfigError, match=r"whole number of clock edges"):
        on(clock)


def test_auto_is_levels_less_one_periods_at_any_clock() -> None:
    """700 GHz ran at 1 THz: its period was rounded to a picosecond."""
    head = Head(on("700 GHz", **{"pulse_generator.t_max": "auto"}).config)
    assert head.pulse_generator.t_max == pytest.approx(15 / 700e9, rel=1e-15)
    head = Head(on("0.7 GHz", **{"pulse_generator.t_max": "auto", "levels.query": 6}).config)
    assert head.pulse_generator.t_max == pytest.approx(5 / 0.7e9, rel=1e-15)


def test_a_time_that_picoseconds_cannot_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"write_path\.pulse: 1\.5 ps: times are kept"):
        on("1 GHz", **{"write_path.pulse": "1.5 ps"})
    with pytest.raises(ConfigError, match=r"controller\.layer_gap"):
        on("1 GHz", **{"controller.layer_gap": "0.3 ps"})
    assert on("1 GHz", **{"write_path.pulse": "1234.5 ps"}).config.write_path.pulse == 1.2345e-9


def test_times_and_cycles_at_3_ghz(small_trace: Trace) -> None:
    """Every published phase is a whole number of edges: the same 65 ns, three times the cycles."""
    trace = small_trace.select(12)
    slow, fast = simulate(trace, on("1 GHz")), simulate(trace, on("3 GHz"))
    assert fast.latency["layer_ns"]["max"] == pytest.approx(65.0, rel=1e-12)
    assert fast.latency["total_ns"] == pytest.approx(slow.latency["total_ns"], rel=1e-12)
    for name in ("controller", "clock"):
        ratio = [r.document()["energy_by_component_pj"][name] for r in (slow, fast)]
        assert ratio[1] == pytest.approx(3 * ratio[0], rel=1e-12)
    assert fast.energy_pj["qk"] == pytest.approx(slow.energy_pj["qk"], rel=1e-12)


def test_no_rounding_adds_up_over_a_run(small_trace: Trace) -> None:
    """0.3 GHz: a period of 3,333 ps instead of 3,333 1/3 lost a cycle in 10,000."""
    changes = {"pulse_generator.t_max": "auto", "levels.query": 4, "converter.t_max": "10 ns"}
    hardware = on("0.3 GHz", **changes)  # every phase is 10 ns: three edges
    simulation = simulate(small_trace, hardware).simulation
    d = simulation.declaration
    assert simulation.schedule.makespan == 96 * 2 * 15 * d.period
    assert simulate(small_trace, hardware).latency["total_ns"] == pytest.approx(96 * 2 * 50.0)
    one, other = run_fast(d), run_simpy_full(d)
    assert one.same_times(other)
