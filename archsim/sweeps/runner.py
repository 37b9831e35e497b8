"""A sweep carried out: every point that its store does not have is run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from archsim.arguments import as_whole
from archsim.errors import ConfigError
from archsim.sweeps.definition import Sweep
from archsim.sweeps.design import check_size, design
from archsim.sweeps.driver import Report, Stop, run_jobs
from archsim.sweeps.exploration import PAPER, Exploration, explored, keys_of, note, with_losses
from archsim.sweeps.judging import judged
from archsim.sweeps.point import LASTING, Job, Outcome, Preparation, model_version
from archsim.sweeps.pool import Executor, Pool
from archsim.sweeps.search import search, searched
from archsim.sweeps.shard import Shard
from archsim.sweeps.store import Member, Store
from archsim.sweeps.sweep_file import load_sweep

DEFAULT_STORE = Path("reports") / "sweeps.db"
"""One store for all sweeps of a folder, so that they share points."""


def identity(sweep: Sweep, preparation: Preparation) -> str:
    """Hash of a sweep and the content of every file it names, under this version of the model."""
    parts = [sweep.sha256, model_version(), *preparation.contents()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def default_workers() -> int:
    """Processors this process may use."""
    count = getattr(os, "sched_getaffinity", None)
    return len(count(0)) if count is not None else (os.cpu_count() or 1)


def explore(
    sweep: Sweep | str | Path,
    store: str | Path = DEFAULT_STORE,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    shard: Shard | None = None,
    retry: bool = False,
    confirmed: bool = False,
    only_stored: bool = False,
    report: Report | None = None,
    stop: Stop | None = None,
) -> Exploration:
    """Run every point of a sweep that `store` does not have, and return all of them.

    `archsim.sweep` says what the arguments are, and what is raised.
    """
    if not isinstance(sweep, Sweep):
        sweep = load_sweep(sweep)
    count = _workers(workers)
    if shard is not None and sweep.method == "search":
        raise ConfigError("a search asks for points by what it has learned: it has no shards")
    if sweep.method in {"random", "sobol", "search"}:
        check_size(sweep.points, confirmed)
    preparation = Preparation(sweep)
    executors = _Executors(sweep, cluster, count)
    with Store(store) as kept:
        mine = identity(sweep, preparation)
        runner = _Runner(
            sweep, kept, preparation, executors, report, stop or Stop(), shard, retry, only_stored
        )
        if sweep.method == "search":
            return runner.search(mine)
        members = _begun(kept, mine)
        if members and _answered(kept, members, retry, shard):
            # noted again as the sweep used last, with its objectives of today
            kept.begin(mine, sweep.name, sweep.document())
            return explored(sweep, members, kept)
        return runner.design(mine, confirmed)


def _workers(given: int | None) -> int:
    workers = default_workers() if given is None else as_whole(given, "workers")
    if given is not None and not 1 <= workers <= 1024:
        raise ConfigError(f"workers {workers}: give 1 to 1024")
    return workers


@dataclass
class _Executors:
    """Makes what runs points; a search has one for all its batches, closed at its end."""

    sweep: Sweep
    cluster: str | None
    workers: int
    _open: list[Executor] = field(default_factory=list)

    @property
    def keep_open(self) -> bool:
        return self.sweep.method == "search"

    def make(self, waiting: int) -> Executor:
        """An executor for so many points."""
        if self._open:
            return self._open[0]
        made: Executor
        if self.cluster is not None:
            from archsim.sweeps.cluster import Cluster

            made = Cluster(self.cluster, self.workers, self.sweep.time_limit)
        else:
            here = self.workers if self.keep_open else min(self.workers, waiting)
            made = Pool(here, self.sweep.time_limit, points=waiting)
        if self.keep_open:
            self._open.append(made)
        return made

    def close(self) -> None:
        for each in self._open:
            each.close()


@dataclass(frozen=True)
class _Runner:
    sweep: Sweep
    store: Store
    preparation: Preparation
    executors: _Executors
    report: Report | None
    stop: Stop
    shard: Shard | None
    retry: bool
    only_stored: bool

    def search(self, identity: str) -> Exploration:
        """Run the points that a search asks for."""
        searched(self.sweep, self.preparation)  # what it cannot search by is refused before
        number = self.store.begin(identity, self.sweep.name, self.sweep.document())
        try:
            return search(self.sweep, self.preparation, self.run, self.store, number, self.stop)
        finally:
            self.executors.close()

    def design(self, identity: str, confirmed: bool) -> Exploration:
        """Run the points of a grid or a drawing."""
        sweep, preparation = self.sweep, self.preparation
        jobs = [preparation.job(parameters) for parameters in design(sweep, confirmed)]
        judged(sweep, jobs)  # what nothing can rank is refused before it runs
        papers = preparation.papers(jobs)
        number = self.store.begin(identity, sweep.name, sweep.document())
        members = note(self.store, number, papers, jobs)
        self.run(jobs, papers)
        return explored(sweep, members, self.store)

    def run(self, jobs: Sequence[Job], papers: Sequence[Job] = ()) -> dict[str, Outcome]:
        """Outcomes by key; nothing is run where only stored ones are wanted.

        `papers` run as well but are no points: they are not counted, and not reported.
        """
        both = [*papers, *jobs]
        losses = {job.key: job.loss for job in both}
        wanted = [*both, *self.preparation.loss_jobs(both)]
        if self.only_stored:
            return with_losses(self.store.known(job.key for job in wanted), losses)
        if self.shard is not None:
            members = [Member(PAPER, job.key, {}, job.loss) for job in papers]
            members += [Member(i, job.key, {}, job.loss) for i, job in enumerate(jobs)]
            mine = self.shard.of_members(members)
            wanted = [job for job in wanted if job.key in mine]
        answers = run_jobs(
            wanted,
            self.store,
            self.executors.make,
            report=self.report,
            stop=self.stop,
            retry=self.retry,
            workers=self.executors.workers,
            keep_open=self.executors.keep_open,
            counted={key for job in jobs for key in (job.key, job.loss)},
        )
        return with_losses(answers, losses)


def _begun(store: Store, sha256: str) -> list[Member]:
    """The members of a sweep that `store` knows already."""
    numbers = [stored.id for stored in store.sweeps() if stored.sha256 == sha256]
    return store.members(numbers[0]) if numbers else []


def _answered(store: Store, members: Sequence[Member], retry: bool, shard: Shard | None) -> bool:
    """Whether nothing of a sweep, or of a part of it, is left to run."""
    keys = set(keys_of(members)) if shard is None else shard.of_members(members)
    known = store.known(keys)
    return all(key in known and (not retry or known[key].status in LASTING) for key in keys)
