"""``converter.law: hard_sigmoid``: a range that ends at both sides (FACTS 2.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archsim.chip.variants import variant

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig


@dataclass(frozen=True)
class HardSigmoid:
    """``P = clip(S / S_sat, 0, 1)``."""

    def pulses(self, score: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        """Pulse widths / T_max of S / S_sat, any shape, into `out`."""
        clipped: NDArray[Any] = np.clip(score, 0.0, 1.0, out=out)
        return clipped


@variant("activation", "hard_sigmoid")
class HardSigmoidConverter:
    """Score from 0 to 1: ``clip(S / S_sat, 0, 1)``."""

    @staticmethod
    def law(config: HardwareConfig) -> HardSigmoid:
        """What a score becomes."""
        return HardSigmoid()
