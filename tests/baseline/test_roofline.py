"""The roofline: its formula by hand, its order, its energy bounds, and measurements beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.baseline.roofline import DecodeAttention, estimate
from archsim.config.gpu import available_gpus, load_gpu
from archsim.errors import ConfigError

GPUS = {name: load_gpu(name) for name in available_gpus()}
SMALL = DecodeAttention(layers=1, heads=12, head_dim=64, window=1024)

gpus = st.sampled_from(sorted(GPUS)).map(GPUS.__getitem__)
steps = st.builds(
    DecodeAttention,
    layers=st.integers(1, 96),
    heads=st.integers(1, 128),
    head_dim=st.integers(1, 256),
    window=st.integers(1, 131072),
    batch=st.integers(1, 512),
    precision=st.sampled_from(["fp32", "fp16"]),
)
launches = st.sampled_from(["graph", "eager"])


def test_work_of_one_gpt2_layer():
    assert SMALL.layer_flop == 3_145_728
    assert SMALL.layer_cache_bytes == 3_145_728
    assert SMALL.layer_bytes == 3_145_728 + 2 * 12 * 64 * 2
    paper = replace(SMALL, batch=64, precision="fp32")
    assert paper.layer_cache_bytes == pytest.approx(402.7e6, rel=1e-3)


def test_memory_term_by_hand():
    result = estimate(GPUS["h100-sxm"], replace(SMALL, batch=64))
    data = 64 * (3_145_728 + 3072)
    assert result.latency_s == pytest.approx(3e-6 + data / (0.8 * 3350e9))
    assert result.limit == "memory"
    assert not result.cache_fits_l2
    busy = data / 3350e9
    assert result.utilisation == pytest.approx(busy / result.latency_s)
    assert result.energy_j == pytest.approx(70 * result.latency_s + 630 * busy)


def test_floor_term_and_launch():
    graph = estimate(GPUS["h100-sxm"], replace(SMALL, layers=12))
    eager = estimate(GPUS["h100-sxm"], replace(SMALL, layers=12), launch="eager")
    assert graph.latency_s == pytest.approx(12 * 8e-6)
    assert graph.limit == "floor"
    assert graph.cache_fits_l2
    assert eager.latency_s == pytest.approx(12 * 28e-6)


def test_compute_term():
    # so much bandwidth that arithmetic is left as the only limit
    gpu = GPUS["jetson-nano"]
    wide = gpu.model_copy(update={"memory": gpu.memory.model_copy(update={"bandwidth": 1e15})})
    result = estimate(wide, replace(SMALL, batch=64, precision="fp32"))
    assert result.limit == "compute"
    assert result.latency_s == pytest.approx(64 * 3_145_728 / 0.236e12)
    assert result.energy_j == pytest.approx(result.energy_bound_j)


@given(gpus, steps, launches, st.integers(1, 4096))
def test_latency_and_energy_never_fall_with_window_or_batch(gpu, step, launch, more):
    base = estimate(gpu, step, launch)
    for name in ("window", "batch"):
        larger = estimate(gpu, replace(step, **{name: getattr(step, name) + more}), launch)
        assert larger.latency_s >= base.latency_s
        assert larger.energy_j >= base.energy_j * (1 - 1e-12)


@given(gpus, steps, st.integers(1, 512))
def test_a_larger_batch_never_costs_a_token_more(gpu, step, more):
    larger = replace(step, batch=step.batch + more)
    per_token = estimate(gpu, step).latency_s / step.batch
    assert estimate(gpu, larger).latency_s / larger.batch <= per_token * (1 + 1e-12)


@given(gpus, steps, launches)
def test_energy_lies_between_idle_and_thermal_design(gpu, step, launch):
    result = estimate(gpu, step, launch)
    assert 0 < result.idle_energy_j < result.energy_j <= result.energy_bound_j * (1 + 1e-12)
    assert 0 < result.utilisation <= 1


@given(gpus, steps)
def test_time_is_never_below_the_hard_limits(gpu, step):
    layer_time = estimate(gpu, step).latency_s / step.layers
    assert layer_time >= gpu.timing.floor * (1 - 1e-12)
    assert layer_time >= step.layer_bytes / gpu.memory.bandwidth
    assert layer_time >= step.layer_flop / gpu.peak.at(step.precision) * (1 - 1e-12)


@pytest.mark.parametrize("name", ["h100-sxm", "h200-sxm"])
def test_against_measured_decode(name):
    """Batch 64 over windows >= 512 within 25 %; elsewhere the model errs for the GPU."""
    gpu = GPUS[name]
    for p in gpu.measurements:
        step = DecodeAttention(1, p.heads, p.head_dim, p.window, p.batch, p.precision)
        ratio = estimate(gpu, step).latency_s / p.step_latency
        if p.batch == 64 and p.window >= 512:
            assert 0.75 < ratio < 1.1
        else:
            assert 0.45 < ratio < 1.0


@pytest.mark.parametrize("name", ["layers", "heads", "head_dim", "window", "batch"])
def test_empty_work_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} must be at least 1"):
        replace(SMALL, **{name: 0})


def test_precision_the_gpu_lacks():
    with pytest.raises(ConfigError, match="bf16"):
        estimate(GPUS["jetson-nano"], replace(SMALL, precision="bf16"))
