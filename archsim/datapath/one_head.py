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

from archsim.chip.activity import Activity
from archsim.chip.array import Run
from archsim.chip.conversion import Conversion
from archsim.chip.laws import Laws
from archsim.chip.quantiser import Quantiser, Written
from archsim.datapath.activity import AttentionOutput, Saturation
from archsim.datapath.ages import Ages
from archsim.datapath.collected import Collected
from archsim.datapath.direct import DirectProducts
from archsim.datapath.fused import fits, read_all
from archsim.datapath.ideal import compare_with_ideal
from archsim.datapath.panels import PanelProducts
from archsim.datapath.passes import ROWS, convert, line_by_line, pulses
from archsim.datapath.problem import HeadProblem, Retention, View
from archsim.datapath.scalers import scale
from archsim.errors import ConfigError
from archsim.machine.workspace import Workspace

Array = NDArray[np.float64]

Products = PanelProducts | DirectProducts


@dataclass(frozen=True)
class Engine:
    """How heads are computed, and with what."""

    laws: Laws
    dtype: np.dtype[Any]
    compiled: bool
    workspace: Workspace
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
    laws, tokens = engine.laws, len(q)
    scaled = _scaled({"q": q, "k": k, "v": v}, engine, scalers)  # 2.2
    written = _written(scaled, engine)  # 2.3
    problem = HeadProblem(
        written.query.values,
        written.keys.values,
        written.values.values,
        laws.cell,
        engine.retention,
        ages,
        laws.ring.window,
        laws.readout.full_scale,
        laws.output.full_scale,
        tuple(slice(*part) for part in laws.readout.parts),
        laws.query.grid(0.0),
        laws.stored.grid(laws.mid_rail),
    )
    products = engine.products(problem)
    collected = _read(products, engine, tokens)  # 2.5 to 2.8
    quantiser = laws.output.quantiser
    total = np.ascontiguousarray(collected.total.T[:tokens])
    a, b = scalers["output"]
    y = a * quantiser.values(total, out=total) + b  # 2.9
    activity = _activity(problem, products, collected, written, laws)
    return AttentionOutput(
        y,
        activity,
        _saturation(collected, written, activity, laws),
        compare_with_ideal(y, scaled, laws.ideal, scalers["output"], engine.workspace)
        if engine.ideal
        else None,
        collected.scores,
        collected.pulse_widths,
        collected.codes,
        collected.partials,
    )


@dataclass(frozen=True)
class _AsWritten:
    """q, k and v as they are after pulse generators and DACs."""

    query: Written
    keys: Written
    values: Written


def _scaled(
    given: Mapping[str, Array], engine: Engine, scalers: Mapping[str, tuple[float, float]]
) -> dict[str, Array]:
    scaled = {}
    for name, x in given.items():
        scaled[name] = engine.workspace.array(name, x.shape, np.dtype(np.float64))
        if not scale(x, *scalers[name], out=scaled[name], compiled=engine.compiled):
            raise ConfigError(f"{name} holds values that are not finite")
    return scaled


def _written(scaled: Mapping[str, Array], engine: Engine) -> _AsWritten:
    laws, exact = engine.laws, np.dtype(np.float64)
    widths, volts, mid_rail = laws.query, laws.stored, laws.mid_rail

    def write(name: str, quantiser: Quantiser, origin: float, into: str) -> Written:
        out = engine.workspace.array(into, scaled[name].shape, exact)
        return quantiser.write(scaled[name], origin, out, engine.compiled)

    return _AsWritten(
        write("q", widths, 0.0, "query"),
        write("k", volts, mid_rail, "keys"),
        write("v", volts, mid_rail, "values"),
    )


def _read(products: Products, engine: Engine, tokens: int) -> Collected:
    """Every sub-tile read by all rows that see it, run after run."""
    laws = engine.laws
    collected = Collected(tokens, laws, engine.details, engine.workspace)
    earlier: dict[int, Run] = {}
    runs: list[tuple[Run, Run | None]] = []
    for run in laws.ring.runs(0, tokens):
        runs.append((run, earlier.get(run.sub_tile)))
        earlier[run.sub_tile] = run
    if engine.compiled and fits(products, laws, engine.details):
        assert isinstance(products, PanelProducts)
        read_all(products, collected, runs, laws.output, engine.workspace)
        return collected
    # at most so many rows through all runs, then the next: what lies between stays bounded
    with line_by_line() if isinstance(products, PanelProducts) else nullcontext():
        for start in range(0, collected.total.shape[1], ROWS):
            for run, old in runs:
                _read_run(engine, products, collected, run, old, slice(start, start + ROWS))
    return collected


def _activity(
    problem: HeadProblem,
    products: Products,
    collected: Collected,
    written: _AsWritten,
    laws: Laws,
) -> Activity:
    query_pulses, (tokens, features) = problem.pulses, problem.query.shape
    seen = np.minimum(np.arange(1, tokens + 1), laws.ring.window).astype(np.float64)
    return Activity(
        query_pulses=np.sign(query_pulses) @ np.ones(features),
        longest_query=query_pulses.max(axis=1),
        key_current=products.key_current,
        longest_score=_longest(collected.longest_score, tokens),
        value_current=collected.value_current[:tokens] * problem.output_full_scale,
        longest_output=_longest(collected.longest_output, tokens),
        counts=collected.counts[:tokens],
        written_columns=seen,
        written_sub_tiles=np.ceil(seen / laws.ring.columns),
        stored_keys=written.keys.sums,
        stored_values=written.values.sums,
        longest_partial=_longest(collected.longest_partial, tokens),
        partial_counts=collected.partial_counts[:tokens],
        score_pulses=collected.score_pulses[:tokens],
    )


def _saturation(
    collected: Collected, written: _AsWritten, activity: Activity, laws: Laws
) -> Saturation:
    pairs = float(activity.written_columns.sum())
    converted = float(activity.written_sub_tiles.sum()) * laws.features
    low, high, clipped, clipped_partials = collected.beyond.tolist()
    digital = laws.readout.conversion is not None
    partials = pairs * len(laws.readout.parts)
    return Saturation(
        query=np.asarray(written.query.beyond),
        key=np.asarray(written.keys.beyond),
        value=np.asarray(written.values.beyond),
        score_low=np.asarray(low / pairs),
        score_high=np.asarray(high / pairs),
        output=np.asarray(clipped / converted),
        partial=np.asarray(clipped_partials / partials) if digital else None,
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
    window, work, dtype = engine.laws.ring.window, engine.workspace, engine.dtype
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
        engine.laws.output,
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
    run, readout = view.run, engine.laws.readout
    columns, longest = slice(run.first, run.stop), collected.longest_score[rows]
    score = engine.workspace.shared("score", (run.stop - run.first, len(longest)), engine.dtype)
    if readout.conversion is None:
        products.scores(view, rows, 0, score)  # 2.5
    else:
        _add_partials(engine, readout.conversion, products, collected, view, rows, score)
    if collected.scores is not None:
        _add_rows(collected.scores[:, columns], rows, score * readout.saturation)
    collected.beyond[:2] += pulses(score, longest, readout)  # 2.6
    if readout.widths is not None:
        collected.score_pulses[rows] += np.count_nonzero(score, axis=0)
    if collected.pulse_widths is not None:
        _add_rows(collected.pulse_widths[:, columns], rows, score)
    products.currents(view, rows, score, out, collected.value_current[rows])  # 2.7


def _add_partials(
    engine: Engine,
    conversion: Conversion,
    products: Products,
    collected: Collected,
    view: View,
    rows: slice,
    score: NDArray[Any],
) -> None:
    """First product of some rows with one run, array by array of the stacks; S / S_sat into
    `score`, 0 where rows do not see.
    """
    run, work, readout = view.run, engine.workspace, engine.laws.readout
    total = work.shared("partials", score.shape, np.dtype(np.float64))
    total[...] = 0.0
    for part in range(len(readout.parts)):
        products.scores(view, rows, part, score)
        collected.beyond[3] += convert(
            score,
            total,
            collected.longest_partial[rows],
            collected.partial_counts[rows],
            conversion,
            work,
        )
        if collected.partials is not None:
            _add_rows(collected.partials[:, part, run.first : run.stop], rows, score)
    readout.score(total, score)


def _add_rows(kept: Array, rows: slice, lines: NDArray[Any]) -> None:
    """Add lines (n, rows) to what is kept (tokens, n); what a row does not see is 0."""
    some = kept[rows]
    some += lines.T[: len(some)]
