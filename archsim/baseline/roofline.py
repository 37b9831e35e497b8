"""Roofline of decode attention on a GPU: one new token a sequence against a full KV cache.

Per layer, with K and V read once and nothing else in the way (FACTS 4)::

    FLOP  = 4 B H S d                          two products, 2 FLOP a multiply-accumulate
    bytes = (2 B H S d + 2 B H d) * element    K and V; q and y
    t     = max(floor, fixed_cost + bytes / (efficiency * bandwidth), FLOP / peak)

Softmax is not counted: it needs no memory traffic in a fused kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from archsim.config.gpu import Gpu, Precision
from archsim.errors import ConfigError

BYTES_PER_ELEMENT: dict[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2}

Launch = Literal["graph", "eager"]
"""How kernels start: replayed from a graph, or each launched by itself by the framework."""


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
    """Fraction of the time that the busier of memory and arithmetic would need at its peak."""
    limit: Literal["floor", "memory", "compute"]
    """The term that sets the kernel's time."""
    cache_fits_l2: bool
    """K and V of one layer fit L2; a warm cache may then beat the memory term."""


def estimate(gpu: Gpu, step: DecodeAttention, launch: Launch = "graph") -> RooflineEstimate:
    """Time (s) and energy (J) of `step` on `gpu`.

    Power is ``idle + (thermal_design - idle) * utilisation``: an assumption, since no data sheet
    gives power at partial load. Raises ConfigError if `gpu` does not compute in the precision.
    """
    timing = gpu.timing
    compute = step.layer_flop / gpu.peak.at(step.precision)
    transfer = step.layer_bytes / gpu.memory.bandwidth
    terms: dict[Literal["floor", "memory", "compute"], float] = {
        "floor": timing.floor,
        "memory": timing.fixed_cost + transfer / timing.bandwidth_efficiency,
        "compute": compute,
    }
    limit = max(terms, key=lambda term: terms[term])
    layer_time = terms[limit] + (timing.eager_launch if launch == "eager" else 0.0)
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
        cache_fits_l2=step.layer_cache_bytes <= gpu.memory.l2,
    )
