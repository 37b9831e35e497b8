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
from archsim.datapath.ages import CellTimes
from archsim.datapath.current_sums import key_current_sums, signs_hold
from archsim.datapath.direct import DirectProducts
from archsim.datapath.passes import MOST, Passes
from archsim.datapath.problem import HeadProblem, View
from archsim.datapath.products import (
    PANEL,
    Layout,
    Real,
    RowFade,
    fade_powers,
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
        panels = -(-tokens // PANEL)
        panelled = workspace.array("panels", (panels, features, PANEL), problem.query.dtype)
        self.query = in_panels(problem.query, panelled)
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
        self.key_coefficients, self.value_coefficients = (
            None if cell is None else cell.coefficients / full_scale
            for full_scale in (problem.score_full_scale, problem.output_full_scale)
        )
        self.fade: RowFade | None = None
        if self.alone:
            for part in range(len(self.layouts)):
                self._fill_queries(slice(0, panels), part, 0)
            self.fade = self._row_fade(slice(0, panels), 0)
        ages = problem.ages
        z = self._grown(problem.key_deviation, ages.keys, parts, problem.score_full_scale)
        for columns, each, keys in zip(problem.parts, self.layouts, self.keys, strict=True):
            key_operand(z[:, columns], each, keys, workspace)
        # |I| is the polynomial times a fixed sign, unless fading turns a current round
        self.drawn: DirectProducts | None = None
        signs: Array | None = None
        if signs_hold(problem):
            signs = workspace.array("signs", (tokens, features), np.dtype(np.float64))
            np.copysign(1.0, problem.law.current(problem.value_deviation), out=signs)
            self.key_current = key_current_sums(problem, workspace)
        else:
            self.drawn = DirectProducts(problem)
            self.key_current = self.drawn.key_current
        z = self._grown(problem.value_deviation, ages.values, parts, problem.output_full_scale)
        value_operand(z, self.value_coefficients, layout, signs, self.values, workspace)

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

    def _fade_powers(self, times: CellTimes, panels: slice, origin: int) -> Real | None:
        """Powers of the rows' part of the decay from an origin on, (panels, powers + 1, PANEL)."""
        if not self.layout.fading:
            return None
        stop = min(panels.stop * PANEL, len(times.read))
        fade = times.fade(panels.start * PANEL, stop, origin).astype(self.dtype)
        return fade_powers(in_panels(fade), self.layout.powers)

    def _row_fade(self, panels: slice, origin: int) -> RowFade | None:
        """What the second product multiplies the values of some panels by."""
        powers = self._fade_powers(self.problem.ages.values, panels, origin)
        if powers is None:
            return None
        shape = (len(self.query), self.layout.features, PANEL)
        spread = self.workspace.array("fade", shape, self.dtype)[: len(powers)]
        spread[...] = powers[:, 1:2]
        return RowFade(spread, powers)

    def _fill_queries(self, panels: slice, part: int, origin: int) -> None:
        """The query operand of some panels and a part of the features, at the start of its own."""
        fade = self._fade_powers(self.problem.ages.keys, panels, origin)
        query = self.query[panels, self.problem.parts[part]]
        out = self.queries[part][: panels.stop - panels.start]
        query_operand(query, fade, self.key_coefficients, self.layouts[part], out)

    def _grown(
        self, deviation: Array, times: CellTimes, parts: list[tuple[int, int]], full_scale: float
    ) -> Array:
        """Deviations times their columns' factors; without decay, currents / full scale."""
        if not self.layout.fading:
            return self.problem.law.current(deviation) / full_scale
        growth = np.concatenate([times.growth(a, b, a) for a, b in parts])
        grown: Array = self.workspace.array("grown", deviation.shape, deviation.dtype)
        np.multiply(deviation, growth[:, None], out=grown)
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
                fade = self._row_fade(panels, origin)
                value = self.values[:, first:stop]
                self.passes.charge(value, lines, fade, self.layout, part, drawn, self.workspace)
                out += part
        if self.drawn is not None:
            self.drawn.currents(view, panels, pulse, None, drawn)
