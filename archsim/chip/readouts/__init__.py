"""What stands between the two products: ``readout.model``.

A readout takes the charges of K bit lines and makes the pulses that drive the V arrays. Its law
(`archsim.chip.readouts.law`) is what the datapath computes with; the block says what it holds, does
and occupies.
"""

from __future__ import annotations

from archsim.chip.variants import READOUT
from archsim.config.variant_section import VariantSection


class ReadoutConfig(VariantSection):
    """From the bit lines of K arrays to the word-line pulses of V arrays."""

    slot = READOUT.name

    model: str = "charge_to_pulse"
