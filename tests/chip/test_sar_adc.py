"""``readout.model: sar_adc``: what it computes, when, for how much energy and on which area."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archsim
from archsim.chip.head import Head
from archsim.chip.readouts.digital import ADD_PARTIAL, PULSE_VALUES
from archsim.chip.readouts.sar_adc import CONVERT_SCORES, SarAdc
from archsim.datapath.attention import attend_layer
from archsim.datapath.fused import charge_to_pulse
from archsim.errors import ConfigError, InvariantError
from archsim.hardware.load import Hardware
from archsim.ledger import Ledger
from archsim.report.explain import explain
from archsim.result import Result
from archsim.simulation import post_energy
from archsim.traces.trace import Trace
from tests.datapath import oracle
from tests.datapath.test_engines import everything, times
from tests.datapath.test_row_split import assert_activity, assert_same, draw

TOKENS, HEADS = 70, 4  # two layers of two


def hardware(**overrides: Any) -> Hardware:
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return archsim.load_hardware(overrides={"readout.model": "sar_adc", "window": 128, **dotted})


def small_head(features: int = 7, **overrides: Any) -> Head:
    """Three arrays of three rows by default, the last with one feature; three sub-tiles."""
    small = {"array__rows": 3, "array__columns": 4, "window": 10}
    return Head(hardware(**{**small, **overrides}).config, features)


@pytest.fixture(scope="module")
def trace() -> Trace:
    q, k, v = np.random.default_rng(0).normal(0, 0.4, (3, 2, 2, TOKENS, 64))
    return Trace.from_arrays(q + 0.5, k, v, "fit")


@pytest.fixture(scope="module")
def result(trace: Trace) -> Result:
    """Arrays of 24 rows: three of them a column of 64 features."""
    return archsim.simulate(trace, hardware(array__rows=24))


def operations(run: Result) -> dict[Any, float]:
    return {posting.action: posting.operations for posting in run.simulation.ledger}


# --- function --------------------------------------------------------------------------------


def parameters(head: Head, bits: int, rows: int, **changes: Any) -> oracle.Parameters:
    """Worked out from the hardware's own words: a sign, and bits - 1 of magnitude."""
    readout: Any = head._config.readout
    return oracle.Parameters(
        window=head.sub_tiles.window,
        columns=head.sub_tiles.columns,
        rows=rows,
        digitises=True,
        levels_partial=2 * (2 ** (bits - 1) - 1) + 1,
        saturation_partial=readout.full_scale * 1e6,
        levels_pulse=readout.pulse_levels,
        **changes,
    )


# full scales without simple ratios, or sums of codes fall on the pulses' steps exactly
@settings(max_examples=40, deadline=None)
@given(
    bits=st.sampled_from([2, 4, 5, 8]),
    rows=st.integers(1, 8),
    window=st.integers(1, 14),
    columns=st.integers(1, 6),
    full_scale=st.sampled_from(["81.7 uA", "9.137 uA", "2.311 uA"]),
    pulse_levels=st.sampled_from([2, 16, None]),
    decay=st.sampled_from([0.0, 1.6e-4, 0.3]),
    tokens=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_codes_are_those_of_plain_loops(
    bits: int,
    rows: int,
    window: int,
    columns: int,
    full_scale: str,
    pulse_levels: int | None,
    decay: float,
    tokens: int,
    seed: int,
) -> None:
    """Parts, sub-tiles and decay; one array that holds all features is digitised as well."""
    head = small_head(
        readout__bits=bits,
        array__rows=rows,
        window=window,
        array__columns=columns,
        readout__full_scale=full_scale,
        readout__pulse_levels=pulse_levels,
        retention__decay_per_token=decay,
        converter__score__saturation_current="13.07 uA",
    )
    q, k, v = draw(seed, tokens)
    got = attend_layer(q, k, v, head.laws, details=True)
    par = parameters(head, bits, rows, decay_per_token=decay, saturation_score=13.07)
    expected = oracle.attend(q, k, v, par)
    assert_same(got, expected, excused=0.1)
    assert got.partials is not None
    assert np.abs(got.partials).max() <= 2 ** (bits - 1) - 1
    distance = expected.edge_distance
    if distance["partial"].min() > 1e-9 < distance["pulse"].min():
        assert_activity(got, expected, par)


def test_ages_from_the_clock_act_inside_every_code() -> None:
    head = small_head(readout__full_scale="17.3 uA")
    q, k, v = draw(4, tokens=20)
    stamped = times(4, 2, 20, 1e-6, 1e-3)
    got = attend_layer(q, k, v, head.laws, details=True, ages=stamped.ages)
    par = parameters(head, 4, 3, decay_per_token=1.0)
    assert_same(got, oracle.attend(q, k, v, par, ages=stamped.by_pair), excused=0.1)


def test_zero_is_a_code_and_the_range_ends_at_both_sides() -> None:
    """One linear cell of 10 uA/V and a step of 1 uA at 4 bits: -7 to 7, half to even."""
    head = small_head(
        1,
        cell__model="linear",
        cell__linear_slope="10 uA/V",
        readout__full_scale="7 uA",
        levels__key_value=None,
        retention__model="off",
        array__rows=1,
    )
    volts = {name: (np.ones(1), np.zeros(1)) for name in "qkv"}
    codes = []
    for current in (-9.0, -4.4, -0.4, 0.0, 0.6, 4.4, 8.0):
        k = np.full((1, 1, 1), current / 10 + 0.45)
        got = attend_layer(np.ones((1, 1, 1)), k, k, head.laws, volts, details=True)
        assert got.partials is not None
        codes.append(float(got.partials[0, 0, 0, 0]))
    assert codes == [-7.0, -4.0, 0.0, 0.0, 1.0, 4.0, 7.0]


def test_many_bits_and_analog_pulses_come_to_charge_to_pulse() -> None:
    """Features on one array and on several alike."""
    q, k, v = draw(9, tokens=60, features=64)
    for rows in (16, 64):
        sizes = {"array__rows": rows, "array__columns": 16, "window": 64}
        fine = {"readout__full_scale": "200 uA", "readout__pulse_levels": None}
        ends = []
        for bits in (6, 16):
            head = small_head(64, **sizes, **fine, readout__bits=bits)
            ends.append(attend_layer(q, k, v, head.laws, details=True))
        joined = small_head(64, **sizes, readout__model="charge_to_pulse")
        there = attend_layer(q, k, v, joined.laws, details=True)
        arrays = 64 // rows
        for bits, here in zip((6, 16), ends, strict=True):
            error = np.abs(here.scores - there.scores).max()  # type: ignore[operator]
            assert 0 < error <= arrays * 0.5 * 200 / (2 ** (bits - 1) - 1) * 1.0001
        assert (ends[1].codes != there.codes).mean() < 1e-3


@pytest.mark.parametrize("rows", [24, 64])
def test_compiled_code_knows_no_adc_and_numpy_does_it(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = Head(hardware(array__rows=rows).config, 64)
    assert not charge_to_pulse(head.laws.readout)
    q, k, v = np.random.default_rng(11).normal(0.2, 0.4, (3, 2, 150, 64))
    found = []
    for cores in (1, 2):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        found.append(everything(attend_layer(q, k, v, head.laws, details=True)))
    assert found[0] == found[1]


def test_ideal_stays_what_it_is(trace: Trace) -> None:
    charge = hardware(readout__model="charge_to_pulse")
    assert Head(charge.config, 64).laws.ideal == Head(hardware().config, 64).laws.ideal


# --- time ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "ns"),
    [
        ({}, 65 + 5 + 10),
        ({"array__rows": 64}, 80),
        ({"readout__time": "12.5 ns"}, 65 + 13 + 10),  # what comes after starts on an edge
        ({"readout__columns_per_adc": 4}, 65 + 4 * 5 + 10),
        ({"readout__columns_per_adc": 100}, 65 + 64 * 5 + 10),  # an array has no more columns
        ({"readout__add_time": "3 ns"}, 65 + 5 + 3),
    ],
)
def test_what_a_token_takes(trace: Trace, overrides: dict[str, Any], ns: float) -> None:
    run = archsim.simulate(trace.select(tokens=4), hardware(**{"array__rows": 24, **overrides}))
    assert run.latency["attention_ns"]["max"] == ns
    schedule, per_ns = run.simulation.schedule, run.simulation.declaration.clock.per_ns
    assert (schedule.start["read_value"] >= schedule.end["add_partial"]).all()
    lasts = schedule.end["convert_score"] - schedule.start["convert_score"]
    assert len(np.unique(lasts)) == 1
    assert lasts.max() <= (ns - 65) * per_ns


def test_a_conversion_never_ends_early(trace: Trace) -> None:
    early = archsim.simulate(trace, hardware(controller__phases="early_end"))
    schedule = early.simulation.schedule
    lasts = schedule.end["convert_score"] - schedule.start["convert_score"]
    assert (lasts == 5_000).all()
    assert early.latency["attention_ns"]["max"] < 80


def test_an_adc_is_held_from_the_read_until_its_code_is_latched(trace: Trace) -> None:
    def starts(**overrides: Any) -> np.ndarray:
        pipelined = {"controller__pipelining": "stages", "readout__time": "40 ns", **overrides}
        run = archsim.simulate(trace.select(tokens=20), hardware(**pipelined), order="prefill")
        schedule = run.simulation.schedule
        if "converter__buffers" not in overrides:
            assert (schedule.start["read_key"][1:] >= schedule.end["convert_score"][:-1]).all()
        return np.asarray(schedule.start["read_key"])

    assert (starts(converter__buffers=2) <= starts()).all()
    assert starts(converter__buffers=2).sum() < starts().sum()


def test_all_engines_print_the_same_numbers(trace: Trace) -> None:
    short = trace.select(tokens=30)
    shared = {"readout__columns_per_adc": 3, "readout__time": "2.5 ns"}
    for overrides in (
        {"array__rows": 24},
        {"controller__phases": "early_end", "controller__pipelining": "stages", **shared},
    ):
        documents = [
            archsim.simulate(
                short, hardware(**overrides), prompt=20, engine=engine, detail=detail
            ).document(wall=False)
            for engine, detail in (("simpy", "full"), ("simpy", "contested"), ("fast", "contested"))
        ]
        assert documents[0] == documents[1] == documents[2]


def test_ages_from_the_simulated_clock_settle(trace: Trace) -> None:
    clocked = {"retention__model": "simulated", "retention__tau": "2 us"}
    run = archsim.simulate(trace, hardware(controller__phases="early_end", **clocked))
    assert 1 < run.simulation.function_passes < 20


# --- energy, area, books ---------------------------------------------------------------------


def test_every_array_converts_and_nothing_is_counted(result: Result, trace: Trace) -> None:
    """128 columns, written or not, of three arrays each."""
    issued, spent = operations(result), result.simulation.ledger.by_component()
    every = TOKENS * HEADS * 128 * 3
    assert issued[CONVERT_SCORES] == issued[ADD_PARTIAL] == every
    activity = [f.activity for f in result.simulation.function]
    assert issued[PULSE_VALUES] == 3 * sum(a.score_pulses.sum() for a in activity) > 0
    assert not {"converters", "partial converters", "partial counters"} & set(spent)
    assert spent["ADCs"] == pytest.approx(every * 0.12e-12)
    assert spent["partial adders"] == pytest.approx(every * 0.6e-12 * 1.0184)
    dear = archsim.simulate(trace, hardware(array__rows=24, readout__energy_per_conversion="1 pJ"))
    more = dear.energy_pj["qk"] - result.energy_pj["qk"]
    assert more == pytest.approx(every * 0.88)


def test_energies_do_not_depend_on_what_a_counter_would_count(result: Result) -> None:
    run, other = result.simulation, Ledger()
    functions = tuple(
        replace(f, activity=replace(f.activity, partial_counts=f.activity.partial_counts * 0 + 7.0))
        for f in run.function
    )
    post_energy(other, run.head, functions, run.schedule)
    assert other.by_component() == run.ledger.by_component()


def test_gated_adcs_convert_written_columns_alone(trace: Trace) -> None:
    issued = operations(archsim.simulate(trace, hardware(controller__gate_unwritten=True)))
    assert issued[CONVERT_SCORES] == HEADS * TOKENS * (TOKENS + 1) / 2


def test_an_adc_for_every_column_or_for_some() -> None:
    def areas(**overrides: Any) -> dict[str, float]:
        built = Head(hardware(array__rows=24, **overrides).config, 64)
        return {b.component: b.area / 1.0375e-12 for b in built.footprints(1)}

    lines, usual = 128 * 3, areas()
    assert usual["ADCs"] == pytest.approx(lines * 200)
    assert usual["partial adders"] == pytest.approx(lines * 15)
    assert usual["value pulse generators"] == pytest.approx(lines * 10)
    assert not {"converters", "partial converters", "partial counters"} & set(usual)
    assert areas(readout__area="50 um^2")["ADCs"] == pytest.approx(lines * 50)
    assert areas(converter__buffers=2)["ADCs"] == pytest.approx(2 * lines * 200)
    shared = areas(readout__columns_per_adc=5)  # 13 for 64 columns
    assert shared["ADCs"] == pytest.approx(2 * 3 * 13 * 200)
    assert {name for name in usual if shared[name] != usual[name]} == {"ADCs"}


@pytest.mark.parametrize("factor", [0, 2])
def test_books_catch_a_wrong_spend(
    trace: Trace, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = SarAdc.spend

    def wrong(self: SarAdc, work: Any) -> Any:
        for action, energy, done in genuine(self, work):
            yield action, energy, done * (factor if action is CONVERT_SCORES else 1)

    monkeypatch.setattr(SarAdc, "spend", wrong)
    with pytest.raises(InvariantError, match="ADCs"):
        archsim.simulate(trace.select(tokens=3), hardware())


# --- what is said of it ----------------------------------------------------------------------


def test_an_explained_token_shows_the_conversion(result: Result) -> None:
    found = {phase.stage: phase for phase in explain(result, 40, 1, 0).phases}
    assert list(found)[2:6] == ["read_key", "convert_score", "add_partial", "read_value"]
    assert "ADCs" in found["read_key"].holds
    assert "ADCs" in found["convert_score"].holds
    assert "ADCs" not in found["add_partial"].holds
    assert found["convert_score"].pulses is None
    assert found["convert_score"].energy_pj == pytest.approx(128 * 3 * 0.12)


def test_saturation_of_codes_is_reported(trace: Trace) -> None:
    def beyond(full_scale: str) -> float:
        run = archsim.simulate(trace, hardware(array__rows=24, readout__full_scale=full_scale))
        return float(run.document(wall=False)["function"]["saturation"]["partial"])

    assert beyond("2 uA") > 0.2 > beyond("500 uA") == 0


def test_defaults_of_other_bits_say_so(trace: Trace) -> None:
    assert not hardware().notes
    (note,) = hardware(readout__bits=8, readout__time="10 ns").notes
    assert note == (
        "ADCs of 8 bits with the defaults of 4; does not follow: "
        "readout.energy_per_conversion, readout.area"
    )
    assert note in archsim.simulate(trace.select(tokens=2), hardware(
        readout__bits=8, readout__time="10 ns"
    )).document(wall=False)["notes"]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"bits": 1}, "readout.bits: Input should be greater than or equal to 2"),
        ({"bits": 17}, "readout.bits: Input should be less"),
        ({"bits": 4.5}, "readout.bits: Input should be a valid integer"),
        ({"full_scale": "0 uA"}, "readout.full_scale"),
        ({"time": "0 ns"}, "readout.time"),
        ({"time": 5}, "readout.time: give a number with a unit"),
        ({"time": "1.3 ps"}, "readout.time: 1.3 ps: times are kept"),
        ({"energy_per_conversion": "-1 pJ"}, "readout.energy_per_conversion"),
        ({"area": "3 um"}, "readout.area"),
        ({"columns_per_adc": 0}, "readout.columns_per_adc"),
        ({"pulse_levels": 7}, r"readout.pulse_levels: a pulse step of 2.5 ns \(7 le"),
    ],
)
def test_bad_values_are_one_line(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        hardware(**{f"readout__{key}": value for key, value in overrides.items()})
    assert "\n" not in str(raised.value)


def test_the_published_figures_stand_beside_it() -> None:
    """No fit of converters that are not there."""
    from archsim.calibration import calibrate

    fits = [fit.parameter for fit in calibrate(hardware(window=8), heads=1).fits()]
    assert "converter.score.energy_per_conversion" not in fits
    assert "converter.output.energy_per_conversion" in fits


def test_the_golden_vectors_pass_through_its_codes() -> None:
    """Not charges: what is said to be computed by the readout's law is."""
    law = Head(hardware(array__rows=2).config, 4).laws.readout
    charges = [np.array([41.0, -100.0]), np.array([7.0, 100.0])]
    step = 80 / 7
    assert law.scores(charges) * 80 == pytest.approx([(4 + 1) * step, 0.0])
