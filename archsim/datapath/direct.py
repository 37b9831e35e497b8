"""The products of one head cell by cell: any cell law, any retention, no expansion.

The current of a cell is looked up at what remains of its deviation at its age. Cells are written at
few levels, so they are counted level by level: a column's charge is a sum over levels of the
level's current x the pulses of the cells at that level, ``sum_l I(y_l fade(age)) (Q @ [K = l])``.
Where the write path is ideal, and there are no levels, each cell is looked up on its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.components.array import Run
from archsim.datapath.ages import CellTimes
from archsim.datapath.problem import HeadProblem, Hidden
from archsim.datapath.products import Real

Array = NDArray[np.float64]

MOST_LEVELS = 32
"""With more different voltages than this each cell is looked up on its own."""

_CELLS = 1 << 20
"""Currents looked up at once."""


class _Stored:
    """The keys or the values of one head, as written: levels, or deviations one by one."""

    def __init__(self, problem: HeadProblem, deviation: Array, times: CellTimes) -> None:
        self.problem, self.deviation, self.times = problem, deviation, times
        levels, which = np.unique(deviation, return_inverse=True)
        self.levels = levels if len(levels) <= MOST_LEVELS else None
        self.which = which.reshape(deviation.shape)

    def at_levels(self, run: Run) -> Array:
        """1 where a cell is at a level, (levels x columns, features); needs levels."""
        assert self.levels is not None
        here = self.which[run.first : run.stop] == np.arange(len(self.levels))[:, None, None]
        return here.reshape(-1, self.deviation.shape[1]).astype(np.float64)

    def currents(self, run: Run, rows: slice) -> Array:
        """Currents in uA, (rows, levels, columns), or without levels (rows, columns, features)."""
        remaining = self.problem.remaining(self.times, rows, slice(run.first, run.stop))
        if self.levels is not None:
            return self.problem.law.current(self.levels[:, None] * remaining[:, None, :])
        cells = self.deviation[run.first : run.stop]
        return self.problem.law.current(cells * remaining[:, :, None])

    def parts(self, run: Run, first: int, stop: int) -> list[slice]:
        """Rows [first, stop) in pieces whose currents fit the memory."""
        each = self.deviation.shape[1] if self.levels is None else len(self.levels)
        step = max(1, _CELLS // ((run.stop - run.first) * each))
        return [slice(a, min(a + step, stop)) for a in range(first, stop, step)]


@dataclass(frozen=True)
class LevelRun:
    """One run in its sub-tile's two arrays; see `_Stored.at_levels`, None without levels."""

    run: Run
    keys: Array | None
    values: Array | None


class DirectProducts:
    """Both products of one head, and the unsigned currents that they draw."""

    def __init__(self, problem: HeadProblem) -> None:
        self.query, self.pulses = problem.query, problem.pulses
        self.keys = _Stored(problem, problem.key_deviation, problem.ages.keys)
        self.values = _Stored(problem, problem.value_deviation, problem.ages.values)
        self.key_current = np.zeros(len(problem.query))

    def store(self, run: Run) -> LevelRun:
        """Write a run into its sub-tile."""
        return LevelRun(
            run,
            None if self.keys.levels is None else self.keys.at_levels(run),
            None if self.values.levels is None else self.values.at_levels(run),
        )

    def release(self, stored: LevelRun) -> None:
        """Nothing is kept for the next run."""

    def close(self) -> None:
        """Nothing is kept for the next head."""

    def scores(
        self,
        stored: LevelRun,
        first: int,
        stop: int,
        hidden: Hidden | None,
        out: Real | None,
    ) -> None:
        """S_raw of rows [first, stop) into `out`; adds what is drawn to `key_current`."""
        for rows in self.keys.parts(stored.run, first, stop):
            current = self.keys.currents(stored.run, rows)
            if out is not None:
                out[rows.start - first : rows.stop - first] = _charge(
                    self.query[rows], current, stored.keys
                )
            drawn = _charge(self.pulses[rows], np.abs(current, out=current), stored.keys)
            if hidden is not None:
                Hidden(hidden.diagonal + rows.start - first, hidden.newer).clear(drawn)
            self.key_current[rows] += drawn.sum(axis=1)

    def currents(
        self,
        stored: LevelRun,
        first: int,
        stop: int,
        pulse: Real,
        out: Real | None,
        drawn: Array,
    ) -> None:
        """A_raw of rows [first, stop) into `out`; adds the unsigned current to `drawn`."""
        for rows in self.values.parts(stored.run, first, stop):
            here = slice(rows.start - first, rows.stop - first)
            charge = self.values.currents(stored.run, rows)
            if stored.values is None:
                charge *= pulse[here][:, :, None]
                if out is not None:
                    out[here] = charge.sum(axis=1)
                drawn[here] += np.abs(charge, out=charge).sum(axis=(1, 2))
                continue
            charge *= pulse[here][:, None, :]
            by_level = charge.reshape(len(charge), -1)
            if out is not None:
                out[here] = by_level @ stored.values
            drawn[here] += np.abs(by_level, out=by_level) @ stored.values.sum(axis=1)


def _charge(Q: Array, current: Array, at_levels: Array | None) -> Array:
    """Charge of columns (rows, columns) from pulses (rows, features), in uA x pulse / T_max."""
    if at_levels is None:
        return np.einsum("id,ijd->ij", Q, current)
    counted = (Q @ at_levels.T).reshape(current.shape)
    return np.einsum("ilj,ilj->ij", current, counted)
