"""*Ideal* attention: the mathematics the hardware approximates (DESIGN, function)."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.chip.laws import IdealLaw, Laws
from archsim.datapath.activity import IdealError
from archsim.datapath.products import PANEL, Real, in_panels, in_rows
from archsim.datapath.scalers import Scalers, resolve_scalers
from archsim.machine.workspace import Workspace

Array = NDArray[np.float64]


_USUAL = 1e8
"""Terms of ideal attention up to here are within 1e-6 in single precision."""


def ideal_attention(
    q: Array, k: Array, v: Array, laws: Laws, scalers: Scalers | None = None
) -> Array:
    """Sliding-window HardSigmoid attention with the same scalers, nothing quantised or clipped.

    ``y = a_o sum_j clip(g q1.(k1 - mid) / S_sat, 0, 1) g (v1 - mid) / A_sat + b_o`` over the
    window, g the linear slope; q, k, v and the result (heads, tokens, head_dim).
    """
    pairs = resolve_scalers(scalers, len(q), laws.mid_rail)
    work, y, law = Workspace(), np.empty_like(q), laws.ideal
    for h in range(len(q)):
        scaled = {
            n: pairs[n][0][h] * x[h] + pairs[n][1][h] for n, x in zip("qkv", (q, k, v), strict=True)
        }
        a, b = pairs["output"]
        y[h] = _ideal_head(scaled, law, (float(a[h]), float(b[h])), np.dtype(np.float64), work)
    return y


def _ideal_head(
    scaled: Mapping[str, Array],
    law: IdealLaw,
    output: tuple[float, float],
    dtype: np.dtype[Any],
    work: Workspace,
) -> Real:
    """One head from its scaled q, k, v (tokens, features), in panels of rows."""
    tokens, features = scaled["q"].shape
    panels = -(-tokens // PANEL)
    query = work.array("ideal queries", (panels, features, PANEL), dtype)
    in_panels(scaled["q"], query)
    query *= law.score_gain
    keys = work.array("ideal keys", (panels * PANEL, features), dtype)
    np.subtract(scaled["k"], law.mid_rail, out=keys[:tokens], casting="same_kind")
    tiles = keys.reshape(-1, PANEL, features)
    stored = work.array("ideal values", (panels * PANEL, features), dtype)
    np.subtract(scaled["v"], law.mid_rail, out=stored[:tokens], casting="same_kind")
    stored[:tokens] *= law.value_gain * output[0]
    values = in_panels(stored, work.array("ideal value panels", query.shape, dtype))
    weights = work.array("ideal weights", (panels, PANEL, PANEL), dtype)
    parts = work.array("ideal parts", query.shape, dtype)
    y = np.empty_like(query)
    for panel in range(panels):
        oldest = max(0, panel * PANEL - law.window + 1) // PANEL
        weight = weights[: panel + 1 - oldest]
        np.matmul(tiles[oldest : panel + 1], query[panel], out=weight)
        np.clip(weight, 0.0, 1.0, out=weight)
        for tile in range(oldest, panel + 1):
            outside = _outside((panel - tile) * PANEL, law.window)
            if outside is not None:
                np.copyto(weight[tile - oldest], 0.0, where=outside)
        # tile by tile, then summed: faster than one product over many columns
        part = np.matmul(values[oldest : panel + 1], weight, out=parts[: len(weight)])
        part.sum(axis=0, out=y[panel])
    y += output[1]
    return in_rows(y, tokens)


@functools.lru_cache(maxsize=256)
def _outside(age: int, window: int) -> NDArray[np.bool_] | None:
    """Which of a tile's columns are outside a panel's windows, (PANEL, PANEL); None if none is.

    `age` is that of the first column at the first row.
    """
    ages = age + np.arange(PANEL) - np.arange(PANEL)[:, None]
    outside: NDArray[np.bool_] = (ages < 0) | (ages >= window)
    return outside if outside.any() else None


def compare_with_ideal(
    y: Array,
    scaled: Mapping[str, Array],
    law: IdealLaw,
    output: tuple[float, float],
    work: Workspace,
) -> IdealError:
    """One head's y (tokens, features) against ideal, from the same scaled q, k, v.

    Ideal is in single precision, off by 1e-6 of its size, where circuits are off by percents; in
    double precision if its terms are too large for that.
    """
    q, k, v = (math.sqrt(np.vdot(x, x)) for x in scaled.values())
    usual = q * k * law.score_gain < _USUAL and v * abs(output[0]) < _USUAL
    dtype = np.dtype(np.float32 if usual else np.float64)
    ideal = _ideal_head(scaled, law, output, dtype, work).astype(np.float64)
    difference = y - ideal
    return IdealError(
        np.asarray(np.vdot(ideal, ideal)),
        np.asarray(np.vdot(difference, difference)),
        np.asarray(np.abs(difference).max()),
    )
