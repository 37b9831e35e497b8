"""Rows beside the accelerator: published ratios and honest labels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archsim.baseline import AcceleratorFigures, compare, protocols
from archsim.config.gpu import available_gpus, load_gpu
from archsim.errors import InvariantError

PAPER = AcceleratorFigures(
    name="gaincell",
    attention_latency_s=65e-9,
    energy_per_token_j=73.8e-9,
    layers=12,
    heads=12,
    head_dim=64,
    window=1024,
    protocol_note="the paper's figures",
)
ALL = [load_gpu(name) for name in available_gpus()]


def rows(accelerator=PAPER, gpus=ALL, **wanted):
    found = compare(accelerator, gpus).rows
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
    row = one(protocol="paper", gpu=gpu)
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
    row = one(gpu=gpu, kind=kind, source="measured")
    assert row.speedup == pytest.approx(speedup)
    assert row.batch == (1 if kind == "latency" else 64)
    assert row.energy_mj is None
    assert row.energy_ratio is None
    assert row.energy_bound_mj == pytest.approx(700 * row.latency_us * 1e-3)


def test_model_rows_for_every_gpu():
    for gpu in ALL:
        latency = one(gpu=gpu.name, source="model", kind="latency")
        throughput = one(gpu=gpu.name, source="model", kind="throughput")
        assert (latency.batch, latency.precision) == (1, "fp16")
        assert (throughput.batch, throughput.precision) == (64, "fp16")
        assert latency.latency_us == latency.per_token_latency_us
        assert throughput.latency_us == pytest.approx(64 * throughput.per_token_latency_us)
        assert throughput.speedup < latency.speedup
        assert 0 < throughput.energy_mj < throughput.energy_bound_mj


def test_measured_energy_is_below_thermal_design():
    for row in rows(protocol="paper"):
        assert row.energy_mj < row.energy_bound_mj


def test_kind_agrees_with_the_protocol():
    kinds = {protocol.name: protocol.kind for protocol in protocols()}
    assert [row for row in rows() if row.kind != kinds[row.protocol]] == []


def test_ratios_follow_the_accelerator():
    slower = replace(PAPER, attention_latency_s=130e-9, energy_per_token_j=36.9e-9)
    for ours, theirs in zip(rows(), rows(slower), strict=True):
        assert theirs.speedup == pytest.approx(ours.speedup / 2)
        if ours.energy_ratio is not None:
            assert theirs.energy_ratio == pytest.approx(ours.energy_ratio * 2)


def test_nearest_window_is_named():
    row = one(replace(PAPER, window=3000), gpu="H100 SXM", source="measured", kind="latency")
    assert row.window == 4096
    assert "window 4096" in row.note
    assert "3000" in row.note
    tie = one(replace(PAPER, window=320), gpu="H100 SXM", source="measured", kind="latency")
    assert tie.window == 128
    exact = one(gpu="H100 SXM", source="measured", kind="latency")
    assert "nearest" not in exact.note


def test_paper_protocol_needs_the_full_window():
    result = compare(replace(PAPER, window=512), ALL)
    assert not any(row.protocol == "paper" for row in result.rows)
    assert sum("protocol paper" in reason for reason in result.omitted) == 2


def test_another_shape_leaves_models_only():
    result = compare(replace(PAPER, heads=8), ALL)
    assert {row.source for row in result.rows} == {"model"}
    assert {row.heads for row in result.rows} == {8}
    assert len(result.omitted) == 6  # two of the paper, and two protocols of H100 and H200
    assert "measured with 12 heads x 64" in result.omitted[0]


def test_protocol_flaws_are_told():
    described = {protocol.name: protocol for protocol in protocols()}
    flaws = " ".join(described["paper"].flaws)
    for word in ("key 0", "synchronise", "throughput", "power sample"):
        assert word in flaws
    for protocol in protocols():
        assert protocol.description.count(". ") == 0


@pytest.mark.parametrize("value", [0.0, -1e-9, float("nan"), float("inf")])
def test_impossible_figures_are_refused(value):
    with pytest.raises(InvariantError, match="attention_latency_s"):
        replace(PAPER, attention_latency_s=value)
