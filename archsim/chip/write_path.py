"""The write path: scaled K and V through multi-level DACs into a column (FACTS 1, 2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.chip.action import Action, Bucket, Footprint
from archsim.chip.array import SubTiles
from archsim.chip.cell import Cell, energy_per_volt
from archsim.chip.quantiser import Quantiser
from archsim.chip.stage import WRITE_KEY, WRITE_VALUE, After, Declared, Hold, Phase, Turns
from archsim.chip.work import Footprints, Implied, Shapes, Spent, Work
from archsim.config.clock import Clock
from archsim.config.kinds import Arbitration, Duration, Joules, Sharing, SquareMetres
from archsim.config.loading import Section

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]


class WritePathConfig(Section):
    """DACs and write lines; one column a token."""

    pulse: Duration
    heads_per_driver: Sharing = 1
    arbitration: Arbitration = "static"
    energy_per_conversion: Joules
    area: SquareMetres = Field(description="of one DAC")

    def inactive(self) -> frozenset[str]:
        return frozenset({"arbitration"} if self.heads_per_driver == 1 else ())


def energy_per_conversion(config: HardwareConfig) -> float:
    """J of one DAC conversion."""
    return config.write_path.energy_per_conversion


def dac_area(config: HardwareConfig) -> float:
    """m^2 of one DAC."""
    return config.write_path.area


def write_time(config: HardwareConfig) -> float:
    """s of a write pulse."""
    return config.write_path.pulse


def driver_sharing(config: HardwareConfig) -> Turns:
    """How many heads a set of DACs serves, and in which order."""
    return Turns.of(config.write_path, "heads_per_driver")


def stored_levels(config: HardwareConfig) -> Quantiser:
    """From scaled keys and values to stored voltages."""
    return Quantiser(config.levels.key_value, 0.0, config.cell.supply)


CONVERT_KEYS = Action("DACs", "convert K", "dac", WRITE_KEY, energy_per_conversion)
CONVERT_VALUES = Action("DACs", "convert V", "dac", WRITE_VALUE, energy_per_conversion)
CHARGE_KEYS = Action("write lines", "charge K cells", "dac", WRITE_KEY, energy_per_volt)
CHARGE_VALUES = Action("write lines", "charge V cells", "dac", WRITE_VALUE, energy_per_volt)


class WritePath:
    """DACs of one head: `rows` for K and as many for V, shared by `heads_per_driver` heads."""

    def __init__(self, config: HardwareConfig, cell: Cell, sub_tiles: SubTiles) -> None:
        self.rows, self._cell = sub_tiles.rows, cell
        self.quantiser = stored_levels(config)
        self.pulse_ticks = Clock.of(config.controller.clock).ticks(write_time(config))
        self.turns = driver_sharing(config)
        self.energy_per_conversion = energy_per_conversion(config)
        self._area = dac_area(config)

    total: Bucket = "dac"

    def voltages(self, scaled: Array) -> Array:
        """Stored voltages of scaled keys or values, same shape."""
        return self.quantiser.values(self.quantiser.codes(scaled))

    def convert_energy(self, conversions: Array) -> Array:
        """J of that many DAC conversions."""
        return self.energy_per_conversion * conversions

    def spend(self, work: Work) -> Spent:
        for convert, charge, stored in (
            (CONVERT_KEYS, CHARGE_KEYS, "stored_keys"),
            (CONVERT_VALUES, CHARGE_VALUES, "stored_values"),
        ):
            yield convert, self.convert_energy(work.written), work.written
            yield charge, self._cell.write_energy(work.activity(stored)), work.written

    def implied(self, shapes: Shapes) -> Implied:
        written = shapes.visits * shapes.features
        for action in (CONVERT_KEYS, CHARGE_KEYS, CONVERT_VALUES, CHARGE_VALUES):
            yield action, written, written

    def stages(self, heads: int) -> Declared:
        """K and V are written side by side, each by DACs of its own."""
        yield self.turns.resource("K DACs", heads)
        yield self.turns.resource("V DACs", heads)
        yield Phase(WRITE_KEY, (), self.pulse_ticks, (write_time,), one_unit=True)
        beside = (After(WRITE_KEY, "start"),)
        yield Phase(WRITE_VALUE, beside, self.pulse_ticks, (write_time,), one_unit=True)
        yield Hold("K DACs", WRITE_KEY, WRITE_KEY)
        yield Hold("V DACs", WRITE_VALUE, WRITE_VALUE)

    def footprints(self, heads: int) -> Footprints:
        instances = self.turns.instances(2 * self.rows, heads)
        yield Footprint("DACs", instances, self._area, (dac_area,))
