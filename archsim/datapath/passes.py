"""What happens to a panel between and after the two products, element by element.

The laws are the blocks' own; here they run in place over panels, with the counts that the activity
needs. `archsim.datapath.compiled` does the same in one pass each.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from archsim.components.head import Head
from archsim.datapath.products import Layout, Real, combine

Array = NDArray[np.float64]


class Passes(Protocol):
    """Three passes over a panel of rows; arrays named `out` or changed in place say so."""

    name: str

    def pulses(self, score: Real, longest: Array) -> tuple[int, int]:
        """Turn S_raw (rows, columns) into pulse widths / T_max in place (FACTS 2.6).

        Raises each row of `longest` to its longest pulse; returns how many scores were below 0 and
        how many beyond saturation.
        """
        ...

    def combine(
        self, product: Real, fade: Real | None, layout: Layout, out: Real, drawn: Array
    ) -> None:
        """`products.combine` into `out`, its unsigned current added to `drawn` (rows,)."""
        ...

    def convert(self, current: Real, total: Array, longest: Array, counts: Array) -> int:
        """Turn A_raw (rows, features) of one sub-tile into codes in place (FACTS 2.8).

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
        converter = self.head.score_converter
        low = int(np.count_nonzero(score < 0))
        high = int(np.count_nonzero(score > converter.saturation))
        converter.widths(score, out=score)
        np.maximum(longest, score.max(axis=1), out=longest)
        return low, high

    def combine(
        self, product: Real, fade: Real | None, layout: Layout, out: Real, drawn: Array
    ) -> None:
        drawn += combine(product, fade, layout, out)

    def convert(self, current: Real, total: Array, longest: Array, counts: Array) -> int:
        converter = self.head.output_converter
        normal = converter.normalised(current, out=current)
        magnitude: NDArray[Any] = np.abs(normal)
        clipped = int(np.count_nonzero(magnitude > 1))
        np.minimum(magnitude, 1.0, out=magnitude)
        np.maximum(longest, magnitude.max(axis=1), out=longest)
        codes = converter.quantiser.codes(normal, out=normal)
        counts += self.head.counters.counts(codes, magnitude).sum(axis=1)
        total += codes
        return clipped


def choose_passes(head: Head, work: int) -> Passes:
    """The passes to use for `work` heads x tokens."""
    del work
    return NumpyPasses(head)
