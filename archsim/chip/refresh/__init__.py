"""How cells are kept from fading: ``refresh.model``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from archsim.chip.array import SubTiles
from archsim.chip.stage import Ticks, Times
from archsim.chip.variants import REFRESH
from archsim.chip.work import Block
from archsim.config.clock import Clock
from archsim.config.variant_section import VariantSection
from archsim.config.variants import find

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig


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


def refresh_of(config: HardwareConfig, sub_tiles: SubTiles) -> Refresh:
    """What refreshes a head of a hardware."""
    built: Refresh = find(REFRESH.name, config.refresh.model)(config, sub_tiles)
    return built


def time_between(config: HardwareConfig) -> float:
    """s from one refresh of a cell to the next; infinite where there is none."""
    ticks = refresh_of(config, SubTiles.of(config)).period_ticks
    return math.inf if ticks is None else Clock.of(config.controller.clock).time(ticks)
