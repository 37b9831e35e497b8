"""What a schedule says: utilisation, stalls by cause, and the closed form it must obey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.chip.stage import Resource, Stage, Ticks
from archsim.errors import InvariantError
from archsim.timing.declaration import Declaration, Schedule

ENTRY = "tokens before it"
"""Cause of stalls: a token is ready and its head is not done with those before it."""


BUFFER = "layer buffer"
"""Cause of stalls: an output is latched only when the buffer to the next layer has room."""


@dataclass(frozen=True)
class Occupation:
    """How long a token needs a resource, and how often tokens come to it; ticks, means."""

    held: float
    interval: float


def occupation(
    declaration: Declaration, schedule: Schedule, first: int, last: int
) -> dict[str, Occupation]:
    """For each resource, what tokens need of its most loaded instance, over its capacity.

    From `first` coming to that instance until `last` does; of a single token, over the whole run.
    No interval can be shorter than the need. Heads that share an instance add up; of the arrays it
    is the one a token is written to, which is written and read, whether a write takes it or not
    (``array.write_during_read``). A holder that waits for the next block does not need its own for
    longer: the culprit is the block it waits for.
    """
    heads = declaration.shape[2]
    result = {}
    for resource in declaration.resources:
        firsts = np.arange(0, heads, resource.heads)
        stages = declaration.users(resource.name)
        if first == last:
            since, until = np.zeros((1, 1), np.int64), np.array([[schedule.makespan]])
        else:
            taken = np.minimum.reduce([schedule.start[stage.name] for stage in stages])
            since, until = (
                np.repeat(
                    np.minimum.reduceat(taken[token], firsts, axis=1), resource.heads, axis=1
                )[:, :heads]
                for token in (first, last)
            )
        needed = np.zeros(declaration.shape[1:], np.int64)  # (layers, heads)
        for stage in stages:
            start, given = _use(declaration, schedule, resource.name, stage)
            given = np.minimum(given, start + _service(declaration, resource.name, stage))
            needed += np.maximum(np.minimum(given, until) - np.maximum(start, since), 0).sum(axis=0)
        for name in declaration.excluding(resource.name):  # what tokens waited for
            start, given = schedule.times(name)
            needed += np.maximum(np.minimum(given, until) - np.maximum(start, since), 0).sum(axis=0)
        if resource.heads == 1:
            needed = np.maximum(needed, _turns(declaration, resource.name, first, last))
        loads = _by_instance(needed, resource)
        most = np.unravel_index(int(loads.argmax()), loads.shape)
        spans = np.broadcast_to(until - since, needed.shape)[:, firsts]
        tokens = max(last - first, 1)
        result[resource.name] = Occupation(
            float(loads[most]) / (tokens * resource.capacity), float(spans[most]) / tokens
        )
    return result


def _turns(declaration: Declaration, name: str, first: int, last: int) -> NDArray[np.int64]:
    """What writes that do not hold a resource need between its reads by two tokens in a row.

    (layers, heads) in ticks, summed over the tokens after `first` until `last`; with
    ``array.write_during_read`` the write of a token waits for the start of the read before, or for
    its end where it overwrites a slot, and its own read for the write.
    """
    period, lasts = declaration.clock.period, declaration.durations
    need = np.zeros(declaration.shape, np.int64)
    for write in declaration.stages:
        for after in write.after:
            read = declaration.stage(after.stage)
            array = name in read.takes and name in read.gives_at_end
            if after.lag != 1 or after.next_layer or not array:
                continue
            turn = -(-lasts[write.name] // period) * period
            if after.point == "end":
                turn[1:] += -(-lasts[read.name][:-1] // period) * period
            turn[: after.from_token] = 0
            need = np.maximum(need, turn)
            need[1:] = np.maximum(need[1:], lasts[read.name][:-1])
    total: NDArray[np.int64] = need[first + 1 : last + 1].sum(axis=0)
    return total


def _service(declaration: Declaration, name: str, taker: Stage) -> Ticks:
    """What the phases of a token last that need the resource `taker` took, one after another."""
    giver, point = declaration.giver(name, taker)
    stages = declaration.stages
    chain, total = {taker.name}, declaration.durations[taker.name]
    if giver is taker:
        return total
    for stage in stages[stages.index(taker) + 1 : stages.index(giver) + (point == "end")]:
        if any(a.stage in chain and a.point == "end" and not a.lag for a in stage.after):
            chain.add(stage.name)
            total = -(-total // declaration.period) * declaration.period
            total = total + declaration.durations[stage.name]
    return total


def _by_instance(values: NDArray[Any], resource: Resource) -> NDArray[Any]:
    """Values of (layers, heads, ...) summed over the heads that share an instance."""
    firsts = np.arange(0, values.shape[1], resource.heads)
    sums: NDArray[Any] = np.add.reduceat(values, firsts, axis=1)
    return sums


def _use(
    declaration: Declaration, schedule: Schedule, name: str, stage: Stage
) -> tuple[Ticks, Ticks]:
    """When a stage takes a resource and when it is given back, (tokens, layers, heads) each."""
    giver, point = declaration.giver(name, stage)
    until = schedule.end if point == "end" else schedule.start
    return schedule.start[stage.name], until[giver.name]


def utilisation(declaration: Declaration, schedule: Schedule) -> dict[str, float]:
    """Busy time / (capacity x makespan) of every resource, averaged over its instances.

    Raises InvariantError if any single instance was busier than the run is long.
    """
    makespan = schedule.makespan
    shares = {}
    for resource in declaration.resources:
        busy = np.zeros((*declaration.shape[1:], resource.units))  # (layers, heads, units)
        for stage in declaration.users(resource.name):
            taken, given = _use(declaration, schedule, resource.name, stage)
            held = given - taken
            if stage.one_unit and resource.units > 1:
                order = np.argsort(declaration.sub_tiles, kind="stable")
                units, first = np.unique(declaration.sub_tiles[order], return_index=True)
                busy[:, :, units] += np.moveaxis(np.add.reduceat(held[order], first, axis=0), 0, 2)
            else:
                busy += held.sum(axis=0)[:, :, None]
        for name, every in declaration.excluding(resource.name).items():
            done = (
                schedule.start[name][-1] // every.period
            )  # till the last token, waited for or not
            busy += (done * every.lasts)[:, :, None]
        share = _by_instance(busy, resource) / (resource.capacity * max(makespan, 1))
        if share.max(initial=0.0) > 1 + 1e-12:
            raise InvariantError(f"{resource.name}: busier than the run is long")
        shares[resource.name] = float(share.mean())
    return shares


def stalls(declaration: Declaration, schedule: Schedule) -> dict[str, int]:
    """Total time in ticks that stages waited after their data was there, by what they waited for.

    A wait is charged to the private resource that came free last; what remains is waiting for a
    shared resource's turn, or for the next clock edge. Waiting for the tokens before it in a head
    is `ENTRY`: in prefill every token waits from time 0, whatever is slow.
    """
    total: dict[str, int] = {}

    def charge(cause: str, waits: Ticks) -> None:
        waited = int(waits.sum())
        if waited:
            total[cause] = total.get(cause, 0) + waited

    for stage in declaration.stages:
        start = schedule.start[stage.name]
        data = np.zeros_like(start)
        held = np.zeros_like(start)  # by tokens before it, in other words than by a resource
        if stage.name == declaration.first:
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
                    into = held if stage.periodic is not None and after.lag else data
                    into[first:] = np.maximum(into[first:], shifted)
        if stage.periodic is not None:
            due = declaration.durations[stage.name] > 0
            for name in stage.periodic.free:
                free = np.where(due[1:], schedule.end[name][:-1], 0)
                held[1:] = np.maximum(held[1:], free)
            charge(ENTRY, np.maximum(held - data, 0))
            data = np.maximum(data, held)
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
            charge(ENTRY if stage.name == declaration.first else name, waited)
        shared = [r for r in stage.takes if declaration.resource(r).heads > 1]
        charge(" or ".join(shared) or "clock edge", start - latest)
    return total


def _private_free(declaration: Declaration, schedule: Schedule, name: str, stage: Stage) -> Ticks:
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


def unloaded_latency(declaration: Declaration) -> Ticks:
    """Closed form: write to y latched without contention, (tokens, layers, heads) in ticks.

    Every phase starts on the clock edge at or after all of its token that it comes after.
    """
    period = declaration.period
    start: dict[str, Ticks] = {}
    end: dict[str, Ticks] = {}
    for stage in declaration.stages:
        lasts = declaration.durations[stage.name]
        begin = np.zeros_like(lasts)
        for after in stage.after:
            if not after.lag and not after.next_layer:
                before = (end if after.point == "end" else start)[after.stage]
                begin = np.maximum(begin, before)
        start[stage.name] = -(-begin // period) * period
        end[stage.name] = start[stage.name] + lasts
    return end[declaration.last]


def layer_latency(schedule: Schedule) -> Ticks:
    """From a token being ready in a layer to the last of its heads having latched y.

    (tokens, layers). The one latency of a layer: heads that wait for a shared block count.
    """
    latency: Ticks = schedule.latched.max(axis=2) - schedule.ready
    return latency


def slowest_ns(declaration: Declaration, schedule: Schedule, first: int) -> float:
    """The longest `layer_latency` of the tokens from `first` on, in ns.

    Of those that waited for nothing periodic, unless all did: one of them stands for many.
    """
    latency = layer_latency(schedule)[first:]
    for name in declaration.periodic:
        waited = (schedule.end[name] > schedule.start[name])[first:].any(axis=(1, 2))
        if not waited.all():
            latency = latency[~waited]
    return float(latency.max() * declaration.clock.ns)


def attention_latency(schedule: Schedule) -> Ticks:
    """From the start of a head's write to its y latched, the slowest head, (tokens, layers).

    What a head takes once it has the token: waiting before that is in `layer_latency` alone.
    """
    latency: Ticks = (schedule.latched - schedule.entered).max(axis=2)
    return latency


def queueing(schedule: Schedule) -> Ticks:
    """From ready in a layer to the start of the write, maximum over heads, (tokens, layers)."""
    waited: Ticks = (schedule.entered - schedule.ready[:, :, None]).max(axis=2)
    return waited


def leaving(schedule: Schedule) -> Ticks:
    """When each token leaves the last layer, (tokens,)."""
    times: Ticks = schedule.latched[:, -1].max(axis=1)
    return times
