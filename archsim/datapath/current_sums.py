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
    tokens = len(pulses)
    cell = problem.polynomial
    if not problem.fades or cell is None:
        return _weighted(pulses, np.abs(problem.law.current(deviation)), 0, window)
    times, coefficients = problem.ages.keys, cell.coefficients
    signs = cell.current(deviation)
    np.sign(signs, out=signs)
    sums: Array = coefficients[0] * _weighted(pulses, signs, 0, window)
    powers = len(coefficients) - 1
    for first, stop in times.stretches(0, tokens, _RANGE / powers):
        oldest = max(0, first - window + 1)
        origin = (first, first + 1)  # what is older than the range allows has faded to nothing
        z = deviation[oldest:stop] * times.growth(oldest, stop, origin)[:, None]
        fade = times.fade(first, stop, origin)
        term, factor = signs[oldest:stop].copy(), np.ones(stop - first)
        for coefficient in coefficients[1:]:
            term *= z
            factor *= fade
            part = _weighted(pulses[oldest:stop], term, first - oldest, window)
            sums[first:stop] += coefficient * factor * part
    return sums


def _weighted(pulses: Array, terms: Array, skip: int, window: int) -> Array:
    """``sum_d pulses[i,d] sum_{j in window of i} terms[j,d]`` of rows after the first `skip`."""
    total = np.cumsum(terms, axis=0)
    weighted: Array = np.einsum("id,id->i", pulses[skip:], total[skip:])
    gone = len(terms) - window  # rows from `window` on have lost the first terms
    if gone > 0:
        rows = max(skip, window)
        lost = np.einsum("id,id->i", pulses[rows:], total[rows - window : gone])
        weighted[rows - skip :] -= lost
    return weighted
