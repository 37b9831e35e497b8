"""What digital readouts share: sums of codes, and pulses made from them.

Every column has a converter and an adder for each array of its stack; every V array has a driver
for each of its word lines. Codes of a column are added, the activation is taken of the sum (of a
part alone it would be wrong), and the result becomes a pulse again, of few widths. An addition and
a pulse cost, and their blocks measure, what those of the adder tree and of the query pulse
generators do; activation and scaling are taken to be part of the additions. Nothing of it is shared
between heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.chip.accumulator import ADD, adder_area, energy_per_add
from archsim.chip.action import Action, Bucket, Footprint
from archsim.chip.array import SubTiles
from archsim.chip.controller import phase_law
from archsim.chip.pulse_generator import PULSE, driver_area, energy_per_pulse
from archsim.chip.pulses import longest_converted
from archsim.chip.stage import READ_VALUE, WRITE_VALUE, After, Declared, Hold, Phase, Resource
from archsim.chip.work import Footprints, Implied, Shapes, Spent, Work
from archsim.config.clock import Clock

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]

ADD_PARTIAL = Action("partial adders", "sign, latch, add", "digital", "add_partial", ADD.cost)
PULSE_VALUES = Action(
    "value pulse generators", "drive word lines", "digital", READ_VALUE, PULSE.cost
)


class DigitalReadout:
    """Adders of one head's columns, and its V word-line pulses; converters are the variants'.

    `add_time` gives the s that adding the parts takes.
    """

    total: Bucket = "qk"

    def __init__(
        self,
        config: HardwareConfig,
        sub_tiles: SubTiles,
        add_time: Callable[[HardwareConfig], float],
    ) -> None:
        self.sub_tiles = sub_tiles
        self.parts = sub_tiles.stacked
        self.lines = sub_tiles.slots * self.parts
        self._clock = Clock.of(config.controller.clock)
        self._add_time, self.add_ticks = add_time, self._clock.ticks(add_time(config))
        self.t_max_ticks = self._clock.ticks(longest_converted(config))
        self._energy_per_add, self._adder_area = energy_per_add(config), adder_area(config)
        self._energy_per_pulse, self._driver_area = energy_per_pulse(config), driver_area(config)

    @property
    def t_max(self) -> float:
        """Longest pulse on V word lines in seconds."""
        return self._clock.time(self.t_max_ticks)

    def partials(self, columns: Array) -> Array:
        """Conversions, and as many additions, of so many columns."""
        return columns * self.parts

    def driven(self, pulses: Array) -> Array:
        """Word lines that so many columns' pulses drive: one in each V array side by side."""
        return pulses * self.parts

    def stages_from(self, converted: str) -> Declared:
        """Adders and pulses, after the phase that ends with the codes."""
        units = self.sub_tiles.count
        yield Resource("partial adders", units=units)
        yield Resource("value pulse generators", units=units)
        yield Phase("add_partial", (After(converted),), self.add_ticks, (self._add_time,))
        yield Hold("partial adders", "add_partial", READ_VALUE, "start")  # the pulses latch sums
        after = (After("add_partial"), After(WRITE_VALUE))
        laws = (phase_law, longest_converted)
        yield Phase(READ_VALUE, after, self.t_max_ticks, laws, "longest_score")
        yield Hold("value pulse generators", READ_VALUE, READ_VALUE)

    def add_energy(self, adds: Array) -> Array:
        """J of that many additions of a part."""
        return self._energy_per_add * adds

    def pulse_energy(self, pulses: Array) -> Array:
        """J of that many pulses on word lines of V arrays."""
        return self._energy_per_pulse * pulses

    def spend(self, work: Work) -> Spent:
        partials = self.partials(work.converting)
        yield ADD_PARTIAL, self.add_energy(partials), partials
        pulses = self.driven(work.activity("score_pulses"))
        yield PULSE_VALUES, self.pulse_energy(pulses), pulses

    def implied(self, shapes: Shapes) -> Implied:
        """Every array of a stack converts, and every array beside another is driven."""
        partials = shapes.heads * int(shapes.converting.sum()) * shapes.arrays
        yield ADD_PARTIAL, partials, partials
        yield PULSE_VALUES, 0.0, shapes.heads * int(shapes.seen.sum()) * shapes.arrays

    def footprints(self, heads: int) -> Footprints:
        yield Footprint("partial adders", self.lines, self._adder_area, (adder_area,))
        yield Footprint("value pulse generators", self.lines, self._driver_area, (driver_area,))
