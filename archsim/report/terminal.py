"""Printing to standard output, whatever its width: values wrap or change lines, none is cut.

A table that is too wide for the terminal narrows the columns that may wrap; where even their
longest words do not fit, it becomes a list. Only these tables depend on the width: JSON, CSV and
other files never do.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterable
from itertools import zip_longest

import click
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

DEFAULT_WIDTH = 80
NARROWEST, WIDEST = 40, 1000
"""What is laid out for; a terminal below that wraps the lines itself."""

FOLDED, WRAPPED = 16, 12
"""Widths that columns keep at least: of names that may be broken anywhere, and of words."""


def show(renderable: RenderableType) -> None:
    """Print to standard output; colour only on a terminal, no trailing blanks in a file or pipe."""
    console = Terminal(width=terminal_width(), highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        console.print(renderable)
        return
    with console.capture() as capture:
        console.print(renderable)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def terminal_width() -> int:
    """Columns to lay out for: ``COLUMNS`` if it is a number but 0, else the terminal's, else 80."""
    given = os.environ.get("COLUMNS", "")
    width = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    if not width:
        try:
            width = os.get_terminal_size(sys.stdout.fileno()).columns
        except (AttributeError, OSError, ValueError):  # no terminal, or not even a file
            width = 0
    return min(max(width or DEFAULT_WIDTH, NARROWEST), WIDEST)


class Terminal(Console):
    """A console on which tables fit, those inside other things too."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Segments of anything that can be printed."""
        if isinstance(renderable, Table):
            renderable = _fitting(renderable, self, options or self.options)
        return super().render(renderable, options)


def _fitting(table: Table, console: Console, options: ConsoleOptions) -> RenderableType:
    """The table if it fits, else narrower, else as a list."""
    room = options.max_width
    wide = options.update_width(10 * WIDEST)
    whole = Measurement.get(console, wide, table).maximum
    if whole <= room:
        return table
    spans = [_span(column, console, wide) for column in table.columns]
    left = room - (whole - sum(span.maximum for span in spans))  # less what is between columns
    if left < sum(span.minimum for span in spans):
        return Group(*_listed(table))
    narrower = copy.copy(table)
    narrower.columns = [copy.copy(column) for column in table.columns]
    for column, width in zip(narrower.columns, _widths(spans, left), strict=True):
        column.width = width
    return narrower


def _span(column: Column, console: Console, options: ConsoleOptions) -> Measurement:
    """The least and the most that a column needs, without what is between columns."""
    cells = [cell for cell in (column.header, *column.cells) if cell != ""]
    found = [Measurement.get(console, options, cell) for cell in cells]
    least = max((m.minimum for m in found), default=0)
    most = max((m.maximum for m in found), default=0)
    if column.overflow == "fold":
        least = min(least, FOLDED)
    least = most if column.no_wrap else max(least, min(most, WRAPPED))
    if column.width is not None:
        most = column.width
    elif column.max_width is not None:
        most = min(most, column.max_width)
    return Measurement(least, max(most, least, column.min_width or 0))


def _widths(spans: list[Measurement], left: int) -> list[int]:
    """A width for each column, `left` in all: the widest give way first, none below its least."""
    cap = max(span.maximum for span in spans)
    while sum(_capped(span, cap) for span in spans) > left:
        cap -= 1
    widths = [_capped(span, cap) for span in spans]
    for index, span in enumerate(spans):  # what the last step gave away too much
        more = min(left - sum(widths), span.maximum - widths[index])
        widths[index] += max(more, 0)
    return widths


def _capped(span: Measurement, cap: int) -> int:
    return min(span.maximum, max(span.minimum, cap))


def _listed(table: Table) -> Iterable[RenderableType]:
    """The rows one after another: the first cell, and below it each other one with its heading."""
    headings = [_text(column.header) for column in table.columns]
    rows = list(zip_longest(*(column.cells for column in table.columns), fillvalue=""))
    numbers_first = bool(headings and headings[0]) and table.columns[0].justify == "right"
    if any(headings) and not numbers_first:
        yield Text(headings[0], style="bold")
    for number, (row, cells) in enumerate(zip(table.rows, rows, strict=True)):
        if number and numbers_first:
            yield Text("")
        tables = [cell for cell in cells if not isinstance(cell, str | Text)]
        if tables:  # tables beside each other come below each other
            yield from (cell for cell in cells if cell != "")
        elif any(headings):
            yield from _headed(headings, cells, str(row.style or ""), numbers_first)
        else:
            name, *values = (_text(cell) for cell in cells)
            yield Text(name, style=str(table.columns[0].style or ""))
            if text := " ".join(value for value in values if value):
                yield _indented(text)


def _headed(
    headings: list[str],
    cells: tuple[RenderableType, ...],
    style: str,
    numbers_first: bool,
) -> Iterable[RenderableType]:
    for place, (heading, cell) in enumerate(zip(headings, cells, strict=True)):
        text = _text(cell)
        if place == 0 and not numbers_first:
            yield Text(text, style=style)
        elif text:
            line = f"{heading}: {text}" if heading else text
            yield Text(line) if numbers_first else _indented(line)


def _text(cell: RenderableType) -> str:
    text = cell.plain if isinstance(cell, Text) else str(cell)
    return ", ".join(line.rstrip() for line in text.split("\n") if line.strip())


def _indented(text: str) -> Padding:
    return Padding(Text(text), (0, 0, 0, 4))
