"""Arrays, sub-tiles and the ring buffer of token slots (FACTS 1).

The K array's word lines are features and its bit lines token slots; the V array is the transpose.
A sub-tile is one of each; a head has as many as its window needs.

Arrays of another height than the head's dimension: rows beyond it are built and stay unused; where
there are fewer, a sub-tile stacks as many K arrays as it takes, and has as many V arrays side by
side, each with signed converters of its own. With ``readout.model: charge_to_pulse`` the bit lines
of stacked K arrays are joined into one converter, so that a column still holds one dot product:
what a token does is the same; instances and areas are not. That longer bit lines load their
converter more is not modelled. Digital readouts convert each array's own part
(`archsim.chip.readouts.digital_sum`).

V arrays need no such choice: their bit lines are features, so fewer rows are fewer bit lines, each
of them whole. Their sums over token slots are digital already, sub-tile by sub-tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from archsim.chip.action import Action, Bucket, Footprint
from archsim.chip.cell import MICROAMPERE, Cell, cell_area
from archsim.chip.stage import After, Declared, Hold, Resource, Ticks, Times, Wait
from archsim.chip.work import Footprints, Implied, Shapes, Spent, Work
from archsim.config.loading import Section

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


@dataclass(frozen=True)
class RingBuffer:
    """Token slots of one head: token t takes slot t modulo `window`; `columns` in a sub-tile."""

    window: int
    columns: int

    @property
    def count(self) -> int:
        """Sub-tiles."""
        return -(-self.window // self.columns)

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


@dataclass(frozen=True)
class SubTiles(RingBuffer):
    """All sub-tiles of one head: `features` are stored in `rows` rows of `stacked` arrays."""

    features: int
    rows: int
    stacked: int
    write_during_read: bool

    @classmethod
    def of(cls, config: HardwareConfig, head_dim: int | None = None) -> SubTiles:
        """For vectors of `head_dim` features; None: as many as an array has rows."""
        window, columns, rows = geometry(config)
        features = rows if head_dim is None else head_dim
        stacked = -(-features // rows)
        return cls(window, columns, features, stacked * rows, stacked, writes_during_read(config))

    @property
    def by_array(self) -> tuple[tuple[int, int], ...]:
        """First and stop of the features that each array of a stack holds."""
        each = self.rows // self.stacked
        return tuple(
            (first, min(first + each, self.features)) for first in range(0, self.features, each)
        )


@dataclass(frozen=True)
class Arrays:
    """The K or the V arrays of a head as pulses of at most `t_max` seconds read them.

    `read` is the action, `current` the activity that says how much flows in it. They are written
    in the phase `write`; the read is the phase of the action.
    """

    sub_tiles: SubTiles
    cell: Cell
    total: Bucket
    read: Action
    write: str
    current: str
    t_max: float

    def stages(self, heads: int) -> Declared:
        """A write excludes reads of the same array, unless both are possible at once."""
        name, read, write = self.read.component, self.read.stage, self.write
        yield Resource(name, units=self.sub_tiles.count)
        yield Hold(name, read, read)
        if not self.sub_tiles.write_during_read:
            yield Hold(name, write, write)
            return
        # other slots may be written during a read, one token ahead and no more (a query waits with
        # its key); a slot that is overwritten was still being read
        yield Wait(write, After(read, "start", lag=1))
        yield Wait(write, After(read, lag=1, from_token=self.sub_tiles.window))

    def ages(self, times: Times) -> tuple[Ticks, Ticks]:
        """When each token's cells are read, from the start, and written, from the end."""
        return times(self.read.stage)[0], times(self.write)[1]

    def spend(self, work: Work) -> Spent:
        charge = work.activity(self.current) * (MICROAMPERE * self.t_max)
        yield self.read, self.cell.read_energy(charge), work.columns * self.sub_tiles.features

    def implied(self, shapes: Shapes) -> Implied:
        cells = shapes.heads * int(shapes.seen.sum()) * shapes.features
        yield self.read, cells, cells

    def footprints(self, heads: int) -> Footprints:
        cells = self.sub_tiles.count * self.sub_tiles.rows * self.sub_tiles.columns
        yield Footprint("cells", cells, self.cell.area, (cell_area,), periphery=False)
