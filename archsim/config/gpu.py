"""GPU files: what a GPU can do at best, how we model its time, and what others measured on it.

One YAML file a GPU in ``hwconfigs/gpus``; `archsim.baseline` turns it into times and energies.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from archsim.config.loading import (
    Section,
    Source,
    read_document,
    suggestion,
    validate_document,
)
from archsim.config.quantity import Quantity
from archsim.errors import ConfigError, one_line
from archsim.files import data_folder

Precision = Literal["fp32", "fp16", "bf16"]
"""Number format of q, K, V and the output; sums are taken in fp32."""

Protocol = Literal["paper", "latency", "throughput", "eager"]
"""How a GPU figure came about; `archsim.baseline.protocols` describes each."""

Cache = Literal["warm", "cold"]
"""Whether K and V may still be in L2 from the step before, or come from memory."""

Kind = Literal["latency", "throughput"]
"""What a time per token means: the wait of one sequence, or the time of a batch over its size."""

MOST_BATCH = 65_536
POWER_MARGIN = 1.2
"""How far measured energy may lie above thermal design power x time: power limits can be raised."""

Seconds = Annotated[float, Quantity("s", ge=1e-12, le=1e3)]
Joules = Annotated[float, Quantity("J", ge=1e-15, le=1e6)]
Watts = Annotated[float, Quantity("W", ge=1e-3, le=1e6)]
Hertz = Annotated[float, Quantity("Hz", ge=1e3, le=1e12)]
Bytes = Annotated[float, Quantity("byte", ge=1, le=1e18)]
BytesPerSecond = Annotated[float, Quantity("byte/s", ge=1, le=1e18)]
OperationsPerSecond = Annotated[float, Quantity("FLOP/s", ge=1, le=1e24)]


class PeakRates(Section):
    """Peak arithmetic rates in FLOP/s, dense (no sparsity); one multiply-accumulate is 2 FLOP."""

    fp32: OperationsPerSecond
    fp16: OperationsPerSecond
    bf16: OperationsPerSecond | None = None
    """None where the GPU has no bf16 arithmetic."""

    def has(self, precision: Precision) -> bool:
        """Whether the GPU computes in `precision`."""
        return getattr(self, precision) is not None

    def at(self, precision: Precision) -> float:
        """The rate in FLOP/s; raises ConfigError if the GPU does not compute in `precision`."""
        rate = {"fp32": self.fp32, "fp16": self.fp16, "bf16": self.bf16}[precision]
        if rate is None:
            raise ConfigError(f"this GPU file gives no {precision} rate")
        return rate


class Memory(Section):
    """Size and bandwidth of the off-chip memory and of the last-level cache (byte, byte/s).

    `size` says which batches the GPU can hold.
    """

    size: Bytes
    bandwidth: BytesPerSecond
    l2: Bytes
    l2_bandwidth: BytesPerSecond

    @model_validator(mode="after")
    def _cache_is_faster(self) -> Self:
        if self.l2_bandwidth < self.bandwidth:
            raise ValueError("l2_bandwidth must not be below bandwidth")
        return self


class Power(Section):
    """Thermal design power and the power drawn while nothing runs, both in W."""

    thermal_design: Watts
    idle: Watts

    @model_validator(mode="after")
    def _idle_below_limit(self) -> Self:
        if self.idle >= self.thermal_design:
            raise ValueError("idle power must be below thermal_design power")
        return self


class TimingModel(Section):
    """Parameters of the time of one attention kernel, and of any other operation; times in s.

    `floor`, `step` and `bandwidth_efficiency` are fitted together to measurements (see
    `archsim.baseline.fit`): the shortest kernel replayed from a graph; what is added from
    `step_tokens` tokens of the batch on (batch x window), as the measurements show without telling
    why; and the share of a level's bandwidth that a kernel reaches. `eager_launch` is added when
    the framework launches the attention itself, `operation_cost` is what every other operation of a
    model takes besides its traffic.
    """

    floor: Seconds
    step: Seconds
    step_tokens: int = Field(ge=1)
    bandwidth_efficiency: float = Field(gt=0, le=1)
    eager_launch: Seconds
    operation_cost: Seconds


class Measurement(Section):
    """One measurement of the attention of one layer, one new token a sequence.

    `latency` (s) and `energy` (J) are for one `step` of the whole batch, or already divided by the
    batch (`token`). `cache` says whether K and V may be in L2 from the step before (``warm``).
    `above_idle`: `energy` is without the power drawn while nothing runs. `slowed`: the clock fell
    meanwhile. `series` is the file it was read from: what was measured together. `latency_p5` and
    `latency_p95` are percentiles over replays, `idle_power` is in W, ``sm_clock_*`` are those of
    the multiprocessors before and after the point, in Hz.
    """

    protocol: Protocol
    kind: Kind
    precision: Precision
    cache: Cache = "warm"
    batch: int = Field(ge=1, le=MOST_BATCH)
    window: int = Field(ge=1)
    heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    latency: Seconds
    latency_p5: Seconds | None = None
    latency_p95: Seconds | None = None
    energy: Joules | None = None
    above_idle: bool = False
    idle_power: Watts | None = None
    sm_clock_before: Hertz | None = None
    sm_clock_after: Hertz | None = None
    slowed: bool = False
    per: Literal["step", "token"] = "step"
    source: Source
    note: str = Field(min_length=1)
    series: str = ""

    @model_validator(mode="after")
    def _kind_fits(self) -> Self:
        if self.kind == "latency" and self.batch != 1:
            raise ValueError("a latency is of one sequence: batch 1, or kind: throughput")
        if self.protocol in {"latency", "throughput"} and self.protocol != self.kind:
            raise ValueError(f"protocol {self.protocol} needs kind: {self.protocol}")
        if self.batch == 1 and self.kind != "latency" and self.protocol != "throughput":
            raise ValueError("batch 1 needs kind: latency")
        return self

    @model_validator(mode="after")
    def _percentiles_are_in_order(self) -> Self:
        known = (self.latency_p5, self.latency, self.latency_p95)
        ordered = [value for value in known if value is not None]
        if ordered != sorted(ordered):
            raise ValueError("latency_p5, latency and latency_p95 must not fall")
        return self

    @property
    def step_latency(self) -> float:
        """Time of one step of the whole batch, in s."""
        return self.latency if self.per == "step" else self.latency * self.batch

    @property
    def step_energy(self) -> float | None:
        """Energy of one step of the whole batch, in J; None if it was not measured."""
        if self.energy is None or self.per == "step":
            return self.energy
        return self.energy * self.batch


class Claim(Section):
    """What the accelerator's paper says of this GPU: how many times slower, and more energy."""

    speedup: float = Field(gt=0)
    energy_ratio: float = Field(gt=0)


class Gpu(Section):
    """A GPU: data-sheet numbers, the parameters of the timing model, and measurements.

    `device` is the driver's name of it, by which ``archsim baseline measure`` finds this file.
    """

    name: str = Field(min_length=1)
    device: str | None = None
    peak: PeakRates
    memory: Memory
    power: Power
    die_area: Annotated[float, Quantity("m^2", ge=1e-8, le=1e-2)] | None = None
    timing: TimingModel
    claim: Claim | None = None
    measurements: tuple[Measurement, ...] = Field(default=(), strict=False)


class MeasuredFile(Section):
    """What ``archsim baseline measure`` writes: which GPU file it is of, how and where measured."""

    gpu: str = Field(min_length=1)
    method: dict[str, str | int | float]
    device: dict[str, str | int | float]
    measurements: tuple[Measurement, ...] = Field(strict=False, min_length=1)
    left_out: tuple[str, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _measured_by_the_user(self) -> Self:
        for point in self.measurements:
            if point.source != "user" or point.protocol == "paper":
                raise ValueError("a measured file has source: user, and no protocol paper")
        return self


def _folder() -> Path:
    return data_folder("hwconfigs") / "gpus"


def available_gpus() -> tuple[str, ...]:
    """Names of the GPU files that come with archsim, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def load_gpu(name_or_path: str | Path, *, measured: bool = True) -> Gpu:
    """The GPU of a shipped name ("rtx-4090") or of a YAML file ("my/gpu.yaml").

    What a file does not say of `timing` is that of ``gpus/timing/decode.yaml``: the parameters are
    of kernels, not of a GPU. Measurements of ``gpus/measured`` that name a shipped GPU are added,
    unless `measured` is False.
    Raises ConfigError for an unknown name (with the nearest known one) and for a faulty file.
    """
    path = _gpu_path(name_or_path)
    document = read_document(_folder() / "timing" / "decode.yaml").updated(read_document(path))
    gpu = validate_document(document, Gpu)
    if not measured:
        return gpu
    found = [load_measured(each) for each in sorted((_folder() / "measured").glob("*.yaml"))]
    return with_measured(gpu, path.stem, found)


def load_measured(path: Path) -> MeasuredFile:
    """A file that ``archsim baseline measure`` wrote; raises ConfigError if it is faulty."""
    file = validate_document(read_document(path), MeasuredFile)
    points = [point.model_copy(update={"series": str(path)}) for point in file.measurements]
    return file.model_copy(update={"measurements": tuple(points)})


def with_measured(gpu: Gpu, name: str, files: Iterable[MeasuredFile]) -> Gpu:
    """`gpu`, known as `name`, with the measurements of those `files` that are of it.

    Raises ConfigError for an energy that the GPU's power does not allow.
    """
    added = [point for file in files if file.gpu == name for point in file.measurements]
    for point in added:
        limit = POWER_MARGIN * gpu.power.thermal_design * point.step_latency
        if point.step_energy is not None and point.step_energy > limit:
            raise ConfigError(
                f"{point.series}: batch {point.batch}, window {point.window}: energy "
                f"{point.step_energy:.3g} J is above the thermal design power of {gpu.name} "
                f"x {POWER_MARGIN:g} x the latency: check the units"
            )
    return gpu.model_copy(update={"measurements": (*gpu.measurements, *added)}) if added else gpu


def _gpu_path(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if isinstance(name_or_path, Path) or path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        return path
    known = available_gpus()
    if name_or_path not in known:
        raise ConfigError(
            f"unknown GPU {one_line(name_or_path, 60)!r}{suggestion(name_or_path, list(known))}"
            f" (known: {', '.join(known)}, or the path of a YAML file)"
        )
    return _folder() / f"{name_or_path}.yaml"
