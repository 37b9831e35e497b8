"""A sweep carried out: its points with their results, from the store or run now."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from archsim.arguments import as_whole
from archsim.errors import ConfigError
from archsim.notes import AdaptedTo
from archsim.sweeps.definition import Sweep, load_sweep, sweep_from_values
from archsim.sweeps.design import Parameters, check_size, design
from archsim.sweeps.driver import Report, Stop, run_jobs
from archsim.sweeps.expression import Value
from archsim.sweeps.figures import Figures
from archsim.sweeps.judging import judged
from archsim.sweeps.point import LASTING, Job, Outcome, Preparation, model_version
from archsim.sweeps.pool import Executor, Pool
from archsim.sweeps.store import Member, Store

DEFAULT_STORE = Path("reports") / "sweeps.db"
"""One store for all sweeps of a folder, so that they share points."""

PAPER = -1
"""Position of the published design among a sweep's members; on further workloads -2, -3, ..."""


@dataclass(frozen=True)
class Point:
    """A design point; `status` ``waiting`` where it has not been run (yet, or in this shard)."""

    parameters: Parameters
    key: str
    status: str
    results: Figures | None
    reason: str
    adapted: AdaptedTo | None = None

    def figure(self, name: str) -> Value:
        """A figure by name; None where the point has none."""
        return None if self.results is None else self.results.get(name)


@dataclass(frozen=True)
class Exploration:
    """A sweep and its points; `papers` are the published design on each of their workloads.

    The parameters of those say which workload it is; there are none where all points have one.
    """

    sweep: Sweep
    points: list[Point]
    papers: tuple[Point, ...]

    @property
    def paper(self) -> Point:
        """The published design on the first workload."""
        return self.papers[0]

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
    """One of `of` parts of a sweep that differ by one point at most: the same on every machine."""

    index: int
    of: int

    def part(self, keys: Sequence[str]) -> set[str]:
        """Which of some keys, all different and in the sweep's order, are of this part."""
        first, end = (len(keys) * number // self.of for number in (self.index - 1, self.index))
        return set(keys[first:end])

    def of_members(self, members: Sequence[Member]) -> set[str]:
        """Keys of the points, of the published designs beside them, and of the losses to run."""
        points = dict.fromkeys(m.key for m in members if m.position >= 0)
        beside = dict.fromkeys(m.key for m in members if m.key not in points)
        losses = dict.fromkeys(m.loss for m in members if m.loss)
        return set[str]().union(*(self.part([*each]) for each in (points, beside, losses)))


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
            from archsim.sweeps.cluster import Cluster

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
            from archsim.sweeps.search import search, searched

            searched(sweep, preparation)  # what it cannot search by is refused before
            begun = kept.begin(mine, sweep.name, sweep.document())
            try:
                return search(sweep, preparation, runner.run, kept, begun, stop)
            finally:
                for place in open_:
                    place.close()
        jobs = [preparation.job(parameters) for parameters in design(sweep, confirmed)]
        judged(sweep, jobs)  # what nothing can rank is refused before it runs
        papers = preparation.papers(jobs)
        number = kept.begin(mine, sweep.name, sweep.document())
        members = note(kept, number, papers, jobs)
        runner.run(jobs, papers)
        return _exploration(sweep, members, kept)


def note(store: Store, number: int, papers: Sequence[Job], jobs: Sequence[Job]) -> list[Member]:
    """Keep which points a sweep has; the published design goes first."""
    members = [Member(PAPER - i, job.key, job.parameters, job.loss) for i, job in enumerate(papers)]
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

    def run(self, jobs: Sequence[Job], papers: Sequence[Job] = ()) -> dict[str, Outcome]:
        """Outcomes by key; nothing is run where only stored ones are wanted.

        `papers` run as well but are no points: they are not counted, and not reported.
        """
        both = [*papers, *jobs]
        losses = {job.key: job.loss for job in both}
        wanted = [*both, *self.preparation.loss_jobs(both)]
        if self.only_stored:
            return _joined(self.store.known(job.key for job in wanted), losses)
        if self.shard is not None:
            members = [Member(PAPER, job.key, {}, job.loss) for job in papers]
            members += [Member(i, job.key, {}, job.loss) for i, job in enumerate(jobs)]
            mine = self.shard.of_members(members)
            wanted = [job for job in wanted if job.key in mine]
        answers = run_jobs(
            wanted,
            self.store,
            self.executor,
            report=self.report,
            stop=self.stop,
            retry=self.retry,
            workers=self.workers,
            keep_open=self.keep_open,
            counted={key for job in jobs for key in (job.key, job.loss)},
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
    keys = set(_keys(members)) if shard is None else shard.of_members(members)
    known = store.known(keys)
    return all(key in known and (not retry or known[key].status in LASTING) for key in keys)


def _keys(members: Sequence[Member]) -> list[str]:
    return [key for member in members for key in (member.key, member.loss) if key]


def _exploration(sweep: Sweep, members: Sequence[Member], store: Store) -> Exploration:
    """What the store has of a sweep."""
    answers = _joined(store.known(_keys(members)), {m.key: m.loss for m in members})

    def point(member: Member) -> Point:
        found = answers.get(member.key)
        if found is None:
            return Point(member.parameters, member.key, "waiting", None, "")
        return Point(
            member.parameters, member.key, found.status, found.results, found.reason, found.adapted
        )

    points = {member.position: point(member) for member in members}
    papers = [points[position] for position in sorted(points, reverse=True) if position < 0]
    ours = [points[position] for position in sorted(points) if position >= 0]
    return Exploration(sweep, ours, tuple(papers))


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
