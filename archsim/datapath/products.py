"""The two analog products of FACTS 2.5 and 2.7, as matrix products.

The cell current is a polynomial in the stored deviation y, so a dot product over cells is a matrix
product over its powers. Decay multiplies y by ``exp(-rate (read - written))``, a row factor times a
column factor: it stays outside the products and costs none. It happens inside the sum, before any
clamp, so clamps and quantisers on either side do not disturb it.

Rows, the query tokens, lie along the last axis, so that what is done to them between the products
runs along contiguous memory; products take panels of `PANEL` rows. With g a column's factor
(`CellTimes.growth`) and f a row's (`CellTimes.fade`)::

    S_ij = C_0 sum_d Q_id + sum_p C_p (f_i g_j)^p sum_d Q_id y_jd^p

The inner sums are the matrix products. Q and y are whole multiples of a step, as they come from
converters, so the sums are of whole numbers, mostly small enough to be exact in single precision,
which is twice as fast. The second product has analog pulses on one side and no such luck. There,
with z = g y::

    value operand  [ C_1 z ; C_2 z^2 ; C_3 z^3 ; C_0 ; |I| ]  (..., columns)

and the powers are multiplied by f, f^2, f^3 afterwards. ``|I|`` stands for the sums over features
of the powers of each cell's unsigned current, which set the energy of the reads. Without decay
there is one "power", the current itself, whatever its law.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.machine.compiled import Kernel
from archsim.machine.workspace import Workspace

Array = NDArray[np.float64]
Real = NDArray[Any]
"""float64 or float32, as the run's precision says."""

PANEL = 64
"""Rows of one matrix product: 64 x 64 x 64 stays in the first caches and needs no packing."""


def in_panels(rows: Real, out: Real | None = None) -> Real:
    """Tokens in whole panels, the rest 0: (tokens, ...) to (panels, ..., PANEL), `out` if given."""
    whole, rest = divmod(len(rows), PANEL)
    shape = (whole + (rest > 0), *rows.shape[1:], PANEL)
    stack = np.empty(shape, rows.dtype) if out is None else out
    full = rows[: whole * PANEL].reshape(whole, PANEL, *rows.shape[1:])
    stack[:whole] = np.moveaxis(full, 1, -1)
    if rest:
        stack[whole, ..., rest:] = 0.0
        stack[whole, ..., :rest] = np.moveaxis(rows[whole * PANEL :], 0, -1)
    return stack


def by_panel(lines: Real) -> Real:
    """The same memory seen as panels: (..., lines, rows) to (..., panels, lines, PANEL)."""
    panels: Real = lines.reshape(*lines.shape[:-1], -1, PANEL).swapaxes(-2, -3)
    return panels


def in_rows(stack: Real, tokens: int) -> Real:
    """Panels as a row a token again: (panels, ..., PANEL) to (tokens, ...)."""
    lines = np.moveaxis(stack, -1, 1)
    return lines.reshape(-1, *stack.shape[1:-1])[:tokens]


@dataclass(frozen=True)
class Layout:
    """Where things are in the operands: `powers` blocks of `features`, one block without decay."""

    features: int
    powers: int
    fading: bool

    @property
    def expanded(self) -> int:
        """Lines of all powers from 1 on; behind them comes the power 0."""
        return self.powers * self.features

    @property
    def value_width(self) -> int:
        """Lines of the value operand."""
        return self.expanded + 1 + (self.powers + 1 if self.fading else 1)

    def block(self, power: int) -> slice:
        """Lines of one power, counted from 0 for the first."""
        return slice(power * self.features, (power + 1) * self.features)


@dataclass(frozen=True)
class ScoreFading:
    """What makes S_raw / full scale of the first product by power, where cells fade.

    The columns' `factors`, C_p g^p (powers, columns); the rows' part of the decay, `fade` (rows,);
    and what the power 0 adds, `base` (rows,).
    """

    factors: Real
    fade: Real
    base: Real


def powers_of(factor: Real, powers: int) -> Real:
    """1, f, f^2, ... of a decay's `factor` (n,), as (powers + 1, n)."""
    result = np.ones((powers + 1, len(factor)), factor.dtype)
    for power in range(powers):
        np.multiply(result[power], factor, out=result[power + 1])
    return result


def raise_powers(operand: Real) -> Real:
    """Fill a key operand (powers, columns, features) whose first power is there; returns it."""
    for power in range(1, len(operand)):
        np.multiply(operand[power - 1], operand[0], out=operand[power])
    return operand


def value_operand(
    y: Array,
    growth: Array,
    coefficients: Array,
    unit: float,
    signs: Array | None,
    out: Real,
    work: Workspace,
) -> Real:
    """Fill `out` (value width, columns) and return it; for cells that fade.

    `y` (columns, features) deviations, `growth` (columns,) the columns' factors. The deviations are
    whole multiples of `unit`, if it is not 1: then the sums of unsigned currents are of whole
    numbers, and exact. `signs` of the currents (columns, features), where none turns round by
    fading, are used up; without them the sums are 0.
    """
    powers, features = len(coefficients) - 1, y.shape[1]
    z = power = np.multiply(y.T, growth, out=work.array("turned", y.shape[::-1], y.dtype))
    for p in range(powers):
        if p:  # by multiplication: ``z**3`` costs more than all the rest
            power = np.multiply(power, z, out=work.array("power", z.shape, z.dtype))
        block = out[p * features : (p + 1) * features]
        np.multiply(power, coefficients[p + 1], out=block, casting="same_kind")
    out[powers * features] = coefficients[0]
    read_current = out[powers * features + 1 :]
    if signs is None:
        read_current[...] = 0.0
        return out
    whole = np.divide(y, unit, out=work.array("whole", y.shape, y.dtype))
    if unit != 1.0:
        np.rint(whole, out=whole)
    weight, factor, ones = np.ones(len(y)), growth * unit, np.ones(features)
    for p in range(powers + 1):
        if p:
            signs *= whole
            weight *= factor
        read_current[p] = coefficients[p] * weight * (signs @ ones)
    return out


@Kernel
def fill_value_operand(
    turned: Array,
    growth: Array,
    law: Array,
    coefficients: Array,
    unit: float,
    sums: Array,
    out: Array,
) -> None:
    """`value_operand` in one go, of cells whose signs hold, from (features, columns).

    `law` are the coefficients of the current itself, which has the signs; `sums` (powers + 1,
    columns) is scratch.
    """
    features, tokens = turned.shape
    powers = len(coefficients) - 1
    for p in range(powers + 1):
        for t in range(tokens):
            sums[p, t] = 0.0
    for d in range(features):
        for p in range(powers):  # out of the loop along memory, which then does many at once
            coefficient = coefficients[p + 1]
            for t in range(tokens):
                z = turned[d, t] * growth[t]
                power = z
                for _ in range(p):
                    power = power * z
                out[p * features + d, t] = power * coefficient
        if powers == 3:
            for t in range(tokens):
                y = turned[d, t]
                current = ((y * law[3] + law[2]) * y + law[1]) * y + law[0]
                sign, whole = math.copysign(1.0, current), np.rint(y / unit)
                sums[0, t] += sign
                sums[1, t] += sign * whole
                sums[2, t] += sign * whole * whole
                sums[3, t] += sign * whole * whole * whole
        else:
            for t in range(tokens):
                y = turned[d, t]
                current = y * law[powers] + law[powers - 1]
                for p in range(powers - 2, -1, -1):
                    current = current * y + law[p]
                term, whole = math.copysign(1.0, current), np.rint(y / unit)
                for p in range(powers + 1):
                    sums[p, t] += term
                    term *= whole
    for t in range(tokens):
        out[powers * features, t] = coefficients[0]
        weight, factor = 1.0, growth[t] * unit
        for p in range(powers + 1):
            out[powers * features + 1 + p, t] = coefficients[p] * weight * sums[p, t]
            weight *= factor


def current_operand(current: Array, out: Real) -> Real:
    """The same where nothing fades, from the currents (columns, features) / full scale."""
    features = current.shape[1]
    out[:features] = current.T
    out[features] = 0.0
    out[features + 1] = np.abs(current) @ np.ones(features)
    return out


def first_product(key: Real, query: Real, out: Real) -> Real:
    """``sum_d Q[i,d] (K[j,d] - mid)^p`` of one power (FACTS 2.5), nothing masked.

    `key` (columns, features), `query` (panels, features, PANEL); fills and returns `out` (panels,
    columns, PANEL).
    """
    sums: Real = np.matmul(key, query, out=out)
    return sums


def second_product(value: Real, pulse: Real, out: Real) -> Real:
    """``A_raw[i,d] = sum_p C_p sum_j P[i,j] delta^p (V[j,d] - mid)^p`` (FACTS 2.7), by power.

    The value operand of one sub-tile, or some lines of it, and `pulse` (panels, columns, PANEL); a
    column with P = 0 contributes exactly 0. Fills and returns `out` (lines, rows).
    """
    np.matmul(value, pulse, out=by_panel(out))
    return out


def unsigned_current(rest: Real, fades: Real | None) -> Real:
    """Unsigned current / full scale of each row, (rows,).

    `rest` (..., rows) are the products of the value operand's last lines, C_0 and |I|; `fades`
    (powers + 1, rows) as of `powers_of`, None where nothing fades.
    """
    unsigned: Real = rest[1] if fades is None else (rest[1:] * fades).sum(axis=0)
    return unsigned
