"""The accelerator beside GPUs, row by row; each row says what kind of number it is.

Everything is for the attention of *one* layer, all its heads. Accelerator and GPU both repeat a
layer's time and energy for every layer, so the ratios hold for any number of layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from archsim.baseline.fit import attention_of
from archsim.baseline.protocols import BATCHES, ProtocolDescription, protocols
from archsim.baseline.roofline import DecodeAttention, estimate
from archsim.config.gpu import Cache, Gpu, Kind, Measurement, Precision, Protocol
from archsim.errors import ConfigError, InvariantError

MOST_BATCH = 65_536
Workload = Literal["calibration", "window", "trace"]
"""What the accelerator runs: 12 heads and uniform values at the hardware's window, or at the one
asked for; or the user's trace (its heads alone, if a window was asked for)."""

RowSource = Literal["measured", "model"]


@dataclass(frozen=True)
class Request:
    """What a user asks of the GPU side; None leaves it to the protocol.

    Protocol ``paper`` has its own setting and ignores all but `protocols`; ``latency`` is of batch
    1. Raises ConfigError for what no protocol can do.
    """

    protocols: tuple[Protocol, ...] = ("paper", "latency", "throughput", "eager")
    batch: int | None = None
    precision: Precision | None = None
    cache: Cache = "warm"

    def __post_init__(self) -> None:
        known = [protocol.name for protocol in protocols()]
        unknown = [name for name in self.protocols if name not in known]
        if unknown or not self.protocols:
            raise ConfigError(f"protocol {unknown or 'none'}: use some of {', '.join(known)}")
        if self.batch is not None:
            if not 1 <= self.batch <= MOST_BATCH:
                raise ConfigError(f"batch {self.batch}: 1 to {MOST_BATCH:,}")
            if self.batch > 1 and not {"throughput", "eager"} & set(self.protocols):
                raise ConfigError(
                    f"batch {self.batch}: protocol latency is batch 1 and paper batch 64; "
                    "use throughput or eager"
                )
        asked = {"batch": self.batch, "precision": self.precision}
        given = [name for name, value in asked.items() if value is not None]
        if set(self.protocols) == {"paper"} and given:
            raise ConfigError(f"{given[0]}: protocol paper has its own; use another protocol")


@dataclass(frozen=True)
class AcceleratorFigures:
    """What the comparison needs to know of the accelerator.

    `attention_latency_s`: one token, one layer, all heads in parallel, in s. `energy_per_token_j`:
    the same token, one layer, all heads together, in J. `area_m2`: the arrays of one layer, all
    heads, which hold one sequence. `boundary_bytes`: what enters and leaves them a token. `layers`
    is the workload's, for the record. `window` is the number of tokens attended to. `protocol_note`
    says how the figures came about. Raises InvariantError if time, energy or area is not positive
    and finite.
    """

    name: str
    workload: Workload
    attention_latency_s: float
    energy_per_token_j: float
    area_m2: float
    boundary_bytes: float
    layers: int
    heads: int
    head_dim: int
    window: int
    protocol_note: str

    @property
    def attention(self) -> DecodeAttention:
        """The attention of one layer for one token, as a GPU would compute it."""
        return DecodeAttention(1, self.heads, self.head_dim, self.window)

    def __post_init__(self) -> None:
        for name in ("attention_latency_s", "energy_per_token_j", "area_m2"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvariantError(f"{self.name}: {name} is {value}, not positive and finite")


@dataclass(frozen=True)
class Capacity:
    """The same number of sequences on both sides, of one layer.

    A set of arrays holds one sequence, so the GPU's batch needs as many sets (`chips`). `speedup`
    is the GPU's step over the accelerator's time: all chips work at once. The GPU's own figures are
    None where die area or energy is not known.
    """

    sequences_per_chip: int
    chips: int
    area_mm2: float
    power_w: float
    speedup: float
    tokens_per_s_per_mm2: float
    tokens_per_j: float
    gpu_tokens_per_s_per_mm2: float | None
    gpu_tokens_per_j: float | None


@dataclass(frozen=True)
class ComparisonRow:
    """One GPU figure and its ratio to the accelerator's, per token and layer.

    `latency_us` and `energy_mj` are of one step of the whole batch, ``per_token_*`` are those over
    the batch. `energy_bound_mj` is thermal design power times time. `speedup` and `energy_ratio`
    are GPU over accelerator, per token: above 1 the accelerator wins. Energies are None where
    nobody measured them. `latency_error` and `energy_error` are those of a modelled row whose very
    point was measured; `capacity` is given for the protocol ``throughput``.
    """

    gpu: str
    protocol: Protocol
    workload: Workload
    batch: int
    window: int
    heads: int
    head_dim: int
    layers: int
    precision: Precision
    cache: Cache
    latency_us: float
    energy_mj: float | None
    energy_bound_mj: float
    per_token_latency_us: float
    per_token_energy_mj: float | None
    speedup: float
    energy_ratio: float | None
    claimed_speedup: float | None
    claimed_energy_ratio: float | None
    kind: Kind
    source: RowSource
    latency_error: float | None
    energy_error: float | None
    capacity: Capacity | None
    note: str


@dataclass(frozen=True)
class Comparison:
    """The rows, grouped by protocol, and what was left out, each with its reason."""

    accelerator: AcceleratorFigures
    rows: tuple[ComparisonRow, ...]
    omitted: tuple[str, ...]


def compare(
    accelerator: AcceleratorFigures,
    gpus: Sequence[Gpu],
    request: Request | None = None,
    sources: Collection[RowSource] = ("measured", "model"),
) -> Comparison:
    """Rows from `sources`, measurements and model, for the accelerator's heads and window.

    A measurement needs the accelerator's heads and head_dim. One of the protocol ``paper`` needs
    its window too; of the others the nearest window is taken, and the row's note says which.
    """
    request = request or Request()
    rows: list[ComparisonRow] = []
    omitted: list[str] = []
    for protocol in protocols():
        if protocol.name not in request.protocols:
            continue
        for gpu in gpus:
            points = [point for point in gpu.measurements if point.protocol == protocol.name]
            fitting = [point for point in points if _fits(point, accelerator)]
            chosen = list(_chosen(fitting, protocol, request, accelerator.window))
            if "measured" in sources:
                rows += (_measured_row(gpu, point, accelerator) for point in chosen)
                if points and not fitting:
                    omitted.append(_why_omitted(gpu, points[0], accelerator))
                elif points and not chosen:
                    reason = "not measured as asked for"
                    omitted.append(f"{gpu.name}, protocol {protocol.name}: {reason}")
            if "model" in sources:
                try:
                    step = _modelled_step(gpu, protocol, request, accelerator)
                except ConfigError as error:
                    omitted.append(f"{gpu.name}, protocol {protocol.name}: {error}")
                    continue
                if step is not None:
                    rows.append(_model_row(gpu, protocol, accelerator, step, request, chosen))
    return Comparison(accelerator, tuple(rows), tuple(omitted))


def batch_of(
    protocol: ProtocolDescription, request: Request, step_time: Callable[[int], float]
) -> int:
    """The batch of a protocol's row: its own, the one asked for, or the best of `BATCHES`.

    `step_time` gives the time of a step of a batch; the best has the least time a sequence.
    """
    if protocol.name == "latency":
        return 1
    if request.batch is not None:
        return request.batch
    if protocol.batch is not None:
        return protocol.batch

    def token_time(batch: int) -> float:
        return step_time(batch) / batch

    return min(BATCHES, key=token_time)


PAPER_SHAPE = (12, 64, 1024)
"""Heads, head_dim and window of the authors' GPU setting (FACTS 4)."""


def _modelled_step(
    gpu: Gpu, protocol: ProtocolDescription, request: Request, accelerator: AcceleratorFigures
) -> DecodeAttention | None:
    """What to model: None for ``paper`` if the accelerator's figures are not for its shape.

    Raises ConfigError for a precision that the GPU does not compute in.
    """
    shape = (accelerator.heads, accelerator.head_dim, accelerator.window)
    if protocol.name == "paper":
        batch = protocol.batch or 1
        paper = DecodeAttention(1, *PAPER_SHAPE, batch, protocol.precision)
        return paper if shape == PAPER_SHAPE else None
    precision = request.precision or protocol.precision
    gpu.peak.at(precision)
    one = DecodeAttention(1, *shape, 1, precision)

    def step_time(batch: int) -> float:
        return estimate(gpu, replace(one, batch=batch), protocol.launch, request.cache).latency_s

    return replace(one, batch=batch_of(protocol, request, step_time))


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


def _chosen(
    points: Sequence[Measurement], protocol: ProtocolDescription, request: Request, window: int
) -> Iterator[Measurement]:
    """Of each series of measurements the point that answers the request, if there is one.

    A series is what one source measured; of its windows the nearest is taken (of two, the smaller),
    of its precisions the one asked for, else the protocol's, else the first.
    """
    if protocol.name == "paper":
        yield from points
        return
    for series in dict.fromkeys((point.note, point.source) for point in points):
        found = [p for p in points if (p.note, p.source) == series and p.cache == request.cache]
        precisions = list(dict.fromkeys(p.precision for p in found))
        wanted = request.precision
        if wanted is None and precisions:
            own = protocol.precision
            wanted = own if own in precisions else precisions[0]
        found = [p for p in found if p.precision == wanted]
        batch = 1 if protocol.name == "latency" else request.batch or protocol.batch
        if batch is not None:
            found = [p for p in found if p.batch == batch]
        if found:
            nearest = min((abs(p.window - window), p.window) for p in found)[1]
            at_window = [p for p in found if p.window == nearest]
            yield min(at_window, key=lambda p: p.step_latency / p.batch)


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
        step=attention_of(point),
        cache=point.cache,
        latency_s=point.step_latency,
        energy_j=point.step_energy,
        source="measured",
        note=note,
    )


def _model_row(
    gpu: Gpu,
    protocol: ProtocolDescription,
    accelerator: AcceleratorFigures,
    step: DecodeAttention,
    request: Request,
    measured: Sequence[Measurement],
) -> ComparisonRow:
    """A modelled row; in protocol ``paper`` it predicts the point `measured`, with its error."""
    cache: Cache = "warm" if protocol.name == "paper" else request.cache
    modelled = estimate(gpu, step, protocol.launch, cache)
    energy, note = modelled.energy_j, "energy from modelled utilisation"
    if protocol.name == "paper":  # the authors subtract idle power
        energy -= modelled.idle_energy_j
        note = "unfused operations assumed; energy above idle, from modelled utilisation"
    errors: tuple[float | None, float | None] = (None, None)
    if protocol.name == "paper" and measured:
        point = measured[0]
        energy_error = None if point.step_energy is None else energy / point.step_energy - 1
        errors = (modelled.latency_s / point.step_latency - 1, energy_error)
    return _row(
        accelerator,
        gpu=gpu,
        protocol=protocol.name,
        step=step,
        cache=cache,
        latency_s=modelled.latency_s,
        energy_j=energy,
        source="model",
        note=f"limited by {modelled.limit}; {note}",
        errors=errors,
    )


def _row(
    accelerator: AcceleratorFigures,
    *,
    gpu: Gpu,
    protocol: Protocol,
    step: DecodeAttention,
    cache: Cache,
    latency_s: float,
    energy_j: float | None,
    source: RowSource,
    note: str,
    errors: tuple[float | None, float | None] = (None, None),
) -> ComparisonRow:
    token_latency = latency_s / step.batch
    token_energy = None if energy_j is None else energy_j / step.batch
    claim = gpu.claim if protocol == "paper" else None
    return ComparisonRow(
        gpu=gpu.name,
        protocol=protocol,
        workload=accelerator.workload,
        batch=step.batch,
        window=step.window,
        heads=step.heads,
        head_dim=step.head_dim,
        layers=step.layers,
        precision=step.precision,
        cache=cache,
        latency_us=latency_s * 1e6,
        energy_mj=None if energy_j is None else energy_j * 1e3,
        energy_bound_mj=gpu.power.thermal_design * latency_s * 1e3,
        per_token_latency_us=token_latency * 1e6,
        per_token_energy_mj=None if token_energy is None else token_energy * 1e3,
        speedup=token_latency / accelerator.attention_latency_s,
        energy_ratio=(
            None if token_energy is None else token_energy / accelerator.energy_per_token_j
        ),
        claimed_speedup=None if claim is None else claim.speedup,
        claimed_energy_ratio=None if claim is None else claim.energy_ratio,
        kind="latency" if step.batch == 1 else "throughput",
        source=source,
        latency_error=errors[0],
        energy_error=errors[1],
        capacity=(
            _capacity(accelerator, gpu, step.batch, latency_s, energy_j)
            if protocol == "throughput"
            else None
        ),
        note=note,
    )


def _capacity(
    accelerator: AcceleratorFigures,
    gpu: Gpu,
    batch: int,
    latency_s: float,
    energy_j: float | None,
) -> Capacity:
    own, energy = accelerator.attention_latency_s, accelerator.energy_per_token_j
    area = accelerator.area_m2 * 1e6
    die = None if gpu.die_area is None else gpu.die_area * 1e6
    return Capacity(
        sequences_per_chip=1,
        chips=batch,
        area_mm2=batch * area,
        power_w=batch * energy / own,
        speedup=latency_s / own,
        tokens_per_s_per_mm2=1 / own / area,
        tokens_per_j=1 / energy,
        gpu_tokens_per_s_per_mm2=None if die is None else batch / latency_s / die,
        gpu_tokens_per_j=None if energy_j is None else batch / energy_j,
    )
