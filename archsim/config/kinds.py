"""Kinds of values in a hardware description: each with its unit and its bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from archsim.config.quantity import Quantity, parse_quantity
from archsim.config.voltages import OptionalQuantity, SuppliedVoltage

ONE_PICOSECOND, LONGEST_PHASE = 1e-12, 1e-3
Gap = Annotated[float, Quantity("s", ge=0, le=1e-2)]
Duration = Annotated[float, Quantity("s", ge=ONE_PICOSECOND, le=LONGEST_PHASE)]
Retention = Annotated[float, Quantity("s", ge=ONE_PICOSECOND, le=1e9)]
Hertz = Annotated[float, Quantity("Hz", ge=1e6, le=1e12)]
Volts = Annotated[float, Quantity("V", ge=1e-3, le=1e3)]
FollowingVolts = Annotated[float, SuppliedVoltage("V", ge=1e-3, le=1e3)]
KnownVolts = Annotated[float | None, OptionalQuantity("V", ge=1e-3, le=1e3)]
Amperes = Annotated[float, Quantity("A", ge=1e-12, le=1.0)]
Farads = Annotated[float, Quantity("F", ge=0, le=1e-6)]
Joules = Annotated[float, Quantity("J", ge=0, le=1e-3)]
SquareMetres = Annotated[float, Quantity("m^2", ge=0, le=1e-2)]
Watts = Annotated[float, Quantity("W", ge=0, le=1e3)]
Levels = Annotated[int, Field(ge=2, le=65536)] | None
Sharing = Annotated[int, Field(ge=1, le=4096)]
Arbitration = Literal["static", "fifo"]


def _seconds_or_auto(low: float, high: float, words: str) -> Callable[[object], float | str]:
    """Reads a time from `low` to `high` seconds, which `words` spell out, or ``auto``."""

    def read(value: object) -> float | str:
        if value == "auto":
            return "auto"
        if not isinstance(value, str):
            raise ValueError(f"give a time with a unit, like '15 ns', or auto (got {value!r})")
        seconds = parse_quantity(value, "s")
        if not low <= seconds <= high:
            raise ValueError(f"must be between {words}")
        return seconds

    return read


PhaseOrAuto = Annotated[
    float | Literal["auto"],
    BeforeValidator(_seconds_or_auto(ONE_PICOSECOND, LONGEST_PHASE, "1 ps and 1 ms")),
]
PeriodOrAuto = Annotated[
    float | Literal["auto"], BeforeValidator(_seconds_or_auto(0, 1e3, "0 and 1,000 s"))
]
