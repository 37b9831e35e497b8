"""Charge-to-pulse converters (FACTS 1, 2.6 and 2.8).

A converter integrates the charge of one bit line, then discharges it at a constant current: the
time that takes is the output pulse. The score converter's range makes it a HardSigmoid; its pulse
is analog and drives the V array directly. A signed converter's pulse is counted: those of the V
arrays, and those of partial sums (`archsim.components.row_split`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.components.action import Action, Footprint
from archsim.components.array import SubTiles
from archsim.components.cell import MICROAMPERE
from archsim.components.quantiser import Quantiser
from archsim.config.clock import Clock
from archsim.config.hardware import HardwareConfig

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
        self._clock = Clock.of(config.controller.clock)
        self.t_max_ticks = self._clock.ticks(section.t_max)
        self.buffers = section.buffers
        self.saturation = section.score.saturation_current / MICROAMPERE
        self._section = section.score

    @property
    def t_max(self) -> float:
        """Longest pulse in seconds."""
        return self.t_max_ticks * self._clock.seconds

    def clamp(self, score: Array, out: Array | None = None) -> Array:
        """Pulse widths / T_max of summed currents / `saturation`; into `out` if given."""
        return np.clip(score, 0.0, 1.0, out=out)

    def convert_energy(self, conversions: Array) -> Array:
        """J of that many conversions."""
        return self._section.energy_per_conversion * conversions

    def footprint(self) -> Footprint:
        instances = self.sub_tiles.slots * self.buffers  # a second buffer is a second integrator
        return Footprint("converters", instances, self._section.area, ("converter.score.area",))


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
        section = config.converter
        self._clock = Clock.of(config.controller.clock)
        self.t_max_ticks = self._clock.ticks(section.t_max)
        self.buffers = section.buffers
        self.quantiser = Quantiser(levels, -1.0, 1.0)
        self.saturation = saturation_current / MICROAMPERE
        self._lines, self._component = lines, component
        self._energy_per_conversion = section.output.energy_per_conversion
        self._area = section.output.area

    @property
    def t_max(self) -> float:
        """Longest pulse in seconds."""
        return self.t_max_ticks * self._clock.seconds

    def convert_energy(self, conversions: Array) -> Array:
        """J of that many conversions."""
        return self._energy_per_conversion * conversions

    def footprint(self) -> Footprint:
        instances = self._lines * self.buffers
        return Footprint(self._component, instances, self._area, ("converter.output.area",))
