"""``readout.model: charge_to_pulse``: charge drives the V arrays as a pulse of any width.

A converter integrates the charge of one K bit line (joined over the arrays of a stack) and sends a
pulse as long as its activation says. Nothing is digitised between the two products (FACTS 1, 2.6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.chip.action import Action, Bucket, Footprint, Law
from archsim.chip.array import SubTiles
from archsim.chip.cell import MICROAMPERE
from archsim.chip.controller import phase_law
from archsim.chip.converter import activation_law, buffers, score_full_scale
from archsim.chip.pulses import longest_converted
from archsim.chip.readouts.law import ReadoutLaw
from archsim.chip.stage import (
    READ_KEY,
    READ_VALUE,
    WRITE_VALUE,
    After,
    Declared,
    Hold,
    Phase,
    Resource,
)
from archsim.chip.variants import variant
from archsim.chip.work import Footprints, Implied, Shapes, Spent, Work
from archsim.config.clock import Clock

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]


def score_energy(config: HardwareConfig) -> float:
    """J of one score conversion."""
    return config.converter.score.energy_per_conversion


def score_area(config: HardwareConfig) -> float:
    """m^2 of one score converter."""
    return config.converter.score.area


CONVERT_SCORE = Action("converters", "convert", "qk", READ_VALUE, score_energy)


@variant("readout", "charge_to_pulse")
class ChargeToPulse:
    """One converter a column; bit lines of stacked arrays are joined, so charges add up."""

    total: Bucket = "qk"
    work: tuple[Law, ...] = ()

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        self.sub_tiles = sub_tiles
        self._clock = Clock.of(config.controller.clock)
        self.t_max_ticks = self._clock.ticks(longest_converted(config))
        self.buffers = buffers(config)
        self._energy_per_conversion, self._area = score_energy(config), score_area(config)

    @classmethod
    def law(cls, config: HardwareConfig, sub_tiles: SubTiles) -> ReadoutLaw:
        whole = ((0, sub_tiles.features),)
        return ReadoutLaw(whole, score_full_scale(config) / MICROAMPERE, activation_law(config))

    @property
    def t_max(self) -> float:
        """Longest pulse in seconds."""
        return self._clock.time(self.t_max_ticks)

    def stages(self, heads: int) -> Declared:
        """A converter integrates while the K arrays are read, then sends its pulse."""
        after, laws = (After(READ_KEY), After(WRITE_VALUE)), (phase_law, longest_converted)
        yield Resource("converters", self.buffers, units=self.sub_tiles.count)
        yield Phase(READ_VALUE, after, self.t_max_ticks, laws, "longest_score")
        yield Hold("converters", READ_KEY, READ_VALUE)

    def convert_energy(self, conversions: Array) -> Array:
        """J of that many conversions."""
        return self._energy_per_conversion * conversions

    def spend(self, work: Work) -> Spent:
        yield CONVERT_SCORE, self.convert_energy(work.converting), work.converting

    def implied(self, shapes: Shapes) -> Implied:
        fired = shapes.heads * int(shapes.converting.sum())
        yield CONVERT_SCORE, fired, fired

    def footprints(self, heads: int) -> Footprints:
        instances = self.sub_tiles.slots * self.buffers  # a second buffer is a second integrator
        yield Footprint("converters", instances, self._area, (score_area,))
