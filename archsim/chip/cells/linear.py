"""``cell.model: linear``: a current proportional to the stored deviation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.chip.cell import MICROAMPERE
from archsim.chip.cells.polynomial import PolynomialCurrent
from archsim.chip.variants import variant

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig


@variant("cell", "linear")
class LinearCell:
    """Current proportional to the stored deviation: `linear_slope`, as of *ideal* attention."""

    @staticmethod
    def law(config: HardwareConfig) -> PolynomialCurrent:
        """The current law of a cell."""
        return PolynomialCurrent((0.0, config.cell.linear_slope / MICROAMPERE))
