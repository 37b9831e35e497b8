"""The table at the end of ``archsim baseline measure``: what the points say of the hardware."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from archsim.comparison.accelerator import AcceleratorFigures
from archsim.comparison.compare import ComparisonRow
from archsim.comparison.transformer import ModelRow
from archsim.report.comparison import UNFUSED_BY_GRAPH, unfused_by_graph
from archsim.report.formats import note, number
from archsim.units import NANOJOULE, NANOSECOND

HEAD = (
    f"{'protocol':<11} {'kernel':<9} {'prec.':<5} {'batch':>5} {'us/token':>9} {'mJ/token':>9} "
    f"{'faster':>9} {'less energy':>11}"
)


def measured_table(
    own: AcceleratorFigures,
    rows: Sequence[ComparisonRow],
    tokens: Sequence[ModelRow],
    reasons: Sequence[str] = (),
) -> Group:
    """Speed-up and energy ratio of the hardware over what was measured, protocol by protocol.

    `reasons`: why there is no row, where there is none.
    """
    parts: list[RenderableType] = [
        Text(""),
        Text(
            f"{own.name}, {own.heads} heads x {own.head_dim}, window {own.window:,}: "
            f"{NANOSECOND.of(own.attention_latency_s):.4g} ns, "
            f"{NANOJOULE.of(own.energy_per_token_j):.4g} nJ",
            style="bold",
        ),
    ]
    if not rows and not tokens:
        why = reasons or ("no measured point has these heads and this window",)
        parts.append(note(f"Nothing to compare: {'; '.join(why)}."))
        return Group(*parts)
    parts.append(Text(HEAD, style="bold"))
    parts += [_line(f"{row.protocol}{_mark(row)}", row.kernel, row) for row in rows]
    parts += [_line("a token", "graph", token) for token in tokens]
    if any(row.above_idle for row in rows):
        parts.append(note("* the paper's setting, energy above idle power, as the paper has it"))
    if any(unfused_by_graph(row) for row in rows):
        parts.append(note(UNFUSED_BY_GRAPH))
    if any(row.cache == "cold" for row in rows):
        parts.append(note("+ cold cache: K and V from memory"))
    if tokens:
        parts.append(
            note(
                "a token: of the whole model; here an assumed engine computes the rest of it. "
                + "; ".join(
                    f"batch {token.batch}: attention has {100 * token.attention_latency_share:.1f} "
                    f"% of the GPU's time, moved alone it gains {token.attention_only_speedup:.2f}x"
                    for token in tokens
                )
            )
        )
    return Group(*parts)


def _mark(row: ComparisonRow) -> str:
    return "*" * row.above_idle or "+" * (row.cache == "cold")


def _line(shown: str, kernel: str | None, row: ComparisonRow | ModelRow) -> Text:
    energy = row.per_token_energy_mj
    spent = "-" if energy is None else number(energy)
    saved = "-" if row.energy_ratio is None else f"{number(row.energy_ratio, 3)}x"
    return Text(
        f"{shown:<11} {kernel or '-':<9} {row.precision:<5} {row.batch:>5} "
        f"{number(row.per_token_latency_us):>9} {spent:>9} "
        f"{f'{number(row.speedup, 3)}x':>9} {saved:>11}"
    )
