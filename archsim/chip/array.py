"""Arrays, sub-tiles and the ring buffer of token slots (FACTS 1).

The K array's word lines are features and its bit lines token slots; the V array is the transpose.
A sub-tile is one of each; a head has as many as its window needs.

Arrays of another height than the head's dimension: rows beyond it are built and stay unused; where
there are fewer, a sub-tile stacks as many K arrays as it takes, and has as many V arrays side by
side, each with signed converters of its own. With ``readout.model: charge_to_pulse`` the bit lines
of stacked K arrays are joined into one converter, so that a column still holds one dot product:
what a token does is the same; instances and areas are not. That longer bit lines load their
converter more is not modelled. With ``digital_sum`` each array converts its own part
(`archsim.chip.row_split`).

V arrays need no such choice: their bit lines are features, so fewer rows are fewer bit lines, each
of them whole. Their sums over token slots are digital already, sub-tile by sub-tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from archsim.chip.action import Action, Footprint
from archsim.chip.cell import MICROAMPERE, Cell, cell_area
from archsim.chip.work import Implied, Shapes, Spent, Work
from archsim.config.loading import Section
from archsim.errors import ConfigError

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig


class ArrayConfig(Section):
    """One gain-cell array: rows hold features, columns hold token slots."""

    rows: Annotated[int, Field(ge=1, le=4096)]
    columns: Annotated[int, Field(ge=1, le=4096)]
    write_during_read: bool = False


def geometry(config: HardwareConfig) -> tuple[int, int, int]:
    """Window, columns and rows of an array."""
    return config.window, config.array.columns, config.array.rows


def writes_during_read(config: HardwareConfig) -> bool:
    """Whether an array may be written while it is read."""
    return config.array.write_during_read


@dataclass(frozen=True)
class Run:
    """Consecutive tokens [first, stop) whose columns lie in one sub-tile, in order."""

    sub_tile: int
    first: int
    stop: int


class SubTiles:
    """All sub-tiles of one head."""

    def __init__(self, config: HardwareConfig, cell: Cell, head_dim: int | None = None) -> None:
        """`head_dim` features are stored in `rows` rows; None: as many as an array has."""
        self.cell = cell
        self.window, self.columns, rows = geometry(config)
        self.features = rows if head_dim is None else head_dim
        self.stacked = -(-self.features // rows)
        self.rows = self.stacked * rows
        self.parts = self._parts(config)
        """Features whose products are summed on one bit line: all, or those of one array each."""
        self.write_during_read = writes_during_read(config)
        self.count = -(-self.window // self.columns)

    def _parts(self, config: HardwareConfig) -> tuple[slice, ...]:
        if not config.splits_digitally(self.features):
            return (slice(0, self.features),)
        each = config.array.rows
        return tuple(
            slice(first, min(first + each, self.features))
            for first in range(0, self.features, each)
        )

    @property
    def slots(self) -> int:
        """Physical token slots: whole columns, so never fewer than the window."""
        return self.count * self.columns

    def slot(self, token: int) -> int:
        """The ring-buffer slot a token is written to."""
        return token % self.window

    def sub_tile(self, token: int) -> int:
        return self.slot(token) // self.columns

    def columns_attended(self, tokens: int) -> int:
        """Columns in the window, summed over the first `tokens` tokens of one head."""
        filling = min(tokens, self.window)
        return filling * (filling + 1) // 2 + (tokens - filling) * self.window

    def runs(self, first: int, stop: int) -> list[Run]:
        """Tokens [first, stop) cut where the sub-tile changes (at its edge, or at the wrap)."""
        runs = []
        while first < stop:
            slot = self.slot(first)
            end = min((slot // self.columns + 1) * self.columns, self.window)
            until = min(stop, first + end - slot)
            runs.append(Run(slot // self.columns, first, until))
            first = until
        return runs

    def check_features(self, head_dim: int) -> None:
        """Raises ConfigError unless the head was made for vectors of this length."""
        if head_dim != self.features:
            raise ConfigError(
                f"head_dim {head_dim} of the input does not fit a head made for {self.features}"
            )

    def footprint(self) -> Footprint:
        cells = 2 * self.count * self.rows * self.columns
        return Footprint("cells", cells, self.cell.area, (cell_area,))


@dataclass(frozen=True)
class Arrays:
    """The K or the V arrays of a head as pulses of at most `t_max` seconds read them.

    `read` is the action, `current` the activity that says how much flows in it.
    """

    cell: Cell
    features: int
    read: Action
    current: str
    t_max: float

    def spend(self, work: Work) -> Spent:
        charge = work.activity(self.current) * (MICROAMPERE * self.t_max)
        yield self.read, self.cell.read_energy(charge), work.columns * self.features

    def implied(self, shapes: Shapes) -> Implied:
        cells = shapes.heads * int(shapes.seen.sum()) * shapes.features
        yield self.read, cells, cells
