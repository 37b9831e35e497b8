"""Query pulse generators: a 4-bit code becomes a pulse width on word lines (FACTS 1, 2.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.components.action import Action, Footprint, shared_instances
from archsim.components.array import SubTiles
from archsim.components.cell import Cell
from archsim.components.quantiser import Quantiser
from archsim.config.clock import Clock
from archsim.config.hardware import HardwareConfig

Array = NDArray[np.float64]

PULSE = Action(
    "pulse generators",
    "drive word lines",
    "digital",
    "read_key",
    (
        "pulse_generator.energy_per_pulse",
        "pulse_generator.word_line_capacitance",
        "cell.input_voltage",
        "calibration.digital_energy",
    ),
)


class PulseGenerator:
    """One head's query pulses; every K array has its own word-line drivers."""

    def __init__(self, config: HardwareConfig, cell: Cell, sub_tiles: SubTiles) -> None:
        section = config.pulse_generator
        self.sub_tiles = sub_tiles
        self.quantiser = Quantiser(config.levels.query, 0.0, 1.0)
        self._clock = clock = Clock.of(config.controller.clock)
        if section.t_max == "auto":
            steps = (config.levels.query or 2) - 1
            self.t_max_ticks = steps * clock.period
        else:
            self.t_max_ticks = clock.ticks(section.t_max)
        self.heads_per_generator = section.heads_per_generator
        self.arbitration = section.arbitration if self.heads_per_generator > 1 else "static"
        self._energy_per_pulse = config.calibration.digital_energy * (
            section.energy_per_pulse + section.word_line_capacitance * cell.input_voltage**2
        )
        self.area_each = section.area

    @property
    def t_max(self) -> float:
        """Longest pulse in seconds."""
        return self.t_max_ticks * self._clock.seconds

    def widths(self, scaled: Array) -> Array:
        """Pulse widths / T_max of scaled queries, same shape."""
        return self.quantiser.values(self.quantiser.codes(scaled))

    def pulse_energy(self, pulses: Array) -> Array:
        """J of word-line pulses; `pulses` counts a pulse once for every word line it drives."""
        return self._energy_per_pulse * pulses

    def footprint(self, heads: int) -> Footprint:
        lines = self.sub_tiles.count * self.sub_tiles.rows
        drivers = shared_instances(lines, self.heads_per_generator, heads)
        return Footprint("pulse generators", drivers, self.area_each, ("pulse_generator.area",))
