"""Decode attention measured on a real GPU: what is run, how a figure is made of it, and the file.

The device is behind `Device`, so that all of this runs without one; `archsim.baseline.cuda` is the
only part that needs a GPU. One point is one layer, one new token a sequence, every token of the
window attended to. Its time is the median over replays; its energy is the counter's difference over
seconds of the same work, never one power sample times a time.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, Protocol

from archsim.baseline.roofline import UNFUSED_COPIES, DecodeAttention
from archsim.config.gpu import Cache, Precision, available_gpus, load_gpu
from archsim.config.showing import quantity_text
from archsim.errors import ArchsimError, ConfigError, InvariantError, one_line

Implementation = Literal["sdpa", "eager"]
"""``sdpa``: PyTorch's fused ``scaled_dot_product_attention``, replayed from a CUDA graph.
``eager``: its unfused operations, each launched by itself."""

IMPLEMENTATIONS: tuple[Implementation, ...] = ("sdpa", "eager")
CACHES: tuple[Cache, ...] = ("warm", "cold")
BATCHES = (1, 4, 16, 64, 256)
WINDOWS = (128, 512, 1024, 2048, 4096, 8192)
PRECISIONS: tuple[Precision, ...] = ("fp16", "bf16", "fp32")

REPLAYS, ENERGY_SECONDS, MEMORY_SHARE = 200, 5.0, 0.8
SLOWED = 0.9
"""A clock below this share of what it was at the start of a point is told."""

METHOD = {
    "work": "one layer of decode attention: one query a sequence against a full window, no mask, "
    "so that every token is attended to, checked once a point; q, K and V are random, normal",
    "time": "CUDA events after warm-up around each replay of a graph of several calls, divided by "
    "their number (eager: around each call); latency is the median over replays",
    "cold": "a buffer of twice the L2 is written before each replay of one call, untimed; the "
    "launch of that one call is in its time, which a warm replay spreads over several",
    "energy": "difference of the NVML energy counter over the energy window of back-to-back calls, "
    "divided by their number; idle power included. None for cold: the flush would count",
}


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

    def supports(self, precision: Precision) -> bool:
        """Whether it computes in `precision`."""

    def idle_power(self, seconds: float) -> float | None:
        """Mean power in W over `seconds` of doing nothing; None if it has no counter."""

    def clock_hz(self) -> float | None:
        """Clock of its multiprocessors now; None if it is not told."""

    def prepare(self, step: DecodeAttention, implementation: Implementation) -> Work:
        """Tensors and kernels of one point, warmed up and its output checked.

        Raises ConfigError if the device cannot run it.
        """


@dataclass(frozen=True)
class Plan:
    """Which points to measure and how long. Raises ConfigError for what cannot be measured."""

    heads: int = 12
    head_dim: int = 64
    batches: tuple[int, ...] = BATCHES
    windows: tuple[int, ...] = WINDOWS
    precisions: tuple[Precision, ...] = PRECISIONS
    implementations: tuple[Implementation, ...] = IMPLEMENTATIONS
    caches: tuple[Cache, ...] = CACHES
    replays: int = REPLAYS
    seconds: float = ENERGY_SECONDS

    def __post_init__(self) -> None:
        if self.replays < 20:
            raise ConfigError("replays: at least 20, for percentiles")
        if not (math.isfinite(self.seconds) and 1 <= self.seconds <= 600):
            raise ConfigError("seconds: 1 to 600; the energy counter is read every 0.1 s or so")
        for name in ("batches", "windows"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ConfigError(f"{name}: give numbers of at least 1")
        list(self.points())  # refuses a shape that cannot be

    def points(self) -> Iterator[tuple[DecodeAttention, Implementation, Cache]]:
        """Every point, in the order measured."""
        for precision, implementation, window, batch, cache in product(
            self.precisions, self.implementations, self.windows, self.batches, self.caches
        ):
            step = DecodeAttention(1, self.heads, self.head_dim, window, batch, precision)
            yield step, implementation, cache


@dataclass(frozen=True)
class Point:
    """One measured point: seconds a step, joules a step, and what was noticed."""

    step: DecodeAttention
    implementation: Implementation
    cache: Cache
    latency_s: float
    latency_p5_s: float
    latency_p95_s: float
    energy_j: float | None
    idle_power_w: float | None
    clock_before_hz: float | None
    clock_after_hz: float | None

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
    plan: Plan
    points: tuple[Point, ...]
    left_out: tuple[str, ...]
    interrupted: bool = False


def device_bytes(step: DecodeAttention, implementation: Implementation) -> int:
    """Memory that a point needs for q, K, V, y and, unfused, the copies of K and V."""
    copies = UNFUSED_COPIES[step.precision] if implementation == "eager" else 1.0
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
    device: Device, plan: Plan, progress: Callable[[int, int], None] | None = None
) -> Measured:
    """Measure every point of `plan` that `device` can hold and compute.

    A point that fails is left out with its reason; after an interruption (Ctrl-C) the points so far
    are returned, with `interrupted`. Raises ConfigError if not one was measured.
    """
    idle = device.idle_power(plan.seconds)
    wanted = list(plan.points())
    points: list[Point] = []
    left_out: list[str] = []
    interrupted = False
    for done, (step, implementation, cache) in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted))
        label = (
            f"{implementation}, {step.precision}, batch {step.batch}, window {step.window}, {cache}"
        )
        needed = device_bytes(step, implementation)
        if not device.supports(step.precision):
            left_out.append(f"{label}: the device has no {step.precision}")
        elif needed > MEMORY_SHARE * device.free_bytes:
            left_out.append(f"{label}: needs {needed / 1e9:.1f} GB")
        else:
            try:
                points.append(_measure_point(device, plan, step, implementation, cache, idle))
            except (ArchsimError, RuntimeError) as error:  # a kernel that fails is a RuntimeError
                left_out.append(f"{label}: {one_line(error, 160)}")
            except KeyboardInterrupt:
                if not points:
                    raise
                missing = len(wanted) - done
                left_out.append(f"interrupted: {missing} points from {label} on")
                interrupted = True
                break
    if not points:
        raise ConfigError(f"{device.name}: no point could be measured: {left_out[0]}")
    return Measured(
        device.name, device.conditions, plan, tuple(points), tuple(left_out), interrupted
    )


def _measure_point(
    device: Device,
    plan: Plan,
    step: DecodeAttention,
    implementation: Implementation,
    cache: Cache,
    idle: float | None,
) -> Point:
    work = device.prepare(step, implementation)
    try:
        work.replay_times(plan.replays // 10, cache == "cold")  # the clock rises under load
        before = device.clock_hz()
        times = work.replay_times(plan.replays, cache == "cold")
        spent = work.energy(plan.seconds) if cache == "warm" else None
        after = device.clock_hz()
    finally:
        work.close()
    if len(times) != plan.replays or not all(math.isfinite(t) and t > 0 for t in times):
        raise InvariantError(f"{device.name}: a replay took no time, or was lost")
    return Point(
        step,
        implementation,
        cache,
        percentile(times, 0.5),
        percentile(times, 0.05),
        percentile(times, 0.95),
        None if spent is None else spent[0] / spent[1],
        idle,
        before,
        after,
    )


def matching_gpu(device_name: str) -> str:
    """The shipped GPU file of a device, by the driver's name of it.

    Raises ConfigError if there is none: an H100 PCIe is no H100 SXM.
    """
    for name in available_gpus():
        if load_gpu(name).device == device_name:
            return name
    raise ConfigError(
        f"no shipped GPU file is of {device_name!r}: give one with --gpu, a shipped name or a YAML"
    )


def measured_yaml(measured: Measured, gpu: str, date: str) -> str:
    """The file that ``compare`` reads: measurements of the GPU file `gpu`, and how they were made.

    The device's name and the date are in every row's note; versions and clocks are in the file.
    """
    from ruamel.yaml import YAML

    plan = measured.plan
    note = f"archsim baseline measure, {measured.device}, {date}"
    document: dict[str, Any] = {
        "gpu": gpu,
        "method": {
            **METHOD,
            "replays": plan.replays,
            "energy_window": quantity_text(plan.seconds, "s"),
            "date": date,
        },
        "device": {"name": measured.device, **measured.conditions},
        "measurements": [_row(point, note) for point in measured.points],
        "left_out": list(measured.left_out),
    }
    stream = io.StringIO()
    stream.write("# Written by archsim baseline measure; archsim compare --measured reads it.\n")
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.width = 100
    yaml.sort_base_mapping_type_on_output = False
    yaml.dump(document, stream)
    return stream.getvalue()


def _row(point: Point, note: str) -> dict[str, Any]:
    step = point.step
    kind = "latency" if step.batch == 1 else "throughput"
    row: dict[str, Any] = {
        "protocol": "eager" if point.implementation == "eager" else kind,
        "kind": kind,
        "precision": step.precision,
        "cache": point.cache,
        "batch": step.batch,
        "window": step.window,
        "heads": step.heads,
        "head_dim": step.head_dim,
    }
    quantities = (
        ("latency", point.latency_s, "s"),
        ("latency_p5", point.latency_p5_s, "s"),
        ("latency_p95", point.latency_p95_s, "s"),
        ("energy", point.energy_j, "J"),
        ("idle_power", point.idle_power_w, "W"),
        ("sm_clock_before", point.clock_before_hz, "Hz"),
        ("sm_clock_after", point.clock_after_hz, "Hz"),
    )
    for name, value, unit in quantities:
        if value is not None:
            row[name] = quantity_text(float(f"{value:.5g}"), unit)
    if point.slowed:
        row["slowed"] = True
    row["source"] = "user"
    row["note"] = note
    return row


def list_of(text: str, what: str) -> tuple[int, ...]:
    """The numbers of "1,4,16"; raises ConfigError for anything else."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ConfigError(f"{what} {text[:40]!r}: give whole numbers, like 1,4,16") from None
