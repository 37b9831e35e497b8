"""Shared blocks in a discrete-event run: who is served next."""

from __future__ import annotations

import gc
import heapq
from collections.abc import Iterator
from contextlib import contextmanager

import simpy
from simpy.events import EventPriority

from archsim.chip.stage import Resource
from archsim.timing.declaration import Declaration

GRANT = 2
"""Event priority of the first grant in an instant: after everything else that happens then."""


class InOrder:
    """A resource that serves its uses in program order, `capacity` at a time."""

    def __init__(self, env: simpy.Environment, capacity: int) -> None:
        self.env = env
        self.free = capacity
        self.next_use = 0
        self.waiting: dict[int, simpy.Event] = {}

    def request(self, use: int, token: int, head: int) -> simpy.Event | None:
        """None if granted at once, else an event."""
        if use == self.next_use and self.free:
            self.free -= 1
            self.next_use += 1
            if self.waiting:
                self._serve()
            return None
        event = self.waiting[use] = self.env.event()
        return event

    def release(self) -> None:
        self.free += 1
        if self.waiting:
            self._serve()

    def _serve(self) -> None:
        while self.free and self.next_use in self.waiting:
            self.free -= 1
            self.waiting.pop(self.next_use).succeed()
            self.next_use += 1


class FirstCome:
    """A resource that serves by request time, ties by (token, head), in a delta step.

    The grant is an event of its own at the end of the instant, so the order in which processes
    happened to be woken never decides. `rank` orders the grants of different resources in one
    instant: what is granted earlier may, by a phase of no length, lead to another request in it.
    """

    def __init__(self, env: simpy.Environment, capacity: int, rank: int) -> None:
        self.env = env
        self.free = capacity
        self.priority = EventPriority(GRANT + rank)
        self.queue: list[tuple[int, int, int, int, simpy.Event]] = []

    def request(self, use: int, token: int, head: int) -> simpy.Event:
        event = self.env.event()
        heapq.heappush(self.queue, (int(self.env.now), token, head, use, event))
        self._schedule_grant()
        return event

    def release(self) -> None:
        self.free += 1
        if self.queue:
            self._schedule_grant()

    def _schedule_grant(self) -> None:
        if not self.free:
            return  # the release will see to it
        step = simpy.Event(self.env)
        step._ok, step._value = True, None
        step.callbacks = [self._grant]
        self.env.schedule(step, priority=self.priority)

    def _grant(self, _: simpy.Event) -> None:
        while self.free and self.queue:
            self.free -= 1
            heapq.heappop(self.queue)[4].succeed()


@contextmanager
def long_lived() -> Iterator[None]:
    """No search for reference cycles in what a run has built: events are freed by their counts."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


Server = InOrder | FirstCome


def rank(declaration: Declaration, resource: Resource, head: int) -> int:
    """Order of grants in one instant: by stage, then by group of heads."""
    stage = declaration.stages.index(declaration.users(resource.name)[0])
    return stage * declaration.shape[2] + head // resource.heads


def server(
    env: simpy.Environment, declaration: Declaration, resource: Resource, head: int
) -> Server:
    """The server of one instance of a resource, the one that `head` belongs to."""
    if resource.discipline == "fifo":
        return FirstCome(env, resource.capacity, rank(declaration, resource, head))
    return InOrder(env, resource.capacity)
