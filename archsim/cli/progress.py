"""Where a long command is, on standard error: a bar on a terminal, elsewhere a line now and then.

The one mechanism of all commands. Nothing is drawn by a thread: beside a thread no process is
forked.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

Progress = Callable[[str, int, int], None]
"""Told (step, done, total) by whatever takes long."""

FIRST_S, EVERY_S = 10.0, 30.0
"""Seconds until the first line where there is no terminal, and between two lines."""


class Lines:
    """Lines on standard error, seldom enough for a log; short runs print none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._due = self._began + FIRST_S

    def is_due(self) -> bool:
        """Whether it is time for a line; then the next one is due later."""
        now = self._clock()
        if now < self._due:
            return False
        self._due = now + EVERY_S
        return True

    def tell(self, step: str, done: int, total: int) -> None:
        """A line if one is due: step, how much of it, and since when the command runs."""
        if not self.is_due():
            return
        share = f", {done:,} of {total:,}" if total else ""
        click.echo(f"{step}{share}, {duration(self._clock() - self._began)}", err=True)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A transient bar on a terminal, else `Lines`."""
    if not sys.stderr.isatty():
        yield Lines().tell
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    # refreshed here and not by a thread of its own: beside a thread no process is forked
    with Bar(console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("loading", total=None)

        def progress(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total or None, refresh=True)

        yield progress
