"""The two analog products of FACTS 2.5 and 2.7, as matrix products.

The cell current is a polynomial in the stored deviation, so a dot product over cells is one matrix
product per power. Decay multiplies the deviation by ``exp(-lambda (t_read - t_written))``, which
is a row factor times a column factor: ages cost no extra products. It happens inside the sum,
before any clamp, so clamps and quantisers on either side do not disturb it.

Everything that multiplies Q by K or P by V goes through these two functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.components.cell import Cell, Stored

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ages:
    """When rows are read and columns were written, in tokens; `rate` is lambda a token.

    `read` (rows,), `written` (columns,). Only differences matter, so any origin will do; factors
    are taken about the first read, which keeps them in range over any length of trace.
    """

    read: Array
    written: Array
    rate: float

    def factors(self, power: int) -> tuple[Array, Array]:
        """Row and column factors of the deviation's `power`: their product is delta^power."""
        origin = self.read[0]
        rows = np.exp(-power * self.rate * (self.read - origin))
        columns = np.exp(-power * self.rate * (origin - self.written))
        return rows, columns


def first_product(Q: Array, keys: Stored, cell: Cell, ages: Ages | None = None) -> Array:
    """``S_raw[i,j] = sum_p C_p delta^p sum_d Q[i,d] (K[j,d] - mid)^p`` in uA (FACTS 2.5).

    Q (rows, features) pulse widths / T_max; `keys` (columns, features) as written; returns
    (rows, columns). `ages` None means no decay. Nothing is masked here.
    """
    coefficients = cell.coefficients
    constant = coefficients[0] * Q.sum(axis=1, keepdims=True)
    powers = range(1, len(coefficients))
    if ages is None:
        weighted = np.tensordot(coefficients[1:], keys.powers, axes=1)  # one current per cell
        score: Array = constant + Q @ weighted.T
        return score
    left, right = [], []
    for p in powers:
        rows, columns = ages.factors(p)
        left.append(Q * rows[:, None])
        right.append(keys.powers[p - 1] * (coefficients[p] * columns)[:, None])
    decayed: Array = constant + np.hstack(left) @ np.hstack(right).T
    return decayed


def second_product(P: Array, values: Stored, cell: Cell, ages: Ages | None = None) -> Array:
    """``A_raw[i,d] = sum_p C_p sum_j P[i,j] delta^p (V[j,d] - mid)^p`` in uA (FACTS 2.7).

    P (rows, columns) pulse widths / T_max; `values` (columns, features) of one sub-tile as
    written; returns (rows, features). A column with P = 0 contributes exactly 0.
    """
    coefficients = cell.coefficients
    constant = coefficients[0] * P.sum(axis=1, keepdims=True)
    if ages is None:
        weighted = np.tensordot(coefficients[1:], values.powers, axes=1)
        current: Array = constant + P @ weighted
        return current
    features = values.powers.shape[2]
    stacked, row_factors = [], []
    for p in range(1, len(coefficients)):
        rows, columns = ages.factors(p)
        stacked.append(values.powers[p - 1] * (coefficients[p] * columns)[:, None])
        row_factors.append(rows)
    product = (P @ np.hstack(stacked)).reshape(len(P), -1, features)
    decayed: Array = constant + np.einsum("ipd,pi->id", product, np.stack(row_factors))
    return decayed
