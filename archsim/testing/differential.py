"""Two checkouts side by side: ``python -m archsim.testing.differential OLD NEW``.

The same jobs run in both, each in a process of its own that imports archsim from there: every
shipped config with every shipped trace, and random hardwares with random traces. Times, codes,
counts, areas and words must be equal, energies to 1e-12; a key of JSON or a column may come and
none may go. What differs is printed, one line a kind of difference, with the job to run alone.

Exit status 0: equal; 1: different; 2: cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from archsim.errors import ConfigError
from archsim.files import write_text
from archsim.testing.documents import Difference, differences
from archsim.testing.jobs import Job, random_jobs, shipped, shipped_jobs
from archsim.testing.worker import Worker, checked

PRINTED = 40


@dataclass
class Comparison:
    """What came out: differences and remarks by their pattern, each with the jobs it is in."""

    jobs: int = 0
    refused: int = 0
    runs_refused: int = 0
    found: dict[str, tuple[Difference, list[int]]] = field(default_factory=dict)
    remarks: dict[str, tuple[Difference, list[int]]] = field(default_factory=dict)

    @property
    def different_jobs(self) -> set[int]:
        """Numbers of the jobs that differ."""
        return {number for _, numbers in self.found.values() for number in numbers}

    def add(self, number: int, old: Any, new: Any, allowed: Iterable[str] = ()) -> None:
        """Compare two answers to one job; places like `allowed` are remarked upon only."""
        self.jobs += 1
        if old.get("refused") and new.get("refused"):
            self.refused += 1
        elif "found" in old:
            runs = old["found"].values()
            self.runs_refused += sum(isinstance(r, dict) and bool(r.get("refused")) for r in runs)
        for difference in differences(old, new):
            minor = difference.kind in {"new", "hidden"}
            minor = minor or any(fnmatch(difference.where, pattern) for pattern in allowed)
            kept = self.remarks if minor else self.found
            # of one job's many places of a kind the first is enough
            _, numbers = kept.setdefault(difference.pattern, (difference, []))
            if numbers[-1:] != [number]:
                numbers.append(number)

    def document(self) -> dict[str, Any]:
        """All of it as JSON."""

        def entries(kept: dict[str, tuple[Difference, list[int]]]) -> list[dict[str, Any]]:
            return [
                {"place": where, "kind": d.kind, "jobs": jobs, "old": d.old, "new": d.new}
                for where, (d, jobs) in kept.items()
            ]

        return {
            "equal": not self.found,
            "jobs": self.jobs,
            "refused_by_both": self.refused,
            "runs_refused_by_both": self.runs_refused,
            "different_jobs": sorted(self.different_jobs),
            "differences": entries(self.found),
            "remarks": entries(self.remarks),
        }


def all_jobs(old: Path, new: Path, hardwares: int, seed: int) -> Iterator[tuple[int, Job]]:
    """Jobs with their numbers: what both ship, then `hardwares` random ones."""
    both = [
        [name for name in mine if name in theirs]
        for mine, theirs in zip(shipped(old), shipped(new), strict=True)
    ]
    fixed = list(shipped_jobs(*both))
    yield from enumerate(fixed, 1)
    yield from enumerate(islice(random_jobs(seed), hardwares), len(fixed) + 1)


def shipped_by_one(old: Path, new: Path) -> list[str]:
    """What one of them ships alone, and no job can compare."""
    pairs = zip(shipped(old), shipped(new), strict=True)
    return sorted(name for mine, theirs in pairs for name in {*mine} ^ {*theirs})


def compare(
    old: Path,
    new: Path,
    jobs: Iterable[tuple[int, Job]],
    allowed: Iterable[str] = (),
    timeout_s: float = 300.0,
    progress: Any = None,
) -> Comparison:
    """Run `jobs` in both checkouts, one after the other.

    Raises ConfigError where one of them is no checkout, or does not start.
    """
    comparison, compiles = Comparison(), find_spec("numba") is not None
    with Worker(old, timeout_s) as before, Worker(new, timeout_s) as after:
        for number, job in jobs:
            asked = {**job, "compiled": bool(job.get("compiled")) and compiles}
            comparison.add(number, before.ask(asked), after.ask(asked), allowed)
            if progress is not None:
                progress(number, comparison)
    return comparison


def lines(comparison: Comparison, again: str) -> Iterator[str]:
    """What a reader wants to know; `again` is the command that runs one job alone."""
    for difference, numbers in islice(comparison.found.values(), PRINTED):
        jobs = f"{len(numbers)} jobs" if len(numbers) > 1 else "1 job"
        yield f"{difference}  [{jobs}; {again} --only {numbers[0]}]"
    if len(comparison.found) > PRINTED:
        yield f"and {len(comparison.found) - PRINTED} more kinds of difference: see --json"
    for difference, numbers in comparison.remarks.values():
        yield f"remark: {difference}  [{len(numbers)} jobs, first {numbers[0]}]"
    different = len(comparison.different_jobs)
    yield (
        f"{comparison.jobs} jobs: {different or 'none'} different; {comparison.refused} refused "
        f"alike, and {comparison.runs_refused} runs of others"
    )


def main(arguments: list[str] | None = None) -> int:
    """Compare, print, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m archsim.testing.differential",
        description="Run the same jobs in two checkouts and compare all they give.",
    )
    parser.add_argument("old", type=Path, metavar="OLD", help="a folder with archsim's source")
    parser.add_argument("new", type=Path, metavar="NEW", help="another one")
    parser.add_argument("--hardwares", type=int, default=300, metavar="N", help="random ones (300)")
    parser.add_argument("--seed", type=int, default=1, help="of the random hardwares (1)")
    parser.add_argument("--only", type=int, action="append", metavar="JOB", help="one job alone")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PATTERN",
        help="places that may differ, as printed, with * for any part: they become remarks",
    )
    parser.add_argument("--timeout", type=float, default=300.0, metavar="S", help="a job (300)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything found")
    given = parser.parse_args(arguments)
    try:
        old, new = checked(given.old), checked(given.new)
        count = max([given.hardwares, *(given.only or ())])
        jobs = list(all_jobs(old, new, count, given.seed))
        if given.only:
            jobs = [(number, job) for number, job in jobs if number in given.only]
            for number, job in jobs:
                print(f"{number}: {json.dumps(job)}", file=sys.stderr)
        if alone := shipped_by_one(old, new):
            print(f"shipped by one alone, not compared: {', '.join(alone)}", file=sys.stderr)
        last = jobs[-1][0] if jobs else 0

        def progress(number: int, so_far: Comparison) -> None:
            if number % 20 == 0 or number == last:
                different = len(so_far.different_jobs)
                print(f"{number} of {last} jobs, {different} different", file=sys.stderr)

        comparison = compare(old, new, jobs, given.allow, given.timeout, progress)
        if given.json:
            write_text(given.json, json.dumps(comparison.document(), indent=2) + "\n")
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    again = f"python -m archsim.testing.differential {given.old} {given.new} --seed {given.seed}"
    for line in lines(comparison, again):
        print(line)
    return 1 if comparison.found else 0


if __name__ == "__main__":
    sys.exit(main())
