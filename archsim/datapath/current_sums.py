"""Sums of |cell current| x pulse, which set the read energy of the arrays (FACTS 3, derived).

A cell draws |I|, not I. As long as no cell's current changes sign while it fades, |I| is the
polynomial times a fixed sign, and the sums stay matrix products; otherwise they are taken level by
level (`archsim.datapath.direct`). Decay at the published rate never turns a sign round inside the
window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from archsim.chip.cells.polynomial import PolynomialCurrent
from archsim.datapath.head_input import HeadInput
from archsim.machine.compiled import Kernel
from archsim.machine.workspace import Workspace

Array = NDArray[np.float64]

_RANGE = 300.0
"""Largest exponent folded into a sum."""

_BLOCK = 16
"""Tokens of one running sum."""


def signs_hold(given: HeadInput) -> bool:
    """Whether no cell's current changes sign while the cell is read."""
    if not given.fades:
        return True
    cell, grid = given.polynomial, given.stored_grid
    if cell is None:
        return False
    for deviation, times in (
        (given.key_deviation, given.ages.keys),
        (given.value_deviation, given.ages.values),
    ):
        fade = float(np.exp(-times.rate * times.oldest(given.window)))
        if grid is not None and 2 * grid.most < deviation.size:  # all that could be stored, first
            possible = np.arange(-grid.most, grid.most + 1, dtype=np.float64) * grid.unit
            if cell.keeps_sign(possible, fade):
                continue
        if not cell.keeps_sign(deviation, fade):
            return False
    return True


def key_current_sums(given: HeadInput, work: Workspace, compiled: bool = False) -> Array:
    """``sum_{j in window} sum_d pulse[i,d] |I(K[j,d], age)|`` in uA, (tokens,).

    Only where `signs_hold`.
    """
    pulses, deviation, window = given.pulses, given.key_deviation, given.window
    cell = given.polynomial
    if not given.fades or cell is None:
        unsigned = _side_by_side("term", np.abs(given.law.current(deviation)), work)
        return _weighted(_Rows(pulses, window, work), unsigned)
    times, tokens, powers = given.ages.keys, len(pulses), len(cell.coefficients) - 1
    sums = np.zeros(tokens)
    for first, stop in times.stretches(0, tokens, _RANGE / powers):
        oldest = max(0, first - window + 1)
        # towards the first: what is older than a float's range allows has faded to nothing
        growth, fade = times.growth(oldest, stop, first), times.fade(first, stop, first)
        laws = (deviation[oldest:stop], growth, cell, pulses[oldest:stop], window, work)
        factor = np.ones(stop - first)
        by_power = (_compiled_by_power if compiled else _by_power)(*laws)
        for coefficient, weighted in zip(cell.coefficients, by_power, strict=True):
            sums[first:stop] += coefficient * factor * weighted[first - oldest :]
            factor *= fade
    return sums


def _by_power(
    deviation: Array,
    growth: Array,
    cell: PolynomialCurrent,
    pulses: Array,
    window: int,
    work: Workspace,
) -> Iterator[Array]:
    """Sums of pulses x signs x stored deviations ^ power, (tokens,) for each power from 0 on."""
    stored = _side_by_side("stored", deviation, work)
    term = cell.current(stored, out=work.array("term", stored.shape, stored.dtype))
    np.copysign(1.0, term, out=term)
    stored *= _side_by_side("growth", growth[:, None], work)
    rows = _Rows(pulses, window, work)
    for power in range(len(cell.coefficients)):
        if power:
            term *= stored
        yield _weighted(rows, term)


def _compiled_by_power(
    deviation: Array,
    growth: Array,
    cell: PolynomialCurrent,
    pulses: Array,
    window: int,
    work: Workspace,
) -> Iterator[Array]:
    """The same, from running sums in machine code."""
    term = work.array("term", deviation.shape, deviation.dtype)
    shape = (len(cell.coefficients), *deviation.shape)
    totals, vectors = work.array("totals", shape, deviation.dtype), np.empty((3, shape[2]))
    _running_sums(deviation, growth, cell.coefficients, _BLOCK, term, totals, *vectors)
    for total in totals:
        weighted = np.vecdot(pulses, total)
        weighted[window:] -= np.vecdot(pulses[window:], total[: max(0, len(total) - window)])
        yield weighted


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


@Kernel
def _running_sums(
    deviation: Array,
    growth: Array,
    coefficients: Array,
    block: int,
    term: Array,
    totals: Array,
    before: Array,
    total: Array,
    added: Array,
) -> None:
    """Signs of the cells' currents x stored deviations ^ power, summed over tokens up to each.

    Into `totals` (powers + 1, tokens, features), in the order of `_weighted`. `term` is scratch
    like `deviation`; `before`, `total` and `added` (features,) are too.
    """
    tokens, features = deviation.shape
    highest = len(coefficients) - 1
    for i in range(tokens):
        for d in range(features):
            y = deviation[i, d]
            current = y * coefficients[highest] + coefficients[highest - 1]
            for power in range(highest - 2, -1, -1):
                current = current * y + coefficients[power]
            term[i, d] = math.copysign(1.0, current)
    for power in range(len(totals)):
        for d in range(features):
            before[d] = 0.0
        for i in range(tokens):
            if power:
                column = growth[i]
                for d in range(features):
                    term[i, d] *= deviation[i, d] * column
            if i % block == 0:
                for d in range(features):
                    total[d] = before[d]
                    added[d] = 0.0
            for d in range(features):
                total[d] += term[i, d]
                added[d] += term[i, d]
                totals[power, i, d] = total[d]
            if i % block == block - 1:
                for d in range(features):
                    before[d] += added[d]
