"""The recurrences as plain loops, compiled or as they are written.

`in_turn` goes through tokens, layers and stages in order: enough where the order in which every
resource is used is known beforehand. `first_come` also finds the order in which a shared block
serves tokens that overlap, by always taking the earliest next request of a closed group of heads.

Times are (2, stages, tokens, layers, heads) in ticks, [0] starts and [1] ends. `durations` holds
those of all stages, one behind the other, and each row of `places` (stages, 4) where a stage's
begin and how far apart they are from token to token, layer to layer and head to head. A constraint
is a row (stage, point, lag, from_token, next_layer); `limits` (stages,) says how many rows of
`constraints` (stages, most, 5) count. `group` (stages,) is the heads that share the block a stage
needs, 0 if it needs none; `fifo` (stages,) whether it serves first come, first served.

`periodic` is (stage, period, lasts) of the stage whose durations follow from its starts
(`archsim.chip.stage.Periodic`), or -1 for none; `frees` are the stages after whose ends, of the
token before, it comes where something is due.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.machine.compiled import Kernel

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


def wait_for_due(
    times: Integers,
    periodic: Integers,
    frees: Integers,
    token: int,
    layer: int,
    period: int,
    rate: float,
) -> None:
    """Let periodic phases of a token, which `times` has without a wait, wait for what is due."""
    stage = periodic[0]
    for head in range(times.shape[4]):
        now, was = times[0, stage, token, layer, head], np.int64(0)
        if token > 0:
            was = times[0, stage, token - 1, layer, head]
        if now // periodic[1] > was // periodic[1]:
            free_at = freed(times, frees, token, layer, head)
            now = max(now, edge(free_at, period, rate))
            times[0, stage, token, layer, head] = now
            held = waiting(now, was, free_at, periodic, period, rate)
            times[1, stage, token, layer, head] = now + held


@Kernel
def in_turn(
    times: Integers,
    durations: Integers,
    places: Integers,
    ready: Integers,
    constraints: Integers,
    limits: Integers,
    group: Integers,
    fifo: NDArray[np.bool_],
    periodic: Integers,
    frees: Integers,
    period: int,
    layer_gap: int,
    token_gap: int,
    first: int,
    known: int,
    free: Integers,
    begin: Integers,
    order: Integers,
) -> None:
    """Fill in the times of tokens from `first` on, of which those below `known` are known at 0.

    `free` (stages, layers, heads), full of 0, `begin` and `order` (heads,) are scratch.
    """
    _, stages, tokens, layers, heads = times.shape
    rate, every = 1.0 / period, periodic[0]
    for token in range(first, tokens):
        for layer in range(layers):
            entered = np.int64(0)
            if layer > 0:
                for head in range(heads):
                    entered = max(entered, times[1, stages - 1, token, layer - 1, head])
                entered += layer_gap
            elif token >= known:
                for head in range(heads):
                    entered = max(entered, times[1, stages - 1, token - 1, layers - 1, head])
                entered += token_gap
            ready[token, layer] = entered
            for stage in range(stages):
                for head in range(heads):
                    begin[head] = entered if stage == 0 else 0
                for row in range(limits[stage]):
                    before = constraints[stage, row, 0]
                    point = constraints[stage, row, 1]
                    at = token - constraints[stage, row, 2]
                    if at < 0 or token < constraints[stage, row, 3]:
                        continue
                    if constraints[stage, row, 4] == 0:
                        for head in range(heads):
                            begin[head] = max(begin[head], times[point, before, at, layer, head])
                    elif layer + 1 < layers:
                        latest = np.int64(0)
                        for head in range(heads):
                            latest = max(latest, times[point, before, at, layer + 1, head])
                        for head in range(heads):
                            begin[head] = max(begin[head], latest)
                for head in range(heads):
                    begin[head] = edge(begin[head], period, rate)
                size = group[stage]
                if size > 0:
                    for low in range(0, heads, size):
                        high = min(low + size, heads)
                        for head in range(low, high):
                            order[head] = head
                        if fifo[stage]:  # sort by the time asked for; ties keep the order of heads
                            for index in range(low + 1, high):
                                moving, spot = order[index], index
                                while spot > low and begin[order[spot - 1]] > begin[moving]:
                                    order[spot] = order[spot - 1]
                                    spot -= 1
                                order[spot] = moving
                        available = free[stage, layer, low]
                        for index in range(low, high):
                            head = order[index]
                            begin[head] = edge(max(begin[head], available), period, rate)
                            held = lasting(durations, places, stage, token, layer, head)
                            available = begin[head] + held
                        free[stage, layer, low] = available
                for head in range(heads):
                    times[0, stage, token, layer, head] = begin[head]
                    times[1, stage, token, layer, head] = begin[head] + lasting(
                        durations, places, stage, token, layer, head
                    )
                if stage == every:
                    wait_for_due(times, periodic, frees, token, layer, period, rate)


@Kernel
def first_come(
    times: Integers,
    durations: Integers,
    places: Integers,
    ready: Integers,
    constraints: Integers,
    limits: Integers,
    group: Integers,
    fifo: NDArray[np.bool_],
    periodic: Integers,
    frees: Integers,
    period: int,
    layer_gap: int,
    bounds: Integers,
    known: int,
    free: Integers,
    done: Integers,
    request: Integers,
    turn: Integers,
) -> int:
    """Fill in the times of the first `known` tokens, all known at 0; 0, or 1 if it got stuck.

    Heads between two `bounds` share nothing with others. Every request that is not known yet
    follows from a grant not made yet, so it is no earlier than that grant: the earliest grant
    among all blocks of a closed group is always safe to make. Equal times go by stage, then by
    group of heads, as in the discrete-event engines. `free`, `done`, `request` and `turn`
    (stages, heads) are scratch.
    """
    _, stages, _, layers, heads = times.shape
    rate = 1.0 / period
    for layer in range(layers):
        for token in range(known):
            entered = np.int64(0)
            if layer > 0:
                for head in range(heads):
                    entered = max(entered, times[1, stages - 1, token, layer - 1, head])
                entered += layer_gap
            ready[token, layer] = entered
        done[:] = 0
        request[:] = -1
        free[:] = 0
        turn[:] = 0
        for part in range(len(bounds) - 1):
            low, high = bounds[part], bounds[part + 1]
            left = known * (high - low)
            while left > 0:
                # whatever follows without asking for a turn
                moved = True
                while moved:
                    moved = False
                    for head in range(low, high):
                        for stage in range(stages):
                            while done[stage, head] < known and request[stage, head] < 0:
                                token = done[stage, head]
                                begin = ready[token, layer] if stage == 0 else np.int64(0)
                                found = True
                                for row in range(limits[stage]):
                                    before = constraints[stage, row, 0]
                                    at = token - constraints[stage, row, 2]
                                    if at < 0 or token < constraints[stage, row, 3]:
                                        continue
                                    if done[before, head] <= at:
                                        found = False
                                        break
                                    point = constraints[stage, row, 1]
                                    begin = max(begin, times[point, before, at, layer, head])
                                if not found:
                                    break
                                begin = edge(begin, period, rate)
                                held = lasting(durations, places, stage, token, layer, head)
                                if stage == periodic[0]:
                                    was = np.int64(0)
                                    if token > 0:
                                        was = times[0, stage, token - 1, layer, head]
                                    if begin // periodic[1] > was // periodic[1]:
                                        for row in range(len(frees)):
                                            if done[frees[row], head] < token:
                                                found = False
                                        if not found:
                                            break
                                        free_at = freed(times, frees, token, layer, head)
                                        begin = max(begin, edge(free_at, period, rate))
                                        held = waiting(begin, was, free_at, periodic, period, rate)
                                moved = True
                                if group[stage] > 0:
                                    request[stage, head] = begin
                                    break
                                times[0, stage, token, layer, head] = begin
                                times[1, stage, token, layer, head] = begin + held
                                done[stage, head] += 1
                                if stage == stages - 1:
                                    left -= 1
                    for stage in range(stages):
                        size = group[stage]
                        if size == 0 or fifo[stage]:
                            continue
                        for start in range(low, high, size):
                            members = min(size, heads - start)
                            while True:  # in turn: token, then head
                                head = start + turn[stage, start] % members
                                token = turn[stage, start] // members
                                if token >= known or request[stage, head] < 0:
                                    break
                                asked = max(request[stage, head], free[stage, start])
                                begin = edge(np.int64(asked), period, rate)
                                end = begin + lasting(durations, places, stage, token, layer, head)
                                times[0, stage, token, layer, head] = begin
                                times[1, stage, token, layer, head] = end
                                free[stage, start] = end
                                request[stage, head] = -1
                                done[stage, head] += 1
                                turn[stage, start] += 1
                                moved = True
                                if stage == stages - 1:
                                    left -= 1
                if left == 0:
                    break
                # the earliest grant of all
                best, best_stage, best_start = np.int64(-1), 0, 0
                for stage in range(stages):
                    size = group[stage]
                    if size == 0 or not fifo[stage]:
                        continue
                    for start in range(low, high, size):
                        earliest = np.int64(-1)
                        for head in range(start, min(start + size, heads)):
                            asked = request[stage, head]
                            if asked >= 0 and (earliest < 0 or asked < earliest):
                                earliest = asked
                        if earliest < 0:
                            continue
                        grant = max(earliest, free[stage, start])
                        if best < 0 or grant < best:
                            best, best_stage, best_start = grant, stage, start
                if best < 0:
                    return 1
                stage = best_stage
                chosen = -1
                for head in range(best_start, min(best_start + group[stage], heads)):
                    if request[stage, head] < 0:
                        continue
                    if (
                        chosen < 0
                        or request[stage, head] < request[stage, chosen]
                        or (
                            request[stage, head] == request[stage, chosen]
                            and done[stage, head] < done[stage, chosen]
                        )
                    ):
                        chosen = head
                token = done[stage, chosen]
                begin = edge(np.int64(best), period, rate)
                end = begin + lasting(durations, places, stage, token, layer, chosen)
                times[0, stage, token, layer, chosen] = begin
                times[1, stage, token, layer, chosen] = end
                free[stage, best_start] = end
                request[stage, chosen] = -1
                done[stage, chosen] += 1
                if stage == stages - 1:
                    left -= 1
    return 0
