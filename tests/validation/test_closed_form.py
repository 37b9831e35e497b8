"""The closed-form estimate: exact where nothing varies and nothing waits."""

from __future__ import annotations

from typing import Any

import pytest

import archsim
from archsim.errors import ConfigError
from archsim.simulation import simulate_trace
from archsim.traces.trace import Trace
from studies.closed_form import CLOSING, OPENING, estimate, estimated_energy, main


@pytest.mark.parametrize(
    ("overrides", "order"),
    [
        ({}, "generate"),
        ({}, "prefill"),
        ({"controller.pipelining": "stages"}, "prefill"),
        ({"controller.pipelining": "stages", "converter.buffers": 2}, "prefill"),
        ({"controller.layer_gap": "7 ns", "controller.token_gap": "3 ns"}, "generate"),
    ],
)
def test_exact_where_nothing_varies(
    small_trace: Trace, overrides: dict[str, Any], order: str
) -> None:
    simulation = simulate_trace(
        small_trace, archsim.load_hardware(overrides=overrides), order=order
    )
    found = estimate(simulation.declaration)
    assert found.makespan == simulation.schedule.makespan
    joules = sum(posting.total for posting in simulation.ledger)
    assert estimated_energy(simulation, found) == pytest.approx(joules, rel=1e-9)


def test_too_short_behind_a_full_buffer(small_trace: Trace) -> None:
    overrides = {
        "controller.pipelining": "stages",
        "controller.layer_buffer": 1,
        "controller.layer_gap": "300 ns",
    }
    simulation = simulate_trace(
        small_trace, archsim.load_hardware(overrides=overrides), order="prefill"
    )
    assert estimate(simulation.declaration).makespan < 0.5 * simulation.schedule.makespan


def test_the_page_is_renewed_between_its_marks(
    tmp_path: Any, small_trace_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{OPENING}old\n{CLOSING}after\n", encoding="utf-8")
    main(["-o", str(page), "-t", str(small_trace_folder)])
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{OPENING}")
    assert text.endswith(f"{CLOSING}after\n")
    assert "old" not in text
    assert "| generate |" in text
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ConfigError, match="nothing stands between"):
        main(["-o", str(page), "-t", str(small_trace_folder)])
    assert page.read_text(encoding="utf-8") == "no marks"
