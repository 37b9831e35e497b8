"""What digital readouts share: sums of codes, and pulses made from them.

Every column has a converter and an adder for each array of its stack; every V array has a driver
for each of its word lines. Codes of a column are added, the activation is taken of the sum (of a
part alone it would be wrong), and the result becomes a pulse again, of few widths. An addition and
a pulse cost, and their blocks measure, what those of the adder tree and of the query pulse
generators do; activation and scaling are taken to be part of the additions. Nothing of it is shared
between heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from archsim.chip.accumulator import ADD, adder_area, energy_per_add
from archsim.chip.action import Action, Bucket, Footprint
from archsim.chip.array import SubTiles
from archsim.chip.controller import phase_law
from archsim.chip.pulse_generator import PULSE, driver_area, energy_per_pulse
from archsim.chip.pulses import longest_converted
from archsim.chip.quantiser import Quantiser
from archsim.chip.stage import READ_VALUE, WRITE_VALUE, After, Declared, Hold, Phase, Resource
from archsim.chip.work import Footprints, Implied, Shapes, Spent, Work
from archsim.config.clock import Clock, uneven_step

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]


class _Fields(Protocol):
    """What the own section of every digital readout has."""

    add_time: float
    pulse_levels: int | None


def _fields(config: HardwareConfig) -> _Fields:
    return cast(_Fields, config.readout)


def partial_add_time(config: HardwareConfig) -> float:
    """s that adding the parts takes, activation included."""
    return _fields(config).add_time


def score_levels(config: HardwareConfig) -> Quantiser:
    """From the activation of summed parts to the pulse widths that there are."""
    return Quantiser(_fields(config).pulse_levels, 0.0, 1.0)


ADD_PARTIAL = Action("partial adders", "sign, latch, add", "digital", "add_partial", ADD.cost)
PULSE_VALUES = Action(
    "value pulse generators", "drive word lines", "digital", READ_VALUE, PULSE.cost
)


class DigitalReadout:
    """Adders of one head's columns, and its V word-line pulses; converters are the variants'.

    A variant's own section has the fields `add_time` and `pulse_levels`.
    """

    total: Bucket = "qk"

    @staticmethod
    def times(config: HardwareConfig) -> Iterator[tuple[str, float]]:
        yield "readout.add_time", partial_add_time(config)

    @staticmethod
    def check(config: HardwareConfig) -> None:
        """Steps of the pulses are whole numbers of clock edges."""
        clock = Clock.of(config.controller.clock)
        fault = uneven_step(config.converter.t_max, score_levels(config).levels, clock)
        if fault:
            raise ValueError(
                f"readout.pulse_levels: {fault}; change it, controller.clock or converter.t_max"
            )

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        self.sub_tiles = sub_tiles
        self.parts = sub_tiles.stacked
        self.lines = sub_tiles.slots * self.parts
        self._clock = Clock.of(config.controller.clock)
        self.add_ticks = self._clock.ticks(partial_add_time(config))
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
        yield Phase("add_partial", (After(converted),), self.add_ticks, (partial_add_time,))
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
