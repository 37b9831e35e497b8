"""Whole runs with dot products split over arrays, ``charge`` and ``digital``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import archsim
from archsim.chip.head import Head
from archsim.chip.readouts.digital import ADD_PARTIAL, PULSE_VALUES
from archsim.chip.readouts.digital_sum import CONVERT_PARTIAL, COUNT_PARTIAL
from archsim.errors import ConfigError, InvariantError
from archsim.hardware.load import Hardware
from archsim.ledger import Ledger
from archsim.report.explain import explain
from archsim.report.function import function
from archsim.result import Result, grade
from archsim.traces.trace import Trace

TOKENS, HEADS = 70, 4  # two layers of two
BLOCKS = {"partial converters", "partial counters", "partial adders", "value pulse generators"}


@pytest.fixture(scope="module")
def trace() -> Trace:
    q, k, v = np.random.default_rng(0).normal(0, 0.4, (3, 2, 2, TOKENS, 64))
    return Trace.from_arrays(q + 0.5, k, v, "fit")


def hardware(**overrides: Any) -> Hardware:
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return archsim.load_hardware(
        overrides={"readout.model": "digital_sum", "array.rows": 24, "window": 128, **dotted}
    )


@pytest.fixture(scope="module")
def result(trace: Trace) -> Result:
    return archsim.simulate(trace, hardware())


def operations(run: Result) -> dict[Any, float]:
    return {posting.action: posting.operations for posting in run.simulation.ledger}


def test_every_array_converts_and_every_addition_is_paid(result: Result) -> None:
    """64 features on arrays of 24 rows: 3 of them a column; 128 columns, written or not."""
    issued = operations(result)
    every = TOKENS * HEADS * 128 * 3
    assert issued[CONVERT_PARTIAL] == issued[ADD_PARTIAL] == every
    activity = [f.activity for f in result.simulation.function]
    assert issued[COUNT_PARTIAL] == sum(a.partial_counts.sum() for a in activity) > every / 10
    assert issued[PULSE_VALUES] == 3 * sum(a.score_pulses.sum() for a in activity) > 0
    spent = result.simulation.ledger.by_component()
    assert set(spent) > BLOCKS
    assert "converters" not in spent
    assert grade(result.simulation.hardware, CONVERT_PARTIAL.laws) == "assumed"
    # the coefficients of the published design, where the physics is the same
    assert spent["partial converters"] == pytest.approx(every * 0.3177e-12)
    assert spent["partial counters"] == pytest.approx(issued[COUNT_PARTIAL] * 0.2e-12 * 1.0184)
    assert spent["partial adders"] == pytest.approx(every * 0.6e-12 * 1.0184)
    pulse = (0.5e-12 + 40e-15 * 0.9**2) * 1.0184
    assert spent["value pulse generators"] == pytest.approx(issued[PULSE_VALUES] * pulse)


def test_gated_converters_fire_for_written_columns_alone(trace: Trace) -> None:
    issued = operations(archsim.simulate(trace, hardware(controller__gate_unwritten=True)))
    assert issued[CONVERT_PARTIAL] == HEADS * 3 * TOKENS * (TOKENS + 1) / 2


def test_blocks_of_every_partial_are_built() -> None:
    def areas(built: Head) -> dict[str, float]:
        return {b.component: b.area / 1.0375e-12 for b in built.footprints(1)}

    split = areas(Head(hardware().config, 64))
    joined = areas(Head(hardware(readout__model="charge_to_pulse").config, 64))
    lines = 128 * 3
    assert split["partial converters"] == pytest.approx(lines * 140)
    assert split["partial counters"] == pytest.approx(lines * 50)
    assert split["partial adders"] == pytest.approx(lines * 15)
    assert split["value pulse generators"] == pytest.approx(lines * 10)
    assert joined.keys() - split.keys() == {"converters"}
    assert split.keys() - joined.keys() == BLOCKS
    assert all(split[name] == joined[name] for name in split.keys() & joined.keys())
    twice = areas(Head(hardware(converter__buffers=2).config, 64))
    assert twice["partial converters"] == pytest.approx(2 * lines * 140)
    assert twice["partial counters"] == split["partial counters"]


def test_what_a_token_takes(result: Result, trace: Trace) -> None:
    assert result.latency["attention_ns"]["max"] == 65 + 15 + 10
    slow = archsim.simulate(trace, hardware(readout__add_time="30 ns"))
    assert slow.latency["attention_ns"]["max"] == 110
    assert slow.foundation["latency"]["user"] == pytest.approx(30 / 110)
    early = archsim.simulate(trace, hardware(controller__phases="early_end"))
    assert early.latency["attention_ns"]["max"] < 90
    assert early.energy_pj["digital"] < result.energy_pj["digital"]


@pytest.mark.parametrize("rows", [64, 128])
@pytest.mark.parametrize("levels", [2, 32])
def test_arrays_that_hold_all_features_have_nothing_to_split(
    trace: Trace, rows: int, levels: int
) -> None:
    """The same numbers, and what had no use is named."""
    split = archsim.simulate(trace, hardware(array__rows=rows, readout__partial_levels=levels))
    joined = archsim.simulate(trace, hardware(array__rows=rows, readout__model="charge_to_pulse"))
    here, there = (run.document(wall=False) for run in (split, joined))
    assert set(here.pop("unread_parameters")) == {
        "readout.partial_levels",
        "readout.partial_saturation_current",
        "readout.add_time",
        "readout.pulse_levels",
    }
    assert there.pop("unread_parameters") == []
    del here["hardware"], there["hardware"]
    assert here == there


def test_what_has_no_score_converters_reads_none_of_their_costs(result: Result) -> None:
    assert result.simulation.unread == [
        "converter.score.energy_per_conversion",
        "converter.score.area",
    ]


def test_charge_keeps_the_hash_from_before_there_was_a_choice() -> None:
    """So adapted models, and results in a store, stay those of the same hardware."""
    usual = archsim.load_hardware()
    assert usual.changed({"readout.model": "charge_to_pulse"}).sha256 == usual.sha256
    assert usual.sha256.startswith("6addf5752e08e14d")
    split = usual.changed({"readout.model": "digital_sum"})
    other = split.changed({"readout.pulse_levels": 4})
    assert len({usual.sha256, split.sha256, other.sha256}) == 3


def test_all_engines_print_the_same_numbers(trace: Trace) -> None:
    short = trace.select(tokens=30)
    for overrides in ({}, {"controller__phases": "early_end", "controller__pipelining": "stages"}):
        documents = [
            archsim.simulate(
                short, hardware(**overrides), prompt=20, engine=engine, detail=detail
            ).document(wall=False)
            for engine, detail in (("simpy", "full"), ("simpy", "contested"), ("fast", "contested"))
        ]
        assert documents[0] == documents[1] == documents[2]


def test_ages_from_the_simulated_clock_settle(trace: Trace) -> None:
    """V cells are read 25 ns later than with joined bit lines."""
    clocked = {"retention__model": "simulated", "retention__tau": "2 us"}
    run = archsim.simulate(trace, hardware(controller__phases="early_end", **clocked))
    assert 1 < run.function["passes"] < 20
    schedule = run.simulation.schedule
    assert (schedule.start["read_value"] >= schedule.end["add_partial"]).all()


@pytest.mark.parametrize("action", [CONVERT_PARTIAL, ADD_PARTIAL, COUNT_PARTIAL, PULSE_VALUES])
def test_books_of_partial_sums_are_checked(
    trace: Trace, action: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against what trace and hardware imply, not against themselves."""
    genuine = Ledger.post

    def forgetful(self: Ledger, what: Any, *rest: Any) -> None:
        if what != action:
            genuine(self, what, *rest)

    def inflated(self: Ledger, what: Any, energy: Any, done: float) -> None:
        genuine(self, what, energy, done * (1000 if what == action else 1))

    for post in (forgetful, inflated):
        monkeypatch.setattr(Ledger, "post", post)
        with pytest.raises(InvariantError, match=action.component):
            archsim.simulate(trace.select(tokens=3), hardware())


def test_a_schedule_without_the_partial_sums_would_be_noticed(
    trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from archsim import simulation

    def hasty(*arguments: Any, **options: Any) -> Any:
        schedule, why = genuine(*arguments, **options)
        end = {**schedule.end, "accumulate": schedule.end["accumulate"] - 1_000}
        return replace(schedule, end=end), why

    genuine = simulation.run
    monkeypatch.setattr(simulation, "run", hasty)
    with pytest.raises(InvariantError, match="faster than its own phases"):
        archsim.simulate(trace.select(tokens=3), hardware())


def test_an_explained_token_shows_the_two_stages(result: Result, trace: Trace) -> None:
    found = {phase.stage: phase for phase in explain(result, 40, 1, 0).phases}
    assert list(found)[2:6] == ["read_key", "count_partial", "add_partial", "read_value"]
    scalers = {name: (a[1], b[1]) for name, (a, b) in trace.scalers.items()}
    whole = archsim.attend(*trace.layer(1), hardware(), scalers, details=True)
    assert whole.partials is not None
    assert whole.pulse_widths is not None
    counted = found["count_partial"]
    assert counted.pulses == np.count_nonzero(whole.partials[0, 40])
    assert counted.pulse_ns is not None
    assert counted.pulse_ns[1] == pytest.approx(whole.activity.longest_partial[0, 40] * 15)
    assert found["read_value"].pulses == np.count_nonzero(whole.pulse_widths[0, 40])
    assert found["add_partial"].pulses is None
    assert "partial adders" in found["add_partial"].holds
    assert "value pulse generators" in found["read_value"].holds
    assert all(found[name].energy_pj > 0 for name in ("count_partial", "add_partial"))


def test_steps_of_the_pulse_made_again_fit_the_clock() -> None:
    with pytest.raises(ConfigError, match=r"readout.pulse_levels: a pulse step of 2.5 ns \(7 le"):
        hardware(readout__pulse_levels=7)
    assert hardware(readout__pulse_levels=7, readout__model="charge_to_pulse")
    assert hardware(readout__pulse_levels=None, converter__t_max="14.2 ns")


def test_without_levels_the_function_is_that_of_charge(trace: Trace) -> None:
    ideal = hardware(readout__partial_levels=None, readout__pulse_levels=None)
    here, there = (
        archsim.simulate(trace, each).function
        for each in (ideal, hardware(readout__model="charge_to_pulse"))
    )
    assert here["saturation"].pop("partial") == 0
    assert here["saturation"] == there["saturation"]
    assert here["sqnr_db"] == pytest.approx(there["sqnr_db"])


def test_partial_sums_beyond_their_range_are_reported(result: Result, trace: Trace) -> None:
    assert result.function["saturation"]["partial"] < 1e-3
    narrow = archsim.simulate(trace, hardware(readout__partial_saturation_current="4 uA"))
    assert narrow.function["saturation"]["partial"] > 0.3
    console = Console(width=80)
    with console.capture() as shown:
        console.print(function(narrow))
    share = narrow.function["saturation"]["partial"]
    assert f"put together from, {share:.1%}" in " ".join(shown.get().split()).replace(" %", "%")
