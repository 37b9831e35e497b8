"""``archsim compare``: what it prints, from a real simulation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from archsim.cli import application
from archsim.config.gpu import available_gpus
from archsim.report.comparison import energy_text, speed_text


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(application, ["compare", *arguments])


@pytest.fixture(scope="module")
def text(small_trace_folder: Path) -> str:
    result = run("-t", str(small_trace_folder))
    assert result.exit_code == 0
    assert result.stderr == ""
    return result.stdout


@pytest.fixture(scope="module")
def document(small_trace_folder: Path) -> dict[str, object]:
    result = run("-t", str(small_trace_folder), "--json", "--gpu", "h100-sxm", "--gpu", "rtx-4090")
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_text_fits_80_columns_and_names_the_kind(text: str) -> None:
    assert max(map(len, text.splitlines())) <= 80
    assert "344x faster per token (throughput)" in text
    assert "7,521x faster per token (throughput)" in text
    assert "240x faster per token (latency), energy not measured" in text
    assert "flaw: " in text


def test_json_is_one_document_and_every_row_names_its_workload(document: dict[str, object]) -> None:
    assert document["schema_version"] == 1
    accelerators, rows = document["accelerators"], document["rows"]
    assert accelerators["calibration"]["attention_latency_s"] == pytest.approx(65e-9)
    assert accelerators["calibration"]["heads"] == 12
    assert accelerators["trace"]["heads"] == 2
    assert {row["gpu"] for row in rows} == {"H100 SXM", "RTX 4090"}
    for row in rows:
        assert (row["workload"] == "trace") == (row["source"] == "model")
        assert row["heads"] == (2 if row["workload"] == "trace" else 12)
        assert row["kind"] in {"latency", "throughput"}
        assert row["precision"] in {"fp32", "fp16", "bf16"}
        assert row["batch"] >= 1


def test_ratios_of_the_paper_follow_from_our_own_run(document: dict[str, object]) -> None:
    (row,) = [row for row in document["rows"] if row["protocol"] == "paper"]
    assert row["speedup"] == pytest.approx(344, rel=0.01)
    assert row["energy_ratio"] == pytest.approx(97_266, rel=0.01)


def test_list_gpus_simulates_nothing() -> None:
    listed = run("--list-gpus").stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(available_gpus())
    names = json.loads(run("--list-gpus", "--json").stdout)["gpus"]
    assert names["rtx-4090"] == "RTX 4090"


def test_unknown_gpu_fails_before_the_simulation() -> None:
    result = run("--gpu", "h100", "-t", "no-such-trace")
    assert result.exit_code != 0
    assert "did you mean 'h100-sxm'" in str(result.exception)
    assert result.stdout == ""


def test_ratio_texts_below_one():
    assert speed_text(0.5) == "2.0x slower"
    assert energy_text(0.1) == "10x more energy"
    assert speed_text(1.0) == "1.0x faster"
