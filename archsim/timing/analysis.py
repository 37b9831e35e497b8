"""What a schedule says: utilisation, stalls by cause, and the closed form it must obey."""

from __future__ import annotations

import numpy as np

from archsim.errors import InvariantError
from archsim.timing.model import FIRST, LAST, Declaration, Picoseconds, Schedule, Stage

ENTRY = "tokens before it"
"""Cause of stalls: a token is ready and its head is not done with those before it."""


BUFFER = "layer buffer"
"""Cause of stalls: an output is latched only when the buffer to the next layer has room."""


def held_per_token(declaration: Declaration, schedule: Schedule) -> dict[str, float]:
    """Mean time in ps that one token takes of each resource, over its capacity.

    No initiation interval can be shorter. Heads that share a resource add up; of the arrays it is
    the one the token is written to, which is written and read.
    """
    tokens, layers, heads = declaration.shape
    result = {}
    for resource in declaration.resources:
        users = declaration.users(resource.name)
        total = sum(
            float(_held(declaration, schedule, resource.name, stage).sum()) for stage in users
        )
        groups = -(-heads // resource.heads)
        result[resource.name] = total / (tokens * layers * groups * resource.capacity)
    return result


def _held(declaration: Declaration, schedule: Schedule, name: str, stage: Stage) -> Picoseconds:
    """How long each use of a resource by a stage lasts, (tokens, layers, heads)."""
    giver, point = declaration.giver(name, stage)
    until = schedule.end if point == "end" else schedule.start
    return until[giver.name] - schedule.start[stage.name]


def utilisation(declaration: Declaration, schedule: Schedule) -> dict[str, float]:
    """Busy time / (capacity x makespan) of every resource, averaged over its instances.

    Raises InvariantError if any single instance was busier than the run is long.
    """
    makespan = schedule.makespan
    shares = {}
    for resource in declaration.resources:
        busy = np.zeros((*declaration.shape[1:], resource.units))  # (layers, heads, units)
        for stage in declaration.users(resource.name):
            held = _held(declaration, schedule, resource.name, stage)
            if stage.one_unit and resource.units > 1:
                order = np.argsort(declaration.sub_tiles, kind="stable")
                units, first = np.unique(declaration.sub_tiles[order], return_index=True)
                busy[:, :, units] += np.moveaxis(np.add.reduceat(held[order], first, axis=0), 0, 2)
            else:
                busy += held.sum(axis=0)[:, :, None]
        groups = np.add.reduceat(busy, np.arange(0, busy.shape[1], resource.heads), axis=1)
        share = groups / (resource.capacity * max(makespan, 1))
        if share.max(initial=0.0) > 1 + 1e-12:
            raise InvariantError(f"{resource.name}: busier than the run is long")
        shares[resource.name] = float(share.mean())
    return shares


def stalls(declaration: Declaration, schedule: Schedule) -> dict[str, int]:
    """Total time in ps that stages waited after their data was there, by what they waited for.

    A wait is charged to the private resource that came free last; what remains is waiting for a
    shared resource's turn, or for the next clock edge. Waiting for the tokens before it in a head
    is `ENTRY`: in prefill every token waits from time 0, whatever is slow.
    """
    total: dict[str, int] = {}

    def charge(cause: str, waits: Picoseconds) -> None:
        waited = int(waits.sum())
        if waited:
            total[cause] = total.get(cause, 0) + waited

    for stage in declaration.stages:
        start = schedule.start[stage.name]
        data = np.zeros_like(start)
        if stage.name == FIRST:
            data = np.maximum(data, schedule.ready[:, :, None])
        room = np.zeros_like(start)
        for after in stage.after:
            times = (schedule.end if after.point == "end" else schedule.start)[after.stage]
            first = max(after.lag, after.from_token)
            if first < len(data):
                shifted = times[first - after.lag : len(times) - after.lag]
                if after.next_layer:
                    slowest = shifted[:, 1:].max(axis=2, keepdims=True)
                    room[first:, :-1] = np.maximum(room[first:, :-1], slowest)
                else:
                    data[first:] = np.maximum(data[first:], shifted)
        charge(BUFFER, np.maximum(room - data, 0))
        data = np.maximum(data, room)
        latest, blamed = data.copy(), np.full(start.shape, -1)
        private = [r for r in stage.takes if declaration.resource(r).heads == 1]
        for index, name in enumerate(private):
            free = _private_free(declaration, schedule, name, stage)
            blamed[free > latest] = index
            latest = np.maximum(latest, free)
        for index, name in enumerate(private):
            waited = np.where(blamed == index, latest - data, 0)
            charge(ENTRY if stage.name == FIRST else name, waited)
        shared = [r for r in stage.takes if declaration.resource(r).heads > 1]
        charge(" or ".join(shared) or "clock edge", start - latest)
    return total


def _private_free(
    declaration: Declaration, schedule: Schedule, name: str, stage: Stage
) -> Picoseconds:
    """When the holder before this use gave a private resource back, (tokens, layers, heads)."""
    resource = declaration.resource(name)
    users = declaration.users(name)
    given = []
    for user in users:
        giver, point = declaration.giver(name, user)
        given.append((schedule.end if point == "end" else schedule.start)[giver.name])
    order = np.stack(given, axis=1)  # (tokens, users, layers, heads), program order
    flat = order.reshape(-1, *order.shape[2:])
    free = np.zeros_like(flat)
    free[resource.capacity :] = flat[: -resource.capacity or None]
    # a write to one sub-tile does not wait for the write to another; the read between them counts
    return free.reshape(order.shape)[:, users.index(stage)]


def unloaded_latency(declaration: Declaration) -> Picoseconds:
    """Closed form: write to y latched without contention, (tokens, layers, heads) in ps.

    Every phase starts on the clock edge at or after the end of the one before; the two writes run
    side by side.
    """
    period = declaration.period_ps

    def aligned(time: Picoseconds) -> Picoseconds:
        return -(-time // period) * period

    d = declaration.durations
    scored = aligned(d["write_key"]) + d["read_key"]
    if "count_partial" in d:
        scored = aligned(aligned(scored) + d["count_partial"]) + d["add_partial"]
    read_value = aligned(np.maximum(scored, d["write_value"])) + d["read_value"]
    count = aligned(read_value) + d["count"]
    return aligned(count) + d["accumulate"]


def attention_latency(schedule: Schedule) -> Picoseconds:
    """From the start of a token's write to y latched, maximum over heads, (tokens, layers)."""
    latency: Picoseconds = (schedule.end[LAST] - schedule.start[FIRST]).max(axis=2)
    return latency


def queueing(schedule: Schedule) -> Picoseconds:
    """From ready in a layer to the start of the write, maximum over heads, (tokens, layers)."""
    waited: Picoseconds = (schedule.start[FIRST] - schedule.ready[:, :, None]).max(axis=2)
    return waited


def leaving(schedule: Schedule) -> Picoseconds:
    """When each token leaves the last layer, (tokens,)."""
    times: Picoseconds = schedule.end[LAST][:, -1].max(axis=1)
    return times
