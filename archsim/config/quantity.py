"""Physical quantities: text with a unit at the edge, one SI float inside.

``Annotated`` types made by `quantity` are the only way a unit enters a config. pint does the
arithmetic, behind a strict pattern: pint evaluates expressions, and ``2**2**2**2**2 s`` hangs it.
"""

from __future__ import annotations

import functools
import math
import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

if TYPE_CHECKING:
    import pint

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?"
_SYMBOL = r"(?:[A-Za-zµμΩ°%]{1,16}(?:(?:\^|\*\*)-?[1-4]|[²³])?|1)"  # at most one small power
_PATTERN = re.compile(rf"\s*({_NUMBER})\s*({_SYMBOL}(?:\s*[*/·]\s*{_SYMBOL}){{0,3}})\s*")


@functools.cache
def _registry() -> pint.UnitRegistry[Any]:
    import pint

    registry: pint.UnitRegistry[Any] = pint.UnitRegistry(cache_folder=":auto:")
    registry.define("FLOP = [operation]")
    registry.define("cell = [cell]")
    return registry


@functools.lru_cache(maxsize=4096)
def parse_quantity(text: str, unit: str) -> float:
    """The SI value of `text` ("15 ns", "1 um^2") expressed in `unit` ("s", "m^2").

    Raises ValueError with a one-line reason: not a number with a unit, an unknown unit, a unit of
    another dimension, or not finite.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"cannot read {text[:60]!r} as a number with a unit (like '15 {unit}')")
    import pint

    registry = _registry()
    try:
        given = registry.Unit(match[2])
        factor = float(registry.Quantity(1.0, given).to(unit).magnitude)
        value = float(registry.Quantity(float(match[1]), given).to(unit).magnitude)
    except pint.DimensionalityError:
        raise ValueError(f"{text!r} has the wrong unit: expected one of {unit}") from None
    except (pint.PintError, AssertionError, TypeError, AttributeError, ValueError, KeyError):
        raise ValueError(f"unknown unit {match[2]!r} in {text!r} (like '15 {unit}')") from None
    if not (math.isfinite(value) and math.isfinite(factor)):
        raise ValueError(f"{text!r} is not finite")
    return value


def quantity(unit: str, *, ge: float | None = None, gt: float | None = None) -> Any:
    """The type of a field that takes text with a unit and holds a float in `unit` (SI)."""

    def parse(value: object) -> float:
        if not isinstance(value, str):
            raise ValueError(f"give a number with a unit, like '15 {unit}' (got {value!r})")
        return parse_quantity(value, unit)

    return Annotated[
        float,
        BeforeValidator(parse),
        Field(ge=ge, gt=gt),
        WithJsonSchema({"type": "string", "examples": [f"15 {unit}"], "x-unit": unit}),
    ]


PICOSECOND = 1e-12


def picoseconds(seconds: float) -> int:
    """Integer picoseconds, rounded half to even; the one place where time is rounded."""
    return round(seconds / PICOSECOND)
