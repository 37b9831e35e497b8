"""What of the CUDA backend runs on a CPU: the attention, its tensors, its check and the refusal."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from archsim.baseline.cuda import CudaDevice, attention, check_output, kernels, open_device, tensors
from archsim.baseline.measure import Plan, measure
from archsim.baseline.roofline import DecodeAttention
from archsim.errors import ConfigError, InvariantError, MissingExtraError

STEP = DecodeAttention(1, 3, 16, 40, 2, "fp32")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_tensors_hold_exactly_the_bytes_of_the_model(precision):
    step = DecodeAttention(1, 3, 16, 40, 2, precision)
    q, k, v = tensors(step, "cpu")
    assert q.shape == (2, 3, 1, 16)
    assert k.shape == v.shape == (2, 3, 40, 16)
    assert k.nbytes + v.nbytes == step.layer_cache_bytes
    assert q.nbytes + k.nbytes + v.nbytes + q.nbytes == step.layer_bytes  # y is like q
    assert torch.equal(tensors(step, "cpu")[1], k)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_token_is_attended_to(implementation, precision):
    step = DecodeAttention(1, 3, 16, 40, 2, precision)
    q, k, v = tensors(step, "cpu")
    with kernels(implementation):
        output = attention(q, k, v)
        check_output(output, q, k, v)
        for token in (0, 20, 39):  # a change of any token's value changes the output
            changed = v.clone()
            changed[:, :, token] += 10
            assert not torch.allclose(attention(q, k, changed), output, atol=1e-2)


def test_fused_and_unfused_are_what_they_say():
    """The operations that PyTorch runs, by its own profiler."""
    q, k, v = tensors(STEP, "cpu")
    flash = "aten::_scaled_dot_product_flash_attention_for_cpu"
    for implementation, fused in (("sdpa", True), ("eager", False)):
        with kernels(implementation), torch.profiler.profile() as profile:
            attention(q, k, v)
        names = {event.key for event in profile.key_averages()}
        assert (flash in names) == fused
        assert ("aten::bmm" in names) == (not fused)


def test_the_mask_of_the_paper_does_not_pass():
    """is_causal with one query attends to token 0 alone: FACTS 4, and the reason for the check."""
    q, k, v = tensors(STEP, "cpu")
    output = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.allclose(output, v[:, :, :1], atol=1e-6)
    with pytest.raises(InvariantError, match="not attention over the whole window"):
        check_output(output, q, k, v)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so nothing to refuse")
def test_no_gpu_is_one_line():
    with pytest.raises(MissingExtraError, match="no CUDA GPU here") as caught:
        open_device()
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("package", ["torch", "pynvml"])
def test_a_missing_package_is_one_line(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, "pynvml" if package == "torch" else "torch", torch)
    with pytest.raises(MissingExtraError, match=r"pip install 'archsim\[gpu\]'"):
        open_device()


class Recorded:
    """Stands in for ``torch.cuda``: events read the clock, graphs run what was captured."""

    def __init__(self):
        self.log = []

    def graph(self, graph):
        return nullcontext()

    class CUDAGraph:
        def replay(self):
            time.sleep(2e-5)

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = time.perf_counter()

        def elapsed_time(self, other):
            return (other.at - self.at) * 1e3


class Counter:
    """Stands in for ``pynvml``: 100 W by the clock."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2

    class NVMLError(Exception):
        pass

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return 100e3 * time.monotonic()

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return 1980

    def nvmlSystemGetDriverVersion(self):
        return "driver"

    def __getattr__(self, name):
        def refuse(*arguments):
            raise self.NVMLError

        return refuse


def test_the_whole_way_on_a_stand_in(monkeypatch):
    """The order of calls, units and counts of the CUDA backend; no figure of it means anything."""
    cuda, stand_in = torch.cuda, Recorded()
    stream = SimpleNamespace(wait_stream=lambda other: None)
    properties = SimpleNamespace(L2_cache_size=1 << 16, multi_processor_count=1, total_memory=1)
    for name, value in {
        "graph": stand_in.graph,
        "CUDAGraph": Recorded.CUDAGraph,
        "Event": Recorded.Event,
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda which: nullcontext(),
        "synchronize": lambda: stand_in.log.append("synchronize"),
        "empty_cache": lambda: None,
        "set_device": lambda index: None,
        "mem_get_info": lambda index: (10**9, 10**9),
        "get_device_properties": lambda index: properties,
        "get_device_capability": lambda index: (7, 5),
        "get_device_name": lambda index: "stand-in",
    }.items():
        monkeypatch.setattr(cuda, name, value)
    monkeypatch.setitem(sys.modules, "pynvml", Counter())
    monkeypatch.setattr("archsim.baseline.cuda.COOL_DOWN_S", 0.0)
    monkeypatch.setattr("archsim.baseline.cuda.CHUNK_S", 0.01)
    device = CudaDevice(0, None, "cpu")
    plan = Plan(2, 8, (1, 2), (16,), ("fp16", "bf16"), replays=20, seconds=1)
    object.__setattr__(plan, "seconds", 0.1)  # shorter than a user may ask for
    measured = measure(device, plan)
    assert measured.device == "stand-in"
    assert measured.conditions["driver"] == "driver"
    assert "power_limit_w" not in measured.conditions  # NVML did not tell
    assert {p.step.precision for p in measured.points} == {"fp16"}  # capability 7 has no bf16
    assert len(measured.points) == len(measured.left_out) == 2 * 2 * 2
    for point in measured.points:
        assert point.idle_power_w == pytest.approx(100, rel=0.2)
        assert point.clock_before_hz == 1.98e9
        assert (point.energy_j is None) == (point.cache == "cold")
        if point.energy_j is not None and point.implementation == "sdpa":
            # ten calls a replay: joules a step are power times the time of a step, about
            assert point.energy_j == pytest.approx(100 * point.latency_s, rel=0.8)
    by_cache = {p.cache: p for p in measured.points if p.implementation == "sdpa"}
    # one replay over ten calls: a quarter leaves room for a busy machine
    assert by_cache["warm"].latency_s < by_cache["cold"].latency_s / 2


def test_what_the_device_refuses_is_one_line(monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("No available kernel.\nAborting execution.")

    monkeypatch.setattr("archsim.baseline.cuda.CudaWork", refuse)
    device = CudaDevice.__new__(CudaDevice)
    with pytest.raises(ConfigError, match=r"^No available kernel. Aborting execution.$"):
        device.prepare(STEP, "sdpa")
