"""Time and energy of decode attention on a GPU: one new token a sequence, a full KV cache.

Per layer, with B sequences, H heads of d features, G of them with K and V of their own, S tokens of
e bytes an element (FACTS 4; `archsim.gpu.kernels` for the law, `.fit` for its parameters)::

    bytes  = (2 B G S d + 2 B H d) e               K and V; q and y
    memory = bytes (1 - share still in L2)
    FLOP   = 4 B G d S rows + 4 B G d tile tile    on whole tiles, and one tile a head at the least

A single query fills one row, but the smallest matrix of the tensor cores has `fragment` rows; fp32
has no kernel for decode, and fills a tile. Two kernels are set against each other, and the faster
one runs, as libraries choose: ``whole``, one block a head and sequence that walks through the
window; ``split``, a block for every `split` tokens, and a second launch to put the parts together.
In fp32 there is only the first. So the floor grows with the window: one launch, then two.

Launched op by op without a fused kernel (``eager``), attention is several operations, and moves the
cache several times: see `UNFUSED_PASSES`. Host and GPU work at once, so the slower counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from archsim.errors import ConfigError
from archsim.gpu.file import Cache, Gpu, Precision
from archsim.gpu.kernels import Work, energy, occupation, share_in_l2, smooth_maximum

BYTES_PER_ELEMENT: dict[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2}

Launch = Literal["graph", "unfused", "eager"]
"""How attention runs: one fused kernel replayed from a graph; PyTorch's unfused operations replayed
from a graph (``unfused``), or each launched by the host (``eager``)."""

Limit = Literal["launch", "L2", "memory", "compute"]
"""What most of a time goes into; L2 includes blocks too few to make use of it."""

UNFUSED_PASSES: dict[Precision, int] = {"fp32": 2, "fp16": 7, "bf16": 7}
"""How often PyTorch's unfused attention moves the bytes of K and V.

``scaled_dot_product_attention`` without a fused kernel multiplies K by the root of the scale first:
in fp32 it reads K, writes the copy, reads the copy and V. In fp16 and bf16 it turns K and V into
fp32 before: of each element of K it moves 2 + 4, 4 + 4 and 4 bytes, of V 2 + 4 and 4. Scores and
vectors are left out: a few per cent.
"""

UNFUSED_COPIES: dict[Precision, float] = {"fp32": 1.5, "fp16": 4.0, "bf16": 4.0}
"""Bytes of K, V and the copies of them that it makes, over those of K and V."""

UNFUSED_OPERATIONS: dict[Precision, int] = {"fp32": 5, "fp16": 10, "bf16": 10}
"""Operations that it is made of: q and K scaled, two products and a softmax; in 16 bit q, K, V and
the weights are converted as well, and the output back. Views cost nothing."""


@dataclass(frozen=True)
class DecodeAttention:
    """One decode step of `layers` attention layers: shapes q (B, H, 1, d), K and V (B, G, S, d).

    H is `heads`, d is `head_dim`, S is `window` (tokens attended to), B is `batch` (sequences).
    G is `kv_heads`: each serves H / G heads (grouped queries); 0 stands for H. Raises ConfigError
    unless all others are at least 1 and G divides H.
    """

    layers: int
    heads: int
    head_dim: int
    window: int
    batch: int = 1
    precision: Precision = "fp16"
    kv_heads: int = 0

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "head_dim", "window", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"decode attention: {name} must be at least 1")
        if self.kv_heads < 0 or self.heads % self.groups:
            raise ConfigError(
                f"decode attention: {self.heads} heads cannot share {self.kv_heads} kv_heads"
            )

    @property
    def groups(self) -> int:
        """Heads that have K and V of their own."""
        return self.kv_heads or self.heads

    @property
    def layer_flop(self) -> int:
        """FLOP of one layer: two products, 2 FLOP a multiply-accumulate."""
        return 4 * self.batch * self.heads * self.window * self.head_dim

    @property
    def layer_cache_bytes(self) -> int:
        """Bytes of K and V of one layer, all sequences."""
        elements = 2 * self.batch * self.groups * self.window * self.head_dim
        return elements * BYTES_PER_ELEMENT[self.precision]

    @property
    def layer_vector_bytes(self) -> int:
        """Bytes of q and y of one layer, all sequences."""
        return 2 * self.batch * self.heads * self.head_dim * BYTES_PER_ELEMENT[self.precision]

    @property
    def layer_bytes(self) -> int:
        """Bytes one layer moves at least: K and V once, q in, y out."""
        return self.layer_cache_bytes + self.layer_vector_bytes


@dataclass(frozen=True)
class RooflineEstimate:
    """Modelled time and energy of one decode step of the whole batch, all layers.

    `energy_j` lies between `idle_energy_j` and `energy_bound_j`, which is thermal design power
    times time. `memory_bytes` are those that came from memory.
    """

    latency_s: float
    energy_j: float
    idle_energy_j: float
    energy_bound_j: float
    memory_bytes: float
    limit: Limit
    """The part with the longest time."""

    @property
    def dynamic_energy_j(self) -> float:
        """Energy above idle, as the paper's authors measure it."""
        return self.energy_j - self.idle_energy_j


def estimate(
    gpu: Gpu,
    step: DecodeAttention,
    launch: Launch = "graph",
    cache: Cache = "warm",
    between: float = 0.0,
) -> RooflineEstimate:
    """Time (s) and energy (J) of `step` on `gpu`.

    With a ``warm`` cache, K and V of a layer are in L2 to the share that fits beside `between`, the
    bytes that pass L2 from one use of them to the next. ``cold`` is as ``baseline measure`` has it:
    L2 was overwritten before, so its lines are written back first, and the one call's launch shows.
    Raises ConfigError if `gpu` does not compute in the precision.
    """
    if launch == "graph":
        return _fused(gpu, step, cache, between)
    return _unfused(gpu, step, cache, between, launch == "eager")


def _fused(gpu: Gpu, step: DecodeAttention, cache: Cache, between: float) -> RooflineEstimate:
    model, width, precision = gpu.model, step.head_dim, step.precision
    element, blocks = BYTES_PER_ELEMENT[precision], step.batch * step.groups
    resident = share_in_l2(gpu, step.layer_cache_bytes + between) if cache == "warm" else 0.0
    queries = step.heads // step.groups
    rows = max(queries, model.tile if precision == "fp32" else model.fragment)
    head_flop = 4.0 * width * rows * step.window
    tile_flop = 4.0 * width * model.tile**2
    memory_bytes = step.layer_bytes * (1 - resident)

    def work(tokens: float) -> Work:
        """With blocks of that many tokens."""
        return Work(
            memory_bytes,
            step.layer_bytes,
            blocks * head_flop,
            2 * (tokens + queries) * width * element,
            4.0 * width * rows * tokens,
        )

    tile = occupation(gpu, precision, Work(0, 0, blocks * tile_flop, 0, tile_flop))
    tile_time = max(tile.arithmetic, tile.block)
    found = occupation(gpu, precision, work(step.window))
    launches, streaming = 1, found.streaming + tile_time
    if precision != "fp32":
        pieces = occupation(gpu, precision, work(min(step.window, model.split)))
        if 2 * model.launch + pieces.streaming < model.launch + found.streaming:
            found, launches, streaming = pieces, 2, pieces.streaming + tile_time
    launching = launches * model.launch
    if cache == "cold":
        launching += model.launch
        streaming += min(step.layer_bytes, gpu.memory.l2) / gpu.memory.bandwidth
    parts: dict[Limit, float] = {
        "launch": launching,
        "memory": found.memory,
        "compute": max(found.arithmetic, tile_time),
        "L2": max(found.l2, found.block),
    }
    return _estimate(
        gpu,
        step,
        launching + streaming,
        memory_bytes,
        blocks * (head_flop + tile_flop),
        found.resident + tile.arithmetic,
        max(parts, key=lambda name: parts[name]),
    )


def _unfused(
    gpu: Gpu, step: DecodeAttention, cache: Cache, between: float, by_host: bool
) -> RooflineEstimate:
    model, precision = gpu.model, step.precision
    # unfused operations have K and V repeated for every head of a group
    whole = step.layer_cache_bytes * step.heads // step.groups
    footprint = UNFUSED_COPIES[precision] * whole + between
    resident = share_in_l2(gpu, footprint) if cache == "warm" else 0.0
    moved = UNFUSED_PASSES[precision] * float(whole)
    memory_bytes = moved * (1 - resident)
    work = Work(memory_bytes, moved, step.layer_flop)
    found = occupation(gpu, precision, work, model.unfused_efficiency)
    count = UNFUSED_OPERATIONS[precision]
    host, streaming = by_host * count * model.eager_launch, found.streaming
    if cache == "cold":
        streaming += min(moved, gpu.memory.l2) / gpu.memory.bandwidth
    latency = smooth_maximum(model.overlap, host, count * model.launch + streaming)
    parts: dict[Limit, float] = {
        "launch": max(host, count * model.launch),
        "memory": found.memory,
        "compute": found.arithmetic,
        "L2": found.l2,
    }
    limit = max(parts, key=lambda name: parts[name])
    return _estimate(gpu, step, latency, memory_bytes, step.layer_flop, found.resident, limit)


def _estimate(
    gpu: Gpu,
    step: DecodeAttention,
    layer_time: float,
    memory_bytes: float,
    flop: float,
    resident: float,
    limit: Limit,
) -> RooflineEstimate:
    """All layers of one whose time and work is known."""
    layers, latency = step.layers, step.layers * layer_time
    return RooflineEstimate(
        latency_s=latency,
        energy_j=layers * energy(gpu, step.precision, layer_time, memory_bytes, flop, resident),
        idle_energy_j=latency * gpu.power.idle,
        energy_bound_j=latency * gpu.power.thermal_design,
        memory_bytes=layers * memory_bytes,
        limit=limit,
    )
