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
from archsim.datapath.workspace import Workspace

Array = NDArray[np.float64]

_RANGE = 300.0
"""Largest exponent folded into a sum."""

_BLOCK = 16
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


def key_current_sums(problem: HeadProblem, work: Workspace) -> Array:
    """``sum_{j in window} sum_d pulse[i,d] |I(K[j,d], age)|`` in uA, (tokens,).

    Only where `signs_hold`.
    """
    pulses, deviation, window = problem.pulses, problem.key_deviation, problem.window
    cell = problem.polynomial
    if not problem.fades or cell is None:
        unsigned = _side_by_side("term", np.abs(problem.law.current(deviation)), work)
        return _weighted(_Rows(pulses, window, work), unsigned)
    times, tokens, powers = problem.ages.keys, len(pulses), len(cell.coefficients) - 1
    sums = np.zeros(tokens)
    for first, stop in times.stretches(0, tokens, _RANGE / powers):
        oldest = max(0, first - window + 1)
        stored = _side_by_side("stored", deviation[oldest:stop], work)
        term = cell.current(stored, out=work.array("term", stored.shape, stored.dtype))
        np.copysign(1.0, term, out=term)
        # towards the first: what is older than a float's range allows has faded to nothing
        stored *= _side_by_side("growth", times.growth(oldest, stop, first)[:, None], work)
        rows = _Rows(pulses[oldest:stop], window, work)
        fade = times.fade(first, stop, first)
        factor = np.ones(stop - first)
        for power, coefficient in enumerate(cell.coefficients):
            if power:
                term *= stored
                factor *= fade
            if coefficient:
                weighted = _weighted(rows, term)[first - oldest :]
                sums[first:stop] += coefficient * factor * weighted
    return sums


def _side_by_side(name: str, rows: Array, work: Workspace) -> Array:
    """(tokens, features) as (_BLOCK, blocks, features), the end filled up with 0.

    The n-th tokens of all blocks lie next to each other, so that running sums over all blocks at
    once go along contiguous memory.
    """
    tokens, features = rows.shape
    whole, rest = divmod(tokens, _BLOCK)
    result = work.array(name, (_BLOCK, whole + (rest > 0), features), rows.dtype)
    result[:, :whole] = rows[: whole * _BLOCK].reshape(whole, _BLOCK, features).swapaxes(0, 1)
    if rest:
        result[:rest, whole] = rows[whole * _BLOCK :]
        result[rest:, whole] = 0.0
    return result


class _Rows:
    """Pulses side by side, and those that each term is lost to, a window later."""

    def __init__(self, pulses: Array, window: int, work: Workspace) -> None:
        self.tokens, self.window = len(pulses), window
        self.now = _side_by_side("rows", pulses, work)
        self.later = _side_by_side("later rows", pulses[window:], work)


def _weighted(rows: _Rows, terms: Array) -> Array:
    """``sum_d pulses[i,d] sum_{j in window of i} terms[j,d]``, (rows,); `terms` side by side."""
    total = np.zeros_like(terms[0])  # of all blocks before
    np.cumsum(terms.sum(axis=0)[:-1], axis=0, out=total[1:])
    seen, lost = (np.empty(side.shape[:-1]) for side in (rows.now, rows.later))
    for n, term in enumerate(terms):
        total += term
        np.vecdot(rows.now[n], total, out=seen[n])
        if lost.size:  # rows from `window` on have lost the first terms
            np.vecdot(rows.later[n], total[: lost[n].size], out=lost[n])
    weighted = seen.T.reshape(-1)[: rows.tokens]
    weighted[rows.window :] -= lost.T.reshape(-1)[: max(0, rows.tokens - rows.window)]
    return weighted
