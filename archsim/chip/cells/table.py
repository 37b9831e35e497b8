"""``cell.model: table``: the current of a cell as it was measured, or simulated, at some voltages.

A table is CSV with units in its header, in one of three layouts: ``stored_V, current_uA``; a column
a read voltage, ``stored_V, current_uA@0.45V, current_uA@0.9V``; or a grid of amperes over both,
whose first cell is ``stored_V\\input_V``. Between its points it is interpolated; beyond them it is
not used.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.chip.variants import variant
from archsim.config.file_content import FileContent
from archsim.config.quantity import POWERS_OF_TEN
from archsim.config.section import Section
from archsim.errors import ConfigError, one_line

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]

Interpolation = Literal["linear", "monotone"]

MOST_NUMBERS = 10_000
LARGEST_CURRENT = 1e4
"""uA of one cell, far beyond any: whoever has more has another unit."""

WHAT = "a CSV file, columns stored_V, current_uA"

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_STORED = re.compile(r"stored_(\w+)")
_CURRENT = re.compile(rf"current_(\w+?)(?:@\s*({_NUMBER.pattern})\s*([A-Za-z]+))?")
_GRID = re.compile(r"\w+_(m?V)\\\w+_(m?V)")


@dataclass(frozen=True)
class CurrentTable:
    """Signed currents in uA of a cell at rising `deviations` in V (FACTS 2).

    Between them linear, or ``monotone``: cubic pieces that never overshoot. At its ends the current
    stays what it is there.
    """

    deviations: tuple[float, ...]
    currents: tuple[float, ...]
    interpolation: Interpolation = "linear"

    @cached_property
    def _points(self) -> tuple[Array, Array]:
        return np.array(self.deviations), np.array(self.currents)

    @cached_property
    def _pieces(self) -> tuple[Array, ...]:
        return monotone_pieces(*self._points)

    def current(self, deviation: Array) -> Array:
        """Signed current in uA of cells at a deviation (V) from mid-rail, any shape."""
        at, currents = self._points
        if self.interpolation == "linear" or len(at) == 1:
            current: Array = np.interp(deviation, at, currents)
            return current
        x = np.clip(deviation, at[0], at[-1])
        piece = np.searchsorted(at[1:-1], x, side="right")
        x -= at[piece]
        value = self._pieces[-1][piece]
        for coefficients in self._pieces[-2::-1]:
            value *= x
            value += coefficients[piece]
        return value


def monotone_pieces(x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
    """Coefficients of ``(x - x_k)^0..3`` between points x_k: cubic pieces with a steady slope.

    Each runs from point to point without turning in between: Fritsch and Butland's slopes (SIAM J.
    Sci. Stat. Comput. 5, 300, 1984), a weighted harmonic mean of the slopes on both sides, and 0
    where the points turn. The same as SciPy's ``PchipInterpolator``.
    """
    width = np.diff(x)
    rise = np.diff(y) / width
    slope = np.zeros_like(y)
    if len(x) == 2:
        slope[:] = rise[0]
    else:
        left, right = rise[:-1], rise[1:]
        steady = np.flatnonzero(left * right > 0)
        before, after = width[steady], width[steady + 1]
        heavy, light = before + 2 * after, 2 * before + after
        mean = (heavy + light) / (light / left[steady] + heavy / right[steady])
        slope[1 + steady] = mean
        slope[0] = _end_slope(width[0], width[1], rise[0], rise[1])
        slope[-1] = _end_slope(width[-1], width[-2], rise[-1], rise[-2])
    first, last = slope[:-1], slope[1:]
    quadratic = (3 * rise - 2 * first - last) / width
    return y[:-1], first, quadratic, (first + last - 2 * rise) / width**2


def _end_slope(width: float, next_width: float, rise: float, next_rise: float) -> float:
    """The slope at an end: of a parabola through three points, cut so that nothing overshoots."""
    slope = ((2 * width + next_width) * rise - width * next_rise) / (width + next_width)
    if slope * rise <= 0:
        return 0.0
    if rise * next_rise <= 0 and abs(slope) > 3 * abs(rise):
        return 3 * rise
    return slope


@dataclass(frozen=True)
class Measured:
    """Currents in uA (stored, read) at rising stored voltages and read voltages, both in V.

    `read` is empty where the table does not say at which voltage its one column was read.
    """

    stored: tuple[float, ...]
    read: tuple[float, ...]
    currents: tuple[tuple[float, ...], ...]

    def text(self) -> str:
        """As kept in a config: reads back to the same numbers."""
        columns = [f"current_uA@{volts!r}V" for volts in self.read] or ["current_uA"]
        rows = zip(self.stored, self.currents, strict=True)
        lines = [[repr(volts), *map(repr, currents)] for volts, currents in rows]
        return "; ".join(", ".join(line) for line in [["stored_V", *columns], *lines])


@functools.lru_cache(maxsize=16)
def measured(text: str) -> Measured:
    """A table from CSV; rows may also be divided by semicolons. ValueError for anything else."""
    lines = re.split(r"[\n;]", text.replace("\r", ""))
    rows = [
        (number, [cell.strip().strip('"') for cell in line.split(",")])
        for number, line in enumerate(lines, 1)
        if line.strip(" ,\t") and not line.lstrip().startswith("#")
    ]
    if not rows:
        raise ValueError(f"an empty table; give {WHAT}")
    header = rows.pop(0)[1]
    volts, amperes, read = _header(header)
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} row of numbers: a table has two or more")
    if len(rows) * len(header) > MOST_NUMBERS:
        raise ValueError(
            f"{len(rows) * len(header):,} numbers: a table has at most {MOST_NUMBERS:,}"
        )
    stored, currents = [], []
    for number, row in rows:
        if len(row) != len(header):
            raise ValueError(f"row {number}: {len(row)} columns, the header has {len(header)}")
        stored.append(_number(row[0], volts, f"row {number}"))
        currents.append(tuple(_number(cell, amperes, f"row {number}") for cell in row[1:]))
        if any(abs(current) > LARGEST_CURRENT for current in currents[-1]):
            raise ValueError(f"row {number}: a current beyond 10 mA; check the unit in the header")
        if len(stored) > 1 and stored[-2] >= stored[-1]:
            raise ValueError(f"row {number}: stored voltages must rise")
    return Measured(tuple(stored), read, tuple(currents))


def _header(cells: list[str]) -> tuple[int, int, tuple[float, ...]]:
    """Powers of ten of stored voltages in V and of currents in uA, and the read voltages in V."""
    if len(cells) < 2:
        raise ValueError(f"the header is {one_line(cells[0], 40)!r}; give {WHAT}")
    if (grid := _GRID.fullmatch(cells[0])) is not None:
        power = POWERS_OF_TEN["V"][grid[2]]
        read = tuple(_number(cell, power, "header") for cell in cells[1:])
        return POWERS_OF_TEN["V"][grid[1]], 6, _rising(read)
    stored = _STORED.fullmatch(cells[0])
    if stored is None or stored[1] not in POWERS_OF_TEN["V"]:
        raise ValueError(f"column 1 is {one_line(cells[0], 40)!r}: call it stored_V or stored_mV")
    found = [_CURRENT.fullmatch(cell.replace("µ", "u").replace("μ", "u")) for cell in cells[1:]]
    units, volts = set(), []
    for index, (cell, column) in enumerate(zip(cells[1:], found, strict=True), 2):
        shown = f"column {index} is {one_line(cell, 40)!r}"
        if column is None or column[1] not in POWERS_OF_TEN["A"]:
            raise ValueError(f"{shown}: call it current_uA (A, mA, uA, nA), or current_uA@0.9V")
        units.add(column[1])
        if column[2] is not None:
            if column[5] not in POWERS_OF_TEN["V"]:
                raise ValueError(f"{shown}: a read voltage is in V or mV, like current_uA@0.9V")
            volts.append(_number(column[2], POWERS_OF_TEN["V"][column[5]], "header"))
        elif len(cells) > 2:
            raise ValueError(f"{shown}: of several columns each names its read voltage, like @0.9V")
    if len(units) > 1:
        raise ValueError("columns of several units: give all currents in one")
    return POWERS_OF_TEN["V"][stored[1]], POWERS_OF_TEN["A"][units.pop()] + 6, _rising(tuple(volts))


def _rising(volts: tuple[float, ...]) -> tuple[float, ...]:
    if any(a >= b for a, b in pairwise(volts)):
        raise ValueError("read voltages must rise from column to column")
    return volts


def _number(cell: str, power: int, where: str) -> float:
    """The float nearest to what is written, times a power of ten."""
    if _NUMBER.fullmatch(cell) is None:
        raise ValueError(f"{where}: {one_line(cell, 40)!r} is no number")
    return float(Decimal(cell).scaleb(power))


@functools.lru_cache(maxsize=16)
def _table(
    text: str, interpolation: Interpolation, read: float | None, mid_rail: float
) -> CurrentTable:
    """The currents of a table at a read voltage, None if it has but one column of any."""
    found = measured(text)
    if read is None:
        currents = tuple(row[0] for row in found.currents)
    else:
        at = np.array([read])
        by_row = (CurrentTable(found.read, row, interpolation) for row in found.currents)
        currents = tuple(float(each.current(at)[0]) for each in by_row)
    deviations = tuple(volts - mid_rail for volts in found.stored)
    return CurrentTable(deviations, currents, interpolation)


def _is_table(text: str) -> bool:
    """Whether a text is a table, not the name of a file."""
    return ";" in text or "\n" in text


def _as_kept(text: str) -> str:
    return measured(text).text()


@variant("cell", "table")
class TableCell:
    """Current from a table of measured or simulated points."""

    class Config(Section):
        table: Annotated[str, FileContent(WHAT, _is_table, _as_kept)] = Field(
            description="CSV file: stored_V, current_uA; or a column a read voltage, "
            "current_uA@0.9V"
        )
        interpolation: Interpolation = Field(
            default="linear", description="between points: linear, or monotone cubic pieces"
        )

    @staticmethod
    def check(config: HardwareConfig) -> None:
        """Raises ValueError unless the table covers all that the cells need of it."""
        cell = config.cell
        found = measured(cast(TableCell.Config, cell).table)
        low, high = found.stored[0], found.stored[-1]
        if low > 0 or high < cell.supply:
            raise ValueError(
                f"cell.table: covers stored voltages from {low:g} to {high:g} V; cells store 0 to "
                f"cell.supply, {cell.supply:g} V"
            )
        if found.read and not found.read[0] <= cell.input_voltage <= found.read[-1]:
            raise ValueError(
                f"cell.table: covers read voltages from {found.read[0]:g} to {found.read[-1]:g} V; "
                f"cell.input_voltage is {cell.input_voltage:g} V"
            )

    @staticmethod
    def notes(config: HardwareConfig) -> Iterator[str]:
        """That a table does not say at which voltage it was read, where another one is used."""
        cell = config.cell
        fitted = cell.fit_input_voltage
        if fitted in {None, cell.input_voltage}:
            return
        if not measured(cast(TableCell.Config, cell).table).read:
            yield (
                "cell.table names no read voltage: its currents are taken as they are at "
                f"cell.input_voltage {cell.input_voltage:g} V (columns like current_uA@0.9V follow)"
            )

    @staticmethod
    def law(config: HardwareConfig) -> CurrentTable:
        """The current law of a cell. Raises ConfigError as `check` does."""
        try:
            TableCell.check(config)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        chosen = cast(TableCell.Config, config.cell)
        read = config.cell.input_voltage if measured(chosen.table).read else None
        return _table(chosen.table, chosen.interpolation, read, config.cell.mid_rail)
