"""Points on a Dask distributed cluster: the same runs, the same outcomes; only the driver stores.

A task is one batch. The scheduler hands the tasks of a lost worker to another; a batch that loses
its worker again is taken apart, so that only the point at fault counts as crashed. With a time
limit workers say which point they begin, and the driver has the worker of a late one restarted.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from archsim.errors import ConfigError, MissingExtraError, one_line
from archsim.sweeps.point import Job, Outcome, run_job
from archsim.sweeps.pool import TRIES, RunJob, without_interrupt, worker_environment

CONNECT_S = 15.0
AHEAD = 2
"""Batches handed to the scheduler for every thread of the cluster: one runs, one waits."""


RESTART_S = 60.0
"""How long a worker may take to come back."""

FETCH_S = 5.0
"""How long results may take to come. Those lost with their worker are computed again first, which
is not waited for."""

FOREVER_S = 1e7
"""Longer than any sweep."""


def run_batch(run: RunJob, topic: str, jobs: Sequence[Job]) -> list[Outcome]:
    """Run points one after another in a worker of the cluster, its libraries on one thread.

    Under `topic`, unless that is empty, the driver hears which point is begun where.
    """
    from distributed import get_worker
    from threadpoolctl import threadpool_limits

    outcomes = []
    with threadpool_limits(limits=1):
        for job in jobs:
            if topic:
                worker = get_worker()
                begun = {"task": worker.get_current_task(), "at": worker.address, "key": job.key}
                worker.log_event(topic, begun)
            outcomes.append(run(job))
    return outcomes


@dataclass(frozen=True)
class _Begun:
    """The point that a task is at, the worker's address, and since when by our clock."""

    key: str
    at: str
    since: float


class Cluster:
    """A Dask scheduler by address, or a cluster of `workers` processes started here (``local``)."""

    def __init__(
        self,
        address: str,
        workers: int,
        time_limit: float | None = None,
        run: RunJob = run_job,
    ) -> None:
        """Connect; no point may take longer than `time_limit` seconds.

        Raises MissingExtraError without distributed, ConfigError if no scheduler answers.
        """
        try:
            import dask
            import distributed
        except ImportError:
            raise MissingExtraError(
                "--cluster needs Dask: pip install 'archsim[cluster]'"
            ) from None
        self._run, self._limit = run, time_limit
        self._topic = "" if time_limit is None else f"archsim-{uuid.uuid4().hex}"
        self._begun: dict[str, _Begun] = {}
        self._local: Any = None
        self._kept: dict[Any, list[Job]] = {}
        self._draining = False
        self._suspects: list[Job] = []
        self._alone = ""
        """Key of the suspect that runs, with nothing beside it."""
        self._address = address
        settings = {
            "distributed.scheduler.allowed-failures": TRIES - 1,
            # by itself it gives up a worker that is just being started again
            "distributed.deploy.lost-worker-timeout": FOREVER_S,
        }
        with ExitStack() as stack:
            stack.enter_context(dask.config.set(settings))
            if address == "local":
                with worker_environment(0), without_interrupt():
                    self._local = distributed.LocalCluster(
                        n_workers=workers, threads_per_worker=1, processes=True,
                        dashboard_address=None, silence_logs=50,
                    )  # fmt: skip
                address = self._local.scheduler_address
            try:
                self._client = distributed.Client(
                    address, timeout=CONNECT_S, set_as_default=False, name="archsim-sweep"
                )
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"--cluster {address[:80]}: no scheduler answers ({one_line(error, 120)})"
                ) from None
            self._settings = stack.pop_all()
        if self._topic:
            self._client.subscribe_topic(self._topic, self._hear)

    def _hear(self, event: tuple[float, dict[str, str]]) -> None:
        _, said = event
        self._begun[said["task"]] = _Begun(said["key"], said["at"], time.monotonic())

    @property
    def processes(self) -> list[int]:
        """Process ids of a local cluster's workers."""
        return [worker.pid for worker in self._local.workers.values()] if self._local else []

    @property
    def _threads(self) -> int:
        return max(1, sum(int(count) for count in self._client.nthreads().values()))

    @property
    def wants(self) -> bool:
        room = len(self._kept) < AHEAD * self._threads
        return room and not self._draining and not self._suspects

    @property
    def last_group(self) -> str:
        return next(reversed(self._kept.values()))[-1].group if self._kept else ""

    @property
    def running(self) -> int:
        return sum(len(jobs) for jobs in self._kept.values()) + len(self._suspects)

    def submit(self, jobs: Sequence[Job]) -> None:
        future = self._client.submit(
            run_batch, self._run, self._topic, list(jobs), pure=False, retries=0
        )
        self._kept[future] = list(jobs)

    def poll(self, timeout: float) -> list[Outcome]:
        if self._suspects and not self._kept:
            job = self._suspects.pop()
            self.submit([job])
            self._alone = job.key
        until = time.monotonic() + timeout
        while not any(future.done() for future in self._kept) and time.monotonic() < until:
            time.sleep(0.01)
        outcomes = self._end_late()
        until = time.monotonic() + FETCH_S
        for future in list(self._kept):
            if not future.done():
                continue
            jobs = self._kept[future]
            try:
                outcomes += future.result(max(FETCH_S / 50, until - time.monotonic()))
            except Exception:  # what it means, the future says
                if future.status == "error":
                    outcomes += self._blame(future.exception(), jobs)
                elif future.status != "cancelled":
                    continue  # lost with their worker and computed again, or only late
                elif not self._draining:  # the scheduler was restarted
                    self.submit(jobs)
            del self._kept[future]
            self._begun.pop(future.key, None)
        if not outcomes and self._client.status in ("closing", "closed"):
            raise ConfigError(
                f"--cluster {self._address[:80]}: the scheduler is gone; start it anew, and the "
                "same sweep goes on"
            )
        return outcomes

    def _blame(self, error: Exception, jobs: list[Job]) -> list[Outcome]:
        """What became of the points of a batch that ended with an error."""
        from distributed import KilledWorker

        if not isinstance(error, KilledWorker):
            reason = f"{type(error).__name__}: {one_line(error)}"
            return [Outcome(job.key, "failed", None, reason) for job in jobs]
        if jobs[0].key != self._alone:
            # Dask blames all that a dead worker had before it: tried again, one at a time
            self._suspects += jobs
            return []
        reason = f"its worker was lost, {TRIES} times or more"
        return [Outcome(jobs[0].key, "crashed", None, reason)]

    def _end_late(self) -> list[Outcome]:
        """End the workers of points that took too long; what was with such a point goes again."""
        if self._limit is None:
            return []
        outcomes, late = [], set()
        for future in list(self._kept):
            begun = self._begun.get(future.key)
            if begun is None or time.monotonic() - begun.since <= self._limit or future.done():
                continue
            del self._begun[future.key]
            if future.key not in self._client.processing().get(begun.at, ()):
                continue  # that worker was lost meanwhile: another will begin the task anew
            jobs = self._kept.pop(future)
            self._client.cancel([future])
            late.add(begun.at)
            reason = f"took longer than {self._limit:g} s"
            outcomes.append(Outcome(begun.key, "timeout", None, reason, self._limit))
            others = [job for job in jobs if job.key != begun.key]
            if others and not self._draining:
                self.submit(others)
        for future in self._kept:  # a worker's other tasks begin anew
            if (begun := self._begun.get(future.key)) is not None and begun.at in late:
                del self._begun[future.key]
        if late:
            with suppress(Exception):  # without a nanny nobody can: it goes on to its end
                self._client.restart_workers(sorted(late), timeout=RESTART_S)
        return outcomes

    def drain(self) -> None:
        self._draining = True
        running = {key for keys in self._client.processing().values() for key in keys}
        waiting = [future for future in self._kept if future.key not in running]
        self._client.cancel(waiting)
        self._suspects.clear()
        for future in waiting:
            del self._kept[future]

    def close(self) -> None:
        with self._settings:
            if self._kept and self._client.status == "running":
                self._client.cancel(list(self._kept))
            self._client.close()
            if self._local is not None:
                self._local.close()
