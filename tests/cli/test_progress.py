"""Long commands say where they are, without a terminal too: one mechanism for all."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import archsim
from archsim.cli import progress


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = progress.Lines(clock)
    for second in range(200):
        clock.now = 100.0 + second
        lines.tell("text: linear", second, 1200)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[:3] == [
        "text: linear, 10 of 1,200, 10 s",
        "text: linear, 40 of 1,200, 40 s",
        "text: linear, 70 of 1,200, 70 s",
    ]
    assert len(err.splitlines()) == 7
    clock.now = 9000.0
    lines.tell("writing", 0, 0)
    assert capsys.readouterr().err == "writing, 2.5 h\n"


def test_without_a_terminal_the_same_call_writes_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FIRST_S", 0.0)
    with progress.progress_bar() as report:
        report("scaler search", 1, 4)
        report("scaler search", 2, 4)
    assert capsys.readouterr().err == "scaler search, 1 of 4, 0 s\n"


@pytest.mark.parametrize(
    "command", ["simulate", "evaluate", "adapt", "validate", "baseline", "trace", "sweep"]
)
def test_every_long_command_uses_it(command: str) -> None:
    source = (Path(archsim.__file__).parent / "cli" / f"{command}.py").read_text()
    imported = {
        node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)
    }
    assert {"archsim.cli.progress", "archsim.cli.sweep_progress"} & imported


@pytest.mark.parametrize(
    "words",
    [
        ["sweep", "--vary", "window=32", "-o", "file/below"],
        ["trace", "record", "--model", "m", "--tokens", "t", "--length", "9", "-o", "file/below"],
        ["trace", "record", "--model", "m", "--tokens", "t", "--length", "9", "-o", "with space"],
        ["trace", "synth", "-o", "with space"],
        ["evaluate", "--vary", "window=32", "--plot", "file/below.svg"],
    ],
)
def test_an_output_that_cannot_be_is_refused_first(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is read: the model, the tokens and the store are not there at all."""
    from click.testing import CliRunner

    from archsim.cli import application

    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(application, words)
    assert isinstance(result.exception, archsim.ArchsimError), result.output
    expected = "trace name" if "with space" in words else "cannot be written"
    assert expected in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
