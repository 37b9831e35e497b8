"""The driver: hands points to an executor, keeps every answer in the store, reports progress.

Only the driver writes the store. Points go out ordered by their functional result, so that a worker
that has it at hand runs all points that share it.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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

    def __repr__(self) -> str:
        return f"<Stop asked {self.asked} times>"

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
    drive = _Drive(jobs, store, report, stop or Stop(), retry, workers, counted)
    waiting = drive.answer_known()
    if waiting:
        place = executor(waiting)
        try:
            drive.run(place)
        except BaseException:
            place.close()
            raise
        if not keep_open or drive.stop.asked:
            place.close()
    return drive.answers


class _Drive:
    """Jobs on their way to an answer; another driver may work on the same store."""

    def __init__(
        self,
        jobs: Sequence[Job],
        store: Store,
        report: Report | None,
        stop: Stop,
        retry: bool,
        workers: int,
        counted: Collection[str] | None,
    ) -> None:
        self.store, self.report, self.stop = store, report, stop
        self.retry, self.workers = retry, workers
        self.jobs = {job.key: job for job in jobs}
        self.counted = {*self.jobs} if counted is None else {*self.jobs}.intersection(counted)
        self.tally = Tally(len(self.counted))
        self.answers: dict[str, Outcome] = {}
        self.queue = Queue([])
        self.elsewhere: dict[str, Job] = {}
        """Points that another driver has claimed."""
        self.looked = 0.0
        self.seconds: dict[str, float] = {}
        """How long a point of a group takes, a running mean."""

    def answer_known(self) -> int:
        """Answer what needs no run, from the store or because it was refused; how many wait."""
        self._tell(self._add(self._lasting(self.store.known(self.jobs)), ran=False))
        refused = [
            Outcome(job.key, "invalid", None, job.reason)
            for job in self.jobs.values()
            if job.key not in self.answers and job.hardware is None
        ]
        for first in range(0, len(refused), 1000):
            outcomes = refused[first : first + 1000]
            self.store.save(outcomes)
            self._keep(outcomes, ran=False)
        for job in self.jobs.values():
            if job.key not in self.answers:
                self.queue.add(job)
        return len(self.queue)

    def run(self, place: Executor) -> None:
        """Hand out what waits until all is answered, or until what runs is done after a stop."""
        drained = False
        while True:
            if self.stop.asked and not drained:
                place.drain()
                drained = True
            while not drained and place.wants and len(self.queue):
                self._submit(place)
            if self.elsewhere and time.monotonic() - self.looked > RECHECK_S:
                self._look_elsewhere(place)
            waiting = len(self.queue) or self.elsewhere
            if not place.running and (drained or not waiting):
                return
            outcomes = place.poll(0.2)
            self.store.save(outcomes)
            self._keep(outcomes, ran=True)
            for outcome in outcomes:
                group = self.jobs[outcome.key].group
                before = self.seconds.get(group, outcome.wall_s)
                self.seconds[group] = 0.5 * (before + outcome.wall_s)

    def _submit(self, place: Executor) -> None:
        """One batch of about `BATCH_S`, of what no other driver has claimed."""
        share = -(-len(self.queue) // (2 * self.workers))
        each = self.seconds.get(place.last_group, BATCH_S)
        size = max(1, min(int(BATCH_S / max(each, 1e-3)), LARGEST_BATCH, share))
        batch = self.queue.take(place.last_group, size)
        got = self.store.claim([job.key for job in batch])
        self.elsewhere.update({job.key: job for job in batch if job.key not in got})
        mine = [job for job in batch if job.key in got]
        if mine:
            place.submit(mine)

    def _look_elsewhere(self, place: Executor) -> None:
        """Take answers of other drivers; claim what they left where nothing else is to do."""
        self.looked = time.monotonic()
        self._keep(self._lasting(self.store.known(self.elsewhere)), ran=False)
        for key in [key for key in self.elsewhere if key in self.answers]:
            del self.elsewhere[key]
        if not len(self.queue) and not place.running:  # its driver may have died
            for key in self.store.claim(list(self.elsewhere)):
                self.queue.add(self.elsewhere.pop(key))

    def _lasting(self, known: Mapping[str, Outcome]) -> list[Outcome]:
        return [o for o in known.values() if not self.retry or o.status in LASTING]

    def _add(self, outcomes: Sequence[Outcome], ran: bool) -> list[Outcome]:
        """Take answers that are new; returns those of them that are counted."""
        fresh = [outcome for outcome in outcomes if outcome.key not in self.answers]
        self.answers.update({outcome.key: outcome for outcome in fresh})
        counted = [outcome for outcome in fresh if outcome.key in self.counted]
        for outcome in counted:
            self.tally.count(outcome, ran)
        return counted

    def _keep(self, outcomes: Sequence[Outcome], ran: bool) -> None:
        if new := self._add(outcomes, ran):
            self._tell(new)

    def _tell(self, new: Sequence[Outcome]) -> None:
        if self.report is not None:
            self.report(self.tally, new)
