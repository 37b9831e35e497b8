"""The two analog products of FACTS 2.5 and 2.7, as matrix products.

The cell current is a polynomial in the stored deviation y, so a dot product over cells is a matrix
product over its powers. Decay multiplies y by ``exp(-rate (read - written))``, a row factor times a
column factor: it stays outside the products and costs none. It happens inside the sum, before any
clamp, so clamps and quantisers on either side do not disturb it.

Rows, the query tokens, come in panels of `PANEL`, and lie along the last axis, so that what is done
to them between the products runs along contiguous memory. With g a column's factor
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

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.datapath.workspace import Workspace

Array = NDArray[np.float64]
Real = NDArray[Any]
"""float64 or float32, as the run's precision says."""

PANEL = 64
"""Rows of one matrix product: 64 x 192 x 64 stays in the first caches and needs no packing."""


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
    def drawn(self) -> slice:
        """Lines of the value operand with the unsigned currents, by power from 0 on."""
        return slice(self.expanded + 1, self.value_width)

    @property
    def value_width(self) -> int:
        """Lines of the value operand."""
        return self.expanded + 1 + (self.powers + 1 if self.fading else 1)

    def block(self, power: int) -> slice:
        """Lines of one power, counted from 0 for the first."""
        return slice(power * self.features, (power + 1) * self.features)


@dataclass(frozen=True)
class RowFade:
    """The rows' part of the decay: f, and its powers from 0 on.

    `spread` (panels, features, PANEL) repeats f for every feature, which saves time where it is
    used; `powers` (panels, powers + 1, PANEL).
    """

    spread: Real
    powers: Real

    def __getitem__(self, panels: slice) -> RowFade:
        return RowFade(self.spread[panels], self.powers[panels])


@dataclass(frozen=True)
class PowerSums:
    """The first product by power, and what makes S_raw / full scale of some of its columns.

    `sums` (powers, panels, columns, PANEL); the power's `coefficients` (powers,), what the power 0
    adds, `base` (panels, PANEL), and the decay: `growth` (columns,) times `fade` (panels, PANEL).
    """

    sums: Real
    coefficients: Real
    base: Real
    growth: Real
    fade: Real
    columns: slice


def fade_powers(fade: Real, powers: int) -> Real:
    """1, f, f^2, ... of `fade` (panels, PANEL), as (panels, powers + 1, PANEL)."""
    result = np.ones((len(fade), powers + 1, PANEL), fade.dtype)
    for power in range(powers):
        np.multiply(result[:, power], fade, out=result[:, power + 1])
    return result


def key_operand(y: Array, powers: int, out: Real) -> Real:
    """Fill `out` (powers, columns, features) with y, y^2, ... and return it."""
    out[0] = y
    for power in range(1, powers):
        np.multiply(out[power - 1], out[0], out=out[power])
    return out


def value_operand(
    z: Array,
    coefficients: Array | None,
    layout: Layout,
    signs: Array | None,
    out: Real,
    work: Workspace,
) -> Real:
    """Fill `out` (value width, columns) and return it; `z` (columns, features) as for the keys.

    `signs` of the currents (columns, features), where none turns round by fading; without them the
    unsigned currents are 0.
    """
    blocks = [out[layout.block(p)] for p in range(layout.powers)]
    drawn = out[layout.drawn]
    ones = np.ones(layout.features)
    if coefficients is None:
        _powers(z.T, np.ones(1), blocks, work)
        out[layout.expanded] = 0.0
        drawn[0] = np.abs(z) @ ones
        return out
    turned = work.array("turned", z.shape[::-1], z.dtype)
    turned[...] = z.T
    _powers(turned, coefficients[1:], blocks, work)
    out[layout.expanded] = coefficients[0]
    if signs is None:
        drawn[...] = 0.0
        return out
    unsigned = work.array("unsigned", z.shape, z.dtype)
    unsigned[...] = signs
    for line, coefficient in zip(drawn, coefficients, strict=True):
        line[...] = coefficient * (unsigned @ ones)
        unsigned *= z
    return out


def _powers(z: Array, coefficients: Array, blocks: list[Real], work: Workspace) -> None:
    """Write C_1 z, C_2 z^2, ..., by multiplication: ``z**3`` costs more than all the rest."""
    power = z
    higher = work.array("power", z.shape, z.dtype)
    for p, (coefficient, block) in enumerate(zip(coefficients, blocks, strict=True)):
        if p:
            power = np.multiply(power, z, out=higher)
        if coefficient == 1.0:
            block[...] = power
        else:
            np.multiply(power, coefficient, out=block, casting="same_kind")


def first_product(key: Real, query: Real, out: Real | None = None) -> Real:
    """``sum_d Q[i,d] (K[j,d] - mid)^p`` by power (FACTS 2.5), nothing masked.

    `key` (powers, columns, features), `query` (panels, features, PANEL); returns (powers, panels,
    columns, PANEL).
    """
    sums: Real = np.matmul(key[:, None], query, out=out)
    return sums


def second_product(value: Real, pulse: Real, out: Real | None = None) -> Real:
    """``A_raw[i,d] = sum_p C_p sum_j P[i,j] delta^p (V[j,d] - mid)^p`` (FACTS 2.7), by power.

    The value operand of one sub-tile, or some lines of it, and `pulse` (panels, columns, PANEL); a
    column with P = 0 contributes exactly 0. The powers are added up by Horner's rule.
    """
    product: Real = np.matmul(value, pulse, out=out)
    return product


def unsigned_current(rest: Real, fade: RowFade | None) -> Real:
    """Unsigned current / full scale of each row, (panels, PANEL).

    `rest` (panels, ..., PANEL) are the products of the value operand's last lines, C_0 and |I|.
    """
    if fade is None:
        return rest[:, 1]
    unsigned: Real = (rest[:, 1:] * fade.powers).sum(axis=1)
    return unsigned
