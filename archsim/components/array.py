"""Arrays, sub-tiles and the ring buffer of token slots (FACTS 1).

The K array's word lines are features and its bit lines token slots; the V array is the transpose.
A sub-tile is one of each; a head has as many as its window needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from archsim.components.action import Footprint
from archsim.components.cell import Cell
from archsim.config.hardware import HardwareConfig
from archsim.errors import ConfigError


@dataclass(frozen=True)
class Run:
    """Consecutive tokens [first, stop) whose columns lie in one sub-tile, in order."""

    sub_tile: int
    first: int
    stop: int


class SubTiles:
    """All sub-tiles of one head."""

    def __init__(self, config: HardwareConfig, cell: Cell) -> None:
        self.cell = cell
        self.rows = config.array.rows
        self.columns = config.array.columns
        self.write_during_read = config.array.write_during_read
        self.window = config.window
        self.count = -(-self.window // self.columns)

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
        """Raises ConfigError unless one column holds exactly one head's vector."""
        if head_dim != self.rows:
            raise ConfigError(
                f"head_dim {head_dim} of the input does not fit array.rows {self.rows}; "
                f"set array.rows={head_dim} (splitting a vector over arrays is not modelled)"
            )

    def footprint(self) -> Footprint:
        cells = 2 * self.count * self.rows * self.columns
        return Footprint("cells", cells, self.cell.area, ("cell.area",))
