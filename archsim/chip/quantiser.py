"""The uniform quantiser of FACTS 2, used by the DACs, the pulse generators and the counters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.config.kinds import Levels
from archsim.config.loading import Section
from archsim.machine.compiled import Kernel

Array = NDArray[np.float64]


class LevelsConfig(Section):
    """Quantiser levels; null switches a quantiser and its clamp off (an ideal converter)."""

    query: Levels
    key_value: Levels
    output: Levels


@dataclass(frozen=True)
class Grid:
    """Values that are whole multiples of a unit, no larger than `most` times the unit."""

    unit: float
    most: int


@dataclass(frozen=True)
class Quantised:
    """Vectors as they are after a converter: see `Quantiser.write`.

    `sums` (vectors,) of their values within the range, no origin taken off; `beyond`, the share of
    what came in beyond the range, 0 where there is no clamp.
    """

    values: Array
    sums: Array
    beyond: float


@dataclass(frozen=True)
class Quantiser:
    """``quant(x; levels, low, high)``; `levels` None is an ideal converter: no steps, no clamp."""

    levels: int | None
    low: float
    high: float

    def codes(self, x: Array, out: Array | None = None) -> Array:
        """Integer codes (as floats) of `x`, any shape, into `out` if given; `x` itself if ideal.

        The order of operations is part of the definition: ``x * (n - 1) / (high - low)`` puts
        0.45 V on exactly 3.5 and so on code 4; ``x / step`` would give code 3.
        """
        if self.levels is None:
            return x
        codes = np.clip(x, self.low, self.high, out=out)
        steps, span = self.levels - 1, self.high - self.low
        if math.frexp(span)[0] == 0.5:  # dividing by a power of two rounds nothing: one operation
            codes *= steps / span
        else:
            codes *= steps
            codes /= span
        return np.rint(codes, out=codes)

    def values(self, codes: Array, out: Array | None = None) -> Array:
        """The values that codes stand for, into `out` if given; no offset term."""
        if self.levels is None:
            return codes
        values = np.multiply(codes, self.high - self.low, out=out)
        return np.divide(values, self.levels - 1, out=values)

    def grid(self, origin: float) -> Grid | None:
        """What its values minus `origin` are multiples of: a step, half of one, or None."""
        if self.levels is None:
            return None
        step = (self.high - self.low) / (self.levels - 1)
        for unit in (step, step / 2):
            ends = [(end - origin) / unit for end in (self.low, self.high)]
            if all(abs(end - round(end)) < 1e-9 for end in ends):
                return Grid(unit, max(abs(round(end)) for end in ends))
        return None

    def write(self, x: Array, origin: float, out: Array, compiled: bool = False) -> Quantised:
        """The values nearest to `x` (vectors, n), less an `origin`, in `out`.

        `compiled` does the same in one pass of machine code.
        """
        if self.levels is None:
            np.subtract(x, origin, out=out)
            return Quantised(out, np.clip(x, self.low, self.high).sum(axis=1), 0.0)
        steps, span = self.levels - 1, self.high - self.low
        if compiled:
            sums = np.empty(len(x))
            exact = math.frexp(span)[0] == 0.5
            factor, divisor = (steps / span, 1.0) if exact else (float(steps), span)
            numbers = np.array([self.low, self.high, factor, divisor, span, steps, origin])
            beyond = _write(x, numbers, out, sums)
        else:
            beyond = int(np.count_nonzero(x < self.low) + np.count_nonzero(x > self.high))
            codes = self.codes(x, out=out)
            sums = codes @ np.ones(codes.shape[1])  # of whole numbers, in any order
            self.values(codes, out=out)
            out -= origin
        return Quantised(out, sums * span / steps, beyond / x.size)


@Kernel
def _write(x: Array, numbers: Array, out: Array, sums: Array) -> int:
    """`Quantiser.write` of `x` (vectors, n) into `out`; sums of codes into `sums` (vectors,).

    `numbers` (7,) are low and high, what a code is multiplied and divided by, span, steps and
    origin. Returns how many values were beyond the range.
    """
    low, high, factor, divisor = numbers[0], numbers[1], numbers[2], numbers[3]
    span, steps, origin = numbers[4], numbers[5], numbers[6]
    vectors, features = x.shape
    beyond = 0
    for i in range(vectors):
        total = 0
        for d in range(features):
            code = x[i, d]
            beyond += code < low
            beyond += code > high
            code = low if code < low else code
            code = high if code > high else code
            code *= factor
            code /= divisor
            code = np.rint(code)
            total += int(code)
            out[i, d] = code * span / steps - origin
        sums[i] = total
    return beyond
