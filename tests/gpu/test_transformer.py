"""A whole token of GPT-2 small against the hand calculation of docs/baseline.md."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from archsim.comparison.request import Request
from archsim.comparison.transformer import (
    GPT2_SMALL,
    TransformerShape,
    accelerator_token,
    compare_models,
)
from archsim.errors import ConfigError
from archsim.gpu.file import load_gpu
from archsim.gpu.roofline import DecodeAttention, estimate
from archsim.gpu.token import attention_alone, gpu_token, kernels_besides_attention
from archsim.hardware.load import load_hardware

from .figures import PAPER

DIGITAL = load_hardware().config.digital
H100 = load_gpu("h100-sxm", measured=False)
MEASURED = load_gpu("h100-sxm")
STEP = DecodeAttention(1, 12, 64, 1024, precision="bf16")


def test_work_of_gpt2_small_by_hand():
    # a layer: 3 + 1 + 4 + 4 matrices of 768 x 768, 57 elementwise operations a feature
    assert 12 * (12 * 768**2 + 57 * 768) + 768 * (50257 + 7) == GPT2_SMALL.macs == 124_062_720
    assert 12 * (12 * 768**2 + 13 * 768) + 768 * (50257 + 2) == GPT2_SMALL.weights == 123_653_376
    # two LayerNorms, four matrices, GELU, two residual sums, K and V written; twice at the end
    assert kernels_besides_attention(GPT2_SMALL) == 12 * 11 + 2 == 134


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
    """Batch 1: attention from memory; the output matrix streams, a small product is launches."""
    cost = gpu_token(H100, "graph", STEP, GPT2_SMALL)
    model = H100.model
    weights, cache = 2 * GPT2_SMALL.weights, 3_145_728
    whole = replace(STEP, layers=12)
    between = weights + 11 * cache  # pass L2 from one use of a layer's K and V to the next
    attention = estimate(H100, whole, between=between)
    assert attention.memory_bytes == pytest.approx(12 * STEP.layer_bytes, rel=1e-6)
    assert cost.attention_s == attention.latency_s
    assert cost.attention_j == attention.energy_j
    l2, rate = model.l2_efficiency * 10100e9, model.arithmetic_efficiency * 989.4e12

    def product(inputs, outputs):
        memory = 2 * inputs * outputs / (model.memory_efficiency * 3350e9)
        flop = 2 * 64 * inputs * outputs / rate
        blocks = outputs / 64
        walked = blocks * 65 * inputs * 2
        pieces = max(1, inputs / 128)
        times = []
        for launches, extra, depth in ((1, 0, inputs), (2, 8 * pieces * outputs, inputs / pieces)):
            block = 132 * (65 * depth * 2 / l2 + 2 * 64 * 64 * depth / rate)
            parts = (memory, (walked + extra) / l2, flop, block)
            times.append(launches * model.launch + sum(t**4 for t in parts) ** 0.25)
        return min(times)

    layer = product(768, 2304) + product(768, 768) + product(768, 3072) + product(3072, 768)
    rest = 12 * (layer + 7 * model.launch) + model.launch + product(768, 50257)
    assert cost.rest_s == pytest.approx(rest, rel=1e-3)  # elementwise bytes are next to nothing
    assert cost.energy_j < cost.bound_j == pytest.approx(700 * cost.latency_s)


@pytest.mark.parametrize("token", MEASURED.tokens, ids=lambda t: f"{t.part}-{t.batch}-{t.window}")
def test_every_measured_token_is_predicted_within_15_percent(token):
    step = replace(STEP, batch=token.batch, window=token.window)
    cost = gpu_token(H100, "graph", step, GPT2_SMALL)
    found = {
        "whole": (cost.latency_s, cost.energy_j),
        "rest": (cost.rest_s, cost.rest_j),
        "attention": attention_alone(H100, "graph", step, GPT2_SMALL),
    }[token.part]
    assert found == pytest.approx((token.latency, token.energy), rel=0.15)


def test_a_measured_token_comes_first_and_the_model_has_its_error():
    measured, model = compare_models(PAPER, DIGITAL, [MEASURED], Request(("latency",))).rows
    assert (measured.source, model.source) == ("measured", "model")
    assert measured.latency_us == pytest.approx(614.98)
    assert measured.energy_mj == pytest.approx(133.02)
    assert measured.attention_latency_share == pytest.approx(78.944 / 614.98, rel=1e-4)  # 12.8 %
    assert measured.attention_only_bound == pytest.approx(1.147, abs=1e-3)
    assert measured.date == "2026-11-28"
    assert model.latency_error == pytest.approx(model.latency_us / measured.latency_us - 1)
    assert model.energy_error == pytest.approx(model.energy_mj / measured.energy_mj - 1)
    assert model.expected_latency_error is None
    found = compare_models(PAPER, DIGITAL, [MEASURED], Request(("throughput",), batch=8)).rows
    assert [(row.source, row.batch) for row in found] == [("measured", 8), ("model", 8)]
    (alone,) = compare_models(
        replace(PAPER, window=512), DIGITAL, [MEASURED], Request(("latency",))
    ).rows
    assert alone.latency_error is None
    expected = MEASURED.expected_error.whole_token
    assert (alone.expected_latency_error, alone.expected_energy_error) == (
        expected.time, expected.energy,
    )  # fmt: skip
    assert (alone.error_fitted, model.error_fitted) == (None, False)
    (eager,) = compare_models(PAPER, DIGITAL, [MEASURED], Request(("eager",))).rows
    unfused = MEASURED.expected_error.unfused
    assert (eager.expected_latency_error, eager.expected_energy_error) == (
        expected.time, unfused.energy,
    )  # fmt: skip
    other = TransformerShape("other", 12, 12, 64, 32000)
    (alone,) = compare_models(PAPER, DIGITAL, [MEASURED], Request(("latency",)), other).rows
    assert alone.source == "model"


@pytest.mark.parametrize(
    ("window", "request_", "shape", "reason"),
    [
        (2048, Request(("latency",)), GPT2_SMALL,
         "protocol latency: whole tokens measured at windows 128, 1,024, 4,096, not 2,048"),
        (1024, Request(("throughput",), precision="fp16"), GPT2_SMALL,
         "protocol throughput: whole tokens measured in bf16, not fp16"),
        (128, Request(("throughput",), batch=32), GPT2_SMALL,
         "protocol throughput: whole tokens measured at batch 1, not 32"),
        (1024, Request(("throughput",), batch=32), GPT2_SMALL,
         "protocol throughput: whole tokens measured at batches 1, 8, 64, not 32"),
        (1024, Request(("latency",)), TransformerShape("other", 12, 12, 64, 32000),
         "protocol latency: measured tokens of GPT-2 small, another shape than other"),
    ],
)  # fmt: skip
def test_measured_tokens_that_do_not_fit_are_left_out_by_name(window, request_, shape, reason):
    found = compare_models(replace(PAPER, window=window), DIGITAL, [MEASURED], request_, shape)
    assert {row.source for row in found.rows} == {"model"}
    assert found.omitted == (f"{MEASURED.name}, {reason}",)
    nobody = compare_models(replace(PAPER, window=window), DIGITAL, [H100], request_, shape)
    assert nobody.omitted == ()  # nothing of it was measured


def test_the_parts_of_a_measured_token_are_of_one_run():
    """A later run that measured the whole alone takes no attention from an earlier one."""
    whole = next(t for t in MEASURED.tokens if (t.part, t.batch, t.window) == ("whole", 1, 1024))
    other = whole.model_copy(update={"series": "later.yaml", "latency": 9e-4})
    gpu = MEASURED.model_copy(update={"tokens": (*MEASURED.tokens, other)})
    measured, _ = compare_models(PAPER, DIGITAL, [gpu], Request(("latency",))).rows
    assert measured.latency_us == pytest.approx(614.98)
    both = tuple(
        t.model_copy(update={"series": "later.yaml", "latency": 2 * t.latency})
        for t in MEASURED.tokens
    )
    gpu = MEASURED.model_copy(update={"tokens": (*MEASURED.tokens, *both)})
    measured, _ = compare_models(PAPER, DIGITAL, [gpu], Request(("latency",))).rows
    assert measured.latency_us == pytest.approx(2 * 614.98)


def test_a_token_measured_without_energy_has_none():
    silent = tuple(t.model_copy(update={"energy": None}) for t in MEASURED.tokens)
    gpu = MEASURED.model_copy(update={"tokens": silent})
    measured, model = compare_models(PAPER, DIGITAL, [gpu], Request(("latency",))).rows
    assert measured.energy_mj is measured.energy_ratio is measured.moved_energy_mj is None
    assert measured.latency_us == pytest.approx(614.98)
    assert model.energy_error is None
    assert model.latency_error is not None


def test_the_gpu_with_its_attention_moved_by_hand():
    """24 transfers of 1 us and 12 x 2,496 bytes at 64 GB/s; the arrays take 12 x 65 ns."""
    (row,) = compare_models(PAPER, DIGITAL, [H100], Request(("latency",))).rows
    link = 24e-6 + 12 * 2496 / 64e9
    assert row.link_bytes == 12 * 2496
    assert row.link_latency_us == pytest.approx(link * 1e6)
    rest = row.latency_us - row.attention_latency_us
    assert row.moved_latency_us == pytest.approx(rest + 0.78 + link * 1e6)
    assert row.attention_only_speedup == pytest.approx(row.latency_us / row.moved_latency_us)
    cost = gpu_token(H100, "graph", STEP, GPT2_SMALL)
    waiting = 0.78e-6 + link
    energy = cost.rest_j + waiting * 130 + 12 * 73.8e-9 + 12 * 2496 * 40e-12
    assert row.moved_energy_mj == pytest.approx(energy * 1e3)
    many = compare_models(PAPER, DIGITAL, [H100], Request(("throughput",), batch=64)).rows[0]
    assert many.link_bytes == 64 * row.link_bytes
    assert many.link_latency_us == pytest.approx(24 + 64 * 12 * 2496 / 64e9 * 1e6)


def test_the_documented_numbers_are_these():
    """Every figure of the table in docs/baseline.md comes from the code."""
    text = (Path(__file__).parents[2] / "docs" / "baseline.md").read_text(encoding="utf-8")
    measured, model = compare_models(PAPER, DIGITAL, [MEASURED], Request(("latency",))).rows
    shown = {
        cells[0]: cells[1:]
        for line in text.splitlines()
        if len(cells := re.findall(r"[^|]+", line.replace(" | ", "|").strip("| "))) == 3
    }
    expected = {
        "H100 token": ("latency_us", 1, "us"),
        "attention's share of it": ("attention_latency_share", 100, "%"),
        "H100 energy": ("energy_mj", 1, "mJ"),
        "accelerator token": ("accelerator_latency_us", 1, "us"),
        "attention's share of that": ("accelerator_attention_latency_share", 100, "%"),
        "accelerator energy": ("accelerator_energy_mj", 1, "mJ"),
        "speed-up": ("speedup", 1, "x"),
        "attention alone moved": ("moved_latency_us", 1, "us"),
        "speed-up by that": ("attention_only_speedup", 1, "x"),
        "at most": ("attention_only_bound", 1, "x"),
    }
    for name, (field, scale, unit) in expected.items():
        for cell, row in zip(shown[name], (measured, model), strict=True):
            value, given = cell.split()
            assert given == unit
            assert float(value) == pytest.approx(scale * getattr(row, field), rel=5e-3), name


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
    steps = [replace(STEP, batch=b) for b in (1, 8)]
    alone, shared = (gpu_token(H100, "graph", step, GPT2_SMALL) for step in steps)
    assert alone.rest_s < shared.rest_s < 1.05 * alone.rest_s


def test_amdahl():
    """With only attention moved, no speed-up beyond one over the rest's share, link or not."""
    (row,) = compare_models(PAPER, DIGITAL, [H100], Request(("latency",))).rows
    bound = 1 / (1 - row.attention_latency_share)
    assert 1 < row.attention_only_speedup < bound == pytest.approx(row.attention_only_bound)
    link = H100.link.model_copy(update={"latency": 1e-12, "bandwidth": 1e18})
    gpu = H100.model_copy(update={"link": link})
    (free,) = compare_models(PAPER, DIGITAL, [gpu], Request(("latency",))).rows
    assert free.attention_only_speedup == pytest.approx(bound, rel=0.01)


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
