"""``readout.model: digital_sum``: a dot product put together from the partial sums of its arrays.

Where a head has more features than an array has rows, each K array of a stack ends its bit lines in
signed charge-to-pulse converters of its own. Their pulses are counted, the partial sums of a column
added digitally, the HardSigmoid taken of the sum (of a part alone it would be wrong), and the
result becomes a pulse again, of few widths, on the word lines of the V arrays::

    p_s = quant(clip(S_s / S_part, -1, 1))      each array s, S_s the sum over its own features
    P   = quant(clip(S_part / S_sat sum_s p_s, 0, 1))

S_sat remains that of ``converter.score``. A conversion and a count cost, and their blocks measure,
what those of the output converters and counters do; the rest is `archsim.chip.readouts.digital`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.chip.accumulator import COUNT_PULSES, counter_area, energy_per_count
from archsim.chip.action import Action, Footprint, Law
from archsim.chip.array import SubTiles
from archsim.chip.cell import MICROAMPERE
from archsim.chip.controller import phase_law
from archsim.chip.conversion import Conversion
from archsim.chip.converter import (
    CONVERT_OUTPUT,
    activation_law,
    buffers,
    output_area,
    output_energy,
    score_full_scale,
    signed_conversion,
)
from archsim.chip.pulses import longest_converted
from archsim.chip.readouts.digital import DigitalReadout, score_levels
from archsim.chip.readouts.law import ReadoutLaw
from archsim.chip.stage import READ_KEY, After, Declared, Hold, Phase, Resource
from archsim.chip.variants import variant
from archsim.chip.work import Footprints, Implied, Shapes, Spent, Work
from archsim.config.kinds import Amperes, Duration, Levels
from archsim.config.section import Section

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]


def _own(config: HardwareConfig) -> DigitalSum.Config:
    return cast(DigitalSum.Config, config.readout)


def partial_full_scale(config: HardwareConfig) -> float:
    """Summed current in A at which a converter of partial sums saturates."""
    return _own(config).partial_saturation_current


def partial_levels(config: HardwareConfig) -> int | None:
    """Levels of a partial sum, sign included."""
    return _own(config).partial_levels


def partial_conversion(config: HardwareConfig) -> Conversion:
    """The law of the converters of partial sums."""
    return signed_conversion(config, partial_full_scale(config), partial_levels(config))


CONVERT_PARTIAL = Action(
    "partial converters",
    "convert",
    "qk",
    "count_partial",
    CONVERT_OUTPUT.cost,
    # fitted at another full scale: that it holds at this one is assumed
    (partial_full_scale,),
)
COUNT_PARTIAL = Action("partial counters", "count", "digital", "count_partial", COUNT_PULSES.cost)


@variant("readout", "digital_sum")
class DigitalSum(DigitalReadout):
    """Stacked arrays convert their own parts, which are added digitally and made a pulse again."""

    class Config(Section):
        partial_levels: Levels = Field(default=32, description="of a signed partial sum")
        partial_saturation_current: Amperes = Field(
            default=80e-6, description="summed current x pulse/T_max of one array at full scale"
        )
        add_time: Duration = Field(default=10e-9, description="sign, latch, add, HardSigmoid")
        pulse_levels: Levels = Field(
            default=16, description="of the pulses that drive the V arrays"
        )

    alone = "charge_to_pulse"
    """What reads one array that holds all features: there is nothing to sum."""

    work: tuple[Law, ...] = (partial_full_scale, partial_levels, score_levels)

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        super().__init__(config, sub_tiles)
        self.conversion = partial_conversion(config)
        self.buffers = buffers(config)
        self._energy_per_conversion, self._area = output_energy(config), output_area(config)
        self._energy_per_count, self._counter_area = energy_per_count(config), counter_area(config)

    @classmethod
    def law(cls, config: HardwareConfig, sub_tiles: SubTiles) -> ReadoutLaw:
        return ReadoutLaw(
            sub_tiles.by_array,
            score_full_scale(config) / MICROAMPERE,
            activation_law(config),
            partial_conversion(config),
            score_levels(config),
        )

    def stages(self, heads: int) -> Declared:
        units, laws = self.sub_tiles.count, (phase_law, longest_converted)
        yield Resource("partial converters", self.buffers, units=units)
        yield Resource("partial counters", units=units)
        yield Phase("count_partial", (After(READ_KEY),), self.t_max_ticks, laws, "longest_partial")
        yield Hold("partial converters", READ_KEY, "count_partial")
        yield Hold("partial counters", "count_partial", "add_partial", "start")  # adders latch them
        yield from self.stages_from("count_partial")

    def convert_energy(self, conversions: Array) -> Array:
        """J of that many conversions of a part."""
        return self._energy_per_conversion * conversions

    def count_energy(self, counts: Array) -> Array:
        """J of that many counts."""
        return self._energy_per_count * counts

    def spend(self, work: Work) -> Spent:
        partials = self.partials(work.converting)
        yield CONVERT_PARTIAL, self.convert_energy(partials), partials
        counts = work.activity("partial_counts")
        yield COUNT_PARTIAL, self.count_energy(counts), counts
        yield from super().spend(work)

    def implied(self, shapes: Shapes) -> Implied:
        partials = shapes.heads * int(shapes.converting.sum()) * shapes.arrays
        seen = shapes.heads * int(shapes.seen.sum()) * shapes.arrays
        yield CONVERT_PARTIAL, partials, partials
        yield COUNT_PARTIAL, 0.0, seen * self.conversion.most_counts
        yield from super().implied(shapes)

    def footprints(self, heads: int) -> Footprints:
        converters = self.lines * self.buffers
        yield Footprint("partial converters", converters, self._area, (output_area,))
        yield Footprint("partial counters", self.lines, self._counter_area, (counter_area,))
        yield from super().footprints(heads)
