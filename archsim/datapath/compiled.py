"""The passes of `archsim.datapath.passes`, each one loop over memory, compiled by numba.

The products stay with the same matrix library, and every operation is the same and in the same
order, so that results are equal bit by bit. Import this module only where it is used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.compiled import jit
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

    def pulses(self, score: Real, longest: Array) -> tuple[int, int]:
        low, high = _pulses(score, longest[:, 0])
        return int(low), int(high)

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
        blocks = work.array("blocks", (layout.powers, MOST, layout.features, PANEL), out.dtype)
        second_product(value[layout.expanded :], pulse, rest)
        for power in range(layout.powers):
            second_product(value[layout.block(power)], pulse, blocks[power, :count])
        drawn += unsigned_current(rest, fade)
        if fade is None:
            np.add(blocks[0, :count], rest[:, :1], out=out)
        else:
            _charge(blocks, rest, fade.spread, out)

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
        longest, quantiser = longest[:, 0], converter.quantiser
        if quantiser.levels is None:
            return int(_count_edges(current, counters.edges, total, longest, counts))
        # the range is 2 wide, a power of two: one multiplication rounds as two operations do
        scale = (quantiser.levels - 1) / (quantiser.high - quantiser.low)
        return int(_convert(current, scale, total, longest, counts))


@jit
def _pulses(score: Real, longest: Array) -> tuple[int, int]:
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
                longest[n, r] = x if x > longest[n, r] else longest[n, r]
    return low, high


@jit
def _charge(blocks: Real, rest: Real, fade: Real, out: Real) -> None:
    powers = len(blocks)
    panels, features, rows = out.shape
    for n in range(panels):
        for d in range(features):
            for r in range(rows):
                out[n, d, r] = blocks[powers - 1, n, d, r] * fade[n, d, r]
            for power in range(powers - 2, -1, -1):
                for r in range(rows):
                    out[n, d, r] = (out[n, d, r] + blocks[power, n, d, r]) * fade[n, d, r]
            for r in range(rows):
                out[n, d, r] += rest[n, 0, r]


@jit
def _convert(current: Real, scale: float, total: Array, longest: Array, counts: Array) -> int:
    clipped = 0
    panels, features, rows = current.shape
    step, one = np.empty(1, current.dtype), np.ones(1, current.dtype)  # numbers of the same width
    step[0] = scale
    for n in range(panels):
        for d in range(features):
            for r in range(rows):
                x = current[n, d, r]
                width = abs(x)
                clipped += width > 1
                x = -one[0] if x < -1 else x
                x = one[0] if x > 1 else x
                width = abs(x)
                longest[n, r] = width if width > longest[n, r] else longest[n, r]
                code = np.rint(x * step[0])
                current[n, d, r] = code
                total[n, d, r] += code
                counts[n, r] += abs(code)
    return clipped


@jit
def _count_edges(current: Real, edges: float, total: Array, longest: Array, counts: Array) -> int:
    clipped = 0
    panels, features, rows = current.shape
    step, one = np.empty(1, current.dtype), np.ones(1, current.dtype)
    step[0] = edges
    for n in range(panels):
        for d in range(features):
            for r in range(rows):
                x = current[n, d, r]
                width = abs(x)
                clipped += width > 1
                width = one[0] if width > 1 else width
                longest[n, r] = width if width > longest[n, r] else longest[n, r]
                total[n, d, r] += x
                counts[n, r] += np.rint(width * step[0])
    return clipped
