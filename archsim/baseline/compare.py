"""The accelerator beside GPUs, row by row; each row says what kind of number it is.

Everything is for the attention of *one* layer, all its heads. Accelerator and GPU both repeat a
layer's time and energy for every layer, so the ratios hold for any number of layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from archsim.baseline.roofline import DecodeAttention, estimate
from archsim.config.gpu import Gpu, Kind, Measurement, Precision, Protocol
from archsim.errors import InvariantError

THROUGHPUT_BATCH = 64  # the batch of the authors' and of NVIDIA's measurements
MODEL_PRECISION: Precision = "fp16"


@dataclass(frozen=True)
class ProtocolDescription:
    """What a protocol measures, in one sentence, and what is known to be wrong with it."""

    name: Protocol
    kind: Kind
    description: str
    flaws: tuple[str, ...] = ()


_PROTOCOLS = (
    ProtocolDescription(
        "paper",
        "throughput",
        "The paper's own GPU measurement: one layer, batch 64, fp32, eager PyTorch, "
        "batch time divided by batch.",
        (
            "is_causal=True with a single query attends to key 0 only, so the GPU computed "
            "something else",
            "the timer does not synchronise with the device",
            "batch time divided by batch is a throughput; the accelerator's figure is a latency",
            "energy rests on one power sample a loop, minus idle power",
        ),
    ),
    ProtocolDescription(
        "latency",
        "latency",
        "Batch 1: how long one sequence waits for the attention of one layer, "
        "kernels replayed from a graph.",
    ),
    ProtocolDescription(
        "throughput",
        "throughput",
        f"Batch {THROUGHPUT_BATCH}: the step's time divided by the batch, "
        "kernels replayed from a graph.",
    ),
)


def protocols() -> tuple[ProtocolDescription, ...]:
    """The protocols of a comparison, in the order in which rows are reported."""
    return _PROTOCOLS


@dataclass(frozen=True)
class AcceleratorFigures:
    """What the comparison needs to know of the accelerator.

    `attention_latency_s`: one token, one layer, all heads in parallel, in s. `energy_per_token_j`:
    the same token, one layer, all heads together, in J. `layers` is the workload's, for the
    record. `window` is the number of tokens attended to. `protocol_note` says how the figures came
    about. Raises InvariantError if time or energy is not positive and finite.
    """

    name: str
    attention_latency_s: float
    energy_per_token_j: float
    layers: int
    heads: int
    head_dim: int
    window: int
    protocol_note: str

    def __post_init__(self) -> None:
        for name in ("attention_latency_s", "energy_per_token_j"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvariantError(f"{self.name}: {name} is {value}, not positive and finite")


@dataclass(frozen=True)
class ComparisonRow:
    """One GPU figure and its ratio to the accelerator's, per token and layer.

    `latency_us` and `energy_mj` are of one step of the whole batch, ``per_token_*`` are those over
    the batch. `energy_bound_mj` is thermal design power times time. `speedup` and `energy_ratio`
    are GPU over accelerator, per token: above 1 the accelerator wins. Energies are None where
    nobody measured them.
    """

    gpu: str
    protocol: Protocol
    batch: int
    window: int
    heads: int
    layers: int
    precision: Precision
    latency_us: float
    energy_mj: float | None
    energy_bound_mj: float
    per_token_latency_us: float
    per_token_energy_mj: float | None
    speedup: float
    energy_ratio: float | None
    kind: Kind
    source: Literal["measured", "model"]
    note: str


@dataclass(frozen=True)
class Comparison:
    """The rows, grouped by protocol, and what was left out, each with its reason."""

    accelerator: AcceleratorFigures
    rows: tuple[ComparisonRow, ...]
    omitted: tuple[str, ...]


def compare(accelerator: AcceleratorFigures, gpus: Sequence[Gpu]) -> Comparison:
    """Published measurements and the roofline of `gpus`, for the accelerator's heads and window.

    A measurement needs the accelerator's heads and head_dim. One of the protocol ``paper`` needs
    its window too; of the others the nearest window is taken, and the row's note says which.
    """
    rows: list[ComparisonRow] = []
    omitted: list[str] = []
    for protocol in _PROTOCOLS:
        for gpu in gpus:
            published = [point for point in gpu.measurements if point.protocol == protocol.name]
            usable = [point for point in published if _fits(point, accelerator)]
            if published and not usable:
                omitted.append(_why_omitted(gpu, published[0], accelerator))
            rows += (
                _measured_row(gpu, point, accelerator)
                for point in _nearest_window(usable, accelerator.window)
            )
            if protocol.name != "paper":
                rows.append(_model_row(gpu, protocol, accelerator))
    return Comparison(accelerator, tuple(rows), tuple(omitted))


def _fits(point: Measurement, accelerator: AcceleratorFigures) -> bool:
    if (point.heads, point.head_dim) != (accelerator.heads, accelerator.head_dim):
        return False
    return point.protocol != "paper" or point.window == accelerator.window


def _why_omitted(gpu: Gpu, point: Measurement, accelerator: AcceleratorFigures) -> str:
    window = f", window {point.window}" if point.protocol == "paper" else ""
    here = f", window {accelerator.window}" if point.protocol == "paper" else ""
    return (
        f"{gpu.name}, protocol {point.protocol}: measured with {point.heads} heads x "
        f"{point.head_dim}{window}; the accelerator has {accelerator.heads} x "
        f"{accelerator.head_dim}{here}"
    )


def _nearest_window(points: Sequence[Measurement], window: int) -> Iterator[Measurement]:
    """Of each batch and precision the point nearest to `window`; of two, the smaller."""
    for batch, precision in sorted({(point.batch, point.precision) for point in points}):
        same = [p for p in points if (p.batch, p.precision) == (batch, precision)]
        yield min(same, key=lambda point: (abs(point.window - window), point.window))


def _measured_row(gpu: Gpu, point: Measurement, accelerator: AcceleratorFigures) -> ComparisonRow:
    note = point.note
    if point.window != accelerator.window:
        note = (
            f"window {point.window} is the measured one nearest to the accelerator's "
            f"{accelerator.window}; {note}"
        )
    return _row(
        accelerator,
        gpu=gpu,
        protocol=point.protocol,
        kind=point.kind,
        step=DecodeAttention(
            1, point.heads, point.head_dim, point.window, point.batch, point.precision
        ),
        latency_s=point.step_latency,
        energy_j=point.step_energy,
        source="measured",
        note=note,
    )


def _model_row(
    gpu: Gpu, protocol: ProtocolDescription, accelerator: AcceleratorFigures
) -> ComparisonRow:
    step = DecodeAttention(
        layers=1,
        heads=accelerator.heads,
        head_dim=accelerator.head_dim,
        window=accelerator.window,
        batch=1 if protocol.kind == "latency" else THROUGHPUT_BATCH,
        precision=MODEL_PRECISION,
    )
    modelled = estimate(gpu, step)
    fits = "fit" if modelled.cache_fits_l2 else "do not fit"
    return _row(
        accelerator,
        gpu=gpu,
        protocol=protocol.name,
        kind=protocol.kind,
        step=step,
        latency_s=modelled.latency_s,
        energy_j=modelled.energy_j,
        source="model",
        note=f"roofline, {modelled.limit} term; K and V {fits} L2; power assumed from utilisation",
    )


def _row(
    accelerator: AcceleratorFigures,
    *,
    gpu: Gpu,
    protocol: Protocol,
    kind: Kind,
    step: DecodeAttention,
    latency_s: float,
    energy_j: float | None,
    source: Literal["measured", "model"],
    note: str,
) -> ComparisonRow:
    token_latency = latency_s / step.batch
    token_energy = None if energy_j is None else energy_j / step.batch
    return ComparisonRow(
        gpu=gpu.name,
        protocol=protocol,
        batch=step.batch,
        window=step.window,
        heads=step.heads,
        layers=step.layers,
        precision=step.precision,
        latency_us=latency_s * 1e6,
        energy_mj=None if energy_j is None else energy_j * 1e3,
        energy_bound_mj=gpu.power.thermal_design * latency_s * 1e3,
        per_token_latency_us=token_latency * 1e6,
        per_token_energy_mj=None if token_energy is None else token_energy * 1e3,
        speedup=token_latency / accelerator.attention_latency_s,
        energy_ratio=(
            None if token_energy is None else token_energy / accelerator.energy_per_token_j
        ),
        kind=kind,
        source=source,
        note=note,
    )
