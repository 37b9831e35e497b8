"""The accelerator beside GPUs, row by row; each row says what kind of number it is.

Everything but `Capacity` is for the attention of *one* layer, all its heads. Accelerator and GPU
both repeat a layer's time and energy for every layer, so the ratios hold for any number of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from archsim.baseline.accelerator import AcceleratorFigures, Workload
from archsim.baseline.capacity import Capacity, check_memory, same_capacity
from archsim.baseline.fit import attention_of
from archsim.baseline.protocols import BATCHES, PAPER_STEP, ProtocolDescription, protocols
from archsim.baseline.roofline import DecodeAttention, estimate
from archsim.config.gpu import MOST_BATCH, Cache, Gpu, Kind, Measurement, Precision, Protocol
from archsim.errors import ConfigError

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
        if self.cache == "cold":
            given.append("cache cold")
        if set(self.protocols) == {"paper"} and given:
            raise ConfigError(f"{given[0]}: protocol paper has its own; use another protocol")


@dataclass(frozen=True)
class ComparisonRow:
    """One GPU figure and its ratio to the accelerator's, per token and layer.

    `latency_us` and `energy_mj` are of one step of the whole batch, ``per_token_*`` are those over
    the batch. `energy_bound_mj` is thermal design power times time (``paper``: without
    idle power, as its energies are). `speedup` and `energy_ratio`
    are GPU over accelerator, per token: above 1 the accelerator wins. Energies are None where
    nobody measured them. `latency_error` and `energy_error` are those of a modelled row whose very
    point was measured; `capacity` is given for the protocol ``throughput``, unless the GPU cannot
    hold the batch through all layers.
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

    A measurement needs the accelerator's heads, head_dim and window. What has no row is in
    `Comparison.omitted`, with its reason.
    """
    request = request or Request()
    rows: list[ComparisonRow] = []
    omitted: dict[str, None] = {}
    for protocol in protocols():
        if protocol.name not in request.protocols:
            continue
        for gpu in gpus:
            where = f"{gpu.name}, protocol {protocol.name}"
            chosen: list[Measurement] = []
            try:
                chosen = _chosen(gpu, protocol, request, accelerator)
            except ConfigError as error:
                if "measured" in sources:
                    omitted[f"{where}: {error}"] = None
            if "measured" in sources:
                rows += (_measured_row(gpu, point, accelerator) for point in chosen)
            if "model" in sources:
                try:
                    step = _modelled_step(gpu, protocol, request, accelerator)
                except ConfigError as error:
                    omitted[f"{where}: {error}"] = None
                    continue
                rows.append(_model_row(gpu, protocol, accelerator, step, request, chosen))
    return Comparison(accelerator, tuple(rows), tuple(omitted))


def batch_of(
    protocol: ProtocolDescription,
    request: Request,
    check: Callable[[int], None],
    step_time: Callable[[int], float],
) -> int:
    """The batch of a protocol's row: its own, the one asked for, or the best of `BATCHES`.

    `check` raises ConfigError for a batch that the GPU cannot hold. `step_time` gives the time of a
    step of a batch; the best has the least time a sequence, of those that the GPU holds. Raises
    ConfigError if there is none.
    """
    batch = protocol.batch if protocol.fixed_batch else request.batch or protocol.batch
    if batch is not None:
        check(batch)
        return batch

    def token_time(batch: int) -> float:
        return step_time(batch) / batch

    check(BATCHES[0])
    return min((batch for batch in BATCHES if _holds(check, batch)), key=token_time)


def _holds(check: Callable[[int], None], batch: int) -> bool:
    try:
        check(batch)
    except ConfigError:
        return False
    return True


def _modelled_step(
    gpu: Gpu, protocol: ProtocolDescription, request: Request, accelerator: AcceleratorFigures
) -> DecodeAttention:
    """What to model.

    Raises ConfigError for a precision that the GPU does not compute in, a batch that it cannot hold
    with K and V of all layers, and for ``paper`` if the accelerator has another shape.
    """
    if protocol.name == "paper":
        shape = (PAPER_STEP.heads, PAPER_STEP.head_dim, PAPER_STEP.window)
        if accelerator.shape != shape:
            raise ConfigError(_other_shape(shape, accelerator))
        return PAPER_STEP
    precision = request.precision or protocol.precision
    gpu.peak.at(precision)
    one = DecodeAttention(1, *accelerator.shape, 1, precision)

    def check(batch: int) -> None:
        model = replace(one, layers=accelerator.layers, batch=batch)
        check_memory(gpu, model, protocol.launch)

    def step_time(batch: int) -> float:
        return estimate(gpu, replace(one, batch=batch), protocol.launch, request.cache).latency_s

    return replace(one, batch=batch_of(protocol, request, check, step_time))


def _chosen(
    gpu: Gpu, protocol: ProtocolDescription, request: Request, accelerator: AcceleratorFigures
) -> list[Measurement]:
    """The measured points that answer the request: of every series at most one.

    A series is what was measured together. A point needs the accelerator's heads, head_dim and
    window: a row at another window would set two different amounts of work side by side. Of the
    precisions the one asked for is taken, else the protocol's, else the first. Raises ConfigError
    if there are points, but none that fits.
    """
    points = [point for point in gpu.measurements if point.protocol == protocol.name]
    if not points:
        return []
    heads = [p for p in points if (p.heads, p.head_dim) == accelerator.shape[:2]]
    found = [p for p in heads if p.window == accelerator.window]
    if not heads or (not found and protocol.name == "paper"):
        first = points[0]
        raise ConfigError(_other_shape((first.heads, first.head_dim, first.window), accelerator))
    if not found:
        windows = ", ".join(f"{window:,}" for window in sorted({p.window for p in heads}))
        raise ConfigError(f"measured at windows {windows}, not at {accelerator.window:,}")
    if protocol.name == "paper":
        return found
    series: dict[tuple[str, str], list[Measurement]] = {}
    for point in found:
        series.setdefault((point.series, point.source), []).append(point)
    chosen = [_of_series(each, protocol, request) for each in series.values()]
    answers = [point for point in chosen if point is not None]
    if not answers:
        raise ConfigError("not measured as asked for")
    return answers


def _of_series(
    points: Sequence[Measurement], protocol: ProtocolDescription, request: Request
) -> Measurement | None:
    found = [p for p in points if p.cache == request.cache]
    precisions = list(dict.fromkeys(p.precision for p in found))
    wanted = request.precision
    if wanted is None and precisions:
        own = protocol.precision
        wanted = own if own in precisions else precisions[0]
    batch = protocol.batch if protocol.fixed_batch else request.batch or protocol.batch
    found = [p for p in found if p.precision == wanted and batch in {None, p.batch}]
    return min(found, key=lambda p: p.step_latency / p.batch) if found else None


def _other_shape(shape: tuple[int, int, int], accelerator: AcceleratorFigures) -> str:
    (heads, head_dim, window), own = shape, accelerator
    return (
        f"of {heads} heads x {head_dim}, window {window:,}; the accelerator has "
        f"{own.heads} x {own.head_dim}, window {own.window:,}"
    )


def _measured_row(gpu: Gpu, point: Measurement, accelerator: AcceleratorFigures) -> ComparisonRow:
    return _row(
        accelerator,
        gpu=gpu,
        protocol=point.protocol,
        step=attention_of(point),
        cache=point.cache,
        latency_s=point.step_latency,
        energy_j=point.step_energy,
        source="measured",
        note=f"{point.note}; the clock fell meanwhile" if point.slowed else point.note,
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
        energy = modelled.dynamic_energy_j
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
    idle = gpu.power.idle if protocol == "paper" else 0.0  # the authors subtract it
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
        energy_bound_mj=(gpu.power.thermal_design - idle) * latency_s * 1e3,
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
            same_capacity(accelerator, gpu, step, latency_s, energy_j)
            if protocol == "throughput"
            else None
        ),
        note=note,
    )
