"""What a layer computed, and what its blocks did: the activity sets durations and energies."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Activity:
    """What the blocks did, per head and token: arrays of shape (heads, tokens).

    Widths are fractions of T_max; `key_current` and `value_current` are sums of |I| x width / T_max
    over cells in uA; `stored_keys` and `stored_values` are sums of written voltages in V. The last
    three are of dot products split digitally, and else 0.
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
    longest_partial: Array
    partial_counts: Array
    score_pulses: Array

    @classmethod
    def busiest(cls, heads: int, tokens: int) -> Activity:
        """An activity in which every pulse lasts T_max."""
        return cls(*(np.ones((heads, tokens)) for _ in fields(cls)))


@dataclass(frozen=True)
class Saturation:
    """Shares (0 to 1) of values beyond a range, per head (heads,).

    `partial`: of partial sums, where dot products are split digitally.
    """

    query: Array
    key: Array
    value: Array
    score_low: Array
    score_high: Array
    output: Array
    partial: Array | None = None


@dataclass(frozen=True)
class IdealError:
    """How y compares with *ideal*, per head (heads,): sums over tokens and features."""

    signal: Array
    """Sum of ideal's squares."""
    error: Array
    """Sum of the squared differences."""
    max_abs_error: Array


@dataclass(frozen=True)
class AttentionOutput:
    """What one layer computed.

    `y` (heads, tokens, head_dim); `ideal` if it was asked for. With details: `scores` S_raw in uA
    and `pulse_widths` P, both (heads, tokens, tokens) and 0 outside the window, and `codes`
    (heads, tokens, sub-tiles, head_dim), the counters' signed codes (the values themselves where
    ``levels.output`` is null). Where dot products are split digitally, `scores` are what partial
    sums add up to as they were counted, and `partials` their codes (heads, tokens, arrays, tokens).
    """

    y: Array
    activity: Activity
    saturation: Saturation
    ideal: IdealError | None = None
    scores: Array | None = None
    pulse_widths: Array | None = None
    codes: Array | None = None
    partials: Array | None = None
