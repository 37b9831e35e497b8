"""Voltages of a cell that follow from its supply.

``cell.mid_rail``, ``cell.effective_voltage`` and ``cell.input_voltage`` may be written as a share
of ``cell.supply`` (``1/2 supply``); they follow it then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from archsim.config.quantity import Quantity

FOLLOWERS = ("mid_rail", "effective_voltage", "input_voltage")
"""Fields of ``cell`` that may be a share of its supply."""

SHARE_PATTERN = r"^\s*((\d{1,6}(\.\d{1,9})?|\.\d{1,9})(\s*/\s*[1-9]\d{0,5})?\s*)?supply\s*$"
"""``1/2 supply``, ``0.5 supply``, ``supply``."""


class Supplied(Protocol):
    """Anything with a supply and a mid-rail in V: a section of a config."""

    @property
    def supply(self) -> float: ...

    @property
    def mid_rail(self) -> float: ...


@dataclass(frozen=True)
class VoltageRange:
    """Stored voltages span 0 to `supply`; `mid_rail` means zero. Both in V."""

    supply: float
    mid_rail: float

    @classmethod
    def of(cls, cell: Supplied) -> VoltageRange:
        """The range of a hardware's cells."""
        return cls(cell.supply, cell.mid_rail)

    def __str__(self) -> str:
        return f"0 to {volts_text(self.supply)} around {volts_text(self.mid_rail)}"

    def affine_to(self, other: VoltageRange) -> tuple[float, float]:
        """(a, b) of ``a x + b`` that takes voltages of this range to those of another.

        A deviation from mid-rail keeps its share of the supply.
        """
        if self == other:
            return 1.0, 0.0
        ratio = other.supply / self.supply
        shift = other.mid_rail - self.mid_rail * ratio
        # equal shares that binary fractions write a rounding apart
        return ratio, shift if abs(shift) > 1e-12 * other.supply else 0.0


@dataclass(frozen=True)
class OptionalQuantity(Quantity):
    """A `Quantity` that may be null: not known."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.nullable_schema(super().__get_pydantic_core_schema__(source, handler))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**super().__get_pydantic_json_schema__(schema, handler), "x-null": True}


@dataclass(frozen=True)
class SuppliedVoltage(Quantity):
    """A `Quantity` that may also be written as a share of the supply."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**super().__get_pydantic_json_schema__(schema, handler), "x-share": SHARE_PATTERN}


def supply_share(value: object) -> Fraction | None:
    """The share that ``1/2 supply`` stands for; None for anything else."""
    if not isinstance(value, str) or re.fullmatch(SHARE_PATTERN, value) is None:
        return None
    number = value.replace("supply", "").replace(" ", "") or "1"
    numerator, _, denominator = number.partition("/")
    return Fraction(numerator) / Fraction(denominator or 1)


def share_of(supply: float, share: Fraction) -> float:
    """A share of a supply in V: of the decimal that was written, so that 1/15 of 0.9 is 0.06."""
    return float(Fraction(repr(supply)) * share)


def in_volts(value: object, supply: object) -> object:
    """A share of the supply as text in volts; anything else as it is."""
    share = supply_share(value)
    if share is None or not isinstance(supply, float):
        return value
    return f"{share_of(supply, share)!r} V"


def resolve_shares(cell: Any) -> Any:
    """The values of a ``cell`` section with shares of the supply in volts."""
    if not isinstance(cell, Mapping):
        return cell
    shares = [name for name in FOLLOWERS if supply_share(cell.get(name)) is not None]
    if not shares or not isinstance(cell.get("supply"), str):  # a fault told elsewhere
        return cell
    try:
        supply = Quantity("V").parse(cell["supply"])
    except ValueError:
        return cell
    return {**cell, **{name: in_volts(cell[name], supply) for name in shares}}


def volts_text(volts: float) -> str:
    return f"{volts:.12g} V"
