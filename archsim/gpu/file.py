"""GPU files: what a GPU can do at best, how it is modelled, and what was measured on it.

One YAML file a GPU in ``hwconfigs/gpus``; `archsim.comparison` turns it into times and energies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from archsim.arguments import as_path
from archsim.config.document import read_document
from archsim.config.loading import validate_document
from archsim.config.published import published_of
from archsim.config.quantity import Quantity
from archsim.config.section import Section, suggestion
from archsim.errors import ConfigError, one_line
from archsim.files import data_folder
from archsim.gpu.measurement import (
    MOST_BATCH,
    Cache,
    Kind,
    MeasuredFile,
    MeasuredStep,
    Measurement,
    Part,
    Precision,
    Protocol,
    Seconds,
    TokenMeasurement,
    Watts,
)

__all__ = [
    "MOST_BATCH",
    "Cache",
    "Gpu",
    "KernelModel",
    "Kind",
    "MeasuredFile",
    "Measurement",
    "Part",
    "Precision",
    "Protocol",
    "TokenMeasurement",
    "available_gpus",
    "is_shipped",
    "load_gpu",
    "load_measured",
    "with_measured",
]

POWER_MARGIN = 1.2
"""How far measured energy may lie above thermal design power x time: power limits can be raised."""

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


Efficiency = Annotated[float, Field(gt=0, le=1)]


class KernelModel(Section):
    """Parameters of the time and energy of a kernel; `archsim.gpu.kernels` has the law.

    Fitted to measurements (`archsim.gpu.fit`), eight of them: `launch` (s), a kernel of a
    replayed graph that has next to nothing to do; `eager_launch` (s), what the host takes to launch
    one operation; the shares of memory bandwidth, L2 bandwidth and peak arithmetic that a kernel
    reaches, and of memory bandwidth that unfused operations reach; `residency_power` (W), of one
    multiprocessor at work, above idle; `byte_energy` (J/byte), of a byte from memory.

    Not fitted: `overlap`, the order of the smooth maximum; `l2_edge`, the share of L2 at which half
    of what was read is there again, and `l2_order`, how steep that edge is; and how kernels cut
    their work: `tile` rows of queries and columns, `fragment` rows that the smallest matrix
    instruction has, `split` tokens (or inputs) below which no block's work is cut further.
    """

    launch: Seconds
    eager_launch: Seconds
    memory_efficiency: Efficiency
    l2_efficiency: Efficiency
    arithmetic_efficiency: Efficiency
    unfused_efficiency: Efficiency
    residency_power: Watts
    byte_energy: Annotated[float, Quantity("J/byte", ge=0, le=1e-6)]
    overlap: float = Field(ge=1, le=64)
    l2_edge: Efficiency
    l2_order: float = Field(ge=1, le=64)
    tile: int = Field(ge=1)
    fragment: int = Field(ge=1)
    split: int = Field(ge=1)


class GroupError(Section):
    """Mean absolute error, as a share, of one kind of work; None where nothing was measured."""

    time: float = Field(gt=0)
    energy: float | None = Field(default=None, gt=0)


Group = Literal["fused", "unfused", "cold", "whole_token"]
"""Kinds of work that the model is wrong about by different amounts."""


class ExpectedError(Section):
    """Mean absolute error, as a share, to expect of the model on this GPU.

    `time` and `energy` are of all work. The fitted GPU, where enough was measured, has those of
    each kind as well: attention by one fused kernel, unfused attention launched by Python, with a
    cold cache, and a whole token replayed from a graph.
    """

    time: float = Field(gt=0)
    energy: float = Field(gt=0)
    fused: GroupError | None = None
    unfused: GroupError | None = None
    cold: GroupError | None = None
    whole_token: GroupError | None = None

    def of(self, *groups: Group) -> tuple[float, float | None]:
        """Of time and energy of work that is of `groups`: the largest of theirs.

        None for an energy of which nobody knows how far it is off.
        """
        found = [getattr(self, group) or self for group in groups] or [self]
        energies = [each.energy for each in found]
        known = [energy for energy in energies if energy is not None]
        return max(each.time for each in found), max(known) if known == energies else None


class Link(Section):
    """What would tie a GPU to an accelerator of attention: what a transfer takes.

    `latency` (s) is of one transfer, however small; `energy_per_byte` in J.
    """

    bandwidth: BytesPerSecond
    latency: Seconds
    energy_per_byte: Annotated[float, Quantity("J/byte", ge=0, le=1e-3)]


class StatedRatios(Section):
    """What the accelerator's paper says of this GPU: how many times slower, and more energy.

    Of a shipped GPU it comes from ``hwconfigs/published.yaml``.
    """

    speedup: float = Field(gt=0)
    energy_ratio: float = Field(gt=0)


class Gpu(Section):
    """A GPU: data-sheet numbers, the parameters of the kernel model, and measurements.

    `device` is the driver's name of it, by which ``archsim baseline measure`` finds this file.
    """

    name: str = Field(min_length=1)
    device: str | None = None
    multiprocessors: int = Field(ge=1)
    peak: PeakRates
    memory: Memory
    power: Power
    die_area: Annotated[float, Quantity("m^2", ge=1e-8, le=1e-2)] | None = None
    model: KernelModel
    expected_error: ExpectedError
    link: Link
    claim: StatedRatios | None = None
    measurements: tuple[Measurement, ...] = Field(default=(), strict=False)
    tokens: tuple[TokenMeasurement, ...] = Field(default=(), strict=False)

    def __repr__(self) -> str:
        return f"<Gpu {self.name}: {len(self.measurements)} measured points>"


GivenGpus = Gpu | str | Path | Sequence[Gpu | str | Path]

GIVEN = "a Gpu, the name of a shipped one, or the path of a YAML file"


def _folder() -> Path:
    return data_folder("hwconfigs") / "gpus"


def _measured_folder() -> Path:
    return _folder() / "measured"


def is_shipped(series: str) -> bool:
    """Whether a series of measured rows comes with archsim; else it is a file of the user's."""
    return not series or Path(series).parent == _measured_folder()


def available_gpus() -> tuple[str, ...]:
    """Names of the GPU files that come with archsim, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def load_gpu(name_or_path: str | Path, *, measured: bool = True) -> Gpu:
    """The GPU of a shipped name ("rtx-4090") or of a YAML file ("my/gpu.yaml").

    What a file does not say of `model`, `expected_error` and `link` is that of
    ``gpus/model/kernels.yaml``: the parameters are of kernels, not of a GPU. Measurements of
    ``gpus/measured`` that name a shipped GPU are added, unless `measured` is False.
    Raises ConfigError for an unknown name (with the nearest known one) and for a faulty file.
    """
    path = _gpu_path(as_path(name_or_path, "GPU", GIVEN))
    gpu = _read_gpu(path, _changed(path), _folder() / "model" / "kernels.yaml")
    if path.parent == _folder():
        gpu = gpu.model_copy(update={"claim": _claim(path.stem)})
    if not measured:
        return gpu
    found = [load_measured(each) for each in sorted(_measured_folder().glob("*.yaml"))]
    return with_measured(gpu, path.stem, found)


def as_gpus(given: GivenGpus) -> list[Gpu]:
    """One GPU or several, loaded where they are names or paths.

    Raises ConfigError as `load_gpu` does.
    """
    several: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    return [gpu if isinstance(gpu, Gpu) else load_gpu(gpu) for gpu in several]


def _claim(name: str) -> StatedRatios | None:
    """What is published of a shipped GPU, from ``hwconfigs/published.yaml``."""
    found = {figure.ratio: figure.value for _, figure in published_of(name)}
    if not found:
        return None
    return StatedRatios(speedup=found["time"], energy_ratio=found["energy"])


def load_measured(path: Path) -> MeasuredFile:
    """A file that ``archsim baseline measure`` wrote; raises ConfigError if it is faulty."""
    return _read_measured(path, _changed(path))


def _changed(path: Path) -> int:
    """When a file was changed, ns; 0 if there is none: reading it says what is wrong."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=16)
def _read_gpu(path: Path, changed: int, kernels: Path) -> Gpu:
    """Read once in a run: each of several commands' parts asks for the same GPU."""
    return validate_document(read_document(kernels).updated(read_document(path)), Gpu)


@lru_cache(maxsize=16)
def _read_measured(path: Path, changed: int) -> MeasuredFile:
    """Read once in a run: every GPU that is loaded asks for the shipped files."""
    return validate_document(read_document(path), MeasuredFile).of_series(str(path))


def with_measured(gpu: Gpu, name: str, files: Iterable[MeasuredFile]) -> Gpu:
    """`gpu`, known as `name`, with the measurements of those `files` that are of it.

    Raises ConfigError for an energy that the GPU's power does not allow.
    """
    own = [file for file in files if file.gpu == name]
    points = [point for file in own for point in file.measurements]
    tokens = [token for file in own for token in file.tokens]
    added: list[MeasuredStep] = [*points, *tokens]
    for point in added:
        limit = POWER_MARGIN * gpu.power.thermal_design * point.step_latency
        if point.step_energy is not None and point.step_energy > limit:
            raise ConfigError(
                f"{point.series}: batch {point.batch}, window {point.window}: energy "
                f"{point.step_energy:.3g} J is above the thermal design power of {gpu.name} "
                f"x {POWER_MARGIN:g} x the latency: check the units"
            )
    return gpu.model_copy(
        update={
            "measurements": (*gpu.measurements, *points),
            "tokens": (*gpu.tokens, *tokens),
        }
    )


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
