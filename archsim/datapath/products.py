"""The two analog products of FACTS 2.5 and 2.7, as matrix products.

The cell current is a polynomial in the stored deviation y, so a dot product over cells is a matrix
product over its powers. Decay multiplies y by ``exp(-rate (read - written))``, a row factor times a
column factor: it is folded into the operands and costs no products. It happens inside the sum,
before any clamp, so clamps and quantisers on either side do not disturb it.

With z the deviation times its column's factor (`CellTimes.growth`) and f the row's (`fade`)::

    query operand   [ Q f | Q f^2 | Q f^3 | sum_d Q ]          (rows, powers x features + 1)
    key operand     [ C_1 z ; C_2 z^2 ; C_3 z^3 ; C_0 ]        (powers x features + 1, columns)
    value operand   [ C_1 z | C_2 z^2 | C_3 z^3 | C_0 | |I| ]  (columns, ...)

and the rows of the second product are multiplied by f, f^2, f^3 afterwards. ``|I|`` stands for the
sums over features of the powers of each cell's unsigned current, which set the energy of the reads.
Without decay there is one "power", the current itself, whatever its law.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.datapath.workspace import padded

Array = NDArray[np.float64]
Real = NDArray[Any]
"""float64 or float32, as the run's precision says."""


@dataclass(frozen=True)
class Layout:
    """Where things are in the operands: `powers` blocks of `features`, one block without decay."""

    features: int
    powers: int
    fading: bool

    @property
    def expanded(self) -> int:
        """Columns of all powers from 1 on; behind them comes the power 0."""
        return self.powers * self.features

    @property
    def width(self) -> int:
        """Columns of the query operand, rows of the key operand."""
        return self.expanded + 1

    @property
    def drawn(self) -> slice:
        """Columns of the value operand with the unsigned currents, by power from 0 on."""
        first = self.expanded + 1
        return slice(first, first + (self.powers + 1 if self.fading else 1))

    def block(self, power: int) -> slice:
        """Columns of one power, counted from 0 for the first."""
        return slice(power * self.features, (power + 1) * self.features)

    def value_width(self, dtype: np.dtype[Any]) -> int:
        """Columns of the value operand, padded with zeros to whole cache lines."""
        return padded(self.drawn.stop, dtype)


def query_operand(Q: Array, fade: Array | None, layout: Layout, out: Real) -> Real:
    """Fill `out` (rows, width) from pulse widths / T_max (rows, features), and return it."""
    if fade is None:
        out[:, : layout.expanded] = Q
    else:
        factor = fade
        for power in range(layout.powers):
            np.multiply(Q, factor[:, None], out=out[:, layout.block(power)], casting="same_kind")
            factor = factor * fade
    out[:, layout.expanded] = Q.sum(axis=1)
    return out


def key_operand(
    z: Array, coefficients: Array | None, layout: Layout, out: Real | None = None
) -> Real:
    """Fill `out` (width, columns) and return it.

    `z` (columns, features) are deviations times their columns' factor, `coefficients` C_0..C_P;
    without decay `z` are the currents themselves, and `coefficients` None.
    """
    if out is None:
        out = np.empty((layout.width, len(z)))
    blocks = [out[layout.block(p)] for p in range(layout.powers)]
    _powers(np.ascontiguousarray(z.T), coefficients, blocks, out[layout.expanded])
    return out


def value_operand(
    z: Array,
    coefficients: Array | None,
    layout: Layout,
    signs: Array | None = None,
    out: Real | None = None,
) -> Real:
    """Fill `out` (columns, value width) and return it; `z` and `coefficients` as for keys.

    `signs` of the currents (columns, features), where none turns round by fading; without them the
    unsigned currents are 0.
    """
    if out is None:
        out = np.zeros((len(z), layout.value_width(np.dtype(np.float64))))
    blocks = [out[:, layout.block(p)] for p in range(layout.powers)]
    _powers(z, coefficients, blocks, out[:, layout.expanded])
    out[:, layout.drawn.stop :] = 0.0
    drawn = out[:, layout.drawn]
    if signs is None:
        drawn[...] = 0.0
        return out
    expanded = out[:, : layout.expanded].reshape(len(out), layout.powers, layout.features)
    drawn[:, -layout.powers :] = np.matmul(expanded, signs[:, :, None])[:, :, 0]
    if layout.fading and coefficients is not None:
        drawn[:, 0] = coefficients[0] * signs.sum(axis=1)
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


def first_product(query: Real, key: Real, out: Real | None = None) -> Real:
    """``S_raw[i,j] = sum_p C_p delta^p sum_d Q[i,d] (K[j,d] - mid)^p`` in uA (FACTS 2.5).

    `query` and `key` operands; returns (..., rows, columns). Nothing is masked here.
    """
    score: Real = np.matmul(query, key, out=out)
    return score


def second_product(pulse: Real, value: Real, out: Real | None = None) -> Real:
    """``A_raw[i,d] = sum_p C_p sum_j P[i,j] delta^p (V[j,d] - mid)^p`` (FACTS 2.7), by power.

    `pulse` (..., rows, columns) of one sub-tile and its value operand; `combine` adds the powers
    up. A column with P = 0 contributes exactly 0.
    """
    product: Real = np.matmul(pulse, value, out=out)
    return product


def combine(product: Real, fade: Real | None, layout: Layout, out: Real) -> Real:
    """Fill `out` (rows, features) with A_raw in uA; returns the unsigned current drawn (rows,)."""
    columns = product[:, layout.drawn]
    constant = product[:, layout.expanded, None]
    if fade is None:
        np.add(product[:, layout.block(0)], constant, out=out)
        return columns[:, 0]
    rows = fade[:, None]
    np.multiply(product[:, layout.block(layout.powers - 1)], rows, out=out)
    drawn = columns[:, layout.powers] * fade
    for power in range(layout.powers - 2, -1, -1):  # Horner
        out += product[:, layout.block(power)]
        out *= rows
        drawn = (drawn + columns[:, power + 1]) * fade
    out += constant
    return drawn + columns[:, 0]
