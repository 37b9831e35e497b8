"""The books of a run: what must hold whatever the input, and how many operations shapes imply.

A second opinion: operations are counted anew from shapes, window and query codes, not from what the
blocks posted. `archsim.simulation` has every run checked.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.chip.action import Action
from archsim.chip.head import Head
from archsim.chip.quantiser import Quantiser
from archsim.chip.work import Shapes
from archsim.errors import InvariantError
from archsim.hardware.sections import HardwareConfig
from archsim.ledger import Ledger
from archsim.timing.analysis import unloaded_latency
from archsim.timing.declaration import Declaration, Schedule
from archsim.traces.trace import Trace


@dataclass(frozen=True)
class Books:
    """What a run did, to be checked."""

    trace: Trace
    config: HardwareConfig
    head: Head
    declaration: Declaration
    schedule: Schedule
    ledger: Ledger


def check(books: Books, head_area: float) -> None:
    """What must hold in every run, whatever the input; `head_area` in m^2.

    Raises InvariantError naming what does not.
    """
    schedule = books.schedule
    books.ledger.check_balance()
    if not (np.isfinite(head_area) and head_area >= 0):
        raise InvariantError(f"area of a head is {head_area} m^2")
    for name, start in schedule.start.items():
        if (start < 0).any() or (schedule.end[name] < start).any():
            raise InvariantError(f"{name}: a phase starts before time 0 or ends before it starts")
    if (schedule.entered[1:] < schedule.end[books.declaration.first][:-1]).any():
        raise InvariantError(f"{books.declaration.first}: a head began with two tokens at once")
    latency = schedule.latched - schedule.entered
    alone = unloaded_latency(books.declaration)
    if (latency < alone).any():
        raise InvariantError("a token was faster than its own phases")
    issued = {posting.action: posting.operations for posting in books.ledger}
    lowest, highest = implied_operations(books, alone)
    if issued.keys() != lowest.keys():
        differ = sorted(action.label for action in issued.keys() ^ lowest.keys())
        raise InvariantError(f"ledger: {', '.join(differ)} posted or implied, not both")
    for action, operations in issued.items():
        if not lowest[action] <= operations <= highest[action]:
            raise InvariantError(
                f"{action.label}: {operations:.0f} operations issued, "
                f"{lowest[action]:.0f} to {highest[action]:.0f} implied"
            )


@functools.lru_cache(maxsize=4)
def pulsed_features(trace: Trace, levels: int | None) -> NDArray[np.int64]:
    """How many query features of each token make a pulse, over all layers and heads (tokens,)."""
    quantiser = Quantiser(levels, 0.0, 1.0)
    pulsed = np.zeros(trace.tokens, np.int64)
    a, b = trace.scalers["q"]
    for layer in range(trace.layers):
        q = trace.q[layer].astype(np.float64)
        q = q * a[layer, :, None, None] + b[layer, :, None, None]
        pulsed += np.count_nonzero(quantiser.codes(q) > 0, axis=(0, 2))
    return pulsed


def implied_operations(
    books: Books, unloaded: NDArray[np.int64]
) -> tuple[dict[Action, float], dict[Action, float]]:
    """How many operations of each action trace and hardware imply: at least, at most."""
    trace, head = books.trace, books.head
    tiles, control, features = head.sub_tiles, head.controller, trace.head_dim
    heads = trace.layers * trace.heads
    seen = np.minimum(np.arange(trace.tokens) + 1, tiles.window)
    driven = np.full(trace.tokens, tiles.count)
    converting = np.full(trace.tokens, tiles.slots)
    if control.gate_unwritten:
        driven, converting = -(-seen // tiles.columns), seen
    shapes = Shapes(
        heads,
        heads * trace.tokens,
        features,
        -(-features // books.config.array.rows),
        seen,
        converting,
        driven,
        pulsed_features(trace, books.config.levels.query),
        float(unloaded.max(axis=0).sum() // control.clock.period),
        float(heads * -(-books.schedule.makespan // control.clock.period)),
        books.schedule.makespan,
    )
    implied = [each for block in head.blocks for each in block.implied(shapes)]
    lowest = {action: low for action, low, _ in implied}
    return lowest, {action: high for action, _, high in implied}
