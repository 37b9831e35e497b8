"""The law of a signed conversion and of counting its pulse (FACTS 2.8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.chip.quantiser import Quantiser

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Conversion:
    """``A = quant(clip(A_raw / full_scale, -1, 1))``, `full_scale` in uA.

    `edges`: clock edges in the longest pulse, where the quantiser is ideal and a counter counts
    edges instead of codes; else None.
    """

    full_scale: float
    quantiser: Quantiser
    edges: float | None

    def counts(self, codes: Array, out: Array | None = None) -> Array:
        """Counts of each conversion, into `out` if given: the code's magnitude; clock edges where
        codes are ideal.
        """
        magnitude: Array = np.abs(codes, out=out)
        if self.edges is not None:  # codes are pulse widths / T_max, before the clamp
            return np.rint(np.minimum(magnitude, 1.0) * self.edges)
        return magnitude

    @property
    def most_counts(self) -> int:
        """The most counts that one conversion can take."""
        levels = self.quantiser.levels
        if self.edges is not None:
            return round(self.edges)
        assert levels is not None
        return levels // 2
