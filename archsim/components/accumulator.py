"""Counters, and the adder tree that sums a head's sub-tiles digitally (FACTS 1, 2.9)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.components.action import Action, Footprint, shared_instances
from archsim.components.array import SubTiles
from archsim.config.clock import Clock
from archsim.config.hardware import HardwareConfig

Array = NDArray[np.float64]

COUNT = Action(
    "counters",
    "count",
    "digital",
    "count",
    ("counter.energy_per_count", "calibration.digital_energy"),
)
ADD = Action(
    "adders",
    "sign, latch, add",
    "digital",
    "accumulate",
    ("accumulator.energy_per_add", "calibration.digital_energy"),
)


class Counters:
    """One counter for each of so many bit `lines`; a count is one clock edge inside a pulse.

    `levels`: of the signed converter before it.
    """

    def __init__(
        self, config: HardwareConfig, levels: int | None, lines: int, component: str = "counters"
    ) -> None:
        scale = config.calibration.digital_energy
        self._energy_per_count = scale * config.counter.energy_per_count
        self._levels = levels
        self._lines, self._component = lines, component
        clock = Clock.of(config.controller.clock)
        self.edges = clock.ticks(config.converter.t_max) / clock.period
        self._area = config.counter.area

    def counts(self, codes: Array, out: Array | None = None) -> Array:
        """Counts of each conversion, into `out` if given: the code's magnitude; clock edges where
        codes are ideal.
        """
        magnitude: Array = np.abs(codes, out=out)
        if self._levels is None:  # codes are pulse widths / T_max, before the clamp
            return np.rint(np.minimum(magnitude, 1.0) * self.edges)
        return magnitude

    @property
    def most(self) -> int:
        """The most counts that one conversion can take."""
        return self._levels // 2 if self._levels is not None else round(self.edges)

    def count_energy(self, counts: Array) -> Array:
        """J of that many counts."""
        return self._energy_per_count * counts

    def footprint(self) -> Footprint:
        return Footprint(self._component, self._lines, self._area, ("counter.area",))


class Accumulator:
    """The adder tree of one head, shared by `heads_per_adder` heads."""

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        section = config.accumulator
        self.sub_tiles = sub_tiles
        self.time_ticks = Clock.of(config.controller.clock).ticks(section.time)
        self.heads_per_adder = section.heads_per_adder
        self.arbitration = section.arbitration if self.heads_per_adder > 1 else "static"
        self._energy_per_add = config.calibration.digital_energy * section.energy_per_add
        self.area_each = section.area

    def output(self, total: Array, a: float, b: float) -> Array:
        """``y = a * total + b``; `total` (tokens, features) is the sum over sub-tiles."""
        return a * total + b

    def add_energy(self, adds: Array) -> Array:
        """J of that many additions."""
        return self._energy_per_add * adds

    def footprint(self, heads: int) -> Footprint:
        built = self.sub_tiles.count * self.sub_tiles.rows
        instances = shared_instances(built, self.heads_per_adder, heads)
        return Footprint("adders", instances, self.area_each, ("accumulator.area",))
