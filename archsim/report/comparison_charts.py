"""Pictures of a comparison: one roofline, and speed-up and energy ratio, as SVG, PNG and a page."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from archsim.baseline import AcceleratorFigures, Request, compare
from archsim.baseline.protocols import BATCHES
from archsim.baseline.roofline import estimate
from archsim.config.gpu import Gpu, Precision
from archsim.evaluation.comparison import GpuComparison, window_figures
from archsim.files import atomic_path
from archsim.report.charts import chart_tools
from archsim.report.comparison import energy_text, speed_text

WINDOWS = (128, 256, 512, 1024, 2048, 4096, 8192)
INTENSITIES = (0.1, 1e4)
"""Ends of the roofs, FLOP a byte."""

DECADES = tuple(10.0**power for power in range(-6, 7))
MEMORY_ROOF, L2_ROOF = "memory", "L2"
DEFAULT_PRECISION: Precision = "fp16"
"""Of pictures, as of the protocols latency and throughput."""

ACCELERATOR = "gain cells"
WIDTH, HEIGHT, PNG_SCALE = 320, 250, 2

Point = dict[str, Any]


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
            _ratio_chart(own, by_window, gpus, request, "speedup", "times faster per token"),
            "Speed-up per token over window and batch",
        ),
        "energy": (
            _ratio_chart(
                own, by_window, gpus, request, "energy_ratio", "times less energy per token"
            ),
            "Energy ratio per token over window and batch",
        ),
    }
    pictures: dict[str, bytes] = {}
    sections: list[tuple[str, str]] = []
    for name, (chart, title) in charts.items():
        specification = chart.to_json()
        vector = vl_convert.vegalite_to_svg(specification)
        pictures[f"{name}.svg"] = vector.encode()
        pictures[f"{name}.png"] = vl_convert.vegalite_to_png(specification, scale=PNG_SCALE)
        sections.append((title, vector))
    pictures["comparison.html"] = _page(comparison, sections).encode()
    with ExitStack() as stack:
        for name, content in pictures.items():
            stack.enter_context(atomic_path(folder / name)).write_bytes(content)
    return [folder / name for name in pictures]


def roofline_points(own: AcceleratorFigures, gpus: Sequence[Gpu], request: Request) -> list[Point]:
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
    points: list[Point] = [
        {"name": name, "kind": kind, "intensity": x, "rate": min(x * bandwidth, peak) * 1e-12}
        for name, kind, bandwidth, peak in roofs
        for x in (INTENSITIES[0], peak / bandwidth, INTENSITIES[1])
    ]
    points.append(
        {
            "name": ACCELERATOR,
            "kind": "one token",
            "intensity": step.layer_flop / own.boundary_bytes,
            "rate": own_rate * 1e-12,
        }
    )
    for gpu in able:
        for batch in (1, 64):
            many = replace(step, batch=batch, precision=precision)
            points.append(
                {
                    "name": gpu.name,
                    "kind": f"batch {batch}",
                    "intensity": many.layer_flop / many.layer_bytes,
                    "rate": many.layer_flop
                    / estimate(gpu, many, cache=request.cache).latency_s
                    * 1e-12,
                }
            )
    return points


def ratio_points(
    own: AcceleratorFigures,
    by_window: Sequence[AcceleratorFigures],
    gpus: Sequence[Gpu],
    request: Request,
    ratio: str,
) -> list[Point]:
    """`ratio` of modelled rows over window at batch 1, and over batch at the window of `own`.

    Measured points beside them, where one was measured for that very window and batch.
    """
    points: list[Point] = []

    def add(panel: str, x: str, figures: AcceleratorFigures, asked: Request) -> None:
        for row in compare(figures, gpus, asked).rows:
            value = getattr(row, ratio)
            if value is not None:
                at = {"panel": panel, "x": getattr(row, x), "y": value}
                points.append({"name": row.gpu, "source": row.source, **at})

    for figures in by_window:
        asked = replace(request, protocols=("latency",), batch=None)
        add("window, batch 1", "window", figures, asked)
    for batch in BATCHES:
        panel = f"batch, window {own.window:,}"
        add(panel, "batch", own, replace(request, protocols=("throughput",), batch=batch))
    return points


def roofline_chart(own: AcceleratorFigures, gpus: Sequence[Gpu], request: Request) -> Any:
    """Roofs as lines, operating points as marks, both axes logarithmic."""
    import altair as alt

    points = roofline_points(own, gpus, request)
    axis = alt.Axis(values=list(DECADES), format="~g")
    x = alt.X("intensity:Q", title="FLOP a byte that moves", axis=axis).scale(
        type="log", domain=list(INTENSITIES)
    )
    y = alt.Y("rate:Q", title="TFLOP/s", axis=axis).scale(type="log", nice=True)
    names = [ACCELERATOR, *(gpu.name for gpu in gpus)]
    colour = alt.Color("name:N", title=None, sort=names)
    roofs = [point for point in points if point["kind"] in {MEMORY_ROOF, L2_ROOF}]
    marks = [point for point in points if point not in roofs]
    dashes = alt.StrokeDash("kind:N", title="roof").scale(
        domain=[MEMORY_ROOF, L2_ROOF], range=[[1, 0], [5, 4]]
    )
    lines = (
        alt.Chart(alt.Data(values=roofs))
        .mark_line()
        .encode(x=x, y=y, color=colour, strokeDash=dashes)
    )
    shapes = alt.Shape("kind:N", title="point", sort=["one token", "batch 1", "batch 64"])
    # GPUs at batch 1 are all at their floor: rings of different sizes are told apart
    sizes = [(8 + 4 * place) ** 2 for place in range(len(names))]
    size = alt.Size("name:N", legend=None).scale(type="ordinal", domain=names, range=sizes)
    dots = (
        alt.Chart(alt.Data(values=marks))
        .mark_point(filled=False, strokeWidth=2, opacity=1)
        .encode(x=x, y=y, color=colour, shape=shapes, size=size)
    )
    title = f"{own.heads} heads x {own.head_dim}, window {own.window:,}, {_setting(request)}"
    return alt.layer(lines, dots).properties(title=title, width=2 * WIDTH, height=1.5 * HEIGHT)


def _setting(request: Request) -> str:
    return f"GPUs modelled, {request.precision or DEFAULT_PRECISION}, {request.cache} cache"


def _ratio_chart(
    own: AcceleratorFigures,
    by_window: Sequence[AcceleratorFigures],
    gpus: Sequence[Gpu],
    request: Request,
    ratio: str,
    title: str,
) -> Any:
    import altair as alt

    points = ratio_points(own, by_window, gpus, request, ratio)
    panels = []
    for panel in dict.fromkeys(point["panel"] for point in points):
        own_points = [point for point in points if point["panel"] == panel]
        ticks = sorted({point["x"] for point in own_points})
        x = alt.X("x:Q", title=panel).scale(type="log", base=2).axis(values=ticks, format=",d")
        y = alt.Y("y:Q", title=title).scale(type="log").axis(values=list(DECADES), format=",~g")
        colour = alt.Color("name:N", title=None, sort=[gpu.name for gpu in gpus])
        modelled = [point for point in own_points if point["source"] == "model"]
        measured = [point for point in own_points if point["source"] != "model"]
        layers = [
            alt.Chart(alt.Data(values=modelled))
            .mark_line(point=True)
            .encode(x=x, y=y, color=colour)
        ]
        if measured:
            layers.append(
                alt.Chart(alt.Data(values=measured))
                .mark_point(shape="diamond", size=160, filled=False, strokeWidth=2, opacity=1)
                .encode(x=x, y=y, color=colour)
            )
        panels.append(alt.layer(*layers).properties(width=WIDTH, height=HEIGHT))
    text = f"{own.heads} heads x {own.head_dim}; lines: {_setting(request)}; diamonds: measured"
    return alt.hconcat(*panels).resolve_scale(y="shared").properties(title=text)


def _page(comparison: GpuComparison, sections: Sequence[tuple[str, str]]) -> str:
    """One HTML file that asks the network for nothing: the pictures and every row."""
    head = ("GPU", "protocol", "source", "heads", "window", "batch", "precision", "cache",
            "us a token", "mJ a token", "per token")  # fmt: skip
    lines = []
    for row in comparison.rows:
        energy = row.per_token_energy_mj
        cells = (
            row.gpu, row.protocol, row.source, f"{row.heads}x{row.head_dim}", f"{row.window:,}",
            f"{row.batch:,}", row.precision, row.cache, f"{row.per_token_latency_us:.4g}",
            f"< {row.energy_bound_mj / row.batch:.4g}" if energy is None else f"{energy:.4g}",
            f"{speed_text(row.speedup)} ({row.kind}), {energy_text(row.energy_ratio)}",
        )  # fmt: skip
        lines.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    table = "\n".join(f"<tr>{line}</tr>" for line in lines)
    figures = "\n".join(
        f"<h2>{html.escape(title)}</h2>\n<figure>{_image(title, vector)}</figure>"
        for title, vector in sections
    )
    name = html.escape(comparison.calibrated.name)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name} beside GPUs</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff; }}
figure {{ margin: 0; }}
img {{ max-width: 100%; height: auto; }}
div {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 13px; }}
th, td {{ text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #ddd; }}
</style></head><body>
<h1>{name} beside GPUs</h1>
<p>Attention of one layer only: no projections, no MLP, no host. What each protocol measures, and
what is wrong with the paper's, is in docs/baseline.md.</p>
{figures}
<h2>All rows</h2>
<div><table><tr>{"".join(f"<th>{h}</th>" for h in head)}</tr>
{table}
</table></div>
</body></html>
"""


def _image(title: str, vector: str) -> str:
    """The picture as data: drawings in one document would share the names of their clip paths."""
    data = base64.b64encode(vector.encode()).decode()
    return f'<img alt="{html.escape(title)}" src="data:image/svg+xml;base64,{data}">'
