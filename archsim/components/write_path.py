"""The write path: scaled K and V through multi-level DACs into a column (FACTS 1, 2.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.components.action import Action, Footprint
from archsim.components.cell import Cell
from archsim.components.quantiser import Quantiser
from archsim.config.hardware import HardwareConfig
from archsim.config.quantity import picoseconds

Array = NDArray[np.float64]

CONVERT = Action("DACs", "convert", "dac", "write_key", ("write_path.energy_per_conversion",))
CHARGE = Action(
    "write lines", "charge cells", "dac", "write_key", ("cell.storage_capacitance", "cell.supply")
)


class WritePath:
    """DACs of one head: `rows` for K and as many for V, shared by `heads_per_driver` heads."""

    def __init__(self, config: HardwareConfig, cell: Cell) -> None:
        section = config.write_path
        self.cell = cell
        self.rows = config.array.rows
        self.quantiser = Quantiser(config.levels.key_value, 0.0, config.cell.supply)
        self.pulse_ps = picoseconds(section.pulse)
        self.heads_per_driver = section.heads_per_driver
        self.arbitration = section.arbitration if self.heads_per_driver > 1 else "static"
        self.energy_per_conversion = section.energy_per_conversion
        self._area = section.area

    def voltages(self, scaled: Array) -> Array:
        """Stored voltages of scaled keys or values, same shape."""
        return self.quantiser.values(self.quantiser.codes(scaled))

    @property
    def conversions(self) -> int:
        """DAC conversions a token: a key and a value."""
        return 2 * self.rows

    def convert_energy(self, conversions: Array) -> Array:
        """J of that many DAC conversions."""
        return self.energy_per_conversion * conversions

    def footprint(self) -> Footprint:
        instances = -(-self.conversions // self.heads_per_driver)
        return Footprint("DACs", instances, self._area, ("write_path.area",))
