"""``cell.model: polynomial``: the current of a cell as a polynomial in its stored deviation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.chip.cell import MICROAMPERE
from archsim.chip.variants import variant
from archsim.config.quantity import Quantity
from archsim.config.section import Section

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]


class Polynomial(Section):
    """Cell current at `input_voltage`, in powers of the stored deviation from mid-rail."""

    constant: Annotated[float, Quantity("A", ge=-1, le=1)] = Field(description="C_0")
    linear: Annotated[float, Quantity("A/V", ge=-1, le=1)] = Field(description="C_1")
    quadratic: Annotated[float, Quantity("A/V^2", ge=-1, le=1)] = Field(description="C_2")
    cubic: Annotated[float, Quantity("A/V^3", ge=-1, le=1)] = Field(description="C_3")


@dataclass(frozen=True)
class PolynomialCurrent:
    """`terms` C_0..C_P in uA/V^p of a cell's signed current at full input voltage (FACTS 2)."""

    terms: tuple[float, ...]

    @cached_property
    def coefficients(self) -> Array:
        """The terms as an array (powers + 1,)."""
        return np.array(self.terms)

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


@variant("cell", "polynomial")
class PolynomialCell:
    """Current as a polynomial of the stored deviation from mid-rail."""

    class Config(Section):
        polynomial: Polynomial

    @staticmethod
    def law(config: HardwareConfig) -> PolynomialCurrent:
        """The current law of a cell."""
        p = cast(PolynomialCell.Config, config.cell).polynomial
        amperes = (p.constant, p.linear, p.quadratic, p.cubic)
        return PolynomialCurrent(tuple(each / MICROAMPERE for each in amperes))
