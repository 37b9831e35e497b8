"""The driver: hands points to an executor, keeps every answer in the store, reports progress.

Only the driver writes the store. Points go out ordered by their functional result, so that a worker
that has it at hand runs all points that share it.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from archsim.sweeps.point import LASTING, Job, Outcome
from archsim.sweeps.pool import Executor
from archsim.sweeps.store import Store

BATCH_S = 0.5
"""A batch takes about this long: far more than handing it over, far less than anyone waits."""

LARGEST_BATCH = 64
RECHECK_S = 0.5
"""How often to look whether another driver has finished, or left, a point it had claimed."""


@dataclass
class Tally:
    """How far a sweep is. `ran` counts points run here; the rest came from the store."""

    total: int
    done: int = 0
    ran: int = 0
    began: float = field(default_factory=time.monotonic)
    status: Counter[str] = field(default_factory=Counter)

    def count(self, outcome: Outcome, ran: bool) -> None:
        """Add one answered point."""
        self.done += 1
        self.ran += ran
        self.status[outcome.status] += 1

    @property
    def failed(self) -> int:
        """Points without results."""
        return self.done - self.status["ok"]

    @property
    def rate(self) -> float:
        """Points run here a second."""
        return self.ran / max(time.monotonic() - self.began, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None before the first point."""
        return (self.total - self.done) / self.rate if self.ran else None


Report = Callable[[Tally, Sequence[Outcome]], None]
"""Called with the tally and the outcomes that are new since the last call."""


class Stop:
    """Set once by Ctrl-C: finish what runs; set twice: leave at once."""

    def __init__(self) -> None:
        self.asked = 0

    @contextmanager
    def on_signals(self) -> Iterator[Stop]:
        """Ctrl-C and SIGTERM set this while the block runs (in the main thread)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {}

        def handle(number: int, frame: object) -> None:
            self.asked += 1
            if self.asked > 1:
                raise KeyboardInterrupt

        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Queue:
    """Points that wait, by functional group."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._groups: dict[str, deque[Job]] = {}
        self._begun: set[str] = set()
        for job in jobs:
            self.add(job)

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups.values())

    def add(self, job: Job) -> None:
        """Put a point at the end of its group."""
        self._groups.setdefault(job.group, deque()).append(job)

    def take(self, group: str, count: int) -> list[Job]:
        """Up to `count` points of one group: `group` itself, else one not begun, else the longest.

        Empty only if nothing waits.
        """
        if not self._groups:
            return []
        if group not in self._groups:
            fresh = (name for name in self._groups if name not in self._begun)
            longest = max(self._groups, key=lambda name: len(self._groups[name]))
            group = next(fresh, longest)
        self._begun.add(group)
        waiting = self._groups[group]
        taken = [waiting.popleft() for _ in range(min(count, len(waiting)))]
        if not waiting:
            del self._groups[group]
        return taken


def run_jobs(
    jobs: Sequence[Job],
    store: Store,
    executor: Callable[[int], Executor],
    *,
    report: Report | None = None,
    stop: Stop | None = None,
    retry: bool = False,
    workers: int = 1,
    keep_open: bool = False,
    counted: Collection[str] | None = None,
) -> dict[str, Outcome]:
    """Answer every job: from the store where it has a result, else by running it.

    `executor` is made only if something has to be run; it is told how many points wait, and closed
    at the end unless `keep_open`. With `retry`, points that crashed, failed or took too long are
    run again. `counted`: keys that the tally is of and that are reported; all of them if None.
    Returns the outcomes by key; fewer than asked for only if `stop` was set.
    """
    stop = stop or Stop()
    unique = {job.key: job for job in jobs}
    known = store.known(unique)
    answers = {k: o for k, o in known.items() if not retry or o.status in LASTING}
    told = set(unique) if counted is None else set(unique).intersection(counted)
    tally = Tally(len(told))
    for outcome in answers.values():
        if outcome.key in told:
            tally.count(outcome, ran=False)

    def tell(new: Sequence[Outcome]) -> None:
        if report is not None:
            report(tally, new)

    def keep(outcomes: Sequence[Outcome], ran: bool) -> None:
        fresh = [outcome for outcome in outcomes if outcome.key not in answers]
        for outcome in fresh:
            answers[outcome.key] = outcome
            if outcome.key in told:
                tally.count(outcome, ran)
        if new := [outcome for outcome in fresh if outcome.key in told]:
            tell(new)

    tell([outcome for outcome in answers.values() if outcome.key in told])
    refused = [j for j in unique.values() if j.key not in answers and j.hardware is None]
    for first in range(0, len(refused), 1000):
        outcomes = [
            Outcome(j.key, "invalid", None, j.reason) for j in refused[first : first + 1000]
        ]
        store.save(outcomes)
        keep(outcomes, ran=False)
    queue = Queue([job for job in unique.values() if job.key not in answers])
    if not len(queue):
        return answers
    place = executor(len(queue))
    elsewhere: dict[str, Job] = {}
    seconds: dict[str, float] = {}
    drained, looked = False, 0.0
    try:
        while True:
            if stop.asked and not drained:
                place.drain()
                drained = True
            while not drained and place.wants and len(queue):
                share = -(-len(queue) // (2 * workers))
                each = seconds.get(place.last_group, BATCH_S)
                size = max(1, min(int(BATCH_S / max(each, 1e-3)), LARGEST_BATCH, share))
                batch = queue.take(place.last_group, size)
                got = store.claim([job.key for job in batch])
                elsewhere.update({job.key: job for job in batch if job.key not in got})
                mine = [job for job in batch if job.key in got]
                if mine:
                    place.submit(mine)
            if elsewhere and time.monotonic() - looked > RECHECK_S:
                looked = time.monotonic()
                found = store.known(elsewhere)
                keep([o for o in found.values() if not retry or o.status in LASTING], ran=False)
                for key in [key for key in elsewhere if key in answers]:
                    del elsewhere[key]
                if not len(queue) and not place.running:  # its driver may have died
                    for key in store.claim(list(elsewhere)):
                        queue.add(elsewhere.pop(key))
            if not place.running and (drained or (not len(queue) and not elsewhere)):
                if not keep_open or drained:
                    place.close()
                return answers
            outcomes = place.poll(0.2)
            store.save(outcomes)
            keep(outcomes, ran=True)
            for outcome in outcomes:
                group = unique[outcome.key].group
                seconds[group] = 0.5 * (seconds.get(group, outcome.wall_s) + outcome.wall_s)
    except BaseException:
        place.close()
        raise
