"""Counters, and the adder tree that sums a head's sub-tiles digitally (FACTS 1, 2.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.chip.action import Action, Bucket, Footprint
from archsim.chip.array import SubTiles
from archsim.chip.conversion import Conversion
from archsim.chip.stage import ACCUMULATE, COUNT, After, Declared, Hold, Phase, Resource, Turns
from archsim.chip.work import Footprints, Implied, Shapes, Spent, Work
from archsim.config.clock import Clock
from archsim.config.kinds import Arbitration, Duration, Joules, Sharing, SquareMetres
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

    time: Duration
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


def adder_sharing(config: HardwareConfig) -> Turns:
    """How many heads an adder tree serves, and in which order."""
    return Turns.of(config.accumulator, "heads_per_adder")


COUNT_PULSES = Action("counters", "count", "digital", COUNT, energy_per_count)
ADD = Action("adders", "sign, latch, add", "digital", ACCUMULATE, energy_per_add)


class Counters:
    """One counter a bit line of the V arrays; a count is one clock edge inside a pulse."""

    total: Bucket = "digital"

    def __init__(self, config: HardwareConfig, conversion: Conversion, sub_tiles: SubTiles) -> None:
        """`conversion` is that of the signed converters before them."""
        self.sub_tiles, self.conversion = sub_tiles, conversion
        self._energy_per_count, self._area = energy_per_count(config), counter_area(config)

    def stages(self, heads: int) -> Declared:
        """The adders latch the counts."""
        yield Resource("counters", units=self.sub_tiles.count)
        yield Hold("counters", COUNT, ACCUMULATE, "start")

    def count_energy(self, counts: Array) -> Array:
        """J of that many counts."""
        return self._energy_per_count * counts

    def spend(self, work: Work) -> Spent:
        counts = work.activity("counts")
        yield COUNT_PULSES, self.count_energy(counts), counts

    def implied(self, shapes: Shapes) -> Implied:
        yield COUNT_PULSES, 0.0, shapes.conversions * self.conversion.most_counts

    def footprints(self, heads: int) -> Footprints:
        lines = self.sub_tiles.count * self.sub_tiles.rows
        yield Footprint("counters", lines, self._area, (counter_area,))


class Accumulator:
    """The adder tree of one head, shared by `heads_per_adder` heads."""

    total: Bucket = "digital"

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        self.sub_tiles = sub_tiles
        self.time_ticks = Clock.of(config.controller.clock).ticks(add_time(config))
        self.turns = adder_sharing(config)
        self._energy_per_add = energy_per_add(config)
        self.area_each = adder_area(config)

    def stages(self, heads: int) -> Declared:
        yield self.turns.resource("adder tree", heads)
        yield Phase(ACCUMULATE, (After(COUNT),), self.time_ticks, (add_time,))
        yield Hold("adder tree", ACCUMULATE, ACCUMULATE)

    def add_energy(self, adds: Array) -> Array:
        """J of that many additions."""
        return self._energy_per_add * adds

    def spend(self, work: Work) -> Spent:
        """Every sub-tile's vector is latched and added once."""
        yield ADD, self.add_energy(work.conversions), work.conversions

    def implied(self, shapes: Shapes) -> Implied:
        yield ADD, shapes.conversions, shapes.conversions

    def footprints(self, heads: int) -> Footprints:
        built = self.sub_tiles.count * self.sub_tiles.rows
        instances = self.turns.instances(built, heads)
        yield Footprint("adders", instances, self.area_each, (adder_area,))
