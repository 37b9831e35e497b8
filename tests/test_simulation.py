"""Whole runs: the books balance, sums agree, and what is checked would be caught."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import archsim
from archsim.chip.action import Action
from archsim.errors import ConfigError, InvariantError
from archsim.ledger import Ledger
from archsim.result import Result
from archsim.simulation import busy_time
from archsim.timing.analysis import leaving
from archsim.traces.trace import Trace


@pytest.fixture(scope="module")
def trace() -> Trace:
    return Trace.from_arrays(*np.random.default_rng(0).normal(0, 1, (3, 2, 3, 100, 64)), "fit")


@pytest.fixture(scope="module")
def result(trace: Trace) -> Result:
    return archsim.simulate(trace, archsim.load_hardware())


def test_energy_is_the_sum_over_components_events_and_buckets(result: Result) -> None:
    ledger = result.simulation.ledger
    events = sum(float(posting.energy.sum()) for posting in ledger)
    assert sum(ledger.by_component().values()) == pytest.approx(events, rel=1e-12)
    assert sum(ledger.by_bucket().values()) == pytest.approx(events, rel=1e-12)
    total = result.energy_pj["total"]
    assert total == pytest.approx(events * 1e12, rel=1e-12)
    assert total == sum(value for key, value in result.energy_pj.items() if key != "total")
    assert set(result.energy_pj) == {"qk", "sv", "digital", "dac", "static", "refresh", "total"}


def test_static_power_is_charged_for_the_whole_run(trace: Trace) -> None:
    hardware = archsim.load_hardware(overrides={"static.power_per_head": "2 mW"})
    run = archsim.simulate(trace, hardware)
    seconds = run.latency["total_ns"] * 1e-9
    assert run.energy_pj["static"] == pytest.approx(2e-3 * 6 * seconds * 1e12)


def test_latency_of_the_default_run(result: Result) -> None:
    assert result.latency["attention_ns"] == {"mean": 65.0, "p50": 65.0, "p99": 65.0, "max": 65.0}
    assert result.latency["token_ns"]["max"] == 130.0
    assert result.latency["queue_ns"]["max"] == 0.0
    assert result.latency["total_ns"] == 100 * 130.0
    assert result.throughput["initiation_interval_ns"] == 130.0


def test_prefill_pipelines_layers_and_prompt_splits_the_two(trace: Trace) -> None:
    hardware = archsim.load_hardware(overrides={"controller.pipelining": "stages"})
    prefill = archsim.simulate(trace, hardware, order="prefill")
    assert prefill.throughput["initiation_interval_ns"] == pytest.approx(30.0)
    assert prefill.bottleneck["resource"] == "converters"
    mixed = archsim.simulate(trace, hardware, prompt=40)
    assert mixed.generation["generated_tokens"] == 60
    assert mixed.generation["time_to_first_token_ns"] == pytest.approx(
        leaving(prefill.simulation.schedule)[39] * 1e-3
    )
    assert mixed.generation["time_per_token_ns"] == 130.0


def test_words_of_time_add_up(trace: Trace) -> None:
    """Queue + attention over the layers is the token's time when there are no gaps."""
    hardware = archsim.load_hardware(
        overrides={"write_path.heads_per_driver": 3, "controller.phases": "early_end"}
    )
    s = archsim.simulate(trace, hardware).simulation.schedule
    waited = s.start["write_key"] - s.ready[:, :, None]
    took = s.end["accumulate"] - s.start["write_key"]
    assert np.array_equal((waited + took).max(axis=2).sum(axis=1), leaving(s) - s.ready[:, 0])
    assert (waited >= 0).all()


def test_busy_time_counts_every_instant_once(trace: Trace) -> None:
    hardware = archsim.load_hardware(overrides={"controller.pipelining": "stages"})
    s = archsim.simulate(trace, hardware, order="prefill").simulation.schedule
    busy = busy_time(s)
    assert (busy >= 0).all()
    span = s.end["accumulate"].max(axis=0) - s.start["write_key"].min(axis=0)
    assert np.array_equal(busy.sum(axis=0), span)  # a full pipeline is never empty


def test_early_end_is_faster_and_spends_less_in_control(trace: Trace, result: Result) -> None:
    early = archsim.simulate(
        trace, archsim.load_hardware(overrides={"controller.phases": "early_end"})
    )
    assert early.latency["attention_ns"]["mean"] < 65.0
    assert early.energy_pj["digital"] < result.energy_pj["digital"]
    for bucket in ("qk", "sv", "dac"):
        assert early.energy_pj[bucket] == pytest.approx(result.energy_pj[bucket])


def test_same_input_gives_the_same_document(trace: Trace, result: Result) -> None:
    again = archsim.simulate(trace, archsim.load_hardware())
    assert again.document(wall=False) == result.document(wall=False)


def test_events_do_not_depend_on_the_schedule(trace: Trace, result: Result) -> None:
    other = archsim.simulate(trace, archsim.load_hardware(), order="prefill")
    assert other.document()["events"] == result.document()["events"] > 0


def test_engines_print_the_same_numbers(trace: Trace) -> None:
    """What a user reads does not depend on how the schedule was computed."""
    for overrides in ({}, {"controller.phases": "early_end", "write_path.heads_per_driver": 2}):
        hardware = archsim.load_hardware(overrides=overrides)
        short = trace.select(tokens=40)
        documents = [
            archsim.simulate(short, hardware, prompt=30, engine=engine, detail=detail).document()
            for engine, detail in (
                ("simpy", "full"),
                ("simpy", "contested"),
                ("fast", "contested"),
                ("auto", "contested"),
            )
        ]
        engines = [d.pop("engine").removesuffix(" (compiled)") for d in documents]
        assert engines == ["simpy full", "simpy", "fast", "fast"]
        events = [d.pop("engine_events") for d in documents]
        assert events[0] > 8 * events[1] > events[2] == 0
        for document in documents:
            del document["engine_reason"], document["wall_s"]
            assert document == documents[0]


def test_auto_falls_back_to_events_and_says_why(trace: Trace) -> None:
    hardware = archsim.load_hardware(overrides={"controller.heads_in_parallel": 2})
    document = archsim.simulate(trace.select(tokens=5), hardware).document()
    assert document["engine"] == "simpy"
    assert "heads in parallel" in document["engine_reason"]
    with pytest.raises(ConfigError, match="fast engine cannot"):
        archsim.simulate(trace.select(tokens=5), hardware, engine="fast")


def test_gated_converters_save_energy_until_the_window_is_full(trace: Trace) -> None:
    gated = archsim.simulate(
        trace, archsim.load_hardware(overrides={"controller.gate_unwritten": True})
    )
    by_component = gated.simulation.ledger.by_component()
    columns = 100 * 101 / 2 * 6
    assert by_component["converters"] == pytest.approx(columns * 0.1737e-12)


def test_peak_power_is_at_least_the_average(result: Result) -> None:
    rates = result.throughput
    assert rates["peak_power_mw"] >= rates["average_power_mw"] > 0


def test_foundation_shares_sum_to_one_and_name_the_assumed(result: Result) -> None:
    for shares in result.foundation.values():
        assert sum(shares.values()) == pytest.approx(1.0)
    assert result.foundation["latency"]["assumed"] == pytest.approx(20 / 65)


def test_a_parameter_the_user_set_counts_as_the_users(trace: Trace) -> None:
    run = archsim.simulate(trace, archsim.load_hardware(overrides={"write_path.pulse": "5 ns"}))
    assert run.foundation["latency"]["user"] == pytest.approx(5 / 60)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"cell.model": "linear"},
        {"retention.model": "off"},
        {"write_path.heads_per_driver": 2, "accumulator.heads_per_adder": 2},
        {"levels.query": None, "levels.output": None},
    ],
)
def test_no_parameter_goes_unread(trace: Trace, overrides: dict[str, Any]) -> None:
    run = archsim.simulate(trace.select(tokens=5), archsim.load_hardware(overrides=overrides))
    assert run.simulation.unread == []


def test_a_window_smaller_than_the_trace_wraps(trace: Trace) -> None:
    run = archsim.simulate(trace, archsim.load_hardware(overrides={"window": 30}))
    assert run.operations == 4 * (30 * 31 // 2 + 70 * 30) * 64 * 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"order": "backwards"}, "generate or prefill"),
        ({"prompt": 0}, "prompt 0"),
        ({"prompt": 101}, "prompt 101"),
        ({"prompt": 5, "order": "prefill"}, "leave out"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    trace: Trace, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        archsim.simulate(trace, archsim.load_hardware(), **arguments)


@pytest.mark.parametrize(("rows", "built"), [(16, 64), (24, 72), (32, 64), (128, 128)])
def test_arrays_of_another_height_hold_the_same_vectors(
    trace: Trace, rows: int, built: int
) -> None:
    """Time, function and energy are those of 64 rows; what is built is what covers 64 features."""
    here = archsim.simulate(trace, archsim.load_hardware(overrides={"array.rows": rows}))
    usual = archsim.simulate(trace, archsim.load_hardware())
    assert here.function == usual.function
    assert here.latency == usual.latency
    assert here.energy_pj == usual.energy_pj
    tiles = here.area_mm2["components"]
    for name, area in usual.area_mm2["components"].items():
        per_row = name not in {"converters", "controller"}
        assert tiles[name] == pytest.approx(area * (built / 64 if per_row else 1)), name


def test_a_component_that_does_not_post_is_noticed(
    trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The books are checked against what the trace implies, not against themselves."""
    from archsim import simulation
    from archsim.chip.converter import CONVERT_OUTPUT
    from archsim.chip.write_path import CONVERT_KEYS

    genuine = Ledger.post
    for action in (CONVERT_OUTPUT, CONVERT_KEYS):

        def forgetful(self: Ledger, what: Action, *rest: Any, lost: Action = action) -> None:
            if what != lost:
                genuine(self, what, *rest)

        monkeypatch.setattr(Ledger, "post", forgetful)
        with pytest.raises(InvariantError, match=action.label):
            simulation.simulate_trace(trace.select(tokens=3), archsim.load_hardware())

    def twice(self: Ledger, what: Action, energy: Any, operations: float) -> None:
        genuine(self, what, energy, 2 * operations)

    monkeypatch.setattr(Ledger, "post", twice)
    with pytest.raises(InvariantError, match="operations issued"):
        simulation.simulate_trace(trace.select(tokens=3), archsim.load_hardware())


def test_peak_power_of_one_token_counts_static_power_once(trace: Trace) -> None:
    hardware = archsim.load_hardware(overrides={"static.power_per_head": "1 W"})
    rates = archsim.simulate(trace.select(tokens=1), hardware).throughput
    assert 6_000 < rates["average_power_mw"] < rates["peak_power_mw"] < 7_000


def test_an_override_that_changes_nothing_is_reported(trace: Trace) -> None:
    hardware = archsim.load_hardware(overrides={"retention.tau": "1 s"})
    run = archsim.simulate(trace.select(tokens=2), hardware)
    assert run.simulation.unread == ["retention.tau"]


def test_ledger_refuses_what_cannot_be() -> None:
    action = Action("x", "y", "qk", "count", ())
    for bad in (np.array([-1.0]), np.array([np.nan]), np.array([np.inf])):
        with pytest.raises(InvariantError, match="negative or not finite"):
            Ledger().post(action, bad, 1)
    ledger = Ledger()
    ledger.post(action, np.ones(3), 3)
    with pytest.raises(InvariantError, match="twice"):
        ledger.post(action, np.ones(3), 3)
    assert ledger.events == 3
    assert ledger.check_balance() == 3.0
