"""What goes wrong on purpose: workers that die, points that hang, a driver that is killed.

``python faults.py STORE TRACE LOG WORKERS COMMIT`` runs a small sweep as a driver of its own. It
writes ``run KEY`` to LOG before a point is run and ``ack KEY`` after its result is stored, and
kills itself between a result and its commit, at the COMMIT-th one (0: never).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from archsim.sweeps import runner
from archsim.sweeps.axes import list_axis
from archsim.sweeps.definition import Sweep, quick_sweep
from archsim.sweeps.point import Job, Outcome, run_job
from archsim.sweeps.pool import Pool
from archsim.sweeps.store import Store

DRIVEN = 60
"""Points of a driver's sweep: too many to be done before it was killed ten times."""


def small_sweep(trace: Path, points: int = 24) -> Sweep:
    """Points that differ in timing alone."""
    pulses = [f"{1 + i} ns" for i in range(points // 3)]
    axes = [
        list_axis("write_path.pulse", pulses),
        list_axis("accumulator.time", ["5 ns", "10 ns", "20 ns"]),
    ]
    return quick_sweep(axes, trace=str(trace), name="small")


def note(path: Path, line: str) -> None:
    """Append a line at once, whatever other processes append."""
    with path.open("a") as stream:
        stream.write(line + "\n")


def logged(log: Path, job: Job) -> Outcome:
    """A run that leaves a line, and takes a little time."""
    note(log, f"run {job.key}")
    time.sleep(0.02)
    return run_job(job)


def fragile(folder: Path, job: Job) -> Outcome:
    """Dies always at a pulse of 3 ns, and once at 5 ns; sleeps for long at 6 ns."""
    pulse = job.parameters.get("write_path.pulse")
    once = folder / job.key
    if pulse == "3 ns" or (pulse == "5 ns" and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if pulse == "6 ns":
        time.sleep(60)
    return run_job(job)


def fickle(folder: Path, job: Job) -> Outcome:
    """Runs once; after that dies at a pulse of 3 ns and sleeps for long at 6 ns."""
    again = folder / job.key
    if not again.exists():
        again.touch()
        return run_job(job)
    return fragile(folder, job)


def drive(store: Path, trace: Path, log: Path, workers: int, commit: int) -> None:
    """A driver that acknowledges, and may kill itself before a commit."""
    saves = 0
    save, committed = Store.save, Store._commit

    def acknowledged(self: Store, outcomes: list[Outcome]) -> None:
        nonlocal saves
        saves += bool(outcomes)
        save(self, outcomes)
        for outcome in outcomes:
            note(log, f"ack {outcome.key}")

    def killed(self: Store) -> None:
        if commit and saves == commit:
            os.kill(os.getpid(), signal.SIGKILL)
        committed(self)

    Store.save = acknowledged  # type: ignore[method-assign]
    Store._commit = killed  # type: ignore[method-assign]
    runner.Pool = partial(Pool, run=partial(logged, log))  # type: ignore[misc, assignment]
    done = runner.explore(small_sweep(trace, DRIVEN), store, workers=workers)
    assert done.complete


if __name__ == "__main__":
    drive(*map(Path, sys.argv[1:4]), int(sys.argv[4]), int(sys.argv[5]))
