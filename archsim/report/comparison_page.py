"""The page of a comparison: charts and every row, one file that asks the network for nothing."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from archsim.comparison.accelerator import AcceleratorFigures
from archsim.comparison.compare import ComparisonRow
from archsim.comparison.hardware import GpuComparison
from archsim.report.charts import INK, SERIES
from archsim.report.comparison import energy_text, error_text, speed_text
from archsim.report.page import page, table
from archsim.units import MICROSECOND, MILLIJOULE, NANOJOULE, NANOSECOND

HEAD = ("GPU", "protocol", "source", "kernel", "heads", "window", "batch", "precision", "cache",
        "us a token", "mJ a token", "the accelerator is, per token",
        "error of the model, %")  # fmt: skip


def comparison_page(comparison: GpuComparison, sections: Sequence[tuple[str, str]]) -> str:
    """The page with the charts of `sections` (title, SVG) in it; dark where the reader's screen is.

    A chart is no wider than a phone, and stands beside others where there is room.
    """
    figures = "\n".join(
        f"<figure><h2>{html.escape(title)}</h2>\n{vector}</figure>" for title, vector in sections
    )
    own = comparison.full_window
    latency_ns = NANOSECOND.of(own.attention_latency_s)
    energy_nj = NANOJOULE.of(own.energy_per_token_j)
    body = f"""<p>Attention of one layer only: no projections, no MLP, no host. The accelerator:
{latency_ns:.4g} ns (a latency), {energy_nj:.4g} nJ a token,
{own.heads} heads x {own.head_dim}, window {own.window:,}. Point at a mark to read what it is. What
each protocol measures, and what is wrong with the paper's, is in docs/baseline.md.</p>
<div class="charts">
{figures}
</div>
<h2>All rows</h2>
{table(HEAD, ((cells, "") for cells in _lines(comparison)))}
<p>{html.escape(ERRORS)}</p>"""
    return page(f"{own.name} beside GPUs", body, "76rem", _STYLE, dark=_dark())


_STYLE = """.charts { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; align-items: flex-start; }
figure { width: 22.5rem; max-width: 100%; }
h2 { font-size: 1rem; }
svg { max-width: 100%; height: auto; }
table { white-space: nowrap; }"""

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
