"""The kernel model: its law by hand, its order, its energy bounds, and PyTorch's own operations."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.config.transformer import TransformerShape
from archsim.errors import ConfigError
from archsim.gpu.file import Gpu, available_gpus, load_gpu
from archsim.gpu.kernels import share_in_l2, smooth_maximum
from archsim.gpu.roofline import (
    UNFUSED_COPIES,
    UNFUSED_OPERATIONS,
    UNFUSED_PASSES,
    DecodeAttention,
    estimate,
)
from archsim.gpu.token import gpu_token

GPUS = {name: load_gpu(name, measured=False) for name in available_gpus()}
H100 = GPUS["h100-sxm"]
SMALL = DecodeAttention(layers=1, heads=12, head_dim=64, window=1024, precision="bf16")
SLACK = 1 - 1e-9

gpus = st.sampled_from(sorted(GPUS)).map(GPUS.__getitem__)
steps = st.builds(
    lambda groups, share, **rest: DecodeAttention(heads=groups * share, kv_heads=groups, **rest),
    groups=st.integers(1, 64),
    share=st.integers(1, 8),
    layers=st.integers(1, 96),
    head_dim=st.integers(1, 256),
    window=st.integers(1, 131072),
    batch=st.integers(1, 512),
    precision=st.sampled_from(["fp32", "fp16"]),
)
launches = st.sampled_from(["graph", "unfused", "eager"])
caches = st.sampled_from(["warm", "cold"])
between = st.sampled_from([0.0, 1e6, 1e9])


def faster(gpu: Gpu, factor: float, l2_factor: float = 1.0) -> Gpu:
    memory = gpu.memory
    l2 = max(memory.l2_bandwidth * l2_factor, memory.bandwidth * factor)
    changed = {"bandwidth": memory.bandwidth * factor, "l2_bandwidth": l2}
    return gpu.model_copy(update={"memory": memory.model_copy(update=changed)})


def test_work_of_one_gpt2_layer():
    assert SMALL.layer_flop == 3_145_728
    assert SMALL.layer_cache_bytes == 3_145_728
    assert SMALL.layer_bytes == 3_145_728 + 2 * 12 * 64 * 2
    paper = replace(SMALL, batch=64, precision="fp32")
    assert paper.layer_cache_bytes == pytest.approx(402.7e6, rel=1e-3)
    grouped = replace(SMALL, kv_heads=3)
    assert grouped.layer_cache_bytes == SMALL.layer_cache_bytes / 4
    assert grouped.layer_flop == SMALL.layer_flop


def test_a_large_batch_by_hand():
    """Memory bound: 201 MB, every multiprocessor busy, one launch."""
    model, memory = H100.model, H100.memory
    step = replace(SMALL, batch=64)
    found = estimate(H100, step)
    data, blocks = step.layer_bytes, 64 * 12
    share = 1 / (1 + (step.layer_cache_bytes / (0.7 * 50e6)) ** 8)
    rate = model.arithmetic_efficiency * 989.4e12
    t_memory = data * (1 - share) / (model.memory_efficiency * 3350e9)
    t_l2 = data / (model.l2_efficiency * 10100e9)
    t_flop = blocks * 4 * 64 * 16 * 1024 / rate
    alone = 4 * 64 * 16 * 1024 / rate + 2 * (1024 + 1) * 64 * 2 / (model.l2_efficiency * 10100e9)
    parts = [t_memory, t_l2, t_flop, 132 * alone]
    tile = blocks * 4 * 64 * 64**2 / rate
    streaming = sum(part**4 for part in parts) ** 0.25 + tile
    assert found.latency_s == pytest.approx(model.launch + streaming, rel=1e-6)
    assert found.limit == "memory"
    resident = sum(part**4 for part in parts[:3]) ** 0.25 + tile
    energy = 130 * found.latency_s + model.byte_energy * data * (1 - share)
    energy += 570 * (t_flop + tile) + 132 * model.residency_power * resident
    assert found.energy_j == pytest.approx(energy, rel=1e-6)
    assert H100.memory is memory


def test_the_floor_grows_from_one_launch_to_two():
    """Short windows need no reduction; long ones at batch 1 do, which costs a launch."""
    launch = H100.model.launch
    short = estimate(H100, replace(SMALL, window=16))
    long = estimate(H100, replace(SMALL, window=1024))
    assert launch < short.latency_s < 2 * launch < long.latency_s
    assert short.limit == long.limit == "launch"
    # with a block for every multiprocessor nothing is split
    many = replace(SMALL, batch=16, window=512)
    assert estimate(H100, many).latency_s < 2 * launch + many.layer_bytes / 5e12


def test_fp32_has_no_kernel_that_splits():
    """A lone sequence in fp32 waits for twelve blocks that walk through the window."""
    step = replace(SMALL, precision="fp32")
    walk, half = (estimate(H100, replace(step, window=w)).latency_s for w in (1024, 512))
    assert walk > 10 * estimate(H100, SMALL).latency_s
    model = H100.model
    tile = 4 * 64 * 64**2 / (model.arithmetic_efficiency * 66.9e12 / 132)
    fixed = model.launch + tile
    assert walk - fixed == pytest.approx(2 * (half - fixed), rel=1e-3)


def test_the_edge_of_l2_is_smooth():
    edge = 0.7 * 50e6
    assert share_in_l2(H100, edge) == pytest.approx(0.5)
    assert share_in_l2(H100, 25e6) > 0.9
    assert share_in_l2(H100, 50.3e6) < 0.06
    assert share_in_l2(H100, 1e15) == 0
    times = [estimate(H100, replace(SMALL, batch=b)).latency_s for b in range(1, 40)]
    steps = [b - a for a, b in pairwise(times)]
    assert max(steps) < 0.15 * times[12]  # no step, but a slope


def test_what_passes_between_two_uses_takes_the_place_in_l2():
    alone = estimate(H100, SMALL)
    crowded = estimate(H100, SMALL, between=247e6)
    assert crowded.latency_s > alone.latency_s
    assert crowded.memory_bytes == pytest.approx(SMALL.layer_bytes, rel=1e-3)
    assert alone.memory_bytes < 0.01 * SMALL.layer_bytes


def test_a_cold_cache_is_written_back_first_and_shows_its_launch():
    step = replace(SMALL, batch=64)
    warm, cold = (estimate(H100, step, cache=cache) for cache in ("warm", "cold"))
    added = H100.model.launch + 50e6 / 3350e9
    assert cold.latency_s - warm.latency_s == pytest.approx(added, rel=1e-3)


def test_eager_waits_for_the_host_or_for_the_cache():
    gpu = GPUS["rtx-4090"]
    model = gpu.model
    host = 5 * model.eager_launch
    assert estimate(gpu, replace(SMALL, precision="fp32"), "eager").latency_s == pytest.approx(
        host, rel=0.01
    )
    for precision, passes, operations in (("fp32", 2, 5), ("fp16", 7, 10)):
        step = replace(SMALL, batch=256, precision=precision)
        moved = passes * step.layer_cache_bytes / (model.unfused_efficiency * 1008e9)
        fixed = operations * model.launch
        assert estimate(gpu, step, "unfused").latency_s == pytest.approx(fixed + moved, rel=1e-3)
        assert estimate(gpu, step, "eager").latency_s == pytest.approx(fixed + moved, rel=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_unfused_passes_and_operations_are_those_of_pytorch(precision):
    """Counts the bytes that PyTorch's own unfused attention reads and writes, op by op."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils._python_dispatch import TorchDispatchMode

    from archsim.gpu.cuda_attention import tensors

    step = DecodeAttention(1, 2, 64, 512, 2, precision)
    views = {"transpose", "expand", "view", "_unsafe_view"}
    moved, operations, live, kept = 0, 0, {}, []

    class Counter(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal moved, operations
            result = function(*args, **(kwargs or {}))
            if function.overloadpacket.__name__ not in views:
                touched = [a for a in (*args, result) if isinstance(a, torch.Tensor)]
                moved += sum(t.numel() * t.element_size() for t in touched)
                operations += 1
                kept.append(result)  # else its memory is used again
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
    assert operations == UNFUSED_OPERATIONS[precision]


def test_compute_term():
    # so much bandwidth that arithmetic is left as the only limit
    gpu = GPUS["jetson-nano"]
    memory = gpu.memory.model_copy(update={"bandwidth": 1e15, "l2_bandwidth": 1e15})
    step = replace(SMALL, batch=64, precision="fp32")
    result = estimate(gpu.model_copy(update={"memory": memory}), step)
    assert result.limit == "compute"
    rate = gpu.model.arithmetic_efficiency * 0.236e12
    flop = 64 * 12 * 4 * 64 * (64 * 1024 + 64**2)
    assert result.latency_s == pytest.approx(flop / rate, rel=0.01)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=5), st.sampled_from([1.0, 2.0, 4.0, 64.0]))
def test_a_smooth_maximum_lies_between_the_largest_and_the_sum(values, order):
    found = smooth_maximum(order, *values)
    assert max(values) * SLACK <= found <= sum(values) / SLACK


@settings(max_examples=300, deadline=None)
@given(gpus, steps, launches, caches, between, st.integers(1, 4096))
def test_latency_and_energy_never_fall_with_window_batch_or_bytes(
    gpu, step, launch, cache, between, more
):
    base = estimate(gpu, step, launch, cache, between)
    larger = [replace(step, window=step.window + more), replace(step, batch=step.batch + more)]
    if step.precision == "fp16" and launch == "graph":  # unfused fp16 moves more than fp32
        larger.append(replace(step, precision="fp32"))
    others = [estimate(gpu, other, launch, cache, between) for other in larger]
    others.append(estimate(gpu, step, launch, cache, between + more * 1e6))
    for found in others:
        assert found.latency_s >= base.latency_s * SLACK
        assert found.energy_j >= base.energy_j * SLACK


@settings(max_examples=300, deadline=None)
@given(gpus, steps, launches, caches, between)
def test_energy_lies_between_idle_and_thermal_design(gpu, step, launch, cache, between):
    result = estimate(gpu, step, launch, cache, between)
    assert 0 < result.idle_energy_j <= result.energy_j <= result.energy_bound_j / SLACK
    assert result.dynamic_energy_j >= 0


@settings(max_examples=300, deadline=None)
@given(gpus, steps, launches, caches, st.floats(1, 1e4), st.floats(1, 1e4))
def test_more_bandwidth_is_never_slower(gpu, step, launch, cache, factor, l2_factor):
    base = estimate(gpu, step, launch, cache)
    better = estimate(faster(gpu, factor, l2_factor), step, launch, cache)
    assert better.latency_s <= base.latency_s / SLACK


@given(gpus, steps, launches, caches)
def test_time_is_never_below_the_hard_limits(gpu, step, launch, cache):
    layer_time = estimate(gpu, step, launch, cache).latency_s / step.layers
    assert layer_time >= gpu.model.launch * SLACK  # batch 1 included
    level = gpu.memory.bandwidth if cache == "cold" else gpu.memory.l2_bandwidth
    assert layer_time >= step.layer_bytes / level
    assert layer_time >= step.layer_flop / gpu.peak.at(step.precision) * SLACK


@given(gpus, steps, launches)
def test_a_cold_cache_is_never_faster_and_a_host_never_helps(gpu, step, launch):
    warm, cold = (estimate(gpu, step, launch, cache).latency_s for cache in ("warm", "cold"))
    assert cold >= warm * SLACK
    unfused, eager = (estimate(gpu, step, how).latency_s for how in ("unfused", "eager"))
    assert eager >= unfused * SLACK
    if step.precision == "fp16":  # a window of a few tokens is less than a fused kernel's least
        longer = replace(step, window=step.window + 127)
        assert estimate(gpu, longer, "unfused").latency_s > estimate(gpu, longer).latency_s


@settings(max_examples=60, deadline=None)
@given(
    gpus,
    st.builds(
        lambda groups, share, **rest: TransformerShape(
            "m", heads=groups * share, kv_heads=groups, **rest
        ),
        groups=st.integers(1, 16),
        share=st.integers(1, 4),
        layers=st.integers(1, 24),
        head_dim=st.integers(8, 128),
        vocabulary=st.integers(100, 60000),
        mlp=st.integers(1, 8192),
    ),
    st.integers(1, 300),
    st.integers(1, 8192),
    st.integers(1, 300),
    st.sampled_from(["graph", "eager"]),
    st.floats(1, 100),
)
def test_a_whole_token_keeps_the_same_laws(gpu, shape, batch, window, more, launch, factor):
    def cost(batch, window, of=gpu):
        step = DecodeAttention(1, shape.heads, shape.head_dim, window, batch, "fp16")
        return gpu_token(of, launch, step, shape)

    base = cost(batch, window)
    for other in (cost(batch + more, window), cost(batch, window + more)):
        assert other.latency_s >= base.latency_s * SLACK
        assert other.energy_j >= base.energy_j * SLACK
    power = gpu.power
    assert power.idle * base.latency_s * SLACK <= base.energy_j <= base.bound_j / SLACK
    assert cost(batch, window, faster(gpu, factor)).latency_s <= base.latency_s / SLACK


@pytest.mark.parametrize("name", ["layers", "heads", "head_dim", "window", "batch"])
def test_empty_work_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} must be at least 1"):
        replace(SMALL, **{name: 0})


def test_heads_that_do_not_share_evenly_are_refused():
    with pytest.raises(ConfigError, match="12 heads cannot share 5 kv_heads"):
        replace(SMALL, kv_heads=5)


def test_precision_the_gpu_lacks():
    with pytest.raises(ConfigError, match="bf16"):
        estimate(GPUS["jetson-nano"], replace(SMALL, precision="bf16"))
