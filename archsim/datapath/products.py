"""The two analog products of FACTS 2.5 and 2.7, as matrix products.

The cell current is a polynomial in the stored deviation y, so a dot product over cells is a matrix
product over its powers. Decay multiplies y by ``exp(-rate (read - written))``, a row factor times a
column factor: it is folded into the operands and costs no products. It happens inside the sum,
before any clamp, so clamps and quantisers on either side do not disturb it.

Rows, the query tokens, come in panels of `PANEL`, and lie along the last axis, so that what is done
to them between the products runs along contiguous memory. With z the deviation times its column's
factor (`CellTimes.growth`) and f the row's (`CellTimes.fade`)::

    key operand    [ C_1 z | C_2 z^2 | C_3 z^3 | C_0 ]        (columns, powers x features + 1)
    query operand  [ Q f ; Q f^2 ; Q f^3 ; sum_d Q ]          (panels, ..., PANEL)
    value operand  [ C_1 z ; C_2 z^2 ; C_3 z^3 ; C_0 ; |I| ]  (..., columns)

and the second product's powers are multiplied by f, f^2, f^3 afterwards. ``|I|`` stands for the
sums over features of the powers of each cell's unsigned current, which set the energy of the reads.
Without decay there is one "power", the current itself, whatever its law.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Real = NDArray[Any]
"""float64 or float32, as the run's precision says."""

PANEL = 64
"""Rows of one matrix product: 64 x 192 x 64 stays in the first caches and needs no packing."""


def in_panels(rows: Real) -> Real:
    """Tokens in whole panels, the rest 0: (tokens, ...) to (panels, ..., PANEL)."""
    whole, rest = divmod(len(rows), PANEL)
    stack = np.empty((whole + (rest > 0), *rows.shape[1:], PANEL), rows.dtype)
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
    def width(self) -> int:
        """Inner size of the first product."""
        return self.expanded + 1

    @property
    def drawn(self) -> slice:
        """Lines of the value operand with the unsigned currents, by power from 0 on."""
        return slice(self.width, self.value_width)

    @property
    def value_width(self) -> int:
        """Lines of the value operand."""
        return self.width + (self.powers + 1 if self.fading else 1)

    def block(self, power: int) -> slice:
        """Lines of one power, counted from 0 for the first."""
        return slice(power * self.features, (power + 1) * self.features)


def query_operand(Q: Array, fade: Array | None, layout: Layout, out: Real) -> Real:
    """Fill `out` (panels, width, PANEL) and return it.

    Q (panels, features, PANEL) pulse widths / T_max, `fade` (panels, 1, PANEL).
    """
    if fade is None:
        out[:, : layout.expanded] = Q
    else:
        factor = fade
        for power in range(layout.powers):
            np.multiply(Q, factor, out=out[:, layout.block(power)], casting="same_kind")
            factor = factor * fade
    out[:, layout.expanded] = Q.sum(axis=1)
    return out


def key_operand(z: Array, coefficients: Array | None, layout: Layout, out: Real) -> Real:
    """Fill `out` (columns, width) and return it.

    `z` (columns, features) are deviations times their columns' factor, `coefficients` C_0..C_P;
    without decay `z` are the currents themselves, and `coefficients` None.
    """
    blocks = [out[:, layout.block(p)] for p in range(layout.powers)]
    _powers(z, coefficients, blocks, out[:, layout.expanded])
    return out


def value_operand(
    z: Array, coefficients: Array | None, layout: Layout, signs: Array | None, out: Real
) -> Real:
    """Fill `out` (value width, columns) and return it; `z` (features, columns).

    `signs` of the currents (features, columns), where none turns round by fading; without them the
    unsigned currents are 0.
    """
    blocks = [out[layout.block(p)] for p in range(layout.powers)]
    _powers(z, coefficients, blocks, out[layout.expanded])
    drawn = out[layout.drawn]
    if signs is None:
        drawn[...] = 0.0
        return out
    for line, block in zip(drawn[-layout.powers :], blocks, strict=True):
        np.einsum("dj,dj->j", block, signs, out=line, casting="same_kind")
    if layout.fading and coefficients is not None:
        drawn[0] = coefficients[0] * signs.sum(axis=0)
    return out


def _powers(z: Array, coefficients: Array | None, blocks: list[Real], constant: Real) -> None:
    """Write C_p z^p, p = 1, 2, ..., and C_0, by multiplication: ``z**3`` costs more than all."""
    if coefficients is None:
        blocks[0][...] = z
        constant[...] = 0.0
        return
    power = z
    for p, block in enumerate(blocks):
        power = power * z if p else z
        np.multiply(power, coefficients[p + 1], out=block, casting="same_kind")
    constant[...] = coefficients[0]


def first_product(key: Real, query: Real, out: Real | None = None) -> Real:
    """``S_raw[i,j] = sum_p C_p delta^p sum_d Q[i,d] (K[j,d] - mid)^p`` in uA (FACTS 2.5).

    `key` and `query` operands; returns (panels, columns, PANEL), nothing masked.
    """
    score: Real = np.matmul(key, query, out=out)
    return score


def second_product(value: Real, pulse: Real, out: Real | None = None) -> Real:
    """``A_raw[i,d] = sum_p C_p sum_j P[i,j] delta^p (V[j,d] - mid)^p`` (FACTS 2.7), by power.

    The value operand of one sub-tile, or some lines of it, and `pulse` (panels, columns, PANEL); a
    column with P = 0 contributes exactly 0. The powers are added up by Horner's rule.
    """
    product: Real = np.matmul(value, pulse, out=out)
    return product
