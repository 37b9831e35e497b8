"""The gain cell: a stored voltage that sinks or sources a signed current (FACTS 1 and 2).

A read pulse of width t on the word line makes the cell put the charge I(V) t on its bit line.
Reads are non-destructive; the stored deviation from mid-rail fades with age.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.chip.action import Action, Law
from archsim.chip.pulses import longest_converted, longest_query
from archsim.chip.variants import CELL, variant
from archsim.config.kinds import Farads, FollowingVolts, KnownVolts, SquareMetres, Volts
from archsim.config.loading import Section
from archsim.config.quantity import Quantity
from archsim.config.transformer import GPT2_SMALL
from archsim.config.variant_section import VariantSection
from archsim.config.voltages import resolve_shares
from archsim.errors import InvariantError

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]

MICROAMPERE = 1e-6


class Polynomial(Section):
    """Cell current at `input_voltage`, in powers of the stored deviation from mid-rail."""

    constant: Annotated[float, Quantity("A", ge=-1, le=1)] = Field(description="C_0")
    linear: Annotated[float, Quantity("A/V", ge=-1, le=1)] = Field(description="C_1")
    quadratic: Annotated[float, Quantity("A/V^2", ge=-1, le=1)] = Field(description="C_2")
    cubic: Annotated[float, Quantity("A/V^3", ge=-1, le=1)] = Field(description="C_3")


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


@variant("cell", "polynomial")
class PolynomialCell:
    """Current as a polynomial of the stored deviation from mid-rail."""

    class Config(Section):
        polynomial: Polynomial


@variant("cell", "linear")
class LinearCell:
    """Current proportional to the stored deviation: `linear_slope`, as of *ideal* attention."""


def current_law(config: HardwareConfig) -> list[float]:
    """C_0..C_P in A/V^p of the current at `input_voltage` (FACTS 2)."""
    cell = config.cell
    if cell.model == "linear":
        return [0.0, cell.linear_slope]
    p = cast(PolynomialCell.Config, cell).polynomial
    return [p.constant, p.linear, p.quadratic, p.cubic]


def decay_per_token(config: HardwareConfig) -> float:
    """What a token's time costs a deviation; with ``simulated`` ages come with the times."""
    retention = config.retention
    model = retention.model
    if model == "per_token":
        return retention.decay_per_token
    if model == "nominal":
        if retention.token_period == "auto":  # `archsim.retention` works it out, from this
            return math.nan * config.digital.step_s(GPT2_SMALL) / retention.tau
        return retention.token_period / retention.tau
    return 0.0


def decay_rate(config: HardwareConfig) -> float:
    """Decay of a deviation in 1/s, of ages that come with the times (``simulated``)."""
    return 1 / config.retention.tau


def fading(config: HardwareConfig) -> float:
    """What takes a stored deviation away: `decay_rate` or `decay_per_token`, as configured."""
    if config.retention.model == "simulated":
        return decay_rate(config)
    return decay_per_token(config)


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


_CHARGE: tuple[Law, ...] = (current_law, fading)
READ_KEYS = Action(
    "K arrays", "read current", "qk", "read_key", read_voltage, (*_CHARGE, longest_query)
)
READ_VALUES = Action(
    "V arrays", "read current", "sv", "read_value", read_voltage, (*_CHARGE, longest_converted)
)


@dataclass(frozen=True)
class CurrentTable:
    """A measured current law: signed currents in uA at rising deviations in V, linear between.

    Beyond its ends the table holds the last current. A cell's `current` may be any such law.
    """

    deviations: Array
    currents: Array

    def current(self, deviation: Array) -> Array:
        """Signed current in uA of cells at a deviation (V), any shape."""
        current: Array = np.interp(deviation, self.deviations, self.currents)
        return current


class Cell:
    """Current law, retention and energies of one gain cell."""

    def __init__(self, config: HardwareConfig) -> None:
        cell = config.cell
        self.mid_rail, self.supply = swing(config)
        self.input_voltage = cell.input_voltage
        self.effective_voltage = read_voltage(config)
        self._energy_per_volt = energy_per_volt(config)
        self.area = cell_area(config)
        self.linear_slope = cell.linear_slope / MICROAMPERE
        """uA/V of the linear cell, and of *ideal* attention."""
        self.coefficients: Array = np.array(current_law(config)) / MICROAMPERE
        """C_0..C_P in uA/V^p at `input_voltage` (FACTS 2)."""
        self.decay_per_token = decay_per_token(config)
        if math.isnan(self.decay_per_token):
            raise InvariantError(
                "retention.token_period auto reached a cell: use "
                "archsim.retention.with_token_period"
            )

    def current(self, deviation: Array, out: Array | None = None) -> Array:
        """Signed current in uA of cells at a deviation (V), any shape; into `out` if given."""
        current: Array = np.multiply(deviation, self.coefficients[-1], out=out)
        current += self.coefficients[-2]
        for coefficient in self.coefficients[-3::-1]:
            current *= deviation
            current += coefficient
        return current

    @cached_property
    def silent_at(self) -> list[float]:
        """Deviations (V) at which a cell sends no current."""
        roots = np.roots(self.coefficients[::-1])
        return [float(root) for root in roots.real[np.abs(roots.imag) < 1e-12]]

    def keeps_sign(self, deviation: Array, fade: float) -> bool:
        """Whether no cell's current changes sign while its deviation shrinks by `fade`."""
        for root in self.silent_at:
            passing = root / fade if fade > 0 else math.copysign(math.inf, root)
            low, high = min(root, passing), max(root, passing)
            if bool(np.any((deviation > low) & (deviation < high))):  # ends beyond the root
                return False
        return True

    def read_energy(self, absolute_charge: Array) -> Array:
        """J drawn by cells that move `absolute_charge` (C, signs dropped) (FACTS 3, derived)."""
        return self.effective_voltage * absolute_charge

    def write_energy(self, volts: Array) -> Array:
        """J to charge storage capacitors from the supply to the summed voltages `volts`."""
        return self._energy_per_volt * volts
