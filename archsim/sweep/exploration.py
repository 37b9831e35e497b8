"""A sweep carried out: its points with their results, from the store or run now."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from archsim.arguments import as_whole
from archsim.errors import ConfigError
from archsim.sweep.definition import Sweep, load_sweep, sweep_from_values
from archsim.sweep.design import Parameters, check_size, design
from archsim.sweep.driver import Report, Stop, run_jobs
from archsim.sweep.expression import Value
from archsim.sweep.figures import Figures
from archsim.sweep.point import LASTING, Job, Outcome, Preparation, model_version
from archsim.sweep.pool import Executor, Pool
from archsim.sweep.store import Member, Store

DEFAULT_STORE = Path("reports") / "sweeps.db"
"""One store for all sweeps of a folder, so that they share points."""

PAPER = -1
"""Position of the published design among a sweep's members."""


@dataclass(frozen=True)
class Point:
    """A design point; `status` ``waiting`` where it has not been run (yet, or in this shard)."""

    parameters: Parameters
    key: str
    status: str
    results: Figures | None
    reason: str

    def figure(self, name: str) -> Value:
        """A figure by name; None where the point has none."""
        return None if self.results is None else self.results.get(name)


@dataclass(frozen=True)
class Exploration:
    """A sweep and its points; `paper` is the published design on the same trace."""

    sweep: Sweep
    points: list[Point]
    paper: Point

    @property
    def complete(self) -> bool:
        """Whether every point was run."""
        return all(point.status != "waiting" for point in self.points)

    @property
    def counts(self) -> dict[str, int]:
        """Points by status, in order of first appearance."""
        counts: dict[str, int] = {}
        for point in self.points:
            counts[point.status] = counts.get(point.status, 0) + 1
        return counts


@dataclass(frozen=True)
class Shard:
    """Every `of`-th part of the points, by content key: the same on every machine."""

    index: int
    of: int

    def has(self, key: str) -> bool:
        """Whether a point, or a loss, is of this part."""
        return int(key[:15], 16) % self.of == self.index - 1


def parse_shard(text: str) -> Shard:
    """``i/n``, i from 1 to n; raises ConfigError for anything else."""
    index, _, of = text.partition("/")
    if not (index.isascii() and index.isdigit() and of.isascii() and of.isdigit()):
        raise ConfigError(f"--shard {text[:40]!r}: write i/n, like 1/8")
    shard = Shard(int(index), int(of))
    if not 1 <= shard.index <= shard.of <= 100_000:
        raise ConfigError(f"--shard {text[:40]}: i goes from 1 to n")
    return shard


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

    `sweep`: a Sweep, the name of a shipped one, or a YAML file. `workers`: processes on this
    machine (default: one a processor). `cluster`: address of a Dask scheduler, or ``local`` to
    start one here. `shard`: only a part of the points. `retry`: run points again that crashed,
    failed or took too long. `confirmed`: allow more than 100,000 points. `only_stored`: run
    nothing.

    Raises ConfigError for a sweep that cannot be run, MissingExtraError for a method or cluster
    whose package is missing, CorruptInputError for a damaged trace or store.
    """
    if not isinstance(sweep, Sweep):
        sweep = load_sweep(sweep)
    workers = None if workers is None else as_whole(workers, "workers")
    if workers is not None and not 1 <= workers <= 1024:
        raise ConfigError(f"workers {workers}: give 1 to 1024")
    if shard is not None and sweep.method == "search":
        raise ConfigError("a search asks for points by what it has learned: it has no shards")
    if sweep.method in {"random", "sobol", "search"}:
        check_size(sweep.points, confirmed)
    preparation = Preparation(sweep)
    count = default_workers() if workers is None else workers
    stop = stop or Stop()

    searching = sweep.method == "search"
    open_: list[Executor] = []

    def executor(waiting: int) -> Executor:
        if open_:  # a search has one for all its batches
            return open_[0]
        place: Executor
        if cluster is not None:
            from archsim.sweep.cluster import Cluster

            place = Cluster(cluster, count, sweep.time_limit)
        else:
            here = count if searching else min(count, waiting)
            place = Pool(here, sweep.time_limit, points=waiting)
        if searching:
            open_.append(place)
        return place

    with Store(store) as kept:
        mine = identity(sweep, preparation)
        members = [] if searching else _begun(kept, mine)
        if members and _answered(kept, members, retry, shard):
            # noted again as the sweep used last, with its objectives of today
            kept.begin(mine, sweep.name, sweep.document())
            return _exploration(sweep, members, kept)
        runner = _Runner(
            kept, executor, preparation, report, stop, shard, retry, only_stored, count, searching
        )
        if searching:
            from archsim.sweep.search import search

            begun = kept.begin(mine, sweep.name, sweep.document())
            try:
                return search(sweep, preparation, runner.run, kept, begun, stop)
            finally:
                for place in open_:
                    place.close()
        jobs = [preparation.job(parameters) for parameters in design(sweep, confirmed)]
        paper = preparation.paper()
        number = kept.begin(mine, sweep.name, sweep.document())
        members = note(kept, number, paper, jobs)
        runner.run([paper, *jobs])
        return _exploration(sweep, members, kept)


def note(store: Store, number: int, paper: Job, jobs: Sequence[Job]) -> list[Member]:
    """Keep which points a sweep has; the published design goes first."""
    members = [Member(PAPER, paper.key, {}, paper.loss)]
    members += [Member(i, job.key, job.parameters, job.loss) for i, job in enumerate(jobs)]
    store.add_members(number, members)
    return members


@dataclass(frozen=True)
class _Runner:
    store: Store
    executor: Callable[[int], Executor]
    preparation: Preparation
    report: Report | None
    stop: Stop
    shard: Shard | None
    retry: bool
    only_stored: bool
    workers: int
    keep_open: bool

    def run(self, jobs: Sequence[Job]) -> dict[str, Outcome]:
        """Outcomes by key; nothing is run where only stored ones are wanted."""
        losses = {job.key: job.loss for job in jobs}
        wanted = [*jobs, *self.preparation.loss_jobs(jobs)]
        if self.only_stored:
            return _joined(self.store.known(job.key for job in wanted), losses)
        answers = run_jobs(
            [job for job in wanted if self.shard is None or self.shard.has(job.key)],
            self.store,
            self.executor,
            report=self.report,
            stop=self.stop,
            retry=self.retry,
            workers=self.workers,
            keep_open=self.keep_open,
        )
        return _joined(answers, losses)


def _joined(answers: Mapping[str, Outcome], losses: Mapping[str, str]) -> dict[str, Outcome]:
    """Outcomes of points with their losses; a point that needs one has none before its loss has."""
    joined = {}
    for key, loss in losses.items():
        outcome = answers.get(key)
        if outcome is not None and loss and outcome.results is not None:
            measured = answers.get(loss)
            outcome = None if measured is None else outcome.with_loss(measured)
        if outcome is not None:
            joined[key] = outcome
    return joined


def _begun(store: Store, sha256: str) -> list[Member]:
    numbers = [stored.id for stored in store.sweeps() if stored.sha256 == sha256]
    return store.members(numbers[0]) if numbers else []


def _answered(store: Store, members: Sequence[Member], retry: bool, shard: Shard | None) -> bool:
    keys = _keys(members)
    known = store.known(keys)
    return all(
        key in known and (not retry or known[key].status in LASTING)
        for key in keys
        if shard is None or shard.has(key)
    )


def _keys(members: Sequence[Member]) -> list[str]:
    return [key for member in members for key in (member.key, member.loss) if key]


def _exploration(sweep: Sweep, members: Sequence[Member], store: Store) -> Exploration:
    """What the store has of a sweep."""
    answers = _joined(store.known(_keys(members)), {m.key: m.loss for m in members})

    def point(member: Member) -> Point:
        found = answers.get(member.key)
        if found is None:
            return Point(member.parameters, member.key, "waiting", None, "")
        return Point(member.parameters, member.key, found.status, found.results, found.reason)

    points = {member.position: point(member) for member in members}
    paper = points.pop(PAPER)
    return Exploration(sweep, [points[position] for position in sorted(points)], paper)


def stored_explorations(store: Store, name: str | None = None) -> list[Exploration]:
    """Every sweep begun in a store, or those of a name, as far as the store has them.

    Raises ConfigError if there is none.
    """
    begun = [stored for stored in store.sweeps() if name is None or stored.name == name]
    if not begun:
        known = ", ".join(dict.fromkeys(stored.name for stored in store.sweeps())) or "none"
        what = "no sweep" if name is None else f"no sweep named {name!r}"
        raise ConfigError(f"{store.path}: {what} was begun here (has: {known})")
    found = []
    for stored in begun:
        members = store.members(stored.id)
        if members:
            sweep = sweep_from_values(stored.definition)
            found.append(_exploration(sweep, members, store))
    return found
