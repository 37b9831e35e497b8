"""A whole token of GPT-2, of which attention is only a part (Amdahl's law).

On both sides a token is attention in every layer plus everything else: projections, MLP, LayerNorm,
and the output matrix. Embedding look-up, sampling and host time are left out on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from archsim.comparison.accelerator import AcceleratorFigures
from archsim.comparison.capacity import check_memory
from archsim.comparison.compare import RowSource
from archsim.comparison.request import Request, batch_of
from archsim.config.transformer import GPT2_SMALL, TransformerShape
from archsim.errors import ConfigError
from archsim.gpu.file import Cache, Gpu, Group, Kind, Precision, Protocol, TokenMeasurement
from archsim.gpu.kernels import share_in_l2
from archsim.gpu.protocols import ProtocolDescription, protocols
from archsim.gpu.roofline import BYTES_PER_ELEMENT, DecodeAttention
from archsim.gpu.token import TokenCost, gpu_token, kernels_besides_attention
from archsim.hardware.digital import DigitalConfig
from archsim.units import MICROSECOND, MILLIJOULE

__all__ = [
    "GPT2_SMALL",
    "ModelComparison",
    "ModelRow",
    "MovedAttention",
    "TokenCost",
    "TransformerShape",
    "accelerator_token",
    "compare_models",
    "measured_token",
    "moved_attention",
]


@dataclass(frozen=True)
class ModelRow:
    """One GPU's token of the whole model and its ratio to the accelerator's; see `ComparisonRow`.

    Both sides hold `batch` sequences: the accelerator in as many sets of arrays, beside one engine
    for the rest. Its own step is in the fields ``accelerator_*``. The fields ``moved_*`` are of the
    same GPU with its attention alone moved to the accelerator's arrays over a link (assumed):
    `link_bytes` cross it a step, in `link_latency_us`. `attention_only_speedup` is what the GPU
    gains so, `attention_only_bound` what it could at most, with attention and link for nothing
    (Amdahl).
    """

    gpu: str
    protocol: Protocol
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
    attention_latency_us: float
    attention_latency_share: float
    attention_energy_share: float | None
    accelerator_latency_us: float
    accelerator_energy_mj: float
    accelerator_attention_latency_share: float
    accelerator_attention_energy_share: float
    link_bytes: float
    link_latency_us: float
    moved_latency_us: float
    moved_energy_mj: float | None
    speedup: float
    attention_only_speedup: float
    attention_only_bound: float
    energy_ratio: float | None
    kind: Kind
    source: RowSource
    kernel: str
    date: str | None
    latency_error: float | None
    energy_error: float | None
    error_fitted: bool | None
    expected_latency_error: float | None
    expected_energy_error: float | None
    note: str


@dataclass(frozen=True)
class ModelComparison:
    """Whole-model rows, what they rest on, and what was left out."""

    shape: TransformerShape
    accelerator: AcceleratorFigures
    digital: DigitalConfig
    rows: tuple[ModelRow, ...]
    omitted: tuple[str, ...]


def accelerator_token(
    figures: AcceleratorFigures, digital: DigitalConfig, shape: TransformerShape, batch: int = 1
) -> TokenCost:
    """One token of each of `batch` sequences: the arrays' attention, then the engine for the rest.

    Every sequence has its own arrays, which work at once; the engine is one. It computes while it
    streams its weights, once a step: the longer of the two is its time. All heads of all sequences
    leak for the whole step, which counts to the energy of attention. Moving vectors between arrays
    and engine is not counted. Raises ConfigError if the figures are for other heads.
    """
    if (figures.heads, figures.head_dim) != (shape.heads, shape.head_dim):
        raise ConfigError(
            f"{shape.name} has {shape.heads} heads x {shape.head_dim}; the accelerator has "
            f"{figures.heads} x {figures.head_dim}"
        )
    compute = digital.step_s(shape, batch)
    energy = batch * shape.macs * digital.energy_per_mac
    if digital.weights == "streamed":
        energy += digital.weight_bytes(shape) * digital.energy_per_weight_byte
    attention = shape.layers * figures.attention_latency_s
    arrays = _arrays_j(figures, batch * shape.layers, attention + compute)
    return TokenCost(attention, compute, arrays, energy)


def compare_models(
    figures: AcceleratorFigures,
    digital: DigitalConfig,
    gpus: Sequence[Gpu],
    request: Request,
    shape: TransformerShape = GPT2_SMALL,
) -> ModelComparison:
    """A token of the whole model on the accelerator and on `gpus`, with attention's share.

    Rows that were measured come before the modelled ones of a GPU, which then have their error.
    Protocol ``paper`` is of attention alone and left out. Raises ConfigError if nothing else is
    asked for.
    """
    wanted = [p for p in protocols() if p.name in request.protocols and p.name != "paper"]
    if not wanted:
        raise ConfigError("scope model: protocol paper measures attention alone; use another")
    rows, omitted = [], []
    for protocol in wanted:
        for gpu in gpus:
            try:
                precision = protocol.precision_on(gpu, request.precision)
                one = DecodeAttention(
                    1, shape.heads, shape.head_dim, figures.window, 1, precision, shape.kv_heads
                )
                check = partial(_check_memory, gpu, protocol, one, shape)
                step_time = partial(_step_time, gpu, protocol, one, shape)
                step = replace(one, batch=batch_of(protocol, request, check, step_time))
            except ConfigError as error:
                omitted.append(f"{gpu.name}, protocol {protocol.name}: {error}")
                continue
            sides = partial(_row, gpu, protocol, figures, digital, shape)
            measured = _measured(gpu, protocol, request, one, shape)
            if measured is not None:
                rows.append(sides(*measured))
            elif protocol.launch == "graph" and gpu.tokens:
                why = _not_measured(gpu, protocol, request, one, shape)
                omitted.append(f"{gpu.name}, protocol {protocol.name}: {why}")
            rows.append(sides(step, gpu_token(gpu, protocol.launch, step, shape)))
    return ModelComparison(shape, figures, digital, tuple(rows), tuple(omitted))


def measured_token(
    gpu: Gpu, step: DecodeAttention, shape: TransformerShape
) -> tuple[TokenCost, TokenMeasurement] | None:
    """A token that was measured, and its row; None without its attention alone beside it.

    The rest is what is left of the whole. Where the row has no energy, that of the cost is 0.
    """
    fitting = [
        token
        for token in _of_shape(gpu, shape)
        if (token.batch, token.window, token.precision) == (step.batch, step.window, step.precision)
    ]
    series: dict[str, dict[str, TokenMeasurement]] = {}
    for token in fitting:  # parts of one run belong together; of several the last counts
        series.setdefault(token.series, {})[token.part] = token
    complete = [parts for parts in series.values() if {"whole", "attention"} <= parts.keys()]
    if not complete:
        return None
    parts = complete[-1]
    whole, attention = parts["whole"], parts["attention"]
    spent, share = whole.energy, attention.energy
    if spent is None or share is None:
        spent, share, whole = 0.0, 0.0, whole.model_copy(update={"energy": None})
    bound = gpu.power.thermal_design * whole.latency
    rest = whole.latency - attention.latency
    return TokenCost(attention.latency, rest, share, spent - share, bound), whole


def _measured(
    gpu: Gpu,
    protocol: ProtocolDescription,
    request: Request,
    one: DecodeAttention,
    shape: TransformerShape,
) -> tuple[DecodeAttention, TokenCost, TokenMeasurement] | None:
    """The measured token that answers the request: of several batches the fastest a sequence."""
    if protocol.launch != "graph":
        return None
    asked = protocol.batch if protocol.fixed_batch else request.batch or protocol.batch
    steps = [replace(one, batch=batch) for batch in sorted({token.batch for token in gpu.tokens})]
    found = [
        (step, *measured)
        for step in steps
        if asked in {None, step.batch}
        and (measured := measured_token(gpu, step, shape)) is not None
    ]
    return min(found, key=lambda each: each[1].latency_s / each[0].batch, default=None)


def _of_shape(gpu: Gpu, shape: TransformerShape) -> list[TokenMeasurement]:
    """Measured tokens of a model, whatever its name."""
    return [
        token
        for token in gpu.tokens
        if token.shape is not None and replace(token.shape.shape, name=shape.name) == shape
    ]


def _not_measured(
    gpu: Gpu,
    protocol: ProtocolDescription,
    request: Request,
    one: DecodeAttention,
    shape: TransformerShape,
) -> str:
    """Why none of the measured tokens of `gpu` answers the request."""
    found = _of_shape(gpu, shape)
    if not found:
        names = {token.shape.name: None for token in gpu.tokens if token.shape is not None}
        return f"measured tokens of {', '.join(names)}, another shape than {shape.name}"
    asked = protocol.batch if protocol.fixed_batch else request.batch or protocol.batch
    for what, wanted in (("precision", one.precision), ("window", one.window), ("batch", asked)):
        known = sorted({getattr(token, what) for token in found})
        found = [token for token in found if wanted in {None, getattr(token, what)}]
        if not found:
            several = {"window": "at windows", "batch": "at batches"}
            one_of = "in" if what == "precision" else f"at {what}"
            where = several.get(what, one_of) if len(known) > 1 else one_of
            values = ", ".join(f"{x:,}" if isinstance(x, int) else x for x in known)
            told = f"{wanted:,}" if isinstance(wanted, int) else wanted
            return f"whole tokens measured {where} {values}, not {told}"
    return "a whole token measured without its attention alone beside it"


def _check_memory(
    gpu: Gpu,
    protocol: ProtocolDescription,
    one: DecodeAttention,
    shape: TransformerShape,
    batch: int,
) -> None:
    weights = shape.weights * BYTES_PER_ELEMENT[one.precision]
    check_memory(gpu, replace(one, layers=shape.layers, batch=batch), protocol.launch, weights)


def _step_time(
    gpu: Gpu,
    protocol: ProtocolDescription,
    one: DecodeAttention,
    shape: TransformerShape,
    batch: int,
) -> float:
    return gpu_token(gpu, protocol.launch, replace(one, batch=batch), shape).latency_s


@dataclass(frozen=True)
class MovedAttention:
    """A GPU whose attention moved to the accelerator's arrays: time (s) and energy (J) of a step.

    Every layer sends q, K and V of all sequences over the link, waits for the arrays, and fetches
    y: two transfers. The GPU is idle meanwhile; the arrays leak for the whole step.
    """

    link_bytes: float
    link_s: float
    latency_s: float
    energy_j: float


def moved_attention(
    gpu: Gpu, cost: TokenCost, own: TokenCost, figures: AcceleratorFigures, layers: int, batch: int
) -> MovedAttention:
    """What `cost`, a step of `gpu`, becomes with the attention of `own`, the accelerator's step."""
    link = gpu.link
    moved = layers * batch * figures.boundary_bytes
    seconds = 2 * layers * link.latency + moved / link.bandwidth
    waiting = own.attention_s + seconds
    latency = cost.rest_s + waiting
    energy = cost.rest_j + waiting * gpu.power.idle + moved * link.energy_per_byte
    return MovedAttention(
        moved, seconds, latency, energy + _arrays_j(figures, layers * batch, latency)
    )


def _arrays_j(figures: AcceleratorFigures, used: int, seconds: float) -> float:
    """J of `used` layers' arrays that each attend once and leak for `seconds`."""
    active = figures.energy_per_token_j - figures.static_energy_j
    return used * (active + figures.static_power_w * seconds)


def _row(
    gpu: Gpu,
    protocol: ProtocolDescription,
    figures: AcceleratorFigures,
    digital: DigitalConfig,
    shape: TransformerShape,
    step: DecodeAttention,
    cost: TokenCost,
    measured: TokenMeasurement | None = None,
) -> ModelRow:
    assert cost.bound_j is not None
    own = accelerator_token(figures, digital, shape, step.batch)
    moved = moved_attention(gpu, cost, own, figures, shape.layers, step.batch)
    known = measured is None or measured.energy is not None
    passing = shape.weights * BYTES_PER_ELEMENT[step.precision]
    passing += shape.layers * step.layer_cache_bytes
    error, expected = _model_errors(gpu, protocol, step, cost, shape, measured)
    return ModelRow(
        gpu=gpu.name,
        protocol=protocol.name,
        batch=step.batch,
        window=step.window,
        heads=step.heads,
        head_dim=step.head_dim,
        layers=shape.layers,
        precision=step.precision,
        cache="warm" if share_in_l2(gpu, passing) >= 0.5 else "cold",
        latency_us=MICROSECOND.of(cost.latency_s),
        energy_mj=MILLIJOULE.of(cost.energy_j) if known else None,
        energy_bound_mj=MILLIJOULE.of(cost.bound_j),
        per_token_latency_us=MICROSECOND.of(cost.latency_s / step.batch),
        per_token_energy_mj=MILLIJOULE.of(cost.energy_j / step.batch) if known else None,
        attention_latency_us=MICROSECOND.of(cost.attention_s),
        attention_latency_share=cost.attention_latency_share,
        attention_energy_share=cost.attention_energy_share if known else None,
        accelerator_latency_us=MICROSECOND.of(own.latency_s),
        accelerator_energy_mj=MILLIJOULE.of(own.energy_j),
        accelerator_attention_latency_share=own.attention_latency_share,
        accelerator_attention_energy_share=own.attention_energy_share,
        link_bytes=moved.link_bytes,
        link_latency_us=MICROSECOND.of(moved.link_s),
        moved_latency_us=MICROSECOND.of(moved.latency_s),
        moved_energy_mj=MILLIJOULE.of(moved.energy_j) if known else None,
        speedup=cost.latency_s / own.latency_s,
        attention_only_speedup=cost.latency_s / moved.latency_s,
        attention_only_bound=1 / (1 - cost.attention_latency_share),
        energy_ratio=cost.energy_j / own.energy_j if known else None,
        kind="latency" if step.batch == 1 else "throughput",
        source="model" if measured is None else "measured",
        kernel="plain PyTorch",
        date=None if measured is None else measured.date,
        latency_error=error[0],
        energy_error=error[1],
        error_fitted=None if error[0] is None else False,  # no token was ever fitted to
        expected_latency_error=expected[0],
        expected_energy_error=expected[1],
        note=(
            f"{kernels_besides_attention(shape)} kernels besides attention, weights read once a "
            "step"
            if measured is None
            else measured.note
        ),
    )


Errors = tuple[float | None, float | None]
"""Of time and energy, as shares."""


def _model_errors(
    gpu: Gpu,
    protocol: ProtocolDescription,
    step: DecodeAttention,
    cost: TokenCost,
    shape: TransformerShape,
    measured: TokenMeasurement | None,
) -> tuple[Errors, Errors]:
    """The errors of a modelled row where its very token was measured, else those to expect."""
    nothing: Errors = (None, None)
    if measured is not None:
        return nothing, nothing
    beside = measured_token(gpu, step, shape) if protocol.launch == "graph" else None
    if beside is None:
        unfused: tuple[Group, ...] = () if protocol.launch == "graph" else ("unfused",)
        return nothing, gpu.expected_error.of("whole_token", *unfused)
    true, row = beside
    energy = None if row.energy is None else cost.energy_j / true.energy_j - 1
    return (cost.latency_s / true.latency_s - 1, energy), nothing
