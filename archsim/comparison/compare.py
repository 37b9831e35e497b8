"""The accelerator beside GPUs, row by row; each row says what kind of number it is.

Everything but `Capacity` is for the attention of *one* layer, all its heads. Accelerator and GPU
both repeat a layer's time and energy for every layer, so the ratios hold for any number of layers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from archsim.comparison.accelerator import AcceleratorFigures, Workload
from archsim.comparison.capacity import Capacity, check_memory, same_capacity
from archsim.comparison.request import Request, answering, as_in_the_paper, batch_of, other_shape
from archsim.errors import ConfigError
from archsim.gpu.file import (
    Cache,
    Gpu,
    Group,
    Kind,
    Measurement,
    Precision,
    Protocol,
    is_shipped,
)
from archsim.gpu.fit import attention_of, described, launch_of, was_fitted
from archsim.gpu.protocols import PAPER_STEP, ProtocolDescription, protocols
from archsim.gpu.roofline import DecodeAttention, Launch, estimate
from archsim.units import MICROSECOND, MILLIJOULE

RowSource = Literal["measured", "model"]


@dataclass(frozen=True)
class ComparisonRow:
    """One GPU figure and its ratio to the accelerator's, per token and layer.

    `latency_us` and `energy_mj` are of one step of the whole batch, ``per_token_*`` are those over
    the batch. `energy_bound_mj` is thermal design power times time. Rows of ``paper`` are without
    idle power, as the authors' (`above_idle`), and so is their bound; `total_energy_ratio` is with
    it, where it was measured. `speedup` and `energy_ratio` are GPU over accelerator, per token:
    above 1 the accelerator wins. Energies are None where nobody measured them.

    `kernel` is what computed a measured row, or what the model is of; `date` is when it was
    measured, `measured_file` the file that came with ``--measured``, None for what is shipped.
    `latency_error` and `energy_error` are those of a modelled row whose very point was
    measured, by a kernel that the model is of, and `error_fitted` says whether the model's
    parameters were fitted to that point; any other modelled row has the errors to expect of such
    work on its GPU, ``expected_*`` (of energy None where none was ever measured).
    `capacity` is given for the protocol ``throughput``, unless the GPU cannot hold the batch
    through all layers.
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
    kernel: str | None
    date: str | None
    measured_file: str | None
    above_idle: bool
    total_energy_ratio: float | None
    latency_error: float | None
    energy_error: float | None
    error_fitted: bool | None
    expected_latency_error: float | None
    expected_energy_error: float | None
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
                chosen = answering(gpu, protocol, request, accelerator)
            except ConfigError as error:
                if "measured" in sources:
                    omitted[f"{where}: {error}"] = None
            if "measured" in sources:
                rows += (_measured_row(gpu, point, protocol, accelerator) for point in chosen)
            if "model" in sources:
                try:
                    step = _modelled_step(gpu, protocol, request, accelerator)
                except ConfigError as error:
                    omitted[f"{where}: {error}"] = None
                    continue
                rows.append(_model_row(gpu, protocol, accelerator, step, request))
    return Comparison(accelerator, tuple(rows), tuple(omitted))


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
            raise ConfigError(other_shape(shape, accelerator))
        return PAPER_STEP
    precision = protocol.precision_on(gpu, request.precision)
    one = DecodeAttention(1, *accelerator.shape, 1, precision)

    def check(batch: int) -> None:
        model = replace(one, layers=accelerator.layers, batch=batch)
        check_memory(gpu, model, protocol.launch)

    def step_time(batch: int) -> float:
        return estimate(gpu, replace(one, batch=batch), protocol.launch, request.cache).latency_s

    return replace(one, batch=batch_of(protocol, request, check, step_time))


def _measured_row(
    gpu: Gpu, point: Measurement, protocol: ProtocolDescription, accelerator: AcceleratorFigures
) -> ComparisonRow:
    energy, total, note = point.step_energy, point.step_energy, point.note
    if protocol.name == "paper":  # without idle power, as the authors'
        total = None if point.above_idle else energy
        energy = _above_idle(gpu, point)
        if point.protocol != "paper":
            note = (
                "the same work without the protocol's flaws: every key attended to, synchronised, "
                f"energy by counter minus idle; {note}"
            )
    return _row(
        accelerator,
        gpu=gpu,
        protocol=protocol.name,
        step=attention_of(point),
        cache=point.cache,
        latency_s=point.step_latency,
        energy_j=energy,
        source="measured",
        kernel=point.kernel,
        date=point.date,
        measured_file=None if is_shipped(point.series) else point.series,
        total_j=total,
        note=f"{note}; the clock fell meanwhile" if point.slowed else note,
    )


def _above_idle(gpu: Gpu, point: Measurement) -> float | None:
    """Energy (J) of a step without idle power, the point's own where it has one."""
    if point.step_energy is None or point.above_idle:
        return point.step_energy
    return point.step_energy - (point.idle_power or gpu.power.idle) * point.step_latency


KERNEL: dict[Launch, str] = {"graph": "fused", "unfused": "math", "eager": "math"}
"""What the model is of, by how attention runs: the best fused kernel of PyTorch, or none."""


def _model_row(
    gpu: Gpu,
    protocol: ProtocolDescription,
    accelerator: AcceleratorFigures,
    step: DecodeAttention,
    request: Request,
) -> ComparisonRow:
    """A modelled row, with its error where that very point was measured."""
    cache: Cache = "warm" if protocol.name == "paper" else request.cache
    modelled = estimate(gpu, step, protocol.launch, cache)
    energy, total, note = modelled.energy_j, modelled.energy_j, "energy modelled"
    if protocol.name == "paper":  # the authors subtract idle power
        energy = modelled.dynamic_energy_j
        note = "unfused operations assumed; energy above idle, modelled"
    beside = _measured_twin(gpu, protocol, step, cache)
    errors: Errors | None = None
    if beside is not None:
        measured = _above_idle(gpu, beside) if protocol.name == "paper" else beside.step_energy
        errors = (
            modelled.latency_s / beside.step_latency - 1,
            None if measured is None else energy / measured - 1,
        )
    return _row(
        accelerator,
        gpu=gpu,
        protocol=protocol.name,
        step=step,
        cache=cache,
        latency_s=modelled.latency_s,
        energy_j=energy,
        source="model",
        kernel=KERNEL[protocol.launch],
        total_j=total,
        note=f"limited by {modelled.limit}; {note}",
        errors=errors,
        fitted=None if beside is None else was_fitted(gpu, beside),
    )


Errors = tuple[float | None, float | None]
"""Of time and energy, as shares."""


def _measured_twin(
    gpu: Gpu, protocol: ProtocolDescription, step: DecodeAttention, cache: Cache
) -> Measurement | None:
    """The fastest measured point of the very step; None if there is none.

    Only kernels that the model is of count: it does not claim to know those of another library.
    """
    points = [point for point in gpu.measurements if point.protocol == protocol.name]
    if protocol.name == "paper":
        points += as_in_the_paper(gpu)
    same = [
        point
        for point in points
        if (attention_of(point), launch_of(point)) == (step, protocol.launch)
        and point.cache == cache
        and described(point)
    ]
    return min(same, key=lambda each: each.step_latency, default=None)


def _expected(gpu: Gpu, protocol: Protocol, cache: Cache) -> Errors:
    """The error to expect of a modelled row that was not measured, by what kind of work it is."""
    launch = next(each.launch for each in protocols() if each.name == protocol)
    groups: list[Group] = ["fused" if launch == "graph" else "unfused"]
    if cache == "cold":
        groups.append("cold")
    return gpu.expected_error.of(*groups)


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
    kernel: str | None,
    note: str,
    total_j: float | None,
    date: str | None = None,
    measured_file: str | None = None,
    errors: Errors | None = None,
    fitted: bool | None = None,
) -> ComparisonRow:
    token_latency = latency_s / step.batch
    token_energy = None if energy_j is None else energy_j / step.batch
    claim = gpu.claim if protocol == "paper" else None
    above_idle = protocol == "paper"  # the authors subtract it
    idle = gpu.power.idle if above_idle else 0.0
    own = accelerator.energy_per_token_j
    error = errors or (None, None)
    modelled = source == "model" and errors is None
    expected = _expected(gpu, protocol, cache) if modelled else (None, None)
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
        latency_us=MICROSECOND.of(latency_s),
        energy_mj=None if energy_j is None else MILLIJOULE.of(energy_j),
        energy_bound_mj=MILLIJOULE.of((gpu.power.thermal_design - idle) * latency_s),
        per_token_latency_us=MICROSECOND.of(token_latency),
        per_token_energy_mj=None if token_energy is None else MILLIJOULE.of(token_energy),
        speedup=token_latency / accelerator.attention_latency_s,
        energy_ratio=None if token_energy is None else token_energy / own,
        claimed_speedup=None if claim is None else claim.speedup,
        claimed_energy_ratio=None if claim is None else claim.energy_ratio,
        kind="latency" if step.batch == 1 else "throughput",
        source=source,
        kernel=kernel,
        date=date,
        measured_file=measured_file,
        above_idle=above_idle,
        total_energy_ratio=None if total_j is None else total_j / step.batch / own,
        latency_error=error[0],
        energy_error=error[1],
        error_fitted=fitted,
        expected_latency_error=expected[0],
        expected_energy_error=expected[1],
        capacity=(
            same_capacity(accelerator, gpu, step, latency_s, energy_j)
            if protocol == "throughput"
            else None
        ),
        note=note,
    )
