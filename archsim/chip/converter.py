"""Charge-to-pulse converters (FACTS 1, 2.6 and 2.8).

A converter integrates the charge of one bit line, then discharges it at a constant current: the
time that takes is the output pulse. The score converter's range makes it a HardSigmoid; its pulse
is analog and drives the V array directly. A signed converter's pulse is counted: those of the V
arrays, and those of partial sums (`archsim.chip.row_split`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.chip.action import Action, Footprint
from archsim.chip.array import SubTiles
from archsim.chip.cell import MICROAMPERE
from archsim.chip.pulses import longest_converted
from archsim.chip.quantiser import Quantiser
from archsim.chip.variants import ACTIVATION, variant
from archsim.chip.work import Implied, Shapes, Spent, Work
from archsim.config.clock import Clock
from archsim.config.kinds import Amperes, Joules, Phase, SquareMetres
from archsim.config.loading import Section
from archsim.config.variant_section import VariantSection

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]


class ConverterStage(Section):
    """One of the two kinds of charge-to-pulse converter."""

    saturation_current: Amperes = Field(description="summed current x pulse/T_max at full scale")
    energy_per_conversion: Joules
    area: SquareMetres


class ConverterConfig(VariantSection):
    """Charge-to-pulse converters: `score` after K arrays, signed `output` after V arrays."""

    slot = ACTIVATION.name

    law: str = Field(default="hard_sigmoid", description="activation of scores")
    t_max: Phase
    buffers: Literal[1, 2] = 1
    score: ConverterStage
    output: ConverterStage


@variant("activation", "hard_sigmoid")
class HardSigmoid:
    """Score from 0 to 1: ``clip(S / S_sat, 0, 1)``."""


def score_energy(config: HardwareConfig) -> float:
    """J of one score conversion."""
    return config.converter.score.energy_per_conversion


def output_energy(config: HardwareConfig) -> float:
    """J of one signed conversion."""
    return config.converter.output.energy_per_conversion


def score_area(config: HardwareConfig) -> float:
    """m^2 of one score converter."""
    return config.converter.score.area


def output_area(config: HardwareConfig) -> float:
    """m^2 of one signed converter."""
    return config.converter.output.area


def score_full_scale(config: HardwareConfig) -> float:
    """Summed current in A at which a score converter saturates."""
    return config.converter.score.saturation_current


def output_full_scale(config: HardwareConfig) -> float:
    """Summed current in A at which a signed converter of V arrays saturates."""
    return config.converter.output.saturation_current


def output_levels(config: HardwareConfig) -> int | None:
    """Levels of a count of V arrays, sign included."""
    return config.levels.output


def buffers(config: HardwareConfig) -> int:
    """Conversions that a converter can hold."""
    return config.converter.buffers


CONVERT_SCORE = Action("converters", "convert", "qk", "read_value", score_energy)
CONVERT_OUTPUT = Action("signed converters", "convert", "sv", "count", output_energy)


class ScoreConverter:
    """HardSigmoid of one K bit line: ``P = clip(S / S_sat, 0, 1)``, an analog pulse width."""

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        self.sub_tiles = sub_tiles
        self._clock = Clock.of(config.controller.clock)
        self.t_max_ticks = self._clock.ticks(longest_converted(config))
        self.buffers = buffers(config)
        self.saturation = score_full_scale(config) / MICROAMPERE
        self._config = config  # a head whose dot products are split has no use for the costs

    @property
    def t_max(self) -> float:
        """Longest pulse in seconds."""
        return self._clock.time(self.t_max_ticks)

    def clamp(self, score: Array, out: Array | None = None) -> Array:
        """Pulse widths / T_max of summed currents / `saturation`; into `out` if given."""
        return np.clip(score, 0.0, 1.0, out=out)

    def convert_energy(self, conversions: Array) -> Array:
        """J of that many conversions."""
        return score_energy(self._config) * conversions

    def spend(self, work: Work) -> Spent:
        yield CONVERT_SCORE, self.convert_energy(work.converting), work.converting

    def implied(self, shapes: Shapes) -> Implied:
        fired = shapes.heads * int(shapes.converting.sum())
        yield CONVERT_SCORE, fired, fired

    def footprint(self) -> Footprint:
        instances = self.sub_tiles.slots * self.buffers  # a second buffer is a second integrator
        return Footprint("converters", instances, score_area(self._config), (score_area,))


class SignedConverter:
    """Signed conversion of bit lines: ``A = quant(clip(A_raw / A_sat, -1, 1))``.

    `lines` of them, of so many `levels`, that saturate at a summed current in A.
    """

    def __init__(
        self,
        config: HardwareConfig,
        levels: int | None,
        saturation_current: float,
        lines: int,
        component: str = "signed converters",
    ) -> None:
        self._clock = Clock.of(config.controller.clock)
        self.t_max_ticks = self._clock.ticks(longest_converted(config))
        self.buffers = buffers(config)
        self.quantiser = Quantiser(levels, -1.0, 1.0)
        self.saturation = saturation_current / MICROAMPERE
        self._lines, self._component = lines, component
        self._energy_per_conversion, self._area = output_energy(config), output_area(config)

    @property
    def t_max(self) -> float:
        """Longest pulse in seconds."""
        return self._clock.time(self.t_max_ticks)

    def convert_energy(self, conversions: Array) -> Array:
        """J of that many conversions."""
        return self._energy_per_conversion * conversions

    def spend(self, work: Work) -> Spent:
        """Of the V arrays; those of partial sums are spent by `archsim.chip.row_split`."""
        yield CONVERT_OUTPUT, self.convert_energy(work.conversions), work.conversions

    def implied(self, shapes: Shapes) -> Implied:
        yield CONVERT_OUTPUT, shapes.conversions, shapes.conversions

    def footprint(self) -> Footprint:
        instances = self._lines * self.buffers
        return Footprint(self._component, instances, self._area, (output_area,))
