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
from archsim.chip.quantiser import Quantised, Quantiser
from archsim.datapath.activity import AttentionOutput, Saturation
from archsim.datapath.ages import Ages
from archsim.datapath.direct import DirectProducts
from archsim.datapath.elementwise import ROWS, convert, line_by_line, pulses
from archsim.datapath.fused import fits, read_all
from archsim.datapath.head_input import HeadInput, Retention, VisibleColumns
from archsim.datapath.head_sums import HeadSums
from archsim.datapath.ideal import compare_with_ideal
from archsim.datapath.panels import PanelProducts
from archsim.datapath.scalers import scale
from archsim.errors import ConfigError
from archsim.machine.workspace import Workspace

Array = NDArray[np.float64]

Products = PanelProducts | DirectProducts


@dataclass(frozen=True)
class HeadEngine:
    """How heads are computed, and with what."""

    laws: Laws
    dtype: np.dtype[Any]
    compiled: bool
    workspace: Workspace
    retention: Retention | None
    details: bool
    ideal: bool

    def products(self, given: HeadInput) -> Products:
        """Matrix products over powers where they are exact, else cell by cell."""
        if given.panels:
            return PanelProducts(given, self.dtype, self.workspace, self.compiled)
        return DirectProducts(given)


def attend_head(
    q: Array,
    k: Array,
    v: Array,
    engine: HeadEngine,
    scalers: Mapping[str, tuple[float, float]],
    ages: Ages,
) -> AttentionOutput:
    """q, k, v (tokens, features); the output's arrays have no heads axis.

    Raises ConfigError if one of them, scaled, is not finite.
    """
    laws, tokens = engine.laws, len(q)
    scaled = _scaled({"q": q, "k": k, "v": v}, engine, scalers)  # 2.2
    written = _written(scaled, engine)  # 2.3
    given = HeadInput(
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
    products = engine.products(given)
    sums_of_rows = _read(products, engine, tokens)  # 2.5 to 2.8
    quantiser = laws.output.quantiser
    total = np.ascontiguousarray(sums_of_rows.total.T[:tokens])
    a, b = scalers["output"]
    y = a * quantiser.values(total, out=total) + b  # 2.9
    activity = _activity(given, products, sums_of_rows, written, laws)
    return AttentionOutput(
        y,
        activity,
        _saturation(sums_of_rows, written, activity, laws),
        compare_with_ideal(y, scaled, laws.ideal, scalers["output"], engine.workspace)
        if engine.ideal
        else None,
        sums_of_rows.scores,
        sums_of_rows.pulse_widths,
        sums_of_rows.codes,
        sums_of_rows.partials,
    )


@dataclass(frozen=True)
class _AsWritten:
    """q, k and v as they are after pulse generators and DACs."""

    query: Quantised
    keys: Quantised
    values: Quantised


def _scaled(
    given: Mapping[str, Array], engine: HeadEngine, scalers: Mapping[str, tuple[float, float]]
) -> dict[str, Array]:
    scaled = {}
    for name, x in given.items():
        scaled[name] = engine.workspace.array(name, x.shape, np.dtype(np.float64))
        if not scale(x, *scalers[name], out=scaled[name], compiled=engine.compiled):
            raise ConfigError(f"{name} holds values that are not finite")
    return scaled


def _written(scaled: Mapping[str, Array], engine: HeadEngine) -> _AsWritten:
    laws, exact = engine.laws, np.dtype(np.float64)
    widths, volts, mid_rail = laws.query, laws.stored, laws.mid_rail

    def write(name: str, quantiser: Quantiser, origin: float, into: str) -> Quantised:
        out = engine.workspace.array(into, scaled[name].shape, exact)
        return quantiser.write(scaled[name], origin, out, engine.compiled)

    return _AsWritten(
        write("q", widths, 0.0, "query"),
        write("k", volts, mid_rail, "keys"),
        write("v", volts, mid_rail, "values"),
    )


def _read(products: Products, engine: HeadEngine, tokens: int) -> HeadSums:
    """Every sub-tile read by all rows that see it, run after run."""
    laws = engine.laws
    sums_of_rows = HeadSums(tokens, laws, engine.details, engine.workspace)
    earlier: dict[int, Run] = {}
    runs: list[tuple[Run, Run | None]] = []
    for run in laws.ring.runs(0, tokens):
        runs.append((run, earlier.get(run.sub_tile)))
        earlier[run.sub_tile] = run
    if engine.compiled and fits(products, laws, engine.details):
        assert isinstance(products, PanelProducts)
        read_all(products, sums_of_rows, runs, laws.output, engine.workspace)
        return sums_of_rows
    # at most so many rows through all runs, then the next: what lies between stays bounded
    with line_by_line() if isinstance(products, PanelProducts) else nullcontext():
        for start in range(0, sums_of_rows.total.shape[1], ROWS):
            for run, old in runs:
                _read_run(engine, products, sums_of_rows, run, old, slice(start, start + ROWS))
    return sums_of_rows


def _activity(
    given: HeadInput,
    products: Products,
    sums_of_rows: HeadSums,
    written: _AsWritten,
    laws: Laws,
) -> Activity:
    query_pulses, (tokens, features) = given.pulses, given.query.shape
    seen = np.minimum(np.arange(1, tokens + 1), laws.ring.window).astype(np.float64)
    return Activity(
        query_pulses=np.sign(query_pulses) @ np.ones(features),
        longest_query=query_pulses.max(axis=1),
        key_current=products.key_current,
        longest_score=_longest(sums_of_rows.longest_score, tokens),
        value_current=sums_of_rows.value_current[:tokens] * given.output_full_scale,
        longest_output=_longest(sums_of_rows.longest_output, tokens),
        counts=sums_of_rows.counts[:tokens],
        written_columns=seen,
        written_sub_tiles=np.ceil(seen / laws.ring.columns),
        stored_keys=written.keys.sums,
        stored_values=written.values.sums,
        longest_partial=_longest(sums_of_rows.longest_partial, tokens),
        partial_counts=sums_of_rows.partial_counts[:tokens],
        score_pulses=sums_of_rows.score_pulses[:tokens],
    )


def _saturation(
    sums_of_rows: HeadSums, written: _AsWritten, activity: Activity, laws: Laws
) -> Saturation:
    pairs = float(activity.written_columns.sum())
    converted = float(activity.written_sub_tiles.sum()) * laws.features
    low, high, clipped, clipped_partials = sums_of_rows.beyond.tolist()
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
    engine: HeadEngine,
    products: Products,
    sums_of_rows: HeadSums,
    run: Run,
    old: Run | None,
    rows: slice,
) -> None:
    """Some rows that read one sub-tile from this run on, until it is overwritten.

    The first rows find the sub-tile turning: new columns up to their own, `old` ones behind. Their
    charges add up before the conversion.
    """
    features, most = sums_of_rows.total.shape
    window, work, dtype = engine.laws.ring.window, engine.workspace, engine.dtype
    view = VisibleColumns(run, window)
    first, until = view.whole
    now = slice(max(first, rows.start), min(until, rows.stop, most))
    if now.start >= now.stop:
        return
    current = work.shared("current", (features, now.stop - now.start), dtype)
    _add_run(engine, products, sums_of_rows, view, now, current)
    if old is not None:
        view = VisibleColumns(old, window, overwritten=True)
        part = slice(now.start, min(now.stop, view.whole[1]))
        if part.start < part.stop:
            more = work.shared("more", (features, part.stop - part.start), dtype)
            _add_run(engine, products, sums_of_rows, view, part, more)
            current[:, : more.shape[1]] += more
    sums_of_rows.beyond[2] += convert(  # 2.8
        current,
        sums_of_rows.total[:, now],
        sums_of_rows.longest_output[now],
        sums_of_rows.counts[now],
        engine.laws.output,
        engine.workspace,
    )
    if sums_of_rows.codes is not None:
        _add_rows(sums_of_rows.codes[:, run.sub_tile], now, current)


def _add_run(
    engine: HeadEngine,
    products: Products,
    sums_of_rows: HeadSums,
    view: VisibleColumns,
    rows: slice,
    out: NDArray[Any],
) -> None:
    """Both products of some rows with one run; A_raw / full scale goes into `out`."""
    run, readout = view.run, engine.laws.readout
    columns, longest = slice(run.first, run.stop), sums_of_rows.longest_score[rows]
    score = engine.workspace.shared("score", (run.stop - run.first, len(longest)), engine.dtype)
    if readout.conversion is None:
        products.scores(view, rows, 0, score)  # 2.5
    else:
        _add_partials(engine, readout.conversion, products, sums_of_rows, view, rows, score)
    if sums_of_rows.scores is not None:
        _add_rows(sums_of_rows.scores[:, columns], rows, score * readout.saturation)
    sums_of_rows.beyond[:2] += pulses(score, longest, readout)  # 2.6
    if readout.widths is not None:
        sums_of_rows.score_pulses[rows] += np.count_nonzero(score, axis=0)
    if sums_of_rows.pulse_widths is not None:
        _add_rows(sums_of_rows.pulse_widths[:, columns], rows, score)
    products.currents(view, rows, score, out, sums_of_rows.value_current[rows])  # 2.7


def _add_partials(
    engine: HeadEngine,
    conversion: Conversion,
    products: Products,
    sums_of_rows: HeadSums,
    view: VisibleColumns,
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
        sums_of_rows.beyond[3] += convert(
            score,
            total,
            sums_of_rows.longest_partial[rows],
            sums_of_rows.partial_counts[rows],
            conversion,
            work,
        )
        if sums_of_rows.partials is not None:
            _add_rows(sums_of_rows.partials[:, part, run.first : run.stop], rows, score)
    readout.score(total, score)


def _add_rows(kept: Array, rows: slice, lines: NDArray[Any]) -> None:
    """Add lines (n, rows) to what is kept (tokens, n); what a row does not see is 0."""
    some = kept[rows]
    some += lines.T[: len(some)]
