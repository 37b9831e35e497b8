"""What a change of voltages leaves behind: coefficients that were fitted at other ones.

``cell.fit_supply``, ``cell.fit_mid_rail`` and ``cell.fit_input_voltage`` say at which voltages the
coefficients of a config hold. They follow nothing, so a hardware with other voltages says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from archsim.config.voltages import FOLLOWERS, VoltageRange, supply_share, volts_text

if TYPE_CHECKING:
    from archsim.hardware.load import Hardware

MID_RAIL_FITS = ("cell.polynomial", "cell.linear_slope")
SUPPLY_FITS = (
    *MID_RAIL_FITS,
    "write_path.energy_per_conversion",
    "converter.score.saturation_current",
    "converter.score.energy_per_conversion",
    "converter.output.saturation_current",
    "converter.output.energy_per_conversion",
)
INPUT_FITS = (*MID_RAIL_FITS, "pulse_generator.energy_per_pulse")
"""What was fitted, or chosen, at a supply, a mid-rail and an amplitude of word-line pulses."""


def condition_notes(hardware: Hardware) -> Iterator[str]:
    """What this hardware's voltages leave behind; nothing where all is as it was fitted."""
    cell = hardware.config.cell
    fitted = {
        "supply": cell.fit_supply,
        "mid_rail": cell.fit_mid_rail,
        "input_voltage": cell.fit_input_voltage,
    }
    actual = {"supply": cell.supply, "mid_rail": cell.mid_rail, "input_voltage": cell.input_voltage}
    moved = [name for name, at in fitted.items() if at is not None and at != actual[name]]
    if not moved:
        return
    left = dict.fromkeys(
        leaf
        for name, leaves in (
            ("supply", SUPPLY_FITS), ("mid_rail", MID_RAIL_FITS), ("input_voltage", INPUT_FITS)
        )
        if name in moved
        for leaf in leaves
    )  # fmt: skip
    if cell.model != "polynomial":
        left.pop("cell.polynomial", None)
    readout = hardware.config.readout.chosen
    if "charge_to_pulse" not in (readout.name, getattr(readout.cls, "alone", "")):
        left.pop("converter.score.energy_per_conversion", None)  # has no such converters
    still = [leaf for leaf in left if _fitted_there(hardware, leaf)]
    still += [f"cell.{name}" for name in _left_behind(hardware, moved, fitted)]
    if not still:
        return
    there = ", ".join(f"cell.{name} {volts_text(fitted[name] or 0.0)}" for name in moved)
    here = ", ".join(volts_text(actual[name]) for name in moved)
    what = " (also what SQNR compares with)" if "cell.linear_slope" in still else ""
    yield f"Fitted at {there}, here {here}; does not follow{what}: {', '.join(still)}"


def _fitted_there(hardware: Hardware, parameter: str) -> bool:
    """Whether a coefficient is still the one fitted, and not one that a user gave since."""
    conditions_given = hardware.source("cell.fit_supply") == "user"
    for leaf in hardware.leaves(parameter):
        found = hardware.provenance.get(leaf)
        overridden = found is not None and found.place.startswith("--set")
        if overridden or (hardware.source(leaf) == "user" and not conditions_given):
            return False
    return True


def _left_behind(
    hardware: Hardware, moved: list[str], fitted: Mapping[str, float | None]
) -> Iterator[str]:
    """Voltages that stayed where they were while the supply, or mid-rail in it, moved."""
    cell = hardware.config.cell
    supply, mid_rail = fitted["supply"], fitted["mid_rail"]
    for name in FOLLOWERS:
        dotted = f"cell.{name}"
        follows = supply_share(hardware.written(dotted)) is not None
        if "supply" in moved and not follows and _fitted_there(hardware, dotted):
            yield name
        elif name == "effective_voltage" and supply and mid_rail and "mid_rail" in moved:
            ratio, shift = VoltageRange(supply, mid_rail).affine_to(VoltageRange.of(cell))
            if shift and ratio and _fitted_there(hardware, dotted):
                yield name  # a bit line at mid-rail: its drop moves with it
