"""What happens to a panel between and after the two products, element by element.

The laws are the blocks' own; here they run in place over panels, with the counts that the activity
needs. `archsim.datapath.compiled` does the same in one pass each.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from archsim.compiled import pays
from archsim.components.accumulator import Counters
from archsim.components.converter import SignedConverter
from archsim.components.head import Head
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

LARGE = 1 << 18
"""Heads x tokens from which on compiled passes save more than loading numba costs."""

MOST = 16
"""Panels handled at once between the products: fewer calls save more than caches lose."""


class Passes(Protocol):
    """What happens to panels of rows, pass by pass."""

    name: str

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
        """Powers of the first product, some of its columns, added up into S_raw / full scale.

        `sums` (powers, panels, columns, PANEL), `coefficients` (powers,), `base` (panels, PANEL) of
        the power 0; `growth` (columns,) and `fade` (panels, PANEL) make up the decay. `out`
        (panels, columns, PANEL) sets the precision.
        """
        ...

    def pulses(self, score: Real, longest: Array) -> tuple[int, int]:
        """Turn S_raw / full scale (panels, columns, PANEL) into pulse widths (FACTS 2.6).

        Raises the greatest of the lines of `longest` (panels, columns or more, PANEL) to each row's
        longest pulse; returns how many scores were below 0 and how many beyond the full scale.
        """
        ...

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
        """The second product into `out`: A_raw / full scale (panels, features, PANEL).

        `value` operand of a run, `pulse` (panels, columns, PANEL), `fade` of the rows. Adds the
        unsigned current to `drawn` (panels, PANEL).
        """
        ...

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
        """Turn currents / full scale (panels, bit lines, PANEL) of an array into codes (FACTS 2.8).

        Adds the codes to `total` of the same shape, raises the greatest of the lines of `longest`
        (panels, bit lines or more, PANEL) to each row's longest pulse before the clamp, adds each
        row's counts to `counts` (panels, PANEL); returns how many were clipped.
        """
        ...


class NumpyPasses:
    """The passes with numpy alone."""

    name = "numpy"

    def __init__(self, head: Head) -> None:
        self.head = head

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
        _, count, lines, _ = sums.shape
        shape = (MOST, lines, PANEL)
        decay = work.array("decay", shape, out.dtype)[:count, columns]
        term = work.array("term", shape, out.dtype)[:count, columns]
        out, sums = out[:, columns], sums[:, :, columns]
        np.multiply(growth[columns, None], fade[:, None], out=decay)
        np.multiply(sums[-1], coefficients[-1], out=out)
        for power in range(len(sums) - 2, -1, -1):
            out *= decay
            out += np.multiply(sums[power], coefficients[power], out=term)
        out *= decay
        out += base[:, None]

    def pulses(self, score: Real, longest: Array) -> tuple[int, int]:
        low, high = np.count_nonzero(score < 0), np.count_nonzero(score > 1)
        self.head.score_converter.clamp(score, out=score)
        lines = longest[:, : score.shape[1]]  # line by line: the greatest line is found at the end
        np.maximum(lines, score, out=lines)
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
        rest_lines = layout.value_width - layout.expanded
        rest = work.array("rest", (MOST, rest_lines, PANEL), out.dtype)[: len(pulse)]
        second_product(value[layout.expanded :], pulse, rest)
        drawn += unsigned_current(rest, fade)
        # power by power: a product over one power is still in the cache when it is added up
        second_product(value[layout.block(layout.powers - 1)], pulse, out)
        if fade is not None:
            shape = (MOST, layout.features, PANEL)
            block = work.array("block", shape, out.dtype)[: len(pulse)]
            out *= fade.spread
            for power in range(layout.powers - 2, -1, -1):
                out += second_product(value[layout.block(power)], pulse, block)
                out *= fade.spread
        out += rest[:, :1]

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
        count, lines, _ = current.shape
        magnitude = work.array("block", (MOST, lines, PANEL), current.dtype)[:count]
        np.abs(current, out=magnitude)
        np.maximum(longest[:, :lines], magnitude, out=longest[:, :lines])
        clipped = np.count_nonzero(magnitude > 1)
        codes = converter.quantiser.codes(current, out=current)
        total += codes
        # a product with ones, which is faster than a sum, and exact: counts are whole numbers
        ones = np.ones((1, lines), current.dtype)
        counts += np.matmul(ones, counters.counts(codes, out=magnitude))[:, 0]
        return int(clipped)


def choose_passes(head: Head, work: int) -> Passes:
    """The passes for `work` heads x tokens: compiled where that is asked for or pays."""
    if not pays(work >= LARGE):
        return NumpyPasses(head)
    from archsim.datapath.compiled import CompiledPasses

    return CompiledPasses()
