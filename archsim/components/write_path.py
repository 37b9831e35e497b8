"""The write path: scaled K and V through multi-level DACs into a column (FACTS 1, 2.3)."""

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

_CONVERSION = ("write_path.energy_per_conversion",)
_CHARGE = ("cell.storage_capacitance", "cell.supply")
CONVERT_KEYS = Action("DACs", "convert K", "dac", "write_key", _CONVERSION)
CONVERT_VALUES = Action("DACs", "convert V", "dac", "write_value", _CONVERSION)
CHARGE_KEYS = Action("write lines", "charge K cells", "dac", "write_key", _CHARGE)
CHARGE_VALUES = Action("write lines", "charge V cells", "dac", "write_value", _CHARGE)


class WritePath:
    """DACs of one head: `rows` for K and as many for V, shared by `heads_per_driver` heads."""

    def __init__(self, config: HardwareConfig, cell: Cell, sub_tiles: SubTiles) -> None:
        section = config.write_path
        self.rows = sub_tiles.rows
        self.quantiser = Quantiser(config.levels.key_value, 0.0, config.cell.supply)
        self.pulse_ticks = Clock.of(config.controller.clock).ticks(section.pulse)
        self.heads_per_driver = section.heads_per_driver
        self.arbitration = section.arbitration if self.heads_per_driver > 1 else "static"
        self.energy_per_conversion = section.energy_per_conversion
        self._area = section.area

    def voltages(self, scaled: Array) -> Array:
        """Stored voltages of scaled keys or values, same shape."""
        return self.quantiser.values(self.quantiser.codes(scaled))

    def convert_energy(self, conversions: Array) -> Array:
        """J of that many DAC conversions."""
        return self.energy_per_conversion * conversions

    def footprint(self, heads: int) -> Footprint:
        instances = shared_instances(2 * self.rows, self.heads_per_driver, heads)
        return Footprint("DACs", instances, self._area, ("write_path.area",))
