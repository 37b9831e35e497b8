"""Physical quantities: text with a unit at the edge, one SI float inside.

``Annotated[float, Quantity(...)]`` is the only way a unit enters a config. pint does the
arithmetic, behind a strict pattern: pint evaluates expressions, and ``2**2**2**2**2 s`` hangs it.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    import pint

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?"
_SYMBOL = r"(?:[A-Za-zµμΩ°%]{1,16}(?:(?:\^|\*\*)-?[1-4]|[²³])?|1)"  # at most one small power
_PATTERN = re.compile(rf"\s*({_NUMBER})\s*({_SYMBOL}(?:\s*[*/·]\s*{_SYMBOL}){{0,3}})\s*")


UNITS = """
yocto- = 1e-24 = y-
zepto- = 1e-21 = z-
atto- = 1e-18 = a-
femto- = 1e-15 = f-
pico- = 1e-12 = p-
nano- = 1e-9 = n-
micro- = 1e-6 = µ- = μ- = u-
milli- = 1e-3 = m-
centi- = 1e-2 = c-
deci- = 1e-1 = d-
kilo- = 1e3 = k-
mega- = 1e6 = M-
giga- = 1e9 = G-
tera- = 1e12 = T-
peta- = 1e15 = P-
kibi- = 2**10 = Ki-
mebi- = 2**20 = Mi-
gibi- = 2**30 = Gi-
tebi- = 2**40 = Ti-
second = [time] = s = sec
metre = [length] = m = meter
gram = [mass] = g
ampere = [current] = A = amp
kelvin = [temperature] = K
bit = [information]
FLOP = [operation]
MAC = [multiply_accumulate]
cell = [cell]
minute = 60 * second = min
hour = 60 * minute = h
day = 24 * hour = d
year = 365.25 * day
hertz = 1 / second = Hz
newton = 1000 * gram * metre / second ** 2 = N
joule = newton * metre = J
electron_volt = 1.602176634e-19 * joule = eV
watt = joule / second = W
coulomb = ampere * second = C
volt = joule / coulomb = V
farad = coulomb / volt = F
ohm = volt / ampere = Ω
siemens = 1 / ohm = S
byte = 8 * bit = B
"""
"""What hardware is described in. pint's own list of a thousand units takes it 0.3 s to read."""


@functools.cache
def _registry() -> pint.UnitRegistry[Any]:
    import pint

    # Decimal, so that "15 ns" is the float nearest to 1.5e-8 and not its neighbour
    registry: pint.UnitRegistry[Any] = pint.UnitRegistry(None, non_int_type=Decimal)
    registry.load_definitions(UNITS.strip().splitlines())
    return registry


@functools.lru_cache(maxsize=4096)
def parse_quantity(text: str, unit: str) -> float:
    """The SI value of `text` ("15 ns", "1 um^2") expressed in `unit` ("s", "m^2").

    Raises ValueError with a one-line reason: not a number with a unit, an unknown unit, a unit of
    another dimension, or not finite.
    """
    match = _PATTERN.fullmatch(text)
    example = EXAMPLES.get(unit, f"1 {unit}")
    if match is None:
        raise ValueError(f"cannot read {text[:60]!r} as a number with a unit, like {example!r}")
    import pint

    registry = _registry()
    try:
        given = registry.Unit(match[2])
        value = float(registry.Quantity(Decimal(match[1]), given).to(unit).magnitude)
    except pint.DimensionalityError:
        raise ValueError(f"{text!r} has the wrong unit: expected a unit of {unit}") from None
    except (pint.PintError, ArithmeticError, AssertionError, TypeError, AttributeError, ValueError):
        raise ValueError(f"unknown unit {match[2]!r} in {text!r}; like {example!r}") from None
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def split_quantity(text: str) -> tuple[float, str]:
    """The number and the unit of a text like "15 ns"; ValueError if it is none."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"cannot read {text[:60]!r} as a number with a unit")
    return float(match[1]), match[2]


EXAMPLES = {
    "s": "15 ns", "m^2": "1 um^2", "J": "0.2 pJ", "A": "80 uA", "F": "10 fF", "Hz": "1 GHz",
    "V": "0.9 V", "W": "1 mW", "byte": "72 MB", "byte/s": "1008 GB/s", "FLOP/s": "82.6 TFLOP/s",
    "MAC/s": "10 TMAC/s", "J/byte": "31 pJ/byte",
}  # fmt: skip
"""A plausible value of each unit, for messages and the schema."""


@dataclass(frozen=True)
class Quantity:
    """Field type: ``Annotated[float, Quantity("s", ge=0, le=1)]`` takes text, holds SI seconds.

    Bounds are wide, but every quantity has both: beyond them sums overflow or times vanish.
    """

    unit: str
    ge: float | None = None
    le: float | None = None

    def parse(self, value: object) -> float:
        """SI value of a text; ValueError if it is none."""
        if not isinstance(value, str):
            raise ValueError(
                f"give a number with a unit, like '{EXAMPLES.get(self.unit, self.unit)}'"
            )
        return parse_quantity(value, self.unit)

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        bounded = core_schema.float_schema(ge=self.ge, le=self.le)
        return core_schema.no_info_before_validator_function(self.parse, bounded)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            "type": "string",
            "examples": [EXAMPLES.get(self.unit, f"1 {self.unit}")],
            "x-unit": self.unit,
        }


PICOSECOND = 1e-12


def picoseconds(seconds: float) -> int:
    """Integer picoseconds, rounded half to even; the one place where time is rounded."""
    return round(seconds / PICOSECOND)
