"""Units that figures are shown in. Inside everything is SI; conversions to what is read are here.

A factor that makes pJ of J stands nowhere else, so that a number is never off by a thousand between
a table and a file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """A unit as text, and its size: 10 to the `power` of the SI unit behind it."""

    text: str
    power: int = 0

    @property
    def per_si(self) -> float:
        """How many of it make the SI unit."""
        return _power(-self.power)

    def of(self, si: float) -> float:
        """A value in SI in this unit."""
        return si / _power(self.power) if self.power > 0 else si * self.per_si

    def si(self, value: float) -> float:
        """A value in this unit in SI."""
        return value * _power(self.power)

    def to(self, other: Unit, value: float) -> float:
        """A value in this unit in `other`, which measures the same."""
        return value * _power(self.power - other.power)

    @property
    def suffix(self) -> str:
        """How keys of JSON documents and columns of CSV files end: ``mm2``, ``tops_per_w``."""
        return self.text.lower().replace("^", "").replace("/", "_per_").replace(" ", "_")


def _power(exponent: int) -> float:
    return float(f"1e{exponent}")  # correctly rounded, which 10.0**exponent need not be


PLAIN = Unit("")
"""Shares, ratios and what is counted."""

PICOSECOND = Unit("ps", -12)
NANOSECOND = Unit("ns", -9)
MICROSECOND = Unit("us", -6)
MILLISECOND = Unit("ms", -3)
SECOND = Unit("s")
PICOJOULE = Unit("pJ", -12)
NANOJOULE = Unit("nJ", -9)
MICROJOULE = Unit("uJ", -6)
MILLIJOULE = Unit("mJ", -3)
MILLIWATT = Unit("mW", -3)
SQUARE_MICROMETRE = Unit("um^2", -12)
SQUARE_MILLIMETRE = Unit("mm^2", -6)
MILLIWATT_PER_SQUARE_MILLIMETRE = Unit("mW/mm^2", 3)
PICOCOULOMB = Unit("pC", -12)
MICROAMPERE_SECOND = Unit("uA s", -6)
"""Currents in uA, as the chip's laws have them, times seconds."""

TOKENS_PER_SECOND = Unit("tokens/s")
TERA_OPERATIONS = Unit("TOPS", 12)
TERA_OPERATIONS_PER_WATT = Unit("TOPS/W", 12)
DECIBEL = Unit("dB")
BYTES = Unit("bytes")
TOKENS = Unit("tokens")
NATS = Unit("nats")
PICOJOULE_NANOSECOND = Unit("pJ ns", -21)
TOKENS_PER_SECOND_AND_AREA = Unit("tokens/s/mm^2", 6)
TERA_OPERATIONS_PER_AREA = Unit("TOPS/mm^2", 18)
