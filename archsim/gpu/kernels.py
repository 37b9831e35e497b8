"""What one kernel takes on a GPU: time and energy of bytes and arithmetic, in blocks.

One law for all of them, attention and matrix products alike. A kernel moves ``memory_bytes`` from
memory and ``l2_bytes`` from L2 to the multiprocessors, and computes ``flop`` on whole tiles. Its
blocks run side by side; each has its own bytes and arithmetic, one after the other. With the
parameters of `archsim.gpu.file.KernelModel`::

    t_memory = memory_bytes / (memory_efficiency * memory bandwidth)
    t_l2     = l2_bytes / (l2_efficiency * L2 bandwidth)
    t_flop   = flop / (arithmetic_efficiency * peak)
    t_block  = one block alone: (its share of t_l2 + of t_flop) on one multiprocessor
    t        = (t_memory^p + t_l2^p + t_flop^p + t_block^p)^(1/p)

All four overlap, so the longest counts; near a tie the others show (p is `overlap`). A kernel of
few blocks is thus as long as one of them, whatever the bandwidth of the whole. The energy is ::

    E = idle * t_step + memory_bytes * byte_energy + flop * flop_energy
        + multiprocessors * residency_power * (t_memory^p + t_l2^p + t_flop^p)^(1/p)

and at most thermal design power x time. Arithmetic at the rate that kernels reach is taken to draw
all of the board's power: ``flop_energy = (thermal_design - idle) / (arithmetic_efficiency peak)``.
"""

from __future__ import annotations

from dataclasses import dataclass

from archsim.gpu.file import Gpu, Precision


@dataclass(frozen=True)
class Work:
    """Bytes and arithmetic of a kernel, and of the largest of its blocks."""

    memory_bytes: float
    l2_bytes: float
    flop: float
    block_bytes: float = 0.0
    block_flop: float = 0.0


@dataclass(frozen=True)
class Occupation:
    """Seconds that a kernel needs of each part of a GPU, and of one multiprocessor for a block."""

    memory: float
    l2: float
    arithmetic: float
    block: float
    order: float

    @property
    def streaming(self) -> float:
        """Time of the kernel without its launch: all parts overlap."""
        return smooth_maximum(self.order, self.memory, self.l2, self.arithmetic, self.block)

    @property
    def resident(self) -> float:
        """Time that the same work takes with blocks for every multiprocessor."""
        return smooth_maximum(self.order, self.memory, self.l2, self.arithmetic)


def smooth_maximum(order: float, *values: float) -> float:
    """Root of the sum of powers: the largest of `values`, and more where others come close.

    Grows with each of them.
    """
    largest = max(values)
    if largest <= 0:
        return 0.0
    return float(largest * sum((value / largest) ** order for value in values) ** (1 / order))


def occupation(
    gpu: Gpu, precision: Precision, work: Work, efficiency: float | None = None
) -> Occupation:
    """What `work` needs of `gpu`; `efficiency` is that of memory if it is not the usual one.

    Raises ConfigError if `gpu` does not compute in the precision.
    """
    model = gpu.model
    memory = (efficiency or model.memory_efficiency) * gpu.memory.bandwidth
    l2 = model.l2_efficiency * gpu.memory.l2_bandwidth
    arithmetic = model.arithmetic_efficiency * gpu.peak.at(precision)
    alone = work.block_bytes / l2 + work.block_flop / arithmetic
    return Occupation(
        work.memory_bytes / memory,
        work.l2_bytes / l2,
        work.flop / arithmetic,
        gpu.multiprocessors * alone,
        model.overlap,
    )


def energy(
    gpu: Gpu,
    precision: Precision,
    latency: float,
    memory_bytes: float,
    flop: float,
    resident: float,
) -> float:
    """Energy (J) of a step of `latency` seconds: idle power, and what the work adds.

    At most thermal design power x time: a GPU that would need more slows its clock.
    """
    model, power = gpu.model, gpu.power
    rate = model.arithmetic_efficiency * gpu.peak.at(precision)
    spent = (
        power.idle * latency
        + model.byte_energy * memory_bytes
        + (power.thermal_design - power.idle) * flop / rate
        + gpu.multiprocessors * model.residency_power * resident
    )
    return min(spent, power.thermal_design * latency)


def share_in_l2(gpu: Gpu, footprint: float) -> float:
    """Share of `footprint` bytes, read again and again, that is still in L2: a smooth edge.

    One half where the footprint is `l2_edge` of L2; what is read per round grows with the footprint
    all the same.
    """
    model = gpu.model
    full: float = footprint / (model.l2_edge * gpu.memory.l2)
    return 1 / (1 + full**model.l2_order) if full < 1e6 else 0.0
