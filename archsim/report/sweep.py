"""A sweep for people and programs: tables at 80 columns, one JSON document, rows for export."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from archsim.config.hardware import load_hardware
from archsim.report.retention import retention_table
from archsim.report.tables import note, number, percent
from archsim.retention import Retention, retention_of
from archsim.sweep.analysis import (
    Effect,
    budget,
    goal_objective,
    hypervolume,
    paper_beaten,
    pareto,
    sensitivity,
)
from archsim.sweep.axes import RUN_KEYS
from archsim.sweep.definition import Sweep
from archsim.sweep.exploration import Exploration, Point
from archsim.sweep.expression import Value
from archsim.sweep.figures import Objective, figure_names, unit_of_figure

SCHEMA_VERSION = 1
SHOWN_FRONT, SHOWN_REASONS = 20, 5


def axis_labels(keys: Sequence[str]) -> dict[str, str]:
    """The shortest ending of each dotted key that tells it from the others."""
    labels = {}
    for key in keys:
        parts = key.split(".")
        for count in range(1, len(parts) + 1):
            label = ".".join(parts[-count:])
            if sum(other == label or other.endswith("." + label) for other in keys) == 1:
                break
        labels[key] = label
    return labels


def value_text(value: Value) -> str:
    """A parameter as a reader sees it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def design_text(parameters: Mapping[str, Value], labels: Mapping[str, str]) -> str:
    """Parameters on one line: ``rows 64, columns 32``."""
    return ", ".join(f"{labels[key]} {value_text(value)}" for key, value in parameters.items())


def objective_unit(o: Objective) -> str:
    """Unit of an objective that is a figure; nothing for an expression."""
    return unit_of_figure(o.expression.text)


def is_paper(exploration: Exploration, point: Point) -> bool:
    """Whether a point is the published design, however its parameters were written."""
    return point.key == exploration.paper.key


def sweep_text(exploration: Exploration, store: str) -> Group:
    """All tables: counts, Pareto front, sensitivity, points without results."""
    parts: list[RenderableType] = [_head(exploration, store), Text(""), *_front(exploration)]
    effects = sensitivity(exploration)
    if effects:
        parts += [Text(""), *_effects(effects)]
    if exploration.sweep.measures_loss:
        parts += [Text(""), retention_table(_retention(exploration.sweep), "before axes vary")]
    reasons = _reasons(exploration)
    if reasons:
        parts += [Text(""), *reasons]
    return Group(*parts)


def _retention(sweep: Sweep) -> Retention:
    """What the hardware forgets that a sweep starts from."""
    return retention_of(load_hardware(sweep.hardware, dict(sweep.fixed)))


def _head(exploration: Exploration, store: str) -> Table:
    sweep = exploration.sweep
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    counts = ", ".join(f"{count:,} {name}" for name, count in exploration.counts.items())
    method = f"{sweep.method}{' ' + sweep.sampler if sweep.method == 'search' else ''}"
    table.add_row("sweep", f"{sweep.name}, {method}: {len(exploration.points):,} points ({counts})")
    labels = axis_labels([axis.key for axis in sweep.axes])
    for axis in sweep.axes:
        if axis.values is None:
            ends = (value_text(axis.at(0.0)), value_text(axis.at(1.0)))
            text = f"{ends[0]} .. {ends[1]}{', logarithmic' if axis.log else ''}"
        else:
            text = ", ".join(value_text(value) for value in axis.values[:8])
            if len(axis.values) > 8:
                text += f", ... {value_text(axis.values[-1])} ({len(axis.values)})"
        table.add_row("axis" if axis is sweep.axes[0] else "", f"{labels[axis.key]}: {text}")
    fixed = ", ".join(f"{key} {value_text(value)}" for key, value in sweep.fixed.items())
    run = f"{sweep.hardware}, trace {sweep.trace}, {sweep.order}"
    table.add_row("from", f"{run}{'; ' + fixed if fixed else ''}")
    table.add_row("store", store)
    return table


def _front(exploration: Exploration) -> Iterable[RenderableType]:
    sweep = exploration.sweep
    front = pareto(exploration)
    labels = axis_labels(list(exploration.points[0].parameters) if exploration.points else [])
    if not front:
        yield Text("Pareto front: no point has every objective")
        return
    goals = ", ".join(
        f"{'low' if o.direction == 'minimise' else 'high'} {o.name}" for o in sweep.objectives
    )
    volume = hypervolume(exploration)
    yield Text(
        f"Pareto front: {len(front):,} of {len(exploration.points):,} points ({goals})",
        style="bold",
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for o in sweep.objectives:
        table.add_column(f"{o.name}\n{objective_unit(o)}", justify="right", no_wrap=True)
    table.add_column("design", overflow="fold")
    shown = front
    if len(front) > SHOWN_FRONT:  # evenly along the first objective, both ends included
        step = (len(front) - 1) / (SHOWN_FRONT - 1)
        shown = [front[round(i * step)] for i in range(SHOWN_FRONT)]
    marked = False
    for index in shown:
        point = exploration.points[index]
        design = design_text(point.parameters, labels)
        if is_paper(exploration, point):
            design, marked = f"{design}  (published)", True
        table.add_row(*_objective_cells(point, sweep), design)
    if not marked and exploration.paper.status == "ok":
        text = "published design, " + ("beaten" if paper_beaten(exploration) else "not beaten")
        table.add_row(*_objective_cells(exploration.paper, sweep), Text(text, style="dim"))
    yield table
    notes = []
    if len(shown) < len(front):
        notes.append(f"{len(shown)} of {len(front)} shown; --json and the files have all.")
    if volume is not None:
        about = "about " if volume.sampled else ""
        notes.append(
            f"Hypervolume: the front dominates {about}{percent(volume.share)} of the box between "
            "the best and the worst value of each objective."
        )
    if "energy" in (o.name for o in sweep.objectives):
        notes.append("Energy is of one token in one head, area of one head.")
    if notes:
        yield note(" ".join(notes))


def _objective_cells(point: Point, sweep: Sweep) -> list[str]:
    values = [o.value(point.results or {}) for o in sweep.objectives]
    return ["-" if value is None else number(value) for value in values]


def _effects(effects: Sequence[Effect]) -> Iterable[RenderableType]:
    sobol = any(effect.first is not None for effect in effects)
    labels = axis_labels(list(dict.fromkeys(effect.axis for effect in effects)))
    yield Text("Sensitivity", style="bold")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("objective", no_wrap=True)
    table.add_column("axis", overflow="fold")
    table.add_column("explains", justify="right", no_wrap=True)
    if sobol:
        table.add_column("S1", justify="right", no_wrap=True)
        table.add_column("ST", justify="right", no_wrap=True)
    table.add_column("best mean, at", overflow="fold")
    table.add_column("worst mean, at", overflow="fold")
    before = ""
    for effect in effects:
        indices = [
            "-" if value is None else f"{value:.2f}" for value in (effect.first, effect.total)
        ]
        table.add_row(
            effect.objective if effect.objective != before else "",
            labels[effect.axis],
            percent(effect.share),
            *(indices if sobol else ()),
            *(_mean(end) if effect.share else "-" for end in (effect.best, effect.worst)),
        )
        before = effect.objective
    yield table
    text = "Explains: share of the objective's variance that its means over this axis account for."
    if sobol:
        text += " S1, ST: first-order and total Sobol index; ST also counts interactions."
    yield note(text)


def _mean(end: tuple[str, float]) -> str:
    level, mean = end
    return f"{number(mean)}, {'null' if level == 'None' else level}"


def _reasons(exploration: Exploration) -> list[RenderableType]:
    counts: dict[tuple[str, str], int] = {}
    for point in exploration.points:
        if point.reason:
            counts[point.status, point.reason] = counts.get((point.status, point.reason), 0) + 1
    if not counts:
        return []
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    lines: list[RenderableType] = [Text("Points without results", style="bold")]
    for (status, reason), count in ordered[:SHOWN_REASONS]:
        lines.append(note(f"{count:,} {status}: {reason}"))
    if len(ordered) > SHOWN_REASONS:
        rest = sum(count for _, count in ordered[SHOWN_REASONS:])
        lines.append(note(f"{rest:,} more for other reasons; see --json"))
    return lines


def simulate_command(sweep: Sweep, parameters: Mapping[str, Value]) -> str:
    """The ``archsim simulate`` command that runs one point alone."""
    run = {key: parameters.get(key, getattr(sweep, key)) for key in RUN_KEYS}
    words = ["archsim", "simulate", "-c", str(run["hardware"]), "-t", str(run["trace"])]
    if run["order"] != "generate":
        words += ["--order", str(run["order"])]
    for key in ("prompt", "tokens"):
        if run[key] is not None:
            words += [f"--{key}", str(run[key])]
    if sweep.layers is not None:
        words += ["--layers", f"0:{sweep.layers}"]
    return shlex.join([*words, *_settings(sweep, parameters)])


def evaluate_command(sweep: Sweep, parameters: Mapping[str, Value]) -> str:
    """The ``archsim evaluate`` command whose row ``hardware`` is the loss of one point."""
    words = ["archsim", "evaluate", "-c", str(parameters.get("hardware", sweep.hardware))]
    for option, value in (("--model", sweep.model), ("--text", sweep.text)):
        words += [] if value is None else [option, value]
    words += ["--windows", str(sweep.windows), "--probes", "0", *_settings(sweep, parameters)]
    return shlex.join(words)


def _settings(sweep: Sweep, parameters: Mapping[str, Value]) -> list[str]:
    settings = {**sweep.fixed, **parameters}
    return [
        word
        for key, value in settings.items()
        if key not in RUN_KEYS
        for word in ("--set", f"{key}={value_json(value)}")
    ]


def value_json(value: Value) -> str:
    """A value as ``--set`` reads it back, without loss."""
    if value is None or isinstance(value, bool):
        return value_text(value)
    return repr(value) if isinstance(value, float) else str(value)


def best_text(exploration: Exploration, goal: str, where: Sequence[str], point: Point) -> Group:
    """The best point under a budget, and how to look closer at it."""
    condition = f" where {' and '.join(where)}" if where else ""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for key, value in point.parameters.items():
        table.add_row(key, value_text(value), "")
    sweep = exploration.sweep
    shown = {o.expression.text: o for o in (*sweep.objectives, goal_objective(sweep, goal))}
    for text, o in shown.items():
        value = o.value(point.results or {})
        if value is not None:
            name = text if text in figure_names() else o.name
            table.add_row(
                Text(name, style="bold"),
                number(value),
                unit_of_figure(name) if name == text else "",
            )
    limited = frozenset[str]().union(*(each.names for each in budget(sweep, where)))
    for name in figure_names():
        value = point.figure(name)
        if name in limited and name not in shown and isinstance(value, int | float):
            table.add_row(Text(name, style="bold"), number(value), unit_of_figure(name))
    commands = [simulate_command(sweep, point.parameters)]
    if sweep.measures_loss:
        commands.append(evaluate_command(sweep, point.parameters))
    return Group(Text(f"Best {goal}{condition}", style="bold"), table, *map(note, commands))


def sweep_document(exploration: Exploration) -> dict[str, Any]:
    """The whole sweep as ``--json`` prints it: the same for the same points, however they ran."""
    front = pareto(exploration)
    volume = hypervolume(exploration)
    sweep = exploration.sweep
    kept = {"retention": _retention(sweep).document()} if sweep.measures_loss else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "sweep": exploration.sweep.document(),
        "counts": exploration.counts,
        "points": [_point(exploration, point) for point in exploration.points],
        "paper": _point(exploration, exploration.paper),
        "pareto": front,
        "hypervolume": None
        if volume is None
        else {"share": volume.share, "sampled": volume.sampled},
        "sensitivity": [
            {
                "axis": e.axis,
                "objective": e.objective,
                "explains": e.share,
                "best": {"at": e.best[0], "mean": e.best[1]},
                "worst": {"at": e.worst[0], "mean": e.worst[1]},
                "sobol_first": e.first,
                "sobol_total": e.total,
            }
            for e in sensitivity(exploration)
        ],
        **kept,
    }


def _point(exploration: Exploration, point: Point) -> dict[str, Any]:
    document: dict[str, Any] = {
        "parameters": point.parameters,
        "status": point.status,
        "results": point.results or {},
        "key": point.key,
    }
    if point.reason:
        document["reason"] = point.reason
    return document


def point_rows(explorations: Sequence[Exploration]) -> list[dict[str, Value]]:
    """One flat row a point: sweep, status, on the front, parameters, figures."""
    rows: list[dict[str, Value]] = []
    parameters = dict.fromkeys(
        key for exploration in explorations for p in exploration.points for key in p.parameters
    )
    for exploration in explorations:
        front = set(pareto(exploration))
        for index, point in enumerate(exploration.points):
            row: dict[str, Value] = {
                "sweep": exploration.sweep.name,
                "status": point.status,
                "reason": point.reason,
                "pareto": index in front,
                "published": is_paper(exploration, point),
            }
            row |= {key: point.parameters.get(key) for key in parameters}
            row |= {name: point.figure(name) for name in figure_names()}
            row["key"] = point.key
            rows.append(row)
    return rows
