"""Charts of a sweep: Pareto scatter, parallel coordinates, heat maps; SVG, PNG and one page.

The page asks the network for nothing and runs no script: what a point is shows as the title of its
mark in the SVG.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from archsim.report.charts import chart_tools, with_titles
from archsim.report.formats import number
from archsim.report.sweep_front import (
    axis_labels,
    contest_title,
    design_of,
    design_text,
    objective_unit,
)
from archsim.report.sweep_page import sweep_page
from archsim.sweeps.axes import WORKLOAD_KEYS, si_value
from archsim.sweeps.contest import Contest, contests
from archsim.sweeps.exploration import Exploration
from archsim.sweeps.expression import Value
from archsim.sweeps.figures import Objective

FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
"""Fonts of equal width, so that text takes the room it was given."""
WIDTH, HEIGHT, PNG_SCALE = 260, 220, 2
MOST_PANELS, MOST_LINES = 6, 200
MOST_TICKS, MOST_NUMBERS = 24, 64
"""Values of an axis that a heat map can still label, and fields that it can still write in."""
MOST_LETTERS = 40
"""How many letters fit below a heat map side by side."""

KINDS = ["on the front", "beaten", "published design"]
COLOURS = dict(zip(KINDS, ("#1f5fa8", "#b5bcc4", "#d1495b"), strict=True))
_DRAWN = [KINDS[1], KINDS[0], KINDS[2]]

Row = dict[str, Any]


def charts(exploration: Exploration) -> dict[str, bytes]:
    """File names and contents; nothing where no point has every objective.

    Where designs compete on several workloads, each has charts of its own, numbered in order.
    Raises MissingExtraError without the extra ``report``.
    """
    _, vl_convert = chart_tools()
    found = contests(exploration)
    files: dict[str, bytes] = {}
    sections = []
    for place, contest in enumerate(found, 1):
        on = contest_title(exploration, contest)
        for name, (title, specification) in _drawn(exploration, contest).items():
            file = name if len(found) == 1 else f"{name}-{place}"
            picture = with_titles(vl_convert.vegalite_to_svg(specification))
            files[f"{file}.svg"] = picture.encode()
            files[f"{file}.png"] = vl_convert.svg_to_png(picture, scale=PNG_SCALE)
            sections.append((f"{title}, {on}" if on else title, picture))
    if any(contest.candidates for contest in found):
        files["sweep.html"] = sweep_page(exploration, found, sections, COLOURS[KINDS[2]]).encode()
    return files


def _drawn(exploration: Exploration, contest: Contest) -> dict[str, tuple[str, dict[str, Any]]]:
    """Title and Vega-Lite of each chart of one contest, by name."""
    rows = _rows(exploration, contest)
    if not rows:
        return {}
    drawn: dict[str, tuple[str, Any]] = {}
    data = {name: _Datasets() for name in ("pareto", "parallel", "heat-map")}
    objectives = [o for o in contest.objectives if len({row[o.name] for row in rows}) > 1]
    if len(objectives) > 1:
        drawn["pareto"] = ("Pareto front", pareto_chart(rows, objectives, data["pareto"]))
    parallel = parallel_chart(rows, objectives, data["parallel"])
    if parallel is not None:
        many = len(rows) > MOST_LINES
        title = "Axis by axis: the front and an even choice of the others" if many else ""
        drawn["parallel"] = (title or "Every point, axis by axis", parallel)
    heat = heat_chart(exploration, rows, objectives, data["heat-map"])
    if heat is not None:
        drawn["heat-map"] = ("Two axes", heat)
    return {
        name: (title, data[name].specification(chart)) for name, (title, chart) in drawn.items()
    }


class _Datasets:
    """Rows of a chart by name: Altair checks all it is given against a schema, row by row."""

    def __init__(self) -> None:
        self._rows: dict[str, Sequence[Row]] = {}

    def named(self, rows: Sequence[Row]) -> Any:
        """What the chart takes instead of the rows."""
        import altair as alt

        name = f"rows-{len(self._rows)}"
        self._rows[name] = rows
        return alt.NamedData(name)

    def specification(self, chart: Any) -> dict[str, Any]:
        """The chart in Vega-Lite, with the rows."""
        # room on the right for letters that are wider in a reader's browser than measured here
        wide = chart.configure(
            font=FONT,
            axisX={"labelSeparation": 8},
            axisY={"titlePadding": 14},
            padding={"left": 5, "top": 5, "bottom": 5, "right": 40},
        )
        found: dict[str, Any] = wide.to_dict()
        return found | {"datasets": self._rows}


def _rows(exploration: Exploration, contest: Contest) -> list[Row]:
    """One row a design; the published one last where it is none of them."""
    objectives = contest.objectives
    front = {one.points for one in contest.front}
    paper = contest.paper
    rows: list[Row] = []
    for number_, one in enumerate(contest.candidates):
        parameters = design_of(exploration, contest, one)
        kind = KINDS[0] if one.points in front else KINDS[1]
        if paper is not None and set(one.points) <= set(paper.points):
            kind = KINDS[2]
        row: Row = {"point": number_, "kind": kind, "parameters": parameters}
        row |= dict(zip((o.name for o in objectives), one.values, strict=True))
        labels = axis_labels(list(parameters))
        row["text"] = _title(design_text(parameters, labels), objectives, row)
        rows.append(row)
    if rows and paper is not None and KINDS[2] not in {row["kind"] for row in rows}:
        row = {"point": len(rows), "kind": KINDS[2], "parameters": None}
        row |= dict(zip((o.name for o in objectives), paper.values, strict=True))
        row["text"] = _title("published design", objectives, row)
        rows.append(row)
    return rows


def _title(design: str, objectives: Sequence[Objective], row: Row) -> str:
    figures = (f"{o.name} {number(row[o.name])} {objective_unit(o)}".strip() for o in objectives)
    return "; ".join([design, *figures])


def _axis_title(o: Objective) -> str:
    unit = objective_unit(o)
    better = "low" if o.direction == "minimise" else "high"
    return f"{o.name}{f', {unit}' if unit else ''} ({better} is better)"


def pareto_chart(rows: Sequence[Row], objectives: Sequence[Objective], data: _Datasets) -> Any:
    """Each pair of objectives that vary, the front and the published design marked."""
    import altair as alt

    ordered = sorted(rows, key=lambda row: _DRAWN.index(row["kind"]))
    colour = alt.Color("kind:N", title=None).scale(domain=KINDS, range=[*COLOURS.values()])
    shape = alt.Shape("kind:N", title=None).scale(
        domain=KINDS, range=["circle", "circle", "diamond"]
    )
    size = alt.Size("kind:N", title=None).scale(  # not of points, Vega-Lite's choice: ends alone
        type="ordinal", domain=KINDS, range=[60, 30, 160]
    )
    panels = []
    for x, y in list(itertools.combinations(objectives, 2))[:MOST_PANELS]:
        values = [
            {"x": r[x.name], "y": r[y.name], "kind": r["kind"], "text": r["text"]} for r in ordered
        ]
        panels.append(
            alt.Chart(data.named(values))
            .mark_point(filled=True, opacity=0.9)
            .encode(
                x=alt.X("x:Q", title=_axis_title(x)).scale(zero=False),
                y=alt.Y("y:Q", title=_axis_title(y)).scale(zero=False),
                color=colour,
                shape=shape,
                size=size,
                description="text:N",
                tooltip="text:N",
            )
            .properties(width=WIDTH, height=HEIGHT)
        )
    return alt.concat(*panels, columns=2 if len(panels) <= 4 else 3)


def _numbers(key: str, values: Sequence[Value]) -> list[float] | None:
    """Axis values as numbers in SI units; None where one is a word."""
    numbers = []
    for value in values:
        found = si_value(key, value)
        if isinstance(found, bool) or not isinstance(found, int | float):
            return None
        numbers.append(float(found))
    return numbers


def _places(key: str, values: Sequence[Value]) -> tuple[list[float], str, str]:
    """Where each value of an axis lies between 0 and 1, and its two ends as text."""
    numbers = _numbers(key, values)
    if numbers is None or min(numbers) == max(numbers):
        names = sorted({str(value) for value in values})
        last = max(len(names) - 1, 1)
        return [names.index(str(value)) / last for value in values], names[0], names[-1]
    order = sorted(range(len(numbers)), key=lambda i: numbers[i])
    low, high = numbers[order[0]], numbers[order[-1]]
    places = [(value - low) / (high - low) for value in numbers]
    return places, str(values[order[0]]), str(values[order[-1]])


def parallel_chart(
    rows: Sequence[Row],
    objectives: Sequence[Objective],
    data: _Datasets,
) -> Any:
    """A line a point through every axis and objective; None where there is nothing to compare."""
    import altair as alt

    inside = [row for row in rows if row["parameters"] is not None]
    inside = _thinned(inside)
    kinds = [kind for kind in KINDS if kind in {row["kind"] for row in inside}]
    keys = [
        key
        for key in (inside[0]["parameters"] if inside else ())
        if len({str(row["parameters"][key]) for row in inside}) > 1
    ]
    if len(inside) < 2 or len(keys) + len(objectives) < 3:
        return None
    labels = axis_labels(keys)
    values: list[Row] = []
    ticks: list[Row] = []
    columns = [(labels[key], [row["parameters"][key] for row in inside], key) for key in keys]
    for label, given, key in columns:
        places, low, high = _places(key, given)
        values += _lines(label, places, inside)
        ticks += [{"axis": label, "y": 0, "text": low}, {"axis": label, "y": 1, "text": high}]
    for o in objectives:
        numbers = [row[o.name] for row in inside]
        low, high = min(numbers), max(numbers)
        unit = objective_unit(o)
        label = f"{o.name}, {unit}" if unit else o.name
        values += _lines(label, [(n - low) / ((high - low) or 1) for n in numbers], inside)
        ticks += [
            {"axis": label, "y": 0, "text": number(low)},
            {"axis": label, "y": 1, "text": number(high)},
        ]
    order = list(dict.fromkeys(tick["axis"] for tick in ticks))
    x = (
        alt.X("axis:N", sort=order, title=None)
        .axis(labelAngle=0, labelLimit=120, labelPadding=18, ticks=False)
        .scale(padding=0.6)
    )
    y = alt.Y("y:Q", axis=None)
    lines = (
        alt.Chart(data.named(values))
        .mark_line(strokeWidth=1)
        .encode(
            x=x,
            y=y,
            detail="point:N",
            color=alt.Color("kind:N", title=None).scale(
                domain=kinds, range=[COLOURS[kind] for kind in kinds]
            ),
            # not opacity: that draws every line on a canvas of its own
            strokeOpacity=alt.StrokeOpacity("kind:N", title=None).scale(
                domain=kinds, range=[0.35 if kind == KINDS[1] else 1 for kind in kinds]
            ),
            description="text:N",
        )
    )
    marks = alt.Chart(data.named(ticks))
    rules = marks.mark_rule(color="#888").transform_filter("datum.y == 0").encode(x=x)
    above = marks.transform_filter("datum.y == 1").mark_text(dy=-9, fontSize=10)
    below = marks.transform_filter("datum.y == 0").mark_text(dy=11, fontSize=10)
    texts = [part.encode(x=x, y=y, text="text:N") for part in (above, below)]
    width = max(2 * WIDTH, 110 * len(order))
    return alt.layer(rules, lines, *texts).properties(width=width, height=HEIGHT)


def _thinned(rows: Sequence[Row]) -> list[Row]:
    """As many rows as a chart of lines can show, those that stand out all kept, and last."""
    beaten = [row for row in rows if row["kind"] == KINDS[1]]
    others = [row for row in rows if row["kind"] != KINDS[1]]
    others = others[:: -(-len(others) // MOST_LINES) or 1]
    room = MOST_LINES - len(others)
    shown = beaten[:: -(-len(beaten) // room)] if room and beaten else []
    return [*shown, *sorted(others, key=lambda row: _DRAWN.index(row["kind"]))]


def _lines(label: str, places: Sequence[float], rows: Sequence[Row]) -> list[Row]:
    return [
        {"axis": label, "y": place, "point": r["point"], "kind": r["kind"], "text": r["text"]}
        for place, r in zip(places, rows, strict=True)
    ]


def heat_chart(
    exploration: Exploration,
    rows: Sequence[Row],
    objectives: Sequence[Objective],
    data: _Datasets,
) -> Any:
    """The two axes with the most values, one map an objective: the best over all other axes."""
    import altair as alt

    axes = [
        a
        for a in exploration.sweep.axes
        if a.key not in WORKLOAD_KEYS and a.values and 1 < len(a.values) <= MOST_TICKS
    ]
    if len(axes) < 2 or not objectives:
        return None
    across, down = sorted(axes, key=lambda axis: -len(axis.values or ()))[:2]
    keys = [axis.key for axis in exploration.sweep.axes if axis.key not in WORKLOAD_KEYS]
    labels = axis_labels(keys)
    written = sum(len(str(value)) + 1 for value in across.values or ())
    angle = 0 if written <= MOST_LETTERS else -45
    panels = []
    for o in objectives:
        best: dict[tuple[str, str], Row] = {}
        for row in rows:
            if row["parameters"] is None:
                continue
            place = str(row["parameters"][across.key]), str(row["parameters"][down.key])
            if place not in best or o.sign * row[o.name] < o.sign * best[place][o.name]:
                best[place] = row
        values = [
            {
                "x": x,
                "y": y,
                "value": row[o.name],
                "shown": number(row[o.name], 3),
                "text": row["text"],
            }
            for (x, y), row in best.items()
        ]
        x = alt.X("x:N", sort=[str(v) for v in across.values or ()], title=labels[across.key])
        y = alt.Y("y:N", sort=[str(v) for v in down.values or ()], title=labels[down.key])
        base = alt.Chart(data.named(values)).encode(x=x.axis(labelAngle=angle), y=y)
        numbered = len(values) <= MOST_NUMBERS
        legend = None if numbered else alt.Legend(title=None, gradientLength=HEIGHT)
        scheme = alt.Color("value:Q", title=None, legend=legend).scale(
            scheme="yellowgreenblue", reverse=o.direction == "maximise"
        )
        middle = (min(v["value"] for v in values) + max(v["value"] for v in values)) / 2
        dark = f"datum.value {'>' if o.direction == 'minimise' else '<'} {middle!r}"
        text = alt.condition(dark, alt.value("white"), alt.value("black"))
        layers = [base.mark_rect().encode(color=scheme, description="text:N")]
        if numbered:
            layers.append(base.mark_text(fontSize=10).encode(text="shown:N", color=text))
        unit = objective_unit(o)
        others = "best " if len(keys) > 2 else ""
        title = f"{others}{o.name}{f', {unit}' if unit else ''}"
        panels.append(alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title))
    return alt.concat(*panels, columns=2).resolve_scale(color="independent")
