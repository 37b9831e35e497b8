"""What of the chip comes in variants: slots, and the key of a hardware file that chooses each.

A new one is a line here and a `VariantSection` that names it; see `archsim.config.variants`.
"""

from __future__ import annotations

from archsim.config.variants import declare, variant

__all__ = ["ACTIVATION", "CELL", "READOUT", "REFRESH", "variant"]

CELL = declare("cell", "cell.model", "archsim.chip.cells")
"""The current that a stored voltage makes."""

READOUT = declare("readout", "readout.model", "archsim.chip.readouts")
"""How the keys' bit lines become word-line pulses of the values."""

ACTIVATION = declare("activation", "converter.law", "archsim.chip.activations")
"""What stands where exact attention has its softmax."""

REFRESH = declare("refresh", "refresh.model", "archsim.chip.refresh")
"""Whether cells are read and written back before they have lost what they hold."""
