"""Counters, and the adder tree that sums a head's sub-tiles digitally (FACTS 1, 2.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.chip.action import Action, Discipline, Footprint, shared_instances
from archsim.chip.array import SubTiles
from archsim.chip.work import Implied, Shapes, Spent, Work
from archsim.config.clock import Clock
from archsim.config.kinds import Arbitration, Joules, Phase, Sharing, SquareMetres
from archsim.config.loading import Section

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]


class CounterConfig(Section):
    """Counters that digitise the signed output pulses."""

    energy_per_count: Joules
    area: SquareMetres


class AccumulatorConfig(Section):
    """Sign, latch, and the adder tree over the sub-tiles."""

    time: Phase
    heads_per_adder: Sharing = 1
    arbitration: Arbitration = "static"
    energy_per_add: Joules
    area: SquareMetres = Field(description="of one adder")

    def inactive(self) -> frozenset[str]:
        return frozenset({"arbitration"} if self.heads_per_adder == 1 else ())


def energy_per_count(config: HardwareConfig) -> float:
    """J of one count."""
    return config.calibration.digital_energy * config.counter.energy_per_count


def energy_per_add(config: HardwareConfig) -> float:
    """J of one addition."""
    return config.calibration.digital_energy * config.accumulator.energy_per_add


def counter_area(config: HardwareConfig) -> float:
    """m^2 of one counter."""
    return config.counter.area


def adder_area(config: HardwareConfig) -> float:
    """m^2 of one adder."""
    return config.accumulator.area


def add_time(config: HardwareConfig) -> float:
    """s that sign, latch and adder tree take."""
    return config.accumulator.time


def adder_sharing(config: HardwareConfig) -> tuple[int, Discipline]:
    """How many heads an adder tree serves, and in which order."""
    section = config.accumulator
    heads = section.heads_per_adder
    return heads, section.arbitration if heads > 1 else "static"


COUNT = Action("counters", "count", "digital", "count", energy_per_count)
ADD = Action("adders", "sign, latch, add", "digital", "accumulate", energy_per_add)


class Counters:
    """One counter for each of so many bit `lines`; a count is one clock edge inside a pulse.

    `levels`: of the signed converter before it.
    """

    def __init__(
        self, config: HardwareConfig, levels: int | None, lines: int, component: str = "counters"
    ) -> None:
        self._energy_per_count = energy_per_count(config)
        self._levels = levels
        self._lines, self._component = lines, component
        clock = Clock.of(config.controller.clock)
        self.edges = clock.ticks(config.converter.t_max) / clock.period
        self._area = counter_area(config)

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

    def spend(self, work: Work) -> Spent:
        """Of the V arrays; those of partial sums are spent by `archsim.chip.row_split`."""
        counts = work.activity("counts")
        yield COUNT, self.count_energy(counts), counts

    def implied(self, shapes: Shapes) -> Implied:
        yield COUNT, 0.0, shapes.conversions * self.most

    def footprint(self) -> Footprint:
        return Footprint(self._component, self._lines, self._area, (counter_area,))


class Accumulator:
    """The adder tree of one head, shared by `heads_per_adder` heads."""

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        self.sub_tiles = sub_tiles
        self.time_ticks = Clock.of(config.controller.clock).ticks(add_time(config))
        self.heads_per_adder, self.arbitration = adder_sharing(config)
        self._energy_per_add = energy_per_add(config)
        self.area_each = adder_area(config)

    def output(self, total: Array, a: float, b: float) -> Array:
        """``y = a * total + b``; `total` (tokens, features) is the sum over sub-tiles."""
        return a * total + b

    def add_energy(self, adds: Array) -> Array:
        """J of that many additions."""
        return self._energy_per_add * adds

    def spend(self, work: Work) -> Spent:
        """Every sub-tile's vector is latched and added once."""
        yield ADD, self.add_energy(work.conversions), work.conversions

    def implied(self, shapes: Shapes) -> Implied:
        yield ADD, shapes.conversions, shapes.conversions

    def footprint(self, heads: int) -> Footprint:
        built = self.sub_tiles.count * self.sub_tiles.rows
        instances = shared_instances(built, self.heads_per_adder, heads)
        return Footprint("adders", instances, self.area_each, (adder_area,))
