"""The products of one head as matrix products over powers of the stored deviation.

The operands are expanded once for the whole sequence; the columns of a run and a few panels of rows
are slices of them.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.chip.array import Run
from archsim.chip.cells.polynomial import PolynomialCurrent
from archsim.datapath.ages import CellTimes
from archsim.datapath.current_sums import key_current_sums, signs_hold
from archsim.datapath.direct import DirectProducts
from archsim.datapath.elementwise import read_keys, read_values
from archsim.datapath.head_input import HeadInput, VisibleColumns
from archsim.datapath.products import (
    PANEL,
    Layout,
    Real,
    ScoreFading,
    current_operand,
    fill_value_operand,
    in_panels,
    powers_of,
    raise_powers,
    value_operand,
)
from archsim.machine.workspace import Workspace

Array = NDArray[np.float64]

_RANGE = {"float64": 600.0, "float32": 60.0}
"""Largest spread of exponents of a decay's factors: e^600 and e^60 are far from overflow."""

_EXACT = {"float32": 1 << 24, "float64": 1 << 53}
"""Whole numbers up to here are exact."""


class PanelProducts:
    """Both products of one head: of a polynomial cell that fades exponentially, or of any cell that
    does not fade.
    """

    def __init__(
        self,
        given: HeadInput,
        dtype: np.dtype[Any],
        workspace: Workspace,
        compiled: bool = False,
    ) -> None:
        self.given, self.dtype, self.workspace = given, dtype, workspace
        tokens, features = given.query.shape
        cell = given.polynomial if given.fades else None
        powers = 1 if cell is None else len(cell.coefficients) - 1
        self.layout = layout = Layout(features, powers, given.fades)
        limit = _RANGE[dtype.name] / powers
        parts = self._parts(tokens, limit)
        self.origins = [first for first, _ in parts]
        self.alone = len(parts) == 1
        by_power = self._expand_keys(cell)
        if given.fades:
            growth = self._growth(given.ages.keys, parts)
            factors = by_power[:, None] * powers_of(growth, powers)[1:]
            self.key_factors = factors.astype(dtype)
            if self.alone:
                rows = slice(0, len(self.query) * PANEL)
                self.key_fade = self._fade(given.ages.keys, rows, 0)
                self.value_fades = powers_of(self._fade(given.ages.values, rows, 0), powers)
        # |I| is the polynomial times a fixed sign, unless fading turns a current round
        held = signs_hold(given)
        self.read_current = None if held else DirectProducts(given)
        self.key_current = (
            self.read_current.key_current
            if self.read_current is not None
            else key_current_sums(given, workspace, compiled)
        )
        self.values = workspace.array("values", (layout.value_width, tokens), dtype)
        if cell is None:
            current = given.law.current(given.value_deviation)
            current_operand(current / given.output_full_scale, self.values)
            return
        y, growth = given.value_deviation, self._growth(given.ages.values, parts)
        coefficients = cell.coefficients / given.output_full_scale
        unit = given.stored_grid.unit if self.exact and given.stored_grid is not None else 1.0
        if held and compiled and dtype == np.float64 and self.exact:
            turned = workspace.array("turned", (features, tokens), y.dtype)
            turned[...] = y.T
            sums = workspace.array("value sums", (powers + 1, tokens), y.dtype)
            laws = (growth, cell.coefficients, coefficients, unit)
            fill_value_operand(turned, *laws, sums, self.values)
        else:
            signs = np.copysign(1.0, cell.current(y)) if held else None
            value_operand(y, growth, coefficients, unit, signs, self.values, workspace)

    def _expand_keys(self, cell: PolynomialCurrent | None) -> Array:
        """The first product's operands: whole numbers where they come from converters, `exact`
        where all sums of them are.

        Returns the coefficients of their powers / full scale; `base` is what C_0 adds to each row
        of each part.
        """
        given, powers, array = self.given, self.layout.powers, self.workspace.array
        query, keys, dtype = given.query, given.key_deviation, self.dtype
        if cell is None:
            keys = given.law.current(keys) / given.score_full_scale
        query_unit = key_unit = 1.0
        self.exact = False
        if cell is not None and given.query_grid is not None and given.stored_grid is not None:
            most = given.query_grid.most * given.stored_grid.most**powers
            most *= max(part.stop - part.start for part in given.parts)
            self.exact = most < _EXACT["float64"]
            if self.exact:
                query_unit, key_unit = given.query_grid.unit, given.stored_grid.unit
            if most < _EXACT["float32"]:
                dtype = np.dtype(np.float32)
        tokens, features = query.shape
        shape = (-(-tokens // PANEL), features, PANEL)
        self.query = in_panels(query, array("queries", shape, dtype))
        self.keys = array("keys", (powers, tokens, features), dtype)
        self.keys[0] = keys
        if self.exact:
            for operand, unit in ((self.query, query_unit), (self.keys[0], key_unit)):
                operand /= unit
                np.rint(operand, out=operand)
        raise_powers(self.keys)
        self.base: list[Real] = []
        if cell is None:
            return np.empty(0)
        units = query_unit * key_unit ** np.arange(powers + 1) / given.score_full_scale
        coefficients = cell.coefficients * units
        for part in given.parts:
            ones = np.ones((1, part.stop - part.start), dtype)  # faster than a sum
            sums = np.matmul(ones, self.query[:, part]).ravel()
            self.base.append(coefficients[0].astype(self.dtype) * sums)
        by_power: Array = coefficients[1:]
        return by_power

    def _parts(self, tokens: int, limit: float) -> list[tuple[int, int]]:
        """All tokens cut so that neither array's factors leave the range of the numbers.

        Each part has its first token as origin, so later tokens change nothing before them.
        """
        ages = self.given.ages
        return [
            part
            for a, b in ages.keys.stretches(0, tokens, limit)
            for part in ages.values.stretches(a, b, limit)
        ]

    def _within(self, run: Run) -> Iterator[tuple[int, int, int]]:
        """First and stop of a run's columns with one origin, and that origin."""
        part = bisect.bisect_right(self.origins, run.first) - 1
        first = run.first
        while first < run.stop:
            end = self.origins[part + 1] if part + 1 < len(self.origins) else run.stop
            stop = min(end, run.stop)
            yield first, stop, self.origins[part]
            first, part = stop, part + 1

    def _growth(self, times: CellTimes, parts: list[tuple[int, int]]) -> Array:
        """The columns' part of the decay, from the origins of their parts on, (tokens,)."""
        return np.concatenate([times.growth(first, stop, first) for first, stop in parts])

    def _fade(self, times: CellTimes, rows: slice, origin: int) -> Real:
        """The part of the decay of rows in whole panels from an origin on, (rows,); then 0."""
        fade = np.zeros(rows.stop - rows.start, self.dtype)
        stop = min(rows.stop, len(times.read))
        fade[: stop - rows.start] = times.fade(rows.start, stop, origin)
        return fade

    def scores(self, view: VisibleColumns, rows: slice, part: int, out: Real) -> None:
        """S_raw / full scale of a part of the features into `out` (columns, rows), 0 where rows do
        not see. Rows come in whole panels.
        """
        run, features = view.run, self.given.parts[part]
        keys = self.keys[:, run.first : run.stop, features]
        query = self.query[rows.start // PANEL : rows.stop // PANEL, features]
        if not self.layout.fading:
            read_keys(keys, query, None, out, self.workspace)
        else:
            for first, stop, origin in self._within(run):
                columns = slice(first - run.first, stop - run.first)
                fading = ScoreFading(
                    self.key_factors[:, first:stop],
                    self.key_fade[rows]
                    if self.alone
                    else self._fade(self.given.ages.keys, rows, origin),
                    self.base[part][rows],
                )
                read_keys(keys[:, columns], query, fading, out[columns], self.workspace)
        view.clear(out, rows.start)
        if self.read_current is not None:
            self.read_current.scores(view, rows, part, None)

    def currents(
        self, view: VisibleColumns, rows: slice, pulse: Real, out: Real, read_current: Array
    ) -> None:
        """A_raw / full scale into `out` (features, rows) from pulses (columns, rows); adds the
        unsigned current / full scale to `read_current` (rows,). Rows come in whole panels.
        """
        run = view.run
        if self.alone:
            fades = self.value_fades[:, rows] if self.layout.fading else None
            value = self.values[:, run.first : run.stop]
            read_values(value, pulse, fades, self.layout, out, read_current, self.workspace)
        else:
            out[...] = 0.0
            part = np.empty_like(out)
            for first, stop, origin in self._within(run):
                lines = pulse[first - run.first : stop - run.first]
                fade = self._fade(self.given.ages.values, rows, origin)
                fades = powers_of(fade, self.layout.powers)
                value = self.values[:, first:stop]
                read_values(value, lines, fades, self.layout, part, read_current, self.workspace)
                out += part
        if self.read_current is not None:
            self.read_current.currents(view, rows, pulse, None, read_current)
