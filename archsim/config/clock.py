"""Clock law and unit of time: edges lie where they are, and times stay whole numbers.

Times are counted in *ticks*: a picosecond, or the part of one that makes a clock period a whole
number of them. At 1 GHz a period is 1,000 ticks of 1 ps; at 3 GHz 1,000 ticks of 1/3 ps. So both
timing engines work with whole numbers, every edge is exact, and figures are divided once, when they
are printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from archsim.config.quantity import PICOSECOND, picoseconds

MOST_TICKS = 10_000
"""Most ticks in a picosecond. A period that needs more is off by less than 1e-4 ps: by 1e-7 of
itself at 1 GHz, by 0.01 % at the fastest clock there is, 1 THz."""

SHORT_OF_AN_EDGE = Fraction(1, 1000)
"""Of a period, and less than 1 ps: what ends so near to an edge ends on it. It is how far a clock
or a time of few digits (333.333 MHz) is from the one that was meant."""


@dataclass(frozen=True)
class Clock:
    """A clock: `period` in ticks, `per_ps` ticks in a picosecond."""

    period: int
    per_ps: int = 1

    @classmethod
    def of(cls, frequency: float) -> Clock:
        """The clock of a frequency in Hz."""
        exact = Fraction(10**12) / Fraction(repr(frequency))
        period = exact.limit_denominator(MOST_TICKS)
        return cls(period.numerator, period.denominator)

    @property
    def seconds(self) -> float:
        """Seconds in a tick."""
        return PICOSECOND / self.per_ps

    @property
    def ns(self) -> float:
        """Nanoseconds in a tick."""
        return 1e-3 / self.per_ps

    @property
    def per_ns(self) -> int:
        """Ticks in a nanosecond."""
        return 1000 * self.per_ps

    @property
    def period_ns(self) -> float:
        """The clock period in ns."""
        return self.period / self.per_ns

    def time(self, ticks: int) -> float:
        """Seconds of so many ticks: a whole picosecond is one, whatever a tick is."""
        return ticks / self.per_ps * PICOSECOND

    def ticks(self, seconds: float) -> int:
        """A time in ticks, to the picosecond, or on the edge that it falls short of."""
        ticks = picoseconds(seconds) * self.per_ps
        beyond = ticks % self.period
        off = beyond if 2 * beyond <= self.period else beyond - self.period
        near = abs(off) < self.period * SHORT_OF_AN_EDGE and abs(off) < self.per_ps
        return ticks - off if near else ticks

    def divides(self, seconds: float, steps: int) -> bool:
        """Whether a pulse of so many equal steps has whole numbers of edges in each."""
        return self.ticks(seconds) % (steps * self.period) == 0


def uneven_step(t_max: float, levels: int | None, clock: Clock) -> str:
    """What is wrong with the steps of pulses of so many levels; empty if they fit the clock."""
    if levels is None or clock.divides(t_max, levels - 1):
        return ""
    step = t_max / (levels - 1) * 1e9
    return (
        f"a pulse step of {step:.6g} ns ({levels} levels) is not a "
        f"whole number of clock edges of {clock.period_ns:.6g} ns"
    )


def too_fine(seconds: float) -> bool:
    """Whether rounding a time to picoseconds moves it by more than 0.1 %."""
    return abs(picoseconds(seconds) * PICOSECOND - seconds) > 1e-3 * seconds
