"""The shipped GPU files: every number has a source, and faults give one clear line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from archsim.config.document import read_document
from archsim.config.quantity import parse_quantity
from archsim.config.section import leaf_paths
from archsim.errors import ConfigError
from archsim.files import data_folder
from archsim.gpu.file import Gpu, available_gpus, load_gpu, load_measured, with_measured
from archsim.gpu.fit import PARAMETERS

SHIPPED = ("a100-80gb", "h100-sxm", "h200-sxm", "jetson-nano", "rtx-4090")
NOT_NUMBERS = {"name", "device", "claim", "measurements", "tokens"}  # points carry their own source

MINIMAL = """\
name: Toy
peak: {fp32: 1 TFLOP/s, fp16: 2 TFLOP/s}
memory: {size: 1 GB, bandwidth: 100 GB/s, l2: 1 MB, l2_bandwidth: 300 GB/s}
power: {thermal_design: 10 W, idle: 1 W}
multiprocessors: 4
model: {launch: 8 us, memory_efficiency: 0.8}
"""
POINT = (
    "measurements:\n  - {protocol: latency, kind: latency, precision: fp16, batch: 1, window: 64, "
    "heads: 2, head_dim: 8, latency: 9 us, source: code, note: bench}\n"
)


def test_shipped_names():
    assert available_gpus() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_number_has_a_source_and_a_note(name):
    document = read_document(data_folder("hwconfigs") / "gpus" / f"{name}.yaml")
    numbers = set(document.provenance) - NOT_NUMBERS
    shared = {path for path in leaf_paths(Gpu) if path.startswith(("model.", "expected_", "link."))}
    own = {"model.fragment"} if name == "jetson-nano" else set()  # it has no tensor cores
    assert {path for path in numbers if path.startswith("model.")} == own
    optional = {"peak.bf16", "die_area"}
    assert numbers >= set(leaf_paths(Gpu)) - NOT_NUMBERS - shared - optional
    for path in numbers:
        assert document.provenance[path].source != "user", path
        assert document.provenance[path].note, path
    for point in load_gpu(name, measured=False).measurements:
        assert point.source != "user"
        assert point.note


def test_the_model_is_in_one_file_and_a_gpu_file_may_change_a_part_of_it(tmp_path):
    path = data_folder("hwconfigs") / "gpus" / "model" / "kernels.yaml"
    document = read_document(path)
    for key, found in document.provenance.items():
        assert found.source != "user", key
        assert found.note, key
    own = load_gpu(write(tmp_path, MINIMAL))
    shared = load_gpu("a100-80gb").model
    assert own.model.launch == 8e-6
    assert own.model.memory_efficiency == 0.8
    assert own.model == shared.model_copy(update={"launch": 8e-6, "memory_efficiency": 0.8})
    assert own.expected_error == load_gpu("a100-80gb").expected_error


def test_eight_parameters_are_calibrated_and_the_others_said_to_be_assumed():
    path = data_folder("hwconfigs") / "gpus" / "model" / "kernels.yaml"
    sources = {
        key.removeprefix("model."): found.source
        for key, found in read_document(path).provenance.items()
        if key.startswith("model.")
    }
    assert {key for key, source in sources.items() if source == "calibrated"} == set(PARAMETERS)
    assert {source for key, source in sources.items() if key not in PARAMETERS} == {"assumed"}
    for name in SHIPPED:
        alike = load_gpu(name).model.model_copy(update={"fragment": 16})
        assert alike == load_gpu("h100-sxm").model, name


def test_claims_are_those_of_the_paper():
    claims = {name: load_gpu(name).claim for name in SHIPPED}
    found = {n: (c.speedup, c.energy_ratio) for n, c in claims.items() if c is not None}
    assert found == {
        "rtx-4090": (344, 97266),
        "jetson-nano": (7521, 43981),
        "h100-sxm": (100, 70000),
    }


def test_measured_files_belong_to_a_gpu_and_say_how_and_when():
    folder = data_folder("hwconfigs") / "gpus" / "measured"
    files = [load_measured(path) for path in folder.glob("*.yaml")]
    assert [file.gpu for file in files] == ["h100-sxm"]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for file in files:
        gpu = load_gpu(file.gpu)
        assert set(file.measurements) <= set(gpu.measurements)
        assert file.tokens == gpu.tokens
        assert file.device["name"] == gpu.device
        assert {"work", "time", "energy", "replays", "energy_window"} <= file.method.keys()
        dated = {point.date for point in (*file.measurements, *file.tokens)}
        assert dated == {file.method["date"]}
        assert f"{file.gpu}.yaml" in readme
        for point in file.measurements:
            assert point.kernel in {"cudnn", "flash", "efficient", "math"}
            assert point.sm_clock_before or "this kernel alone" in point.note


REFERENCE = os.environ.get("ARCHSIM_REFERENCE_DATA")


@pytest.mark.skipif(REFERENCE is None, reason="ARCHSIM_REFERENCE_DATA names no folder")
def test_the_merged_file_has_every_row_of_the_runs():
    from ruamel.yaml import YAML

    folder = Path(REFERENCE or "") / "gpu"
    if not folder.is_dir():
        pytest.skip("no folder gpu in ARCHSIM_REFERENCE_DATA")
    merged = [
        (p.protocol, p.precision, p.cache, p.batch, p.window, p.latency, p.energy, p.idle_power)
        for p in load_gpu("h100-sxm").measurements
    ]
    count = 0
    for path in sorted(folder.glob("h100-*.yaml")):
        for row in YAML(typ="safe", pure=True).load(path)["measurements"]:
            energy = row.get("energy")
            assert (
                row["protocol"], row["precision"], row["cache"], row["batch"], row["window"],
                parse_quantity(row["latency"], "s"),
                None if energy is None else parse_quantity(energy, "J"),
                parse_quantity(row["idle_power"], "W"),
            ) in merged  # fmt: skip
            count += 1
    assert count == 42
    tokens = {(t.part, t.batch, t.window): t for t in load_gpu("h100-sxm").tokens}
    names = {"mlp+attn": "whole", "mlp": "rest", "attn": "attention"}
    rows = json.loads((folder / "h100-gpt2-token.json").read_text(encoding="utf-8"))["rows"]
    for row in (each for each in rows if "parts" in each):
        token = tokens.pop((names[row["parts"]], row["batch"], row["window"]))
        assert token.latency == pytest.approx(row["us"] * 1e-6, rel=1e-4)
        assert token.energy == pytest.approx(row["mj"] * 1e-3, rel=1e-4)
    assert not tokens


def test_idle_power_of_the_h100_was_measured():
    gpu = load_gpu("h100-sxm")
    found = {p.idle_power for p in gpu.measurements if p.idle_power is not None}
    assert (min(found), max(found)) == (124.83, 132.44)
    assert gpu.power.idle == pytest.approx(sum(found) / len(found), abs=0.5)


@pytest.mark.parametrize(
    ("name", "fp32", "fp16", "bandwidth", "l2", "size", "power"),
    [
        ("rtx-4090", 82.6e12, 165.2e12, 1008e9, 72e6, 24e9, 450),
        ("a100-80gb", 19.5e12, 312e12, 2039e9, 40e6, 80e9, 400),
        ("h100-sxm", 66.9e12, 989.4e12, 3350e9, 50e6, 80e9, 700),
        ("h200-sxm", 66.9e12, 989e12, 4800e9, 50e6, 141e9, 700),
        ("jetson-nano", 0.236e12, 0.472e12, 25.6e9, 0.25e6, 4e9, 10),
    ],
)
def test_specifications(name, fp32, fp16, bandwidth, l2, size, power):
    gpu = load_gpu(name)
    assert (gpu.peak.fp32, gpu.peak.fp16) == pytest.approx((fp32, fp16))
    assert gpu.memory.size == pytest.approx(size)
    assert (gpu.memory.bandwidth, gpu.memory.l2) == pytest.approx((bandwidth, l2))
    assert gpu.power.thermal_design == pytest.approx(power)


@pytest.mark.parametrize(
    ("name", "batch", "microseconds"),
    [
        ("h100-sxm", 1, {128: 8.8, 512: 9.8, 1024: 15.6, 4096: 16.7}),
        ("h100-sxm", 64, {128: 15.9, 512: 46.5, 1024: 80.8, 4096: 289.2}),
        ("h200-sxm", 1, {128: 8.4, 512: 9.6, 1024: 15.4, 4096: 16.4}),
        ("h200-sxm", 64, {128: 15.7, 512: 38.3, 1024: 64.2, 4096: 216.2}),
    ],
)
def test_decode_table_of_nvidia(name, batch, microseconds):
    points = [
        point
        for point in load_gpu(name, measured=False).measurements
        if (point.batch, point.kernel) == (batch, "TensorRT-LLM")
    ]
    assert {p.window: p.step_latency * 1e6 for p in points} == pytest.approx(microseconds)
    assert {(p.heads, p.head_dim, p.precision) for p in points} == {(12, 64, "bf16")}


def test_authors_points_are_per_token_of_a_batch():
    (point,) = load_gpu("rtx-4090", measured=False).measurements
    assert point.step_latency == pytest.approx(64 * 22.37165e-6)
    assert point.step_energy == pytest.approx(64 * 7.178262e-3)
    # 321 W of dynamic power: both figures are divided by the same batch
    assert point.step_energy / point.step_latency == pytest.approx(320.9, rel=1e-3)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown GPU 'rtx4090'; did you mean 'rtx-4090'\?"):
        load_gpu("rtx4090")


def test_precision_the_gpu_lacks():
    with pytest.raises(ConfigError, match="bf16"):
        load_gpu("jetson-nano").peak.at("bf16")


def write(folder: Path, text: str) -> Path:
    path = folder / "toy.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_own_file_by_path(tmp_path):
    path = write(tmp_path, MINIMAL + POINT)
    assert load_gpu(path) == load_gpu(str(path))
    assert load_gpu(path).measurements[0].step_latency == pytest.approx(9e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("100 GB/s", "100 GB", "wrong unit"),
        ("100 GB/s", "100", "number with a unit"),
        ("idle: 1 W", "idle: 11 W", "idle power must be below"),
        ("memory_efficiency: 0.8", "memory_efficiency: 1.2", "less than or equal to 1"),
        ("multiprocessors: 4\n", "", "multiprocessors is missing"),
        ("launch: 8 us", "floor: 8 us", r"model\.floor"),
        ("l2_bandwidth: 300", "l2_bandwidth: 30", "l2_bandwidth must not be below bandwidth"),
        ("bandwidth: 100", "bandwith: 100", r"memory\.bandwidth"),
        ("launch: 8 us", "launch: 0 us", "greater than or equal"),
        ("heads: 2,", "heads: 2, kv_heads: 3,", "2 heads cannot share 3 kv_heads"),
        ("name: Toy\n", "", "name is missing"),
        ("batch: 1,", "batch: 8,", "a latency is of one sequence"),
        ("protocol: latency", "protocol: throughput", "needs kind: throughput"),
        ("source: code", "source: rumour", r"measurements\.0\.source"),
        (", note: bench", "", "note is missing"),
        ("batch: 1,", "batch: 100000,", "less than or equal to 65536"),
        ("latency: 9 us,", "latency: 9 us, latency_p5: 10 us,", "must not fall"),
        ("latency: 9 us,", "latency: 9 us, latency_p95: 8 us,", "must not fall"),
        ("protocol: latency, kind: latency", "protocol: eager, kind: throughput", "batch 1 needs"),
    ],
)
def test_faulty_file_gives_one_line(tmp_path, old, new, message):
    text = MINIMAL + POINT
    assert old in text
    path = write(tmp_path, text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        load_gpu(path)
    assert "\n" not in str(caught.value)
    assert "toy.yaml" in str(caught.value)


def measured_file(folder: Path, **changes: str) -> Path:
    point = {
        "protocol": "latency", "kind": "latency", "precision": "fp16", "batch": "1",
        "window": "64", "heads": "2", "head_dim": "8", "latency": "9 us", "energy": "5 mJ",
        "source": "user", "note": "bench", **changes,
    }  # fmt: skip
    fields = ", ".join(f"{key}: {value}" for key, value in point.items())
    path = folder / "measured.yaml"
    path.write_text(
        f"gpu: h100-sxm\nmethod: {{}}\ndevice: {{}}\nmeasurements:\n  - {{{fields}}}\n",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("changes", [{"source": "code"}, {"protocol": "paper"}])
def test_a_measured_file_has_what_the_user_measured(tmp_path, changes):
    with pytest.raises(ConfigError, match="source: user, and no protocol paper"):
        load_measured(measured_file(tmp_path, **changes))


def test_an_energy_above_the_gpus_power_is_refused(tmp_path):
    """9 us at 700 W are 6.3 mJ."""
    gpu = load_gpu("h100-sxm", measured=False)
    fine = load_measured(measured_file(tmp_path))
    (point,) = with_measured(gpu, "h100-sxm", [fine]).measurements[8:]
    assert point.series == str(tmp_path / "measured.yaml")
    wrong = load_measured(measured_file(tmp_path, energy="5 J"))
    with pytest.raises(ConfigError, match=r"measured.yaml: batch 1, window 64: energy 5 J is abo"):
        with_measured(gpu, "h100-sxm", [wrong])


def test_missing_file_gives_one_line(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_gpu(tmp_path / "none.yaml")


TOKENS = """\
gpu: h100-sxm
method: {date: '2026-01-31'}
device: {}
model: {name: M, layers: 2, heads: 4, kv_heads: 2, head_dim: 8, mlp: 64, vocabulary: 99}
tokens:
  - {part: whole, precision: bf16, batch: 1, window: 64, latency: 90 us, source: user, note: bench}
"""


def test_a_measured_token_has_its_shape_and_date(tmp_path):
    path = tmp_path / "measured.yaml"
    path.write_text(TOKENS, encoding="utf-8")
    (token,) = load_measured(path).tokens
    assert token.shape.shape.width == 32
    assert (token.date, token.series) == ("2026-01-31", str(path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kv_heads: 2", "kv_heads: 3", "4 heads cannot share 3 kv_heads"),
        ("layers: 2", "layers: 0", "layers must be at least 1"),
        ("part: whole", "part: half", r"tokens\.0\.part"),
        ("source: user", "source: code", "a measured file has source: user"),
        ("vocabulary: 99", "vocabulary: 99, experts: 2", r"model\.experts"),
        (TOKENS[TOKENS.index("model:") : TOKENS.index("tokens:")], "", "tokens need the model"),
        (TOKENS[TOKENS.index("tokens:") :], "", "has measurements or tokens"),
    ],
)
def test_a_faulty_token_file_gives_one_line(tmp_path, old, new, message):
    assert old in TOKENS
    path = tmp_path / "measured.yaml"
    path.write_text(TOKENS.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_measured(path)
    assert "\n" not in str(caught.value)
    assert "measured.yaml" in str(caught.value)
