"""A whole token of GPT-2 small against the hand calculation of docs/baseline.md."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from archsim.baseline import Request, protocols
from archsim.baseline.roofline import DecodeAttention
from archsim.baseline.transformer import (
    GPT2_SMALL,
    accelerator_token,
    compare_models,
    gpu_token,
)
from archsim.config.gpu import load_gpu
from archsim.config.hardware import load_hardware
from archsim.errors import ConfigError

from .figures import PAPER

DIGITAL = load_hardware().config.digital
H100 = load_gpu("h100-sxm", measured=False)
LATENCY = next(p for p in protocols() if p.name == "latency")


def test_work_of_gpt2_small_by_hand():
    # a layer: 3 + 1 + 4 + 4 matrices of 768 x 768, 57 elementwise operations a feature
    assert 12 * (12 * 768**2 + 57 * 768) + 768 * (50257 + 7) == GPT2_SMALL.macs == 124_062_720
    assert 12 * (12 * 768**2 + 13 * 768) + 768 * (50257 + 2) == GPT2_SMALL.weights == 123_653_376
    assert GPT2_SMALL.operations == 12 * 6 + 2 == 74


def test_weights_are_those_of_the_real_model():
    from transformers import GPT2Config, GPT2LMHeadModel

    with __import__("torch").device("meta"):
        model = GPT2LMHeadModel(GPT2Config())
    names = dict(model.named_parameters())
    positions = names["transformer.wpe.weight"].numel()  # one row of it is read a token
    assert sum(p.numel() for p in names.values()) - positions == GPT2_SMALL.weights


def test_accelerator_side_by_hand():
    own = accelerator_token(PAPER, DIGITAL, GPT2_SMALL)
    assert own.attention_s == pytest.approx(0.78e-6)  # 12 x 65 ns
    assert own.attention_j == pytest.approx(0.8856e-6)  # 12 x 73.8 nJ
    # 123.7 MB at 819.2 GB/s take longer than 124.1 M MAC at 10 TMAC/s (12.4 us)
    assert own.rest_s == pytest.approx(150.94e-6, rel=1e-4)
    # 124.06 M x 0.5 pJ + 123.65 MB x 31 pJ
    assert own.rest_j == pytest.approx(0.06203e-3 + 3.83325e-3, rel=1e-4)
    assert own.attention_latency_share == pytest.approx(0.78 / 151.72, rel=1e-3)


def test_gpu_side_by_hand():
    cost, cache = gpu_token(H100, LATENCY, DecodeAttention(1, 12, 64, 1024), GPT2_SMALL)
    assert cache == "cold"  # 247 MB of weights and 38 MB of K and V pass L2 in every token
    attention = 12 * (8.76e-6 + 5.50e-6 + 3_148_800 / (0.918 * 3350e9))
    assert cost.attention_s == pytest.approx(attention, rel=1e-6)
    rest = 74 * 3e-6 + 2 * 123_653_376 / (0.918 * 3350e9)
    assert cost.rest_s == pytest.approx(rest, rel=1e-6)
    busy = (12 * 3_148_800 + 2 * 123_653_376) / 3350e9
    energy = 70 * (attention + rest) + 630 * busy
    assert cost.energy_j == pytest.approx(energy, rel=1e-6)
    assert cost.energy_j < cost.bound_j == pytest.approx(700 * (attention + rest))


def test_the_documented_numbers_are_these():
    """Every figure of the table in docs/baseline.md comes from the code."""
    text = (Path(__file__).parents[2] / "docs" / "baseline.md").read_text(encoding="utf-8")
    found = compare_models(PAPER, DIGITAL, [H100], Request(("latency",)))
    (row,) = found.rows
    shown = dict(re.findall(r"^\| ([^|]+?) \| ([\d.]+) (?:us|mJ|%|x) \|$", text, re.MULTILINE))
    expected = {
        "H100 token": row.latency_us,
        "attention's share of it": 100 * row.attention_latency_share,
        "accelerator token": row.accelerator_latency_us,
        "attention's share of that": 100 * row.accelerator_attention_latency_share,
        "H100 energy": row.energy_mj,
        "accelerator energy": row.accelerator_energy_mj,
        "speed-up": row.speedup,
        "speed-up if only attention moves": row.attention_only_speedup,
    }
    for name, value in expected.items():
        assert float(shown[name]) == pytest.approx(value, rel=5e-3), name


def test_resident_weights_cost_no_traffic():
    resident = DIGITAL.model_copy(update={"weights": "resident"})
    own = accelerator_token(PAPER, resident, GPT2_SMALL)
    assert own.rest_s == pytest.approx(124_062_720 / 10e12)
    assert own.rest_j == pytest.approx(124_062_720 * 0.5e-12)


def test_the_batch_shares_the_weights_on_both_sides():
    one, many = (accelerator_token(PAPER, DIGITAL, GPT2_SMALL, b) for b in (1, 8))
    assert many.attention_s == one.attention_s  # every sequence has its own arrays
    assert many.attention_j == pytest.approx(8 * one.attention_j)
    assert many.rest_s == one.rest_s  # still bound by the weights
    assert many.rest_j < 8 * one.rest_j
    steps = [DecodeAttention(1, 12, 64, 1024, b) for b in (1, 8)]
    alone, shared = (gpu_token(H100, LATENCY, step, GPT2_SMALL)[0] for step in steps)
    assert shared.rest_s == pytest.approx(alone.rest_s)


def test_amdahl():
    """With only attention moved, no speed-up beyond one over the rest's share."""
    (row,) = compare_models(PAPER, DIGITAL, [H100], Request(("latency",))).rows
    bound = 1 / (1 - row.attention_latency_share)
    assert 1 < row.attention_only_speedup < bound
    assert row.attention_only_speedup == pytest.approx(bound, rel=0.01)


def test_refusals():
    with pytest.raises(ConfigError, match="12 heads x 64; the accelerator has 4 x 64"):
        compare_models(replace(PAPER, heads=4), DIGITAL, [H100], Request(("latency",)))
    with pytest.raises(ConfigError, match="paper measures attention alone"):
        compare_models(PAPER, DIGITAL, [H100], Request(("paper",)))
    found = compare_models(
        PAPER,
        DIGITAL,
        [load_gpu("jetson-nano", measured=False)],
        Request(("eager",), precision="bf16"),
    )
    assert found.rows == ()
    assert "bf16" in found.omitted[0]


def test_weights_and_cache_must_fit_the_memory():
    """248 MB of weights and 37.7 MB of K and V a sequence: 99 sequences fit the Nano's 4 GB."""
    nano = load_gpu("jetson-nano", measured=False)
    (row,) = compare_models(PAPER, DIGITAL, [nano], Request(("throughput",))).rows
    assert row.batch == 64
    for batch, rows in ((99, 1), (100, 0)):
        asked = Request(("throughput",), batch=batch)
        assert len(compare_models(PAPER, DIGITAL, [nano], asked).rows) == rows
    (reason,) = compare_models(PAPER, DIGITAL, [nano], asked).omitted
    assert "batch 100: the weights and K and V of 12 layers at window 1,024 need 4.02 GB" in reason
