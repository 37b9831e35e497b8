"""A whole token of GPT-2, of which attention is only a part (Amdahl's law).

On both sides a token is attention in every layer plus everything else: projections, MLP, LayerNorm,
and the output matrix. Embedding look-up, sampling and host time are left out on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from archsim.baseline.accelerator import AcceleratorFigures
from archsim.baseline.capacity import check_memory
from archsim.baseline.compare import Request, batch_of
from archsim.baseline.protocols import ProtocolDescription, protocols
from archsim.baseline.roofline import BYTES_PER_ELEMENT, DecodeAttention, estimate
from archsim.config.digital import DigitalConfig
from archsim.config.gpu import Cache, Gpu, Kind, Precision, Protocol
from archsim.config.transformer import GPT2_SMALL, TransformerShape
from archsim.errors import ConfigError

LAYER_OPERATIONS, FINAL_OPERATIONS = 6, 2
"""Kernels besides attention, biases, GELU and residuals fused into them: LayerNorm, Q K V, output
projection, LayerNorm, and two of the MLP in a layer; LayerNorm and output matrix at the end."""


def operations(shape: TransformerShape) -> int:
    """GPU kernels of one token besides attention."""
    return shape.layers * LAYER_OPERATIONS + FINAL_OPERATIONS


@dataclass(frozen=True)
class TokenCost:
    """Time (s) and energy (J) of one step, in attention and in the rest."""

    attention_s: float
    rest_s: float
    attention_j: float
    rest_j: float
    bound_j: float | None = None

    @property
    def latency_s(self) -> float:
        """Of the whole step."""
        return self.attention_s + self.rest_s

    @property
    def energy_j(self) -> float:
        """Of the whole step."""
        return self.attention_j + self.rest_j

    @property
    def attention_latency_share(self) -> float:
        """Share of the time that attention takes."""
        return self.attention_s / self.latency_s

    @property
    def attention_energy_share(self) -> float:
        """Share of the energy that attention takes."""
        return self.attention_j / self.energy_j


@dataclass(frozen=True)
class ModelRow:
    """One GPU's token of the whole model and its ratio to the accelerator's; see `ComparisonRow`.

    Both sides hold `batch` sequences: the accelerator in as many sets of arrays, beside one engine
    for the rest. Its own step is in the fields ``accelerator_*``. `attention_only_speedup`
    is what a GPU would gain whose attention alone moved to the accelerator (Amdahl).
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
    energy_mj: float
    energy_bound_mj: float
    per_token_latency_us: float
    per_token_energy_mj: float
    attention_latency_share: float
    attention_energy_share: float
    accelerator_latency_us: float
    accelerator_energy_mj: float
    accelerator_attention_latency_share: float
    accelerator_attention_energy_share: float
    speedup: float
    attention_only_speedup: float
    energy_ratio: float
    kind: Kind
    source: str
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
    streams its weights, once a step: the longer of the two is its time. Moving vectors between
    arrays and engine is not counted. Raises ConfigError if the figures are for other heads.
    """
    if (figures.heads, figures.head_dim) != (shape.heads, shape.head_dim):
        raise ConfigError(
            f"{shape.name} has {shape.heads} heads x {shape.head_dim}; the accelerator has "
            f"{figures.heads} x {figures.head_dim}"
        )
    macs = batch * shape.macs
    compute, energy = macs / digital.rate, macs * digital.energy_per_mac
    if digital.weights == "streamed":
        traffic = shape.weights * digital.weight_bits / 8
        compute = max(compute, traffic / digital.weight_bandwidth)
        energy += traffic * digital.energy_per_weight_byte
    return TokenCost(
        shape.layers * figures.attention_latency_s,
        compute,
        batch * shape.layers * figures.energy_per_token_j,
        energy,
    )


def gpu_token(
    gpu: Gpu, protocol: ProtocolDescription, attention: DecodeAttention, shape: TransformerShape
) -> tuple[TokenCost, Cache]:
    """One step of a whole batch: modelled attention, and kernels that read the weights once.

    Each kernel of the rest takes `operation_cost` (`eager_launch` if launched by itself) and its
    traffic or arithmetic. K and V are still in L2 only if they and all weights fit it together.
    """
    element = BYTES_PER_ELEMENT[attention.precision]
    weights = shape.weights * element
    warm = weights + shape.layers * attention.layer_cache_bytes <= gpu.memory.l2
    cache: Cache = "warm" if warm else "cold"
    found = estimate(gpu, replace(attention, layers=shape.layers), protocol.launch, cache)
    bandwidth = gpu.memory.l2_bandwidth if warm else gpu.memory.bandwidth
    transfer = weights / bandwidth
    compute = 2 * attention.batch * shape.macs / gpu.peak.at(attention.precision)
    timing = gpu.timing
    each = timing.eager_launch if protocol.launch == "eager" else timing.operation_cost
    rest = operations(shape) * each + max(transfer / timing.bandwidth_efficiency, compute)
    idle, full = gpu.power.idle, gpu.power.thermal_design
    return (
        TokenCost(
            found.latency_s,
            rest,
            found.energy_j,
            rest * idle + (full - idle) * max(transfer, compute),
            (found.latency_s + rest) * full,
        ),
        cache,
    )


def compare_models(
    figures: AcceleratorFigures,
    digital: DigitalConfig,
    gpus: Sequence[Gpu],
    request: Request,
    shape: TransformerShape = GPT2_SMALL,
) -> ModelComparison:
    """A token of the whole model on the accelerator and on `gpus`, with attention's share.

    Protocol ``paper`` is of attention alone and left out. Raises ConfigError if nothing else is
    asked for.
    """
    wanted = [p for p in protocols() if p.name in request.protocols and p.name != "paper"]
    if not wanted:
        raise ConfigError("scope model: protocol paper measures attention alone; use another")
    rows, omitted = [], []
    for protocol in wanted:
        for gpu in gpus:
            precision = request.precision or protocol.precision
            one = DecodeAttention(1, shape.heads, shape.head_dim, figures.window, 1, precision)
            check = partial(_check_memory, gpu, protocol, one, shape)
            step_time = partial(_step_time, gpu, protocol, one, shape)
            try:
                gpu.peak.at(precision)
                step = replace(one, batch=batch_of(protocol, request, check, step_time))
            except ConfigError as error:
                omitted.append(f"{gpu.name}, protocol {protocol.name}: {error}")
                continue
            cost, cache = gpu_token(gpu, protocol, step, shape)
            own = accelerator_token(figures, digital, shape, step.batch)
            rows.append(_row(gpu, protocol, step, cost, cache, own, shape))
    return ModelComparison(shape, figures, digital, tuple(rows), tuple(omitted))


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
    return gpu_token(gpu, protocol, replace(one, batch=batch), shape)[0].latency_s


def _row(
    gpu: Gpu,
    protocol: ProtocolDescription,
    step: DecodeAttention,
    cost: TokenCost,
    cache: Cache,
    own: TokenCost,
    shape: TransformerShape,
) -> ModelRow:
    assert cost.bound_j is not None
    return ModelRow(
        gpu=gpu.name,
        protocol=protocol.name,
        batch=step.batch,
        window=step.window,
        heads=step.heads,
        head_dim=step.head_dim,
        layers=shape.layers,
        precision=step.precision,
        cache=cache,
        latency_us=cost.latency_s * 1e6,
        energy_mj=cost.energy_j * 1e3,
        energy_bound_mj=cost.bound_j * 1e3,
        per_token_latency_us=cost.latency_s / step.batch * 1e6,
        per_token_energy_mj=cost.energy_j / step.batch * 1e3,
        attention_latency_share=cost.attention_latency_share,
        attention_energy_share=cost.attention_energy_share,
        accelerator_latency_us=own.latency_s * 1e6,
        accelerator_energy_mj=own.energy_j * 1e3,
        accelerator_attention_latency_share=own.attention_latency_share,
        accelerator_attention_energy_share=own.attention_energy_share,
        speedup=cost.latency_s / own.latency_s,
        attention_only_speedup=cost.latency_s / (own.attention_s + cost.rest_s),
        energy_ratio=cost.energy_j / own.energy_j,
        kind="latency" if step.batch == 1 else "throughput",
        source="model",
        note=f"{operations(shape)} kernels besides attention, weights read once a step",
    )
