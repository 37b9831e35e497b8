"""The gain cell: a stored voltage that sinks or sources a signed current (FACTS 1 and 2).

A read pulse of width t on the word line makes the cell put the charge I(V) t on its bit line.
Reads are non-destructive; the stored deviation from mid-rail fades with age.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.chip.action import Action, Law
from archsim.chip.pulses import longest_converted, longest_query
from archsim.chip.retention import fading, known_decay
from archsim.chip.variants import CELL
from archsim.config.kinds import Farads, FollowingVolts, KnownVolts, SquareMetres, Volts
from archsim.config.quantity import Quantity
from archsim.config.variant_section import VariantSection
from archsim.config.variants import find
from archsim.config.voltages import resolve_shares

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]

MICROAMPERE = 1e-6


class CellConfig(VariantSection):
    """The gain cell: storage capacitor, write transistor, push-pull transconductor."""

    slot = CELL.name

    model: str = "polynomial"
    linear_slope: Annotated[float, Quantity("A/V", ge=1e-12, le=1)] = Field(
        description="current per volt of the linear cell"
    )
    input_voltage: FollowingVolts = Field(description="amplitude of word-line pulses")
    supply: Volts = Field(description="stored voltages span 0 to this")
    mid_rail: FollowingVolts = Field(
        description="the stored voltage that means zero; cells decay to it"
    )
    effective_voltage: FollowingVolts = Field(description="read energy = this x |current| x pulse")
    fit_supply: KnownVolts = Field(
        default=None, description="supply at which the coefficients of this file hold"
    )
    fit_mid_rail: KnownVolts = Field(default=None, description="mid-rail at which they hold")
    fit_input_voltage: KnownVolts = Field(
        default=None, description="amplitude of word-line pulses at which they hold"
    )
    storage_capacitance: Farads
    area: SquareMetres

    @model_validator(mode="before")
    @classmethod
    def _follow_the_supply(cls, values: Any) -> Any:
        return resolve_shares(values)


def swing(config: HardwareConfig) -> tuple[float, float]:
    """V of mid-rail, from which a deviation counts, and of the supply."""
    return config.cell.mid_rail, config.cell.supply


def read_voltage(config: HardwareConfig) -> float:
    """V that the charge of a read is drawn from."""
    return config.cell.effective_voltage


def energy_per_volt(config: HardwareConfig) -> float:
    """J a volt to charge a storage capacitor from the supply."""
    return config.cell.storage_capacitance * config.cell.supply


def cell_area(config: HardwareConfig) -> float:
    """m^2 of one cell."""
    return config.cell.area


class CellLaw(Protocol):
    """How much current a cell sends: a polynomial, a measured table, ...

    A frozen dataclass of numbers: its values are the key under which results are kept.
    """

    def current(self, deviation: Array) -> Array:
        """Signed current in uA of cells at a deviation (V) from mid-rail, any shape."""
        ...


def current_law(config: HardwareConfig) -> CellLaw:
    """The current law that ``cell.model`` names (FACTS 2)."""
    law: CellLaw = find("cell", config.cell.model).law(config)
    return law


def linear_slope(config: HardwareConfig) -> float:
    """uA/V of the linear cell, and of *ideal* attention."""
    return config.cell.linear_slope / MICROAMPERE


_CHARGE: tuple[Law, ...] = (current_law, fading)
READ_KEYS = Action(
    "K arrays", "read current", "qk", "read_key", read_voltage, (*_CHARGE, longest_query)
)
READ_VALUES = Action(
    "V arrays", "read current", "sv", "read_value", read_voltage, (*_CHARGE, longest_converted)
)


def silent_at(law: CellLaw, low: float, high: float) -> list[float]:
    """Deviations (V) from `low` to `high`, of a polynomial any, at which no current flows.

    Of another law: where the current changes sign between two of 4,001 deviations, to a line.
    """
    roots: list[float] | None = getattr(law, "silent_at", None)
    if roots is not None:
        return roots
    deviation = np.linspace(low, high, 4001)
    current = law.current(deviation)
    turns = np.flatnonzero(np.signbit(current[:-1]) != np.signbit(current[1:]))
    share = current[turns] / (current[turns] - current[turns + 1])
    found = deviation[turns] + share * np.diff(deviation)[turns]
    return [float(each) for each in found]


class Cell:
    """Current law and energies of one gain cell."""

    def __init__(self, config: HardwareConfig) -> None:
        self.mid_rail, self.supply = swing(config)
        self.input_voltage = config.cell.input_voltage
        self.effective_voltage = read_voltage(config)
        self._energy_per_volt = energy_per_volt(config)
        self.area = cell_area(config)
        self.law = current_law(config)
        self.decay_per_token = known_decay(config)

    @property
    def deviations(self) -> tuple[float, float]:
        """V of the lowest and the highest deviation that can be stored."""
        return -self.mid_rail, self.supply - self.mid_rail

    def current(self, deviation: Array) -> Array:
        """Signed current in uA of cells at a deviation (V), any shape."""
        return self.law.current(deviation)

    def read_energy(self, absolute_charge: Array) -> Array:
        """J drawn by cells that move `absolute_charge` (C, signs dropped) (FACTS 3, derived)."""
        return self.effective_voltage * absolute_charge

    def write_energy(self, volts: Array) -> Array:
        """J to charge storage capacitors from the supply to the summed voltages `volts`."""
        return self._energy_per_volt * volts
