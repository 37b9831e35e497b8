"""A sweep for people and programs: tables at 80 columns, one JSON document, rows for export."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from archsim.hardware.load import load_hardware
from archsim.report.formats import cautions, note, number, percent
from archsim.report.retention import retention_table
from archsim.report.sweep_front import (
    axis_labels,
    contest_title,
    design_text,
    front_rows,
    fronts,
    value_text,
)
from archsim.retention import Retention, retention_of
from archsim.sweeps.analysis import (
    Best,
    Effect,
    budget,
    goal_objective,
    hypervolume,
    pareto,
    sensitivity,
    unread,
)
from archsim.sweeps.axes import RUN_KEYS
from archsim.sweeps.contest import Contest, contests, judging
from archsim.sweeps.definition import Sweep
from archsim.sweeps.exploration import DesignPoint, Exploration
from archsim.sweeps.expression import Value
from archsim.sweeps.figures import NOTES, figure_names, unit_of_figure
from archsim.sweeps.loss import loss_model
from archsim.sweeps.point import same_design

SCHEMA_VERSION = 2
SHOWN_REASONS = 5


def is_paper(exploration: Exploration, point: DesignPoint) -> bool:
    """Whether a point is the published design, however its parameters were written."""
    return any(same_design(point.key, paper.key) for paper in exploration.papers)


def sweep_text(exploration: Exploration, store: str) -> Group:
    """All tables: counts, Pareto front, sensitivity, points without results."""
    parts: list[RenderableType] = [_head(exploration, store), Text(""), *fronts(exploration)]
    parts += _cautions(exploration)
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
    varied = {axis.key for axis in sweep.axes}
    named = {"hardware": sweep.hardware, "trace": f"trace {sweep.trace}", "order": sweep.order}
    run = ", ".join(text for key, text in named.items() if key not in varied)
    table.add_row("from", "; ".join(text for text in (run, fixed) if text) or "the axes alone")
    if sweep.measures_loss:
        table.add_row("loss", _loss_text(sweep))
    table.add_row("store", store)
    return table


def _loss_text(sweep: Sweep) -> str:
    """What losses are of: a model, and how much of which text."""
    text = "the shipped text" if sweep.text is None else Path(sweep.text).name
    return f"of model {Path(loss_model(sweep)).resolve().name}, {sweep.windows} windows of {text}"


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


def _cautions(exploration: Exploration) -> list[RenderableType]:
    """What points' hardware was not fitted for, the most frequent first.

    What differs from the hardware that a model was adapted to is one line, whatever the values are.
    """
    found: Counter[str] = Counter()
    differing: dict[str, dict[str, None]] = {}
    for point in exploration.points:
        text = str(point.figure(NOTES) or "")
        adapted = point.adapted
        if adapted is not None and not adapted.here:
            found[adapted.whom] += 1
            keys = differing.setdefault(adapted.whom, {})
            keys |= dict.fromkeys(each.parameter for each in adapted.shown)
            text = text.removesuffix(adapted.note()).removesuffix("; ")
        if text:
            found[text] += 1
    whole = len(exploration.points)
    lines = []
    for text, count in found.most_common(SHOWN_REASONS):
        named = ", ".join(differing.get(text, ()))
        lines.append(f"{count:,} of {whole:,} points: {text}{f' in {named}' if named else ''}")
    if len(found) > SHOWN_REASONS:
        lines.append(f"{len(found) - SHOWN_REASONS:,} more such notes; see --json")
    return cautions(lines)


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


def best_text(
    exploration: Exploration, goal: str, where: Sequence[str], winners: Sequence[Best]
) -> Group:
    """The best design under a budget, on each workload, and how to look closer at it."""
    condition = f" where {' and '.join(where)}" if where else ""
    parts: list[RenderableType] = []
    for winner in winners:
        on = design_text(winner.workload, axis_labels(list(winner.workload)))
        for index in winner.points:
            point = exploration.points[index]
            parts += [Text("")] if parts else []
            title = f"Best {goal}{f', {on}' if on else ''}{condition}"
            if len(winner.points) > 1:
                title += f" ({exploration.sweep.aggregate} {number(winner.value)})"
            parts.append(Text(title, style="bold"))
            parts += _best_point(exploration, goal, where, point)
    return Group(*parts)


def _best_point(
    exploration: Exploration, goal: str, where: Sequence[str], point: DesignPoint
) -> Iterable[RenderableType]:
    sweep, ranks = exploration.sweep, judging(exploration).objectives
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for key, value in point.parameters.items():
        table.add_row(key, value_text(value), "")
    shown = {o.expression.text: o for o in (*ranks, goal_objective(sweep, goal))}
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
    yield table
    yield note(simulate_command(sweep, point.parameters))
    if sweep.measures_loss:
        yield note(evaluate_command(sweep, point.parameters))


def sweep_document(exploration: Exploration) -> dict[str, Any]:
    """The whole sweep as ``--json`` prints it: the same for the same points, however they ran."""
    ranks, sweep = judging(exploration), exploration.sweep
    kept = {"retention": _retention(sweep).document()} if sweep.measures_loss else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "sweep": exploration.sweep.document(),
        "counts": exploration.counts,
        "judged_by": [o.name for o in ranks.objectives],
        "left_out": [{"objective": o.name, "reason": ranks.reason} for o in ranks.left_out],
        "unread_parameters": [
            {"key": key, "unread_by_points": count, "of_points": of}
            for key, (count, of) in unread(exploration).items()
        ],
        "points": [_point(point) for point in exploration.points],
        "paper": _point(exploration.paper),
        "pareto": pareto(exploration),
        "fronts": [_front(exploration, contest) for contest in contests(exploration)],
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


def _front(exploration: Exploration, contest: Contest) -> dict[str, Any]:
    """Designs that compete: `rows` of points with equal results, those that none beats."""
    volume = hypervolume(contest)
    paper = None
    if contest.paper is not None:
        names = [o.name for o in contest.objectives]
        values = dict(zip(names, contest.paper.values, strict=True))
        paper = {
            "values": values,
            "points": list(contest.paper.points),
            "beaten": contest.paper_beaten if contest.paper_ranks else None,
        }
    return {
        "workload": contest.workload,
        "over": contest_title(exploration, contest),
        "rows": [
            {
                "points": list(row.points),
                "values": {
                    o.name: value for o, value in zip(contest.objectives, row.values, strict=True)
                },
            }
            for row in front_rows(exploration, contest)
        ],
        "published": paper,
        "hypervolume": None
        if volume is None
        else {"share": volume.share, "sampled": volume.sampled},
    }


def _point(point: DesignPoint) -> dict[str, Any]:
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
        ranks = judging(exploration)
        for index, point in enumerate(exploration.points):
            row: dict[str, Value] = {
                "sweep": exploration.sweep.name,
                "status": point.status,
                "reason": point.reason,
                "pareto": index in front,
                "published": is_paper(exploration, point),
                "judged_by": " ".join(o.name for o in ranks.objectives),
                "left_out": ranks.reason,
            }
            row |= {key: point.parameters.get(key) for key in parameters}
            row |= {name: point.figure(name) for name in figure_names()}
            row["key"] = point.key
            rows.append(row)
    return rows
