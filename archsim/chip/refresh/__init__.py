"""How cells are kept from fading: ``refresh.model``."""

from __future__ import annotations

from typing import Protocol

from archsim.chip.stage import Ticks, Times
from archsim.chip.variants import REFRESH
from archsim.chip.work import Block
from archsim.config.variant_section import VariantSection


class RefreshConfig(VariantSection):
    """Whether cells are read and written back while they are in use."""

    slot = REFRESH.name

    model: str = "none"


class Refresh(Block, Protocol):
    """What restores the cells of a head; `period_ticks` None: nothing does."""

    period_ticks: int | None

    @property
    def power(self) -> float:
        """W that it draws in one head that is full."""
        ...

    def restored(self, times: Times) -> Ticks | None:
        """When the cells that each token reads were last restored, in ticks.

        (tokens, layers, heads), 0: not yet. None: never.
        """
