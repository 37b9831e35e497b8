"""``readout.model: comparator``: a column fires where its score is above a threshold.

Instead of a charge-to-pulse converter every column ends in a latched comparator: after the K arrays
are read it compares the charge of its bit line with a reference and, if that is more, drives its V
word line for the whole of T_max::

    P = 1 where S > threshold, else 0

All scores above the threshold weigh the same, so it is the crudest of readouts; a comparator is
smaller than a converter, and costs less a decision. Bit lines of stacked arrays are joined. All
numbers here are assumed: set them to those of your circuit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray
from pydantic import Field

from archsim import variant
from archsim.chip.action import Action, Bucket, Footprint, Law
from archsim.chip.array import SubTiles
from archsim.chip.cell import MICROAMPERE
from archsim.chip.controller import phase_law
from archsim.chip.converter import score_full_scale
from archsim.chip.pulse_generator import PULSE
from archsim.chip.pulses import longest_converted
from archsim.chip.quantiser import Quantiser
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
from archsim.chip.work import Footprints, Implied, Shapes, Spent, Work
from archsim.config.clock import Clock
from archsim.config.kinds import Amperes, Duration, Joules, SquareMetres
from archsim.config.section import Section

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig


def own(config: HardwareConfig) -> Comparator.Config:
    """The fields of this variant, for a type checker."""
    return cast(Comparator.Config, config.readout)


# Laws: functions of the config. What they read is what a figure says it rests on.
def decision_time(config: HardwareConfig) -> float:
    """s until a comparator has decided."""
    return own(config).decision_time


def decision_energy(config: HardwareConfig) -> float:
    """J of one decision."""
    return own(config).energy_per_decision


def comparator_area(config: HardwareConfig) -> float:
    """m^2 of one comparator with its reference and word-line driver."""
    return own(config).area


def threshold(config: HardwareConfig) -> float:
    """Share of the full scale of a score above which a column fires."""
    return own(config).threshold / score_full_scale(config)


# Actions: what it does, in which total and phase that counts, and what one of it costs.
DECIDE = Action("comparators", "decide", "qk", "decide", decision_energy)
DRIVE = Action("comparators", "drive word lines", "digital", READ_VALUE, PULSE.cost)


@dataclass(frozen=True)
class Step:
    """``P = 1 where S / S_sat > share, else 0``: what the datapath computes with."""

    share: float

    def pulses(self, score: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        """Pulse widths / T_max of S / S_sat, any shape, into `out`."""
        out[...] = score > self.share
        return out


@variant("readout", "comparator")
class Comparator:
    """One comparator a column: its V word line is driven for T_max, or not at all."""

    class Config(Section):
        threshold: Amperes = Field(
            default=20e-6, description="summed current x pulse/T_max above which a column fires"
        )
        decision_time: Duration = Field(default=1e-9, description="from the end of the K read")
        energy_per_decision: Joules = Field(default=50e-15, description="of one comparator")
        area: SquareMetres = Field(default=40e-12, description="of one comparator, driver included")

    total: Bucket = "qk"
    work: tuple[Law, ...] = (threshold,)

    @staticmethod
    def times(config: HardwareConfig) -> Iterator[tuple[str, float]]:
        """Keys of times that must be whole picoseconds."""
        yield "readout.decision_time", decision_time(config)

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        self.sub_tiles, self._clock = sub_tiles, Clock.of(config.controller.clock)
        self.t_max_ticks = self._clock.ticks(longest_converted(config))
        self.decision_ticks = self._clock.ticks(decision_time(config))
        self._energy, self._area = decision_energy(config), comparator_area(config)
        self._energy_per_pulse = PULSE.cost(config)

    @property
    def t_max(self) -> float:
        """Length of the pulses in seconds."""
        return self._clock.time(self.t_max_ticks)

    @classmethod
    def law(cls, config: HardwareConfig, sub_tiles: SubTiles) -> ReadoutLaw:
        """The joined bit lines hold all features; pulses have two widths."""
        whole, full_scale = ((0, sub_tiles.features),), score_full_scale(config) / MICROAMPERE
        two = Quantiser(2, 0.0, 1.0)
        return ReadoutLaw(whole, full_scale, Step(threshold(config)), widths=two)

    def stages(self, heads: int) -> Declared:
        """Comparators are taken with the K read and given back when their pulses end."""
        yield Resource("comparators", units=self.sub_tiles.count)
        yield Phase("decide", (After(READ_KEY),), self.decision_ticks, (decision_time,))
        after, laws = (After("decide"), After(WRITE_VALUE)), (phase_law, longest_converted)
        yield Phase(READ_VALUE, after, self.t_max_ticks, laws, "longest_score")
        yield Hold("comparators", READ_KEY, READ_VALUE)

    def spend(self, work: Work) -> Spent:
        """Every column decides; in each V array beside another those that fire drive a line."""
        decisions = work.converting
        yield DECIDE, self._energy * decisions, decisions
        pulses = work.activity("score_pulses") * self.sub_tiles.stacked
        yield DRIVE, self._energy_per_pulse * pulses, pulses

    def implied(self, shapes: Shapes) -> Implied:
        """The same from shapes alone: the second opinion that every run is held against."""
        decisions = shapes.heads * int(shapes.converting.sum())
        yield DECIDE, decisions, decisions
        yield DRIVE, 0, shapes.heads * int(shapes.seen.sum()) * shapes.arrays

    def footprints(self, heads: int) -> Footprints:
        yield Footprint("comparators", self.sub_tiles.slots, self._area, (comparator_area,))
