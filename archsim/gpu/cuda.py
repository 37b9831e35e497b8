"""Decode attention and tokens on an NVIDIA GPU: PyTorch runs them, CUDA events time, NVML counts.

Not run by this project's tests, which have no GPU, but for what also runs on a CPU: the attention
itself, its tensors, the token, and the refusal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from archsim.config.transformer import TransformerShape
from archsim.errors import ConfigError, InvariantError, MissingExtraError, one_line
from archsim.gpu.cuda_attention import attention, check_output, only, tensors
from archsim.gpu.cuda_model import TokenModel
from archsim.gpu.file import Part, Precision
from archsim.gpu.plan import CALLS, Implementation, Kernel
from archsim.gpu.power import bare_power, joules, mean_power
from archsim.gpu.roofline import DecodeAttention

WARM_UP, COOL_DOWN_S, BARE_S = 20, 1.0, 2.0
CHUNK_S = 0.1
MILLI, MEGA = 1e-3, 1e6


def open_device(index: int = 0) -> CudaDevice:
    """The GPU of that index; raises MissingExtraError without the packages or without a GPU."""
    try:
        import pynvml
        import torch
    except ImportError as error:
        raise MissingExtraError(
            f"measuring needs {error.name}: pip install 'archsim[gpu]'"
        ) from None
    if not torch.cuda.is_available():
        raise MissingExtraError(
            "no CUDA GPU here: run archsim baseline measure on a machine with one"
        )
    if not 0 <= index < torch.cuda.device_count():
        raise MissingExtraError(f"no GPU {index}: there are {torch.cuda.device_count()}")
    try:
        pynvml.nvmlInit()
        bare = bare_power(index, BARE_S)  # before there is a context
        # by UUID: CUDA may number the GPUs another way than NVML, or see only some of them
        uuid = f"GPU-{torch.cuda.get_device_properties(index).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError as error:
        raise MissingExtraError(f"NVML cannot be used: {one_line(error, 120)}") from None
    return CudaDevice(index, handle, bare=bare)


class CudaDevice:
    """One CUDA GPU, with its NVML handle; `bare` is its power before there was a context."""

    def __init__(
        self, index: int, handle: Any, location: str | None = None, bare: float | None = None
    ) -> None:
        import torch

        self._index, self._handle, self.bare_power = index, handle, bare
        self.location = location or f"cuda:{index}"
        torch.cuda.set_device(index)
        size = 2 * torch.cuda.get_device_properties(index).L2_cache_size
        self._flush = torch.empty(size, dtype=torch.uint8, device=self.location)

    @property
    def name(self) -> str:
        """As the driver calls it."""
        import torch

        return str(torch.cuda.get_device_name(self._index))

    @property
    def conditions(self) -> Mapping[str, str | int | float]:
        """Versions, limits and clocks; what NVML does not tell is left out."""
        import pynvml
        import torch

        cudnn: Any = torch.backends.cudnn
        properties = torch.cuda.get_device_properties(self._index)
        found: dict[str, str | int | float] = {
            "torch": str(torch.__version__),
            "cuda": str(torch.version.cuda),
            "cudnn": str(cudnn.version()),
            "multiprocessors": int(properties.multi_processor_count),
            "memory_bytes": int(properties.total_memory),
            "l2_bytes": int(properties.L2_cache_size),
        }
        questions: dict[str, Callable[[], Any]] = {
            "driver": pynvml.nvmlSystemGetDriverVersion,
            "power_limit_w": lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(self._handle) * MILLI,
            "sm_clock_max_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(
                self._handle, pynvml.NVML_CLOCK_SM
            ),
            "memory_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(
                self._handle, pynvml.NVML_CLOCK_MEM
            ),
            "persistence_mode": lambda: pynvml.nvmlDeviceGetPersistenceMode(self._handle),
        }
        for key, ask in questions.items():
            try:
                found[key] = ask()
            except pynvml.NVMLError:
                continue
        return found

    @property
    def free_bytes(self) -> int:
        """Memory that tensors may use now."""
        import torch

        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(self._index)[0])

    def supports(self, precision: Precision) -> bool:
        """bf16 needs compute capability 8; everything has the others."""
        import torch

        return precision != "bf16" or torch.cuda.get_device_capability(self._index)[0] >= 8

    def idle_power(self, seconds: float) -> float | None:
        """Mean power in W while nothing runs, after a pause to let clocks fall."""
        time.sleep(COOL_DOWN_S)
        return mean_power(self._handle, seconds)

    def clock_hz(self) -> float | None:
        """Clock of its multiprocessors now; None if NVML does not tell it."""
        import pynvml

        try:
            clock = pynvml.nvmlDeviceGetClockInfo(self._handle, pynvml.NVML_CLOCK_SM)
        except pynvml.NVMLError:
            return None
        return float(clock) * MEGA

    def prepare(
        self, step: DecodeAttention, implementation: Implementation, kernel: Kernel
    ) -> CudaWork:
        """Tensors on the GPU; attention captured in graphs unless ``eager``; warmed up, checked.

        Raises ConfigError if the GPU has no such kernel, or too little memory.
        """

        def work() -> CudaWork:
            inputs = tensors(step, self.location)
            return CudaWork(
                self,
                lambda: attention(*inputs),
                lambda output: check_output(output, *inputs),
                lambda: only(kernel),
                () if implementation == "eager" else (1, CALLS),
            )

        return _prepared(work)

    def prepare_token(self, step: DecodeAttention, shape: TransformerShape, part: Part) -> CudaWork:
        """A whole token, or a part of it, captured in one graph, warmed up; its output checked.

        Raises ConfigError if the GPU has too little memory.
        """

        def work() -> CudaWork:
            model = TokenModel(step, shape, self.location)

            def check(output: Any) -> None:
                if part == "attention":
                    check_output(output, model.q[-1], model.k[-1], model.v[-1])
                elif not bool(output.isfinite().all()):
                    raise InvariantError("the GPU's logits are not finite")

            return CudaWork(self, lambda: model.run(part), check, lambda: only(None), (1,))

        return _prepared(work)

    def flush(self) -> None:
        """Overwrite L2, queued."""
        self._flush.zero_()

    def joules(self) -> float | None:
        """Energy since the driver was loaded, in J; None without a counter."""
        return joules(self._handle)


def _prepared(work: Callable[[], CudaWork]) -> CudaWork:
    try:
        return work()
    except RuntimeError as error:
        raise ConfigError(one_line(error, 160)) from None


class CudaWork:
    """One point: what is called, and graphs of so many calls, each replayed as one.

    Without graphs every call is launched by itself. `check` refuses a wrong output; `around` is
    entered around calls.
    """

    def __init__(
        self,
        device: CudaDevice,
        call: Callable[[], Any],
        check: Callable[[Any], None],
        around: Callable[[], AbstractContextManager[None]],
        graphs: tuple[int, ...],
    ) -> None:
        import torch

        self._device, self._call, self._around = device, call, around
        self._graphs: dict[int, Any] = {}
        self._many = max(graphs, default=CALLS)
        cuda: Any = torch.cuda
        side = cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())  # a capture is warmed up on another stream
        with around():
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    output = call()
            torch.cuda.current_stream().wait_stream(side)
            check(output)
            self._graphs = {calls: self._captured(calls) for calls in graphs}
            for _ in range(WARM_UP):
                self._run(self._many)
            torch.cuda.synchronize()

    def replay_times(self, count: int, flush: bool) -> list[float]:
        """Time of one step in each of `count` replays, in s."""
        import torch

        calls = 1 if flush or not self._graphs else self._many
        pairs = [(self._event(), self._event()) for _ in range(count)]
        with self._around():
            for start, end in pairs:
                if flush:
                    self._device.flush()  # takes longer than to queue the graph's launch meanwhile
                    if not self._graphs:
                        torch.cuda.synchronize()  # but launches are part of what eager costs
                start.record()
                self._run(calls)
                end.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) * MILLI / calls for start, end in pairs]

    def energy(self, seconds: float) -> tuple[float, int] | None:
        """Joules and steps of at least `seconds` of back-to-back steps."""
        import torch

        once = self.replay_times(10, False)
        chunk = max(1, round(CHUNK_S / self._many / max(sum(once) / len(once), 1e-7)))
        torch.cuda.synchronize()
        before, began, steps = self._device.joules(), time.monotonic(), 0
        if before is None:
            return None
        with self._around():
            while time.monotonic() - began < seconds:
                for _ in range(chunk):
                    self._run(self._many)
                torch.cuda.synchronize()
                steps += chunk * self._many
        after = self._device.joules()
        return None if after is None else (after - before, steps)

    def close(self) -> None:
        """Free graphs and tensors."""
        import torch

        torch.cuda.synchronize()
        self._graphs.clear()
        del self._call  # and the tensors that it holds
        torch.cuda.empty_cache()

    def _captured(self, calls: int) -> Any:
        import torch

        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(calls):
                self._call()
        return graph

    def _event(self) -> Any:
        import torch

        cuda: Any = torch.cuda
        return cuda.Event(enable_timing=True)

    def _run(self, calls: int) -> None:
        if self._graphs:
            self._graphs[calls].replay()
            return
        for _ in range(calls):
            self._call()
