"""``readout.model: digital_sum``: a dot product put together from the partial sums of its arrays.

Where a head has more features than an array has rows, each K array of a stack ends its bit lines in
signed charge-to-pulse converters of its own. Their pulses are counted, the partial sums of a column
added digitally, the HardSigmoid taken of the sum (of a part alone it would be wrong), and the
result becomes a pulse again, of few widths, on the word lines of the V arrays::

    p_s = quant(clip(S_s / S_part, -1, 1))      each array s, S_s the sum over its own features
    P   = quant(clip(S_part / S_sat sum_s p_s, 0, 1))

These blocks stand in place of the score converters, whose S_sat remains that of the HardSigmoid.
A conversion, a count, an addition and a pulse cost, and their blocks measure, what those of the
output converters, counters, adders and pulse generators do; HardSigmoid and scaling are taken to
be part of the additions. Nothing of it is shared between heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.chip.accumulator import ADD, COUNT, Accumulator, Counters, adder_area
from archsim.chip.action import Action, Footprint
from archsim.chip.array import SubTiles
from archsim.chip.converter import CONVERT_OUTPUT, ScoreConverter, SignedConverter
from archsim.chip.pulse_generator import PULSE, PulseGenerator, driver_area
from archsim.chip.quantiser import Quantiser
from archsim.chip.variants import READOUT, variant
from archsim.chip.work import Implied, Shapes, Spent, Work
from archsim.config.clock import Clock, uneven_step
from archsim.config.kinds import Amperes, Levels, Phase
from archsim.config.loading import Section
from archsim.config.variant_section import VariantSection

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]


class ReadoutConfig(VariantSection):
    """From the bit lines of K arrays to the word-line pulses of V arrays."""

    slot = READOUT.name

    model: str = "charge_to_pulse"


@variant("readout", "charge_to_pulse")
class ChargeToPulse:
    """One converter a column; bit lines of stacked arrays are joined, so charges add up."""


@variant("readout", "digital_sum")
class DigitalSum:
    """Stacked arrays convert their own parts, which are added digitally and made a pulse again."""

    class Config(Section):
        partial_levels: Levels = Field(default=32, description="of a signed partial sum")
        partial_saturation_current: Amperes = Field(
            default=80e-6, description="summed current x pulse/T_max of one array at full scale"
        )
        add_time: Phase = Field(default=10e-9, description="sign, latch, add, HardSigmoid")
        pulse_levels: Levels = Field(
            default=16, description="of the pulses that drive the V arrays"
        )

    @staticmethod
    def times(config: HardwareConfig) -> Iterator[tuple[str, float]]:
        yield "readout.add_time", _own(config).add_time

    @staticmethod
    def check(config: HardwareConfig) -> None:
        """Steps of the pulses are whole numbers of clock edges."""
        clock = Clock.of(config.controller.clock)
        fault = uneven_step(config.converter.t_max, _own(config).pulse_levels, clock)
        if fault:
            raise ValueError(
                f"readout.pulse_levels: {fault}; change it, controller.clock or converter.t_max"
            )


def _own(config: HardwareConfig) -> DigitalSum.Config:
    return cast(DigitalSum.Config, config.readout)


def partial_full_scale(config: HardwareConfig) -> float:
    """Summed current in A at which a converter of partial sums saturates."""
    return _own(config).partial_saturation_current


def partial_add_time(config: HardwareConfig) -> float:
    """s that adding the partial sums takes."""
    return _own(config).add_time


def partial_levels(config: HardwareConfig) -> int | None:
    """Levels of a partial sum, sign included."""
    return _own(config).partial_levels


def score_levels(config: HardwareConfig) -> Quantiser:
    """From the HardSigmoid of summed parts to the pulse widths that there are."""
    return Quantiser(_own(config).pulse_levels, 0.0, 1.0)


CONVERT_PARTIAL = Action(
    "partial converters",
    "convert",
    "qk",
    "count_partial",
    CONVERT_OUTPUT.cost,
    # fitted at another full scale: that it holds at this one is assumed
    (partial_full_scale,),
)
COUNT_PARTIAL = Action("partial counters", "count", "digital", "count_partial", COUNT.cost)
ADD_PARTIAL = Action("partial adders", "sign, latch, add", "digital", "add_partial", ADD.cost)
PULSE_VALUES = Action(
    "value pulse generators", "drive word lines", "digital", "read_value", PULSE.cost
)


class RowSplit:
    """Partial converters, counters and adders of one head's columns, and its V word-line pulses.

    Every column has one converter, counter and adder for each array of its stack; every V array
    has a driver for each of its word lines.
    """

    def __init__(
        self,
        config: HardwareConfig,
        sub_tiles: SubTiles,
        score_converter: ScoreConverter,
        pulse_generator: PulseGenerator,
        accumulator: Accumulator,
    ) -> None:
        self.parts = len(sub_tiles.parts)
        self._lines = lines = sub_tiles.slots * self.parts
        levels, full_scale = partial_levels(config), partial_full_scale(config)
        self.converter = SignedConverter(config, levels, full_scale, lines, "partial converters")
        self.counters = Counters(config, levels, lines, "partial counters")
        self.add_ticks = Clock.of(config.controller.clock).ticks(partial_add_time(config))
        self.quantiser = score_levels(config)
        self._unit = self.converter.saturation / score_converter.saturation
        self._pulse_generator, self._accumulator = pulse_generator, accumulator

    def score(self, codes: Array, out: NDArray[Any]) -> None:
        """S / S_sat of summed codes of partial sums, before the HardSigmoid, into `out`."""
        np.multiply(
            self.converter.quantiser.values(codes), self._unit, out=out, casting="same_kind"
        )

    def widths(self, pulses: NDArray[Any]) -> None:
        """Make pulses / T_max, after the HardSigmoid, of the widths that there are, in place."""
        self.quantiser.values(self.quantiser.codes(pulses, out=pulses), out=pulses)

    def partials(self, columns: Array) -> Array:
        """Conversions, and as many additions, of so many columns."""
        return columns * self.parts

    def driven(self, pulses: Array) -> Array:
        """Word lines that so many columns' pulses drive: one in each V array side by side."""
        return pulses * self.parts

    def add_energy(self, adds: Array) -> Array:
        """J of that many additions of a partial sum."""
        return self._accumulator.add_energy(adds)

    def pulse_energy(self, pulses: Array) -> Array:
        """J of that many pulses on word lines of V arrays."""
        return self._pulse_generator.pulse_energy(pulses)

    def spend(self, work: Work) -> Spent:
        partials = self.partials(work.converting)
        yield CONVERT_PARTIAL, self.converter.convert_energy(partials), partials
        counts = work.activity("partial_counts")
        yield COUNT_PARTIAL, self.counters.count_energy(counts), counts
        yield ADD_PARTIAL, self.add_energy(partials), partials
        pulses = self.driven(work.activity("score_pulses"))
        yield PULSE_VALUES, self.pulse_energy(pulses), pulses

    def implied(self, shapes: Shapes) -> Implied:
        """Every array of a stack converts, and every array beside another is driven."""
        partials = shapes.heads * int(shapes.converting.sum()) * shapes.arrays
        seen = shapes.heads * int(shapes.seen.sum()) * shapes.arrays
        yield CONVERT_PARTIAL, partials, partials
        yield ADD_PARTIAL, partials, partials
        yield COUNT_PARTIAL, 0.0, seen * self.counters.most
        yield PULSE_VALUES, 0.0, seen

    def footprints(self) -> list[Footprint]:
        """Areas of the blocks that stand in place of the score converters."""
        adder, driver = self._accumulator.area_each, self._pulse_generator.area_each
        return [
            self.converter.footprint(),
            self.counters.footprint(),
            Footprint("partial adders", self._lines, adder, (adder_area,)),
            Footprint("value pulse generators", self._lines, driver, (driver_area,)),
        ]
