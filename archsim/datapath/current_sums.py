"""Sums of |cell current| x pulse, which set the read energy of the arrays (FACTS 3, derived).

A cell draws |I|, not I. As long as no cell's current changes sign while it decays, |I| is the
polynomial times a fixed sign, and the sums stay matrix products; otherwise they are taken cell by
cell. Decay at the published rate never flips a sign inside the window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.components.cell import Cell, Stored
from archsim.datapath.products import Ages

Array = NDArray[np.float64]


def _signed_powers(stored: Stored, cell: Cell) -> Array:
    """sign(I) C_p y^p of every cell, p = 0..P: (P + 1, columns, features); their sum is |I|."""
    sign = np.sign(cell.current(stored.deviation))
    terms = np.empty((len(cell.coefficients), *sign.shape))
    terms[0] = cell.coefficients[0] * sign
    for p in range(1, len(cell.coefficients)):
        terms[p] = cell.coefficients[p] * sign * stored.powers[p - 1]
    return terms


def key_current_sums(
    pulses: Array, keys: Stored, cell: Cell, window: int, rate: float, fade: float
) -> Array:
    """``sum_{j in window} sum_d pulse[i,d] |I(K[j,d], age)|`` in uA; pulses (tokens, features)."""
    tokens, features = pulses.shape
    sums = np.zeros((tokens, features))  # of |I| over the window, for every feature
    if cell.keeps_sign(keys.deviation, fade):
        terms = _signed_powers(keys, cell)
        for p, term in enumerate(terms):
            if rate == 0.0 or p == 0:
                total = np.cumsum(term, axis=0)
                total[window:] -= total[:-window].copy() if tokens > window else 0.0
                sums += total
            else:
                sums += _fading_window_sum(term, window, float(np.exp(-p * rate)))
    else:
        for i in range(tokens):
            first = max(0, i - window + 1)
            ages = i - np.arange(first, i + 1, dtype=np.float64)
            faded = keys.deviation[first : i + 1] * np.exp(-rate * ages)[:, None]
            sums[i] = np.abs(cell.current(faded)).sum(axis=0)
    weighted: Array = np.einsum("id,id->i", pulses, sums)
    return weighted


def _fading_window_sum(term: Array, window: int, step: float) -> Array:
    """``out[i] = sum_{j in window} term[j] step^(i-j)``, token by token so nothing overflows."""
    arriving = term.copy()
    if len(term) > window:
        arriving[window:] -= term[:-window] * step**window
    out = np.empty_like(term)
    running = np.zeros(term.shape[1])
    for i, new in enumerate(arriving):
        running = running * step + new
        out[i] = running
    return out


def value_current_sums(
    pulse: Array, values: Stored, cell: Cell, ages: Ages | None, fade: float
) -> Array:
    """``sum_j P[i,j] sum_d |I(V[j,d], age)|`` in uA of a panel; pulse (rows, columns)."""
    if cell.keeps_sign(values.deviation, fade):
        terms = _signed_powers(values, cell).sum(axis=2)  # (P + 1, columns)
        if ages is None:
            still: Array = pulse @ terms.sum(axis=0)
            return still
        total: Array = pulse @ terms[0]
        for p in range(1, len(terms)):
            rows, columns = ages.factors(p)
            total += rows * (pulse @ (terms[p] * columns))
        return total
    total = np.zeros(len(pulse))
    for i in range(len(pulse)):
        faded = values.deviation
        if ages is not None:
            age = np.maximum(ages.read[i] - ages.written, 0.0)
            faded = faded * np.exp(-ages.rate * age)[:, None]
        total[i] = pulse[i] @ np.abs(cell.current(faded)).sum(axis=1)
    return total
