"""The roofline: its formula by hand, its order, its energy bounds, and measurements beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.baseline.roofline import (
    UNFUSED_COPIES,
    UNFUSED_PASSES,
    DecodeAttention,
    estimate,
)
from archsim.config.gpu import available_gpus, load_gpu
from archsim.errors import ConfigError

GPUS = {name: load_gpu(name, measured=False) for name in available_gpus()}
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
caches = st.sampled_from(["warm", "cold"])


def test_work_of_one_gpt2_layer():
    assert SMALL.layer_flop == 3_145_728
    assert SMALL.layer_cache_bytes == 3_145_728
    assert SMALL.layer_bytes == 3_145_728 + 2 * 12 * 64 * 2
    paper = replace(SMALL, batch=64, precision="fp32")
    assert paper.layer_cache_bytes == pytest.approx(402.7e6, rel=1e-3)


def test_memory_term_by_hand():
    gpu = GPUS["h100-sxm"]
    result = estimate(gpu, replace(SMALL, batch=64))
    data = 64 * (3_145_728 + 3072)
    timing = gpu.timing
    streaming = data / (timing.bandwidth_efficiency * 3350e9)
    assert result.latency_s == pytest.approx(timing.floor + timing.step + streaming)
    assert result.limit == "memory"
    busy = data / 3350e9
    assert result.utilisation == pytest.approx(busy / result.latency_s)
    assert result.energy_j == pytest.approx(70 * result.latency_s + 630 * busy)


def test_floor_and_step_are_paid_in_every_layer():
    gpu = GPUS["h100-sxm"]
    timing = gpu.timing
    short = replace(SMALL, layers=12, window=512)
    data = 12 * (3_145_728 / 2 + 3072)
    streaming = data / (timing.bandwidth_efficiency * gpu.memory.l2_bandwidth)
    graph = estimate(gpu, short)
    assert graph.latency_s == pytest.approx(12 * timing.floor + streaming)
    assert graph.limit == "launch"
    steps = estimate(gpu, SMALL).latency_s - estimate(gpu, replace(SMALL, window=1023)).latency_s
    assert steps == pytest.approx(timing.step, rel=1e-3)


def test_two_levels_of_bandwidth():
    """K and V in L2 if they fit and are warm; one byte too many and all of it comes from memory."""
    gpu = GPUS["h100-sxm"]
    fits = replace(SMALL, batch=15)  # 47 MB
    assert fits.layer_cache_bytes < gpu.memory.l2 < replace(SMALL, batch=16).layer_cache_bytes
    efficiency = gpu.timing.bandwidth_efficiency
    warm, cold = estimate(gpu, fits), estimate(gpu, fits, cache="cold")
    slower = fits.layer_bytes / efficiency * (1 / 3350e9 - 1 / gpu.memory.l2_bandwidth)
    assert cold.latency_s - warm.latency_s == pytest.approx(slower)
    spilled = replace(SMALL, batch=16)
    assert estimate(gpu, spilled) == estimate(gpu, spilled, cache="cold")


def test_eager_moves_the_cache_as_often_as_its_operations_do():
    gpu = GPUS["rtx-4090"]
    for precision, passes in (("fp32", 2), ("fp16", 7)):
        step = replace(SMALL, batch=256, precision=precision)
        moved = passes * step.layer_cache_bytes / (gpu.timing.bandwidth_efficiency * 1008e9)
        fixed = gpu.timing.floor + gpu.timing.step + gpu.timing.eager_launch
        assert estimate(gpu, step, "eager").latency_s == pytest.approx(fixed + moved)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_unfused_passes_are_those_of_pytorch(precision):
    """Counts the bytes that PyTorch's own unfused attention reads and writes, op by op."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils._python_dispatch import TorchDispatchMode

    from archsim.baseline.cuda import tensors

    step = DecodeAttention(1, 2, 64, 512, 2, precision)
    views = {"transpose", "expand", "view", "_unsafe_view"}
    moved, live = 0, {}

    class Counter(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal moved
            result = function(*args, **(kwargs or {}))
            if function.overloadpacket.__name__ not in views:
                touched = [a for a in (*args, result) if isinstance(a, torch.Tensor)]
                moved += sum(t.numel() * t.element_size() for t in touched)
                size = result.untyped_storage().nbytes()
                live[result.untyped_storage().data_ptr()] = size
            return result

    q, k, v = tensors(step, "cpu")
    with sdpa_kernel([SDPBackend.MATH]), Counter():
        torch.nn.functional.scaled_dot_product_attention(q, k, v)
    expected = UNFUSED_PASSES[precision] * step.layer_cache_bytes
    assert expected <= moved < 1.1 * expected  # scores and vectors on top
    copies = UNFUSED_COPIES[precision] * step.layer_cache_bytes
    assert step.layer_cache_bytes + sum(live.values()) >= copies * 0.99


def test_compute_term():
    # so much bandwidth that arithmetic is left as the only limit
    gpu = GPUS["jetson-nano"]
    memory = gpu.memory.model_copy(update={"bandwidth": 1e15, "l2_bandwidth": 1e15})
    result = estimate(
        gpu.model_copy(update={"memory": memory}), replace(SMALL, batch=64, precision="fp32")
    )
    assert result.limit == "compute"
    fixed = gpu.timing.floor + gpu.timing.step
    assert result.latency_s == pytest.approx(fixed + 64 * 3_145_728 / 0.236e12)


@given(gpus, steps, launches, caches, st.integers(1, 4096))
def test_latency_and_energy_never_fall_with_window_batch_or_bytes(gpu, step, launch, cache, more):
    base = estimate(gpu, step, launch, cache)
    larger = [replace(step, window=step.window + more), replace(step, batch=step.batch + more)]
    if step.precision == "fp16":
        larger.append(replace(step, precision="fp32"))
    for other in larger:
        if launch == "eager" and other.precision != step.precision:
            continue  # unfused fp16 moves more bytes than fp32
        found = estimate(gpu, other, launch, cache)
        assert found.latency_s >= base.latency_s
        assert found.energy_j >= base.energy_j * (1 - 1e-12)


@given(gpus, steps, launches, caches)
def test_energy_lies_between_idle_and_thermal_design(gpu, step, launch, cache):
    result = estimate(gpu, step, launch, cache)
    assert 0 < result.idle_energy_j < result.energy_j <= result.energy_bound_j * (1 + 1e-12)
    assert 0 < result.utilisation <= 1


@given(gpus, steps, launches, caches)
def test_time_is_never_below_the_hard_limits(gpu, step, launch, cache):
    layer_time = estimate(gpu, step, launch, cache).latency_s / step.layers
    assert layer_time >= gpu.timing.floor * (1 - 1e-12)  # batch 1 included
    level = gpu.memory.bandwidth if cache == "cold" else gpu.memory.l2_bandwidth
    assert layer_time >= step.layer_bytes / level
    assert layer_time >= step.layer_flop / gpu.peak.at(step.precision) * (1 - 1e-12)


@given(gpus, steps, launches)
def test_a_cold_cache_is_never_faster_and_eager_never_faster_than_a_graph(gpu, step, launch):
    assert estimate(gpu, step, launch, "cold").latency_s >= estimate(gpu, step, launch).latency_s
    assert estimate(gpu, step, "eager").latency_s > estimate(gpu, step).latency_s


@pytest.mark.parametrize("name", ["layers", "heads", "head_dim", "window", "batch"])
def test_empty_work_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} must be at least 1"):
        replace(SMALL, **{name: 0})


def test_precision_the_gpu_lacks():
    with pytest.raises(ConfigError, match="bf16"):
        estimate(GPUS["jetson-nano"], replace(SMALL, precision="bf16"))
