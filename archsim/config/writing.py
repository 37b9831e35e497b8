"""Physical values as text, in the prefix that makes them readable; what is written reads back."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic.fields import FieldInfo

from archsim.config.quantity import Quantity, parse_quantity

_PREFIXES: dict[str, tuple[int, Decimal | int]] = {
    "T": (12, 1), "G": (9, 1), "M": (6, 1), "k": (3, 1), "": (0, Decimal("0.1")), "m": (-3, 1),
    "u": (-6, 1), "n": (-9, 1), "p": (-12, 1), "f": (-15, 1), "a": (-18, 1),
}  # fmt: skip
"""Exponent of ten of each prefix, and the least number of it worth writing: 0.9 V, but 15 ns."""

_AREA_PREFIXES: dict[str, tuple[int, Decimal | int]] = {
    "m": (-6, Decimal("0.1")), "u": (-12, Decimal("0.001")),
}  # fmt: skip
"""The same for m^2: areas on chips are given in mm^2 and um^2."""


def quantity_text(value: float, unit: str) -> str:
    """`value` in SI `unit` as text that parses back to the same float: 1.5e-08, "s" -> "15 ns"."""
    if repr(value) == "0.0":
        return f"0 {unit}"
    decimal = Decimal(repr(value))
    for prefix, (exponent, least) in (_AREA_PREFIXES if unit == "m^2" else _PREFIXES).items():
        scaled = decimal.scaleb(-exponent)
        if abs(scaled) >= least:
            text = f"{_digits(scaled)} {prefix}{unit}"
            if parse_quantity(text, unit) == value:
                return text
    return f"{value!r} {unit}"


def field_unit(info: FieldInfo) -> str | None:
    """The SI unit of a config field; None if it is a plain number, a choice or text."""
    for item in info.metadata:
        if isinstance(item, Quantity):
            return item.unit
    return "s" if info.annotation == float | Literal["auto"] else None  # PhaseOrAuto, PeriodOrAuto


def _digits(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
