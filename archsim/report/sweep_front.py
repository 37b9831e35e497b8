"""The fronts of a sweep as tables: equal results in one row, the published design marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from archsim.report.formats import note, number, percent
from archsim.report.formats import unread as unread_line
from archsim.sweeps.analysis import hypervolume, unread
from archsim.sweeps.axes import workload_of
from archsim.sweeps.contest import Candidate, Contest, contests, equals, judging
from archsim.sweeps.design import Parameters
from archsim.sweeps.exploration import Exploration
from archsim.sweeps.expression import Value
from archsim.sweeps.figures import LOSS, Objective, unit_of_figure

SHOWN_FRONT = 20
MOST_SETS = 3
"""Designs with equal results that a row names one by one where they are no product of values."""


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


def designs_text(designs: Sequence[Parameters], labels: Mapping[str, str]) -> str:
    """Designs with equal results on one line: ``rows 16, 32, 64; columns 32``."""
    if len(designs) == 1:
        return design_text(designs[0], labels)
    values = {
        key: list(dict.fromkeys(value_text(each[key]) for each in designs)) for key in designs[0]
    }
    size = 1
    for taken in values.values():
        size *= len(taken)
    if size == len(designs):
        return "; ".join(f"{labels[key]} {', '.join(taken)}" for key, taken in values.items())
    texts = [design_text(each, labels) for each in designs[:MOST_SETS]]
    more = len(designs) - len(texts)
    return " | ".join(texts) + (f" | {more} more with equal results" if more else "")


def objective_unit(o: Objective) -> str:
    """Unit of an objective that is a figure; nothing for an expression."""
    return unit_of_figure(o.expression.text)


@dataclass(frozen=True)
class Row:
    """Designs of a front with equal results: their values, their parameters, and whose they are."""

    values: tuple[float, ...]
    design: str
    points: tuple[int, ...]
    published: bool


def front_rows(exploration: Exploration, contest: Contest) -> list[Row]:
    """A front, equal results in one row."""
    rows = []
    paper = () if contest.paper is None else contest.paper.points
    for group in equals(contest.front):
        designs = [design_of(exploration, contest, one) for one in group]
        labels = axis_labels(list(designs[0]))
        published = any(set(one.points) <= set(paper) for one in group)
        points = tuple(index for one in group for index in one.points)
        rows.append(Row(group[0].values, designs_text(designs, labels), points, published))
    return rows


def design_of(exploration: Exploration, contest: Contest, one: Candidate) -> Parameters:
    """The parameters in which the designs of a contest may differ."""
    parameters = exploration.points[one.points[0]].parameters
    shared = contest.workload if len(one.points) == 1 else workload_of(parameters)
    return {key: value for key, value in parameters.items() if key not in shared}


def contest_title(exploration: Exploration, contest: Contest) -> str:
    """What the designs of a contest ran, where a sweep has several workloads; else nothing."""
    if contest.workload:
        return design_text(contest.workload, axis_labels(list(contest.workload)))
    papers = len(exploration.papers)
    if exploration.sweep.aggregate is None or papers < 2:
        return ""
    return f"{exploration.sweep.aggregate} over {papers} workloads"


def fronts(exploration: Exploration) -> Iterator[RenderableType]:
    """The front of every contest, and what does not rank designs."""
    found = contests(exploration)
    for index, contest in enumerate(found):
        if index:
            yield Text("")
        yield from _front(exploration, contest)
    notes = []
    if any(o.name == "energy" for o in exploration.sweep.objectives):
        notes.append("Energy is of one token in one head, area of one head.")
    if len(found) > 1:
        notes.append(
            "Designs compete on the same workload; 'aggregate: mean' or 'worst' judges them over "
            "all of them."
        )
    if notes:
        yield note(" ".join(notes))
    yield from cautions(exploration)


def cautions(exploration: Exploration) -> Iterator[Text]:
    """What a reader must know: objectives left out, keys that nothing read."""
    reason = judging(exploration).reason
    if reason:
        yield Text(f"{reason[0].upper()}{reason[1:]}.", style="yellow")
    counts = unread(exploration)
    never = [key for key, (count, of) in counts.items() if count == of]
    if never:
        yield unread_line(never, "any point")
    partly = [f"{key} ({of - n:,} of {of:,})" for key, (n, of) in counts.items() if n < of]
    if partly:
        yield Text(f"Read by some points only: {', '.join(partly)}", style="yellow")


def _front(exploration: Exploration, contest: Contest) -> Iterator[RenderableType]:
    title = contest_title(exploration, contest)
    rows = front_rows(exploration, contest)
    if not rows:
        place = f", {title}" if title else ""
        yield Text(f"Pareto front{place}: no point has every objective")
        return
    goals = ", ".join(
        f"{'low' if o.direction == 'minimise' else 'high'} {o.name}" for o in contest.objectives
    )
    designs = sum(len(row.points) for row in rows) // len(contest.candidates[0].points)
    of = len(contest.candidates) + contest.incomplete
    if len(contest.candidates[0].points) == 1:
        of = sum(_inside(contest, point.parameters) for point in exploration.points)
    yield Text(
        f"Pareto front{f', {title}' if title else ''}: {designs:,} of {of:,} "
        f"{'designs' if contest.candidates[0].points[1:] else 'points'} ({goals})",
        style="bold",
    )
    shown = rows
    if len(rows) > SHOWN_FRONT:  # evenly along the first objective, both ends included
        step = (len(rows) - 1) / (SHOWN_FRONT - 1)
        shown = [rows[round(i * step)] for i in range(SHOWN_FRONT)]
    yield _table(contest, shown, bool(judging(exploration).left_out))
    notes = []
    if len(shown) < len(rows):
        notes.append(f"{len(shown)} of {len(rows)} rows shown; --json and the files have all.")
    if contest.incomplete:
        notes.append(f"{contest.incomplete:,} designs lack a result on some workload.")
    volume = hypervolume(contest)
    if volume is not None:
        about = "about " if volume.sampled else ""
        notes.append(
            f"Hypervolume: the front dominates {about}{percent(volume.share)} of the box between "
            "the best and the worst value of each objective."
        )
    if notes:
        yield note(" ".join(notes))


def _inside(contest: Contest, parameters: Parameters) -> bool:
    return all(parameters.get(key) == value for key, value in contest.workload.items())


def _table(contest: Contest, rows: Sequence[Row], incomplete: bool) -> Table:
    """Rows of a front; `incomplete` where objectives were left out."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for o in contest.objectives:
        table.add_column(f"{o.name}\n{objective_unit(o)}", justify="right", no_wrap=True)
    table.add_column("design", overflow="fold")
    for row in rows:
        mark = "  (published)" if row.published else ""
        table.add_row(*map(number, row.values), f"{row.design}{mark}")
    if contest.paper is not None and not any(row.published for row in rows):
        text = "published design, " + ("beaten" if contest.paper_beaten else "not beaten")
        if not contest.paper_ranks:
            text = "published design; its ideal attention is another, so it is not ranked"
        elif incomplete and not any(LOSS in o.expression.names for o in contest.objectives):
            text += "; accuracy is not judged"
        table.add_row(*map(number, contest.paper.values), Text(text, style="dim"))
    return table
