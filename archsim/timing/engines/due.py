"""Clock edges, durations, and what falls due, for loops that are compiled (`loops`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def edge(time: np.int64, period: int, rate: float) -> np.int64:
    """The clock edge at or after `time`, both below 2**51; `rate` is 1 / period.

    A product with `rate` is at most one period off, and much faster than a division.
    """
    below = np.int64(time * rate) * period
    rest = time - below
    if rest <= 0:
        return below
    if rest <= period:
        return below + period
    return below + 2 * period


def lasting(
    durations: Integers, places: Integers, stage: int, token: int, layer: int, head: int
) -> np.int64:
    """How long one stage takes, in ticks."""
    at = places[stage]
    duration: np.int64 = durations[at[0] + token * at[1] + layer * at[2] + head * at[3]]
    return duration


def freed(times: Integers, frees: Integers, token: int, layer: int, head: int) -> np.int64:
    """From when on a head had what something due needs."""
    since = np.int64(0)
    if token > 0:
        for row in range(len(frees)):
            since = max(since, times[1, frees[row], token - 1, layer, head])
    return since


def waiting(
    now: np.int64, before: np.int64, free: np.int64, periodic: Integers, period: int, rate: float
) -> np.int64:
    """How long a token waits at `now` for what is due; `archsim.chip.stage.Periodic.wait`."""
    due = now // periodic[1]
    overdue = due - before // periodic[1]
    latest = edge(free, period, rate) + (overdue - 1) * periodic[2]
    latest = max(latest, edge(due * periodic[1], period, rate))
    return max(latest + periodic[2] - now, np.int64(0))


def with_due(
    times: Integers,
    frees: Integers,
    periodic: Integers,
    period: int,
    token: int,
    layer: int,
    head: int,
    begin: np.int64,
    held: np.int64,
) -> tuple[np.int64, np.int64]:
    """When a token that comes at `begin` starts the periodic stage, and for how long it waits.

    As given where nothing fell due since the token before it.
    """
    was, rate = np.int64(0), 1.0 / period
    if token > 0:
        was = times[0, periodic[0], token - 1, layer, head]
    if begin // periodic[1] > was // periodic[1]:
        free_at = freed(times, frees, token, layer, head)
        begin = max(begin, edge(free_at, period, rate))
        held = waiting(begin, was, free_at, periodic, period, rate)
    return begin, held


def due_but_busy(
    times: Integers,
    frees: Integers,
    periodic: Integers,
    done: Integers,
    layer: int,
    head: int,
    begin: np.int64,
) -> bool:
    """Whether something is due before a head's next token that waits for times not known yet."""
    token, was = done[periodic[0], head], np.int64(0)
    if token > 0:
        was = times[0, periodic[0], token - 1, layer, head]
    if begin // periodic[1] > was // periodic[1]:
        for row in range(len(frees)):
            if done[frees[row], head] < token:
                return True
    return False
