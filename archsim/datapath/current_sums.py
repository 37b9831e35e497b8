"""Sums of |cell current| x pulse, which set the read energy of the arrays (FACTS 3, derived).

A cell draws |I|, not I. As long as no cell's current changes sign while it decays, |I| is the
polynomial times a fixed sign, and the sums stay matrix products; otherwise they are taken cell by
cell. Decay at the published rate never turns a sign round inside the window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.components.cell import Cell

Array = NDArray[np.float64]


def _signed_powers(deviation: Array, cell: Cell) -> Array:
    """sign(I) C_p y^p of every cell, p = 0..P: (P + 1, columns, features); their sum is |I|."""
    terms = np.empty((len(cell.coefficients), *deviation.shape))
    terms[0] = np.sign(cell.current(deviation))
    for p in range(1, len(terms)):
        np.multiply(terms[p - 1], deviation, out=terms[p])
    terms *= cell.coefficients[:, None, None]
    return terms


def key_current_sums(
    pulses: Array, deviation: Array, cell: Cell, window: int, rate: float, fade: float
) -> Array:
    """``sum_{j in window} sum_d pulse[i,d] |I(K[j,d], age)|`` in uA, (tokens,).

    `pulses` and `deviation` (tokens, features); `fade` is what remains of a deviation at the end of
    the window.
    """
    if cell.keeps_sign(deviation, fade):
        terms = _signed_powers(deviation, cell).transpose(1, 0, 2)  # (tokens, P + 1, features)
        sums = _fading_window_sum(terms, window, rate)
    else:
        sums = np.empty_like(deviation)
        for i in range(len(deviation)):
            first = max(0, i - window + 1)
            ages = i - np.arange(first, i + 1, dtype=np.float64)
            faded = deviation[first : i + 1] * np.exp(-rate * ages)[:, None]
            sums[i] = np.abs(cell.current(faded)).sum(axis=0)
    weighted: Array = np.einsum("id,id->i", pulses, sums)
    return weighted


def _fading_window_sum(terms: Array, window: int, rate: float) -> Array:
    """``out[i] = sum_{j in window} sum_p terms[j,p] exp(-p rate (i-j))``, (tokens, features)."""
    tokens, powers, _ = terms.shape
    if rate == 0.0:
        total = np.cumsum(terms.sum(axis=1), axis=0)
        total[window:] -= total[: max(0, tokens - window)].copy()
        return total
    step = np.exp(-rate * np.arange(powers))[:, None]
    arriving = terms.copy()
    arriving[window:] -= terms[: max(0, tokens - window)] * step**window
    out = np.empty((tokens, terms.shape[2]))
    running = np.zeros(terms.shape[1:])
    for i in range(tokens):  # token by token, so that nothing overflows however fast the decay
        running *= step
        running += arriving[i]
        running.sum(axis=0, out=out[i])
    return out


class ValueCurrentSums:
    """``sum_j P[i,j] sum_d |I(V[j,d], age)|`` in uA, for panels of rows of one head."""

    def __init__(self, deviation: Array, cell: Cell, rate: float, fade: float) -> None:
        self.cell, self.rate, self.deviation = cell, rate, deviation
        self.separable = cell.keeps_sign(deviation, fade)
        if self.separable:
            self.terms = _signed_powers(deviation, cell).sum(axis=2).T  # (columns, P + 1)

    def panel(self, pulse: Array, columns: slice, read: Array) -> Array:
        """Sums of a panel: pulse (rows, columns) of `columns`, read at times `read` (tokens)."""
        if self.separable and self.rate == 0.0:
            still: Array = pulse @ self.terms[columns].sum(axis=1)
            return still
        written = np.arange(columns.start, columns.stop, dtype=np.float64)
        if self.separable:
            powers = np.arange(self.terms.shape[1])
            origin = read[0]
            fading = self.terms[columns] * np.exp(self.rate * np.outer(written - origin, powers))
            rows = np.exp(-self.rate * np.outer(read - origin, powers))
            total: Array = np.einsum("ip,ip->i", pulse @ fading, rows)
            return total
        total = np.empty(len(pulse))
        for i, now in enumerate(read):
            age = np.maximum(now - written, 0.0)
            faded = self.deviation[columns] * np.exp(-self.rate * age)[:, None]
            total[i] = pulse[i] @ np.abs(self.cell.current(faded)).sum(axis=1)
        return total
