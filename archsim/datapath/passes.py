"""What happens to a panel between and after the two products, element by element, with numpy.

The laws are the blocks' own; here they run in place over panels, with the counts that the activity
needs. `archsim.datapath.fused` does the same in machine code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.components.accumulator import Counters
from archsim.components.converter import ScoreConverter, SignedConverter
from archsim.datapath.products import (
    PANEL,
    Layout,
    PowerSums,
    Real,
    RowFade,
    second_product,
    unsigned_current,
)
from archsim.datapath.workspace import Workspace

Array = NDArray[np.float64]

MOST = 16
"""Panels handled at once between the products: fewer calls save more than caches lose."""


def add_up(powers: PowerSums, out: Real, work: Workspace) -> None:
    """The powers of the first product, some columns of it, added up into S_raw / full scale.

    `out` (panels, columns, PANEL) sets the precision.
    """
    shape, columns = (MOST, *out.shape[1:]), powers.columns
    # in memory that the second product fills next: the fewer arrays, the more stays in the cache
    decay = work.array("block", shape, out.dtype)[: len(out), columns]
    term = work.array("more", shape, out.dtype)[: len(out), columns]
    total, sums = out[:, columns], powers.sums[:, :, columns]
    np.multiply(powers.growth[columns, None], powers.fade[:, None], out=decay)
    np.multiply(sums[-1], powers.coefficients[-1], out=total)
    for power in range(len(sums) - 2, -1, -1):
        total *= decay
        total += np.multiply(sums[power], powers.coefficients[power], out=term)
    total *= decay
    total += powers.base[:, None]


def pulses(score: Real, longest: Array, converter: ScoreConverter) -> tuple[int, int]:
    """Turn S_raw / full scale (panels, columns, PANEL) into pulse widths (FACTS 2.6).

    Raises `longest` (panels, PANEL) to each row's longest pulse; returns how many scores were below
    0 and how many beyond the full scale.
    """
    low, high = np.count_nonzero(score < 0), np.count_nonzero(score > 1)
    converter.clamp(score, out=score)
    np.maximum(longest, score.max(axis=1), out=longest)
    return int(low), int(high)


def charge(
    value: Real,
    pulse: Real,
    fade: RowFade | None,
    layout: Layout,
    out: Real,
    drawn: Array,
    work: Workspace,
) -> None:
    """The second product into `out`: A_raw / full scale (panels, features, PANEL).

    `value` operand of a run, `pulse` (panels, columns, PANEL), `fade` of the rows. Adds the
    unsigned current to `drawn` (panels, PANEL).
    """
    rest_lines = layout.value_width - layout.expanded
    rest = work.array("rest", (MOST, rest_lines, PANEL), out.dtype)[: len(pulse)]
    second_product(value[layout.expanded :], pulse, rest)
    drawn += unsigned_current(rest, fade)
    # power by power: a product over one power is still in the cache when it is added up
    second_product(value[layout.block(layout.powers - 1)], pulse, out)
    if fade is not None:
        shape = (MOST, layout.features, PANEL)
        block = work.array("block", shape, out.dtype)[: len(pulse)]
        out *= fade.spread
        for power in range(layout.powers - 2, -1, -1):
            out += second_product(value[layout.block(power)], pulse, block)
            out *= fade.spread
    out += rest[:, :1]


def convert(
    current: Real,
    total: Array,
    longest: Array,
    counts: Array,
    converter: SignedConverter,
    counters: Counters,
    work: Workspace,
) -> int:
    """Turn currents / full scale (panels, bit lines, PANEL) of an array into codes (FACTS 2.8).

    Adds the codes to `total` of the same shape, raises `longest` (panels, PANEL) to each row's
    longest pulse before the clamp, adds each row's counts to `counts`; returns how many were
    clipped.
    """
    count, lines, _ = current.shape
    magnitude = work.array("block", (MOST, lines, PANEL), current.dtype)[:count]
    np.abs(current, out=magnitude)
    np.maximum(longest, magnitude.max(axis=1), out=longest)
    clipped = np.count_nonzero(magnitude > 1)
    codes = converter.quantiser.codes(current, out=current)
    total += codes
    # a product with ones, which is faster than a sum, and exact: counts are whole numbers
    ones = np.ones((1, lines), current.dtype)
    counts += np.matmul(ones, counters.counts(codes, out=magnitude))[:, 0]
    return int(clipped)
