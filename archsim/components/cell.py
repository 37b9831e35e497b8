"""The gain cell: a stored voltage that sinks or sources a signed current (FACTS 1 and 2).

A read pulse of width t on the word line makes the cell put the charge I(V) t on its bit line.
Reads are non-destructive; the stored deviation from mid-rail fades with age.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from archsim.components.action import Action
from archsim.config.hardware import HardwareConfig, RetentionConfig
from archsim.errors import InvariantError

Array = NDArray[np.float64]

MICROAMPERE = 1e-6

_READ = ("cell.effective_voltage", "cell.model", "cell.polynomial", "retention.model")
READ_KEYS = Action("K arrays", "read current", "qk", "read_key", (*_READ, "pulse_generator.t_max"))
READ_VALUES = Action("V arrays", "read current", "sv", "read_value", (*_READ, "converter.t_max"))


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


def _token_period(retention: RetentionConfig) -> float:
    """Seconds that a token adds; raises InvariantError for auto, which callers work out."""
    if retention.token_period == "auto":
        raise InvariantError(
            "retention.token_period auto reached a cell: use archsim.retention.with_token_period"
        )
    return retention.token_period


class Cell:
    """Current law, retention and energies of one gain cell."""

    def __init__(self, config: HardwareConfig) -> None:
        cell = config.cell
        self.mid_rail = cell.mid_rail
        self.supply = cell.supply
        self.input_voltage = cell.input_voltage
        self.effective_voltage = cell.effective_voltage
        self.storage_capacitance = cell.storage_capacitance
        self.area = cell.area
        self.linear_slope = cell.linear_slope / MICROAMPERE
        """uA/V of the linear cell, and of *ideal* attention."""
        if cell.model == "linear":
            law = [0.0, cell.linear_slope]
        else:
            p = cell.polynomial
            law = [p.constant, p.linear, p.quadratic, p.cubic]
        self.coefficients: Array = np.array(law) / MICROAMPERE
        """C_0..C_P in uA/V^p at `input_voltage` (FACTS 2)."""
        retention = config.retention
        self.decay_per_token = {
            "off": lambda: 0.0,
            "per_token": lambda: retention.decay_per_token,
            "nominal": lambda: _token_period(retention) / retention.tau,
            "simulated": lambda: 0.0,
        }[retention.model]()
        """What a token's time costs a deviation; with ``simulated`` ages come with the times."""

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
        return self.storage_capacitance * self.supply * volts
