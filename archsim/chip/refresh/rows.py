"""``refresh.model: rows``: every `period` all rows of a head's arrays are read and written back.

A head keeps a timer that runs from the start of the run. At every multiple of the period the rows
(word lines) of its K and its V arrays, side by side, in all sub-tiles at once, are read and written
back, row after row: circuits on the bit lines of every sub-tile do both, so no DAC is taken. A row
takes ``read_back_time`` and then ``write_path.pulse``, each from a clock edge to the next. While
this lasts no token uses the arrays.

A refresh that falls due while the arrays work for a token waits until they are done with it; where
several are overdue they follow each other, none is left out. One that falls due while the head has
nothing to do is done then, and a token that comes meanwhile waits for what is left of it: that wait
is the phase ``refresh``, of no length for all other tokens. Energy counts every refresh, waited for
or not, one for each period in the run; each belongs to the token after it, what comes after a
head's last token to that.

**Assumed**: a refresh restores exactly what was stored, however far it had faded, and all cells
count as restored when it starts (the first row's are soon after, the last row's when it ends).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, cast

import numpy as np
from pydantic import Field

from archsim.chip.action import Action, Bucket, Footprint
from archsim.chip.array import SubTiles
from archsim.chip.cell import READ_KEYS, READ_VALUES, energy_per_volt
from archsim.chip.stage import WRITE_KEY, After, Declared, Periodic, Phase, Ticks, Times, Wait
from archsim.chip.variants import variant
from archsim.chip.work import Array, Footprints, Implied, Shapes, Spent, Whole, Work
from archsim.chip.write_path import energy_per_conversion, write_time
from archsim.config.clock import Clock
from archsim.config.kinds import Duration, Joules, SquareMetres
from archsim.config.quantity import Quantity
from archsim.config.section import Section
from archsim.config.voltages import OptionalQuantity

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

REFRESHING = "refresh"
"""The phase in which a token waits for a refresh."""


def _own(config: HardwareConfig) -> RowRefresh.Config:
    return cast(RowRefresh.Config, config.refresh)


def refresh_period(config: HardwareConfig) -> float:
    """s from one refresh of a head to the next."""
    return _own(config).period


def read_back_time(config: HardwareConfig) -> float:
    """s that reading a row back takes."""
    return _own(config).read_back_time


def read_back_energy(config: HardwareConfig) -> float:
    """J to read a cell back."""
    return _own(config).energy_per_read_back


def write_back_energy(config: HardwareConfig) -> float:
    """J to write a cell back: of its own, or what the write path takes for a full one."""
    given = _own(config).energy_per_write_back
    if given is not None:
        return given
    return energy_per_conversion(config) + energy_per_volt(config) * config.cell.supply


def circuit_area(config: HardwareConfig) -> float:
    """m^2 of what reads and writes one bit line back."""
    return _own(config).area


def refresh_ticks(config: HardwareConfig) -> int:
    """Ticks of one refresh: the rows of the taller kind of array, K or V, one after another."""
    clock = Clock.of(config.controller.clock)
    row = sum(
        -(-clock.ticks(seconds(config)) // clock.period) * clock.period
        for seconds in (read_back_time, write_time)
    )
    return row * max(config.array.rows, config.array.columns)


READ_BACK = Action("refresh", "read cells back", "refresh", REFRESHING, read_back_energy)
WRITE_BACK = Action("refresh", "write cells back", "refresh", REFRESHING, write_back_energy)


@variant("refresh", "rows")
class RowRefresh:
    """All rows are read and written back once a period, all sub-tiles side by side."""

    class Config(Section):
        period: Annotated[float, Quantity("s", ge=1e-9, le=1e3)] = Field(
            description="a head is refreshed at every multiple of it from the start of the run"
        )
        read_back_time: Duration = Field(
            description="to read a row of cells; write_path.pulse to write it comes on top"
        )
        energy_per_read_back: Joules = Field(description="to read one cell of a row")
        energy_per_write_back: Annotated[float | None, OptionalQuantity("J", ge=0, le=1e-3)] = (
            Field(
                default=None,
                description="to write one cell of a row; null = a DAC conversion and its capacitor "
                "charged from nothing to the supply: the most that the write path takes",
            )
        )
        area: SquareMetres = Field(
            default=0.0, description="of what reads and writes one bit line back; 0 = not counted"
        )

    @staticmethod
    def times(config: HardwareConfig) -> Iterator[tuple[str, float]]:
        yield "refresh.period", refresh_period(config)
        yield "refresh.read_back_time", read_back_time(config)

    @staticmethod
    def check(config: HardwareConfig) -> None:
        """A refresh is over before the next falls due."""
        clock = Clock.of(config.controller.clock)
        takes, period = refresh_ticks(config), clock.ticks(refresh_period(config))
        if takes >= period:
            raise ValueError(
                f"refresh.period: {period * clock.ns:,.6g} ns is no longer than a refresh, "
                f"{takes * clock.ns:,.6g} ns; lengthen it, or shorten refresh.read_back_time"
            )

    @staticmethod
    def notes(config: HardwareConfig) -> Iterator[str]:
        yield "Refresh is taken to restore exactly what was stored, however far it had faded"
        yield (
            "Where one token stands for all (compare, validate) it waits for no refresh, and "
            "losses of a model (evaluate, adapt, retention) are measured without"
        )

    total: Bucket = "refresh"

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        self.sub_tiles = sub_tiles
        self._clock = Clock.of(config.controller.clock)
        self.period_ticks: int | None = self._clock.ticks(refresh_period(config))
        self.refresh_ticks = refresh_ticks(config)
        self._read_back, self._write_back = read_back_energy(config), write_back_energy(config)
        self._area = circuit_area(config)

    @property
    def periodic(self) -> Periodic:
        """When it falls due, what it takes, and what for."""
        assert self.period_ticks is not None
        reads = READ_KEYS, READ_VALUES
        return Periodic(
            self.period_ticks,
            self.refresh_ticks,
            tuple(read.stage for read in reads),
            tuple(read.component for read in reads),
        )

    def stages(self, heads: int) -> Declared:
        """Before a token is written, and as late as that: behind the reads that a write awaits."""
        after = [After(READ_KEYS.stage, lag=1)]
        if self.sub_tiles.write_during_read:
            window = self.sub_tiles.window
            after = [
                After(READ_KEYS.stage, "start", lag=1),
                After(READ_KEYS.stage, lag=1, from_token=window),
            ]
        laws = refresh_period, refresh_ticks
        yield Phase(REFRESHING, tuple(after), self.refresh_ticks, laws, periodic=self.periodic)
        yield Wait(WRITE_KEY, After(REFRESHING))

    @property
    def cells(self) -> int:
        """Cells of one sub-tile that a refresh reads and writes, K and V."""
        return 2 * self.sub_tiles.features * self.sub_tiles.columns

    def due(self, times: Times) -> Whole:
        """How often a refresh had fallen due when each token came, (tokens, layers, heads)."""
        return times(REFRESHING)[0] // self.periodic.period

    def restored(self, times: Times) -> Ticks:
        """When the refresh before each token started, (tokens, layers, heads); 0: none yet."""
        ends = [times(stage)[1] for stage in self.periodic.free]
        return self.periodic.last_starts(times(REFRESHING)[0], ends, self._clock.period)

    @property
    def power(self) -> float:
        """W of one head whose sub-tiles are all refreshed."""
        assert self.period_ticks is not None
        each = self._read_back + self._write_back
        return each * self.cells * self.sub_tiles.count / self._clock.time(self.period_ticks)

    def read_back_energy(self, cells: Array) -> Array:
        """J to read that many cells back."""
        return self._read_back * cells

    def write_back_energy(self, cells: Array) -> Array:
        """J to write that many cells back."""
        return self._write_back * cells

    def spend(self, work: Work) -> Spent:
        """Every period that passed; of a sub-tile that holds nothing only where it is not gated."""
        due = self.due(work.times)
        refreshes = np.diff(due, prepend=np.zeros_like(due[:1]), axis=0)
        filled = np.concatenate((work.sub_tiles[:1], work.sub_tiles[:-1]))
        sub_tiles = refreshes * filled
        sub_tiles[-1] += (work.makespan // self.periodic.period - due[-1]) * work.sub_tiles[-1]
        cells = sub_tiles * self.cells
        yield READ_BACK, self.read_back_energy(cells), cells
        yield WRITE_BACK, self.write_back_energy(cells), cells

    def implied(self, shapes: Shapes) -> Implied:
        """One a period in every head, of the fewest to the most sub-tiles that work."""
        refreshes = shapes.heads * (shapes.makespan // self.periodic.period) * self.cells
        fewest, most = (refreshes * int(end(shapes.driven)) for end in (np.min, np.max))
        for action in (READ_BACK, WRITE_BACK):
            yield action, fewest, most

    def footprints(self, heads: int) -> Footprints:
        tiles = self.sub_tiles
        lines = tiles.count * (tiles.columns * tiles.stacked + tiles.rows)
        yield Footprint("refresh circuits", lines, self._area, (circuit_area,))
