"""One token explained: the numbers are those of the run, and the pulses those of the datapath."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from archsim.api import attend, simulate
from archsim.datapath.attention import Precision
from archsim.errors import ConfigError
from archsim.hardware.load import load_hardware
from archsim.report.explain import explain, explanation_table
from archsim.report.terminal import show
from archsim.result import Result
from archsim.traces.trace import Trace


def test_phases_are_the_papers_65_ns(small_result: Result) -> None:
    found = explain(small_result, 70, layer=1, head=1)
    assert (found.slot, found.sub_tile, found.columns) == (70, 1, 71)
    assert found.attention_ns == 65.0
    origin = found.ready_ns
    assert origin == 70 * 130 + 65
    assert [(p.stage, p.start_ns - origin, p.end_ns - origin) for p in found.phases] == [
        ("write_key", 0, 10),
        ("write_value", 0, 10),
        ("read_key", 10, 25),
        ("read_value", 25, 40),
        ("count", 40, 55),
        ("accumulate", 55, 65),
    ]


def test_holds_what_earlier_stages_have_not_given_back(small_result: Result) -> None:
    holds = {phase.stage: set(phase.holds) for phase in explain(small_result, 3).phases}
    assert holds == {
        "write_key": {"token in flight", "K arrays", "K DACs"},
        "write_value": {"token in flight", "V arrays", "V DACs"},
        "read_key": {"token in flight", "K arrays", "converters", "pulse generators"},
        "read_value": {"token in flight", "V arrays", "converters", "signed converters"},
        "count": {"token in flight", "signed converters", "counters"},
        "accumulate": {"token in flight", "adder tree"},
    }


def test_energy_over_tokens_and_heads_is_the_runs(small_trace: Trace) -> None:
    hardware = load_hardware(overrides={"static.power_per_head": "1 mW"})
    result = simulate(small_trace.select(tokens=6), hardware)
    total = sum(
        explain(result, token, layer, head).energy_pj
        for token in range(6)
        for layer in range(2)
        for head in range(2)
    )
    assert total == pytest.approx(result.energy_pj["total"], rel=1e-12)


def test_pulses_are_those_of_the_whole_layer(small_result: Result, small_trace: Trace) -> None:
    """Cutting the trace after the token changes nothing before it."""
    token, layer, head = 80, 1, 0
    found = {phase.stage: phase for phase in explain(small_result, token, layer, head).phases}
    scalers = {name: (a[layer], b[layer]) for name, (a, b) in small_trace.scalers.items()}
    whole = attend(*small_trace.layer(layer), load_hardware(), scalers, details=True)
    assert whole.pulse_widths is not None
    assert whole.codes is not None
    score = whole.pulse_widths[head, token] * 15
    assert found["read_value"].pulses == np.count_nonzero(score)
    assert found["read_value"].pulse_ns == pytest.approx((score[score > 0].min(), score.max()))
    assert found["read_key"].pulses == whole.activity.query_pulses[head, token]
    assert found["read_key"].pulse_ns is not None
    assert found["read_key"].pulse_ns[1] == whole.activity.longest_query[head, token] * 15
    assert found["count"].pulses == np.count_nonzero(whole.codes[head, token])
    assert found["count"].pulse_ns is not None
    assert found["count"].pulse_ns[1] == whole.activity.longest_output[head, token] * 15
    assert found["write_key"].pulses is None


def test_early_end_stops_with_the_longest_pulse(small_trace: Trace) -> None:
    hardware = load_hardware(overrides={"controller.phases": "early_end"})
    result = simulate(small_trace.select(tokens=20), hardware)
    for token in range(20):
        for phase in explain(result, token, 1, 1).phases:
            if phase.pulse_ns is not None:
                assert phase.duration_ns - 1 < phase.pulse_ns[1] <= phase.duration_ns + 1e-9


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_cells_that_fade_by_the_clock_fill_their_phases(
    small_trace: Trace, precision: Precision
) -> None:
    """The pulses are those of the run: its own ages, its own longest. Without them some did not
    fit their phase."""
    overrides = {"controller.phases": "early_end", "retention.model": "simulated",
                 "retention.tau": "3 us"}  # fmt: skip
    hardware = load_hardware(overrides=overrides)
    result = simulate(small_trace.select(tokens=40), hardware, precision=precision)
    steady = simulate(small_trace.select(tokens=40), hardware.changed({"retention.model": "off"}))
    seen = differ = 0
    for token in range(40):
        phases = explain(result, token, 1, 1).phases
        for phase, other in zip(phases, explain(steady, token, 1, 1).phases, strict=True):
            if phase.pulse_ns is not None:
                assert phase.duration_ns - 1 < phase.pulse_ns[1] <= phase.duration_ns + 1e-9
                seen += 1
                differ += phase.pulse_ns != other.pulse_ns
    assert seen > 80
    assert differ > 20, "the cells faded"


def test_a_window_that_wrapped(small_trace: Trace) -> None:
    result = simulate(small_trace, load_hardware(overrides={"window": 80}))
    found = explain(result, 90)
    assert (found.slot, found.sub_tile, found.columns) == (10, 0, 80)


@pytest.mark.parametrize(
    ("place", "named"),
    [((96, 0, 0), "token 96"), ((-1, 0, 0), "token -1"), ((0, 2, 0), "layer 2"),
     ((0, 0, 2), "head 2"), ((0, -1, 0), "layer -1")],
)  # fmt: skip
def test_out_of_range(small_result: Result, place: tuple[int, int, int], named: str) -> None:
    with pytest.raises(ConfigError, match=f"explain: {named}: this run has"):
        explain(small_result, *place)


def test_table_fits_80_columns(
    small_trace: Trace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    hardware = load_hardware(overrides={"controller.pipelining": "stages"})
    result = simulate(small_trace, hardware, order="prefill")
    explanation = explain(result, 95, 1, 1)
    show(explanation_table(explanation))
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for phase in explanation.phases:
        assert f"\n{phase.stage} " in text
    widest = dataclasses.replace(explanation, ready_ns=123456789.0, queue_ns=98765.4)
    show(explanation_table(widest))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_document_is_json(small_result: Result) -> None:
    document = explain(small_result, 0).document()
    assert json.loads(json.dumps(document, allow_nan=False))["phases"][0]["stage"] == "write_key"
