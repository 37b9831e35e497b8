"""What happens to rows between and after the two products, element by element, with numpy.

The laws are the blocks' own; here they run in place over many rows, with the counts that the
activity needs. `archsim.datapath.fused` does the same in machine code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from archsim.chip.conversion import Conversion
from archsim.chip.readouts.law import ReadoutLaw
from archsim.datapath.products import (
    PANEL,
    Layout,
    Real,
    ScoreFading,
    by_panel,
    first_product,
    second_product,
    unsigned_current,
)
from archsim.machine.workspace import Workspace

Array = NDArray[np.float64]

ROWS = 16 * PANEL
"""Rows handled at once: fewer calls save more than caches lose."""


@contextlib.contextmanager
def line_by_line() -> Iterator[None]:
    """Within this numpy takes arrays line by line, as its buffer is small.

    Otherwise it first copies lines with gaps between them, or one line again and again, into a
    larger buffer, which takes three times as long as what it then does with them.
    """
    with np.errstate():  # gives the buffer's size back
        np.setbufsize(PANEL)
        yield


def read_keys(
    keys: Real,
    query: Real,
    fading: ScoreFading | None,
    out: Real,
    work: Workspace,
) -> None:
    """The first product into `out`: S_raw / full scale (columns, rows).

    `keys` (powers, columns, features) and `query` (panels, features, PANEL); `fading` None where
    nothing fades. `out` sets the precision.
    """
    # power by power: a product over one power is still in the cache when it is added up
    sums = work.shared("panels", (len(query), len(out), PANEL), query.dtype)
    np.copyto(by_panel(out), first_product(keys[-1], query, sums))
    if fading is None:
        return
    factors = fading.factors[..., None]
    term = work.shared("block", out.shape, out.dtype)
    out *= factors[-1]
    for power in range(len(keys) - 2, -1, -1):
        out *= fading.fade
        np.copyto(by_panel(term), first_product(keys[power], query, sums))
        term *= factors[power]
        out += term
    out *= fading.fade
    out += fading.base


def pulses(score: Real, longest: Array, readout: ReadoutLaw) -> tuple[int, int]:
    """Turn S / S_sat (columns, rows) into pulse widths (FACTS 2.6).

    Raises `longest` (rows,) to each row's longest pulse; returns how many scores were below 0 and
    how many beyond the full scale.
    """
    most = score.max(axis=0)
    low = np.count_nonzero(score < 0)
    high = np.count_nonzero(score > 1) if most.max() > 1 else 0  # rarely any
    readout.pulses(score)
    np.maximum(longest, readout.pulses(most), out=longest)
    return int(low), int(high)


def read_values(
    value: Real,
    pulse: Real,
    fades: Real | None,
    layout: Layout,
    out: Real,
    read_current: Array,
    work: Workspace,
) -> None:
    """The second product into `out`: A_raw / full scale (features, rows).

    `value` operand of a run, `pulse` (columns, rows), `fades` (powers + 1, rows) the powers of the
    rows' factors, None where nothing fades. Adds the unsigned current to `read_current` (rows,).
    """
    # products read panels; what is written may lie further apart
    rows = len(read_current)
    panels = work.shared("panels", (rows // PANEL, len(pulse), PANEL), pulse.dtype)
    np.copyto(panels, by_panel(pulse))
    rest_lines = layout.value_width - layout.expanded
    rest = work.shared("rest", (rest_lines, rows), out.dtype)
    second_product(value[layout.expanded :], panels, rest)
    read_current += unsigned_current(rest, fades)
    second_product(value[layout.block(layout.powers - 1)], panels, out)
    if fades is not None:
        block = work.shared("block", out.shape, out.dtype)
        out *= fades[1]
        for power in range(layout.powers - 2, -1, -1):
            out += second_product(value[layout.block(power)], panels, block)
            out *= fades[1]
    out += rest[0]


def convert(
    current: Real,
    total: Array,
    longest: Array,
    counts: Array,
    conversion: Conversion,
    work: Workspace,
) -> int:
    """Turn currents / full scale (bit lines, rows) of an array into codes (FACTS 2.8).

    Adds the codes to `total` of the same shape, raises `longest` (rows,) to each row's longest
    pulse before the clamp, adds each row's counts to `counts`; returns how many were clipped.
    """
    lines = len(current)
    magnitude = work.shared("panels", current.shape, current.dtype)
    np.abs(current, out=magnitude)
    np.maximum(longest, magnitude.max(axis=0), out=longest)
    clipped = np.count_nonzero(magnitude > 1)
    codes = conversion.quantiser.codes(current, out=current)
    total += codes
    # a product with ones, which is faster than a sum, and exact: counts are whole numbers
    ones = np.ones((1, lines), current.dtype)
    counts += np.matmul(ones, conversion.counts(codes, out=magnitude))[0]
    return int(clipped)
