"""Worker processes, one pipe each: a dead worker costs the point it was at, and no other.

``concurrent.futures`` gives up all pending work when one worker dies, and cannot say which point
killed it, nor end a point that takes too long. Here each worker has its own pipe and answers point
by point, so the driver knows where it was.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any, Protocol

from archsim.machine.compiled import SWITCH, available
from archsim.machine.parallel import CORES
from archsim.sweeps.point import Job, Outcome, run_job

RunJob = Callable[[Job], Outcome]

WORKER_VARIABLES = {
    "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1", CORES: "1",
    # glibc keeps what was freed: a point asks for the same megabytes again and again
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
}  # fmt: skip

COMPILE_FROM = 100
"""Points a worker from which on compiled code pays in it, where numba is installed."""

READY = "ready"
"""First message of a worker: its imports are done, so that time limits are of points alone."""

TRIES = 2
"""How often a point may lose its worker before it counts as crashed."""


class Executor(Protocol):
    """Where points run: worker processes here, or a cluster."""

    @property
    def wants(self) -> bool:
        """Whether another batch can be handed over now."""

    @property
    def last_group(self) -> str:
        """The functional group that the worker next in turn has at hand."""

    @property
    def running(self) -> int:
        """Points handed over and not answered."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Hand over a batch; only when `wants`."""

    def poll(self, timeout: float) -> list[Outcome]:
        """Answers so far; waits up to `timeout` seconds for the first."""

    def drain(self) -> None:
        """Forget what no worker has begun; what runs goes on to its answer."""

    def close(self) -> None:
        """End all workers."""


@contextmanager
def worker_environment(points: float) -> Iterator[None]:
    """Variables that libraries read on import, for children started inside.

    `points` is about how many each of them is to run. What the user says of compiled code stands.
    """
    variables = dict(WORKER_VARIABLES)
    if points >= COMPILE_FROM and available() and not os.environ.get(SWITCH):
        variables[SWITCH] = "1"
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def without_interrupt() -> Iterator[None]:
    """Children started inside never see Ctrl-C: the driver decides what they do."""
    block = getattr(signal, "pthread_sigmask", None)
    if block is None:
        yield
        return
    before = block(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        block(signal.SIG_SETMASK, before)


def work(pipe: connection.Connection, run: RunJob) -> None:
    """A worker: points in, outcomes out, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    waiting: deque[Job] = deque()
    try:
        pipe.send(READY)
        while True:
            while not waiting or pipe.poll():
                message: list[Job] | None = pipe.recv()
                if message is None:  # give back what was not begun
                    pipe.send([job.key for job in waiting])
                    waiting.clear()
                else:
                    waiting.extend(message)
            job = waiting.popleft()
            pipe.send(run(job))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the driver is gone


@dataclass
class _Worker:
    process: Any
    pipe: connection.Connection
    jobs: deque[Job] = field(default_factory=deque)
    since: float | None = None
    group: str = ""


class Pool:
    """Spawned worker processes on this machine."""

    def __init__(
        self,
        workers: int,
        time_limit: float | None = None,
        run: RunJob = run_job,
        points: int = 0,
    ) -> None:
        """Start `workers`; about `points` are to be run, each at most `time_limit` seconds."""
        self._context = multiprocessing.get_context("spawn")
        self._run, self._limit, self._points = run, time_limit, points / workers
        self._lost: dict[str, int] = {}
        self._again: deque[Job] = deque()
        self._draining = False
        self._workers = [self._start() for _ in range(workers)]

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=work, args=(there, self._run), daemon=True)
        with worker_environment(self._points), without_interrupt():
            process.start()
        there.close()
        return _Worker(process, here)

    def _free(self) -> _Worker | None:
        return next((worker for worker in self._workers if not worker.jobs), None)

    @property
    def wants(self) -> bool:
        return self._free() is not None and not self._again

    @property
    def last_group(self) -> str:
        free = self._free()
        return free.group if free else ""

    @property
    def running(self) -> int:
        return sum(len(worker.jobs) for worker in self._workers) + len(self._again)

    @property
    def processes(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid for worker in self._workers]

    def submit(self, jobs: Sequence[Job]) -> None:
        worker = self._free()
        assert worker is not None
        worker.jobs.extend(jobs)
        worker.group = jobs[-1].group
        if worker.since is not None:
            worker.since = time.monotonic()
        with suppress(BrokenPipeError, ConnectionResetError):  # found dead in poll
            worker.pipe.send(list(jobs))

    def poll(self, timeout: float) -> list[Outcome]:
        while self._again and self._free() is not None:
            self.submit([self._again.popleft()])
        waits: list[Any] = []
        for worker in self._workers:
            waits += [worker.pipe, worker.process.sentinel]
        if self._limit is not None:
            timeout = min(timeout, 0.1)
        ready = connection.wait(waits, timeout)
        outcomes: list[Outcome] = []
        for index, worker in enumerate(self._workers):
            if worker.pipe in ready or worker.process.sentinel in ready:
                outcomes += self._receive(worker)
            since = time.monotonic() if worker.since is None else worker.since
            late = self._limit is not None and time.monotonic() - since > self._limit
            if worker.process.exitcode is not None:
                outcomes += self._bury(index, f"its worker ended with {_ending(worker.process)}")
            elif worker.jobs and late:
                outcomes += self._end(index)
        return outcomes

    def _receive(self, worker: _Worker) -> list[Outcome]:
        outcomes = []
        try:
            while worker.pipe.poll():
                message = worker.pipe.recv()
                if message == READY:
                    worker.since = time.monotonic()
                elif isinstance(message, Outcome):
                    worker.jobs.popleft()
                    worker.since = time.monotonic()
                    outcomes.append(message)
                else:  # what it had not begun when told to drain
                    worker.jobs = deque(j for j in worker.jobs if j.key not in set(message))
        except (EOFError, OSError):
            worker.process.join(1)
        return outcomes

    def _bury(self, index: int, reason: str) -> list[Outcome]:
        """Replace a dead worker; its point is tried once more, the points behind it untouched."""
        worker = self._workers[index]
        jobs = list(worker.jobs)
        self._replace(index)
        if not jobs or self._draining:
            return []
        first, *others = jobs
        self._lost[first.key] = self._lost.get(first.key, 0) + 1
        if self._lost[first.key] < TRIES:
            self._again.append(first)
            self._again.extend(others)
            return []
        self._again.extend(others)
        return [Outcome(first.key, "crashed", None, f"{reason}, twice")]

    def _end(self, index: int) -> list[Outcome]:
        """End a worker whose point took too long."""
        worker = self._workers[index]
        worker.process.kill()
        worker.process.join()
        first, *others = worker.jobs
        self._replace(index)
        if not self._draining:
            self._again.extend(others)
        assert self._limit is not None
        reason = f"took longer than {self._limit:g} s"
        return [Outcome(first.key, "timeout", None, reason, self._limit)]

    def _replace(self, index: int) -> None:
        self._workers[index].pipe.close()
        self._workers[index].process.close()
        self._workers[index] = self._start()

    def drain(self) -> None:
        self._draining = True
        self._again.clear()
        for worker in self._workers:
            if worker.jobs:
                with suppress(OSError):
                    worker.pipe.send(None)

    def close(self) -> None:
        for worker in self._workers:
            worker.pipe.close()
            worker.process.kill()
        for worker in self._workers:
            worker.process.join(5)
        self._workers = []


def _ending(process: Any) -> str:
    code = process.exitcode
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"
