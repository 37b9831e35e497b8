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

from archsim.components.array import Run
from archsim.components.cell import Cell
from archsim.datapath.ages import CellTimes
from archsim.datapath.current_sums import key_current_sums, signs_hold
from archsim.datapath.direct import DirectProducts
from archsim.datapath.passes import MOST, Passes
from archsim.datapath.problem import HeadProblem, View
from archsim.datapath.products import (
    PANEL,
    Layout,
    Real,
    first_product,
    in_panels,
    key_operand,
    query_operand,
    value_operand,
)
from archsim.datapath.workspace import Workspace

Array = NDArray[np.float64]

_RANGE = {"float64": 600.0, "float32": 60.0}
"""Largest spread of exponents folded into one operand: e^600 and e^60 are far from overflow."""


class PanelProducts:
    """Both products of one head: of a polynomial cell that fades exponentially, or of any cell that
    does not fade. At most `MOST` panels are computed at once.
    """

    def __init__(
        self,
        problem: HeadProblem,
        dtype: np.dtype[Any],
        workspace: Workspace,
        passes: Passes,
    ) -> None:
        self.problem, self.dtype, self.passes, self.workspace = problem, dtype, passes, workspace
        tokens, features = problem.query.shape
        cell = problem.polynomial if problem.fades else None
        powers = 1 if cell is None else len(cell.coefficients) - 1
        self.layout = layout = Layout(features, powers, problem.fades)
        self.layouts = [
            Layout(part.stop - part.start, powers, problem.fades) for part in problem.parts
        ]
        self.query = in_panels(problem.query)
        limit = _RANGE[dtype.name] / powers
        parts = self._parts(tokens, limit)
        self.origins = [first for first, _ in parts]
        self.alone = len(parts) == 1
        kept = len(self.query) if self.alone else MOST
        self.queries = [
            workspace.array(f"queries {part}", (kept, each.width, PANEL), dtype)
            for part, each in enumerate(self.layouts)
        ]
        self.keys = [
            workspace.array(f"keys {part}", (tokens, each.width), dtype)
            for part, each in enumerate(self.layouts)
        ]
        self.values = workspace.array("values", (layout.value_width, tokens), dtype)
        self.fade: Real | None = None
        if self.alone:
            panels = slice(0, len(self.query))
            for part in range(len(self.layouts)):
                self._fill_queries(panels, part, 0)
            self.fade = self._row_factors(panels, 0)
        z = self._grown(problem.key_deviation, problem.ages.keys, parts)
        deviations, coefficients = _scaled(z, cell, problem.score_full_scale)
        for columns, each, keys in zip(problem.parts, self.layouts, self.keys, strict=True):
            key_operand(deviations[:, columns], coefficients, each, keys)
        # |I| is the polynomial times a fixed sign, unless fading turns a current round
        self.drawn: DirectProducts | None = None
        signs: Array | None = None
        if signs_hold(problem):
            signs = np.sign(problem.law.current(problem.value_deviation)).T
            self.key_current = key_current_sums(problem)
        else:
            self.drawn = DirectProducts(problem)
            self.key_current = self.drawn.key_current
        z = self._grown(problem.value_deviation, problem.ages.values, parts)
        scaled = _scaled(np.ascontiguousarray(z.T), cell, problem.output_full_scale)
        value_operand(*scaled, layout, signs, self.values)

    def _parts(self, tokens: int, limit: float) -> list[tuple[int, int]]:
        """All tokens cut so that neither array's factors leave the range of the numbers.

        Each part has its first token as origin, so later tokens change nothing before them.
        """
        ages = self.problem.ages
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

    def _fade(self, times: CellTimes, panels: slice, origin: int) -> Real | None:
        """The rows' part of the decay from an origin on, (panels, 1, PANEL)."""
        if not self.layout.fading:
            return None
        stop = min(panels.stop * PANEL, len(times.read))
        fade: Real = in_panels(times.fade(panels.start * PANEL, stop, origin).astype(self.dtype))[
            :, None
        ]
        return fade

    def _row_factors(self, panels: slice, origin: int) -> Real | None:
        """`_fade` of the values for every feature, which saves time where it is used."""
        fade = self._fade(self.problem.ages.values, panels, origin)
        if fade is None:
            return None
        shape = (len(self.query), self.layout.features, PANEL)
        spread = self.workspace.array("fade", shape, self.dtype)[: len(fade)]
        spread[...] = fade
        return spread

    def _fill_queries(self, panels: slice, part: int, origin: int) -> None:
        """The query operand of some panels and a part of the features, at the start of its own."""
        fade = self._fade(self.problem.ages.keys, panels, origin)
        count = panels.stop - panels.start
        query = self.query[panels, self.problem.parts[part]]
        query_operand(query, fade, self.layouts[part], self.queries[part][:count])

    def _grown(self, deviation: Array, times: CellTimes, parts: list[tuple[int, int]]) -> Array:
        """Deviations times their columns' factors; without decay, currents (tokens, features)."""
        if not self.layout.fading:
            return self.problem.law.current(deviation)
        growth = np.concatenate([times.growth(a, b, a) for a, b in parts])
        grown: Array = deviation * growth[:, None]
        return grown

    def scores(self, view: View, panels: slice, part: int, out: Real) -> None:
        """S_raw / full scale of a part of the features into `out` (panels, columns, PANEL); what is
        not seen may be anything finite.
        """
        run, keys, queries = view.run, self.keys[part], self.queries[part]
        if self.alone:
            first_product(keys[run.first : run.stop], queries[panels], out)
        else:
            for first, stop, origin in self._within(run):
                self._fill_queries(panels, part, origin)
                query = queries[: panels.stop - panels.start]
                lines = slice(first - run.first, stop - run.first)
                out[:, lines] = first_product(keys[first:stop], query)
        if self.drawn is not None:
            self.drawn.scores(view, panels, part, None)

    def currents(self, view: View, panels: slice, pulse: Real, out: Real, drawn: Array) -> None:
        """A_raw / full scale into `out` (panels, features, PANEL) from pulses (panels, columns,
        PANEL); adds the unsigned current / full scale to `drawn` (panels, PANEL).
        """
        run = view.run
        if self.alone:
            fade = None if self.fade is None else self.fade[panels]
            value = self.values[:, run.first : run.stop]
            self.passes.charge(value, pulse, fade, self.layout, out, drawn, self.workspace)
        else:
            out[...] = 0.0
            part = np.empty_like(out)
            for first, stop, origin in self._within(run):
                lines = pulse[:, first - run.first : stop - run.first]
                fade = self._row_factors(panels, origin)
                value = self.values[:, first:stop]
                self.passes.charge(value, lines, fade, self.layout, part, drawn, self.workspace)
                out += part
        if self.drawn is not None:
            self.drawn.currents(view, panels, pulse, None, drawn)


def _scaled(z: Array, cell: Cell | None, full_scale: float) -> tuple[Array, Array | None]:
    """What an operand is made of, in units of a full scale."""
    if cell is None:
        return z / full_scale, None
    return z, cell.coefficients / full_scale
