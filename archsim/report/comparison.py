"""Terminal text of ``archsim compare``: rows grouped by protocol, ratios in words."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from archsim.baseline import Comparison, ComparisonRow, protocols
from archsim.evaluation.comparison import GpuComparison


def comparison_text(comparison: GpuComparison) -> Group:
    """Both workloads: the measured rows first, then the modelled ones for the trace."""
    parts = [*_workload(comparison.at_calibration), Text(""), *_workload(comparison.on_trace)]
    return Group(*parts)


def _workload(comparison: Comparison) -> list[RenderableType]:
    accelerator = comparison.accelerator
    parts: list[RenderableType] = [
        Text(f"Accelerator {accelerator.name}", style="bold"),
        _indented(
            f"{accelerator.attention_latency_s * 1e9:.4g} ns and "
            f"{accelerator.energy_per_token_j * 1e9:.4g} nJ per token and layer; "
            f"{accelerator.heads} heads x {accelerator.head_dim}, window {accelerator.window}; "
            f"{accelerator.protocol_note}"
        ),
        _indented("Attention of one layer only: no projections, no MLP, no host transfers."),
    ]
    for protocol in protocols():
        rows = [row for row in comparison.rows if row.protocol == protocol.name]
        if not rows:
            continue
        kind = "" if protocol.name == protocol.kind else f" (a {protocol.kind})"
        parts += [Text(""), Text(f"Protocol {protocol.name}{kind}", style="bold")]
        parts.append(_indented(protocol.description))
        parts += [_indented(f"- flaw: {flaw}") for flaw in protocol.flaws]
        for row in rows:
            parts += _row(row)
    if comparison.omitted:
        parts += [Text(""), Text("Left out", style="bold")]
        parts += [_indented(reason) for reason in comparison.omitted]
    return parts


def _row(row: ComparisonRow) -> list[RenderableType]:
    if row.per_token_energy_mj is None:
        energy = f"<{row.energy_bound_mj / row.batch:.3g} mJ"  # thermal design power x time
    else:
        energy = f"{row.per_token_energy_mj:.3g} mJ"
    return [
        Text(""),
        _indented(
            f"{row.gpu:<12} {row.source:<8} {row.precision}, batch {row.batch}, "
            f"window {row.window}: {row.per_token_latency_us:.4g} us, {energy}"
        ),
        _indented(
            f"{speed_text(row.speedup)} per token ({row.kind}), {energy_text(row.energy_ratio)}",
            indent=4,
            style="green" if row.speedup >= 1 else "red",
        ),
        _indented(row.note, indent=4, style="dim"),
    ]


def _indented(text: str, indent: int = 2, style: str = "none") -> Padding:
    return Padding(Text(text), (0, 0, 0, indent), style=style, expand=False)


def speed_text(speedup: float) -> str:
    """The text "344x faster", or "2.0x slower" below 1."""
    return f"{_times(speedup)} faster" if speedup >= 1 else f"{_times(1 / speedup)} slower"


def energy_text(energy_ratio: float | None) -> str:
    """The text "97,266x less energy", or "2.0x more energy" below 1."""
    if energy_ratio is None:
        return "energy not measured"
    if energy_ratio >= 1:
        return f"{_times(energy_ratio)} less energy"
    return f"{_times(1 / energy_ratio)} more energy"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.1f}x"
