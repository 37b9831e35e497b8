"""Sums of |cell current| x pulse, which set the read energy of the arrays (FACTS 3, derived).

A cell draws |I|, not I. As long as no cell's current changes sign while it fades, |I| is the
polynomial times a fixed sign, and the sums stay matrix products; otherwise they are taken level by
level (`archsim.datapath.direct`). Decay at the published rate never turns a sign round inside the
window.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from archsim.compiled import Kernel
from archsim.datapath.problem import HeadProblem
from archsim.datapath.workspace import Workspace

Array = NDArray[np.float64]

_RANGE = 300.0
"""Largest exponent folded into a sum."""

_BLOCK = 16
"""Tokens of one running sum; compiled code has it written out."""


def signs_hold(problem: HeadProblem) -> bool:
    """Whether no cell's current changes sign while the cell is read."""
    if not problem.fades:
        return True
    cell, grid = problem.polynomial, problem.stored_grid
    if cell is None:
        return False
    for deviation, times in (
        (problem.key_deviation, problem.ages.keys),
        (problem.value_deviation, problem.ages.values),
    ):
        fade = float(np.exp(-times.rate * times.oldest(problem.window)))
        if grid is not None and 2 * grid.most < deviation.size:  # all that could be stored, first
            possible = np.arange(-grid.most, grid.most + 1, dtype=np.float64) * grid.unit
            if cell.keeps_sign(possible, fade):
                continue
        if not cell.keeps_sign(deviation, fade):
            return False
    return True


def key_current_sums(problem: HeadProblem, work: Workspace, compiled: bool = False) -> Array:
    """``sum_{j in window} sum_d pulse[i,d] |I(K[j,d], age)|`` in uA, (tokens,).

    Only where `signs_hold`.
    """
    pulses, deviation, window = problem.pulses, problem.key_deviation, problem.window
    cell, tokens = problem.polynomial, len(pulses)
    if not problem.fades or cell is None:
        unsigned = np.abs(problem.law.current(deviation))
        seen = _seen(unsigned, unsigned, np.ones((1, tokens)), window, work)
        return _weighted(pulses, *seen)
    times, powers = problem.ages.keys, len(cell.coefficients) - 1
    sums = np.zeros(tokens)
    for first, stop in times.stretches(0, tokens, _RANGE / powers):
        oldest = max(0, first - window + 1)
        # towards the first: what is older than a float's range allows has faded to nothing
        growth, fade = times.growth(oldest, stop, first), times.fade(first, stop, first)
        weights, factor = np.zeros((powers + 1, stop - oldest)), np.ones(stop - first)
        for power, coefficient in enumerate(cell.coefficients):
            if power:
                factor *= fade
            np.multiply(factor, coefficient, out=weights[power, first - oldest :])
        stored = deviation[oldest:stop]
        if compiled:
            names, vectors = ("term", "now", "later"), np.empty((3, stored.shape[1]))
            term, now, later = (work.array(name, stored.shape, stored.dtype) for name in names)
            laws = (growth, cell.coefficients, weights, window)
            _sum_seen(stored, *laws, term, now, later, *vectors)
            seen = now, later[: max(0, len(now) - window)]
        else:
            sign = np.copysign(1.0, cell.current(stored))
            seen = _seen(sign, stored * growth[:, None], weights, window, work)
        sums[first:stop] += _weighted(pulses[oldest:stop], *seen)[first - oldest :]
    return sums


def _weighted(pulses: Array, now: Array, later: Array) -> Array:
    """Pulses (tokens, features) times what their rows see, summed over features, (tokens,)."""
    weighted: Array = np.vecdot(pulses, now)
    if len(later):
        weighted[-len(later) :] -= np.vecdot(pulses[-len(later) :], later)
    return weighted


def _seen(
    term: Array, factor: Array, weights: Array, window: int, work: Workspace
) -> tuple[Array, Array]:
    """What rows see: ``sum_p weights[p,i] sum_{j <= i} term[j] factor[j]^p``, (tokens, features).

    And what rows from `window` on have lost of that again. Tokens lie side by side, `_BLOCK` in a
    row, so that running sums over all rows at once go along contiguous memory.
    """
    tokens, features = term.shape
    terms, factors = (_side_by_side(n, x, work) for n, x in (("term", term), ("stored", factor)))
    now = np.zeros_like(terms)
    later = np.zeros((_BLOCK, -(-max(0, tokens - window) // _BLOCK), features))
    for power, weight in enumerate(weights):
        if power:
            terms *= factors
        if not weight.any():
            continue
        here = _side_by_side("weight", weight[:, None], work)
        there = _side_by_side("later weight", weight[window:, None], work)
        total = np.zeros_like(terms[0])  # of all rows before
        np.cumsum(terms.sum(axis=0)[:-1], axis=0, out=total[1:])
        weighted = np.empty_like(total)
        for n, each in enumerate(terms):
            total += each
            now[n] += np.multiply(total, here[n], out=weighted)
            if later.size:
                later[n] += there[n] * total[: later.shape[1]]
    in_turn = (x.swapaxes(0, 1).reshape(-1, features) for x in (now, later))
    return next(in_turn)[:tokens], next(in_turn)[: max(0, tokens - window)]


def _side_by_side(name: str, rows: Array, work: Workspace) -> Array:
    """(tokens, features) as (_BLOCK, blocks, features), the end filled up with 0."""
    tokens, features = rows.shape
    whole, rest = divmod(tokens, _BLOCK)
    result = work.array(name, (_BLOCK, whole + (rest > 0), features), rows.dtype)
    result[:, :whole] = rows[: whole * _BLOCK].reshape(whole, _BLOCK, features).swapaxes(0, 1)
    if rest:
        result[:rest, whole] = rows[whole * _BLOCK :]
        result[rest:, whole] = 0.0
    return result


@Kernel
def _sum_seen(
    deviation: Array,
    growth: Array,
    coefficients: Array,
    weights: Array,
    window: int,
    term: Array,
    now: Array,
    later: Array,
    before: Array,
    total: Array,
    added: Array,
) -> None:
    """`_seen` in one go, from the deviations; the first terms are the signs of the cells' currents.

    `term` is scratch like `deviation`, `before`, `total` and `added` (features,) are too.
    """
    tokens, features = deviation.shape
    block, highest = 16, len(coefficients) - 1
    for i in range(tokens):
        for d in range(features):
            y = deviation[i, d]
            current = y * coefficients[highest] + coefficients[highest - 1]
            for power in range(highest - 2, -1, -1):
                current = current * y + coefficients[power]
            term[i, d] = math.copysign(1.0, current)
            now[i, d] = 0.0
            later[i, d] = 0.0
    for power in range(len(weights)):
        for d in range(features):
            before[d] = 0.0
        for i in range(tokens):
            if power:
                column = growth[i]
                for d in range(features):
                    term[i, d] *= deviation[i, d] * column
            if coefficients[power] == 0:
                continue
            if i % block == 0:
                for d in range(features):
                    total[d] = before[d]
                    added[d] = 0.0
            weight = weights[power, i]
            for d in range(features):
                total[d] += term[i, d]
                added[d] += term[i, d]
                now[i, d] += weight * total[d]
            if i + window < tokens:
                weight = weights[power, i + window]
                for d in range(features):
                    later[i, d] += weight * total[d]
            if i % block == block - 1:
                for d in range(features):
                    before[d] += added[d]
