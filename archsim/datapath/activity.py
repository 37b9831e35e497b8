"""What a layer computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.chip.activity import Activity

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Saturation:
    """Shares (0 to 1) of values beyond a range, per head (heads,).

    `partial`: of partial sums, where they are digitised.
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
    ``levels.output`` is null). Where a readout digitises bit lines, `scores` are what the codes of
    their partial sums add up to, and `partials` the codes (heads, tokens, arrays, tokens).
    """

    y: Array
    activity: Activity
    saturation: Saturation
    ideal: IdealError | None = None
    scores: Array | None = None
    pulse_widths: Array | None = None
    codes: Array | None = None
    partials: Array | None = None
