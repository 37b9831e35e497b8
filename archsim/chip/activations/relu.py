"""``converter.law: relu``: a rectifier that saturates, softly from a knee on.

An integrator is not linear up to its rail: where its range ends, its slope falls first. With
x = S / S_sat::

    P = 0                        below 0
        x                        up to the knee
        knee + slope (x - knee)  beyond it, at most 1

With the default knee, 1, that is the HardSigmoid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.chip.variants import variant
from archsim.config.section import Section

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig


@dataclass(frozen=True)
class Relu:
    """``P = min(x, knee) + slope_beyond_knee max(x - knee, 0)``, 0 below 0 and at most 1."""

    knee: float = 1.0
    slope_beyond_knee: float = 0.0

    def pulses(self, score: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        """Pulse widths / T_max of S / S_sat, any shape, into `out`."""
        beyond = np.maximum(score - self.knee, 0.0) if self.slope_beyond_knee else None
        np.clip(score, 0.0, self.knee, out=out)
        if beyond is not None:
            beyond *= self.slope_beyond_knee
            out += beyond
            np.minimum(out, 1.0, out=out)
        return out


@variant("activation", "relu")
class ReluConverter:
    """Rectified score, linear up to a knee, with a smaller slope beyond it, at most 1."""

    class Config(Section):
        knee: Annotated[float, Field(gt=0, le=1)] = Field(
            default=1.0, description="share of full scale up to which a pulse is as long as S says"
        )
        slope_beyond_knee: Annotated[float, Field(ge=0, le=1)] = Field(
            default=0.0, description="of what a score grows beyond the knee, so much of its pulse"
        )

        def inactive(self) -> frozenset[str]:
            """At a knee of 1 every pulse beyond it has its full length already."""
            return frozenset({"slope_beyond_knee"} if self.knee == 1 else ())

    @staticmethod
    def law(config: HardwareConfig) -> Relu:
        """What a score becomes."""
        own = cast(ReluConverter.Config, config.converter)
        return Relu(own.knee, own.slope_beyond_knee if own.knee < 1 else 0.0)
