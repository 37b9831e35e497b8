"""Physical quantities: text with a unit at the edge, one SI float inside.

``Annotated[float, Quantity(...)]`` is the only way a unit enters a config. pint does the
arithmetic of all but the plainest units, behind a strict pattern: pint evaluates expressions, and
``2**2**2**2**2 s`` hangs it.
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

POWERS_OF_TEN = {
    "s": {"s": 0, "ms": -3, "us": -6, "ns": -9, "ps": -12},
    "Hz": {"Hz": 0, "kHz": 3, "MHz": 6, "GHz": 9},
    "V": {"V": 0, "mV": -3},
    "A": {"A": 0, "mA": -3, "uA": -6, "nA": -9},
    "A/V": {"A/V": 0, "uA/V": -6, "nA/V": -9},
    "A/V^2": {"A/V^2": 0, "uA/V^2": -6, "nA/V^2": -9},
    "A/V^3": {"A/V^3": 0, "uA/V^3": -6, "nA/V^3": -9},
    "F": {"F": 0, "pF": -12, "fF": -15, "aF": -18},
    "J": {"J": 0, "mJ": -3, "uJ": -6, "nJ": -9, "pJ": -12, "fJ": -15, "aJ": -18},
    "W": {"W": 0, "mW": -3, "uW": -6, "nW": -9},
    "m^2": {"m^2": 0, "mm^2": -6, "um^2": -12, "nm^2": -18},
    "MAC/s": {"GMAC/s": 9, "TMAC/s": 12},
    "FLOP/s": {"GFLOP/s": 9, "TFLOP/s": 12},
    "byte": {"byte": 0, "kB": 3, "MB": 6, "GB": 9},
    "byte/s": {"GB/s": 9, "TB/s": 12},
    "J/byte": {"J/byte": 0, "pJ/byte": -12},
}
"""What most configs are written in, by the unit it is kept in: read without loading pint, which
takes longer than all the rest of a config. Every entry is what pint finds (a test)."""


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
    if match is None:
        example = EXAMPLES.get(unit, f"1 {unit}")
        raise ValueError(f"cannot read {text[:60]!r} as a number with a unit, like {example!r}")
    exponent = POWERS_OF_TEN.get(unit, {}).get(match[2])
    if exponent is None:
        value = converted(text, match[1], match[2], unit)
    else:
        value = float(Decimal(match[1]).scaleb(exponent))
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def converted(text: str, number: str, given_unit: str, unit: str) -> float:
    """`number` of one unit in another, by pint; ValueError as in `parse_quantity`."""
    import pint

    example = EXAMPLES.get(unit, f"1 {unit}")
    registry = _registry()
    try:
        given = registry.Unit(given_unit)
        return float(registry.Quantity(Decimal(number), given).to(unit).magnitude)
    except pint.DimensionalityError:
        raise ValueError(f"{text!r} has the wrong unit: expected a unit of {unit}") from None
    except (pint.PintError, ArithmeticError, AssertionError, TypeError, AttributeError, ValueError):
        raise ValueError(f"unknown unit {given_unit!r} in {text!r}; like {example!r}") from None


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
