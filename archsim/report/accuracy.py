"""Tables and figures of ``archsim evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.accuracy.closed_loop import Row
from archsim.accuracy.evaluation import ByText, Evaluation
from archsim.models.texts import MEANING
from archsim.report.charts import chart_tools
from archsim.report.formats import cautions, note, unread
from archsim.report.retention import retention_table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

PROBES = {
    "copy_random": "copy",
    "copy_text": "text",
    "recall": "recall",
}
"""Probe to its heading in the table."""

WORDS = (
    "Losses in nats a token; +- is a standard error over {unit}s. +software, top-1 and KL: against "
    "the software model, {unit} by {unit}."
)

PROBE_WORDS = (
    "copy: random tokens that came before, at all distances and at each (in tokens); text: real "
    "text that came before, and by how many nats its second copy is cheaper than the first; "
    "recall: values asked by key. +- is a standard error over sequences."
)

NOTES = {
    "software": "the software model, softmax attention",
    "control": "the software model given the same further training",
    "linear_unclipped": "linear cell, sliding-window HardSigmoid; no levels, no clamps, no decay",
    "linear": "linear cell; levels, clamps, saturation and decay of the hardware",
    "polynomial": "the same with the cell's cubic current law",
    "hardware": "the hardware exactly as configured",
}


def summary(evaluation: Evaluation, every_stage: bool = False) -> RenderableType:
    """What a person reads: origin, rows, texts apart, loss by position, probes."""
    from rich.console import Group

    parts: list[RenderableType] = [_origin(evaluation), *cautions(evaluation.notes)]
    parts += ["", _rows(evaluation)]
    parts += [_explained(evaluation), "", *_by_text(evaluation, every_stage)]
    parts += ["", _positions(evaluation.rows)]
    if evaluation.rows[0].probes:
        parts += ["", _probes(evaluation.rows), "", _distances(evaluation.rows), note(PROBE_WORDS)]
        parts += _recall_claims(evaluation)
    parts += ["", retention_table(evaluation.retention)]
    parts += ["", unread(evaluation.unread)] if evaluation.unread else []
    return Group(*parts)


def sweep_summary(evaluation: Evaluation) -> RenderableType:
    """Origin and one line a combination."""
    from rich.console import Group
    from rich.table import Table

    software, *rows = evaluation.rows
    table = Table(box=None, pad_edge=False)
    table.add_column("setting", overflow="fold", max_width=36)
    for heading in ("loss", "+software", "+-", "KL"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("scalers", no_wrap=True)
    for row in (software, *rows):
        table.add_row(
            row.name,
            f"{row.loss:.3f}",
            f"{row.above:+.3f}",
            _error(row.above_error),
            f"{row.kl:.3f}",
            row.scalers,
        )
    kept = retention_table(evaluation.retention, "before a key varies")
    told: list[RenderableType] = ["", unread(evaluation.unread)] if evaluation.unread else []
    return Group(
        _origin(evaluation),
        *cautions(evaluation.notes),
        "",
        table,
        note(SWEEP_WORDS),
        "",
        kept,
        *told,
    )


SWEEP_WORDS = (
    "Each row has the loss that --set of the same value gives. scalers: what they and the weights "
    "were made for: the final ones for the polynomial cell, those of the linear stage for the "
    "linear cell, unchanged by any other key; of a model that was not adapted, searched for each "
    "row's own hardware. +- is a standard error of +software over windows."
)


def _error(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _origin(evaluation: Evaluation) -> Table:
    from rich.table import Table

    material = evaluation.material
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    count, longest = int(material.counted.sum()), int(material.lengths.max())
    same = bool((material.lengths == longest).all())
    counted = [text.name for text in material.texts if text.use != "held_out"]
    shown = ", ".join(counted or [material.name])
    size = f"{count:,} windows of {'' if same else 'up to '}{longest:,} tokens"
    for label, value in (
        ("model", evaluation.subject.name),
        ("hardware", f"{evaluation.hardware.name}, {evaluation.hardware.sha256[:12]}"),
        ("text", f"{shown}: {size}"),
        ("scalers", evaluation.subject.scalers_from),
    ):
        table.add_row(label, value)
    return table


def _rows(evaluation: Evaluation) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("row", no_wrap=True, min_width=12)
    for heading in ("loss", "+software", "+-", "ppl", "bits/char", "top-1 %", "KL"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in evaluation.rows:
        table.add_row(
            row.name,
            f"{row.loss:.3f}",
            f"{row.above:+.3f}",
            _error(row.above_error),
            f"{row.perplexity:.1f}" if row.perplexity < 1e5 else ">1e5",
            "-" if row.bits_per_char is None else f"{row.bits_per_char:.3f}",
            f"{100 * row.top1_agreement:.1f}",
            f"{row.kl:.3f}",
        )
    return table


def _explained(evaluation: Evaluation) -> RenderableType:
    from rich.console import Group

    adapted = evaluation.subject.adapted
    titles = {} if adapted is None else {s.name: s.title for s in adapted.manifest.stages}
    lines = []
    for row in evaluation.rows:
        words = NOTES.get(row.name, "") if row.name in NOTES else titles.get(row.name, "")
        scalers = f"; scalers: {row.scalers}" if row.name in NOTES and row.scalers else ""
        lines.append(f"{row.name}: {words}{scalers}")
    words = WORDS.format(unit=evaluation.material.unit)
    return Group(*(note(line) for line in lines), note(words))


SHOWN_TEXTS = 16


def _by_text(evaluation: Evaluation, every_stage: bool) -> list[RenderableType]:
    """One line a text: the last row, or with `every_stage` each that is no software model."""
    from rich.table import Table

    chosen = [row for row in evaluation.rows if row.scalers] if every_stage else []
    table = Table(box=None, pad_edge=False)
    table.add_column("by text", no_wrap=True)
    for heading in ("windows", "loss", "+software", "+-", "+control", "+-"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    left = 0
    for row in chosen or evaluation.rows[-1:]:
        if every_stage:
            table.add_row(f"[bold]{row.name}[/bold]")
        parts = evaluation.by_text(row)
        left = len(parts) - SHOWN_TEXTS
        for part in parts[:SHOWN_TEXTS]:
            table.add_row(*_text_cells(part.text.name, part), MEANING[part.text.use])
        table.add_row(*_mean_cells(evaluation, row))
    words = f"Row {evaluation.rows[-1].name}. " if not every_stage else ""
    if any(text.use == "recipe" for text in evaluation.material.texts):
        words += "The mean is over all windows but held-out text. "
    if left > 0:
        words += f"{left:,} more texts: --json."
    return [table, *([note(words.strip())] if words else [])]


def _text_cells(name: str, part: ByText) -> tuple[str, ...]:
    control = part.above_control
    return (
        f"  {name}",
        f"{part.windows:,}",
        f"{part.loss.mean:.3f}",
        f"{part.above_software.mean:+.3f}",
        _error(part.above_software.error),
        "-" if control is None else f"{control.mean:+.3f}",
        "-" if control is None else _error(control.error),
    )


def _mean_cells(evaluation: Evaluation, row: Row) -> tuple[str, ...]:
    control = evaluation.above_control(row)
    return (
        "  mean",
        f"{int(row.counted.sum()):,}",
        f"{row.loss:.3f}",
        f"{row.above:+.3f}",
        _error(row.above_error),
        "-" if control is None else f"{control.mean:+.3f}",
        "-" if control is None else _error(control.error),
        "",
    )


def _positions(rows: Sequence[Row]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("loss at position", no_wrap=True)
    for name in rows[0].loss_by_position:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *(f"{value:.3f}" for value in row.loss_by_position.values()))
    return table


def _probes(rows: Sequence[Row]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("probes, % right", no_wrap=True)
    for heading in PROBES.values():
        table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("+-", justify="right", no_wrap=True)
    table.add_column("text gain", justify="right", no_wrap=True)
    for row in rows:
        errors = row.probe_errors()
        cells = [(f"{row.probes[name]:.1f}", _error(errors[name], 1)) for name in PROBES]
        gain = f"{row.probes['copy_text_gain']:.2f}"
        table.add_row(row.name, *(cell for pair in cells for cell in pair), gain)
    return table


def _distances(rows: Sequence[Row]) -> Table:
    from rich.table import Table

    prefix = "copy_random_"
    distances = [
        name.removeprefix(prefix)
        for name in rows[0].probes
        if name.startswith(prefix) and name.removeprefix(prefix).isdigit()
    ]
    table = Table(box=None, pad_edge=False)
    table.add_column("copy, % right", no_wrap=True)
    for distance in distances:
        table.add_column(f"at {distance}", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *(f"{row.probes[prefix + d]:.1f}" for d in distances))
    return table


def _recall_claims(evaluation: Evaluation) -> list[RenderableType]:
    """The last row's probes against the control's (else the software's), where they differ."""
    other = evaluation.control or evaluation.rows[0]
    row, parts = evaluation.rows[-1], []
    for name, heading in PROBES.items():
        apart = row.probe_above(other, name)
        shown = f"{heading} {apart.mean:+.1f} +- {_error(apart.error, 1)}"
        if not apart.is_clear:
            shown += ", no claim"
        parts.append(shown)
    words = "no claim: within two standard errors, or one sequence alone"
    return [note(f"{row.name} minus {other.name}, points: {'; '.join(parts)} ({words}).")]


def sweep_chart(evaluation: Evaluation, axes: dict[str, Sequence[Any]]) -> Any:
    """Loss above the software model over the first axis, one line for each value of the others.

    Raises MissingExtraError without Altair.
    """
    altair, _ = chart_tools()
    software, *rows = evaluation.rows
    points = []
    for row in rows:
        setting = dict(part.split("=", 1) for part in row.name.split(", "))
        first, *others = axes
        points.append(
            {
                first: setting[first],
                "line": ", ".join(f"{key}={setting[key]}" for key in others) or "all",
                "loss": row.loss - software.loss,
            }
        )
    first = next(iter(axes))
    order = [str("null" if value is None else value) for value in axes[first]]
    chart = altair.Chart(altair.Data(values=points)).mark_line(point=True)
    return chart.encode(
        x=altair.X(f"{_escaped(first)}:N", sort=order, title=first),
        y=altair.Y(
            "loss:Q",
            title="loss above software, nats",
            scale=altair.Scale(type="symlog", constant=0.1),
        ),
        color=altair.Color("line:N", title=None),
    ).properties(width=420, height=280)


def _escaped(name: str) -> str:
    return name.replace(".", "\\.")


def save_chart(chart: Any, path: Path) -> None:
    """Write PNG or SVG, whole or not at all."""
    from archsim.files import atomic_path

    kind = path.suffix.removeprefix(".").lower()
    mode = "wb" if kind == "png" else "w"
    with atomic_path(path) as temporary, temporary.open(mode) as stream:
        chart.save(stream, format=kind)
