"""``archsim simulate`` as a user runs it: output, exit codes, one line on bad input, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from archsim.cli import COMMANDS, main


@dataclass(frozen=True)
class Run:
    """What one command line printed, and its exit code."""

    code: int
    out: str
    err: str


Archsim = Callable[..., Run]


@pytest.fixture
def archsim(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Archsim:
    """Runs a command line in this process, at 80 columns, in an empty folder."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Run:
        monkeypatch.setattr(sys, "argv", ["archsim", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as status:
            code = int(status.code or 0)
        printed = capsys.readouterr()
        return Run(code, printed.out, printed.err)

    return run


def process(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "archsim", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"COLUMNS": "80"},
        timeout=120,
        check=False,
    )


def test_tables_and_files(archsim: Archsim, small_trace_folder: Path, tmp_path: Path) -> None:
    run = archsim("simulate", "-t", small_trace_folder)
    assert run.code == 0
    assert run.err == ""
    lines = run.out.splitlines()
    assert max(map(len, lines)) <= 80
    (folder,) = (tmp_path / "reports").iterdir()
    assert lines[-1] == f"written to reports/{folder.name}"
    assert folder.name.startswith("gaincell-28nm-small-")
    assert (folder / "result.json").is_file()


def test_json_is_one_document_and_no_files(
    archsim: Archsim, small_trace_folder: Path, tmp_path: Path
) -> None:
    run = archsim("simulate", "-t", small_trace_folder, "--json")
    document = json.loads(run.out)
    assert (run.code, run.err) == (0, "")
    assert document["schema_version"] == 1
    assert document["latency"]["attention_ns"]["mean"] == 65.0
    assert "explanation" not in document
    assert list(tmp_path.iterdir()) == []


def test_json_with_a_folder_writes_both(
    archsim: Archsim, small_trace_folder: Path, tmp_path: Path
) -> None:
    run = archsim("simulate", "-t", small_trace_folder, "--json", "-o", "out", "--explain", "3")
    document = json.loads(run.out)
    assert document.pop("explanation")["token"] == 3
    for varying in ("wall_s", "engine", "engine_reason", "engine_events"):
        del document[varying]
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == document


def test_no_report(archsim: Archsim, small_trace_folder: Path, tmp_path: Path) -> None:
    run = archsim("simulate", "-t", small_trace_folder, "--no-report")
    assert run.code == 0
    assert "written" not in run.out
    assert list(tmp_path.iterdir()) == []


def test_options_reach_the_run(archsim: Archsim, small_trace_folder: Path) -> None:
    run = archsim(
        "simulate", "-t", small_trace_folder, "--json", "-c", "gaincell-28nm-window256",
        "--tokens", "20", "--layers", "1:2", "--prompt", "8",
        "--set", "controller.pipelining=stages", "--set", "write_path.pulse=20 ns",
    )  # fmt: skip
    document = json.loads(run.out)
    assert document["hardware"]["name"] == "gaincell-28nm-window256"
    assert (document["trace"]["layers"], document["trace"]["tokens"]) == (1, 20)
    assert document["generation"]["prompt_tokens"] == 8
    assert document["generation"]["generated_tokens"] == 12
    assert document["generation"]["time_per_token_ns"] == 75.0
    assert document["foundation"]["latency"]["user"] > 0


def test_prefill_is_faster_with_pipelining(archsim: Archsim, small_trace_folder: Path) -> None:
    common = ("simulate", "-t", small_trace_folder, "--json", "--order", "prefill")
    one = json.loads(archsim(*common).out)["latency"]["total_ns"]
    many = json.loads(archsim(*common, "--set", "controller.pipelining=stages").out)
    assert many["latency"]["total_ns"] < one


def test_explain_follows_the_tables(archsim: Archsim, small_trace_folder: Path) -> None:
    run = archsim(
        "simulate", "-t", small_trace_folder, "--no-report", "--explain", "9",
        "--explain-head", "1:0",
    )  # fmt: skip
    assert run.code == 0
    assert "\nToken 9 in layer 1, head 0: slot 9 of sub-tile 0, 10 columns" in run.out
    assert run.out.index("Rests on") < run.out.index("Token 9")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "windw=3"], "unknown key 'windw'; did you mean 'window'?"),
        (["--set", "window"], "write key.path=value"),
        (["--set", "cell.area=3 kg"], "'3 kg' has the wrong unit"),
        (["--set", "cell.area=3"], "give a number with a unit"),
        (["--set", "controller.clock=2.5 GHz"], "whole number of clock edges"),
        (["-c", "nope.yaml"], "nope.yaml: no such config file"),
        (["-c", "gaincell-28mn"], "did you mean 'gaincell-28nm'?"),
        (["--tokens", "0"], "tokens 0: trace small has 1 to 96 tokens"),
        (["--tokens", "-1"], "tokens -1: trace small has 1 to 96 tokens"),
        (["--tokens", "1000000000"], "tokens 1000000000: trace small has"),
        (["--tokens", "9" * 5000], "Invalid value for '--tokens'"),
        (["--tokens", "1.5"], "is not a valid integer"),
        (["--layers", "3:1"], "layers 3:1: trace small has layers 0 to 1"),
        (["--layers", "1:1"], "layers 1:1"),
        (["--layers", "0:3"], "layers 0:3"),
        (["--layers", "2"], "--layers '2': write A:B"),
        (["--layers", "-1:2"], "--layers '-1:2': write A:B"),
        (["--layers", "9" * 5000 + ":1"], "write A:B"),
        (["--order", "backwards"], "'backwards' is not one of"),
        (["--prompt", "0"], "prompt 0"),
        (["--prompt", "97"], "prompt 97"),
        (["--prompt", "4", "--order", "prefill"], "leave out order prefill"),
        (["--explain", "96"], "explain: token 96: this run has tokens 0 to 95"),
        (["--explain", "5", "--tokens", "5"], "explain: token 5: this run has tokens 0 to 4"),
        (["--explain", "5", "--explain-head", "0:2"], "explain: head 2"),
        (["--explain", "1", "--explain-head", "first"], "--explain-head 'first': write L:H"),
        (["--explain-head", "0:1"], "give both"),
        (["-c", ""], "config: an empty name"),
        (["-o", ""], "output folder: an empty name"),
        (["--set", "window=true"], "--set window: "),
        (["--set", "accumulator.time=1e-20 s"], "--set accumulator.time: "),
        (["--set", "accumulator.time=1e30 s"], "--set accumulator.time: "),
        (["--set", "converter.output.saturation_current=1e-320 A"], "saturation_current: "),
        (["--no-report", "-o", "out"], "contradict each other"),
        (["--colour", "red"], "No such option"),
        (["more"], "unexpected extra argument"),
    ],
)
def test_bad_arguments_are_one_line(
    archsim: Archsim, small_trace_folder: Path, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    run = archsim("simulate", "-t", small_trace_folder, *arguments)
    assert run.code == 2
    assert run.out == ""
    first, *others = run.err.splitlines()
    assert first.startswith("error: ")
    assert expected in first
    assert len(first) <= 340
    assert all(line.startswith("try: ") for line in others)
    assert list(tmp_path.iterdir()) == []


def test_bad_files_are_one_line(archsim: Archsim, small_trace_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("extends: gaincell-28nm.yaml\nwindow: [1\ncell: {\n")
    run = archsim("simulate", "-t", small_trace_folder, "-c", broken)
    assert (run.code, run.out) == (2, "")
    assert f"{broken}:3: not valid YAML" in run.err
    unknown = tmp_path / "unknown.yaml"
    unknown.write_text("cell:\n  area: 1 um^2\n  colour: red\n")
    run = archsim("simulate", "-t", small_trace_folder, "-c", unknown)
    assert run.code == 2
    assert len(run.err.splitlines()) == 1
    run = archsim("simulate", "-t", tmp_path / "missing")
    assert (run.code, run.err.count("\n")) == (2, 1)
    copy = tmp_path / "damaged"
    copy.mkdir()
    for file in small_trace_folder.iterdir():
        data = bytearray(file.read_bytes())
        if file.suffix == ".safetensors":
            data[-1] ^= 1
        (copy / file.name).write_bytes(data)
    run = archsim("simulate", "-t", copy)
    assert (run.code, run.out, run.err.count("\n")) == (4, "", 1)
    assert not (tmp_path / "reports").exists()


def test_a_folder_with_someone_elses_file_is_left_alone(
    archsim: Archsim, small_trace_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("window: 3\n")
    run = archsim("simulate", "-t", small_trace_folder, "-o", ".")
    assert (run.code, run.out) == (2, "")
    assert "not written by archsim" in run.err
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    assert archsim("simulate", "-t", small_trace_folder, "-o", ".", "--force").code == 0


def test_as_a_process(small_trace_folder: Path, tmp_path: Path) -> None:
    run = process("simulate", "-t", small_trace_folder, "--tokens", "4", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")  # no progress bar into a pipe
    assert len(list((tmp_path / "reports").glob("gaincell-28nm-small-*/result.json"))) == 1
    run = process("simulate", "--set", "windw=3", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "error: unknown key 'windw'; did you mean 'window'?\n"


def test_a_reader_that_closes_early_is_no_traceback(
    small_trace_folder: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "archsim", "config", "schema"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert b"Traceback" not in run.stderr.read()


@pytest.mark.parametrize(
    "words",
    ["trace record", "trace synth", "trace info", "config show", "config schema", "config list"],
)
def test_every_subcommand_has_help_in_80_columns(archsim: Archsim, words: str) -> None:
    run = archsim(*words.split(), "--help")
    assert run.code == 0
    assert max(map(len, run.out.splitlines())) <= 80
    assert "-h, --help" in run.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_in_80_columns(archsim: Archsim, name: str) -> None:
    run = archsim(name, "--help")
    assert run.code == 0
    assert max(map(len, run.out.splitlines())) <= 80
    assert "-h, --help" in run.out


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys; sys.argv = ['archsim', '--help']\n"
        "from archsim.cli import main\n"
        "main()\n"
        "heavy = {'numpy', 'pint', 'pydantic', 'rich', 'simpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(
    "program",
    [
        "import archsim",
        "import archsim; archsim.load_trace('reference').select(tokens=4)",
        "import archsim\nt = archsim.load_trace('reference').select(4, slice(0, 1))\n"
        "archsim.simulate(t, archsim.load_hardware())",
    ],
    ids=["import", "load", "simulate"],
)
def test_what_is_heavy_is_imported_where_it_is_needed(program: str) -> None:
    heavy = {"torch", "numba", "pandas", "altair", "pint"}
    check = f"\nimport sys\nfound = {sorted(heavy)!r} & sys.modules.keys()\nassert not found, found"
    run = subprocess.run(
        [sys.executable, "-c", program + check.replace("[", "{").replace("]", "}")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("command", ["simulate", "trace", "compare"])
def test_a_closed_pipe_is_no_error(command: str, small_trace_folder: Path) -> None:
    """``archsim ... | head -1`` ends quietly with 0."""
    arguments = {
        "simulate": f"simulate -t {small_trace_folder} --tokens 4 --no-report",
        "trace": f"trace info {small_trace_folder}",
        "compare": "compare --list-gpus",
    }[command]
    shell = f"{sys.executable} -m archsim {arguments} | head -n 1; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert len(run.stdout.splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_line() -> None:
    shell = f"{sys.executable} -m archsim config schema > /dev/full"
    run = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.splitlines() == ["error: No space left on device"]


@pytest.mark.parametrize("group", [[], ["trace"], ["config"]])
def test_a_group_alone_prints_its_help(group: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "archsim", *group], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert run.stderr.startswith("Usage: ")
    assert len(run.stderr.splitlines()) > 5
