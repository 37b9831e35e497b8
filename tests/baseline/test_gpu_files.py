"""The shipped GPU files: every number has a source, and faults give one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim.config.gpu import Gpu, available_gpus, load_gpu, load_measured, with_measured
from archsim.config.loading import leaf_paths, read_document
from archsim.errors import ConfigError
from archsim.files import data_folder

SHIPPED = ("a100-80gb", "h100-sxm", "h200-sxm", "jetson-nano", "rtx-4090")
NOT_NUMBERS = {"name", "device", "claim", "measurements"}  # points carry their own source

MINIMAL = """\
name: Toy
peak: {fp32: 1 TFLOP/s, fp16: 2 TFLOP/s}
memory: {size: 1 GB, bandwidth: 100 GB/s, l2: 1 MB, l2_bandwidth: 300 GB/s}
power: {thermal_design: 10 W, idle: 1 W}
timing: {floor: 8 us, bandwidth_efficiency: 0.8}
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
    timing = {path for path in leaf_paths(Gpu) if path.startswith("timing.")}
    assert not timing & numbers  # of kernels, not of a GPU: in one file
    optional = {"peak.bf16", "die_area"}
    assert numbers >= set(leaf_paths(Gpu)) - NOT_NUMBERS - timing - optional
    for path in numbers:
        assert document.provenance[path].source != "user", path
        assert document.provenance[path].note, path
    for point in load_gpu(name, measured=False).measurements:
        assert point.source != "user"
        assert point.note


def test_timing_is_in_one_file_and_a_gpu_file_may_change_a_part_of_it(tmp_path):
    path = data_folder("hwconfigs") / "gpus" / "timing" / "decode.yaml"
    document = read_document(path)
    for key, found in document.provenance.items():
        assert found.source != "user", key
        assert found.note, key
    own = load_gpu(write(tmp_path, MINIMAL))
    shared = load_gpu("a100-80gb").timing
    assert own.timing.floor == 8e-6
    assert own.timing.bandwidth_efficiency == 0.8
    assert (own.timing.step, own.timing.eager_launch) == (shared.step, shared.eager_launch)


def test_claims_are_those_of_the_paper():
    claims = {name: load_gpu(name).claim for name in SHIPPED}
    found = {n: (c.speedup, c.energy_ratio) for n, c in claims.items() if c is not None}
    assert found == {
        "rtx-4090": (344, 97266),
        "jetson-nano": (7521, 43981),
        "h100-sxm": (100, 70000),
    }


def test_the_docs_say_whether_anything_was_measured():
    """As long as there is no measured file, docs and folder say so; those there are faultless."""
    folder = data_folder("hwconfigs") / "gpus" / "measured"
    files = [load_measured(path) for path in folder.glob("*.yaml")]
    docs = Path(__file__).parents[2] / "docs" / "baseline.md"
    for text in (docs, folder / "README.md"):
        flat = " ".join(text.read_text(encoding="utf-8").split())
        assert files or "no GPU has been measured" in flat
    for file in files:
        points = load_gpu(file.gpu).measurements
        assert len(points) >= len(file.measurements)


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
        point for point in load_gpu(name, measured=False).measurements if point.batch == batch
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
        ("bandwidth_efficiency: 0.8", "bandwidth_efficiency: 1.2", "less than or equal to 1"),
        ("l2_bandwidth: 300", "l2_bandwidth: 30", "l2_bandwidth must not be below bandwidth"),
        ("bandwidth: 100", "bandwith: 100", r"memory\.bandwidth"),
        ("floor: 8 us", "floor: 0 us", "greater than or equal"),
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
