"""Decode attention and whole tokens measured on a real GPU: how a figure is made, and the file.

The device is behind `Device`, so that all of this runs without one; `archsim.gpu.cuda` is the
only part that needs a GPU. One point is one layer, one new token a sequence, every token of the
window attended to; or a token of a whole model, or a part of it. Its time is the median over
replays; its energy is the counter's difference over seconds of the same work, never one power
sample times a time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from archsim.config.transformer import TransformerShape
from archsim.errors import ArchsimError, ConfigError, InvariantError, one_line
from archsim.gpu.file import Gpu, Part, Precision, available_gpus, load_gpu
from archsim.gpu.plan import KERNELS, Implementation, Kernel, MeasurementPlan, Task
from archsim.gpu.roofline import BYTES_PER_ELEMENT, UNFUSED_COPIES, DecodeAttention

MEMORY_SHARE = 0.8
SLOWED = 0.9
"""A clock below this share of what it was at the start of a point is told."""


class Work(Protocol):
    """One prepared point: its tensors on the device, its kernels captured."""

    def replay_times(self, count: int, flush: bool) -> list[float]:
        """Time of one step in each of `count` replays, in s.

        With `flush` L2 is overwritten before each.
        """

    def energy(self, seconds: float) -> tuple[float, int] | None:
        """Joules and steps of at least `seconds` of back-to-back steps; None if no counter."""

    def close(self) -> None:
        """Free the memory."""


class Device(Protocol):
    """A GPU that can run decode attention."""

    @property
    def name(self) -> str:
        """As the driver calls it."""

    @property
    def conditions(self) -> Mapping[str, str | int | float]:
        """Versions, limits and clocks, for the record."""

    @property
    def free_bytes(self) -> int:
        """Memory that tensors may use now."""

    @property
    def bare_power(self) -> float | None:
        """Mean power in W before there was a context; None if that cannot be told."""

    def supports(self, precision: Precision) -> bool:
        """Whether it computes in `precision`."""

    def idle_power(self, seconds: float) -> float | None:
        """Mean power in W over `seconds` of doing nothing; None if it has no counter."""

    def clock_hz(self) -> float | None:
        """Clock of its multiprocessors now; None if it is not told."""

    def prepare(
        self, step: DecodeAttention, implementation: Implementation, kernel: Kernel
    ) -> Work:
        """Tensors and kernels of one point, warmed up and its output checked.

        Raises ConfigError if the device cannot run it.
        """

    def prepare_token(self, step: DecodeAttention, shape: TransformerShape, part: Part) -> Work:
        """The same for a part of a token of a whole model."""


@dataclass(frozen=True)
class MeasuredPoint:
    """One measured point: seconds a step, joules a step, and what was noticed.

    `kernel` is the one that ran; None for a token.
    """

    task: Task
    kernel: Kernel | None
    latency_s: float
    latency_p5_s: float
    latency_p95_s: float
    energy_j: float | None
    idle_power_w: float | None
    clock_before_hz: float | None
    clock_after_hz: float | None

    @property
    def step(self) -> DecodeAttention:
        """Its work."""
        return self.task.step

    @property
    def slowed(self) -> bool:
        """Whether the clock fell to less than `SLOWED` of what it was."""
        before, after = self.clock_before_hz, self.clock_after_hz
        return before is not None and after is not None and after < SLOWED * before


@dataclass(frozen=True)
class Measured:
    """All points of a device, and what was left out, each with its reason."""

    device: str
    conditions: Mapping[str, str | int | float]
    plan: MeasurementPlan
    points: tuple[MeasuredPoint, ...]
    left_out: tuple[str, ...]
    idle_power_w: float | None = None
    bare_power_w: float | None = None
    interrupted: bool = False


def device_bytes(task: Task) -> int:
    """Memory that a point needs: q, K, V, y and, unfused, copies of K and V; a token its weights.

    With the kernel left open, that of unfused operations is not asked for: it is just not tried.
    """
    step = task.step
    if task.shape is not None:
        weights = task.shape.weights * BYTES_PER_ELEMENT[step.precision]
        return weights + step.layers * step.layer_bytes
    copies = UNFUSED_COPIES[step.precision] if task.kernel == "math" else 1.0
    return step.layer_bytes + math.ceil((copies - 1) * step.layer_cache_bytes)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of `values` lie, between neighbours by proportion."""
    if not values:
        raise InvariantError("a percentile of no values")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def measure(
    device: Device,
    plan: MeasurementPlan,
    progress: Callable[[int, int], None] | None = None,
    gpu: Gpu | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Measured:
    """Measure every point of `plan` that `device` can hold and compute.

    A plan of some minutes is cut to what fits, by the model of `gpu`. It ends before a point that
    will not be done in time, judged by the model and by how long points took so far. A point that
    fails is left out with its reason; after an interruption (Ctrl-C) the points so far are
    returned, with `interrupted`. Raises ConfigError if not one was measured.
    """
    began = clock()
    modelled = gpu or load_gpu("h100-sxm", measured=False)
    expected = 0.0
    half = _half(device, plan)
    left_out: list[str] = []
    if plan.minutes is None:
        wanted = plan.tasks(half)
    else:
        wanted, skipped = plan.tasks_that_fit(modelled, half)
        if skipped:
            left_out.append(f"{skipped} points: no room in {plan.minutes:g} minutes")
    idle = device.idle_power(plan.seconds)
    started = clock()
    points: list[MeasuredPoint] = []
    interrupted = False
    for done, task in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted))
        if plan.minutes is not None:
            needed_s, now = plan.seconds_of(modelled, task), clock()
            pace = max(1.0, (now - started) / expected) if expected else 1.0
            if points and now - began + pace * needed_s > 60 * plan.minutes:
                left_out.append(f"{len(wanted) - done} points from {task.label} on: time is over")
                break
            expected += needed_s
        needed = device_bytes(task)
        if not device.supports(task.step.precision):
            left_out.append(f"{task.label}: the device has no {task.step.precision}")
        elif needed > MEMORY_SHARE * device.free_bytes:
            left_out.append(f"{task.label}: needs {needed / 1e9:.1f} GB")
        else:
            try:
                points.append(_measure_point(device, plan, task, idle))
            except (ArchsimError, RuntimeError) as error:  # a kernel that fails is a RuntimeError
                left_out.append(f"{task.label}: {one_line(error, 160)}")
            except KeyboardInterrupt:
                if not points:
                    raise
                missing = len(wanted) - done
                left_out.append(f"interrupted: {missing} points from {task.label} on")
                interrupted = True
                break
    if not points:
        reason = left_out[0] if left_out else "the plan has none"
        raise ConfigError(f"{device.name}: no point could be measured: {reason}")
    return Measured(
        device.name,
        device.conditions,
        plan,
        tuple(points),
        tuple(left_out),
        idle,
        device.bare_power,
        interrupted,
    )


def _half(device: Device, plan: MeasurementPlan) -> Precision:
    """What a whole token computes in: bf16 where asked for and possible, else fp16."""
    able = [name for name in plan.precisions if device.supports(name)]
    for wanted in ("bf16", "fp16"):
        if wanted in able:
            return wanted
    return able[0] if able else plan.precisions[0]


def _measure_point(
    device: Device, plan: MeasurementPlan, task: Task, idle: float | None
) -> MeasuredPoint:
    cold = task.cache == "cold"
    kernel: Kernel | None = None
    if task.shape is not None and task.part is not None:
        work = device.prepare_token(task.step, task.shape, task.part)
    else:
        kernel = _fastest(device, plan, task) if task.kernel == "best" else task.kernel
        work = device.prepare(task.step, task.implementation, kernel)
    try:
        work.replay_times(plan.replays // 10, cold)  # the clock rises under load
        before = device.clock_hz()
        times = _sound(device, work.replay_times(plan.replays, cold), plan.replays)
        spent = None if cold else work.energy(plan.seconds)
        after = device.clock_hz()
    finally:
        work.close()
    return MeasuredPoint(
        task,
        kernel,
        percentile(times, 0.5),
        percentile(times, 0.05),
        percentile(times, 0.95),
        None if spent is None else spent[0] / spent[1],
        idle,
        before,
        after,
    )


def _fastest(device: Device, plan: MeasurementPlan, task: Task) -> Kernel:
    """The kernel with the least median time of a few replays, of those that run.

    Raises ConfigError if none does.
    """
    found: dict[Kernel, float] = {}
    reasons: list[str] = []
    for kernel in KERNELS:
        tried = replace(task, kernel=kernel)
        if device_bytes(tried) > MEMORY_SHARE * device.free_bytes:
            reasons.append(f"{kernel}: too little memory")
            continue
        try:
            work = device.prepare(task.step, task.implementation, kernel)
        except (ArchsimError, RuntimeError) as error:
            reasons.append(f"{kernel}: {one_line(error, 80)}")
            continue
        try:
            count = max(10, plan.replays // 10)
            times = _sound(device, work.replay_times(count, task.cache == "cold"), count)
            found[kernel] = percentile(times, 0.5)
        finally:
            work.close()
    if not found:
        raise ConfigError(f"no kernel runs: {'; '.join(reasons)}")
    return min(found, key=lambda kernel: found[kernel])


def _sound(device: Device, times: list[float], count: int) -> list[float]:
    if len(times) != count or not all(math.isfinite(t) and t > 0 for t in times):
        raise InvariantError(f"{device.name}: a replay took no time, or was lost")
    return times


def matching_gpu(device_name: str) -> str:
    """The shipped GPU file of a device, by the driver's name of it.

    Raises ConfigError if there is none: an H100 PCIe is no H100 SXM.
    """
    for name in available_gpus():
        if load_gpu(name, measured=False).device == device_name:
            return name
    raise ConfigError(
        f"no shipped GPU file is of {device_name!r}: give one with --gpu, a shipped name or a YAML"
    )
