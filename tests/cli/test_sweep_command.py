"""``archsim sweep`` as a user runs it."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from archsim.traces.synthetic import synthesise
from archsim.traces.trace import save_trace

from .test_simulate_command import Archsim, archsim, process

__all__ = ["archsim"]  # a fixture


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    save_trace(synthesise(1, 2, 12, name="tiny"), folder)
    return folder


QUICK = ["sweep", "--vary", "array.columns=16,64", "--vary", "write_path.pulse=5ns..10ns:2"]


def test_quick_form_tables_files_and_json(archsim: Archsim, tiny: Path, tmp_path: Path) -> None:
    run = archsim(*QUICK, "-t", tiny, "--best", "energy", "--where", "area_mm2 < 0.6")
    assert run.code == 0, run.err
    assert "4 points (4 ok)" in run.out
    assert "Best energy where area_mm2 < 0.6" in run.out
    assert "published design, beaten" in run.out
    assert max(map(len, run.out.splitlines())) <= 80
    assert "5 of 5 points" in run.err or "4 of 4 points" in run.err
    (folder,) = (tmp_path / "reports").glob("sweep-quick-*")
    written = {path.name for path in folder.iterdir()}
    assert {"sweep.json", "points.csv", "sweep.html", "pareto.svg", "heat-map.png"} <= written
    page = (folder / "sweep.html").read_text()
    assert "<title>columns 16" in page
    assert "<script" not in page
    again = archsim(*QUICK, "-t", tiny, "--json", "--resume")
    document = json.loads(again.out)
    assert document == json.loads((folder / "sweep.json").read_text())
    assert [set(point) for point in document["points"]] == [
        {"parameters", "status", "results", "key"}
    ] * 4
    assert document["pareto"]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "pareto.png").unlink()
    archsim(*QUICK, "-t", tiny, "--resume")  # one chart is gone, so all are drawn again
    assert {path.name for path in folder.iterdir()} == written
    drawn = {path: path.stat().st_mtime_ns for path in folder.glob("*.svg")}
    assert all(drawn[path] > before[path] for path in drawn)
    assert "pareto.svg" in archsim(*QUICK, "-t", tiny, "--resume").out
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn
    last = archsim("sweep", "--resume", "--json")
    assert json.loads(last.out) == document


def test_export_list_and_merge(archsim: Archsim, tiny: Path, tmp_path: Path) -> None:
    for part in ("1/2", "2/2"):
        store = f"{part[0]}.db"
        run = archsim(*QUICK, "-t", tiny, "--shard", part, "--store", store, "-q")
        assert run.code == 0, run.err
    merged = archsim("sweep", "merge", "all.db", "1.db", "2.db")
    assert merged.code == 0
    assert "4 of 4" in archsim("sweep", "list", "all.db").out
    assert archsim("sweep", "export", "out.csv", "--store", "all.db").code == 0
    with (tmp_path / "out.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["array.columns"] for row in rows] == ["16", "16", "64", "64"]
    assert archsim("sweep", "export", "out.parquet", "--store", "all.db").code == 0
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["energy_pj"] for row in table] == [float(row["energy_pj"]) for row in rows]
    assert "array-dimensions" in archsim("sweep", "list").out


def test_a_sweep_without_a_single_result_fails(archsim: Archsim) -> None:
    ran = archsim("sweep", "--vary", "controller.clock=0.97GHz,1.03GHz", "--json")
    assert ran.code == 2
    assert "none of 2 points has a result" in ran.err
    assert {point["status"] for point in json.loads(ran.out)["points"]} == {"invalid"}


BAD = [
    (["sweep"], "give a FILE"),
    (["sweep", "nothing"], "no such sweep"),
    (["sweep", "nothing.yaml"], "no such sweep file"),
    (["sweep", "--vary", "array.rowz=1"], "did you mean 'array.rows'"),
    (["sweep", "--vary", "array.rows="], "empty axis"),
    (["sweep", "--vary", "window=1..1000:1000", "--vary", "array.rows=1..1000:1000",
      "--vary", "array.columns=1..1000:1000"], "1,000,000,000 points"),
    (["sweep", "--vary", "window=4", "--constraint", "open('x')"], "calls nothing"),
    (["sweep", "--vary", "window=4", "--constraint", "window > 5"], "leave none"),
    (["sweep", "--vary", "window=4", "--where", "area_mm2 < 1"], "--best"),
    (["sweep", "--vary", "window=4", "--best", "area", "--where", "aera_mm2 < 1"], "did you mean"),
    (["sweep", "--vary", "window=4", "--best", "enrgy"], "did you mean"),
    (["sweep", "--vary", "window=4", "--objective", "enrgy"], "did you mean"),
    (["sweep", "--resume"], "nothing to resume"),
    (["sweep", "array-dimensions", "--vary", "window=3"], "not both"),
    (["sweep", "array-dimensions", "--set", "window=3"], "go with --vary"),
    (["sweep", "--vary", "window=4", "--shard", "3/2"], "--shard"),
    (["sweep", "--vary", "window=4", "--time-limit", "3"], "--time-limit"),
    (["sweep", "--vary", "window=4", "--store", ""], "empty name"),
    (["sweep", "--vary", "window=4", "--vary", "window=5"], "given twice"),
    (["sweep", "export", "x.csv"], "no such store"),
    (["sweep", "merge", "a.db", "b.db"], "no such store"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=lambda value: str(value)[-40:])
def test_bad_input_gives_one_line(
    archsim: Archsim, tmp_path: Path, arguments: list[str], words: str
) -> None:
    run = archsim(*arguments)
    assert (run.code, run.out) == (2, "")
    assert words in run.err
    assert run.err.count("\n") == 1
    assert not (tmp_path / "a.db").exists()


def test_help_fits_80_columns(tmp_path: Path) -> None:
    run = process("sweep", "--help", cwd=tmp_path)
    assert run.returncode == 0
    assert "export" in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 80


def test_ctrl_c_keeps_what_ran_and_says_how_to_go_on(tiny: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "archsim", "sweep", "--vary", "write_path.pulse=1ns..2000ns:2000",
        "-t", str(tiny), "--workers", "1", "--no-report",
    ]  # fmt: skip
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    assert running.stderr.readline().startswith("0 of")
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "go on with:" in error
    assert error.strip().endswith("--resume")
    assert "Traceback" not in error
