"""Per-head affine scalers ``a x + b`` that bring a model's q, k and v into the arrays' range.

GPT-2's raw activations have arbitrary spread; the word-line pulses hold [0, 1] and the cells
0 to their supply, around mid-rail (FACTS section 2, steps 2 and 3). Scalers belong to the
`VoltageRange` they were made for; on hardware with another one they are rescaled.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.config.voltages import VoltageRange

Scaler = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Gain a and offset b, each (layers, heads)."""

GivenScalers = Mapping[str, tuple[ArrayLike, ArrayLike]]
"""Pairs (a, b) as a caller writes them, by the names of `SCALED`."""

SCALED = ("q", "k", "v", "output")
"""The four places that have a scaler, in the order of the signal."""

DEFAULT_RANGE = VoltageRange(supply=0.9, mid_rail=0.45)
"""What scalers of a trace that names no range are for: part of the trace format."""

STORED = ("k", "v")
"""What is stored as a voltage; q is a share of T_max, and output what leaves the counters."""

DEVIATIONS_IN_RANGE = 4.5
"""Target standard deviation = range / 4.5, so the range covers +-2.25 sigma.

Of normally distributed values 2.4 % then saturate. A wider spread clips more, a narrower one
wastes some of the 8 (k, v) or 16 (q) levels. The number is a choice of ours, not the paper's.
"""


def default_pairs(mid_rail: float) -> dict[str, tuple[float, float]]:
    """(a, b) of FACTS 2.2 where none is given: k and v about `mid_rail` (V)."""
    return {"q": (1.0, 0.0), "k": (1.0, mid_rail), "v": (1.0, mid_rail), "output": (1.0, 0.0)}


def default_scalers(layers: int, heads: int, mid_rail: float) -> dict[str, Scaler]:
    """`default_pairs` for every head of every layer."""
    shape, pairs = (layers, heads), default_pairs(mid_rail)
    return {name: (np.full(shape, a), np.full(shape, b)) for name, (a, b) in pairs.items()}


def identity_scalers(layers: int, heads: int) -> dict[str, Scaler]:
    """a = 1, b = 0 everywhere: for arrays already in [0, 1] (q) and in the cells' range (k, v)."""
    shape = (layers, heads)
    return {name: (np.ones(shape), np.zeros(shape)) for name in SCALED}


def rescaled(
    scalers: Mapping[str, Scaler], made_for: VoltageRange, here: VoltageRange
) -> Mapping[str, Scaler]:
    """Scalers made for one range on cells of another: the same share of the supply off mid-rail.

    The very same object where the ranges are equal.
    """
    if made_for == here:
        return scalers
    gain, shift = made_for.affine_to(here)
    return {
        name: (gain * a, gain * b + shift) if name in STORED else (a, b)
        for name, (a, b) in scalers.items()
    }


def full_range(name: str, voltages: VoltageRange) -> float:
    """Upper end of the range of q, k or v, which starts at 0: in units of T_max, or in V."""
    return voltages.supply if name in STORED else 1.0


def fit_scalers(
    q: NDArray[np.floating],
    k: NDArray[np.floating],
    v: NDArray[np.floating],
    voltages: VoltageRange = DEFAULT_RANGE,
) -> dict[str, Scaler]:
    """Scalers that centre each head in its range with the target spread; output is (1, 0).

    q, k, v: (layers, heads, tokens, head_dim). Mean and standard deviation are taken over a head's
    tokens and features, and ``a = target / std``, ``b = centre - a * mean``. A head without spread
    keeps a = 1 and is only centred. The result is float64 but representable in float32.
    """
    scalers = identity_scalers(q.shape[0], q.shape[1])
    for name, x in {"q": q, "k": k, "v": v}.items():
        centre = voltages.mid_rail if name in STORED else 0.5
        scalers[name] = _fit(x, full_range(name, voltages), centre)
    return scalers


def _fit(x: NDArray[np.floating], span: float, centre: float) -> Scaler:
    """The scaler of one tensor (layers, heads, tokens, head_dim) into [0, span]."""
    layers, heads = x.shape[:2]
    mean, deviation = np.empty((layers, heads)), np.empty((layers, heads))
    for layer in range(layers):  # one layer in float64 at a time
        values = x[layer].astype(np.float64)  # (heads, tokens, head_dim)
        mean[layer] = values.mean(axis=(1, 2))
        deviation[layer] = values.std(axis=(1, 2))
    # below float32's resolution the spread is rounding noise, which must not be amplified
    flat = deviation <= np.maximum(1e-6 * np.abs(mean), 1e-30)
    target = span / DEVIATIONS_IN_RANGE
    a = _as_float32(np.where(flat, 1.0, target / np.where(flat, 1.0, deviation)))
    return a, _as_float32(centre - a * mean)


def _as_float32(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """`x` rounded to values that float32 holds exactly."""
    return x.astype(np.float32).astype(np.float64)


def saturation(x: NDArray[np.floating], scaler: Scaler, span: float) -> float:
    """Share of the values of `x` (layers, heads, tokens, head_dim) that fall outside the range."""
    a, b = scaler
    outside = 0
    for layer in range(x.shape[0]):
        scaled = x[layer] * a[layer, :, None, None] + b[layer, :, None, None]
        outside += int(np.count_nonzero((scaled < 0.0) | (scaled > span)))
    return outside / x.size
