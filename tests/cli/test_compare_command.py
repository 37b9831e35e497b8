"""``archsim compare``: what it prints, from a real simulation."""

from __future__ import annotations

import csv
import json
import re
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import archsim
from archsim.cli import application
from archsim.errors import ConfigError
from archsim.files import data_folder
from archsim.gpu.file import available_gpus
from archsim.hardware.load import load_hardware
from archsim.report.comparison import comparison_text, energy_text, speed_text, times
from archsim.report.whole_model import model_text


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(application, ["compare", *arguments])


@pytest.fixture(scope="module")
def text() -> str:
    result = run()
    assert result.exit_code == 0
    assert result.stderr == ""
    return result.stdout


@pytest.fixture(scope="module")
def document() -> dict[str, object]:
    result = run("--json", "--gpu", "h100-sxm", "--gpu", "rtx-4090")
    assert result.exit_code == 0
    return json.loads(result.stdout)


def section(text: str, protocol: str) -> list[list[str]]:
    """Cells of a protocol's table, from the accelerator's row on."""
    lines = text[text.index(f"Protocol {protocol}: ") :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("accelerator "))
    found = []
    for line in lines[start:]:
        if not line or line.startswith("  "):
            break
        found.append(re.split(r"(?<! -) +(?=\S)", line))
    return found


def test_text_fits_80_columns_and_names_both_sides_kinds(text: str) -> None:
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    assert text.count("flaw: ") == 5
    heads = [line for line in text.splitlines() if line.startswith("Protocol ")]
    shape = "12 heads x 64, window 1,024, warm cache"
    names = ("paper", "latency", "throughput", "eager")
    assert heads == [f"Protocol {name}: {shape}" for name in names]
    assert flat.count("a throughput (time of a batch over its size); the accelerator's is a l") == 2
    assert flat.count("a latency (one sequence waits so long); the accelerator's is a latency") == 2
    assert "with idle power: H100 SXM 44,521x less energy" in flat
    assert "~: to expect of such work where it was not measured" in flat


@pytest.mark.parametrize(
    ("protocol", "line"),
    [
        ("paper", "RTX 4090 measured 64 fp32 22.37 7,178 344x 97,271x -"),
        ("paper", "RTX 4090 stated - - - - 344x 97,266x the paper"),
        ("paper", "RTX 4090 model 64 fp32 23.15 6,883 356x 93,272x math +3/-4"),
        ("paper", "H100 SXM measured 64 fp32 7.117 2,343 109x 31,748x math"),
        ("paper", "H100 SXM stated - - - - 100x 70,000x the paper"),
        ("latency", "H100 SXM measured 1 bf16 5.92 1,077 91x 14,596x cudnn"),
        ("latency", "H100 SXM measured 1 bf16 15.6 <10,920 240x - TensorRT-LLM"),
        ("throughput", "H100 SXM measured 256 bf16 1.026 629.3 16x 8,527x cudnn"),
        ("throughput", "H100 SXM measured 256 18,432 290.6 4,040x 99.79 132.4 2,119"),
    ],
)
def test_one_line_a_gpu_protocol_and_source(text: str, protocol: str, line: str) -> None:
    start = text.index(f"Protocol {protocol}: ")
    lines = [" ".join(each.split()) for each in text[start:].splitlines()]
    assert line in lines


def table_rows(text: str) -> list[str]:
    """Lines of tables: those of the accelerator and of GPUs, and what was broken off them."""
    notes = ("  ", "Protocol", "Attention", "One token")
    lines = text[: text.index("Retention, window")].splitlines()
    return [line.rstrip() for line in lines if line and not line.startswith(notes)]


@pytest.mark.parametrize(
    "options",
    [
        {"window": 1024},
        {"window": 24},  # many sequences fit the memory
        {"window": 3000, "batch": 4096},
        {"window": 128, "protocols": ["throughput"], "batch": 64},
        {"scope": "model"},
        {"scope": "model", "window": 4096, "batch": 64},
        {"shape": "trace"},
    ],
)
def test_no_line_of_a_table_breaks_at_80_columns_whatever_the_gpu(options) -> None:
    """All shipped GPUs, at 80 columns as at 300."""
    options = dict(options)
    gpus, hardware = list(available_gpus()), load_hardware()
    if options.pop("scope", None) == "model":
        found = model_text(archsim.compare_model(hardware, gpus, **options))
    elif "shape" in options:
        run_ = archsim.simulate(archsim.load_trace("reference"), hardware)
        found = comparison_text(archsim.compare(run_, gpus, **options))
    else:
        found = comparison_text(archsim.compare(hardware, gpus, **options))
    narrow, wide = StringIO(), StringIO()
    Console(width=80, file=narrow).print(found)
    Console(width=300, file=wide).print(found)
    assert table_rows(narrow.getvalue()) == table_rows(wide.getvalue())
    assert sum(line.startswith("Jetson Nano") for line in table_rows(wide.getvalue())) > 0


def test_a_word_where_measured_and_modelled_are_of_different_libraries(text: str) -> None:
    flat = " ".join(text.split())
    assert flat.count("H200 SXM: TensorRT-LLM is another kernel library; the model is of") == 2
    assert "H100 SXM: TensorRT-LLM is" not in flat  # its own kernels were measured as well


def test_the_accelerator_comes_first_and_measured_rows_lead_the_modelled(text: str) -> None:
    for protocol in ("paper", "latency", "throughput", "eager"):
        rows = section(text, protocol)
        assert rows[0] == ["accelerator", "archsim", "1", "0.065", "0.0738"]
        told = [" ".join(row) for row in rows[1:]]
        for gpu in ("H100 SXM", "H200 SXM"):
            sources = [
                source
                for each in told
                if each.startswith(gpu)
                for source in ("measured", "stated", "model")
                if f" {source} " in each
            ]
            assert sources == sorted(sources, key=["measured", "stated", "model"].index)


def test_json_is_one_document_of_one_shape(document: dict[str, object]) -> None:
    assert document["schema_version"] == 5
    assert (document["scope"], document["shape"]) == ("attention", "paper")
    accelerators, rows = document["accelerators"], document["rows"]
    assert accelerators.keys() == {"calibration"}
    assert accelerators["calibration"]["attention_latency_s"] == pytest.approx(65e-9)
    assert {row["gpu"] for row in rows} == {"H100 SXM", "RTX 4090"}
    assert {(row["heads"], row["head_dim"], row["window"]) for row in rows} == {(12, 64, 1024)}
    for row in rows:
        assert row["workload"] == "calibration"
        assert row["kind"] in {"latency", "throughput"}
        assert row["precision"] in {"fp32", "fp16", "bf16"}
        assert row["batch"] >= 1
        assert row["cache"] in {"warm", "cold"}
        assert row["layers"] == 1  # whatever the model has: ratios are of one layer
        assert row.keys() >= {
            "gpu", "protocol", "batch", "window", "precision", "latency_us", "energy_mj",
            "energy_bound_mj", "speedup", "energy_ratio", "kind", "source", "kernel", "date",
            "latency_error", "energy_error", "expected_latency_error", "expected_energy_error",
        }  # fmt: skip


def test_the_shape_of_a_trace_on_request(small_trace_folder: Path) -> None:
    """Modelled rows alone: nobody measured it, and what was left out says so."""
    arguments = ("--gpu", "h100-sxm", "--json")
    asked = json.loads(run("--shape", "trace", "-t", str(small_trace_folder), *arguments).stdout)
    assert asked["shape"] == "trace"
    assert asked == json.loads(run("-t", str(small_trace_folder), *arguments).stdout)
    rows = {row["protocol"]: row for row in asked["rows"] if row["source"] == "model"}
    assert [row["protocol"] for row in asked["rows"]].count("paper") == 2
    assert (rows["paper"]["heads"], rows["paper"]["workload"]) == (12, "calibration")
    for name in ("latency", "throughput", "eager"):
        assert (rows[name]["heads"], rows[name]["workload"]) == (2, "trace")
    assert {r["source"] for r in asked["rows"] if r["workload"] == "trace"} == {"model"}
    reasons = [text for text in asked["omitted"] if "12 heads x 64" in text]
    assert len(reasons) == 3
    text = run("-t", str(small_trace_folder), "--gpu", "h100-sxm").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "Protocol latency: 2 heads x" in text


@pytest.mark.parametrize(("case", "ns"), [("serial", 780), ("shared", 175)])
def test_waiting_for_shared_blocks_is_in_the_latency(tmp_path: Path, case: str, ns: float) -> None:
    """Twelve heads one after another; twelve heads that take turns at one set of DACs."""
    changed = {
        "serial": "controller.heads_in_parallel=1",
        "shared": "write_path.heads_per_driver=12",
    }[case]
    arguments = ("--set", changed, "--gpu", "h100-sxm", "--protocol", "latency")
    found = json.loads(run(*arguments, "--json").stdout)
    assert found["accelerators"]["calibration"]["attention_latency_s"] == pytest.approx(ns * 1e-9)
    row = found["rows"][0]
    assert row["speedup"] == pytest.approx(5.92e-6 / (ns * 1e-9), rel=1e-3)
    assert f"{ns} ns and" in run(*arguments).stdout


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
    assert [times(ratio) for ratio in (0.07, 4.52, 96.6, 97266)] == [
        "0.07x", "4.5x", "97x", "97,266x",
    ]  # fmt: skip


def test_paper_is_the_same_whatever_the_trace(small_trace_folder: Path) -> None:
    arguments = ("--json", "--protocol", "paper", "--gpu", "jetson-nano")
    own = json.loads(run("-t", str(small_trace_folder), *arguments).stdout)["rows"]
    assert len(own) == 2
    default = json.loads(run(*arguments).stdout)["rows"]
    assert own == default
    assert {(r["heads"], r["head_dim"], r["window"], r["layers"]) for r in own} == {
        (12, 64, 1024, 1)
    }
    assert {r["workload"] for r in own} == {"calibration"}


def test_window_is_full_on_both_sides(small_trace_folder: Path) -> None:
    arguments = ("--window", "512", "--protocol", "latency", "--gpu", "h100-sxm", "--json")
    found = json.loads(run(*arguments).stdout)
    (used,) = found["accelerators"].values()
    assert (used["workload"], used["window"], used["heads"]) == ("window", 512, 12)
    assert [(r["source"], r["window"], r["heads"]) for r in found["rows"]] == [
        ("measured", 512, 12), ("measured", 512, 12), ("model", 512, 12),
    ]  # fmt: skip
    traced = json.loads(run("-t", str(small_trace_folder), *arguments).stdout)
    (used,) = traced["accelerators"].values()
    assert used["workload"] == "window, heads of the trace"
    assert [(r["source"], r["window"], r["heads"]) for r in traced["rows"]] == [("model", 512, 2)]


def test_static_power_counts_the_layers_of_the_trace(small_trace_folder: Path) -> None:
    """A head leaks while the token passes all layers: 12 of GPT-2 small, or the trace's own."""
    arguments = ("--window", "256", "--protocol", "latency", "--gpu", "h100-sxm", "--json",
                 "--set", "static.power_per_head=2 mW")  # fmt: skip
    found = json.loads(run("-t", str(small_trace_folder), *arguments).stdout)
    (own,) = found["accelerators"].values()
    leaked = 2e-3 * own["heads"] * own["layers"] * own["attention_latency_s"]
    assert own["layers"] < 12
    assert own["static_energy_j"] == pytest.approx(leaked)
    (whole,) = json.loads(run(*arguments).stdout)["accelerators"].values()
    assert whole["static_energy_j"] == pytest.approx(2e-3 * 12 * 12 * 65e-9)


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


def test_no_measured_row_at_another_window() -> None:
    result = run(
        "--gpu", "h100-sxm", "--protocol", "latency", "--window", "256", "--json",
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
def test_fail_below(ratio: str, code: int) -> None:
    result = run(
        "--gpu", "h100-sxm", "--protocol", "throughput",
        "--precision", "bf16", "--batch", "64", "--window", "1024", "--fail-below", ratio,
    )  # fmt: skip
    assert re.search(r"measured +64 bf16 +1.093 +637.1 +17x +8,633x cudnn", result.stdout)
    below = [line for line in result.stderr.splitlines() if line.startswith(f"below {ratio}x: ")]
    measured = [line for line in below if "measured, batch 64: 16.8185x per token" in line]
    assert bool(measured) == bool(code)
    assert result.exit_code == code


@pytest.mark.parametrize(("ratio", "code"), [("340", 0), ("350", 1)])
def test_fail_below_is_exit_0_if_nothing_is_below(ratio: str, code: int) -> None:
    """What the paper states is no row that could be below."""
    result = run(
        "--gpu", "rtx-4090", "--gpu", "jetson-nano",
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


def retention_rows(*arguments: str) -> list[str]:
    text = run("--scope", "model", "--gpu", "a100-80gb", *arguments).stdout
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return [line for line in lines if "(assumed)" in line and line.startswith("a ")]


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (["--protocol", "latency"], ["a whole token (assumed) 151.7 0.0303 31.1 <0.1 %"]),
        (["--protocol", "throughput", "--batch", "16"],
         ["a step of 16 (assumed) 199.3 0.0399 40.8 <0.1 %"]),
        (["--protocol", "latency", "--protocol", "throughput", "--batch", "64"],
         ["a whole token (assumed) 151.7 0.0303 31.1 <0.1 %",
          "a step of 64 (assumed) 794.8 0.159 163 <0.1 %"]),
    ],
)  # fmt: skip
def test_cells_age_by_the_whole_step_of_the_batch(arguments: list[str], rows: list[str]) -> None:
    """By hand, 16 sequences: 12 x 65 ns and 16 x 124.06 M / 10 TMAC/s = 199.3 us."""
    assert retention_rows(*arguments) == rows


def test_the_retention_of_a_batch_in_json() -> None:
    result = run("--scope", "model", "--gpu", "a100-80gb", "--batch", "16", "--json",
                 "--protocol", "throughput")  # fmt: skip
    whole = json.loads(result.stdout)["retention"]["whole_token"]
    assert (whole["batch"], whole["token_time_us"]) == (16, pytest.approx(199.3, abs=0.05))
    assert whole["of"].startswith("a step of 16 sequences of GPT-2 small")


def test_scope_model_shows_both_shares_and_the_assumption() -> None:
    result = run("--scope", "model", "--gpu", "h100-sxm", "--protocol", "latency")
    assert result.exit_code == 0
    text = result.stdout
    assert max(map(len, text.splitlines())) <= 80
    lines = [" ".join(line.split()) for line in text.splitlines()]
    accelerator = lines.index("accelerator assumed 1 151.7 0.5 % 3.896")
    measured = lines.index("H100 SXM measured 1 bf16 615 12.8 % 133 4.1x 34x")
    moved = lines.index("GPU with its attention moved here 561.3 0.1 % 120.9 3.7x 31x")
    assert (measured, moved) == (accelerator + 1, accelerator + 2)
    assert "H100 SXM model 1 bf16 628.4 12.5 % 140.8 4.1x 36x +2/+6" in lines
    flat = " ".join(text.split())
    assert "all of it assumed): 10 TMAC/s, 0.5 pJ a MAC, weights streamed" in flat
    assert "so 1.10x faster than alone (at most 1.15x); link, assumed: 30.0 kB and 24.47 us" in flat


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
        ("--plot", "x", "--shape", "trace"),
        ("--shape", "paper"),
        ("--scope", "model", "--shape", "trace"),
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
