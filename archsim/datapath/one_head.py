"""One head over a whole sequence (FACTS 2, step by step).

Scalers, quantisers, first product, HardSigmoid, second product by physical sub-tile, signed
conversion, digital sum. A sub-tile is written by a run of consecutive tokens and read by all rows
until the window has moved on; the engine goes from run to run, and through many rows of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.chip.array import Run
from archsim.chip.head import Head
from archsim.chip.row_split import RowSplit
from archsim.datapath.activity import Activity, AttentionOutput, Saturation
from archsim.datapath.ages import Ages
from archsim.datapath.collected import Collected
from archsim.datapath.direct import DirectProducts
from archsim.datapath.fused import fits, read_all
from archsim.datapath.ideal import compare_with_ideal
from archsim.datapath.panels import PanelProducts
from archsim.datapath.passes import ROWS, convert, line_by_line, pulses
from archsim.datapath.problem import CellLaw, HeadProblem, Retention, View
from archsim.datapath.scalers import scale
from archsim.errors import ConfigError
from archsim.machine.workspace import Workspace

Array = NDArray[np.float64]

Products = PanelProducts | DirectProducts


@dataclass(frozen=True)
class Engine:
    """How heads are computed, and with what."""

    head: Head
    dtype: np.dtype[Any]
    compiled: bool
    workspace: Workspace
    law: CellLaw
    retention: Retention | None
    details: bool
    ideal: bool

    def products(self, problem: HeadProblem) -> Products:
        """Matrix products over powers where they are exact, else cell by cell."""
        if problem.panels:
            return PanelProducts(problem, self.dtype, self.workspace, self.compiled)
        return DirectProducts(problem)


def attend_head(
    q: Array,
    k: Array,
    v: Array,
    engine: Engine,
    scalers: Mapping[str, tuple[float, float]],
    ages: Ages,
) -> AttentionOutput:
    """q, k, v (tokens, features); the output's arrays have no heads axis.

    Raises ConfigError if one of them, scaled, is not finite.
    """
    head = engine.head
    tiles, mid_rail, split = head.sub_tiles, head.cell.mid_rail, head.row_split
    tokens, features = q.shape
    exact = np.dtype(np.float64)

    def array(name: str) -> Array:
        return engine.workspace.array(name, (tokens, features), exact)

    scaled = {}
    for name, x in (("q", q), ("k", k), ("v", v)):  # 2.2
        scaled[name] = array(name)
        if not scale(x, *scalers[name], out=scaled[name], compiled=engine.compiled):
            raise ConfigError(f"{name} holds values that are not finite")
    widths, volts = head.pulse_generator.quantiser, head.write_path.quantiser
    query = widths.write(scaled["q"], 0.0, array("query"), engine.compiled)  # 2.3
    keys = volts.write(scaled["k"], mid_rail, array("keys"), engine.compiled)
    values = volts.write(scaled["v"], mid_rail, array("values"), engine.compiled)
    problem = HeadProblem(
        query.values,
        keys.values,
        values.values,
        engine.law,
        engine.retention,
        ages,
        tiles.window,
        (head.score_converter if split is None else split.converter).saturation,
        head.output_converter.saturation,
        tiles.parts,
        widths.grid(0.0),
        volts.grid(mid_rail),
    )
    products = engine.products(problem)
    fused = engine.compiled and fits(products, head, engine.details)
    collected = Collected(tokens, features, tiles, engine.details, engine.workspace)
    earlier: dict[int, Run] = {}
    runs: list[tuple[Run, Run | None]] = []
    for run in tiles.runs(0, tokens):
        runs.append((run, earlier.get(run.sub_tile)))
        earlier[run.sub_tile] = run
    if fused:
        assert isinstance(products, PanelProducts)
        read_all(products, collected, runs, head.output_converter, engine.workspace)
    else:
        # at most so many rows through all runs, then the next: what lies between stays bounded
        with line_by_line() if isinstance(products, PanelProducts) else nullcontext():
            for start in range(0, collected.total.shape[1], ROWS):
                for run, old in runs:
                    _read_run(engine, products, collected, run, old, slice(start, start + ROWS))

    quantiser = head.output_converter.quantiser
    total = np.ascontiguousarray(collected.total.T[:tokens])
    y = head.accumulator.output(quantiser.values(total, out=total), *scalers["output"])  # 2.9
    seen = np.minimum(np.arange(1, tokens + 1), tiles.window).astype(np.float64)
    query_pulses = problem.pulses
    activity = Activity(
        query_pulses=np.sign(query_pulses) @ np.ones(features),
        longest_query=query_pulses.max(axis=1),
        key_current=products.key_current,
        longest_score=_longest(collected.longest_score, tokens),
        value_current=collected.value_current[:tokens] * problem.output_full_scale,
        longest_output=_longest(collected.longest_output, tokens),
        counts=collected.counts[:tokens],
        written_columns=seen,
        written_sub_tiles=np.ceil(seen / tiles.columns),
        stored_keys=keys.sums,
        stored_values=values.sums,
        longest_partial=_longest(collected.longest_partial, tokens),
        partial_counts=collected.partial_counts[:tokens],
        score_pulses=collected.score_pulses[:tokens],
    )
    pairs = float(seen.sum())
    low, high, clipped, clipped_partials = collected.beyond.tolist()
    saturation = Saturation(
        query=np.asarray(query.beyond),
        key=np.asarray(keys.beyond),
        value=np.asarray(values.beyond),
        score_low=np.asarray(low / pairs),
        score_high=np.asarray(high / pairs),
        output=np.asarray(clipped / (float(activity.written_sub_tiles.sum()) * features)),
        partial=None
        if split is None
        else np.asarray(clipped_partials / (pairs * len(tiles.parts))),
    )
    return AttentionOutput(
        y,
        activity,
        saturation,
        compare_with_ideal(y, scaled, head, scalers["output"], engine.workspace)
        if engine.ideal
        else None,
        collected.scores,
        collected.pulse_widths,
        collected.codes,
        collected.partials,
    )


def _longest(rows: Array, tokens: int) -> Array:
    """The longest pulse of each row, at most T_max, (tokens,)."""
    longest: Array = np.minimum(rows[:tokens], 1.0)
    return longest


def _read_run(
    engine: Engine,
    products: Products,
    collected: Collected,
    run: Run,
    old: Run | None,
    rows: slice,
) -> None:
    """Some rows that read one sub-tile from this run on, until it is overwritten.

    The first rows find the sub-tile turning: new columns up to their own, `old` ones behind. Their
    charges add up before the conversion.
    """
    features, most = collected.total.shape
    window, work, dtype = engine.head.sub_tiles.window, engine.workspace, engine.dtype
    view = View(run, window)
    first, until = view.whole
    now = slice(max(first, rows.start), min(until, rows.stop, most))
    if now.start >= now.stop:
        return
    current = work.shared("current", (features, now.stop - now.start), dtype)
    _add_run(engine, products, collected, view, now, current)
    if old is not None:
        view = View(old, window, overwritten=True)
        part = slice(now.start, min(now.stop, view.whole[1]))
        if part.start < part.stop:
            more = work.shared("more", (features, part.stop - part.start), dtype)
            _add_run(engine, products, collected, view, part, more)
            current[:, : more.shape[1]] += more
    collected.beyond[2] += convert(  # 2.8
        current,
        collected.total[:, now],
        collected.longest_output[now],
        collected.counts[now],
        engine.head.output_converter,
        engine.head.counters,
        engine.workspace,
    )
    if collected.codes is not None:
        _add_rows(collected.codes[:, run.sub_tile], now, current)


def _add_run(
    engine: Engine,
    products: Products,
    collected: Collected,
    view: View,
    rows: slice,
    out: NDArray[Any],
) -> None:
    """Both products of some rows with one run; A_raw / full scale goes into `out`."""
    run, split = view.run, engine.head.row_split
    columns, longest = slice(run.first, run.stop), collected.longest_score[rows]
    score = engine.workspace.shared("score", (run.stop - run.first, len(longest)), engine.dtype)
    if split is None:
        products.scores(view, rows, 0, score)  # 2.5
    else:
        _add_partials(engine, split, products, collected, view, rows, score)
    if collected.scores is not None:
        full_scale = engine.head.score_converter.saturation
        _add_rows(collected.scores[:, columns], rows, score * full_scale)
    counted = longest if split is None else longest.copy()
    collected.beyond[:2] += pulses(score, counted, engine.head.score_converter)  # 2.6
    if split is not None:
        split.widths(score)
        np.maximum(longest, score.max(axis=0), out=longest)
        collected.score_pulses[rows] += np.count_nonzero(score, axis=0)
    if collected.pulse_widths is not None:
        _add_rows(collected.pulse_widths[:, columns], rows, score)
    products.currents(view, rows, score, out, collected.value_current[rows])  # 2.7


def _add_partials(
    engine: Engine,
    split: RowSplit,
    products: Products,
    collected: Collected,
    view: View,
    rows: slice,
    score: NDArray[Any],
) -> None:
    """First product of some rows with one run, array by array of the stacks; S / S_sat into
    `score`, 0 where rows do not see.
    """
    run, work = view.run, engine.workspace
    total = work.shared("partials", score.shape, np.dtype(np.float64))
    total[...] = 0.0
    for part in range(split.parts):
        products.scores(view, rows, part, score)
        collected.beyond[3] += convert(
            score,
            total,
            collected.longest_partial[rows],
            collected.partial_counts[rows],
            split.converter,
            split.counters,
            work,
        )
        if collected.partials is not None:
            _add_rows(collected.partials[:, part, run.first : run.stop], rows, score)
    split.score(total, score)


def _add_rows(kept: Array, rows: slice, lines: NDArray[Any]) -> None:
    """Add lines (n, rows) to what is kept (tokens, n); what a row does not see is 0."""
    some = kept[rows]
    some += lines.T[: len(some)]
