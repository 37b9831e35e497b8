"""Tables and figures of ``archsim evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.evaluation.accuracy import Evaluation
from archsim.evaluation.closed_loop import Row
from archsim.report.charts import chart_tools
from archsim.report.tables import note, unread

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

PROBES = {
    "copy_random": "copy",
    "copy_text": "text",
    "recall": "recall",
}
"""Probe to its heading in the table."""

WORDS = "Losses in nats a token. +software, top-1 and KL: against the software model."

PROBE_WORDS = (
    "copy: random tokens that came before, at all distances and at each (in tokens); text: real "
    "text that came before, and by how many nats its second copy is cheaper than the first; "
    "recall: values asked by key."
)

NOTES = {
    "software": "the software model, softmax attention",
    "control": "the software model given the same further training",
    "ideal": "sliding-window HardSigmoid, nothing quantised or clipped",
    "linear": "linear cell; levels, clamps, saturation and decay of the hardware",
    "polynomial": "the same with the cell's cubic current law",
    "hardware": "the hardware exactly as configured",
}


def summary(evaluation: Evaluation) -> RenderableType:
    """What a person reads: origin, rows, loss by position, copies by distance."""
    from rich.console import Group

    parts: list[RenderableType] = [_origin(evaluation), "", _rows(evaluation)]
    parts += [_explained(evaluation), "", _positions(evaluation.rows)]
    if evaluation.rows[0].probes:
        parts += ["", _probes(evaluation.rows), note(PROBE_WORDS)]
    parts += ["", unread(evaluation.unread)] if evaluation.unread else []
    return Group(*parts)


def sweep_summary(evaluation: Evaluation) -> RenderableType:
    """Origin and one line a combination."""
    from rich.console import Group
    from rich.table import Table

    software, *rows = evaluation.rows
    table = Table(box=None, pad_edge=False)
    table.add_column("setting", overflow="fold", max_width=44)
    for heading in ("loss", "+software", "top-1 %", "KL"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in (software, *rows):
        table.add_row(
            row.name,
            f"{row.loss:.3f}",
            f"{row.loss - software.loss:+.3f}",
            f"{100 * row.top1_agreement:.1f}",
            f"{row.kl:.3f}",
        )
    told: list[RenderableType] = ["", unread(evaluation.unread)] if evaluation.unread else []
    return Group(_origin(evaluation), "", table, *told)


def _origin(evaluation: Evaluation) -> Table:
    from rich.table import Table

    material = evaluation.material
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    length = material.windows.shape[1] - 1
    for label, value in (
        ("model", evaluation.subject.name),
        ("hardware", f"{evaluation.hardware.name}, {evaluation.hardware.sha256[:12]}"),
        ("text", f"{material.name}: {len(material.windows)} windows of {length:,} tokens"),
        ("scalers", evaluation.subject.scalers_from),
    ):
        table.add_row(label, value)
    return table


def _rows(evaluation: Evaluation) -> Table:
    from rich.table import Table

    software = evaluation.rows[0]
    table = Table(box=None, pad_edge=False)
    table.add_column("row", no_wrap=True, min_width=12)
    for heading in ("loss", "+software", "ppl", "bits/char", "top-1 %", "KL"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in evaluation.rows:
        table.add_row(
            row.name,
            f"{row.loss:.3f}",
            f"{row.loss - software.loss:+.3f}",
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
    lines = [
        f"{row.name}: {titles.get(row.name) or NOTES.get(row.name, '')}" for row in evaluation.rows
    ]
    return Group(*(note(line) for line in lines), note(WORDS))


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

    prefix = "copy_random_"
    distances = [
        name.removeprefix(prefix)
        for name in rows[0].probes
        if name.startswith(prefix) and name.removeprefix(prefix).isdigit()
    ]
    table = Table(box=None, pad_edge=False)
    table.add_column("probes, % right", no_wrap=True)
    for heading in (*PROBES.values(), *(f"at {distance}" for distance in distances), "text gain"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            *(f"{row.probes[name]:.1f}" for name in PROBES),
            *(f"{row.probes[prefix + distance]:.1f}" for distance in distances),
            f"{row.probes['copy_text_gain']:.2f}",
        )
    return table


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
