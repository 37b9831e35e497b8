"""The products of one head cell by cell: any cell law, any retention, no expansion.

The current of a cell is looked up at what remains of its deviation at its age. Cells are written at
few levels, so they are counted level by level: a column's charge is a sum over levels of the
level's current x the pulses of the cells at that level, ``sum_l I(y_l fade(age)) (Q @ [K = l])``.
Where the write path is ideal, and there are no levels, each cell is looked up on its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.chip.array import Run
from archsim.datapath.ages import CellTimes
from archsim.datapath.head_input import HeadInput, VisibleColumns
from archsim.datapath.products import Real

Array = NDArray[np.float64]

MOST_LEVELS = 32
"""With more different voltages than this each cell is looked up on its own."""

_CELLS = 1 << 20
"""Currents looked up at once."""


class _Stored:
    """The keys or the values of one head, as written: levels, or deviations one by one."""

    def __init__(self, given: HeadInput, deviation: Array, times: CellTimes) -> None:
        self.given, self.deviation, self.times = given, deviation, times
        levels, which = np.unique(deviation, return_inverse=True)
        self.levels = levels if len(levels) <= MOST_LEVELS else None
        self.which = which.reshape(deviation.shape)

    def at_levels(self, run: Run) -> Array:
        """1 where a cell is at a level, (levels x columns, features); needs levels."""
        assert self.levels is not None
        here = self.which[run.first : run.stop] == np.arange(len(self.levels))[:, None, None]
        levels: Array = here.reshape(-1, self.deviation.shape[1]).astype(np.float64)
        return levels

    def currents(self, run: Run, rows: slice) -> Array:
        """Currents in uA, (rows, levels, columns), or without levels (rows, columns, features)."""
        remaining = self.given.remaining(self.times, rows, slice(run.first, run.stop))
        if self.levels is not None:
            return self.given.law.current(self.levels[:, None] * remaining[:, None, :])
        cells = self.deviation[run.first : run.stop]
        return self.given.law.current(cells * remaining[:, :, None])

    def parts(self, run: Run, rows: slice) -> list[slice]:
        """Some rows in pieces whose currents fit the memory."""
        each = self.deviation.shape[1] if self.levels is None else len(self.levels)
        step = max(1, _CELLS // ((run.stop - run.first) * each))
        return [
            slice(first, min(first + step, rows.stop))
            for first in range(rows.start, rows.stop, step)
        ]


class DirectProducts:
    """Both products of one head, and the unsigned currents that they draw."""

    def __init__(self, given: HeadInput) -> None:
        self.given, self.pulses = given, given.pulses
        self.keys = [
            _Stored(given, given.key_deviation[:, part], given.ages.keys) for part in given.parts
        ]
        self.values = _Stored(given, given.value_deviation, given.ages.values)
        self.key_current = np.zeros(len(given.query))

    def scores(self, view: VisibleColumns, rows: slice, part: int, out: Real | None) -> None:
        """S_raw / full scale of a part of the features into `out` (columns, rows), 0 where rows do
        not see. Rows come in whole panels, the last beyond the tokens.

        Adds what the seen columns draw to `key_current`.
        """
        run, keys, tokens = view.run, self.keys[part], self._tokens(rows)
        features = self.given.parts[part]
        query, pulses = self.given.query[:, features], self.pulses[:, features]
        at_levels = None if keys.levels is None else keys.at_levels(run)
        scores, read_current = [], []
        for some in keys.parts(run, tokens):
            current = keys.currents(run, some)
            if out is not None:
                scores.append(_charge(query[some], current, at_levels))
            read_current.append(_charge(pulses[some], np.abs(current, out=current), at_levels))
        if out is not None:
            _lay(scores, out)
            out /= self.given.score_full_scale
            view.clear(out, rows.start)
        seen = np.empty((run.stop - run.first, rows.stop - rows.start))
        _lay(read_current, seen)
        view.clear(seen, rows.start)
        self.key_current[tokens] += seen.sum(axis=0)[: tokens.stop - tokens.start]

    def currents(
        self, view: VisibleColumns, rows: slice, pulse: Real, out: Real | None, read_current: Array
    ) -> None:
        """A_raw / full scale into `out` (features, rows) from pulses (columns, rows); adds the
        unsigned current / full scale to `read_current` (rows,). Rows come in whole panels.
        """
        run, tokens = view.run, self._tokens(rows)
        widths = pulse.T
        at_levels = None if self.values.levels is None else self.values.at_levels(run)
        charges, unsigned = [], []
        for part in self.values.parts(run, tokens):
            width = widths[part.start - rows.start : part.stop - rows.start]
            charge = self.values.currents(run, part)
            if at_levels is None:
                charge *= width[:, :, None]
                charges.append(charge.sum(axis=1))
                unsigned.append(np.abs(charge, out=charge).sum(axis=(1, 2)))
            else:
                charge *= width[:, None, :]
                by_level = charge.reshape(len(charge), -1)
                charges.append(by_level @ at_levels)
                unsigned.append(np.abs(by_level, out=by_level) @ at_levels.sum(axis=1))
        scale = self.given.output_full_scale
        if out is not None:
            _lay(charges, out)
            out /= scale
        read_current[: tokens.stop - tokens.start] += np.concatenate(unsigned) / scale

    def _tokens(self, rows: slice) -> slice:
        return slice(rows.start, min(rows.stop, len(self.pulses)))


def _lay(parts: list[Array], out: Real) -> None:
    """Parts (tokens, n) one after the other into `out` (n, rows), the end of it filled with 0."""
    tokens = sum(len(part) for part in parts)
    np.concatenate([part.T for part in parts], axis=1, out=out[:, :tokens], casting="same_kind")
    out[:, tokens:] = 0.0


def _charge(Q: Array, current: Array, at_levels: Array | None) -> Array:
    """Charge of columns (rows, columns) from pulses (rows, features), in uA x pulse / T_max."""
    charge: Array
    if at_levels is None:
        charge = np.einsum("id,ijd->ij", Q, current)
    else:
        counted = (Q @ at_levels.T).reshape(current.shape)
        charge = np.einsum("ilj,ilj->ij", current, counted)
    return charge
