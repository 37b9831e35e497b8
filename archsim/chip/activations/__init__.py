"""What a summed score becomes before it drives the V arrays: ``converter.law``."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray


class Activation(Protocol):
    """What a score becomes: a frozen dataclass of numbers, never decreasing in the score."""

    def pulses(self, score: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        """Pulse widths / T_max, 0 to 1, of S / S_sat, any shape, into `out`; 0 where S is 0."""
        ...
