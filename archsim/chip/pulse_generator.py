"""Query pulse generators: a 4-bit code becomes a pulse width on word lines (FACTS 1, 2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.chip.action import Action, Bucket, Footprint
from archsim.chip.array import SubTiles
from archsim.chip.controller import phase_law
from archsim.chip.pulses import longest_query, query_steps
from archsim.chip.quantiser import Quantiser
from archsim.chip.stage import READ_KEY, WRITE_KEY, After, Declared, Hold, Phase, Turns
from archsim.chip.work import Footprints, Implied, Shapes, Spent, Work
from archsim.config.clock import Clock
from archsim.config.kinds import Arbitration, Farads, Joules, PhaseOrAuto, Sharing, SquareMetres
from archsim.config.loading import Section

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]


class PulseGeneratorConfig(Section):
    """Query pulses on the word lines of the K arrays."""

    t_max: PhaseOrAuto = Field(description="longest pulse; auto = (levels - 1) clock periods")
    heads_per_generator: Sharing = 1
    arbitration: Arbitration = "static"
    energy_per_pulse: Joules
    word_line_capacitance: Farads
    area: SquareMetres = Field(description="of one word-line driver")

    def inactive(self) -> frozenset[str]:
        return frozenset({"arbitration"} if self.heads_per_generator == 1 else ())


def energy_per_pulse(config: HardwareConfig) -> float:
    """J of one pulse on one word line."""
    section, volts = config.pulse_generator, config.cell.input_voltage
    return config.calibration.digital_energy * (
        section.energy_per_pulse + section.word_line_capacitance * volts**2
    )


def driver_area(config: HardwareConfig) -> float:
    """m^2 of one word-line driver."""
    return config.pulse_generator.area


def generator_sharing(config: HardwareConfig) -> Turns:
    """How many heads a set of generators serves, and in which order."""
    return Turns.of(config.pulse_generator, "heads_per_generator")


def query_levels(config: HardwareConfig) -> Quantiser:
    """From scaled queries to pulse widths / T_max."""
    return Quantiser(config.levels.query, 0.0, 1.0)


PULSE = Action("pulse generators", "drive word lines", "digital", READ_KEY, energy_per_pulse)


class PulseGenerator:
    """One head's query pulses; every K array has its own word-line drivers."""

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        self.sub_tiles = sub_tiles
        self.quantiser = query_levels(config)
        self._clock = clock = Clock.of(config.controller.clock)
        if config.pulse_generator.t_max == "auto":
            self.t_max_ticks = query_steps(config) * clock.period
        else:
            self.t_max_ticks = clock.ticks(config.pulse_generator.t_max)
        self.turns = generator_sharing(config)
        self._energy_per_pulse = energy_per_pulse(config)
        self.area_each = driver_area(config)

    total: Bucket = "digital"

    @property
    def t_max(self) -> float:
        """Longest pulse in seconds."""
        return self._clock.time(self.t_max_ticks)

    def widths(self, scaled: Array) -> Array:
        """Pulse widths / T_max of scaled queries, same shape."""
        return self.quantiser.values(self.quantiser.codes(scaled))

    def pulse_energy(self, pulses: Array) -> Array:
        """J of word-line pulses; `pulses` counts a pulse once for every word line it drives."""
        return self._energy_per_pulse * pulses

    def spend(self, work: Work) -> Spent:
        pulses = work.activity("query_pulses") * work.sub_tiles
        yield PULSE, self.pulse_energy(pulses), pulses

    def implied(self, shapes: Shapes) -> Implied:
        pulses = int(shapes.pulsed @ shapes.driven)
        yield PULSE, pulses, pulses

    def stages(self, heads: int) -> Declared:
        """The K arrays are read as long as there are query pulses."""
        laws = (phase_law, longest_query)
        yield self.turns.resource("pulse generators", heads)
        yield Phase(READ_KEY, (After(WRITE_KEY),), self.t_max_ticks, laws, "longest_query")
        yield Hold("pulse generators", READ_KEY, READ_KEY)

    def footprints(self, heads: int) -> Footprints:
        lines = self.sub_tiles.count * self.sub_tiles.rows
        drivers = self.turns.instances(lines, heads)
        yield Footprint("pulse generators", drivers, self.area_each, (driver_area,))
