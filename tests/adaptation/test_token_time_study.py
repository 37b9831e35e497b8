"""The study page: made by one command, every figure one that the tool computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim.comparison.hardware import compare_whole_model
from archsim.errors import ConfigError
from archsim.gpu.file import load_gpu
from archsim.hardware.load import load_hardware
from archsim.models.adapted import adapted_hardware
from studies import token_time as token_time_study
from studies.token_time import CLOSING, OPENING, main, make_study


def test_page_is_made_of_computed_figures(adapted_folder: Path, text: str, tmp_path: Path) -> None:
    page, unseen = tmp_path / "page.md", tmp_path / "unseen.txt"
    page.write_text(f"before\n\n{OPENING}\nwhat stood here\n{CLOSING}\n\nafter\n")
    unseen.write_text(text)
    config = tmp_path / "full-window.yaml"  # GPUs were measured at 1,024 tokens
    config.write_text("extends: gaincell-28nm\narray: {rows: 8}\n")
    words = ["-o", page, "-c", config, "--model", adapted_folder, "--text", unseen]
    main([str(word) for word in [*words, "--windows", 1]])
    shown = page.read_text()
    assert shown.startswith("before\n")
    assert shown.endswith("after\n")
    assert "what stood here" not in shown
    rows = compare_whole_model(load_hardware(config), [load_gpu("h100-sxm")]).rows
    measured = next(row for row in rows if row.source == "measured" and row.batch == 1)
    line = f"| whole token, weights streamed | {measured.latency_us:,.4g} | "
    line += f"{measured.accelerator_latency_us:,.4g} | {measured.speedup:.2f}x | "
    line += f"{measured.energy_ratio:,.0f}x |"
    assert line in shown
    moved = f"| H100 SXM with its attention moved here | {measured.moved_latency_us:,.4g} |"
    assert shown.count(moved) == 2


def test_page_in_the_docs_has_todays_marks_and_no_numbers_of_its_own() -> None:
    page = Path(__file__).parents[2] / "docs" / "studies" / "token-time.md"
    before, found, rest = page.read_text().partition(OPENING)
    _, ended, after = rest.partition(CLOSING)
    assert found
    assert ended
    digits = [line for line in (before + after).splitlines() if any(c.isdigit() for c in line)]
    assert digits == []


def test_a_gpu_without_a_measured_token_is_refused(
    adapted_folder: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardware = load_hardware(adapted_hardware(adapted_folder))
    monkeypatch.setattr(token_time_study, "measure_tolerances", lambda *_, **__: None)
    with pytest.raises(ConfigError, match="RTX 4090: no whole token was measured at window 48"):
        make_study(adapted_folder, hardware, text, "", 1, load_gpu("rtx-4090"))
