"""What of the CUDA backend runs on a CPU: the attention, its tensors, its check and the refusal."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from archsim.config.transformer import TransformerShape
from archsim.errors import ConfigError, InvariantError, MissingExtraError
from archsim.gpu.cuda import CudaDevice, open_device
from archsim.gpu.cuda_attention import attention, check_output, only, tensors
from archsim.gpu.cuda_model import TokenModel
from archsim.gpu.measure import measure
from archsim.gpu.plan import MeasurementPlan
from archsim.gpu.power import bare_power
from archsim.gpu.roofline import DecodeAttention
from archsim.gpu.token import kernels_besides_attention

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


@pytest.mark.parametrize("kernel", ["flash", "math"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kv_heads", [0, 1])
def test_every_token_is_attended_to(kernel, precision, kv_heads):
    step = DecodeAttention(1, 3, 16, 40, 2, precision, kv_heads)
    q, k, v = tensors(step, "cpu")
    assert k.shape[1] == (kv_heads or 3)
    with only(kernel):
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
    for kernel, fused in (("flash", True), (None, True), ("math", False)):
        with only(kernel), torch.profiler.profile() as profile:
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
    monkeypatch.setattr("archsim.gpu.cuda.COOL_DOWN_S", 0.0)
    monkeypatch.setattr("archsim.gpu.cuda.CHUNK_S", 0.01)
    device = CudaDevice(0, None, "cpu")
    shape = TransformerShape("small", 2, 2, 8, 30)
    plan = MeasurementPlan(
        2, 8, (1, 2), (16,), ("fp16", "bf16"), replays=20, seconds=1, kernels=("flash",),
        scopes=("attention", "model"), model=shape, token_batches=(1,), token_windows=(16,),
    )  # fmt: skip
    object.__setattr__(plan, "seconds", 0.1)  # shorter than a user may ask for
    found = measure(device, plan)
    tokens = [point for point in found.points if point.task.part is not None]
    assert [point.task.part for point in tokens] == ["whole", "rest", "attention"]
    assert all(point.energy_j > 0 for point in tokens)
    measured = replace(found, points=tuple(p for p in found.points if p not in tokens))
    assert measured.device == "stand-in"
    assert measured.conditions["driver"] == "driver"
    assert "power_limit_w" not in measured.conditions  # NVML did not tell
    assert {p.step.precision for p in measured.points} == {"fp16"}  # capability 7 has no bf16
    assert len(measured.points) == len(measured.left_out) == 2 * 2 * 2
    for point in measured.points:
        assert point.idle_power_w == pytest.approx(100, rel=0.2)
        assert point.clock_before_hz == 1.98e9
        assert (point.energy_j is None) == (point.task.cache == "cold")
        if point.energy_j is not None and point.task.implementation == "sdpa":
            # joules a step are power times its time, about: not off by the ten calls of a replay
            assert 0.2 < point.energy_j / (100 * point.latency_s) < 8
    by_cache = {p.task.cache: p for p in measured.points if p.task.implementation == "sdpa"}
    # one replay over ten calls: a quarter leaves room for a busy machine
    assert by_cache["warm"].latency_s < by_cache["cold"].latency_s / 2


def test_what_the_device_refuses_is_one_line(monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("No available kernel.\nAborting execution.")

    monkeypatch.setattr("archsim.gpu.cuda.CudaWork", refuse)
    device = CudaDevice.__new__(CudaDevice)
    device.location = "cpu"
    with pytest.raises(ConfigError, match=r"^No available kernel. Aborting execution.$"):
        device.prepare(STEP, "sdpa", "cudnn")


TOKEN_STEP = DecodeAttention(2, 4, 8, 24, 3, "fp32", 2)
TOKEN_SHAPE = TransformerShape("small", 2, 4, 8, 50, kv_heads=2, mlp=48)


def reference_logits(model):
    """The same token from the definition, float64, without any of the code above."""
    shape, x = model.shape, model.x.double()

    def norm(x, weight, bias):
        mean, spread = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / torch.sqrt(spread + 1e-5) * weight.double() + bias.double()

    def linear(x, weight, bias):
        return x @ weight.double().T + bias.double()

    for layer, (projection, output, first, second) in enumerate(model.layers):
        projected = linear(norm(x, *model.norms[2 * layer]), *projection)
        heads = projected.view(model.batch, -1, shape.head_dim)
        q, k, v = heads[:, :4], heads[:, 4:6], heads[:, 6:]
        keys, values = model.k[layer].double(), model.v[layer].double()
        keys[:, :, -1], values[:, :, -1] = k, v
        mixed = []
        for head in range(shape.heads):
            group = head // 2
            scores = (keys[:, group] @ q[:, head, :, None])[..., 0] / shape.head_dim**0.5
            weights = torch.exp(scores - scores.amax(-1, keepdim=True))
            weights = weights / weights.sum(-1, keepdim=True)
            mixed.append((weights[:, :, None] * values[:, group]).sum(1))
        x = x + linear(torch.cat(mixed, -1), *output)
        hidden = linear(norm(x, *model.norms[2 * layer + 1]), *first)
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
        x = x + linear(hidden, *second)
    return norm(x, *model.norms[-1]) @ model.embedding.double().T


def test_the_measured_token_is_a_token():
    model = TokenModel(TOKEN_STEP, TOKEN_SHAPE, "cpu")
    expected = reference_logits(model)
    with only(None):
        logits = model.run("whole")
        assert logits.shape == (3, 50)
        assert torch.allclose(logits.double(), expected, atol=1e-4)
        # without attention it is another, and attention alone is that of the last layer
        assert not torch.allclose(model.run("rest").double(), expected, atol=1e-2)
        check_output(model.run("attention"), model.q[-1], model.k[-1], model.v[-1])


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_the_measured_token_launches_what_the_model_counts(kv_heads):
    """Every operation of PyTorch that is no view is one kernel; attention is one a layer."""
    from torch.utils._python_dispatch import TorchDispatchMode

    shape = replace(TOKEN_SHAPE, kv_heads=kv_heads)
    model = TokenModel(replace(TOKEN_STEP, kv_heads=kv_heads), shape, "cpu")
    views = {
        "t", "view", "_unsafe_view", "split_with_sizes", "select", "slice", "transpose", "expand",
        "alias", "unsqueeze", "as_strided", "detach",
    }  # fmt: skip
    counted = []

    class Counter(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            name = function.overloadpacket.__name__
            result = function(*args, **(kwargs or {}))
            if name == "reshape":  # of one token: a view, no copy
                assert result.data_ptr() == args[0].data_ptr()
            elif name not in views:
                counted.append(name)
            return result

    with only("flash"), Counter():
        model.run("rest")
        rest = list(counted)
        model.run("whole")
    assert len(rest) == kernels_besides_attention(shape)
    attention = [name for name in counted if "attention" in name]
    assert len(attention) == shape.layers
    assert rest.count("copy_") == 2 * shape.layers  # K and V into the cache
    assert len(counted) == 2 * len(rest) + shape.layers


class Bare:
    """NVML of a machine with some GPUs, by a clock of 100 W."""

    class NVMLError(Exception):
        pass

    def __init__(self, count, processes=()):
        self.count, self.processes, self.asked = count, list(processes), []

    def nvmlDeviceGetCount(self):
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index):
        self.asked.append(index)
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self.asked.append(uuid)
        return uuid

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return self.processes

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return 100e3 * time.monotonic()


@pytest.mark.parametrize(
    ("count", "visible", "processes", "asked"),
    [
        (1, "", (), [0]),
        (1, "0", (), [0]),
        (4, "GPU-b, GPU-a", (), ["GPU-a"]),
        (4, "0,1", (), None),  # CUDA may number them another way
        (1, "", ("another",), None),
    ],
)
def test_bare_power_only_where_it_is_sure_which_gpu_and_that_it_is_free(
    count, visible, processes, asked, monkeypatch
):
    driver = Bare(count, processes)
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = bare_power(1 if "GPU-" in visible else 0, 0.01)
    if asked is None:
        assert found is None
    else:
        assert found == pytest.approx(100, rel=0.1)
        assert driver.asked == asked
