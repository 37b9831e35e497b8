"""A whole token on a GPU: its attention, and every other kernel by the same law.

A layer is eleven kernels of plain PyTorch besides attention: two LayerNorms, four matrix products
with their biases, GELU, two residual sums, and K and V written into the cache; then one LayerNorm
and the output matrix. Embedding look-up, sampling and the host are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from archsim.config.transformer import TransformerShape
from archsim.gpu.file import Gpu, Precision
from archsim.gpu.kernels import Work, energy, occupation, share_in_l2, smooth_maximum
from archsim.gpu.roofline import BYTES_PER_ELEMENT, DecodeAttention, Launch, estimate

LAYER_ELEMENTWISE, FINAL_ELEMENTWISE = 7, 1
"""Kernels that are no matrix product: LayerNorms, GELU, residual sums, K and V into the cache."""

PARTIAL_BYTES = 4
"""Of one partial sum, in fp32: split work writes them, and reads them to add them up."""


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
class _Kernel:
    """Time (s) of a kernel and what it did."""

    time: float
    memory_bytes: float
    flop: float
    resident: float


def kernels_besides_attention(shape: TransformerShape) -> int:
    """GPU kernels of one token besides attention; a split product counts as one."""
    layer = LAYER_ELEMENTWISE + len(shape.matrices)
    return shape.layers * layer + FINAL_ELEMENTWISE + 1


def gpu_token(
    gpu: Gpu, launch: Launch, attention: DecodeAttention, shape: TransformerShape
) -> TokenCost:
    """One step of a whole batch: attention in every layer, and the rest, which reads all weights.

    `attention` gives batch, window and precision. What one layer reads passes L2 between two uses
    of another's: K, V and weights stay there only if all of them fit. Launched by the host, host
    and GPU work at once. Raises ConfigError if `gpu` does not compute in the precision.
    """
    step = attention_of_shape(attention, shape)
    weights = shape.weights * BYTES_PER_ELEMENT[step.precision]
    caches = shape.layers * step.layer_cache_bytes
    between = weights + caches - step.layer_cache_bytes
    found = estimate(gpu, step, launch, "warm", between)
    rest, spent = _rest(gpu, launch, step, shape, share_in_l2(gpu, weights + caches))
    return TokenCost(
        found.latency_s,
        rest,
        found.energy_j,
        spent,
        (found.latency_s + rest) * gpu.power.thermal_design,
    )


def attention_alone(
    gpu: Gpu, launch: Launch, attention: DecodeAttention, shape: TransformerShape
) -> tuple[float, float]:
    """Time (s) and energy (J) of the attention of all layers in turn, with nothing in between."""
    step = attention_of_shape(attention, shape)
    others = (shape.layers - 1) * step.layer_cache_bytes
    found = estimate(gpu, step, launch, "warm", others)
    return found.latency_s, found.energy_j


def attention_of_shape(attention: DecodeAttention, shape: TransformerShape) -> DecodeAttention:
    """The same step with the layers and heads of `shape`."""
    return replace(
        attention,
        layers=shape.layers,
        heads=shape.heads,
        head_dim=shape.head_dim,
        kv_heads=shape.kv_heads,
    )


def _rest(
    gpu: Gpu, launch: Launch, step: DecodeAttention, shape: TransformerShape, resident: float
) -> tuple[float, float]:
    """Time (s) and energy (J) of everything but attention; `resident` is the share in L2."""
    precision, batch = step.precision, step.batch
    element = BYTES_PER_ELEMENT[precision]
    features = batch * shape.width * element
    cached = batch * shape.kv_heads * shape.head_dim * element
    gelu = batch * shape.mlp * element
    in_layer = [
        *(_product(gpu, precision, batch, *matrix, resident) for matrix in shape.matrices),
        *(_elementwise(gpu, precision, 2 * features) for _ in range(2)),  # LayerNorm
        *(_elementwise(gpu, precision, 3 * features) for _ in range(2)),  # residual sum
        _elementwise(gpu, precision, 2 * gelu),
        *(_elementwise(gpu, precision, 2 * cached, cached) for _ in range(2)),  # K, V
    ]
    at_the_end = [
        _elementwise(gpu, precision, 2 * features),
        _product(gpu, precision, batch, shape.width, shape.vocabulary, resident),
    ]
    kernels = [*in_layer * shape.layers, *at_the_end]
    time = sum(kernel.time for kernel in kernels)
    if launch == "eager":
        time = smooth_maximum(gpu.model.overlap, len(kernels) * gpu.model.eager_launch, time)
    return time, energy(
        gpu,
        precision,
        time,
        sum(kernel.memory_bytes for kernel in kernels),
        sum(kernel.flop for kernel in kernels),
        sum(kernel.resident for kernel in kernels),
    )


def _elementwise(
    gpu: Gpu, precision: Precision, moved: float, memory_bytes: float = 0.0
) -> _Kernel:
    found = occupation(gpu, precision, Work(memory_bytes, moved, 0))
    return _Kernel(gpu.model.launch + found.streaming, memory_bytes, 0.0, found.resident)


def _product(
    gpu: Gpu, precision: Precision, batch: int, inputs: int, outputs: int, resident: float
) -> _Kernel:
    """`batch` vectors times a matrix of weights.

    A block computes a tile of outputs for up to a tile of vectors, padded to whole tiles, and reads
    both sides of it through L2. As in attention, the faster runs of two: blocks that walk through
    all inputs, or one for every `split` inputs and a second launch that adds up their parts. The
    energy counts the parts either way: it shall not fall where a larger batch changes the kernel.
    """
    model, element = gpu.model, BYTES_PER_ELEMENT[precision]
    tile, row_tiles = model.tile, -(-batch // model.tile)
    vectors = min(batch, tile)
    blocks = row_tiles * outputs / tile
    memory_bytes = inputs * outputs * element * (1 - resident)
    flop = 2.0 * tile * row_tiles * inputs * outputs

    def work(depth: float, parts_bytes: float) -> Work:
        return Work(
            memory_bytes,
            blocks * (vectors + tile) * inputs * element + parts_bytes,
            flop,
            (vectors + tile) * depth * element,
            2.0 * tile * tile * depth,
        )

    pieces = max(1.0, inputs / model.split)
    whole = occupation(gpu, precision, work(inputs, 0.0))
    parts = 2 * pieces * batch * outputs * PARTIAL_BYTES
    split = occupation(gpu, precision, work(min(inputs, model.split), parts))
    times = model.launch + whole.streaming, 2 * model.launch + split.streaming
    return _Kernel(min(times), memory_bytes, flop, split.resident)
