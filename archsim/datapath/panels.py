"""The products of one head in panels of rows, by matrix products over powers of the deviation.

A sub-tile's columns are written in a run of consecutive tokens. Its operands are made once, when
the run is written, and read by panels of rows until the window has moved on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.components.array import Run
from archsim.datapath.ages import CellTimes
from archsim.datapath.current_sums import key_current_sums, signs_hold
from archsim.datapath.direct import DirectProducts, LevelRun
from archsim.datapath.passes import Passes
from archsim.datapath.problem import HeadProblem, Hidden
from archsim.datapath.products import (
    Layout,
    Real,
    first_product,
    key_operand,
    query_operand,
    second_product,
    value_operand,
)
from archsim.datapath.workspace import Workspace

Array = NDArray[np.float64]

PANEL = 64
"""Rows of one matrix product: 64 x 64 x 192 stays in the first caches and needs no packing."""

_RANGE = {"float64": 600.0, "float32": 60.0}
"""Largest spread of exponents folded into one operand: e^600 and e^60 are far from overflow."""


@dataclass(frozen=True)
class Stored:
    """One run in its sub-tile's two arrays: operands, and the parts that share a decay origin."""

    run: Run
    key: Real
    value: Real
    parts: list[tuple[int, int]]
    drawn: LevelRun | None


class PanelProducts:
    """Both products of one head, of a polynomial cell that fades exponentially, or of a cell that
    does not fade.
    """

    def __init__(
        self,
        problem: HeadProblem,
        dtype: np.dtype[Any],
        workspace: Workspace,
        passes: Passes,
        rows: int,
    ) -> None:
        self.problem, self.dtype = problem, dtype
        self.workspace, self.passes = workspace, passes
        tokens, features = problem.query.shape
        self.fading = problem.fades
        cell = problem.polynomial
        coefficients = cell.coefficients if self.fading and cell is not None else None
        self.coefficients = coefficients
        self.layout = Layout(
            features, 1 if coefficients is None else len(coefficients) - 1, self.fading
        )
        self.limit = _RANGE[dtype.name] / self.layout.powers
        self.together = len(self._parts(0, tokens)) == 1
        self.queries: Real = workspace.take(
            ((tokens if self.together else rows) + PANEL, self.layout.width), dtype
        )
        self.product: Real = workspace.take(
            (rows + PANEL, self.layout.value_width(dtype)), dtype
        )
        self.fade: Real | None = None
        if self.together:
            self._fill_queries(0, tokens, (0, tokens))
            self.fade = self._fade(0, tokens, (0, tokens))
        # |I| is the polynomial times a fixed sign, unless fading turns a current round
        self.drawn: DirectProducts | None = None
        self.value_signs: Array | None = None
        if signs_hold(problem):
            self.value_signs = np.sign(problem.law.current(problem.value_deviation))
            self.key_current = key_current_sums(problem)
        else:
            self.drawn = DirectProducts(problem)
            self.key_current = self.drawn.key_current

    def _parts(self, first: int, stop: int) -> list[tuple[int, int]]:
        """Tokens cut so that neither array's factors leave the range of the numbers."""
        if not self.fading:
            return [(first, stop)]
        ages = self.problem.ages
        return [
            part
            for a, b in ages.keys.stretches(first, stop, self.limit)
            for part in ages.values.stretches(a, b, self.limit)
        ]

    def _fill_queries(self, first: int, stop: int, part: tuple[int, int]) -> None:
        """The query operand of rows [first, stop), at the start of `queries`."""
        keys = self.problem.ages.keys
        fade = keys.fade(first, stop, part) if self.fading else None
        count = stop - first
        query_operand(self.problem.query[first:stop], fade, self.layout, self.queries[:count])
        self.queries[count : count + PANEL] = 0.0

    def _fade(self, first: int, stop: int, part: tuple[int, int]) -> Real | None:
        values = self.problem.ages.values
        if not self.fading:
            return None
        fade: Real = values.fade(first, stop, part).astype(self.dtype)
        return fade

    def _grown(self, deviation: Array, times: CellTimes, run: Run, parts: Any) -> Array:
        """What the operands are made of: faded to their origins, or the currents themselves."""
        columns = deviation[run.first : run.stop]
        if not self.fading:
            return self.problem.law.current(columns)
        growth = np.empty(len(columns))
        for first, stop in parts:
            origin = (0, len(deviation)) if self.together else (first, stop)
            growth[first - run.first : stop - run.first] = times.growth(first, stop, origin)
        return columns * growth[:, None]

    def store(self, run: Run) -> Stored:
        """Write a run into its sub-tile."""
        columns = run.stop - run.first
        parts = [(run.first, run.stop)] if self.together else self._parts(run.first, run.stop)
        problem = self.problem
        key = self.workspace.take((self.layout.width, columns), self.dtype)
        value = self.workspace.take((columns, self.layout.value_width(self.dtype)), self.dtype)
        z = self._grown(problem.key_deviation, problem.ages.keys, run, parts)
        key_operand(z, self.coefficients, self.layout, key)
        z = self._grown(problem.value_deviation, problem.ages.values, run, parts)
        signs = None if self.value_signs is None else self.value_signs[run.first : run.stop]
        value_operand(z, self.coefficients, self.layout, signs, value)
        return Stored(run, key, value, parts, self.drawn.store(run) if self.drawn else None)

    def release(self, stored: Stored) -> None:
        """The run has been overwritten or is read no more."""
        self.workspace.give_back(stored.key, stored.value)

    def close(self) -> None:
        """Give the work arrays back."""
        self.workspace.give_back(self.queries, self.product)

    def scores(
        self, stored: Stored, first: int, stop: int, hidden: Hidden | None, out: Real
    ) -> None:
        """S_raw of rows [first, stop) into `out`, whose rows are whole panels."""
        for a, b in stored.parts:
            columns = slice(a - stored.run.first, b - stored.run.first)
            at = first
            if not self.together:
                self._fill_queries(first, stop, (a, b))
                at = 0
            query = self.queries[at : at + len(out)]
            first_product(_panels(query), stored.key[:, columns], _panels(out)[..., columns])
        if self.drawn is not None and stored.drawn is not None:
            self.drawn.scores(stored.drawn, first, stop, hidden, None)

    def currents(
        self, stored: Stored, first: int, stop: int, pulse: Real, out: Real, drawn: Array
    ) -> None:
        """A_raw of rows [first, stop) into `out`; the unsigned current is added to `drawn`.

        The rows of `pulse` are whole panels.
        """
        product, count = self.product[: len(pulse)], stop - first
        for n, (a, b) in enumerate(stored.parts):
            columns = slice(a - stored.run.first, b - stored.run.first)
            second_product(_panels(pulse)[..., columns], stored.value[columns], _panels(product))
            if self.together:
                fade = None if self.fade is None else self.fade[first:stop]
            else:
                fade = self._fade(first, stop, (a, b))
            if n == 0:
                self.passes.combine(product[:count], fade, self.layout, out, drawn)
            else:
                part = np.empty_like(out)
                self.passes.combine(product[:count], fade, self.layout, part, drawn)
                out += part
        if self.drawn is not None and stored.drawn is not None:
            self.drawn.currents(stored.drawn, first, stop, pulse[:count], None, drawn)


def _panels(rows: Real) -> Real:
    """Whole panels of rows as a stack."""
    return rows.reshape(-1, PANEL, rows.shape[1])
