"""Attention of one layer as the hardware computes it, with the activity that time and energy need.

FACTS 2 step by step, in panels of query rows: scalers, quantisers, first product, HardSigmoid,
second product by physical sub-tile, signed conversion, digital sum.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from archsim.components.head import Head
from archsim.datapath.current_sums import ValueCurrentSums, key_current_sums
from archsim.datapath.products import first_product, operand, second_product
from archsim.errors import ConfigError

Array = NDArray[np.float64]
Scalers = Mapping[str, tuple[Array, Array]]

PANEL = 64
"""Query rows computed at once: long enough for matrix products, short enough for the caches."""

DEFAULT_SCALERS = {"q": (1.0, 0.0), "k": (1.0, 0.45), "v": (1.0, 0.45), "output": (1.0, 0.0)}
"""(a, b) of FACTS 2.2 where a trace gives none."""


@dataclass(frozen=True)
class Activity:
    """What the blocks did, per head and token: arrays of shape (heads, tokens).

    Widths are fractions of T_max; `key_current` and `value_current` are sums of |I| x width / T_max
    over cells in uA; `stored_keys` and `stored_values` are sums of written voltages in V.
    """

    query_pulses: Array
    longest_query: Array
    key_current: Array
    longest_score: Array
    value_current: Array
    longest_output: Array
    counts: Array
    written_columns: Array
    written_sub_tiles: Array
    stored_keys: Array
    stored_values: Array


@dataclass(frozen=True)
class Saturation:
    """Shares (0 to 1) of values beyond a range, per head (heads,)."""

    query: Array
    key: Array
    value: Array
    score_low: Array
    score_high: Array
    output: Array


@dataclass(frozen=True)
class AttentionOutput:
    """What one layer computed.

    `y` (heads, tokens, head_dim). With details: `scores` S_raw in uA and `pulse_widths` P, both
    (heads, tokens, tokens) and 0 outside the window, and `codes` (heads, tokens, sub-tiles,
    head_dim), the counters' signed codes (the values themselves where ``levels.output`` is null).
    """

    y: Array
    activity: Activity
    saturation: Saturation
    scores: Array | None = None
    pulse_widths: Array | None = None
    codes: Array | None = None


def resolve_scalers(scalers: Scalers | None, heads: int) -> dict[str, tuple[Array, Array]]:
    """Per-head (a, b) for q, k, v and output, defaults filled in.

    Raises ConfigError for an unknown name, a wrong shape, or a value that is not finite.
    """
    given = dict(scalers or {})
    unknown = given.keys() - DEFAULT_SCALERS.keys()
    if unknown:
        raise ConfigError(f"scalers: unknown name {sorted(unknown)[0]!r}; use q, k, v, output")
    resolved = {}
    for name, default in DEFAULT_SCALERS.items():
        try:
            a, b = (np.asarray(value, np.float64) for value in given.get(name, default))
        except (TypeError, ValueError):
            raise ConfigError(f"scalers.{name}: give a pair (a, b) of numbers") from None
        for array in (a, b):
            if array.shape not in {(), (heads,)} or not np.isfinite(array).all():
                raise ConfigError(f"scalers.{name}: a and b must be finite, of shape ({heads},)")
        resolved[name] = (np.broadcast_to(a, (heads,)), np.broadcast_to(b, (heads,)))
    return resolved


def attend_layer(
    q: Array, k: Array, v: Array, head: Head, scalers: Scalers | None = None, details: bool = False
) -> AttentionOutput:
    """Run one layer's heads over a whole trace; q, k, v (heads, tokens, head_dim), finite.

    Raises ConfigError if the shapes do not fit each other or the arrays.
    """
    if q.ndim != 3 or q.shape != k.shape or q.shape != v.shape or 0 in q.shape:
        raise ConfigError(
            "q, k and v must have the same shape (heads, tokens, head_dim), none of them 0; "
            f"got {q.shape}, {k.shape}, {v.shape}"
        )
    for name, array in (("q", q), ("k", k), ("v", v)):
        if not np.isfinite(array).all():
            raise ConfigError(f"{name} holds values that are not finite")
    head.sub_tiles.check_features(q.shape[2])
    resolved = resolve_scalers(scalers, len(q))

    def one_head(h: int) -> AttentionOutput:
        pairs = {name: (float(a[h]), float(b[h])) for name, (a, b) in resolved.items()}
        return _attend_head(q[h], k[h], v[h], head, pairs, details)

    # heads in parallel, products on one thread each: many threads on small products get in each
    # other's way, and the number of threads must not change a result
    threads = min(len(q), os.cpu_count() or 1)
    with _blas().limit(limits=1), ThreadPoolExecutor(threads) as pool:
        return _stack(list(pool.map(one_head, range(len(q)))))


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


Part = TypeVar("Part", Activity, Saturation)


def _stack(outputs: list[AttentionOutput]) -> AttentionOutput:
    def gather(kind: type[Part], parts: list[Part]) -> Part:
        return kind(**{f.name: np.stack([getattr(p, f.name) for p in parts]) for f in fields(kind)})

    def optional(name: str) -> Array | None:
        parts = [getattr(o, name) for o in outputs]
        return None if parts[0] is None else np.stack(parts)

    return AttentionOutput(
        np.stack([o.y for o in outputs]),
        gather(Activity, [o.activity for o in outputs]),
        gather(Saturation, [o.saturation for o in outputs]),
        optional("scores"),
        optional("pulse_widths"),
        optional("codes"),
    )


def _blocks(tokens: int, rate: float) -> Iterator[tuple[int, int]]:
    """Stretches of rows over which factors of decay stay in a float's range, whole panels each."""
    panels = tokens if rate == 0.0 else max(1, int(600 / (3 * rate)) // PANEL)
    length = panels * PANEL
    for start in range(0, tokens, length):
        yield start, min(start + length, tokens)


def _hidden(start: int, stop: int, first: int, window: int) -> NDArray[np.bool_]:
    """Where token j of [first, stop) is not in the window of token i of [start, stop)."""
    age = np.arange(start, stop)[:, None] - np.arange(first, stop)
    return (age < 0) | (age >= window)


def _attend_head(
    q: Array,
    k: Array,
    v: Array,
    head: Head,
    scalers: Mapping[str, tuple[float, float]],
    details: bool,
) -> AttentionOutput:
    tokens, features = q.shape
    tiles, cell, window = head.sub_tiles, head.cell, head.sub_tiles.window
    inputs = ("q", q), ("k", k), ("v", v)
    scaled = {n: scalers[n][0] * x + scalers[n][1] for n, x in inputs}  # 2.2
    widths = head.pulse_generator.widths(scaled["q"])  # 2.3
    key_volts = head.write_path.voltages(scaled["k"])
    value_volts = head.write_path.voltages(scaled["v"])
    rate = cell.decay_per_token
    fade = float(np.exp(-rate * (min(tokens, window) - 1)))
    # a pulse cannot be negative or longer than T_max, even where the quantiser is ideal
    pulses = np.clip(widths, 0.0, 1.0)
    drawn = ValueCurrentSums(value_volts - cell.mid_rail, cell, rate, fade)

    y = np.empty_like(q)
    scores = np.zeros((tokens, tokens)) if details else None
    pulse_widths = np.zeros((tokens, tokens)) if details else None
    all_codes = np.zeros((tokens, tiles.count, features)) if details else None
    longest_score, longest_output = np.empty(tokens), np.empty(tokens)
    counts, value_current = np.empty(tokens), np.empty(tokens)
    low = high = clipped = 0
    time = np.arange(tokens, dtype=np.float64)

    for block, until in _blocks(tokens, rate):
        oldest = max(0, block - window + 1)
        written = time[oldest:until]
        keys, values = (
            operand(volts[oldest:until], cell, written, rate, origin=float(block))
            for volts in (key_volts, value_volts)
        )
        for start in range(block, until, PANEL):
            stop = min(start + PANEL, until)
            first = max(0, start - window + 1)
            rows, columns = slice(start, stop), slice(first, stop)
            read = time[rows]
            score = first_product(  # 2.5
                widths[rows], keys.columns(slice(first - oldest, stop - oldest)), read
            )
            hidden = _hidden(start, stop, first, window)
            score[hidden] = 0.0
            pulse = head.score_converter.widths(score)  # 2.6
            low += int(np.count_nonzero(score < 0))
            high += int(np.count_nonzero(score > head.score_converter.saturation))
            runs = tiles.runs(first, stop)
            used = sorted({run.sub_tile for run in runs})
            current = np.zeros((len(used), stop - start, features))
            for run in runs:  # 2.7: old and new columns of a sub-tile add up
                part = values.columns(slice(run.first - oldest, run.stop - oldest))
                current[used.index(run.sub_tile)] += second_product(
                    pulse[:, run.first - first : run.stop - first], part, read
                )
            normal = head.output_converter.normalised(current)  # 2.8
            codes = head.output_converter.quantiser.codes(normal)
            y[rows] = head.accumulator.output(  # 2.9
                head.output_converter.quantiser.values(codes), *scalers["output"]
            )
            magnitude = np.abs(normal)
            clipped += int(np.count_nonzero(magnitude > 1))
            np.minimum(magnitude, 1.0, out=magnitude)
            longest_score[rows] = pulse.max(axis=1)
            longest_output[rows] = magnitude.max(axis=(0, 2))
            counts[rows] = head.counters.counts(codes, magnitude).sum(axis=(0, 2))
            value_current[rows] = drawn.panel(pulse, columns, read)
            if scores is not None and pulse_widths is not None and all_codes is not None:
                scores[rows, columns], pulse_widths[rows, columns] = score, pulse
                all_codes[rows, used] = codes.transpose(1, 0, 2)

    seen = np.minimum(np.arange(1, tokens + 1), window).astype(np.float64)
    activity = Activity(
        query_pulses=np.count_nonzero(pulses, axis=1).astype(np.float64),
        longest_query=pulses.max(axis=1),
        key_current=key_current_sums(pulses, key_volts - cell.mid_rail, cell, window, rate, fade),
        longest_score=longest_score,
        value_current=value_current,
        longest_output=longest_output,
        counts=counts,
        written_columns=seen,
        written_sub_tiles=np.ceil(seen / tiles.columns),
        stored_keys=np.clip(key_volts, 0, cell.supply).sum(axis=1),
        stored_values=np.clip(value_volts, 0, cell.supply).sum(axis=1),
    )
    pairs = float(seen.sum())
    saturation = Saturation(
        query=np.asarray(head.pulse_generator.quantiser.saturated(scaled["q"])),
        key=np.asarray(head.write_path.quantiser.saturated(scaled["k"])),
        value=np.asarray(head.write_path.quantiser.saturated(scaled["v"])),
        score_low=np.asarray(low / pairs),
        score_high=np.asarray(high / pairs),
        output=np.asarray(clipped / (float(activity.written_sub_tiles.sum()) * features)),
    )
    return AttentionOutput(y, activity, saturation, scores, pulse_widths, all_codes)
