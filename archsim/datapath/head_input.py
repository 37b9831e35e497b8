"""What the two products of one head are asked to compute, whichever way they do it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.chip.array import Run
from archsim.chip.cell import CellLaw
from archsim.chip.cells.polynomial import PolynomialCurrent
from archsim.chip.quantiser import Grid
from archsim.datapath.ages import Ages, CellTimes
from archsim.datapath.products import PANEL

Array = NDArray[np.float64]


Retention = Callable[[Array], Array]
"""What remains of a deviation, 1 to 0, at an age in the unit of the `Ages`."""


@dataclass(frozen=True)
class HeadInput:
    """One head: `query` pulse widths / T_max and stored deviations in V, (tokens, features) each.

    Without a `retention` law a deviation fades by ``exp(-rate x age)``. The full scales are the
    summed currents, in uA, that the converters turn into T_max: the products are in their units.
    `parts` are the features that one converter of a K column sums up: all, or a part each. The
    grids say what pulse widths and deviations are multiples of; None where they are not.
    """

    query: Array
    key_deviation: Array
    value_deviation: Array
    law: CellLaw
    retention: Retention | None
    ages: Ages
    window: int
    score_full_scale: float
    output_full_scale: float
    parts: tuple[slice, ...]
    query_grid: Grid | None = None
    stored_grid: Grid | None = None

    @property
    def fades(self) -> bool:
        """Whether an age makes any difference."""
        return self.retention is not None or self.ages.keys.rate > 0 or self.ages.values.rate > 0

    @property
    def polynomial(self) -> PolynomialCurrent | None:
        """The cell's law, if it is a polynomial, and fades as one exponential of rows and columns.

        What is refreshed between two rows is not the same for both.
        """
        apart = self.ages.keys.restored is None and self.ages.values.restored is None
        law = self.law if self.retention is None and apart else None
        return law if isinstance(law, PolynomialCurrent) else None

    @property
    def panels(self) -> bool:
        """Whether matrix products over powers are exact; otherwise cells are looked up."""
        return not self.fades or self.polynomial is not None

    @functools.cached_property
    def pulses(self) -> Array:
        """`query` as pulses: never negative or longer than T_max, even from an ideal quantiser."""
        if self.query.min() >= 0.0 and self.query.max() <= 1.0:
            return self.query
        return np.clip(self.query, 0.0, 1.0)

    def remaining(self, times: CellTimes, rows: slice, columns: slice) -> Array:
        """What remains of the deviations of `columns` when `rows` read them, (rows, columns)."""
        age = times.age(rows, columns)
        return np.exp(-times.rate * age) if self.retention is None else self.retention(age)


@dataclass(frozen=True)
class VisibleColumns:
    """What rows see of the columns of one run, while or after it is written into its sub-tile.

    A sub-tile is overwritten column by column: rows from the run's first token on see its columns
    up to their own, and a window later, when the next run overwrites it, the columns that are left.
    `overwritten` is that second phase.
    """

    run: Run
    window: int
    overwritten: bool = False

    @property
    def rows(self) -> tuple[int, int]:
        """The rows that see anything, first and stop."""
        first, columns = self.run.first, self.run.stop - self.run.first
        if self.overwritten:
            return first + self.window, first + self.window + columns - 1
        return first, first + self.window

    @property
    def whole(self) -> tuple[int, int]:
        """The rows of the whole panels that hold these, first and stop."""
        first, stop = self.rows
        return first // PANEL * PANEL, -(-stop // PANEL) * PANEL

    def clear(self, lines: NDArray[Any], first_row: int) -> None:
        """Set what rows do not see in (columns, rows), from a panel's first row on, to 0."""
        columns, rows = lines.shape
        for n in range(0, rows, PANEL):
            offset = first_row + n - self.run.first
            if not self.overwritten and columns <= offset <= self.window - PANEL:
                continue  # sees all
            kept = _kept(offset, columns, self.window, self.overwritten, lines.itemsize)
            if kept is not None:  # bit by bit: twice as fast as copying zeros where they belong
                bits = lines[:, n : n + PANEL].view(kept.dtype)
                np.bitwise_and(bits, kept, out=bits)


@functools.lru_cache(maxsize=1024)
def _kept(
    offset: int, columns: int, window: int, overwritten: bool, itemsize: int
) -> NDArray[Any] | None:
    """Bits of a panel that are kept, (columns, PANEL): all of what it sees; None if it sees all.

    `offset` of its first row is counted from the run.
    """
    row = np.arange(offset, offset + PANEL)
    age = row - np.arange(columns)[:, None]
    gone = (age >= window) | (row < window)
    hidden = gone if overwritten else (age < 0) | (row >= window)
    return (hidden - np.int8(1)).astype(f"i{itemsize}") if hidden.any() else None
