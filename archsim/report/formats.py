"""How numbers, notes and warnings read, the same in every command's tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def number(value: float, digits: int = 4) -> str:
    """`digits` significant digits, thousands separators, no trailing zeros after the point."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4:
        return f"{value:.{digits - 1}g}"
    text = f"{value:,.{max(0, digits - 1 - exponent)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float) -> str:
    """A share as per cent, one decimal; what is more than nothing never reads as 0."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %"


def titled_table(title: str, *columns: tuple[str, int], name_width: int | None = None) -> Table:
    """A table whose first column holds names and whose head is its title."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(title, min_width=name_width)
    for head, width in columns:
        table.add_column(head, justify="right", min_width=width, no_wrap=True)
    return table


def note(text: str) -> Padding:
    """A note below a table."""
    return Padding(Text(text, style="dim"), (0, 0, 0, 2))


def cautions(notes: Iterable[str]) -> list[RenderableType]:
    """What was fitted for something else, before any figure."""
    lines = [Text(f"{line}.", style="yellow") for line in notes]
    return [Group(*lines)] if lines else []


def unread(names: Sequence[str], what: str = "this run") -> Text:
    """Parameters that nothing read, so that changing them would have changed nothing.

    The table on retention beside it takes some of them, which is said.
    """
    beside = [name for name in names if name.startswith("retention.") or name in TOKEN_TIME]
    but = f" (the table on retention alone takes {', '.join(beside)})" if beside else ""
    return Text(f"Not read by {what}: {', '.join(names)}{but}", style="yellow")


TOKEN_TIME = frozenset(
    {"digital.rate", "digital.weights", "digital.weight_bits", "digital.weight_bandwidth"}
)
"""Keys besides those of ``retention`` that its table reads, whatever the run does."""
