"""Sums of |cell current| x pulse, which set the read energy of the arrays (FACTS 3, derived).

A cell draws |I|, not I. As long as no cell's current changes sign while it fades, |I| is the
polynomial times a fixed sign, and the sums stay matrix products; otherwise they are taken level by
level (`archsim.datapath.direct`). Decay at the published rate never turns a sign round inside the
window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.datapath.problem import HeadProblem

Array = NDArray[np.float64]

_RANGE = 300.0
"""Largest exponent folded into a sum."""

_BLOCK = 32
"""Tokens of one running sum."""


def signs_hold(problem: HeadProblem) -> bool:
    """Whether no cell's current changes sign while the cell is read."""
    if not problem.fades:
        return True
    cell = problem.polynomial
    return cell is not None and all(
        cell.keeps_sign(deviation, float(np.exp(-times.rate * times.oldest(problem.window))))
        for deviation, times in (
            (problem.key_deviation, problem.ages.keys),
            (problem.value_deviation, problem.ages.values),
        )
    )


def key_current_sums(problem: HeadProblem) -> Array:
    """``sum_{j in window} sum_d pulse[i,d] |I(K[j,d], age)|`` in uA, (tokens,).

    Only where `signs_hold`.
    """
    pulses, deviation, window = problem.pulses, problem.key_deviation, problem.window
    cell = problem.polynomial
    if not problem.fades or cell is None:
        unsigned = np.abs(problem.law.current(deviation))
        still: Array = _weighted(pulses, unsigned[None], 0, window)[0]
        return still
    times, tokens, powers = problem.ages.keys, len(pulses), len(cell.coefficients) - 1
    sums = np.empty(tokens)
    for first, stop in times.stretches(0, tokens, _RANGE / powers):
        oldest = max(0, first - window + 1)
        # towards the first: what is older than a float's range allows has faded to nothing
        terms = np.empty((powers + 1, stop - oldest, deviation.shape[1]))
        np.sign(cell.current(deviation[oldest:stop]), out=terms[0])
        z = deviation[oldest:stop] * times.growth(oldest, stop, first)[:, None]
        for power in range(powers):
            np.multiply(terms[power], z, out=terms[power + 1])
        by_power = _weighted(pulses[oldest:stop], terms, first - oldest, window)
        fade = times.fade(first, stop, first)
        factors = fade ** np.arange(powers + 1)[:, None]
        sums[first:stop] = (cell.coefficients[:, None] * by_power * factors).sum(axis=0)
    return sums


def _weighted(pulses: Array, terms: Array, skip: int, window: int) -> Array:
    """``sum_d pulses[i,d] sum_{j in window of i} terms[p,j,d]``, (powers, rows).

    `pulses` (tokens, features), `terms` (powers, tokens, features), which are overwritten. Rows
    after the first `skip`.
    """
    total = _running_sums(terms)
    weighted: Array = np.einsum("id,pid->pi", pulses[skip:], total[:, skip:])
    gone = len(pulses) - window  # rows from `window` on have lost the first terms
    if gone > 0:
        rows = max(skip, window)
        lost = np.einsum("id,pid->pi", pulses[rows:], total[:, rows - window : gone])
        weighted[:, rows - skip :] -= lost
    return weighted


def _running_sums(terms: Array) -> Array:
    """Sums over all tokens up to each, in place: terms (powers, tokens, features).

    In blocks that run side by side, which takes a third of the time of ``cumsum``.
    """
    powers, tokens, features = terms.shape
    whole = tokens - tokens % _BLOCK
    blocks = terms[:, :whole].reshape(powers, -1, _BLOCK, features)
    for n in range(1, _BLOCK if whole else 0):
        blocks[:, :, n] += blocks[:, :, n - 1]
    carried = np.cumsum(blocks[:, :, -1], axis=1)
    blocks[:, 1:] += carried[:, :-1, None]
    rest = terms[:, whole:]
    if whole and tokens > whole:
        rest[:, 0] += terms[:, whole - 1]
    np.cumsum(rest, axis=1, out=rest)
    return terms
