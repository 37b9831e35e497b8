"""Refresh of stored voltages before they have faded."""

from __future__ import annotations

from archsim.chip.variants import REFRESH, variant
from archsim.config.variant_section import VariantSection


class RefreshConfig(VariantSection):
    """Whether cells are read and written back while they are in use."""

    slot = REFRESH.name

    model: str = "none"


@variant("refresh", "none")
class NoRefresh:
    """Never: a sliding window overwrites every cell after `window` tokens."""
