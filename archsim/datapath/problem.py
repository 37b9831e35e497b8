"""What the two products of one head are asked to compute, whichever way they do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from archsim.components.cell import Cell
from archsim.datapath.ages import Ages, CellTimes

Array = NDArray[np.float64]


class CellLaw(Protocol):
    """How much current a cell sends: `archsim.components.cell.Cell`, a measured table, ..."""

    def current(self, deviation: Array) -> Array:
        """Signed current in uA of cells at a deviation (V), any shape."""
        ...


Retention = Callable[[Array], Array]
"""What remains of a deviation, 1 to 0, at an age in the unit of the `Ages`."""


@dataclass(frozen=True)
class HeadProblem:
    """One head: `query` pulse widths / T_max and stored deviations in V, (tokens, features) each.

    Without a `retention` law a deviation fades by ``exp(-rate x age)``.
    """

    query: Array
    key_deviation: Array
    value_deviation: Array
    law: CellLaw
    retention: Retention | None
    ages: Ages
    window: int

    @property
    def fades(self) -> bool:
        """Whether an age makes any difference."""
        return self.retention is not None or self.ages.keys.rate > 0 or self.ages.values.rate > 0

    @property
    def polynomial(self) -> Cell | None:
        """The cell, if its law is a polynomial and its retention one exponential."""
        return self.law if isinstance(self.law, Cell) and self.retention is None else None

    @property
    def panels(self) -> bool:
        """Whether matrix products over powers are exact; otherwise cells are looked up."""
        return not self.fades or self.polynomial is not None

    @property
    def pulses(self) -> Array:
        """`query` as pulses: never negative or longer than T_max, even from an ideal quantiser."""
        return np.clip(self.query, 0.0, 1.0)

    def remaining(self, times: CellTimes, rows: slice, columns: slice) -> Array:
        """What remains of the deviations of `columns` when `rows` read them, (rows, columns)."""
        age = times.age(rows, columns)
        return np.exp(-times.rate * age) if self.retention is None else self.retention(age)


@dataclass(frozen=True)
class Hidden:
    """Which columns of a turning sub-tile the rows of a panel do not see.

    A sub-tile that is overwritten column by column holds the new run up to the row's own column and
    the old run behind it. `diagonal` is the column that the first row writes.
    """

    diagonal: int
    newer: bool

    def clear(self, array: NDArray[Any]) -> None:
        """Set what (rows, columns) does not see to 0."""
        columns = array.shape[1]
        rows = min(len(array), columns - self.diagonal)
        if rows > 0:
            seen = np.tri(rows, columns, self.diagonal, dtype=bool)
            np.copyto(array[:rows], 0.0, where=~seen if self.newer else seen)
