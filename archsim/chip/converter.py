"""Charge-to-pulse converters (FACTS 1, 2.6 and 2.8).

A converter integrates the charge of one bit line, then discharges it at a constant current: the
time that takes is the output pulse. The score converter's range makes it a HardSigmoid, and its
pulse drives the V array (`archsim.chip.readouts.charge_to_pulse`). The pulse of a signed converter
is counted: those of the V arrays here, and those of partial sums
(`archsim.chip.readouts.digital_sum`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.chip.action import Action, Bucket, Footprint
from archsim.chip.activations import Activation
from archsim.chip.array import SubTiles
from archsim.chip.cell import MICROAMPERE
from archsim.chip.controller import phase_law
from archsim.chip.conversion import Conversion
from archsim.chip.pulses import longest_converted
from archsim.chip.quantiser import Quantiser
from archsim.chip.stage import COUNT, READ_VALUE, After, Declared, Hold, Phase, Resource
from archsim.chip.variants import ACTIVATION
from archsim.chip.work import Footprints, Implied, Shapes, Spent, Work
from archsim.config.clock import Clock
from archsim.config.kinds import Amperes, Duration, Joules, SquareMetres
from archsim.config.loading import Section
from archsim.config.variant_section import VariantSection
from archsim.config.variants import find

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
    t_max: Duration
    buffers: Literal[1, 2] = 1
    score: ConverterStage
    output: ConverterStage


def output_energy(config: HardwareConfig) -> float:
    """J of one signed conversion."""
    return config.converter.output.energy_per_conversion


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


def activation_law(config: HardwareConfig) -> Activation:
    """What a score becomes, as ``converter.law`` says."""
    law: Activation = find(ACTIVATION.name, config.converter.law).law(config)
    return law


def output_conversion(config: HardwareConfig) -> Conversion:
    """The law of the signed converters of V arrays."""
    return signed_conversion(config, output_full_scale(config), output_levels(config))


def signed_conversion(config: HardwareConfig, full_scale: float, levels: int | None) -> Conversion:
    """A conversion that saturates at a summed current of `full_scale` A, to so many `levels`."""
    edges = None
    if levels is None:
        clock = Clock.of(config.controller.clock)
        edges = clock.ticks(longest_converted(config)) / clock.period
    return Conversion(full_scale / MICROAMPERE, Quantiser(levels, -1.0, 1.0), edges)


CONVERT_OUTPUT = Action("signed converters", "convert", "sv", COUNT, output_energy)


class SignedConverters:
    """Signed conversion of the bit lines of V arrays, whose pulses are counted."""

    total: Bucket = "sv"

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        self.sub_tiles, self.conversion = sub_tiles, output_conversion(config)
        self._clock = Clock.of(config.controller.clock)
        self.t_max_ticks = self._clock.ticks(longest_converted(config))
        self.buffers = buffers(config)
        self._energy_per_conversion, self._area = output_energy(config), output_area(config)

    @property
    def t_max(self) -> float:
        """Longest pulse in seconds."""
        return self._clock.time(self.t_max_ticks)

    def stages(self, heads: int) -> Declared:
        """A converter integrates while the V arrays are read, then sends its pulse."""
        laws = (phase_law, longest_converted)
        yield Resource("signed converters", self.buffers, units=self.sub_tiles.count)
        yield Phase(COUNT, (After(READ_VALUE),), self.t_max_ticks, laws, "longest_output")
        yield Hold("signed converters", READ_VALUE, COUNT)

    def convert_energy(self, conversions: Array) -> Array:
        """J of that many conversions."""
        return self._energy_per_conversion * conversions

    def spend(self, work: Work) -> Spent:
        yield CONVERT_OUTPUT, self.convert_energy(work.conversions), work.conversions

    def implied(self, shapes: Shapes) -> Implied:
        yield CONVERT_OUTPUT, shapes.conversions, shapes.conversions

    def footprints(self, heads: int) -> Footprints:
        lines = self.sub_tiles.count * self.sub_tiles.rows
        # a second buffer is a second integrator
        yield Footprint("signed converters", lines * self.buffers, self._area, (output_area,))
