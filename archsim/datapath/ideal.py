"""*Ideal* attention: the mathematics the hardware approximates (DESIGN, function)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from archsim.components.head import Head
from archsim.datapath.activity import IdealError
from archsim.datapath.scalers import Scalers, resolve_scalers

Array = NDArray[np.float64]

_ROWS = 128
"""Rows computed at once."""


def ideal_attention(
    q: Array, k: Array, v: Array, head: Head, scalers: Scalers | None = None
) -> Array:
    """Sliding-window HardSigmoid attention with the same scalers, nothing quantised or clipped.

    ``y = a_o sum_j clip(19.3 q1.(k1 - 0.45) / 80, 0, 1) 19.3 (v1 - 0.45) / 40 + b_o`` over the
    window; q, k, v and the result (heads, tokens, head_dim).
    """
    pairs = resolve_scalers(scalers, len(q))
    y = np.empty_like(q)
    for h in range(len(q)):
        scaled = {
            n: pairs[n][0][h] * x[h] + pairs[n][1][h] for n, x in zip("qkv", (q, k, v), strict=True)
        }
        a, b = pairs["output"]
        y[h] = _ideal_head(scaled, head, (float(a[h]), float(b[h])))
    return y


def _ideal_head(scaled: Mapping[str, Array], head: Head, output: tuple[float, float]) -> Array:
    """One head from its scaled q, k, v (tokens, features), in panels of rows."""
    slope, mid, window = head.cell.linear_slope, head.cell.mid_rail, head.sub_tiles.window
    tokens = len(scaled["q"])
    query = scaled["q"] * (slope / head.score_converter.saturation)
    keys = np.ascontiguousarray((scaled["k"] - mid).T)
    values = (scaled["v"] - mid) * (slope / head.output_converter.saturation * output[0])
    y = np.empty_like(query)
    for first in range(0, tokens, _ROWS):
        stop = min(first + _ROWS, tokens)
        oldest = max(0, first - window + 1)
        weight = query[first:stop] @ keys[:, oldest:stop]
        np.clip(weight, 0.0, 1.0, out=weight)
        # only the edges of the window cut through a panel
        rows = np.arange(first, stop)[:, None]
        weight[:, first - oldest :] *= rows >= np.arange(first, stop)
        leaving = np.arange(oldest, max(oldest, stop - window))
        weight[:, : len(leaving)] *= rows - leaving < window
        y[first:stop] = weight @ values[oldest:stop]
    y += output[1]
    return y


def compare_with_ideal(
    y: Array, scaled: Mapping[str, Array], head: Head, output: tuple[float, float]
) -> IdealError:
    """One head's y (tokens, features) against ideal, from the same scaled q, k, v."""
    ideal = _ideal_head(scaled, head, output)
    difference = y - ideal
    return IdealError(
        np.asarray(np.vdot(ideal, ideal)),
        np.asarray(np.vdot(difference, difference)),
        np.asarray(np.abs(difference).max()),
    )
