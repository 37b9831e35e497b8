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
from archsim.datapath.products import PANEL, Layout, Real, second_product
from archsim.datapath.workspace import Workspace

Array = NDArray[np.float64]

LARGE = 1 << 18
"""Heads x tokens from which on compiled passes save more than loading numba costs."""

MOST = 8
"""Panels handled at once between the products: they stay in the second cache."""


class Passes(Protocol):
    """Three passes over panels of rows, in place."""

    name: str

    def pulses(self, score: Real, longest: Array) -> tuple[int, int]:
        """Turn S_raw / full scale (panels, columns, PANEL) into pulse widths (FACTS 2.6).

        Raises `longest` (panels, PANEL) to each row's longest pulse; returns how many scores were
        below 0 and how many beyond the full scale.
        """
        ...

    def charge(
        self,
        value: Real,
        pulse: Real,
        fade: Real | None,
        layout: Layout,
        out: Real,
        drawn: Array,
        work: Workspace,
    ) -> None:
        """The second product into `out`: A_raw / full scale (panels, features, PANEL).

        `value` operand of a run, `pulse` (panels, columns, PANEL), `fade` of the rows (panels,
        features, PANEL). Adds the unsigned current to `drawn` (panels, PANEL).
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
    ) -> int:
        """Turn currents / full scale (panels, bit lines, PANEL) of an array into codes (FACTS 2.8).

        Adds the codes to `total`, raises `longest` to each row's longest pulse, adds each row's
        counts to `counts`; returns how many were clipped.
        """
        ...


class NumpyPasses:
    """The passes with numpy alone."""

    name = "numpy"

    def __init__(self, head: Head) -> None:
        self.head = head

    def pulses(self, score: Real, longest: Array) -> tuple[int, int]:
        low = int(np.count_nonzero(score < 0))
        widest = score.max(axis=1)
        high = int(np.count_nonzero(score > 1)) if (widest > 1).any() else 0
        self.head.score_converter.clamp(score, out=score)
        # the clamp never falls, so the longest pulse is that of the largest score
        np.maximum(longest, self.head.score_converter.clamp(widest, out=widest), out=longest)
        return low, high

    def charge(
        self,
        value: Real,
        pulse: Real,
        fade: Real | None,
        layout: Layout,
        out: Real,
        drawn: Array,
        work: Workspace,
    ) -> None:
        # power by power: a product over one power is still in the cache when it is added up
        rest = work.array("rest", (MOST, layout.value_width - layout.expanded, PANEL), out.dtype)
        rest = second_product(value[layout.expanded :], pulse, rest[: len(pulse)])
        second_product(value[layout.block(layout.powers - 1)], pulse, out)
        if fade is None:
            out += rest[:, :1]
            drawn += rest[:, 1]
            return
        shape = (MOST, layout.features, PANEL)
        block = work.array("block", shape, out.dtype)[: len(pulse)]
        out *= fade
        unsigned = rest[:, layout.powers + 1] * fade[:, 0]
        for power in range(layout.powers - 2, -1, -1):
            out += second_product(value[layout.block(power)], pulse, block)
            out *= fade
            unsigned += rest[:, power + 2]
            unsigned *= fade[:, 0]
        out += rest[:, :1]
        unsigned += rest[:, 1]
        drawn += unsigned

    def convert(
        self,
        current: Real,
        total: Array,
        longest: Array,
        counts: Array,
        converter: SignedConverter,
        counters: Counters,
    ) -> int:
        magnitude = np.abs(current)
        widest = magnitude.max(axis=1)
        clipped = int(np.count_nonzero(magnitude > 1)) if (widest > 1).any() else 0
        np.maximum(longest, np.minimum(widest, 1.0), out=longest)
        codes = converter.quantiser.codes(current, out=current)
        total += codes
        # a product with ones, which is faster than a sum, and exact: counts are whole numbers
        ones = np.ones((1, current.shape[1]), current.dtype)
        counts += np.matmul(ones, counters.counts(codes))[:, 0]
        return clipped


def choose_passes(head: Head, work: int) -> Passes:
    """The passes for `work` heads x tokens: compiled where that is asked for or pays."""
    if not pays(work >= LARGE):
        return NumpyPasses(head)
    from archsim.datapath.compiled import CompiledPasses

    return CompiledPasses()
