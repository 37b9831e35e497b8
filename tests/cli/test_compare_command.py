"""``archsim compare``: what it prints, from a real simulation."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from archsim.cli import application
from archsim.config.gpu import available_gpus
from archsim.errors import ConfigError
from archsim.files import data_folder
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
    assert "91x faster per token (latency), 14,596x less energy; kernel cudnn" in text
    assert "240x faster per token (latency), energy not measured; kernel TensorRT-LLM" in text
    assert text.index("91x faster") < text.index("240x faster")
    assert "109x faster per token (throughput), 31,748x less energy; kernel math" in text
    assert "with idle power: 44,521x less energy" in text
    assert "the paper claims 100x and 70,000x" in text
    assert "error to expect (no such point was measured): time 31.0 %, energy 10.0 %" in text
    assert "the paper claims 344x and 97,266x" in text
    assert "error of the model: time +3.5 %, energy -4.1 %" in text
    assert "same capacity: 64 chips of 1 sequence and 12 layers, 4,608 mm^2" in " ".join(
        text.split()
    )
    assert text.count("flaw: ") == 5
    protocols = [line for line in text.splitlines() if line.startswith("Protocol ")]
    assert protocols == [f"Protocol {name}" for name in ("paper", "latency", "throughput", "eager")]


def test_json_is_one_document_and_every_row_names_its_workload(document: dict[str, object]) -> None:
    assert document["schema_version"] == 3
    assert document["scope"] == "attention"
    accelerators, rows = document["accelerators"], document["rows"]
    assert accelerators["calibration"]["attention_latency_s"] == pytest.approx(65e-9)
    assert accelerators["calibration"]["heads"] == 12
    assert accelerators["trace"]["heads"] == 2
    assert {row["gpu"] for row in rows} == {"H100 SXM", "RTX 4090"}
    for row in rows:
        on_trace = row["source"] == "model" and row["protocol"] != "paper"
        assert (row["workload"] == "trace") == on_trace
        assert row["heads"] == (2 if row["workload"] == "trace" else 12)
        assert row["kind"] in {"latency", "throughput"}
        assert row["precision"] in {"fp32", "fp16", "bf16"}
        assert row["batch"] >= 1
        assert row["cache"] in {"warm", "cold"}
        assert row["layers"] == 1  # whatever the trace has: ratios are of one layer
        assert row.keys() >= {
            "gpu", "protocol", "batch", "window", "precision", "latency_us", "energy_mj",
            "energy_bound_mj", "speedup", "energy_ratio", "kind", "source", "kernel", "date",
            "latency_error", "energy_error", "expected_latency_error", "expected_energy_error",
        }  # fmt: skip


def test_ratios_of_the_paper_follow_from_our_own_run(document: dict[str, object]) -> None:
    rows = [row for row in document["rows"] if row["protocol"] == "paper"]
    (row,) = [r for r in rows if (r["source"], r["gpu"]) == ("measured", "RTX 4090")]
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


def test_paper_is_the_same_whatever_the_trace(small_trace_folder: Path) -> None:
    arguments = ("--json", "--protocol", "paper", "--gpu", "jetson-nano")
    own = json.loads(run("-t", str(small_trace_folder), *arguments).stdout)["rows"]
    default = json.loads(run(*arguments).stdout)["rows"]
    assert own == default
    assert {(r["heads"], r["head_dim"], r["window"], r["layers"]) for r in own} == {
        (12, 64, 1024, 1)
    }
    assert {r["workload"] for r in own} == {"calibration"}


def test_window_is_full_on_both_sides(small_trace_folder: Path) -> None:
    arguments = ("--window", "512", "--protocol", "latency", "--gpu", "h100-sxm", "--json")
    found = json.loads(run("-t", str(small_trace_folder), *arguments).stdout)
    used = found["accelerators"]
    assert {name: (used[name]["window"], used[name]["heads"]) for name in used} == {
        "window": (512, 12), "window, heads of the trace": (512, 2),
    }  # fmt: skip
    shapes = {
        row["source"]: (row["workload"], row["window"], row["heads"]) for row in found["rows"]
    }
    assert shapes == {
        "measured": ("window", 512, 12),
        "model": ("window, heads of the trace", 512, 2),
    }


def test_csv_has_every_row_and_its_capacity(small_trace_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    result = run("-t", str(small_trace_folder), "--csv", str(path), "--json")
    rows = json.loads(result.stdout)["rows"]
    with path.open(encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line["gpu"] == row["gpu"]
        assert float(line["speedup"]) == row["speedup"]
        chips = row["capacity"]["chips"] if row["capacity"] else ""
        assert line["capacity.chips"] == str(chips)


def test_no_measured_row_at_another_window(small_trace_folder: Path) -> None:
    result = run(
        "-t", str(small_trace_folder), "--gpu", "h100-sxm", "--protocol", "latency",
        "--window", "256", "--json",
    )  # fmt: skip
    document = json.loads(result.stdout)
    assert {row["source"] for row in document["rows"]} == {"model"}
    assert document["omitted"] == [
        "H100 SXM, protocol latency: measured at windows 128, 512, 1,024, 2,048, 4,096, 8,192, "
        "not at 256"
    ]


def test_hardware_of_another_window_has_no_paper_rows_and_says_why() -> None:
    result = run("-c", "gaincell-28nm-window256", "--protocol", "paper", "--gpu", "h100-sxm")
    assert result.exit_code == 0
    flat = " ".join(result.stdout.split())
    assert "Left out H100 SXM, protocol paper: of 12 heads x 64, window 1,024; the acc" in flat


@pytest.mark.parametrize(("ratio", "code"), [("16", 0), ("18", 1)])
def test_fail_below(small_trace_folder: Path, ratio: str, code: int) -> None:
    result = run(
        "-t", str(small_trace_folder), "--gpu", "h100-sxm", "--protocol", "throughput",
        "--precision", "bf16", "--batch", "64", "--window", "1024", "--fail-below", ratio,
    )  # fmt: skip
    assert "17x faster per token (throughput), 8,633x less energy" in result.stdout
    below = [line for line in result.stderr.splitlines() if line.startswith(f"below {ratio}x: ")]
    measured = [line for line in below if "measured, batch 64: 17x faster per token" in line]
    assert bool(measured) == bool(code)
    assert result.exit_code == 1  # the modelled row is of 2 heads, far below either


@pytest.mark.parametrize(("ratio", "code"), [("340", 0), ("350", 1)])
def test_fail_below_is_exit_0_if_nothing_is_below(
    small_trace_folder: Path, ratio: str, code: int
) -> None:
    result = run(
        "-t", str(small_trace_folder), "--gpu", "rtx-4090", "--gpu", "jetson-nano",
        "--protocol", "paper", "--fail-below", ratio,
    )  # fmt: skip
    assert result.exit_code == code
    assert ("below 350x: RTX 4090, paper, measured" in result.stderr) == bool(code)


def test_the_same_gpu_by_name_and_by_path_is_one(small_trace_folder: Path) -> None:
    path = data_folder("hwconfigs") / "gpus" / "rtx-4090.yaml"
    result = run(
        "-t", str(small_trace_folder), "--gpu", "rtx-4090", "--gpu", str(path), "--gpu",
        "rtx-4090", "--protocol", "eager", "--json",
    )  # fmt: skip
    rows = json.loads(result.stdout)["rows"]
    assert [row["source"] for row in rows].count("model") == 1


def test_the_protocol_says_how_the_batch_came_about(small_trace_folder: Path) -> None:
    arguments = ("-t", str(small_trace_folder), "--gpu", "h100-sxm", "--protocol", "throughput")
    flat = " ".join(run(*arguments).stdout.split())
    assert "modelled, of 1 to 256 that fit the GPU's memory; measured, of those that were" in flat
    asked = " ".join(run(*arguments, "--batch", "64").stdout.split())
    assert "Batch 64, as asked for." in asked
    assert "1 to 256" not in asked


def test_scope_model_shows_both_shares_and_the_assumption() -> None:
    result = run("--scope", "model", "--gpu", "h100-sxm", "--protocol", "latency")
    assert result.exit_code == 0
    text = result.stdout
    assert max(map(len, text.splitlines())) <= 80
    line = r"^H100 SXM +measured +1 bf16 +615 +12.8 % +133 +151.7$"
    assert re.search(line, text, re.MULTILINE)
    flat = " ".join(text.split())
    assert "all of it assumed): 10 TMAC/s, 0.5 pJ a MAC, weights streamed" in flat
    assert "GPU with its attention moved here: 561.3 us a token, 1.10x faster than alone" in flat
    assert "(at most 1.15x); link, assumed: 30.0 kB and 24.47 us a step" in flat
    assert "error of the model: time +2.2 %, energy +5.8 %" in flat


def test_scope_model_as_json_and_with_another_engine() -> None:
    arguments = ("--scope", "model", "--gpu", "h100-sxm", "--protocol", "latency", "--json")
    streamed, resident = (
        json.loads(run(*arguments, *more).stdout)
        for more in ((), ("--set", "digital.weights=resident"))
    )
    assert streamed["scope"] == "model"
    assert streamed["accelerator"]["digital"]["weights"] == "streamed"
    assert [row["source"] for row in streamed["rows"]] == ["measured", "model"]
    for slow, fast in zip(streamed["rows"], resident["rows"], strict=True):
        assert fast["speedup"] > 10 * slow["speedup"]
        assert fast["latency_us"] == slow["latency_us"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--protocol", "latency", "--batch", "8"),
        ("--protocol", "paper", "--precision", "fp16"),
        ("--protocol", "paper", "--window", "512"),
        ("--batch", "0"),
        ("--window", "0"),
        ("--fail-below", "nan"),
        ("--fail-below", "-1"),
        ("--window", "100000"),
        ("--scope", "model", "--protocol", "paper"),
        ("--scope", "model", "--plot", "x"),
        ("--scope", "model", "--measured", "no-such-file.yaml"),
        ("--plot", "x", "--protocol", "latency"),
        ("--plot", "x", "--batch", "8"),
        ("--protocol", "paper", "--cache", "cold"),
        ("--measured", "no-such-file.yaml"),
    ],
)
def test_impossible_requests_are_one_line(
    small_trace_folder: Path, arguments: tuple[str, ...]
) -> None:
    trace = () if "model" in arguments else ("-t", str(small_trace_folder))
    result = run(*trace, *arguments)
    if isinstance(result.exception, ConfigError):
        assert "\n" not in str(result.exception)
    else:
        assert result.exit_code == 2
        assert result.stderr.count("Error:") == 1
    assert result.stdout == ""


def test_keys_that_nothing_reads_are_told(small_trace_folder: Path) -> None:
    """Told as `simulate` does; the part of a token besides attention reads `digital`."""
    settings = ["--set", "retention.tau=7 ms", "--set", "digital.rate=1e12 MAC/s"]
    narrow = ["--gpu", "h100-sxm", "--protocol", "latency", "--set", "write_path.pulse=12 ns"]
    found = run("-t", str(small_trace_folder), *narrow, *settings)
    assert "Not read by this run: digital.rate, retention.tau" in found.stdout
    narrow += settings
    whole = json.loads(run("--scope", "model", *narrow, "--json").stdout)
    assert whole["unread_parameters"] == ["retention.tau"]
