"""Terminal text of ``archsim compare``: one line a GPU, protocol and source, ratios in columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from archsim.comparison.accelerator import AcceleratorFigures
from archsim.comparison.capacity import Capacity
from archsim.comparison.compare import ComparisonRow
from archsim.comparison.hardware import GpuComparison
from archsim.comparison.request import Request
from archsim.comparison.transformer import ModelRow
from archsim.gpu.plan import KERNELS
from archsim.gpu.protocols import BATCHES, ProtocolDescription, protocols
from archsim.report.formats import cautions, note, number, unread
from archsim.report.retention import retention_table
from archsim.units import MICROJOULE, MICROSECOND, MILLIJOULE, NANOJOULE, NANOSECOND

NAME_WIDTH = 12

HEADS = (
    f"{'':{NAME_WIDTH}} {'':<8} {'':>5} {'':<4} {'us a':>7} {'uJ a':>7} {'':>7} {'less':>8} "
    "kernel,",
    f"{'GPU':<{NAME_WIDTH}} {'source':<8} {'batch':>5} {'prec':<4} {'token':>7} {'token':>7} "
    f"{'faster':>7} {'energy':>8} error, %",
)
CAPACITY_HEADS = (
    f"{'Same capacity':<{NAME_WIDTH + 9}} {'':>5} {'':>7} {'':>6} {'step':>9} {'tokens':>8} "
    f"{'tokens':>8} {'holds':>7}",
    f"{'':{NAME_WIDTH}} {'':<8} {'chips':>5} {'mm^2':>7} {'W':>6} {'faster':>9} {'/s/mm^2':>8} "
    f"{'/J':>8} {'at most':>7}",
)


def comparison_text(comparison: GpuComparison) -> Group:
    """What the rows have in common, then every protocol: the accelerator first."""
    parts: list[RenderableType] = [
        Text("Attention of one layer, one token: no projections, no MLP, no host", style="bold"),
        *accelerator_lines(comparison.accelerators.values()),
        *cautions(comparison.notes),
    ]
    for protocol in protocols():
        rows = [row for row in comparison.rows if row.protocol == protocol.name]
        if rows:
            own = comparison.accelerators[rows[0].workload]
            parts += _section(protocol, comparison.request, own, rows)
    parts += _legend(comparison.rows)
    parts += [Text(""), retention_table(comparison.retention, "the hardware")]
    parts += [Text(""), unread(comparison.unread)] if comparison.unread else []
    return Group(*parts, *left_out(comparison.omitted))


def _section(
    protocol: ProtocolDescription,
    request: Request,
    own: AcceleratorFigures,
    rows: Sequence[ComparisonRow],
) -> list[RenderableType]:
    """One protocol's table."""
    shape = f"{own.heads} heads x {own.head_dim}, window {own.window:,}"
    parts: list[RenderableType] = [
        Text(""),
        Text(f"Protocol {protocol.name}: {shape}, {rows[0].cache} cache", style="bold"),
        indented(protocol_description(protocol, request)),
        indented(_kinds(rows)),
        *(Text(head, style="bold") for head in HEADS),
        Text(
            f"{'accelerator':<{NAME_WIDTH}} {'archsim':<8} {1:>5} {'':<4} "
            f"{short(MICROSECOND.of(own.attention_latency_s), 7):>7} "
            f"{short(MICROJOULE.of(own.energy_per_token_j), 7):>7}",
            style="bold",
        ),
    ]
    for gpu in dict.fromkeys(row.gpu for row in rows):
        found = [row for row in rows if row.gpu == gpu]
        measured = [row for row in found if row.source == "measured"]
        parts += [_line(row) for row in measured]
        parts += _stated(found[0])
        parts += [_line(row) for row in found if row.source == "model"]
    for gpu in dict.fromkeys(row.gpu for row in rows):
        found = [row for row in rows if row.gpu == gpu]
        parts += _other_library(found)
        if any(unfused_by_graph(row) for row in found):
            parts.append(indented(f"{gpu}: {UNFUSED_BY_GRAPH}"))
    parts += [indented(f"- flaw: {flaw}") for flaw in protocol.flaws]
    with_idle = [
        f"{row.gpu} {energy_text(row.total_energy_ratio)}"
        for row in rows
        if row.above_idle and row.total_energy_ratio and row.source == "measured"
    ]
    if rows[0].above_idle:
        text = "Energy above idle power, as the authors have it"
        parts.append(note("; with idle power: ".join([text, *with_idle[:1]]) + "."))
    return parts + _capacities(own, rows)


def _kinds(rows: Sequence[ComparisonRow]) -> str:
    """Which of latency and throughput each side's time is."""
    kinds = sorted({row.kind for row in rows})
    told = {
        "latency": "a latency (one sequence waits so long)",
        "throughput": "a throughput (time of a batch over its size)",
    }
    return (
        f"The GPU's time is {' or, at batch 1, '.join(told[k] for k in reversed(kinds))}; the "
        "accelerator's is a latency."
    )


def _line(row: ComparisonRow) -> Text:
    if row.per_token_energy_mj is None:
        bound = MILLIJOULE.to(MICROJOULE, row.energy_bound_mj / row.batch)
        energy = f"<{short(bound, 6)}"  # thermal design x time
    else:
        energy = short(MILLIJOULE.to(MICROJOULE, row.per_token_energy_mj), 7)
    saved = "-" if row.energy_ratio is None else times(row.energy_ratio, 8)
    kernel = f"{row.kernel or '-'}{'*' if row.measured_file else ''}"
    return Text(
        f"{gpu_name(row.gpu)} {row.source:<8} {row.batch:>5} {row.precision:<4} "
        f"{short(row.per_token_latency_us, 7):>7} {energy:>7} "
        f"{times(row.speedup, 7):>7} {saved:>8} {kernel}{error_text(row)}",
        style="dim" if row.source == "model" else "none",
    )


def _stated(row: ComparisonRow) -> list[RenderableType]:
    """What the accelerator's paper states of the GPU, as a line of its own."""
    if row.claimed_speedup is None or row.claimed_energy_ratio is None:
        return []
    return [
        Text(
            f"{gpu_name(row.gpu)} {'stated':<8} {'-':>5} {'-':<4} {'-':>7} {'-':>7} "
            f"{times(row.claimed_speedup):>7} {times(row.claimed_energy_ratio):>8} the paper"
        )
    ]


UNFUSED_BY_GRAPH = "math is unfused operations, replayed from a graph: no fused kernel"


def unfused_by_graph(row: ComparisonRow) -> bool:
    """Whether a measured row of a protocol of fused kernels was measured with none."""
    fused = row.protocol in {"latency", "throughput"}
    return fused and row.source == "measured" and row.kernel == "math"


def _other_library(rows: Sequence[ComparisonRow]) -> list[RenderableType]:
    """A word where all that was measured is not what the model is of: the two do not contradict."""
    measured = [row.kernel for row in rows if row.source == "measured"]
    if len(measured) == len(rows) or not measured or not {None, *KERNELS}.isdisjoint(measured):
        return []
    names = ", ".join(dict.fromkeys(name for name in measured if name is not None))
    return [
        indented(f"{rows[0].gpu}: {names} is another kernel library; the model is of PyTorch's")
    ]


def error_text(row: ComparisonRow | ModelRow) -> str:
    """How far the model was off where that very point was measured, or the error to expect, %.

    Of time and energy; an ``f`` behind it marks a point that the model was fitted to.
    """
    pairs = (
        ("", "+.0f", row.latency_error, row.energy_error, "f" if row.error_fitted else ""),
        ("~", ".0f", row.expected_latency_error, row.expected_energy_error, ""),
    )
    for mark, form, time, energy, fitted in pairs:
        if time is not None:
            spent = "-" if energy is None else f"{100 * energy:{form}}"
            return f" {mark}{100 * time:{form}}/{spent}{fitted}"
    return ""


def _capacities(own: AcceleratorFigures, rows: Sequence[ComparisonRow]) -> list[RenderableType]:
    """As many chips as the batch has sequences: their area and power, and both sides' rates."""
    found = [(row, row.capacity) for row in rows if row.capacity is not None]
    if not found:
        return []
    one = found[0][1]
    chip = (
        f"{'accelerator':<{NAME_WIDTH}} {'archsim':<8} {1:>5} {short(one.area_mm2 / one.chips):>7} "
        f"{short(one.power_w / one.chips, 6):>6} {'':>9} {short(one.tokens_per_s_per_mm2):>8} "
        f"{short(one.tokens_per_j):>8} {one.sequences_per_chip:>7,}"
    )
    return [
        Text(""),
        *(Text(head, style="bold") for head in CAPACITY_HEADS),
        Text(chip, style="bold"),
        *(_capacity(row, capacity) for row, capacity in found),
        note(
            f"A chip holds {one.sequences_per_chip} sequence, all {own.layers} layers of it. "
            "chips, mm^2, W: as many as the GPU's batch. tokens: through all layers, of the GPU "
            "over its die. holds: sequences."
        ),
    ]


def _capacity(row: ComparisonRow, capacity: Capacity) -> Text:
    rates = (capacity.gpu_tokens_per_s_per_mm2, capacity.gpu_tokens_per_j)
    density, work = ("-" if rate is None else short(rate) for rate in rates)
    return Text(
        f"{gpu_name(row.gpu)} {row.source:<8} {capacity.chips:>5} {short(capacity.area_mm2, 7):>7} "
        f"{short(capacity.power_w, 6):>6} {times(capacity.speedup, 9):>9} {density:>8} {work:>8} "
        f"{short(capacity.gpu_most_sequences, 7):>7}"
    )


def protocol_description(protocol: ProtocolDescription, request: Request) -> str:
    """What the protocol is, and how the batch of its rows came about."""
    if protocol.fixed_batch:
        return protocol.description
    if request.batch is not None:
        return f"{protocol.description} Batch {request.batch:,}, as asked for."
    if protocol.batch is not None:
        return f"{protocol.description} Batch {protocol.batch:,}."
    return (
        f"{protocol.description} The batch where that is least: modelled, of 1 to {BATCHES[-1]:,} "
        "that fit the GPU's memory; measured, of those that were measured."
    )


def accelerator_lines(figures: Iterable[AcceleratorFigures]) -> list[RenderableType]:
    """What the accelerator is, and takes a token and layer."""
    parts: list[RenderableType] = []
    for found in figures:
        leaked = found.static_energy_j
        static = f" ({number(NANOJOULE.of(leaked))} of them static)" if leaked else ""
        parts.append(
            indented(
                f"accelerator {found.name}, workload {found.workload}: "
                f"{NANOSECOND.of(found.attention_latency_s):.4g} ns and "
                f"{NANOJOULE.of(found.energy_per_token_j):.4g} nJ{static} per token and layer, "
                f"{found.heads} heads x {found.head_dim}, window {found.window:,}: "
                f"{found.protocol_note}"
            )
        )
    return parts


def _legend(rows: Sequence[ComparisonRow]) -> list[RenderableType]:
    """What the columns mean, and who measured what."""
    measured: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.source == "measured":
            measured.setdefault(row.note, {})[row.gpu] = None
    parts: list[RenderableType] = [Text("")]
    files = dict.fromkeys(row.measured_file for row in rows if row.measured_file)
    if files:
        parts.append(note(f"*: of {', '.join(files)}; any other measured row comes with archsim"))
    parts += [note(f"{', '.join(names)}, measured: {text}") for text, names in measured.items()]
    if any(row.source == "model" for row in rows):
        parts.append(
            note(
                "model: docs/baseline.md; fused and math are what it is of. error: its own, time/"
                "energy, where that very point was measured; f: the model was fitted to that "
                "point, no other; ~: to expect of such work where it was not measured; -: not known"
            )
        )
    if any(row.energy_mj is None for row in rows):
        parts.append(note("<: energy was not measured; thermal design power x time"))
    return parts


def left_out(reasons: Sequence[str]) -> list[RenderableType]:
    """What has no row, each with its reason."""
    if not reasons:
        return []
    return [Text(""), Text("Left out", style="bold"), *(indented(reason) for reason in reasons)]


def gpu_name(gpu: str) -> str:
    """A GPU's name to the width of its column; a long one has a line of its own."""
    return f"{gpu:<{NAME_WIDTH}}" if len(gpu) <= NAME_WIDTH else f"{gpu}\n{'':{NAME_WIDTH}}"


def indented(text: str, indent: int = 2, style: str = "none") -> Padding:
    return Padding(Text(text), (0, 0, 0, indent), style=style, expand=False)


def short(value: float, width: int = 8) -> str:
    """Four digits, or three and an exponent where that would be wider than `width`."""
    text = number(value)
    return text if len(text) <= width else f"{value:.{1 if width < 8 else 2}e}"


def times(ratio: float, width: int = 10) -> str:
    """The text "344x", "4.5x" or "0.50x": how many times better the accelerator is.

    With an exponent where that would be wider than `width`, of at least 6.
    """
    text = f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.{1 if ratio >= 1 else 2}f}x"
    return text if len(text) <= width else f"{ratio:.{1 if width > 7 else 0}e}x"


def speed_text(speedup: float) -> str:
    """The text "344x faster", or "2.0x slower" below 1."""
    return f"{times(speedup)} faster" if speedup >= 1 else f"{times(1 / speedup)} slower"


def energy_text(energy_ratio: float | None) -> str:
    """The text "97,266x less energy", or "2.0x more energy" below 1."""
    if energy_ratio is None:
        return "energy not measured"
    if energy_ratio >= 1:
        return f"{times(energy_ratio)} less energy"
    return f"{times(1 / energy_ratio)} more energy"
