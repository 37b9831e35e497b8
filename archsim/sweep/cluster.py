"""Points on a Dask distributed cluster: the same runs, the same outcomes; only the driver stores.

A task is one batch. The scheduler hands the tasks of a lost worker to another; a batch that loses
its worker again is taken apart, so that only the point at fault counts as crashed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from archsim.errors import ConfigError, MissingExtraError, one_line
from archsim.sweep.point import Job, Outcome, run_job
from archsim.sweep.pool import TRIES, without_interrupt, worker_environment

CONNECT_S = 15.0
AHEAD = 2
"""Batches handed to the scheduler for every thread of the cluster: one runs, one waits."""


def run_batch(jobs: Sequence[Job]) -> list[Outcome]:
    """Run points one after another in a worker of the cluster, its libraries on one thread."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        return [run_job(job) for job in jobs]


class Cluster:
    """A Dask scheduler by address, or a cluster of `workers` processes started here (``local``)."""

    def __init__(
        self,
        address: str,
        workers: int,
        run: Callable[[Sequence[Job]], list[Outcome]] = run_batch,
    ) -> None:
        """Connect.

        Raises MissingExtraError without distributed, ConfigError if no scheduler answers.
        """
        try:
            import dask
            import distributed
        except ImportError:
            raise MissingExtraError(
                "--cluster needs Dask: pip install 'archsim[cluster]'"
            ) from None
        self._run = run
        self._local: Any = None
        self._kept: dict[Any, list[Job]] = {}
        self._draining = False
        self._suspects: list[Job] = []
        self._alone = ""
        """Key of the suspect that runs, with nothing beside it."""
        if address == "local":
            one_retry = {"distributed.scheduler.allowed-failures": TRIES - 1}
            with worker_environment(0), without_interrupt(), dask.config.set(one_retry):
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
        future = self._client.submit(self._run, list(jobs), pure=False, retries=0)
        self._kept[future] = list(jobs)

    def poll(self, timeout: float) -> list[Outcome]:
        from distributed import KilledWorker

        if self._suspects and not self._kept:
            job = self._suspects.pop()
            self.submit([job])
            self._alone = job.key
        until = time.monotonic() + timeout
        while not any(future.done() for future in self._kept):
            if time.monotonic() >= until:
                return []
            time.sleep(0.01)
        outcomes: list[Outcome] = []
        for future in [future for future in self._kept if future.done()]:
            jobs = self._kept.pop(future)
            if future.status == "cancelled":
                if not self._draining:  # the scheduler was restarted
                    self.submit(jobs)
                continue
            error = future.exception()
            if error is None:
                outcomes += future.result()
            elif isinstance(error, KilledWorker) and jobs[0].key != self._alone:
                # Dask blames all that a dead worker had before it: tried again, one at a time
                self._suspects += jobs
            elif isinstance(error, KilledWorker):
                reason = f"its worker was lost, {TRIES} times or more"
                outcomes.append(Outcome(jobs[0].key, "crashed", None, reason))
            else:
                reason = f"{type(error).__name__}: {one_line(error)}"
                outcomes += [Outcome(job.key, "failed", None, reason) for job in jobs]
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
        if self._kept:
            self._client.cancel(list(self._kept))
        self._client.close()
        if self._local is not None:
            self._local.close()
