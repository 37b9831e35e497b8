"""The two analog products of FACTS 2.5 and 2.7, as matrix products.

The cell current is a polynomial in the stored deviation, so a dot product over cells is a matrix
product over its powers. Decay multiplies the deviation by ``exp(-lambda (t_read - t_written))``, a
row factor times a column factor: it is folded into the operands and costs no products. It happens
inside the sum, before any clamp, so clamps and quantisers on either side do not disturb it.

Everything that multiplies Q by K or P by V goes through these two functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.components.cell import Cell

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Operand:
    """Written cells, ready to be multiplied: their current at a pulse of T_max, split by power.

    `terms` (columns, powers, features) are ``C_p y^p`` in uA with the column's part of the decay;
    without decay the powers are summed into one. `rate` is lambda a token, `origin` the time at
    which the parts of the decay meet. Column factors grow as exp(powers x rate x (written -
    origin)): whoever chooses the origin keeps that in range.
    """

    terms: Array
    constant: float
    rate: float
    origin: float

    def columns(self, which: slice) -> Operand:
        return Operand(self.terms[which], self.constant, self.rate, self.origin)

    def row_factors(self, read: Array) -> Array:
        """The rows' part of the decay, (rows, powers), for reads at times `read`."""
        powers = np.arange(1, self.terms.shape[1] + 1)
        return np.exp(-self.rate * np.outer(read - self.origin, powers))


def operand(
    volts: Array, cell: Cell, written: Array | None = None, rate: float = 0.0, origin: float = 0.0
) -> Operand:
    """The operand of cells written with `volts` (columns, features) at times `written`.

    Powers are expanded once, by multiplication: ``x**3`` costs more than the products.
    """
    deviation = volts - cell.mid_rail
    powers = [cell.coefficients[1] * deviation]
    power = deviation
    for coefficient in cell.coefficients[2:]:
        power = power * deviation
        powers.append(coefficient * power)
    constant = float(cell.coefficients[0])
    if rate == 0.0 or written is None:
        return Operand(sum(powers[1:], powers[0])[:, None, :], constant, 0.0, origin)
    exponents = np.outer(written - origin, np.arange(1, len(powers) + 1))
    terms = np.stack(powers, axis=1)
    terms *= np.exp(rate * exponents)[:, :, None]
    return Operand(terms, constant, rate, origin)


def first_product(Q: Array, keys: Operand, read: Array | None = None) -> Array:
    """``S_raw[i,j] = sum_p C_p delta^p sum_d Q[i,d] (K[j,d] - mid)^p`` in uA (FACTS 2.5).

    Q (rows, features) pulse widths / T_max, read at times `read` (rows,) if `keys` decay; returns
    (rows, columns). Nothing is masked here.
    """
    left = Q
    if keys.rate and read is not None:
        factors = keys.row_factors(read)
        left = (factors[:, :, None] * Q[:, None, :]).reshape(len(Q), -1)
    score: Array = left @ keys.terms.reshape(len(keys.terms), -1).T
    score += keys.constant * Q.sum(axis=1, keepdims=True)
    return score


def second_product(P: Array, values: Operand, read: Array | None = None) -> Array:
    """``A_raw[i,d] = sum_p C_p sum_j P[i,j] delta^p (V[j,d] - mid)^p`` in uA (FACTS 2.7).

    P (rows, columns) pulse widths / T_max of one sub-tile; returns (rows, features). A column with
    P = 0 contributes exactly 0.
    """
    columns, powers, features = values.terms.shape
    product = P @ values.terms.reshape(columns, -1)
    current: Array = product
    if values.rate and read is not None:
        by_power = product.reshape(len(P), powers, features)
        factors = values.row_factors(read)
        current = by_power[:, 0] * factors[:, :1]
        for p in range(1, powers):
            current += by_power[:, p] * factors[:, p : p + 1]
    current += values.constant * P.sum(axis=1, keepdims=True)
    return current
