"""``python -m benchmarks against CHECKOUT``: this version beside another one, turn by turn.

Every figure is CPU time in fresh processes on one core and one thread, one version after the other
in changing order, so that what else the machine does meets both. Of each pair of runs the ratio is
taken; of all ratios the median, and the interval that holds the true median in 95 % of cases,
whatever the distribution. Exit status 1 if anything is slower than `LIMIT`.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from archsim.errors import ConfigError
from archsim.files import write_text
from archsim.testing.worker import checked, environment
from benchmarks.start import cpu

HERE = Path(__file__).resolve().parents[1]
SCRIPT = Path(__file__).with_name("inside.py")
LIMIT = 1.03
CONFIDENCE = 0.95
DECLARATIONS = ("archsim.timing.declaration", "archsim.timing.model")
"""The module that declares the schedule, and what it was called before."""

Measure = Callable[[Path], float]
"""CPU seconds of one run of a checkout."""


def inside(piece: str, compiled: bool, checkout: Path) -> float:
    """CPU seconds of a piece of work, everything loaded."""
    variables = {**environment(checkout), "ARCHSIM_COMPILED": str(int(compiled))}
    command = [sys.executable, "-P", str(SCRIPT), piece]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=variables, check=False)
    if run.returncode:
        raise ConfigError(f"{checkout}: {piece}: exit status {run.returncode}")
    return float(run.stdout)


def process(words: list[str], checkout: Path) -> float:
    """CPU seconds of a whole interpreter."""
    return cpu(["-P", *words], environment(checkout))


def pieces() -> dict[str, Measure]:
    """What is measured, by its name."""
    found: dict[str, Measure] = {}
    ways = {"numpy alone": False, "[fast]": True} if find_spec("numba") else {"numpy alone": False}
    for way, compiled in ways.items():
        found[f"function, {way}"] = partial(inside, "function", compiled)
        found[f"timing, {way}"] = partial(inside, "timing", compiled)
    found["timing, events"] = partial(inside, "events", False)
    words = ["-m", "archsim", "simulate", "-t", "reference", "--tokens", "512", "--json"]
    found["end to end"] = partial(process, words)
    found["archsim --help"] = partial(process, ["-m", "archsim", "--help"])
    found["import archsim"] = partial(process, ["-c", "import archsim"])
    found["import of the declaration"] = import_declaration
    return found


def import_declaration(checkout: Path) -> float:
    """CPU seconds of importing what declares the schedule, whatever a version calls it."""
    there = [name for name in DECLARATIONS if _has(checkout, name)]
    if not there:
        raise ConfigError(f"{checkout}: none of {', '.join(DECLARATIONS)} to import")
    return process(["-c", f"import {there[0]}"], checkout)


def _has(checkout: Path, module: str) -> bool:
    path = checkout.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


@dataclass(frozen=True)
class Ratio:
    """New over old: the median of pairs, and where it lies with `CONFIDENCE`."""

    old_s: float
    new_s: float
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        if self.high <= LIMIT:
            return f"within {(LIMIT - 1) * 100:.0f} %"
        return "slower" if self.low > LIMIT else "undecided"


def ratio_of(old: Sequence[float], new: Sequence[float]) -> Ratio:
    """The ratio of runs that were made in pairs; at least 6 of them bound it."""
    ratios = sorted(theirs / mine for mine, theirs in zip(old, new, strict=True))
    beyond = outside(len(ratios))
    low, high = (ratios[beyond - 1], ratios[-beyond]) if beyond else (0.0, math.inf)
    return Ratio(median(old), median(new), median(ratios), low, high)


def outside(count: int) -> int:
    """The k for which the k-th smallest and k-th largest of `count` values enclose the median.

    With `CONFIDENCE`: each value lies below the median as a coin falls. 0 where there are too few.
    """
    k, tail = 0, 0.0
    while (tail := tail + math.comb(count, k) / 2**count) <= (1 - CONFIDENCE) / 2:
        k += 1
    return k


def measure(
    old: Path, new: Path, rounds: int, measured: dict[str, Measure], console: Console
) -> dict[str, Ratio]:
    """All pieces of both, round by round."""
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in measured}
    for turn in range(rounds + 1):
        for name, run in measured.items():
            sides = list(zip((old, new), times[name], strict=True))
            for checkout, kept in sides if turn % 2 else reversed(sides):
                seconds = run(checkout)
                if turn:  # the first round compiles, and warms the disk's cache
                    kept.append(seconds)
        console.print(f"round {turn} of {rounds}", style="dim")
    return {name: ratio_of(*pair) for name, pair in times.items()}


def main(arguments: list[str]) -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks against", description=__doc__)
    parser.add_argument("old", type=Path, metavar="CHECKOUT", help="a folder with archsim's source")
    parser.add_argument("--new", type=Path, default=HERE, help="instead of this checkout")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="pairs of runs (15)")
    parser.add_argument("--only", metavar="WORD", default="", help="pieces with a word in the name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    given = parser.parse_args(arguments)
    try:
        old, new = checked(given.old), checked(given.new)
        measured = {name: run for name, run in pieces().items() if given.only in name}
        if given.rounds < 1 or not measured:
            parser.error("nothing to measure")
        found = measure(old, new, given.rounds, measured, Console(stderr=True))
        if given.json:
            document = {name: {**asdict(r), "verdict": r.verdict} for name, r in found.items()}
            write_text(given.json, json.dumps(document, indent=2) + "\n")
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    Console().print(table(found, given.rounds))
    return int(any(r.verdict == "slower" for r in found.values()))


def table(found: dict[str, Ratio], rounds: int) -> Table:
    """A line for each piece."""
    title = f"CPU time, {rounds} pairs of runs; what is undecided needs more --rounds"
    shown = Table(title=title, title_justify="left", box=None, title_style="")
    for index, column in enumerate(("", "old ms", "new ms", "new/old", "95 %", "")):
        shown.add_column(column, justify="right" if 0 < index < 5 else "left", no_wrap=True)
    for name, r in found.items():
        times = (f"{r.old_s * 1e3:,.0f}", f"{r.new_s * 1e3:,.0f}")
        interval = f"{r.low:.3f}-{r.high:.3f}" if r.low else "too few"
        shown.add_row(name.replace("[", r"\["), *times, f"{r.ratio:.3f}", interval, r.verdict)
    return shown
