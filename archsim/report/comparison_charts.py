"""Charts of a comparison: one roofline, and speed-up and energy ratio over window and batch.

One colour a GPU on all of them. In the ratio charts the accelerator is the line at 1, and the
ratios that the paper states are marks. What a mark is shows under the pointer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from math import exp, log
from pathlib import Path
from typing import Any

from archsim.comparison.accelerator import AcceleratorFigures
from archsim.comparison.compare import ComparisonRow, compare
from archsim.comparison.hardware import GpuComparison, window_figures
from archsim.comparison.request import Request
from archsim.files import atomic_path
from archsim.gpu.file import Gpu, Precision
from archsim.gpu.protocols import BATCHES, PAPER_STEP
from archsim.gpu.roofline import DecodeAttention, estimate
from archsim.report.charts import INK, SERIES, chart_tools, with_titles
from archsim.report.comparison import energy_text, speed_text, times
from archsim.report.comparison_page import comparison_page
from archsim.report.formats import number

WINDOWS = (128, 256, 512, 1024, 2048, 4096, 8192)
INTENSITIES = (0.1, 1e4)
"""Ends of the roofs, FLOP a byte."""

DECADES = tuple(10.0**power for power in range(-6, 7))
MEMORY_ROOF, L2_ROOF = "memory", "L2"
DEFAULT_PRECISION: Precision = "fp16"
"""Of the roofline."""

ACCELERATOR = "accelerator"
MODEL, MEASURED, STATED, EDGE = "model", "measured", "the paper states", "edge of L2"
SHAPES = {MODEL: "circle", MEASURED: "diamond", STATED: "cross", EDGE: "square"}
DASHES = ([1, 0], [9, 4], [5, 4], [2, 3], [9, 3, 2, 3])
"""Of the GPUs' lines, by place: of two that coincide the lower shows in the other's gaps."""

SIZES = {MODEL: 12, MEASURED: 110, STATED: 110, EDGE: 70}
FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
WIDTH, HEIGHT, PNG_SCALE = 275, 230, 2
"""Of a panel, so that a chart with its axis fits a screen of 400 pixels."""

ChartPoint = dict[str, Any]


def write_charts(comparison: GpuComparison, gpus: Sequence[Gpu], folder: Path) -> list[Path]:
    """Write ``roofline``, ``speedup`` and ``energy`` as SVG and PNG, and ``comparison.html``.

    The accelerator is the one of the calibration workload, simulated anew for every window. They
    show every batch, in the precision, cache and window that the comparison was asked for. Raises
    MissingExtraError without the extra ``report``, ConfigError if the folder cannot be written.
    """
    _, vl_convert = chart_tools()
    own, request = comparison.full_window, comparison.request
    by_window = [window_figures(comparison.hardware, window) for window in WINDOWS]
    charts = {
        "roofline": (
            roofline_chart(own, gpus, request),
            "Roofline: attention of one token and layer",
        ),
        "speedup": (
            ratio_chart(own, by_window, gpus, request, "speedup"),
            "How much faster the accelerator is, per token",
        ),
        "energy": (
            ratio_chart(own, by_window, gpus, request, "energy_ratio"),
            "How much less energy it takes, per token",
        ),
    }
    pictures: dict[str, bytes] = {}
    sections: list[tuple[str, str]] = []
    for name, (chart, title) in charts.items():
        vector = with_titles(vl_convert.vegalite_to_svg(_specification(chart)))
        pictures[f"{name}.svg"] = vector.encode()
        pictures[f"{name}.png"] = vl_convert.svg_to_png(vector, scale=PNG_SCALE)
        sections.append((title, vector))
    pictures["comparison.html"] = comparison_page(comparison, sections).encode()
    with ExitStack() as stack:
        for name, content in pictures.items():
            stack.enter_context(atomic_path(folder / name)).write_bytes(content)
    return [folder / name for name in pictures]


def roofline_points(
    own: AcceleratorFigures, gpus: Sequence[Gpu], request: Request
) -> list[ChartPoint]:
    """Roofs and operating points: intensity in FLOP a byte, rate in TFLOP/s.

    A GPU has a roof for its memory and one for its L2, up to its peak in the precision of the
    request; one that does not compute in it is left out. The accelerator has none: its bytes are
    those that cross its boundary, since K and V never move, and a roof made of its own rate would
    pass through its point whatever that is.
    """
    step = own.attention
    own_rate = step.layer_flop / own.attention_latency_s
    precision = request.precision or DEFAULT_PRECISION
    able = [gpu for gpu in gpus if gpu.peak.has(precision)]
    roofs = [(gpu.name, MEMORY_ROOF, gpu.memory.bandwidth, gpu.peak.at(precision)) for gpu in able]
    roofs += [(gpu.name, L2_ROOF, gpu.memory.l2_bandwidth, gpu.peak.at(precision)) for gpu in able]
    points: list[ChartPoint] = [
        {"name": name, "kind": kind, "intensity": x, "rate": min(x * bandwidth, peak) * 1e-12}
        for name, kind, bandwidth, peak in roofs
        for x in (INTENSITIES[0], peak / bandwidth, INTENSITIES[1])
    ]
    points.append(
        _operating(ACCELERATOR, "one token", step.layer_flop / own.boundary_bytes, own_rate)
    )
    for gpu in able:
        for batch in (1, 64):
            many = replace(step, batch=batch, precision=precision)
            rate = many.layer_flop / estimate(gpu, many, cache=request.cache).latency_s
            intensity = many.layer_flop / many.layer_bytes
            points.append(_operating(gpu.name, f"batch {batch}", intensity, rate))
    return points


def _operating(name: str, kind: str, intensity: float, rate: float) -> ChartPoint:
    text = f"{name}, {kind}: {number(rate * 1e-12, 3)} TFLOP/s at {number(intensity, 3)} FLOP/byte"
    return {"name": name, "kind": kind, "intensity": intensity, "rate": rate * 1e-12, "text": text}


def ratio_points(
    own: AcceleratorFigures,
    by_window: Sequence[AcceleratorFigures],
    gpus: Sequence[Gpu],
    request: Request,
    ratio: str,
) -> list[ChartPoint]:
    """`ratio` of modelled rows over window at batch 1, and over batch at the window of `own`.

    Beside them measured points, where one was measured for that very window and batch; what the
    paper states, at its batch; and the edge of L2: where half of K and V is still there.
    """
    points: list[ChartPoint] = []
    across = "window, batch 1"
    panel = f"batch, window {own.window:,}"
    for figures in by_window:
        asked = replace(request, protocols=("latency",), batch=None)
        points += [
            _ratio(across, "window", row, ratio) for row in compare(figures, gpus, asked).rows
        ]
    for batch in BATCHES:
        asked = replace(request, protocols=("throughput",), batch=batch)
        points += [_ratio(panel, "batch", row, ratio) for row in compare(own, gpus, asked).rows]
    points = [point for point in points if point["y"] is not None]
    if own.shape == (PAPER_STEP.heads, PAPER_STEP.head_dim, PAPER_STEP.window):
        points += _stated(panel, gpus, ratio)
    if request.cache == "warm":
        points += _edges(points, across, panel, own, gpus)
    return points


def _ratio(panel: str, x: str, row: ComparisonRow, ratio: str) -> ChartPoint:
    value = getattr(row, ratio)
    told = energy_text(value) if ratio == "energy_ratio" else speed_text(value)
    kernel = f", {row.kernel}" if row.kernel else ""
    return {
        "panel": panel,
        "name": row.gpu,
        "source": row.source,
        "x": getattr(row, x),
        "y": value,
        "text": f"{row.gpu}, {row.source}{kernel}, {row.precision}, batch {row.batch:,}, window "
        f"{row.window:,}: {told}",
    }


def _stated(panel: str, gpus: Sequence[Gpu], ratio: str) -> list[ChartPoint]:
    """The paper's ratios at the authors' batch, window and precision."""
    found = []
    for gpu in gpus:
        if gpu.claim is not None:
            value = gpu.claim.speedup if ratio == "speedup" else gpu.claim.energy_ratio
            text = f"{gpu.name}: the paper states {times(value)} (fp32, eager, a throughput)"
            at = {"x": PAPER_STEP.batch, "y": value, "text": text}
            found.append({"panel": panel, "name": gpu.name, "source": STATED, **at})
    return found


def _edges(
    points: Sequence[ChartPoint],
    across: str,
    panel: str,
    own: AcceleratorFigures,
    gpus: Sequence[Gpu],
) -> list[ChartPoint]:
    """Where each modelled line crosses the edge of its GPU's L2, if it does."""
    found = []
    for gpu in gpus:
        room = gpu.model.l2_edge * gpu.memory.l2
        for name in (across, panel):
            line = sorted(
                (log(p["x"]), log(p["y"]))
                for p in points
                if (p["panel"], p["name"], p["source"]) == (name, gpu.name, MODEL)
            )
            precision: Precision = "bf16" if gpu.peak.has("bf16") else "fp16"
            window = 1 if name == across else own.window
            step = DecodeAttention(1, own.heads, own.head_dim, window, 1, precision)
            edge = log(room / step.layer_cache_bytes)
            for (x0, y0), (x1, y1) in pairwise(line):
                if x0 <= edge < x1:
                    y = exp(y0 + (y1 - y0) * (edge - x0) / (x1 - x0))
                    text = f"{gpu.name}: K and V fill L2 ({number(room / 1e6, 3)} MB of it)"
                    at = {"x": exp(edge), "y": y, "text": text}
                    found.append({"panel": name, "name": gpu.name, "source": EDGE, **at})
    return found


def colours(gpus: Sequence[Gpu]) -> dict[str, str]:
    """The colour of each GPU on every chart, by its place among `gpus`; the accelerator is ink.

    Beyond as many GPUs as there are colours they repeat.
    """
    named = {gpu.name: SERIES[place % len(SERIES)][0] for place, gpu in enumerate(gpus)}
    return {ACCELERATOR: INK[0], **named}


def _colour(gpus: Sequence[Gpu], names: Sequence[str]) -> Any:
    import altair as alt

    found = colours(gpus)
    shown = [name for name in found if name in names]
    legend = alt.Legend(orient="bottom", columns=3, title=None, symbolType="circle", symbolSize=70)
    return alt.Color("name:N", legend=legend).scale(
        domain=shown, range=[found[name] for name in shown]
    )


def roofline_chart(own: AcceleratorFigures, gpus: Sequence[Gpu], request: Request) -> Any:
    """Roofs as lines, operating points as marks, both axes logarithmic."""
    import altair as alt

    points = roofline_points(own, gpus, request)
    axis = alt.Axis(values=list(DECADES), format="~g")
    x = alt.X("intensity:Q", title="FLOP a byte that moves", axis=axis).scale(
        type="log", domain=list(INTENSITIES)
    )
    y = alt.Y("rate:Q", title="TFLOP/s", axis=axis).scale(type="log", nice=True)
    colour = _colour(gpus, [point["name"] for point in points])
    roofs = [point for point in points if point["kind"] in {MEMORY_ROOF, L2_ROOF}]
    marks = [point for point in points if point not in roofs]
    below = alt.Legend(orient="bottom", columns=3)
    dashes = alt.StrokeDash("kind:N", title="roof", legend=below).scale(
        domain=[MEMORY_ROOF, L2_ROOF], range=[[1, 0], [5, 4]]
    )
    lines = (
        alt.Chart(alt.Data(values=roofs))
        .mark_line(strokeWidth=1.2)
        .encode(x=x, y=y, color=colour, strokeDash=dashes)
    )
    shapes = alt.Shape("kind:N", title="point", legend=below).scale(
        domain=["one token", "batch 1", "batch 64"], range=["diamond", "circle", "square"]
    )
    # GPUs at batch 1 are all at their floor: rings of different sizes are told apart
    names = list(colours(gpus))
    sized = [{**mark, "size": (7 + 3 * names.index(mark["name"])) ** 2} for mark in marks]
    size = alt.Size("size:Q", legend=None, scale=None)
    dots = (
        alt.Chart(alt.Data(values=sized))
        .mark_point(filled=False, strokeWidth=2, opacity=1)
        .encode(x=x, y=y, color=colour, shape=shapes, size=size, description="text:N")
    )
    label = (
        alt.Chart(alt.Data(values=[p for p in marks if p["name"] == ACCELERATOR]))
        .mark_text(dy=-11, color=INK[0], fontSize=11)
        .encode(x=x, y=y, text="name:N")
    )
    title = [f"{own.heads} heads x {own.head_dim}, window {own.window:,}", _setting(request)]
    chart = alt.layer(lines, dots, label).properties(width=WIDTH, height=1.4 * HEIGHT)
    return _finished(chart, title)


def _setting(request: Request) -> str:
    return f"GPUs modelled, {request.precision or DEFAULT_PRECISION}, {request.cache} cache"


def ratio_chart(
    own: AcceleratorFigures,
    by_window: Sequence[AcceleratorFigures],
    gpus: Sequence[Gpu],
    request: Request,
    ratio: str,
) -> Any:
    """`ratio` over window and over batch, one panel below the other; the accelerator at 1."""
    import altair as alt

    points = ratio_points(own, by_window, gpus, request, ratio)
    colour = _colour(gpus, [ACCELERATOR, *(point["name"] for point in points)])
    panels = [
        _panel(panel, [p for p in points if p["panel"] == panel], ratio, colour, _dashes(gpus))
        for panel in dict.fromkeys(point["panel"] for point in points)
    ]
    precision = request.precision or "bf16 (without: fp16)"
    title = [
        f"{own.heads} heads x {own.head_dim}; lines: GPUs modelled,",
        f"{precision}, {request.cache} cache",
    ]
    return _finished(alt.vconcat(*panels).resolve_scale(y="shared"), title)


def _dashes(gpus: Sequence[Gpu]) -> Any:
    import altair as alt

    names = [gpu.name for gpu in gpus]
    patterns = [DASHES[place % len(DASHES)] for place in range(len(names))]
    return alt.StrokeDash("name:N", legend=None).scale(domain=names, range=patterns)


def _panel(panel: str, points: Sequence[ChartPoint], ratio: str, colour: Any, dashes: Any) -> Any:
    import altair as alt

    ticks = sorted({point["x"] for point in points if point["source"] == MODEL})
    ends = [min(ticks), max(ticks)]
    axis = alt.Axis(values=ticks, format=",d", labelOverlap=True)
    x = alt.X("x:Q", title=panel, axis=axis).scale(type="log", base=2, domain=ends, nice=False)
    better = "times faster" if ratio == "speedup" else "times less energy"
    y = (
        alt.Y("y:Q", title=f"accelerator: {better}")
        .scale(type="log")
        .axis(values=list(DECADES), format=",~g")
    )
    lines = (
        alt.Chart(alt.Data(values=[p for p in points if p["source"] == MODEL]))
        .mark_line(strokeWidth=1.8)
        .encode(x=x, y=y, color=colour, strokeDash=dashes)
    )
    kinds = list(SHAPES)
    below = alt.Legend(orient="bottom", columns=2, title=None)
    shape = alt.Shape("source:N", legend=below).scale(domain=kinds, range=[*SHAPES.values()])
    sized = [{**point, "size": SIZES[point["source"]]} for point in points]
    size = alt.Size("size:Q", legend=None, scale=None)
    marks = (
        alt.Chart(alt.Data(values=sized))
        .mark_point(filled=False, strokeWidth=2, opacity=1)
        .encode(x=x, y=y, color=colour, shape=shape, size=size, description="text:N")
    )
    own = [{"x": ends[0], "y": 1, "name": ACCELERATOR}, {"x": ends[1], "y": 1, "name": ACCELERATOR}]
    base = alt.Chart(alt.Data(values=own)).encode(x=x, y=y)
    rule = base.mark_line(strokeWidth=2.5).encode(color=colour)
    label = (
        alt.Chart(alt.Data(values=[{**own[0], "text": f"{ACCELERATOR} = 1"}]))
        .mark_text(align="left", dx=4, dy=-8, color=INK[0], fontSize=11)
        .encode(x=x, y=y, text="text:N")
    )
    drawn = [p for p in points if p["source"] == EDGE]
    edges = [
        alt.Chart(alt.Data(values=[edge]))
        .mark_text(dx=13, dy=-8 - 13 * _crowd(edge, drawn[:place]), fontSize=10)
        .encode(x=x, y=y, color=colour, text=alt.value("L2"))
        for place, edge in enumerate(drawn)
    ]
    return alt.layer(rule, lines, marks, label, *edges).properties(width=WIDTH, height=HEIGHT)


def _crowd(edge: ChartPoint, others: Sequence[ChartPoint]) -> int:
    """How many of `others` are so near that its label must lie above theirs."""
    return sum(max(edge["x"], other["x"]) < 1.3 * min(edge["x"], other["x"]) for other in others)


def _finished(chart: Any, title: Sequence[str]) -> Any:
    """With title, fonts, and colours that the page can turn for a dark screen."""
    return chart.properties(title=list(title)).configure(
        font=FONT,
        background="transparent",
        padding={"left": 3, "top": 3, "bottom": 3, "right": 10},
        title={"fontSize": 12, "anchor": "start", "color": INK[0]},
        axis={"labelColor": INK[0], "titleColor": INK[0], "labelFontSize": 11},
        legend={
            "labelColor": INK[0],
            "titleColor": INK[0],
            "labelFontSize": 11,
        },
    )


def _specification(chart: Any) -> ChartPoint:
    """The chart in Vega-Lite, its legends one below the other, of which Altair knows nothing."""
    found: ChartPoint = chart.to_dict()
    found["config"]["legend"]["layout"] = {
        "bottom": {"direction": "vertical", "anchor": "start", "margin": 6}
    }
    return found
