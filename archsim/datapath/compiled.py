"""The passes of `archsim.datapath.passes`, each one loop over memory, compiled by numba.

The products stay with the same matrix library, and every operation is the same and in the same
order, so that results are equal bit by bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.compiled import Kernel
from archsim.components.accumulator import Counters
from archsim.components.converter import SignedConverter
from archsim.datapath.passes import MOST
from archsim.datapath.products import (
    PANEL,
    Layout,
    Real,
    RowFade,
    second_product,
    unsigned_current,
)
from archsim.datapath.workspace import Workspace

Array = NDArray[np.float64]


class CompiledPasses:
    """`Passes` compiled."""

    name = "compiled"

    def add_up(
        self,
        sums: Real,
        coefficients: Real,
        base: Real,
        growth: Real,
        fade: Real,
        columns: slice,
        out: Real,
        work: Workspace,
    ) -> None:
        _add_up(sums, coefficients, base, growth, fade, columns.start, columns.stop, out)

    def pulses(self, score: Real, longest: Array) -> tuple[int, int]:
        beyond = np.zeros(2, np.int64)
        _pulses(score, longest, beyond)
        low, high = beyond.tolist()
        return low, high

    def charge(
        self,
        value: Real,
        pulse: Real,
        fade: RowFade | None,
        layout: Layout,
        out: Real,
        drawn: Array,
        work: Workspace,
    ) -> None:
        count, rest_lines = len(pulse), layout.value_width - layout.expanded
        rest = work.array("rest", (MOST, rest_lines, PANEL), out.dtype)[:count]
        shape = (layout.powers, count, layout.features, PANEL)
        blocks = work.compact("blocks", shape, MOST, out.dtype)
        second_product(value[layout.expanded :], pulse, rest)
        for power in range(layout.powers):
            second_product(value[layout.block(power)], pulse, blocks[power])
        drawn += unsigned_current(rest, fade)
        if fade is None:
            np.add(blocks[0], rest[:, :1], out=out)
        else:
            _charge(blocks, rest, fade.powers, out)

    def convert(
        self,
        current: Real,
        total: Array,
        longest: Array,
        counts: Array,
        converter: SignedConverter,
        counters: Counters,
        work: Workspace,
    ) -> int:
        quantiser = converter.quantiser
        if quantiser.levels is None:
            numbers = np.array([1.0, counters.edges], current.dtype)
            return _count_edges(current, numbers, total, longest, counts)
        # the range is 2 wide, a power of two: one multiplication rounds as two operations do
        scale = (quantiser.levels - 1) / (quantiser.high - quantiser.low)
        numbers = np.array([1.0, scale], current.dtype)  # of the same width as the currents
        return _convert(current, numbers, total, longest, counts)


@Kernel
def _add_up(
    sums: Real,
    coefficients: Real,
    base: Real,
    growth: Real,
    fade: Real,
    first: int,
    stop: int,
    out: Real,
) -> None:
    powers, panels, _, rows = sums.shape
    highest = powers - 1
    for n in range(panels):
        for j in range(first, stop):
            column = growth[j]
            coefficient = coefficients[highest]
            for r in range(rows):
                out[n, j, r] = sums[highest, n, j, r] * coefficient
            for power in range(highest - 1, -1, -1):
                coefficient = coefficients[power]
                for r in range(rows):
                    term = sums[power, n, j, r] * coefficient
                    out[n, j, r] = out[n, j, r] * (column * fade[n, r]) + term
            for r in range(rows):
                out[n, j, r] = out[n, j, r] * (column * fade[n, r]) + base[n, r]


@Kernel
def _pulses(score: Real, longest: Array, beyond: NDArray[np.int64]) -> None:
    low, high = 0, 0
    panels, columns, rows = score.shape
    for n in range(panels):
        for j in range(columns):
            for r in range(rows):
                x = score[n, j, r]
                low += x < 0
                high += x > 1
                x = 0 if x < 0 else x
                x = 1 if x > 1 else x
                score[n, j, r] = x
                longest[n, 0, r] = x if x > longest[n, 0, r] else longest[n, 0, r]
    beyond[0], beyond[1] = low, high


@Kernel
def _charge(blocks: Real, rest: Real, fade: Real, out: Real) -> None:
    powers = len(blocks)
    panels, features, rows = out.shape
    for n in range(panels):
        for d in range(features):
            for r in range(rows):
                out[n, d, r] = blocks[powers - 1, n, d, r] * fade[n, 1, r]
            for power in range(powers - 2, -1, -1):
                for r in range(rows):
                    out[n, d, r] = (out[n, d, r] + blocks[power, n, d, r]) * fade[n, 1, r]
            for r in range(rows):
                out[n, d, r] += rest[n, 0, r]


@Kernel
def _convert(current: Real, numbers: Real, total: Array, longest: Array, counts: Array) -> int:
    clipped = 0
    panels, features, rows = current.shape
    one, scale = numbers[0], numbers[1]
    for n in range(panels):
        for d in range(features):
            for r in range(rows):
                x = current[n, d, r]
                width = abs(x)
                clipped += width > 1
                x = -one if x < -1 else x
                x = one if x > 1 else x
                width = abs(x)
                longest[n, 0, r] = width if width > longest[n, 0, r] else longest[n, 0, r]
                code = np.rint(x * scale)
                current[n, d, r] = code
                total[n, d, r] += code
                counts[n, r] += abs(code)
    return clipped


@Kernel
def _count_edges(current: Real, numbers: Real, total: Array, longest: Array, counts: Array) -> int:
    clipped = 0
    panels, features, rows = current.shape
    one, edges = numbers[0], numbers[1]
    for n in range(panels):
        for d in range(features):
            for r in range(rows):
                x = current[n, d, r]
                width = abs(x)
                clipped += width > 1
                width = one if width > 1 else width
                longest[n, 0, r] = width if width > longest[n, 0, r] else longest[n, 0, r]
                total[n, d, r] += x
                counts[n, r] += np.rint(width * edges)
    return clipped
