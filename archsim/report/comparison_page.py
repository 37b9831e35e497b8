"""The page of a comparison: charts and every row, one file that asks the network for nothing."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from archsim.comparison.accelerator import AcceleratorFigures
from archsim.comparison.compare import ComparisonRow
from archsim.comparison.hardware import GpuComparison
from archsim.report.charts import INK, PAPER, SERIES
from archsim.report.comparison import energy_text, error_text, speed_text
from archsim.units import MICROSECOND, MILLIJOULE, NANOJOULE, NANOSECOND

HEAD = ("GPU", "protocol", "source", "kernel", "heads", "window", "batch", "precision", "cache",
        "us a token", "mJ a token", "the accelerator is, per token",
        "error of the model, %")  # fmt: skip


def comparison_page(comparison: GpuComparison, sections: Sequence[tuple[str, str]]) -> str:
    """The page with the charts of `sections` (title, SVG) in it; dark where the reader's screen is.

    A chart is no wider than a phone, and stands beside others where there is room.
    """
    table = "\n".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
        for cells in _lines(comparison)
    )
    figures = "\n".join(
        f"<figure><h2>{html.escape(title)}</h2>\n{vector}</figure>" for title, vector in sections
    )
    own = comparison.full_window
    name = html.escape(own.name)
    latency_ns = NANOSECOND.of(own.attention_latency_s)
    energy_nj = NANOJOULE.of(own.energy_per_token_j)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{name} beside GPUs</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 1.5rem auto;
  padding: 0 1rem; color: {INK[0]}; background: {PAPER[0]}; }}
.charts {{ display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; align-items: flex-start; }}
figure {{ margin: 0; width: 22.5rem; max-width: 100%; }}
h2 {{ font-size: 1rem; }}
svg {{ max-width: 100%; height: auto; }}
.table {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 13px; white-space: nowrap; }}
th, td {{ text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #8886; }}
@media (prefers-color-scheme: dark) {{
body {{ color: {INK[1]}; background: {PAPER[1]}; }}
{_dark()}
}}
</style></head><body>
<h1>{name} beside GPUs</h1>
<p>Attention of one layer only: no projections, no MLP, no host. The accelerator:
{latency_ns:.4g} ns (a latency), {energy_nj:.4g} nJ a token,
{own.heads} heads x {own.head_dim}, window {own.window:,}. Point at a mark to read what it is. What
each protocol measures, and what is wrong with the paper's, is in docs/baseline.md.</p>
<div class="charts">
{figures}
</div>
<h2>All rows</h2>
<div class="table"><table><tr>{"".join(f"<th>{h}</th>" for h in HEAD)}</tr>
{table}
</table></div>
<p>{html.escape(ERRORS)}</p>
</body></html>
"""


ERRORS = (
    "Error of the model, time/energy: its own where that very point was measured (f: it was fitted "
    "to that point); ~: to expect of such work where it was not; -: not known."
)


def _lines(comparison: GpuComparison) -> Iterator[Sequence[str]]:
    """Cells of every row: each protocol's accelerator, then GPUs, what the paper states with it."""
    own, stated = "", ("", "")
    for row in comparison.rows:
        if row.protocol != own:
            own = row.protocol
            yield _own_line(comparison.accelerators[row.workload], own)
        if row.claimed_speedup is not None and stated != (row.gpu, own):
            stated = (row.gpu, own)
            said = f"{speed_text(row.claimed_speedup)}, {energy_text(row.claimed_energy_ratio)}"
            yield (row.gpu, own, "stated by the paper", *"-" * 8, said, "-")
        yield _line(row)


def _own_line(own: AcceleratorFigures, protocol: str) -> Sequence[str]:
    return (
        own.name, protocol, "archsim", "-", f"{own.heads}x{own.head_dim}", f"{own.window:,}",
        "1", "-", "-", f"{MICROSECOND.of(own.attention_latency_s):.4g}",
        f"{MILLIJOULE.of(own.energy_per_token_j):.4g}", "1 (latency)", "-",
    )  # fmt: skip


def _source(row: ComparisonRow) -> str:
    return row.source if row.measured_file is None else f"{row.source}, {row.measured_file}"


def _line(row: ComparisonRow) -> Sequence[str]:
    energy = row.per_token_energy_mj
    return (
        row.gpu, row.protocol, _source(row), row.kernel or "-", f"{row.heads}x{row.head_dim}",
        f"{row.window:,}", f"{row.batch:,}", row.precision, row.cache,
        f"{row.per_token_latency_us:.4g}",
        f"< {row.energy_bound_mj / row.batch:.4g}" if energy is None else f"{energy:.4g}",
        f"{speed_text(row.speedup)} ({row.kind}), {energy_text(row.energy_ratio)}",
        error_text(row).strip() or "-",
    )  # fmt: skip


def _dark() -> str:
    """Rules that give every colour of the charts its counterpart on a dark page."""
    pairs = [
        INK,
        ("#000", INK[1]),
        ("#000000", INK[1]),
        ("#888", "#999"),
        ("#ddd", "#444"),
        *SERIES,
    ]
    return "\n".join(
        f'svg [{kind}="{light}"] {{ {kind}: {dark}; }}'
        for light, dark in pairs
        for kind in ("fill", "stroke")
    )
