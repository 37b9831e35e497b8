"""How far a sweep is, on standard error while it runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from archsim.cli.progress import Lines, duration

if TYPE_CHECKING:
    from archsim.sweeps.definition import Sweep
    from archsim.sweeps.driver import Report, Tally
    from archsim.sweeps.point import Outcome


@contextmanager
def sweep_progress(sweep: Sweep, quiet: bool) -> Iterator[Report | None]:
    """A live line on a terminal; elsewhere a line each tenth or half minute, on standard error."""
    if quiet:
        yield None
        return
    from archsim.sweeps.axes import WORKLOAD_KEYS

    several = any(axis.key in WORKLOAD_KEYS for axis in sweep.axes)
    first = next((o for o in sweep.objectives if not (o.against_ideal or several)), None)
    best: list[float] = []
    what = "points and losses" if sweep.measures_loss else "points"

    def watch(new: Sequence[Outcome]) -> None:
        if first is None:  # nothing that compares over all points
            return
        values = [first.value(o.results) for o in new if o.results is not None]
        found = [*best, *(value for value in values if value is not None)]
        if found:
            best[:] = [min(found, key=lambda value: first.sign * value)]

    def text(tally: Tally) -> str:
        left = tally.seconds_left
        parts = [
            f"{tally.done:,} of {tally.total:,} {what}",
            f"{tally.failed:,} failed" if tally.failed else "",
            f"{tally.rate:.3g}/s" if tally.ran else "",
            f"{duration(left)} left" if left is not None and tally.done < tally.total else "",
            f"best {first.name} {best[0]:.4g}" if first is not None and best else "",
        ]
        return ", ".join(part for part in parts if part)

    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (BarColumn(20), TextColumn("{task.description}"))
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("preparing", total=None)

            def live(tally: Tally, new: Sequence[Outcome]) -> None:
                watch(new)
                bar.update(task, total=tally.total, completed=tally.done, description=text(tally))

            yield live
        return
    share, written = [-1], Lines()

    def lines(tally: Tally, new: Sequence[Outcome]) -> None:
        watch(new)
        tenth = 10 * tally.done // max(tally.total, 1)
        if written.is_due() or tenth != share[0]:
            share[0] = tenth
            click.echo(text(tally), err=True)

    yield lines
