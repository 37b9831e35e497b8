"""Rows beside the accelerator: published ratios and honest labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from archsim.cli.compare import PROTOCOLS
from archsim.comparison.capacity import memory_bytes
from archsim.comparison.compare import compare
from archsim.comparison.request import Request
from archsim.errors import ConfigError, InvariantError
from archsim.gpu.file import available_gpus, load_gpu
from archsim.gpu.protocols import protocols
from archsim.gpu.roofline import DecodeAttention

from . import figures

PAPER = replace(figures.PAPER, layers=12)
ALL = [load_gpu(name, measured=False) for name in available_gpus()]
H100 = load_gpu("h100-sxm")


def rows(accelerator=PAPER, gpus=ALL, request=None, **wanted):
    found = compare(accelerator, gpus, request).rows
    return [row for row in found if all(getattr(row, k) == v for k, v in wanted.items())]


def one(*args, **wanted):
    (row,) = rows(*args, **wanted)
    return row


@pytest.mark.parametrize(
    ("gpu", "speedup", "energy_ratio", "latency_us", "energy_mj"),
    [
        ("RTX 4090", 344, 97266, 22.37165, 7.178262),
        ("Jetson Nano", 7521, 43981, 488.850, 3.245768),
    ],
)
def test_published_ratios(gpu, speedup, energy_ratio, latency_us, energy_mj):
    row = one(protocol="paper", gpu=gpu, source="measured")
    assert (row.claimed_speedup, row.claimed_energy_ratio) == (speedup, energy_ratio)
    assert row.speedup == pytest.approx(speedup, rel=0.01)
    assert row.energy_ratio == pytest.approx(energy_ratio, rel=0.01)
    assert row.per_token_latency_us == pytest.approx(latency_us, rel=1e-5)
    assert row.per_token_energy_mj == pytest.approx(energy_mj, rel=1e-5)
    assert row.latency_us == pytest.approx(64 * latency_us, rel=1e-5)
    assert (row.batch, row.precision, row.kind) == (64, "fp32", "throughput")
    assert (row.layers, row.heads, row.window, row.source) == (1, 12, 1024, "measured")


@pytest.mark.parametrize(
    ("gpu", "kind", "speedup"),
    [
        ("H100 SXM", "latency", 15.6e-6 / 65e-9),  # 240x
        ("H100 SXM", "throughput", 80.8e-6 / 64 / 65e-9),  # 19x
        ("H200 SXM", "latency", 15.4e-6 / 65e-9),
        ("H200 SXM", "throughput", 64.2e-6 / 64 / 65e-9),
    ],
)
def test_measured_decode(gpu, kind, speedup):
    row = one(gpu=gpu, protocol=kind, source="measured")
    assert row.speedup == pytest.approx(speedup)
    assert row.batch == (1 if kind == "latency" else 64)
    assert row.energy_mj is None
    assert row.energy_ratio is None
    assert row.energy_bound_mj == pytest.approx(700 * row.latency_us * 1e-3)
    assert (row.kernel, row.date) == ("TensorRT-LLM", None)


def test_the_fastest_measured_kernel_leads_and_is_named():
    """5.92 us and 1.077 mJ by cuDNN, before the 15.6 us of another library (FACTS 4)."""
    first, second = rows(gpus=[H100], protocol="latency", source="measured")
    assert (first.kernel, first.date) == ("cudnn", "2026-11-28")
    assert first.latency_us == pytest.approx(5.92)
    assert first.speedup == pytest.approx(5.92e-6 / 65e-9)  # 91x
    assert first.energy_ratio == pytest.approx(1.0771e-3 / 73.8e-9)  # 14,595x
    assert (second.kernel, second.latency_us) == ("TensorRT-LLM", pytest.approx(15.6))
    request = Request(("throughput",), batch=64)
    first, second = rows(gpus=[H100], request=request, source="measured")
    assert first.per_token_latency_us == pytest.approx(69.965 / 64)  # 17x
    assert first.energy_ratio == pytest.approx(40.773e-3 / 64 / 73.8e-9)  # 8,632x
    assert second.kernel == "TensorRT-LLM"


def test_the_papers_setting_was_measured_on_an_h100():
    """455.49 us and 210.27 mJ a step, 132.44 W idle: 109x, 31,748x above idle, 44,521x with it."""
    row = one(gpus=[H100], protocol="paper", source="measured")
    assert (row.claimed_speedup, row.claimed_energy_ratio) == (100, 70000)
    assert row.speedup == pytest.approx(455.49e-6 / 64 / 65e-9)
    above = 0.21027 - 132.44 * 455.49e-6
    assert row.energy_ratio == pytest.approx(above / 64 / 73.8e-9)
    assert row.total_energy_ratio == pytest.approx(0.21027 / 64 / 73.8e-9)
    assert row.above_idle
    assert (row.kernel, row.batch, row.precision, row.kind) == ("math", 64, "fp32", "throughput")
    assert "every key attended to" in row.note
    model = one(gpus=[H100], protocol="paper", source="model")
    assert model.latency_error == pytest.approx(model.latency_us / row.latency_us - 1)
    assert model.energy_error == pytest.approx(model.energy_mj / row.energy_mj - 1)


def test_a_modelled_row_has_its_error_where_its_point_was_measured_and_else_what_to_expect():
    for protocol, precision, batch in (
        ("latency", None, None), ("throughput", None, 64), ("throughput", "fp16", 64),
        ("eager", "fp16", 64), ("latency", "fp32", None),
    ):  # fmt: skip
        request = Request((protocol,), batch=batch, precision=precision)
        measured = rows(gpus=[H100], request=request, source="measured")[0]
        model = one(gpus=[H100], request=request, source="model")
        assert model.latency_error == pytest.approx(model.latency_us / measured.latency_us - 1)
        assert model.energy_error == pytest.approx(model.energy_mj / measured.energy_mj - 1)
        assert model.expected_latency_error is model.expected_energy_error is None
        assert measured.latency_error is measured.expected_latency_error is None
    request = Request(("throughput",), batch=32)
    model = one(gpus=[H100], request=request, source="model")
    assert model.latency_error is None
    assert model.error_fitted is None
    assert model.expected_latency_error == H100.expected_error.fused.time
    for gpu in ALL:
        row = one(gpus=[gpu], protocol="latency", source="model")
        assert row.latency_error is None  # nothing, or only another library, was measured
        expected = gpu.expected_error.fused or gpu.expected_error
        assert row.expected_latency_error == expected.time
        assert row.expected_energy_error == expected.energy


@pytest.mark.parametrize(
    ("protocol", "options", "expected"),
    [
        ("throughput", {"batch": 32}, (0.039, 0.05)),
        ("eager", {"batch": 48, "precision": "bf16"}, (0.024, 0.104)),
        ("latency", {"precision": "fp32", "cache": "cold"}, (0.04, None)),
        ("eager", {"batch": 3, "cache": "cold"}, (0.04, None)),
    ],
)
def test_the_error_to_expect_is_that_of_the_rows_own_kind_of_work(protocol, options, expected):
    """Energy of a cold cache was never measured: nobody knows how far it is off."""
    request = Request((protocol,), **options)
    row = one(gpus=[H100], request=request, source="model")
    assert (row.expected_latency_error, row.expected_energy_error) == expected
    other = one(gpus=[load_gpu("h200-sxm")], request=request, source="model")
    assert (other.expected_latency_error, other.expected_energy_error) == (0.07, 0.1)


@pytest.mark.parametrize(
    ("window", "batch", "fitted"),  # numbers of batch and window: an even sum is fitted
    [(128, 1, True), (512, 1, False), (1024, 1, True), (2048, 4, True), (4096, 16, True),
     (8192, 4, True), (2048, 64, True), (4096, 64, False), (1024, 256, True), (512, 256, False)],
)  # fmt: skip
def test_a_row_says_whether_the_model_was_fitted_to_its_point(window, batch, fitted):
    request = Request(
        ("throughput" if batch > 1 else "latency",), batch=batch if batch > 1 else None
    )
    row = one(replace(PAPER, window=window), gpus=[H100], request=request, source="model")
    assert row.latency_error is not None
    assert row.error_fitted is fitted
    own = H100.model_copy(update={"model": H100.model.model_copy(update={"launch": 3e-6})})
    again = one(replace(PAPER, window=window), gpus=[own], request=request, source="model")
    assert again.error_fitted is fitted  # `baseline fit` takes the same half


def test_points_of_another_file_were_not_fitted():
    twice = tuple(
        p.model_copy(update={"series": "my.yaml", "latency": p.latency * 0.9})
        for p in H100.measurements
        if p.source == "user"
    )
    both = H100.model_copy(update={"measurements": (*H100.measurements, *twice)})
    assert one(gpus=[both], protocol="latency", source="model").error_fitted is False
    assert one(gpus=[H100], protocol="latency", source="model").error_fitted is True


def test_a_slow_kernel_of_the_same_file_does_not_lead():
    slow = tuple(p for p in H100.measurements if p.kernel in {"flash", "math"})
    only = H100.model_copy(update={"measurements": slow})
    row = one(gpus=[only], protocol="latency", source="measured")
    assert (row.kernel, row.latency_us) == ("flash", pytest.approx(10.032))
    assert one(gpus=[only], protocol="latency", source="model").latency_error is None


def test_grouped_queries_are_another_shape():
    grouped = tuple(p.model_copy(update={"kv_heads": 4}) for p in H100.measurements)
    found = compare(PAPER, [H100.model_copy(update={"measurements": grouped})])
    assert {row.source for row in found.rows} == {"model"}


def test_model_rows_for_every_gpu():
    for gpu in ALL:
        latency = one(gpu=gpu.name, source="model", protocol="latency")
        throughput = one(gpu=gpu.name, source="model", protocol="throughput")
        eager = one(gpu=gpu.name, source="model", protocol="eager")
        half = "bf16" if gpu.peak.has("bf16") else "fp16"
        assert (latency.batch, latency.precision, latency.kind) == (1, half, "latency")
        assert (throughput.precision, throughput.kind) == (half, "throughput")
        assert (eager.batch, eager.precision, eager.kind) == (1, "fp32", "latency")
        assert latency.latency_us == latency.per_token_latency_us
        batch = throughput.batch
        assert throughput.latency_us == pytest.approx(batch * throughput.per_token_latency_us)
        assert throughput.speedup < latency.speedup < eager.speedup
        for row in (latency, throughput, eager):
            assert 0 < row.energy_mj <= row.energy_bound_mj


def test_the_best_batch_is_the_best_that_fits():
    for gpu in ALL:
        best = one(gpu=gpu.name, source="model", protocol="throughput")
        for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256):
            found = compare(PAPER, [gpu], Request(("throughput",), batch=batch), ["model"])
            if batch * 12 * 3_145_728 > gpu.memory.size:
                assert found.rows == ()
                continue
            (other,) = found.rows
            assert other.batch == batch
            assert best.per_token_latency_us <= other.per_token_latency_us


def test_a_batch_that_does_not_fit_the_memory_is_left_out():
    """K and V of 12 layers at batch 256 are 256 x 12 x 3.1 MB = 9.7 GB; the Nano has 4 GB."""
    nano = load_gpu("jetson-nano", measured=False)
    found = compare(PAPER, [nano], Request(("throughput",), batch=256))
    assert found.rows == ()
    (reason,) = found.omitted
    assert reason == (
        "Jetson Nano, protocol throughput: batch 256: K and V of 12 layers at window 1,024 need "
        "9.66 GB; the GPU has 4 GB"
    )
    assert one(gpus=[nano], protocol="throughput").batch == 64
    assert [r.batch for r in rows(replace(PAPER, layers=1), [nano], protocol="throughput")] == [256]
    huge = replace(PAPER, window=8192)
    for gpu in ALL:
        assert compare(huge, [gpu], Request(("throughput",), batch=65536)).rows == ()
    wide = compare(replace(PAPER, window=2_000_000), [nano], Request(("latency",)))
    assert wide.rows == ()
    assert "batch 1: K and V of 12 layers" in wide.omitted[0]


def test_the_copies_of_unfused_operations_need_memory_too():
    step = DecodeAttention(12, 12, 64, 1024, 4, "fp32")
    one_layer = 4 * 2 * 12 * 1024 * 64 * 4
    vectors = 4 * 2 * 12 * 64 * 4
    assert memory_bytes(step) == 12 * one_layer + vectors
    assert memory_bytes(step, "eager") == 12.5 * one_layer + vectors
    assert memory_bytes(step, weights=1e6) == memory_bytes(step) + 1e6


def test_a_request_is_obeyed_and_said():
    request = Request(("latency", "eager"), batch=8, precision="fp32", cache="cold")
    found = rows(request=request, source="model")
    assert {row.protocol for row in found} == {"latency", "eager"}
    assert {(row.precision, row.cache) for row in found} == {("fp32", "cold")}
    assert {row.batch for row in found if row.protocol == "latency"} == {1}
    assert {(row.batch, row.kind) for row in found if row.protocol == "eager"} == {
        (8, "throughput")
    }


def test_what_a_gpu_cannot_do_is_left_out_with_its_reason():
    result = compare(PAPER, ALL, Request(("latency",), precision="bf16"))
    assert "Jetson Nano" not in {row.gpu for row in result.rows}
    assert result.omitted == ("Jetson Nano, protocol latency: this GPU file gives no bf16 rate",)
    absent = compare(
        PAPER, [load_gpu("h100-sxm", measured=False)], Request(("throughput",), batch=32)
    )
    assert [row.source for row in absent.rows] == ["model"]
    assert absent.omitted == ("H100 SXM, protocol throughput: not measured as asked for",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocols": ("fastest",)}, "use some of paper, latency, throughput, eager"),
        ({"protocols": ()}, "use some of"),
        ({"batch": 0}, "batch 0: 1 to"),
        ({"protocols": ("latency",), "batch": 8}, "latency is batch 1"),
        ({"protocols": ("paper",), "batch": 1}, "batch: protocol paper has its own"),
        ({"protocols": ("paper",), "cache": "cold"}, "cache cold: protocol paper has its own"),
        ({"protocols": ("paper",), "precision": "fp16"}, "precision: protocol paper has its own"),
    ],
)
def test_impossible_requests_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Request(**arguments)


def test_paper_ignores_the_request():
    asked = rows(request=Request(batch=8, precision="fp16", cache="cold"), protocol="paper")
    assert asked == rows(protocol="paper")
    assert {(row.batch, row.precision) for row in asked} == {(64, "fp32")}


def test_prediction_of_the_authors_points_has_its_error():
    for gpu in ("RTX 4090", "Jetson Nano"):
        measured = one(protocol="paper", gpu=gpu, source="measured")
        model = one(protocol="paper", gpu=gpu, source="model")
        assert model.latency_error == pytest.approx(model.latency_us / measured.latency_us - 1)
        assert model.energy_error == pytest.approx(model.energy_mj / measured.energy_mj - 1)
        assert measured.latency_error is None
    assert one(protocol="paper", gpu="H100 SXM").latency_error is None  # not measured


def test_the_same_capacity_on_both_sides():
    """Tokens through all 12 layers: a chip holds 12 layers, of which one works at a time."""
    row = one(protocol="throughput", gpu="H100 SXM", source="measured")
    capacity = row.capacity
    assert (capacity.layers, capacity.sequences_per_chip, capacity.chips) == (12, 1, 64)
    assert capacity.area_mm2 == pytest.approx(64 * 12 * 6)
    assert capacity.power_w == pytest.approx(64 * 73.8e-9 / 65e-9)
    assert capacity.speedup == pytest.approx(80.8e-6 / 65e-9)
    assert capacity.tokens_per_s_per_mm2 == pytest.approx(1 / (12 * 65e-9) / (12 * 6))
    assert capacity.tokens_per_j == pytest.approx(1 / (12 * 73.8e-9))
    assert capacity.gpu_tokens_per_s_per_mm2 == pytest.approx(64 / (12 * 80.8e-6) / 814)
    assert capacity.gpu_tokens_per_j is None  # nobody measured its energy
    one_sequence = 12 * 2 * 12 * 1024 * 64 * 2 + 2 * 12 * 64 * 2
    assert capacity.gpu_most_sequences == 80_000_000_000 // one_sequence
    assert all((row.capacity is None) == (row.protocol != "throughput") for row in rows())
    # tokens/s of the whole stack and mm^2: the advantage shrinks with the number of layers
    flat = one(
        replace(PAPER, layers=1), protocol="throughput", gpu="H100 SXM", source="measured"
    ).capacity
    ratios = [c.tokens_per_s_per_mm2 / c.gpu_tokens_per_s_per_mm2 for c in (flat, capacity)]
    assert ratios[0] == pytest.approx(12 * ratios[1])


def test_a_measured_batch_that_no_stack_of_layers_could_have_has_no_capacity():
    deep = replace(PAPER, layers=1000)  # 64 sequences of 1,000 layers: 201 GB
    row = one(deep, protocol="throughput", gpu="H100 SXM", source="measured")
    assert row.capacity is None


def test_measured_energy_is_below_the_bound_which_is_above_idle_as_it_is():
    for row in rows(protocol="paper", source="measured"):
        assert row.energy_mj < row.energy_bound_mj
        power = next(gpu.power for gpu in ALL if gpu.name == row.gpu)
        above_idle = power.thermal_design - power.idle
        assert row.energy_bound_mj == pytest.approx(above_idle * row.latency_us * 1e-3)


def test_ratios_follow_the_accelerator():
    slower = replace(PAPER, attention_latency_s=130e-9, energy_per_token_j=36.9e-9)
    for ours, theirs in zip(rows(), rows(slower), strict=True):
        assert theirs.speedup == pytest.approx(ours.speedup / 2)
        if ours.energy_ratio is not None:
            assert theirs.energy_ratio == pytest.approx(ours.energy_ratio * 2)


def test_a_measured_row_needs_the_very_window():
    """No ratio of two different amounts of work: it would count in --fail-below."""
    for window in (320, 3000, 8192):
        result = compare(replace(PAPER, window=window), [load_gpu("h100-sxm", measured=False)])
        assert {row.source for row in result.rows} == {"model"}
        assert {row.window for row in result.rows} == {window}
        reason = f"measured at windows 128, 512, 1,024, 4,096, not at {window:,}"
        assert f"H100 SXM, protocol latency: {reason}" in result.omitted
        assert f"H100 SXM, protocol throughput: {reason}" in result.omitted
    exact = one(replace(PAPER, window=512), gpu="H100 SXM", source="measured", protocol="latency")
    assert (exact.window, exact.latency_us) == (512, pytest.approx(9.8))


def test_paper_protocol_needs_the_full_window():
    """No GPU goes without a row or a reason, and no reason comes twice."""
    result = compare(replace(PAPER, window=512), ALL)
    assert not any(row.protocol == "paper" for row in result.rows)
    reason = "of 12 heads x 64, window 1,024; the accelerator has 12 x 64, window 512"
    told = [text for text in result.omitted if "protocol paper" in text]
    assert told == [f"{gpu.name}, protocol paper: {reason}" for gpu in ALL]
    assert {row.window for row in result.rows if row.source == "model"} == {512}


def test_another_shape_leaves_models_only():
    result = compare(replace(PAPER, heads=8), ALL)
    assert {row.source for row in result.rows} == {"model"}
    assert {row.heads for row in result.rows} == {8}
    assert len(result.omitted) == 9  # five of the paper, and two protocols of H100 and H200
    assert "of 12 heads x 64, window 1,024; the accelerator has 8 x 64" in result.omitted[0]


def test_protocol_flaws_are_told():
    described = {protocol.name: protocol for protocol in protocols()}
    flaws = " ".join(described["paper"].flaws)
    for word in ("key 0", "synchronise", "throughput", "power sample"):
        assert word in flaws
    assert [protocol.name for protocol in protocols()] == [
        "paper", "latency", "throughput", "eager",
    ]  # fmt: skip
    docs = (Path(__file__).parents[2] / "docs" / "baseline.md").read_text(encoding="utf-8")
    for protocol in protocols():
        assert protocol.description.count(". ") == 0
        assert protocol.name in PROTOCOLS
    assert len(PROTOCOLS) == len(protocols())
    for protocol in protocols():
        assert f"**{protocol.name}**" in docs


@pytest.mark.parametrize("value", [0.0, -1e-9, float("nan"), float("inf")])
def test_impossible_figures_are_refused(value):
    with pytest.raises(InvariantError, match="attention_latency_s"):
        replace(PAPER, attention_latency_s=value)


def test_readme_and_docs_have_the_figures_that_are_computed():
    """Their prose on the H100: measured, rounded, and no figure of the table it replaces."""
    latency = rows(gpus=[H100], protocol="latency", source="measured")[0]
    asked = Request(("throughput",), batch=64)
    batch = rows(gpus=[H100], request=asked, source="measured")[0]
    paper = one(gpus=[H100], protocol="paper", source="measured")
    root = Path(__file__).parents[2]
    readme = " ".join((root / "README.md").read_text(encoding="utf-8").split())
    docs = " ".join((root / "docs" / "baseline.md").read_text(encoding="utf-8").split())

    def about(value, digits):
        return f"{round(value, digits):,.0f}x"

    for text in (readme, docs):
        assert f"{about(latency.speedup, 0)} faster" in text
        assert f"{about(latency.energy_ratio, -2)} less energy" in text
        assert about(batch.speedup, 0) in text
        assert about(paper.speedup, 0) in text
        assert about(paper.energy_ratio, -2) in text
        assert "12.8 %" in text
        assert "1.15x" in text
    assert about(batch.energy_ratio, -2) in readme
    assert about(batch.energy_ratio, -1) in docs
    assert about(paper.total_energy_ratio, -2) in docs
    assert f"step is {batch.capacity.speedup:,.0f}x faster" in docs
    assert "240x" not in docs
