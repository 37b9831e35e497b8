"""Charge-to-pulse converters (FACTS 1, 2.6 and 2.8).

A converter integrates the charge of one bit line, then discharges it at a constant current: the
time that takes is the output pulse. The score converter's range makes it a HardSigmoid; its pulse
is analog and drives the V array directly. The output converter is signed; its pulse is counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.components.action import Action, Footprint
from archsim.components.array import SubTiles
from archsim.components.cell import MICROAMPERE
from archsim.components.quantiser import Quantiser
from archsim.config.hardware import HardwareConfig
from archsim.config.quantity import PICOSECOND, picoseconds

Array = NDArray[np.float64]

CONVERT_SCORE = Action(
    "converters", "convert", "qk", "read_value", ("converter.score.energy_per_conversion",)
)
CONVERT_OUTPUT = Action(
    "signed converters", "convert", "sv", "count", ("converter.output.energy_per_conversion",)
)


class ScoreConverter:
    """HardSigmoid of one K bit line: ``P = clip(S / S_sat, 0, 1)``, an analog pulse width."""

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        section = config.converter
        self.sub_tiles = sub_tiles
        self.t_max_ps = picoseconds(section.t_max)
        self.buffers = section.buffers
        self.saturation = section.score.saturation_current / MICROAMPERE
        self.energy_per_conversion = section.score.energy_per_conversion
        self._area = section.score.area

    @property
    def t_max(self) -> float:
        """Longest pulse in seconds."""
        return self.t_max_ps * PICOSECOND

    def clamp(self, score: Array, out: Array | None = None) -> Array:
        """Pulse widths / T_max of summed currents / `saturation`; into `out` if given."""
        return np.clip(score, 0.0, 1.0, out=out)

    def convert_energy(self, conversions: Array) -> Array:
        """J of that many conversions."""
        return self.energy_per_conversion * conversions

    def footprint(self) -> Footprint:
        instances = self.sub_tiles.slots * self.buffers  # a second buffer is a second integrator
        return Footprint("converters", instances, self._area, ("converter.score.area",))


class OutputConverter:
    """Signed conversion of one V bit line: ``A = quant(clip(A_raw / A_sat, -1, 1))``."""

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        section = config.converter
        self.sub_tiles = sub_tiles
        self.t_max_ps = picoseconds(section.t_max)
        self.buffers = section.buffers
        self.quantiser = Quantiser(config.levels.output, -1.0, 1.0)
        self.saturation = section.output.saturation_current / MICROAMPERE
        self.energy_per_conversion = section.output.energy_per_conversion
        self._area = section.output.area

    @property
    def t_max(self) -> float:
        """Longest pulse in seconds."""
        return self.t_max_ps * PICOSECOND

    def convert_energy(self, conversions: Array) -> Array:
        """J of that many conversions."""
        return self.energy_per_conversion * conversions

    def footprint(self) -> Footprint:
        instances = self.sub_tiles.count * self.sub_tiles.rows * self.buffers
        return Footprint("signed converters", instances, self._area, ("converter.output.area",))
