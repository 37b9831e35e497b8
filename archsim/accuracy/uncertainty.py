"""Means with their standard errors, where what is independent is a window, not a token."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error; None where fewer than two units leave nothing to go by."""

    mean: float
    error: float | None

    @property
    def is_clear(self) -> bool:
        """Whether the mean is more than two standard errors from 0."""
        return self.error is not None and abs(self.mean) > 2 * self.error


def estimate(sums: ArrayLike, counts: ArrayLike) -> Estimate:
    """The mean over all tokens of units (windows, documents, sequences), each with its sum.

    sums, counts: (units,); units without a token do not count. The standard error is that of a
    ratio of means, so that units may differ in length; for equal lengths it is the usual one of
    the mean over units.
    """
    total, n = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    total, n = total[n > 0], n[n > 0]
    units = len(n)
    if units == 0:
        return Estimate(math.nan, None)
    mean = float(total.sum() / n.sum())
    if units < 2:
        return Estimate(mean, None)
    residual = total - mean * n
    variance = float((residual**2).sum()) * units / (units - 1) / float(n.sum()) ** 2
    return Estimate(mean, math.sqrt(variance))
