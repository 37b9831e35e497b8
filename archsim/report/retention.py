"""The line that sets a run's retention beside a whole token's time, the same in every command."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from archsim.report.formats import note, number, percent
from archsim.retention import Fading, Retention
from archsim.units import MICROSECOND, NANOSECOND


def retention_table(
    retention: Retention, whose: str = "this run", alone: Retention | None = None
) -> Group:
    """What the oldest token keeps at the decay that was used, and at a whole token's time.

    `whose` is the first row's name; `alone` is of one sequence where `retention` is of a batch. One
    warning at most, see `Retention.warning`.
    """
    tau = retention.tau
    cells = f"tau {duration(tau)}"
    if math.isfinite(retention.refreshed):
        cells += f", refreshed every {duration(retention.refreshed)} (oldest keeps counts that)"
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(f"Retention, window {retention.window:,}", min_width=28)
    for heading in ("us/token", "token/tau", "window/tau", "oldest keeps"):
        table.add_column(heading, justify="right", no_wrap=True)
    name = f"{whose} ({retention.model})"
    if retention.used is None:
        table.add_row(name, "its own clock", "-", "-", "-")
    else:
        table.add_row(name, *_cells(retention.used, tau))
    parts: list[RenderableType] = [table]
    if retention.token is not None and retention.whole is not None:
        if alone is not None and alone.whole is not None:
            table.add_row("a whole token (assumed)", *_cells(alone.whole, tau))
        batch = retention.token.batch
        step = "a whole token" if batch == 1 else f"a step of {batch:,}"
        table.add_row(f"{step} (assumed)", *_cells(retention.whole, tau))
        parts.append(note(f"{cells}. {_sentence(retention.token.words)}."))
    else:
        parts.append(note(f"{cells}. A whole token's time: {retention.unknown}."))
    if retention.warning is not None:
        parts.append(warning(retention.warning))
    return Group(*parts)


def warning(text: str) -> Text:
    """A warning in the one form that commands print."""
    return Text(f"Warning: {text}.", style="yellow")


def duration(seconds: float) -> str:
    """Seconds as text in the unit that reads best: ``5 ms``, ``151.7 us``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size * (1 - 1e-12):
            return f"{number(seconds / size)} {unit}"
    return f"{number(NANOSECOND.of(seconds))} ns"


def _cells(fading: Fading, tau: float) -> tuple[str, str, str, str]:
    period = MICROSECOND.of(fading.decay_per_token * tau)
    return (
        number(period),
        f"{fading.decay_per_token:.3g}",
        number(fading.over_window, 3),
        percent(fading.oldest),
    )


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
