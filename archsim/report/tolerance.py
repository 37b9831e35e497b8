"""Terminal text of ``archsim retention``."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from archsim.accuracy.tolerance import CellTime, LossTolerance, Tolerances
from archsim.report.formats import note, number
from archsim.report.retention import duration, retention_table


def tolerance_text(found: Tolerances) -> Group:
    """What was measured on, the tolerances, the cells, and the hardware's own retention."""
    tau = found.retention.tau
    parts: list[RenderableType] = [
        _origin(found),
        Text(""),
        _tolerances(found),
        note(
            f"Rise of the loss above that at {found.trained:.3g} a token, {found.reference}, in "
            "nats; decay: of a deviation, a token, with the last one measured that holds and the "
            f"first that does not. Slowest token: at tau {duration(tau)}; tau needed: at a whole "
            "token's time."
        ),
        Text(""),
        _cells(found),
        note(
            "Slowest token at each rise, and the loss where a whole token takes its time: the "
            "circuits of this hardware with another tau."
        ),
        Text(""),
        retention_table(found.retention, "the hardware"),
    ]
    return Group(*parts)


def _origin(found: Tolerances) -> Group:
    material, window = found.material, found.hardware.config.window
    length = material.windows.shape[1] - 1
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row("model", found.subject.name)
    table.add_row("hardware", f"{found.hardware.name}, {found.hardware.sha256[:12]}")
    text = f"{material.name}: {len(material.windows)} windows of {length:,} tokens"
    table.add_row("text", f"{text}, each from empty cells")
    if not found.fills:
        table.add_row(
            "",
            Text(
                f"the hardware's window of {window:,} never fills (the model has "
                f"{found.positions:,} positions): cells seem to hold for longer than they would",
                style="yellow",
            ),
        )
    used = "" if found.used is None else f"; as the hardware is set {found.used:.3f}"
    table.add_row("loss", f"{found.base:.3f} at {found.trained:.3g} a token{used}")
    return Group(table)


def _tolerances(found: Tolerances) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("rise", "decay", "holds to", "not at", "slowest token", "tau needed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in found.tolerances:
        table.add_row(*_tolerance(found, each))
    return table


def _tolerance(found: Tolerances, each: LossTolerance) -> list[str]:
    needed = found.needed_tau(each)
    return [
        f"+{each.rise:g}",
        _decay(each.decay),
        _decay(each.holds),
        _decay(each.exceeds),
        "-" if each.decay is None else duration(each.decay * found.retention.tau),
        "-" if needed is None else duration(needed),
    ]


def _decay(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _cells(found: Tolerances) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("cells", no_wrap=True)
    rises = [f"+{each.rise:g}" for each in found.tolerances]
    for heading in ("tau", *rises, "loss, whole token"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in found.cells:
        table.add_row(*_cell(found, cell))
    return table


def _cell(found: Tolerances, cell: CellTime) -> list[str]:
    slowest = ["-" if seconds is None else duration(seconds) for seconds in cell.slowest]
    rise = (
        "-"
        if cell.whole_loss is None
        else f"{number(cell.whole_loss)} ({cell.whole_loss - found.base:+.3f})"
    )
    return [cell.name, duration(cell.tau), *slowest, rise]
