"""How cells are kept from fading: ``refresh.model``."""

from __future__ import annotations

from typing import Protocol

from archsim.chip.stage import Ticks, Times
from archsim.chip.work import Block


class Refresh(Block, Protocol):
    """What restores the cells of a head; `period_ticks` None: nothing does."""

    period_ticks: int | None

    def restored(self, times: Times) -> Ticks | None:
        """When the cells that each token reads were last restored, (tokens, layers, heads) in ticks.

        0: not yet. None: never.
        """
