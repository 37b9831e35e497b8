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
from archsim.timing.engines.due import due_but_busy, edge, lasting, with_due

Integers = NDArray[np.int64]


def in_order(begin: Integers, order: Integers, low: int, high: int, fifo: bool) -> None:
    """Heads from `low` to `high` into `order`: as they are, or by the time they ask for."""
    for head in range(low, high):
        order[head] = head
    if fifo:  # ties keep the order of heads
        for index in range(low + 1, high):
            moving, spot = order[index], index
            while spot > low and begin[order[spot - 1]] > begin[moving]:
                order[spot] = order[spot - 1]
                spot -= 1
            order[spot] = moving


def take_turns(
    begin: Integers,
    order: Integers,
    free: Integers,
    durations: Integers,
    places: Integers,
    fifo: bool,
    size: int,
    stage: int,
    token: int,
    layer: int,
    period: int,
) -> None:
    """Let each `size` heads, that could `begin`, take turns at a block, once `free` of before."""
    heads, rate = len(begin), 1.0 / period
    for low in range(0, heads, size):
        high = min(low + size, heads)
        in_order(begin, order, low, high, fifo)
        available = free[stage, layer, low]
        for index in range(low, high):
            head = order[index]
            begin[head] = edge(max(begin[head], available), period, rate)
            held = lasting(durations, places, stage, token, layer, head)
            available = begin[head] + held
        free[stage, layer, low] = available


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
                    take_turns(
                        begin, order, free, durations, places, fifo[stage], size, stage, token,
                        layer, period,
                    )  # fmt: skip
                for head in range(heads):
                    times[0, stage, token, layer, head] = begin[head]
                    times[1, stage, token, layer, head] = begin[head] + lasting(
                        durations, places, stage, token, layer, head
                    )
                if stage == every:
                    for head in range(heads):
                        now, held = with_due(
                            times, frees, periodic, period, token, layer, head, begin[head],
                            np.int64(0),
                        )  # fmt: skip
                        times[0, stage, token, layer, head] = now
                        times[1, stage, token, layer, head] = now + held


def entering(times: Integers, ready: Integers, layer: int, known: int, layer_gap: int) -> None:
    """Fill in when the first `known` tokens, all known at 0, are ready in a layer."""
    stages, heads = times.shape[1], times.shape[4]
    for token in range(known):
        entered = np.int64(0)
        if layer > 0:
            for head in range(heads):
                entered = max(entered, times[1, stages - 1, token, layer - 1, head])
            entered += layer_gap
        ready[token, layer] = entered


def asked_at(
    times: Integers,
    ready: Integers,
    constraints: Integers,
    limits: Integers,
    done: Integers,
    stage: int,
    layer: int,
    head: int,
) -> np.int64:
    """When a head's next token could begin a stage; -1 where that is not known yet."""
    token = done[stage, head]
    begin = ready[token, layer] if stage == 0 else np.int64(0)
    for row in range(limits[stage]):
        before = constraints[stage, row, 0]
        at = token - constraints[stage, row, 2]
        if at < 0 or token < constraints[stage, row, 3]:
            continue
        if done[before, head] <= at:
            return np.int64(-1)
        begin = max(begin, times[constraints[stage, row, 1], before, at, layer, head])
    return begin


def granted(
    times: Integers,
    done: Integers,
    request: Integers,
    stage: int,
    layer: int,
    head: int,
    begin: np.int64,
    held: np.int64,
) -> np.int64:
    """Let a head's next token begin a stage; returns when it ends."""
    token, end = done[stage, head], begin + held
    times[0, stage, token, layer, head] = begin
    times[1, stage, token, layer, head] = end
    request[stage, head] = -1
    done[stage, head] += 1
    return end


def on_its_own(
    times: Integers,
    durations: Integers,
    places: Integers,
    ready: Integers,
    constraints: Integers,
    limits: Integers,
    group: Integers,
    periodic: Integers,
    frees: Integers,
    period: int,
    layer: int,
    head: int,
    known: int,
    done: Integers,
    request: Integers,
) -> bool:
    """Let a head go on until every stage needs a turn or is not known; whether it went at all."""
    rate, moved = 1.0 / period, False
    for stage in range(len(group)):
        while done[stage, head] < known and request[stage, head] < 0:
            begin = asked_at(times, ready, constraints, limits, done, stage, layer, head)
            if begin < 0:
                break
            begin = edge(begin, period, rate)
            token = done[stage, head]
            held = lasting(durations, places, stage, token, layer, head)
            if stage == periodic[0]:
                if due_but_busy(times, frees, periodic, done, layer, head, begin):
                    break
                begin, held = with_due(
                    times, frees, periodic, period, token, layer, head, begin, held
                )
            moved = True
            if group[stage] > 0:
                request[stage, head] = begin
                break
            granted(times, done, request, stage, layer, head, begin, held)
    return moved


def in_program_order(
    times: Integers,
    durations: Integers,
    places: Integers,
    done: Integers,
    request: Integers,
    turn: Integers,
    free: Integers,
    size: int,
    stage: int,
    layer: int,
    low: int,
    high: int,
    known: int,
    period: int,
) -> bool:
    """Serve heads that asked for a block as long as it is their turn: token, then head."""
    rate, moved = 1.0 / period, False
    for start in range(low, high, size):
        members = min(size, high - start)
        while turn[stage, start] < known * members:
            head = start + turn[stage, start] % members
            if request[stage, head] < 0:
                break
            asked = max(request[stage, head], free[stage, start])
            held = lasting(durations, places, stage, done[stage, head], layer, head)
            begin = edge(np.int64(asked), period, rate)
            free[stage, start] = granted(times, done, request, stage, layer, head, begin, held)
            turn[stage, start] += 1
            moved = True
    return moved


def earliest(
    group: Integers,
    fifo: NDArray[np.bool_],
    free: Integers,
    request: Integers,
    low: int,
    high: int,
) -> tuple[np.int64, int, int]:
    """The earliest grant of blocks that serve first come: time (-1: none), stage, first head."""
    best, best_stage, best_start = np.int64(-1), 0, 0
    for stage in range(len(group)):
        size = group[stage]
        if size == 0 or not fifo[stage]:
            continue
        for start in range(low, high, size):
            first = np.int64(-1)
            for head in range(start, min(start + size, high)):
                asked = request[stage, head]
                if asked >= 0 and (first < 0 or asked < first):
                    first = asked
            if first < 0:
                continue
            grant = max(first, free[stage, start])
            if best < 0 or grant < best:
                best, best_stage, best_start = grant, stage, start
    return best, best_stage, best_start


def next_served(request: Integers, done: Integers, stage: int, start: int, stop: int) -> int:
    """The head of a group that asked first; ties go by token, then by head."""
    chosen = -1
    for head in range(start, stop):
        asked = request[stage, head]
        if asked < 0:
            continue
        if (
            chosen < 0
            or asked < request[stage, chosen]
            or (asked == request[stage, chosen] and done[stage, head] < done[stage, chosen])
        ):
            chosen = head
    return chosen


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
    _, stages, _, layers, _ = times.shape
    rate = 1.0 / period
    for layer in range(layers):
        entering(times, ready, layer, known, layer_gap)
        done[:] = 0
        request[:] = -1
        free[:] = 0
        turn[:] = 0
        for part in range(len(bounds) - 1):
            low, high = bounds[part], bounds[part + 1]
            while True:
                # whatever follows without asking for a turn, or in turn
                moved = True
                while moved:
                    moved = False
                    for head in range(low, high):
                        if on_its_own(
                            times, durations, places, ready, constraints, limits, group,
                            periodic, frees, period, layer, head, known, done, request,
                        ):  # fmt: skip
                            moved = True
                    for stage in range(stages):
                        size = group[stage]
                        if size == 0 or fifo[stage]:
                            continue
                        if in_program_order(
                            times, durations, places, done, request, turn, free, size, stage,
                            layer, low, high, known, period,
                        ):  # fmt: skip
                            moved = True
                best, stage, start = earliest(group, fifo, free, request, low, high)
                if best < 0:
                    break
                head = next_served(request, done, stage, start, min(start + group[stage], high))
                token = done[stage, head]
                free[stage, start] = granted(
                    times, done, request, stage, layer, head,
                    edge(np.int64(best), period, rate),
                    lasting(durations, places, stage, token, layer, head),
                )  # fmt: skip
            for head in range(low, high):
                if done[stages - 1, head] < known:
                    return 1
    return 0
