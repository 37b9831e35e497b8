"""*Ideal* attention: the mathematics the hardware approximates (DESIGN, function)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.components.head import Head
from archsim.datapath.attention import Scalers, resolve_scalers

Array = NDArray[np.float64]


def ideal_attention(
    q: Array, k: Array, v: Array, head: Head, scalers: Scalers | None = None
) -> Array:
    """Sliding-window HardSigmoid attention with the same scalers, nothing quantised or clipped.

    ``y = a_o sum_j clip(19.3 q1.(k1 - 0.45) / 80, 0, 1) 19.3 (v1 - 0.45) / 40 + b_o`` over the
    window; q, k, v and the result (heads, tokens, head_dim).
    """
    pairs = resolve_scalers(scalers, len(q))
    slope, mid = head.cell.linear_slope, head.cell.mid_rail
    i = np.arange(q.shape[1])
    window = (i[:, None] >= i) & (i[:, None] - i < head.sub_tiles.window)
    y = np.empty_like(q)
    for h in range(len(q)):
        (aq, bq), (ak, bk), (av, bv), (ao, bo) = (
            (a[h], b[h]) for a, b in (pairs[n] for n in ("q", "k", "v", "output"))
        )
        score = slope * (aq * q[h] + bq) @ (ak * k[h] + bk - mid).T
        weight = np.clip(score / head.score_converter.saturation, 0, 1) * window
        total = weight @ (slope * (av * v[h] + bv - mid)) / head.output_converter.saturation
        y[h] = ao * total + bo
    return y
