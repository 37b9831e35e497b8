"""``readout.model: sar_adc``: successive-approximation converters digitise the keys' bit lines.

The charge of each K bit line, of each array of a stack, becomes a signed code: a sign and
``bits - 1`` bits of magnitude. Codes of a column are added, the activation is taken of the sum, and
the result becomes a pulse again, of few widths, on the word lines of the V arrays::

    p_s = round(clip(S_s / S_adc, -1, 1) (2^(bits - 1) - 1))      S_adc: readout.full_scale
    P   = quant(phi(S_adc / S_sat sum_s p_s / (2^(bits - 1) - 1)))

S_sat remains that of ``converter.score``, phi is ``converter.law``. A conversion takes one step a
bit, whatever the charge: it lasts as long for every code, and costs the same. Nothing is counted.
One array that holds all features is read by ADCs as well. The rest, its costs too, is
`archsim.chip.readouts.digital`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.chip.action import Action, Footprint, Law
from archsim.chip.array import SubTiles
from archsim.chip.cell import MICROAMPERE
from archsim.chip.conversion import Conversion
from archsim.chip.converter import activation_law, buffers, score_full_scale
from archsim.chip.quantiser import Quantiser
from archsim.chip.readouts.digital import DigitalReadout, score_levels
from archsim.chip.readouts.law import ReadoutLaw
from archsim.chip.stage import READ_KEY, After, Declared, Hold, Phase, Resource
from archsim.chip.variants import variant
from archsim.chip.work import Footprints, Implied, Shapes, Spent, Work
from archsim.config.kinds import Amperes, Duration, Joules, Levels, Sharing, SquareMetres
from archsim.config.section import Section

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]

CONVERT = "convert_score"


def _own(config: HardwareConfig) -> SarAdc.Config:
    return cast(SarAdc.Config, config.readout)


def adc_conversion(config: HardwareConfig) -> Conversion:
    """The law of an ADC: zero is a code, and there are as many below as above it."""
    own = _own(config)
    return Conversion(own.full_scale / MICROAMPERE, Quantiser(2**own.bits - 1, -1.0, 1.0), None)


def adc_time(config: HardwareConfig) -> tuple[float, int]:
    """s that one conversion takes, and columns that an ADC converts one after another."""
    return _own(config).time, columns_of_adc(config)


def columns_of_adc(config: HardwareConfig) -> int:
    """Columns of an array that share an ADC."""
    return min(_own(config).columns_per_adc, config.array.columns)


def adc_energy(config: HardwareConfig) -> float:
    """J of one conversion."""
    return _own(config).energy_per_conversion


def adc_area(config: HardwareConfig) -> float:
    """m^2 of one ADC."""
    return _own(config).area


CONVERT_SCORES = Action("ADCs", "convert", "qk", CONVERT, adc_energy)


@variant("readout", "sar_adc")
class SarAdc(DigitalReadout):
    """Successive-approximation ADCs; codes are added digitally and made a pulse again."""

    class Config(Section):
        bits: Annotated[int, Field(ge=2, le=16)] = Field(
            default=4, description="of a code, sign included"
        )
        full_scale: Amperes = Field(
            default=80e-6, description="summed current x pulse/T_max of one array at full scale"
        )
        time: Duration = Field(default=5e-9, description="of one conversion, whatever its code")
        energy_per_conversion: Joules = Field(
            default=0.12e-12, description="4 bits: arXiv 2605.28208, table 2"
        )
        area: SquareMetres = Field(default=200e-12, description="of one ADC")
        columns_per_adc: Sharing = Field(
            default=1, description="columns of an array that an ADC converts one after another"
        )
        add_time: Duration = Field(default=10e-9, description="sign, latch, add, activation")
        pulse_levels: Levels = Field(
            default=16, description="of the pulses that drive the V arrays"
        )

    @staticmethod
    def times(config: HardwareConfig) -> Iterator[tuple[str, float]]:
        yield "readout.time", _own(config).time
        yield from DigitalReadout.times(config)

    @staticmethod
    def notes(config: HardwareConfig) -> Iterator[str]:
        """Defaults that are of other bits than these."""
        own, fields = _own(config), SarAdc.Config.model_fields
        left = [
            f"readout.{name}"
            for name in ("time", "energy_per_conversion", "area")
            if getattr(own, name) == fields[name].default
        ]
        if own.bits != fields["bits"].default and left:
            yield (
                f"ADCs of {own.bits} bits with the defaults of {fields['bits'].default}; "
                f"does not follow: {', '.join(left)}"
            )

    work: tuple[Law, ...] = (adc_conversion, score_levels)

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        super().__init__(config, sub_tiles)
        seconds, self.turns = adc_time(config)
        self.conversion_ticks = self.turns * self._clock.ticks(seconds)
        self.buffers = buffers(config)
        self._energy_per_conversion, self._area = adc_energy(config), adc_area(config)

    @classmethod
    def law(cls, config: HardwareConfig, sub_tiles: SubTiles) -> ReadoutLaw:
        return ReadoutLaw(
            sub_tiles.by_array,
            score_full_scale(config) / MICROAMPERE,
            activation_law(config),
            adc_conversion(config),
            score_levels(config),
        )

    def stages(self, heads: int) -> Declared:
        """An ADC samples while the K arrays are read; its code stays until the adders latch it."""
        yield Resource("ADCs", self.buffers, units=self.sub_tiles.count)
        yield Phase(CONVERT, (After(READ_KEY),), self.conversion_ticks, (adc_time,))
        yield Hold("ADCs", READ_KEY, "add_partial", "start")
        yield from self.stages_from(CONVERT)

    def convert_energy(self, conversions: Array) -> Array:
        """J of that many conversions."""
        return self._energy_per_conversion * conversions

    def spend(self, work: Work) -> Spent:
        partials = self.partials(work.converting)
        yield CONVERT_SCORES, self.convert_energy(partials), partials
        yield from super().spend(work)

    def implied(self, shapes: Shapes) -> Implied:
        partials = shapes.heads * int(shapes.converting.sum()) * shapes.arrays
        yield CONVERT_SCORES, partials, partials
        yield from super().implied(shapes)

    def footprints(self, heads: int) -> Footprints:
        """Beside an ADC's own sampling no area is taken for charges that wait for their turn."""
        an_array = -(-self.sub_tiles.columns // self.turns)
        adcs = self.sub_tiles.count * self.parts * an_array * self.buffers
        yield Footprint("ADCs", adcs, self._area, (adc_area, columns_of_adc))
        yield from super().footprints(heads)
