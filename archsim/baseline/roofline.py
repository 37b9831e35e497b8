"""Time and energy of decode attention on a GPU: one new token a sequence, a full KV cache.

Per layer (FACTS 4, and `archsim.baseline.fit` for the parameters)::

    FLOP  = 4 B H S d                          two products, 2 FLOP a multiply-accumulate
    bytes = (2 B H S d + 2 B H d) * element    K and V; q and y
    t     = floor + step [B S >= step_tokens]
            + max(bytes / (efficiency * bandwidth), FLOP / peak)

`bandwidth` is that of L2 where K and V of the layer fit it and are still there (``warm``), of
memory otherwise. Softmax is not counted: it needs no memory traffic in a fused kernel.

Launched op by op without a fused kernel (``eager``), attention takes `eager_launch` more and moves
the cache several times: see `UNFUSED_PASSES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from archsim.config.gpu import Cache, Gpu, Precision
from archsim.errors import ConfigError

BYTES_PER_ELEMENT: dict[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2}

Launch = Literal["graph", "eager"]
"""How attention runs: one fused kernel replayed from a graph, or PyTorch's unfused operations."""

UNFUSED_PASSES: dict[Precision, int] = {"fp32": 2, "fp16": 7, "bf16": 7}
"""How often PyTorch's unfused attention moves the bytes of K and V.

``scaled_dot_product_attention`` without a fused kernel multiplies K by the root of the scale first:
in fp32 it reads K, writes the copy, reads the copy and V. In fp16 and bf16 it turns K and V into
fp32 before: of each element of K it moves 2 + 4, 4 + 4 and 4 bytes, of V 2 + 4 and 4. Scores and
vectors are left out: a few per cent.
"""

UNFUSED_COPIES: dict[Precision, float] = {"fp32": 1.5, "fp16": 4.0, "bf16": 4.0}
"""Bytes of K, V and the copies of them that it makes, over those of K and V."""


@dataclass(frozen=True)
class DecodeAttention:
    """One decode step of `layers` attention layers: shapes q (B, H, 1, d), K and V (B, H, S, d).

    H is `heads`, d is `head_dim`, S is `window` (tokens attended to), B is `batch` (sequences).
    Raises ConfigError unless all are at least 1.
    """

    layers: int
    heads: int
    head_dim: int
    window: int
    batch: int = 1
    precision: Precision = "fp16"

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "head_dim", "window", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"decode attention: {name} must be at least 1")

    @property
    def layer_flop(self) -> int:
        """FLOP of one layer."""
        return 4 * self.batch * self.heads * self.window * self.head_dim

    @property
    def layer_cache_bytes(self) -> int:
        """Bytes of K and V of one layer, all sequences."""
        elements = 2 * self.batch * self.heads * self.window * self.head_dim
        return elements * BYTES_PER_ELEMENT[self.precision]

    @property
    def layer_bytes(self) -> int:
        """Bytes one layer moves at least: K and V once, q in, y out."""
        vectors = 2 * self.batch * self.heads * self.head_dim
        return self.layer_cache_bytes + vectors * BYTES_PER_ELEMENT[self.precision]


@dataclass(frozen=True)
class RooflineEstimate:
    """Modelled time and energy of one decode step of the whole batch, all layers.

    `energy_j` scales the dynamic power with `utilisation` and lies between `idle_energy_j` and
    `energy_bound_j`, which is thermal design power times time.
    """

    latency_s: float
    energy_j: float
    idle_energy_j: float
    energy_bound_j: float
    utilisation: float
    """Fraction of the time that the busier of data and arithmetic would need at its peak."""
    limit: Literal["launch", "L2", "memory", "compute"]
    """The term with the largest part of the time."""

    @property
    def dynamic_energy_j(self) -> float:
        """Energy above idle, as the paper's authors measure it."""
        return self.energy_j - self.idle_energy_j


def estimate(
    gpu: Gpu, step: DecodeAttention, launch: Launch = "graph", cache: Cache = "warm"
) -> RooflineEstimate:
    """Time (s) and energy (J) of `step` on `gpu`.

    Power is ``idle + (thermal_design - idle) * utilisation``: an assumption, since no data sheet
    gives power at partial load. Raises ConfigError if `gpu` does not compute in the precision.
    """
    timing, memory = gpu.timing, gpu.memory
    moved, footprint = float(step.layer_bytes), float(step.layer_cache_bytes)
    if launch == "eager":
        moved = UNFUSED_PASSES[step.precision] * footprint
        footprint *= UNFUSED_COPIES[step.precision]
    resident = cache == "warm" and footprint <= memory.l2
    bandwidth = memory.l2_bandwidth if resident else memory.bandwidth
    transfer, compute = moved / bandwidth, step.layer_flop / gpu.peak.at(step.precision)
    streaming = max(transfer / timing.bandwidth_efficiency, compute)
    launching = timing.floor
    if step.batch * step.window >= timing.step_tokens:
        launching += timing.step
    if launch == "eager":
        launching += timing.eager_launch
    limit: Literal["launch", "L2", "memory", "compute"] = "L2" if resident else "memory"
    if launching >= streaming:
        limit = "launch"
    elif streaming == compute:
        limit = "compute"
    layer_time = launching + streaming
    latency = step.layers * layer_time
    utilisation = max(transfer, compute) / layer_time
    idle, full = gpu.power.idle, gpu.power.thermal_design
    return RooflineEstimate(
        latency_s=latency,
        energy_j=latency * (idle + (full - idle) * utilisation),
        idle_energy_j=latency * idle,
        energy_bound_j=latency * full,
        utilisation=utilisation,
        limit=limit,
    )
