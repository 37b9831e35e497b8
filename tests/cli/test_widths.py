"""Every quick command's tables at several widths, and standard output that is closed or full."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from archsim.cli import application
from archsim.report import terminal
from archsim.traces.synthetic import synthesise

COMMANDS = [
    "simulate -t TRACE --no-report",
    "simulate -t TRACE --no-report --explain 20 --prompt 30 --set controller.pipelining=stages",
    "trace info TRACE",
    "validate",
    "validate --gpu",
    "compare --gpu rtx-4090 -t TRACE",
    "compare --gpu rtx-4090 --scope model --protocol latency",
    "sweep -t TRACE --vary array.columns=16,64 --vary write_path.pulse=5ns..10ns:2 --workers 1 "
    "--no-report -q --best energy",
]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("widths") / "a-trace-with-quite-a-long-name"
    synthesise(2, 2, 40, seed=4, name="a-trace-with-quite-a-long-name").save(folder)
    return folder


def shown(words: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a command prints, before it knows how wide."""
    found: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr(terminal, "show", found.append)
        run = CliRunner().invoke(application, words, catch_exceptions=False)
    assert run.exit_code == 0, run.output
    assert found
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_values_are_never_cut(
    command: str,
    trace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(trace) if word == "TRACE" else word for word in command.split()]
    parts = shown(words, monkeypatch)
    texts = {}
    for width in ("200", "80", "60", "40", "0", "1"):
        monkeypatch.setenv("COLUMNS", width)
        capsys.readouterr()
        for part in parts:
            terminal.show(part)
        texts[width] = capsys.readouterr().out
        assert "…" not in texts[width]
        laid_out = int(width) if int(width) >= 40 else {"0": 80, "1": 40}[width]
        assert max(map(len, texts[width].splitlines())) <= laid_out
    assert texts["0"] == texts["80"]
    assert texts["1"] == texts["40"]
    for width in ("80", "60", "40"):
        there = set(texts[width].replace(":", " ").split())
        folded = "".join(texts[width].split())  # a long name may be broken, never a number
        for word in texts["200"].replace(":", " ").split():
            assert word in there or (len(word) > 16 and word in folded), (width, word)


@pytest.mark.parametrize(
    "command", ["simulate -t TRACE --no-report --json", "trace info TRACE --json", "config show"]
)
def test_documents_do_not_depend_on_the_width(command: str, trace: Path) -> None:
    words = [str(trace) if word == "TRACE" else word for word in command.split()]
    texts = [
        CliRunner(env={"COLUMNS": width}).invoke(application, words).output
        for width in ("40", "200")
    ]
    if "--json" in words:
        documents = [json.loads(text) for text in texts]
        for document in documents:
            document.pop("wall_s", None)
        assert documents[0] == documents[1]
    else:
        assert texts[0] == texts[1]


def shell(line: str) -> subprocess.CompletedProcess[str]:
    script = f"{sys.executable} -m archsim {line}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", ["config list", "--help"])
def test_a_closed_output_is_one_line(command: str) -> None:
    run = shell(f"{command} >&-")
    assert run.returncode == 2
    assert run.stderr.splitlines() == [
        "error: standard output is closed; > /dev/null if it is not wanted"
    ]


def test_a_closed_or_full_error_output_changes_no_result_and_no_exit_code() -> None:
    expected = shell("config list").stdout
    closed = shell("config list 2>&-")
    assert (closed.returncode, closed.stdout) == (0, expected)
    for where in ("2>&-", "2>/dev/full"):
        assert shell(f"config show absent.yaml {where}").returncode == 2


def test_a_width_of_nothing_prints_all(trace: Path) -> None:
    """The issue's symptom: COLUMNS=0 printed nothing and ended with 0."""
    texts = [
        CliRunner(env={"COLUMNS": width}).invoke(application, ["trace", "info", str(trace)]).output
        for width in ("0", "80")
    ]
    assert texts[0] == texts[1]
    assert "a-trace-with-quite-a-long-name" in texts[0]
