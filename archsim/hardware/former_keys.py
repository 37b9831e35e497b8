"""Keys of hardware files by their names in the version before."""

from __future__ import annotations

from archsim.config.former import FormerKeys, NewKey

FORMER_KEYS: FormerKeys = {
    "mapping.row_split": NewKey(
        "readout.model", {"charge": "charge_to_pulse", "digital": "digital_sum"}
    ),
    "mapping.partial_levels": NewKey("readout.partial_levels"),
    "mapping.partial_saturation_current": NewKey("readout.partial_saturation_current"),
    "mapping.add_time": NewKey("readout.add_time"),
    "mapping.pulse_levels": NewKey("readout.pulse_levels"),
}
