"""``archsim trace`` as a user runs it: output, exit codes, nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from traces.tiny_gpt2 import TEXT, write_tiny_gpt2

from archsim.cli.trace import command
from archsim.errors import ConfigError
from archsim.traces.folder import default_trace_name
from archsim.traces.trace import load_trace


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with a model, a text and a file of token ids."""
    write_tiny_gpt2(tmp_path / "tiny")
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "ids.json").write_text("[1, 2, 3, 4]")
    return tmp_path


def record(inputs: Path, *more: str, source: tuple[str, str] = ("--text", "text.txt")) -> Result:
    option, file = source
    arguments = ["record", "--model", str(inputs / "tiny"), option, str(inputs / file), *more]
    return CliRunner().invoke(command, arguments)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, at 80 columns."""
    return subprocess.run(
        [sys.executable, "-m", "archsim", "trace", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "80", "NO_COLOR": "1"},
        timeout=120,
        check=False,
    )


def test_record_then_info(inputs: Path) -> None:
    out = inputs / "out"
    result = record(inputs, "--length", "20", "--skip-tokens", "1", "-o", str(out), "--name", "a")
    assert result.exit_code == 0, result.output
    assert "2 layers x 4 heads x 20 tokens x 4, float16" in result.stdout
    assert result.stderr == ""
    trace = load_trace(out)
    assert trace.name == "a"
    assert trace.content.skipped_tokens == 1
    assert trace.environment is not None
    assert trace.environment.command == (
        "archsim trace record --model tiny --text text.txt --length 20 --skip-tokens 1"
    )
    shown = run("info", out)
    assert shown.returncode == 0
    assert shown.stderr == ""
    assert max(map(len, shown.stdout.splitlines())) <= 80
    for expected in (trace.sha256, trace.content.sha256(), "tiny", "float16", "saturated"):
        assert expected in shown.stdout
    assert f"{float(trace.q.min()):.4g}" in shown.stdout


def test_json_is_one_document_and_nothing_else(inputs: Path) -> None:
    out = inputs / "out"
    arguments = ("--length", "3", "-o", str(out), "--json", "--dtype", "float32")
    result = record(inputs, *arguments, source=("--tokens", "ids.json"))
    document: dict[str, Any] = json.loads(result.stdout)
    assert document["folder"] == str(out)
    shown = json.loads(CliRunner().invoke(command, ["info", str(out), "--json"]).stdout)
    assert {**shown, "folder": str(out)} == document
    trace = load_trace(out)
    assert shown["schema_version"] == 1
    assert shown["manifest"]["content"]["dtype"] == "float32"
    assert shown["manifest"] == json.loads((out / "manifest.json").read_text())
    assert shown["tensors"]["v"]["max"] == float(trace.v.max())
    assert shown["tensors"]["k"]["std"] == pytest.approx(float(trace.k.std()), rel=1e-5)
    assert shown["scalers"]["q"]["a_max"] == float(trace.scalers["q"][0].max())


def test_existing_traces_need_force(inputs: Path) -> None:
    out = inputs / "out"
    assert record(inputs, "--length", "3", "-o", str(out)).exit_code == 0
    before = load_trace(out).sha256
    again = record(inputs, "--length", "4", "-o", str(out))
    assert isinstance(again.exception, ConfigError)
    assert load_trace(out).sha256 == before
    assert record(inputs, "--length", "4", "-o", str(out), "--force").exit_code == 0
    assert load_trace(out).tokens == 4


def test_info_without_a_path_takes_the_default_trace(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = inputs / default_trace_name()
    record(inputs, "--length", "3", "-o", str(default))
    monkeypatch.setattr("archsim.traces.folder.data_folder", lambda name: inputs)
    result = CliRunner().invoke(command, ["info"])
    assert result.exit_code == 0
    assert load_trace(default).sha256 in result.stdout


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--length", "3"), 2, "give --text FILE or --tokens FILE.json, one of the two"),
        (("--text", "text.txt"), 2, "Missing option '--length'"),
        (("--text", "text.txt", "--length", "x"), 2, "'x' is not a valid integer"),
        (("--text", "text.txt", "--length", "0"), 2, "length 0: must be at least 1"),
        (("--text", "text.txt", "--length", "999"), 2, "length 999: only"),
        (("--text", "absent.txt", "--length", "3"), 2, "absent.txt: cannot be read"),
        (("--text", "text.txt", "--length", "3", "--name", "a b"), 2, "trace name 'a b'"),
        (("--text", "text.txt", "--length", "3", "--description", "\x1b[31m"), 2, "description"),
        (("--text", "tiny/model.safetensors", "--length", "3"), 2, "not UTF-8 text"),
        (("--tokens", "text.txt", "--length", "3"), 2, "not JSON"),
        (("--tokens", "ids.json", "--length", "5"), 2, "only 4 tokens there"),
        (("--tokens", "ids.json", "--length", "3", "--model", "absent"), 2, "no such folder"),
        (("--tokens", "ids.json", "--length", "3", "--model", "broken"), 4, "truncated"),
    ],
)
def test_bad_requests_give_one_line_and_write_nothing(
    inputs: Path,
    options: tuple[str, ...],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_tiny_gpt2(inputs / "broken")
    weights = inputs / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    monkeypatch.chdir(inputs)
    result = run("record", "--model", "tiny", "-o", "out", *options)
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    first, *rest = result.stderr.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert all(line.startswith("try: ") for line in rest)
    assert not (inputs / "out").exists()


def test_exit_codes_of_info(inputs: Path) -> None:
    out = inputs / "out"
    record(inputs, "--length", "3", "-o", str(out))
    data = bytearray((out / "trace.safetensors").read_bytes())
    data[-1] ^= 1
    (out / "trace.safetensors").write_bytes(data)
    for path, code, message in (
        (out, 4, "tampered or damaged"),
        (inputs / "absent", 2, "no such trace folder"),
        ("refrence-x", 2, "no trace named 'refrence-x'"),
    ):
        result = run("info", path)
        assert result.returncode == code
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        assert message in result.stderr


def test_missing_tokenizers_package_is_exit_3(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inputs / "path").mkdir()
    (inputs / "path" / "tokenizers.py").write_text("raise ImportError('blocked')\n")
    monkeypatch.setenv("PYTHONPATH", str(inputs / "path"))
    more = ("--text", inputs / "text.txt", "--length", "3", "-o", inputs / "out")
    result = run("record", "--model", inputs / "tiny", *more)
    assert result.returncode == 3
    assert "pip install 'archsim[text]'" in result.stderr
    assert not (inputs / "out").exists()


def test_an_unwritable_output_is_exit_2(inputs: Path) -> None:
    more = ("--text", inputs / "text.txt", "--length", "3", "-o", inputs / "text.txt" / "out")
    result = run("record", "--model", inputs / "tiny", *more)
    assert result.returncode == 2
    assert "cannot be written" in result.stderr
