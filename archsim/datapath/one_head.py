"""One head over a whole sequence (FACTS 2, step by step).

Scalers, quantisers, first product, HardSigmoid, second product by physical sub-tile, signed
conversion, digital sum. A sub-tile is written by a run of consecutive tokens and read by all rows
until the window has moved on; the engine goes from run to run, and in panels of rows through each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.components.array import Run
from archsim.components.head import Head
from archsim.datapath.activity import Activity, AttentionOutput, Saturation
from archsim.datapath.ages import Ages
from archsim.datapath.direct import DirectProducts
from archsim.datapath.ideal import compare_with_ideal
from archsim.datapath.panels import PANEL, PanelProducts
from archsim.datapath.passes import Passes
from archsim.datapath.problem import CellLaw, HeadProblem, Hidden, Retention
from archsim.datapath.workspace import Workspace

Array = NDArray[np.float64]

ROWS = 4 * PANEL
"""Rows handled at once between the products: their panels stay in the second cache."""


@dataclass(frozen=True)
class Engine:
    """How heads are computed, and with what."""

    head: Head
    dtype: np.dtype[Any]
    passes: Passes
    workspace: Workspace
    law: CellLaw
    retention: Retention | None
    details: bool
    ideal: bool

    def products(self, problem: HeadProblem) -> PanelProducts | DirectProducts:
        """Matrix products over powers where they are exact, else cell by cell."""
        if problem.panels:
            return PanelProducts(problem, self.dtype, self.workspace, self.passes, ROWS)
        return DirectProducts(problem)


class _Collected:
    """What one head's rows add up to, sub-tile after sub-tile."""

    def __init__(self, tokens: int, features: int, sub_tiles: int, details: bool) -> None:
        self.total = np.zeros((tokens, features))
        self.longest_score, self.longest_output = np.zeros(tokens), np.zeros(tokens)
        self.counts, self.value_current = np.zeros(tokens), np.zeros(tokens)
        self.low = self.high = self.clipped = 0
        self.scores = np.zeros((tokens, tokens)) if details else None
        self.pulse_widths = np.zeros((tokens, tokens)) if details else None
        self.codes = np.zeros((tokens, sub_tiles, features)) if details else None


def attend_head(
    q: Array,
    k: Array,
    v: Array,
    engine: Engine,
    scalers: Mapping[str, tuple[float, float]],
    ages: Ages,
) -> AttentionOutput:
    """q, k, v (tokens, features); the output's arrays have no heads axis."""
    head = engine.head
    tiles, mid_rail = head.sub_tiles, head.cell.mid_rail
    tokens, features = q.shape
    scaled = {  # 2.2
        name: scalers[name][0] * x.astype(np.float64) + scalers[name][1]
        for name, x in (("q", q), ("k", k), ("v", v))
    }
    widths = head.pulse_generator.widths(scaled["q"])  # 2.3
    key_volts = head.write_path.voltages(scaled["k"])
    value_volts = head.write_path.voltages(scaled["v"])
    problem = HeadProblem(
        widths,
        key_volts - mid_rail,
        value_volts - mid_rail,
        engine.law,
        engine.retention,
        ages,
        tiles.window,
    )
    products = engine.products(problem)
    collected = _Collected(tokens, features, tiles.count, engine.details)
    stored: dict[int, Any] = {}
    for run in tiles.runs(0, tokens):
        old, new = stored.get(run.sub_tile), products.store(run)
        _read_run(engine, products, collected, run, new, old)
        if old is not None:
            products.release(old)
        if run.first + tiles.window < tokens:
            stored[run.sub_tile] = new  # still read while the next run overwrites it
        else:
            stored.pop(run.sub_tile, None)
            products.release(new)
    products.close()

    quantiser = head.output_converter.quantiser
    y = head.accumulator.output(quantiser.values(collected.total), *scalers["output"])  # 2.9
    seen = np.minimum(np.arange(1, tokens + 1), tiles.window).astype(np.float64)
    pulses = problem.pulses
    activity = Activity(
        query_pulses=np.count_nonzero(pulses, axis=1).astype(np.float64),
        longest_query=pulses.max(axis=1),
        key_current=products.key_current,
        longest_score=collected.longest_score,
        value_current=collected.value_current,
        longest_output=collected.longest_output,
        counts=collected.counts,
        written_columns=seen,
        written_sub_tiles=np.ceil(seen / tiles.columns),
        stored_keys=np.clip(key_volts, 0, head.cell.supply).sum(axis=1),
        stored_values=np.clip(value_volts, 0, head.cell.supply).sum(axis=1),
    )
    pairs = float(seen.sum())
    saturation = Saturation(
        query=np.asarray(head.pulse_generator.quantiser.saturated(scaled["q"])),
        key=np.asarray(head.write_path.quantiser.saturated(scaled["k"])),
        value=np.asarray(head.write_path.quantiser.saturated(scaled["v"])),
        score_low=np.asarray(collected.low / pairs),
        score_high=np.asarray(collected.high / pairs),
        output=np.asarray(
            collected.clipped / (float(activity.written_sub_tiles.sum()) * features)
        ),
    )
    return AttentionOutput(
        y,
        activity,
        saturation,
        compare_with_ideal(y, scaled, head, scalers["output"]) if engine.ideal else None,
        collected.scores,
        collected.pulse_widths,
        collected.codes,
    )


def _read_run(
    engine: Engine,
    products: Any,
    collected: _Collected,
    run: Run,
    new: Any,
    old: Any,
) -> None:
    """All rows that read one sub-tile from this run on, until the next run has overwritten it.

    The first rows find the sub-tile turning: new columns up to their own, `old` ones behind. Their
    charges add up before the conversion.
    """
    tokens, features = collected.total.shape
    window, passes = engine.head.sub_tiles.window, engine.passes
    take, dtype = engine.workspace.take, engine.dtype
    current, other = take((ROWS, features), dtype), take((ROWS, features), dtype)
    until = min(tokens, run.first + window)
    for first in range(run.first, until, ROWS):
        stop = min(first + ROWS, until)
        rows, count = slice(first, stop), stop - first
        hidden = Hidden(first - run.first, newer=True)
        _add_run(engine, products, collected, new, run, rows, hidden, current[:count])
        turning = min(run.first + _columns(old, run) - 1, stop) if old is not None else first
        if turning > first:
            hidden = Hidden(first - run.first, newer=False)
            part, some = slice(first, turning), turning - first
            _add_run(engine, products, collected, old, old.run, part, hidden, other[:some])
            current[:some] += other[:some]
        collected.clipped += passes.convert(  # 2.8
            current[:count],
            collected.total[rows],
            collected.longest_output[rows],
            collected.counts[rows],
        )
        if collected.codes is not None:
            collected.codes[rows, run.sub_tile] = current[:count]
    engine.workspace.give_back(current, other)


def _columns(stored: Any, run: Run) -> int:
    del run
    return int(stored.run.stop - stored.run.first)


def _add_run(
    engine: Engine,
    products: Any,
    collected: _Collected,
    stored: Any,
    run: Run,
    rows: slice,
    hidden: Hidden,
    current: NDArray[Any],
) -> None:
    """Both products of some rows with one run; A_raw goes into `current`."""
    count = rows.stop - rows.start
    whole = -(-count // PANEL) * PANEL
    score = engine.workspace.take((ROWS, run.stop - run.first), engine.dtype)
    products.scores(stored, rows.start, rows.stop, hidden, score[:whole])  # 2.5
    hidden.clear(score[:count])
    columns = slice(run.first, run.stop)
    if collected.scores is not None:
        collected.scores[rows, columns] = score[:count]
    low, high = engine.passes.pulses(score[:count], collected.longest_score[rows])  # 2.6
    collected.low += low
    collected.high += high
    if collected.pulse_widths is not None:
        collected.pulse_widths[rows, columns] = score[:count]
    score[count:whole] = 0.0
    products.currents(  # 2.7
        stored, rows.start, rows.stop, score[:whole], current, collected.value_current[rows]
    )
    engine.workspace.give_back(score)
