"""``refresh.model: none``: a sliding window overwrites cells before they must be refreshed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from archsim.chip.action import Action, Bucket
from archsim.chip.array import SubTiles
from archsim.chip.stage import Declared, Ticks, Times
from archsim.chip.variants import variant
from archsim.chip.work import Footprints, Implied, Shapes, Spent, Work

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig


def no_energy(config: HardwareConfig) -> float:
    """J of what never happens."""
    return 0.0


REFRESH = Action("refresh", "none modelled", "refresh", "head", no_energy)


@variant("refresh", "none")
class NoRefresh:
    """None: cells fade until they are overwritten. A line of 0 in the ledger."""

    total: Bucket = "refresh"
    period_ticks: int | None = None
    power = 0.0

    def __init__(self, config: HardwareConfig, sub_tiles: SubTiles) -> None:
        pass

    def restored(self, times: Times) -> Ticks | None:
        return None

    def stages(self, heads: int) -> Declared:
        yield from ()

    def spend(self, work: Work) -> Spent:
        none = np.zeros((1, *work.columns.shape[1:]))
        yield REFRESH, none, none

    def implied(self, shapes: Shapes) -> Implied:
        yield REFRESH, 0, 0

    def footprints(self, heads: int) -> Footprints:
        yield from ()
