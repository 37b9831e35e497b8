"""The law of a readout: from charges of K bit lines to pulse widths on V word lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from archsim.chip.action import Law
from archsim.chip.activations import Activation
from archsim.chip.array import SubTiles
from archsim.chip.conversion import Conversion
from archsim.chip.quantiser import Quantiser
from archsim.chip.variants import READOUT
from archsim.chip.work import Block
from archsim.config.variants import find

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ReadoutLaw:
    """``P = widths(activation(S / saturation))``, currents in uA.

    `parts`: first and stop of the features whose products are summed on one bit line, all or a part
    each. Without a `conversion` the charge of the one bit line drives the activation as it is; with
    one the bit line of each part is converted to codes, and S is what the codes add up to. Without
    `widths` pulses are of any width.
    """

    parts: tuple[tuple[int, int], ...]
    saturation: float
    activation: Activation
    conversion: Conversion | None = None
    widths: Quantiser | None = None

    @property
    def full_scale(self) -> float:
        """Summed current in uA of a bit line, of which the first product is a share."""
        return self.saturation if self.conversion is None else self.conversion.full_scale

    def score(self, codes: Array, out: NDArray[Any]) -> None:
        """S / S_sat of summed codes of parts, before the activation, into `out`."""
        assert self.conversion is not None
        values = self.conversion.quantiser.values(codes)
        np.multiply(values, self.full_scale / self.saturation, out=out, casting="same_kind")

    def scores(self, charges: Sequence[Array]) -> Array:
        """S / S_sat, before the activation, of the summed currents (uA) of each part."""
        if self.conversion is None:
            joined: Array = np.sum(charges, axis=0)
            return joined / self.saturation
        codes = [self.conversion.quantiser.codes(each / self.full_scale) for each in charges]
        score = np.empty(codes[0].shape)
        self.score(np.sum(codes, axis=0), score)
        return score

    def pulses(self, score: NDArray[Any]) -> NDArray[Any]:
        """Pulse widths / T_max of S / S_sat, in place."""
        self.activation.pulses(score, out=score)
        if self.widths is not None:
            self.widths.values(self.widths.codes(score, out=score), out=score)
        return score


class Readout(Block, Protocol):
    """The block between the products. `t_max` and `t_max_ticks`: of the pulses on V word lines.

    `work`: laws that set how much there is to do, besides those of the head.
    """

    t_max_ticks: int
    work: tuple[Law, ...]

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None: ...

    @property
    def t_max(self) -> float:
        """Longest pulse in seconds."""

    @classmethod
    def law(cls, config: HardwareConfig, sub_tiles: SubTiles) -> ReadoutLaw:
        """What it makes of charges."""


def readout_of(config: HardwareConfig, sub_tiles: SubTiles) -> type[Readout]:
    """The variant that ``readout.model`` names, for what there is to read.

    Where an array holds all features, sums of parts are what is read without (`alone`).
    """
    found: type[Readout] = find(READOUT.name, config.readout.model)
    alone: str | None = getattr(found, "alone", None)
    if alone is not None and sub_tiles.stacked == 1:
        found = find(READOUT.name, alone)
    return found
