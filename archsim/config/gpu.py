"""GPU files: what a GPU can do at best, how we model its time, and what others measured on it.

One YAML file a GPU in ``hwconfigs/gpus``; `archsim.baseline` turns it into times and energies.
"""

from __future__ import annotations

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

Protocol = Literal["paper", "latency", "throughput"]
"""How a GPU figure came about; `archsim.baseline.compare.protocols` describes each."""

Kind = Literal["latency", "throughput"]
"""What a time per token means: the wait of one sequence, or the time of a batch over its size."""

Seconds = Annotated[float, Quantity("s", ge=1e-12, le=1e3)]
Joules = Annotated[float, Quantity("J", ge=1e-15, le=1e6)]
Watts = Annotated[float, Quantity("W", ge=1e-3, le=1e6)]
Bytes = Annotated[float, Quantity("byte", ge=1, le=1e18)]
BytesPerSecond = Annotated[float, Quantity("byte/s", ge=1, le=1e18)]
OperationsPerSecond = Annotated[float, Quantity("FLOP/s", ge=1, le=1e24)]


class PeakRates(Section):
    """Peak arithmetic rates in FLOP/s, dense (no sparsity); one multiply-accumulate is 2 FLOP."""

    fp32: OperationsPerSecond
    fp16: OperationsPerSecond
    bf16: OperationsPerSecond | None = None
    """None where the GPU has no bf16 arithmetic."""

    def at(self, precision: Precision) -> float:
        """The rate in FLOP/s; raises ConfigError if the GPU does not compute in `precision`."""
        rate = {"fp32": self.fp32, "fp16": self.fp16, "bf16": self.bf16}[precision]
        if rate is None:
            raise ConfigError(f"this GPU file gives no {precision} rate")
        return rate


class Memory(Section):
    """Off-chip bandwidth (byte/s) and size of the last-level cache (byte)."""

    bandwidth: BytesPerSecond
    l2: Bytes


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
    """Parameters of ``t = max(floor, fixed_cost + bytes/(efficiency * bandwidth), FLOP/peak)``.

    Times in s. `floor` is the shortest attention kernel replayed from a graph, `eager_launch` is
    added when each kernel is launched by itself, `bandwidth_efficiency` is in (0, 1].
    """

    floor: Seconds
    fixed_cost: Seconds
    bandwidth_efficiency: float = Field(gt=0, le=1)
    eager_launch: Seconds


class Measurement(Section):
    """One published measurement of the attention of one layer, one new token a sequence.

    `latency` (s) and `energy` (J) are written as published: for one `step` of the whole batch, or
    already divided by the batch (`token`).
    """

    protocol: Protocol
    kind: Kind
    precision: Precision
    batch: int = Field(ge=1)
    window: int = Field(ge=1)
    heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    latency: Seconds
    energy: Joules | None = None
    per: Literal["step", "token"] = "step"
    source: Source
    note: str = Field(min_length=1)

    @model_validator(mode="after")
    def _kind_fits(self) -> Self:
        if self.kind == "latency" and self.batch != 1:
            raise ValueError("a latency is of one sequence: batch 1, or kind: throughput")
        if self.protocol != "paper" and self.protocol != self.kind:
            raise ValueError(f"protocol {self.protocol} needs kind: {self.protocol}")
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


class Gpu(Section):
    """A GPU: data-sheet numbers, the parameters of the timing model, published measurements."""

    name: str = Field(min_length=1)
    peak: PeakRates
    memory: Memory
    power: Power
    timing: TimingModel
    measurements: tuple[Measurement, ...] = Field(default=(), strict=False)


def available_gpus() -> tuple[str, ...]:
    """Names of the GPU files that come with archsim, sorted."""
    return tuple(sorted(path.stem for path in (data_folder("hwconfigs") / "gpus").glob("*.yaml")))


def load_gpu(name_or_path: str | Path) -> Gpu:
    """The GPU of a shipped name ("rtx-4090") or of a YAML file ("my/gpu.yaml").

    Raises ConfigError for an unknown name (with the nearest known one) and for a faulty file.
    """
    return validate_document(read_document(_gpu_path(name_or_path)), Gpu)


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
    return data_folder("hwconfigs") / "gpus" / f"{name_or_path}.yaml"
