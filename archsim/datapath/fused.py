"""The rows of one head in one loop of machine code: products, clamp, conversion, sum.

The same operations in the same order as `archsim.datapath.elementwise`, so that results are equal
bit by bit, but panel by panel through all of them: nothing leaves the cache in between.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from archsim.chip.activations.hard_sigmoid import HardSigmoid
from archsim.chip.array import Run
from archsim.chip.cells.polynomial import PolynomialCurrent
from archsim.chip.conversion import Conversion
from archsim.chip.laws import Laws
from archsim.chip.readouts.law import ReadoutLaw
from archsim.datapath.direct import DirectProducts
from archsim.datapath.head_sums import HeadSums
from archsim.datapath.panels import PanelProducts
from archsim.datapath.products import PANEL, Array, Real
from archsim.machine.blas import multiply_double, multiply_single, products_in_memory
from archsim.machine.compiled import Kernel
from archsim.machine.workspace import Workspace

Integers = NDArray[np.int64]

LARGE = 1 << 16
"""Heads x tokens from which on it pays, even if it must be compiled first, once on a machine."""


def fits(products: PanelProducts | DirectProducts, laws: Laws, details: bool) -> bool:
    """Whether `read_all` can do a head: the usual kind, of which nothing inside is kept.

    Charge that becomes pulses by a HardSigmoid, converters everywhere, a polynomial cell that fades
    from one origin on, in double precision, and numpy with the matrix library of its wheels.
    """
    return (
        isinstance(products, PanelProducts)
        and products.layout.fading
        and products.layout.features > 1  # numpy takes another product for one line
        and products.alone
        and products.exact
        and products.read_current is None
        and products.dtype == np.float64
        and unknown(laws) is None
        and not details
        and products_in_memory() is not None
    )


def unknown(laws: Laws) -> str | None:
    """What in the laws of a head `read_all` does not know, in words; None if it knows them all."""
    if not charge_to_pulse(laws.readout):
        return "the readout is not charge that becomes pulses by a HardSigmoid"
    if laws.output.quantiser.levels is None:
        return "levels.output is null"
    if not isinstance(laws.cell, PolynomialCurrent):
        return "the cell's current is no polynomial"
    return None


def charge_to_pulse(readout: ReadoutLaw) -> bool:
    """Whether a readout is the one that the loops know."""
    analog = readout.conversion is None and readout.widths is None
    return analog and type(readout.activation) is HardSigmoid and len(readout.parts) == 1


def read_all(
    products: PanelProducts,
    sums_of_rows: HeadSums,
    runs: Sequence[tuple[Run, Run | None]],
    output: Conversion,
    work: Workspace,
) -> None:
    """All rows of one head, run after run, each with the one before it in its sub-tile."""
    memory, layout, quantiser = products_in_memory(), products.layout, output.quantiser
    assert memory is not None
    assert quantiser.levels is not None
    features, panels = layout.features, len(products.query)
    places = [
        (run.first, run.stop, *((old.first, old.stop) if old else (0, 0))) for run, old in runs
    ]
    columns = max(run.stop - run.first for run, _ in runs)
    exact = np.dtype(np.float64)

    def scratch(name: str, *shape: int) -> Array:
        return work.array(name, (*shape, PANEL), exact)

    def rows_by_panel(rows: Array) -> Array:
        return rows.reshape(*rows.shape[:-1], panels, PANEL)

    _read_runs(
        memory.single if products.query.dtype == np.float32 else memory.double,
        memory.double,
        np.array(places),
        products.given.window,
        products.keys,
        products.query,
        products.key_factors,
        rows_by_panel(products.base[0]),
        rows_by_panel(products.key_fade),
        products.values,
        rows_by_panel(products.value_fades),
        # the range is 2 wide, a power of two: one multiplication rounds as two operations do
        (quantiser.levels - 1) / (quantiser.high - quantiser.low),
        work.array("sums", (layout.powers, columns, PANEL), products.query.dtype),
        scratch("score", columns),
        scratch("blocks", layout.powers, features),
        scratch("rest", layout.powers + 2),
        scratch("current", features),
        scratch("more", features),
        rows_by_panel(sums_of_rows.total),
        rows_by_panel(sums_of_rows.counts),
        rows_by_panel(sums_of_rows.value_current),
        rows_by_panel(sums_of_rows.longest_score),
        rows_by_panel(sums_of_rows.longest_output),
        sums_of_rows.beyond,
    )


@Kernel
def _read_runs(
    first_product: int,
    second_product: int,
    runs: Integers,
    window: int,
    keys: Real,
    query: Real,
    key_factors: Array,
    base: Array,
    key_fade: Array,
    values: Array,
    value_fades: Array,
    codes_per_full_scale: float,
    sums: Real,
    score: Array,
    blocks: Array,
    rest: Array,
    current: Array,
    more: Array,
    total: Array,
    counts: Array,
    read_current: Array,
    longest_score: Array,
    longest_output: Array,
    beyond: Integers,
) -> None:
    """All rows of one head through both products and the conversion.

    `runs` (runs, 4): first and stop token, and those of the run that was in the sub-tile before, or
    twice 0. `keys` (powers, tokens, features), `query` (panels, features, PANEL), `key_factors`
    (powers, tokens), `base` and `key_fade` (panels, PANEL) as in `ScoreFading`; `values` (value
    width, tokens) and `value_fades` (powers + 1, panels, PANEL) as for `read_values`. Scratch:
    `sums` (powers, columns, PANEL), `score` (columns, PANEL), `blocks` (powers, features, PANEL),
    `rest` (powers + 2, PANEL), `current` and `more` (features, PANEL). From `total` on: what is
    `HeadSums`, (..., panels, PANEL).
    """
    panels, rows, features = len(query), query.shape[2], query.shape[1]
    for run in range(len(runs)):
        first, stop = runs[run, 0], runs[run, 1]
        old_first, old_stop = runs[run, 2], runs[run, 3]
        until = min(panels, (first + window + rows - 1) // rows)
        turning = 0  # panels that still see columns of the run before
        if old_stop > old_first:
            turning = (old_stop + window - 1 + rows - 1) // rows
        for panel in range(first // rows, until):
            _read(
                first_product, second_product, panel, first, stop, window, 0, keys, query,
                key_factors, base, key_fade, values, value_fades, sums, score, blocks, rest,
                current, read_current, longest_score, beyond,
            )  # fmt: skip
            if panel < turning:
                _read(
                    first_product, second_product, panel, old_first, old_stop, window, 1, keys,
                    query, key_factors, base, key_fade, values, value_fades, sums, score, blocks,
                    rest, more, read_current, longest_score, beyond,
                )  # fmt: skip
                for d in range(features):
                    for r in range(rows):
                        current[d, r] += more[d, r]
            clipped = 0
            for d in range(features):
                for r in range(rows):
                    x = current[d, r]
                    clipped += abs(x) > 1
                    x = -1.0 if x < -1 else x
                    x = 1.0 if x > 1 else x
                    width = abs(x)
                    longest = longest_output[panel, r]
                    longest_output[panel, r] = width if width > longest else longest
                    code = np.rint(x * codes_per_full_scale)
                    total[d, panel, r] += code
                    counts[panel, r] += abs(code)
            beyond[2] += clipped


def _read(
    first_product: int,
    second_product: int,
    panel: int,
    first: int,
    stop: int,
    window: int,
    overwritten: int,
    keys: Real,
    query: Real,
    key_factors: Array,
    base: Array,
    key_fade: Array,
    values: Array,
    value_fades: Array,
    sums: Real,
    score: Array,
    blocks: Array,
    rest: Array,
    out: Array,
    read_current: Array,
    longest_score: Array,
    beyond: Integers,
) -> None:
    """What one panel of rows reads of one run, as `VisibleColumns` has it; A_raw / full scale in
    `out`.
    """
    _charge_keys(first_product, panel, first, stop, keys, query, sums)
    _make_pulses(
        panel, first, stop, window, overwritten, key_factors, base, key_fade, sums, score,
        longest_score, beyond,
    )  # fmt: skip
    _charge_values(
        second_product,
        panel,
        first,
        stop,
        score,
        values,
        value_fades,
        blocks,
        rest,
        out,
        read_current,
    )


def _charge_keys(
    product: int, panel: int, first: int, stop: int, keys: Real, query: Real, sums: Real
) -> None:
    """The first product, power by power, into `sums` (powers, columns, PANEL)."""
    powers, tokens, features = keys.shape
    rows, columns, size = query.shape[2], stop - first, keys.itemsize
    for power in range(powers):
        a = keys.ctypes.data + (power * tokens + first) * features * size
        b = query.ctypes.data + panel * features * rows * size
        c = sums.ctypes.data + power * sums.shape[1] * rows * size
        if size == 4:
            multiply_single(product, columns, features, rows, a, b, c, features)
        else:
            multiply_double(product, columns, features, rows, a, b, c, features)


def _make_pulses(
    panel: int,
    first: int,
    stop: int,
    window: int,
    overwritten: int,
    key_factors: Array,
    base: Array,
    key_fade: Array,
    sums: Real,
    score: Array,
    longest_score: Array,
    beyond: Integers,
) -> None:
    """Sums over powers, masked and clamped, as pulse widths into `score` (columns, PANEL)."""
    powers, rows = sums.shape[0], sums.shape[2]
    columns, highest = stop - first, powers - 1
    low, high = 0, 0
    for j in range(columns):
        if powers == 3:
            a1 = key_factors[0, first + j]
            a2, a3 = key_factors[1, first + j], key_factors[2, first + j]
            for r in range(rows):
                fade = key_fade[panel, r]
                x = sums[2, j, r] * a3 * fade + sums[1, j, r] * a2
                score[j, r] = x * fade + sums[0, j, r] * a1
        else:
            factor = key_factors[highest, first + j]
            for r in range(rows):
                score[j, r] = sums[highest, j, r] * factor
            for power in range(highest - 1, -1, -1):
                factor = key_factors[power, first + j]
                for r in range(rows):
                    score[j, r] = score[j, r] * key_fade[panel, r] + sums[power, j, r] * factor
        begin = (window if overwritten else j) + first - panel * rows
        end = (window + j if overwritten else window) + first - panel * rows
        for r in range(rows):
            x = score[j, r] * key_fade[panel, r] + base[panel, r]
            x = x if begin <= r < end else 0.0
            low += x < 0
            high += x > 1
            x = 0.0 if x < 0 else x
            x = 1.0 if x > 1 else x
            score[j, r] = x
            longest = longest_score[panel, r]
            longest_score[panel, r] = x if x > longest else longest
    beyond[0] += low
    beyond[1] += high


def _charge_values(
    product: int,
    panel: int,
    first: int,
    stop: int,
    score: Array,
    values: Array,
    value_fades: Array,
    blocks: Array,
    rest: Array,
    out: Array,
    read_current: Array,
) -> None:
    """The second product: A_raw / full scale into `out`, the unsigned current to `read_current`."""
    powers, features, rows = blocks.shape
    tokens, columns, highest = values.shape[1], stop - first, powers - 1
    b = score.ctypes.data
    for power in range(powers):
        a = values.ctypes.data + (power * features * tokens + first) * 8
        c = blocks.ctypes.data + power * features * rows * 8
        multiply_double(product, features, columns, rows, a, b, c, tokens)
    a = values.ctypes.data + (powers * features * tokens + first) * 8
    multiply_double(product, len(rest), columns, rows, a, b, rest.ctypes.data, tokens)
    for d in range(features):
        if powers == 3:
            for r in range(rows):
                f = value_fades[1, panel, r]
                x = (blocks[2, d, r] * f + blocks[1, d, r]) * f
                out[d, r] = (x + blocks[0, d, r]) * f + rest[0, r]
        else:
            for r in range(rows):
                out[d, r] = blocks[highest, d, r] * value_fades[1, panel, r]
            for power in range(highest - 1, -1, -1):
                for r in range(rows):
                    out[d, r] = (out[d, r] + blocks[power, d, r]) * value_fades[1, panel, r]
            for r in range(rows):
                out[d, r] += rest[0, r]
    for r in range(rows):
        unsigned = rest[1, r] * value_fades[0, panel, r]
        for power in range(1, powers + 1):
            unsigned += rest[power + 1, r] * value_fades[power, panel, r]
        read_current[panel, r] += unsigned
