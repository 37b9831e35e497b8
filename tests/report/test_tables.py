"""Terminal tables: they fit 80 columns, say what they include, and print what the result holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from archsim.api import simulate
from archsim.hardware.load import load_hardware
from archsim.report.formats import number, percent
from archsim.report.tables import summary
from archsim.report.terminal import show
from archsim.result import Result
from archsim.traces.trace import Trace

Printed = Callable[[Result], str]

MODES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "pipelined prefill": ({"controller.pipelining": "stages"}, {"order": "prefill"}),
    "prompt, shared, early end": (
        {
            "controller.pipelining": "stages",
            "controller.phases": "early_end",
            "write_path.heads_per_driver": 2,
            "static.power_per_head": "1 mW",
        },
        {"prompt": 40},
    ),
}


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Printed:
    """Prints a result at 80 columns and returns the text."""
    monkeypatch.setenv("COLUMNS", "80")

    def text(result: Result) -> str:
        show(summary(result))
        return capsys.readouterr().out

    return text


@pytest.mark.parametrize("mode", MODES)
def test_fits_80_columns_and_has_no_escape_codes(
    printed: Printed, mode: str, small_trace: Trace
) -> None:
    overrides, arguments = MODES[mode]
    text = printed(simulate(small_trace, load_hardware(overrides=overrides), **arguments))
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert text.isascii()
    assert "..." not in text
    assert "…" not in text
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_the_boundary_comes_before_every_total(printed: Printed, small_result: Result) -> None:
    text = printed(small_result)
    assert text.index("outside   projections, MLP, LayerNorm") < text.index("Headline")
    assert text.index("Headline") < text.index("pJ")
    assert "q 128, k 96, v 96 in; y 512 out" in text


def test_energy_lines_sum_to_the_total(printed: Printed, small_result: Result) -> None:
    text = printed(small_result)
    section = text[text.index("Energy, pJ") :].split("\n\n")[0].splitlines()[1:]
    total_at = next(i for i, line in enumerate(section) if line.startswith("total"))
    assert re.search(
        r"one assumed cost at its low or high +[\d,.]+-[\d,.]+$", section[total_at + 1]
    )
    section = section[: total_at + 1]
    rows = [re.match(r"(\s*)(.*?)\s{2,}([\d.,]+)", line) for line in section]
    values = [(row[1], row[2], float(row[3].replace(",", ""))) for row in rows if row]
    buckets = [value for indent, name, value in values if not indent and name != "total"]
    components = [value for indent, _, value in values if indent]
    total = next(value for _, name, value in values if name == "total")
    assert sum(buckets) == pytest.approx(total, rel=1e-3)
    assert sum(components) == pytest.approx(total, rel=1e-3)
    assert {"static", "refresh"} <= {name for _, name, _ in values}  # shown even when zero


def test_static_power_is_a_line_of_its_own(printed: Printed, small_trace: Trace) -> None:
    hardware = load_hardware(overrides={"static.power_per_head": "1 mW"})
    text = printed(simulate(small_trace, hardware))
    assert re.search(r"^static +130 +[\d.]+ % +user$", text, re.MULTILINE)  # 1 mW x 12,480 ns / 96


def test_time_to_first_token_only_after_a_prompt(printed: Printed, small_trace: Trace) -> None:
    hardware = load_hardware()
    assert "first token" not in printed(simulate(small_trace, hardware))
    assert "40 prompt tokens" in printed(simulate(small_trace, hardware, prompt=40))


def test_published_figures_stand_beside_ours(printed: Printed, small_result: Result) -> None:
    text = printed(small_result)
    assert re.search(r"attention of one token, one layer, mean +65 ns +65 ns", text)
    assert re.search(r"energy of one token in one head +[\d,]+ pJ +6,150 pJ", text)
    assert re.search(r"area of one head +0.5 mm\^2 +0.5 mm\^2", text)


def test_every_layer_has_a_function_row(printed: Printed, small_result: Result) -> None:
    text = printed(small_result)
    for layer, found in enumerate(small_result.function["layers"]):
        assert re.search(rf"^layer {layer} +{found['sqnr_db']:.1f} ", text, re.MULTILINE)


def test_unread_parameters_are_named(printed: Printed, small_trace: Trace) -> None:
    result = simulate(small_trace.select(tokens=2), load_hardware())
    assert "Not read" not in printed(result)
    result.simulation.unread.append("cell.colour")
    assert "Not read by this run: cell.colour" in printed(result)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (65.0, "65"),
        (6150.4, "6,150"),
        (1234567.0, "1,234,567"),
        (0.51843, "0.5184"),
        (0.99999, "1"),
        (9999.96, "10,000"),
        (3.2e-7, "3.2e-07"),
        (-12.5, "-12.5"),
        (100.0, "100"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0.0 %"), (1e-9, "<0.1 %"), (0.0005, "0.1 %"), (1.0, "100.0 %")]
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text
