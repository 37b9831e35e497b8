"""Terminal text of ``archsim compare``: rows grouped by protocol, ratios in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from archsim.baseline import (
    AcceleratorFigures,
    Capacity,
    ComparisonRow,
    ProtocolDescription,
    Request,
    protocols,
)
from archsim.baseline.protocols import BATCHES
from archsim.baseline.token import kernels_besides_attention
from archsim.baseline.transformer import ModelRow
from archsim.config.digital import DigitalConfig
from archsim.evaluation.comparison import GpuComparison, WholeModelComparison
from archsim.report.tables import note, number, percent, unread

NAME_WIDTH = 12

ATTENTION_HEAD = (
    f"{'GPU':<{NAME_WIDTH}} {'source':<8} {'heads':>6} {'batch':>5} {'window':>6} {'prec.':<5} "
    f"{'cache':<5} {'us/token':>8} {'mJ/token':>8}"
)
MODEL_HEAD = (
    f"{'GPU':<{NAME_WIDTH}} {'source':<8} {'batch':>5} {'prec.':<5} {'us/token':>8} "
    f"{'attention':>9} {'mJ/token':>8}   {'here: us':>8}"
)


def comparison_text(comparison: GpuComparison) -> Group:
    """Every protocol: its measured rows, then the modelled ones."""
    parts: list[RenderableType] = [
        *_accelerators(comparison.accelerators.values()),
        note("Attention of one layer only: no projections, no MLP, no host."),
    ]
    for protocol in protocols():
        rows = [row for row in comparison.rows if row.protocol == protocol.name]
        if not rows:
            continue
        parts += [Text(""), Text(f"Protocol {protocol.name}", style="bold")]
        parts.append(_indented(_description(protocol, comparison.request)))
        parts += [_indented(f"- flaw: {flaw}") for flaw in protocol.flaws]
        parts += [Text(""), Text(ATTENTION_HEAD, style="bold")]
        for row in rows:
            parts += _attention_row(row)
        parts += _notes(rows)
    parts += [Text(""), unread(comparison.unread)] if comparison.unread else []
    return Group(*parts, *_left_out(comparison.omitted))


def model_text(comparison: WholeModelComparison) -> Group:
    """A whole token on both sides, with the share that attention has, and the assumption."""
    found = comparison.comparison
    shape = found.shape
    parts: list[RenderableType] = [
        *_accelerators([found.accelerator]),
        Text(""),
        Text(f"One token of {shape.name}", style="bold"),
        _indented(
            f"{shape.layers} layers x {shape.heads} heads x {shape.head_dim}; besides attention "
            f"{shape.macs / 1e6:,.1f} M multiply-accumulates and {shape.weights / 1e6:,.1f} M "
            "weights. Without embedding look-up, sampling and host on both sides."
        ),
        _indented(f"Here, besides attention (all of it assumed): {_engine(found.digital)}."),
        _indented(
            f"GPU: besides attention {kernels_besides_attention(shape)} kernels that read the "
            "weights once a step."
        ),
    ]
    for protocol in protocols():
        rows = [row for row in found.rows if row.protocol == protocol.name]
        if not rows:
            continue
        window = f"window {rows[0].window:,}"
        parts += [Text(""), Text(f"Protocol {protocol.name}, {window}", style="bold")]
        parts += [_indented(_description(protocol, comparison.request)), Text("")]
        parts.append(Text(MODEL_HEAD, style="bold"))
        for row in rows:
            parts += _model_row(row)
    parts.append(Text(""))
    parts.append(
        note(
            "attention: its share of the time. Both sides hold the batch: here every sequence has "
            "its own arrays, and one engine computes the rest for all. Moved: each layer sends q, "
            "K, V over the link and fetches y, two transfers, the GPU idle meanwhile."
        )
    )
    parts += [Text(""), unread(comparison.unread)] if comparison.unread else []
    return Group(*parts, *_left_out(found.omitted))


def _description(protocol: ProtocolDescription, request: Request) -> str:
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


def _accelerators(figures: Iterable[AcceleratorFigures]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for found in figures:
        leaked = found.static_energy_j
        static = f" ({number(leaked * 1e9)} of them static)" if leaked else ""
        parts.append(Text(f"Accelerator {found.name}, workload {found.workload}", style="bold"))
        parts.append(
            _indented(
                f"{found.attention_latency_s * 1e9:.4g} ns and "
                f"{found.energy_per_token_j * 1e9:.4g} nJ{static} per token and layer, "
                f"{found.heads} heads x {found.head_dim}, window {found.window:,}: "
                f"{found.protocol_note}"
            )
        )
    return parts


def _attention_row(row: ComparisonRow) -> list[RenderableType]:
    if row.per_token_energy_mj is None:
        energy = f"<{_short(row.energy_bound_mj / row.batch)}"  # thermal design power x time
    else:
        energy = _short(row.per_token_energy_mj)
    text = f"{speed_text(row.speedup)} per token ({row.kind}), {energy_text(row.energy_ratio)}"
    if row.source == "measured" and row.kernel is not None:
        text += f"; kernel {row.kernel}"
    parts: list[RenderableType] = [
        Text(
            f"{_name(row.gpu)} {row.source:<8} "
            f"{f'{row.heads}x{row.head_dim}':>6} {row.batch:>5} {row.window:>6} "
            f"{row.precision:<5} {row.cache:<5} {_short(row.per_token_latency_us):>8} {energy:>8}"
        ),
        _ratio(text, row.speedup),
    ]
    if row.above_idle and row.total_energy_ratio and row.source == "measured":
        parts.append(_indented(f"with idle power: {energy_text(row.total_energy_ratio)}", indent=4))
    predicted = row.latency_error is not None  # then the claim stands at the measured point
    if row.claimed_speedup and row.claimed_energy_ratio and not predicted:
        claim = f"{_times(row.claimed_speedup)} and {_times(row.claimed_energy_ratio)}"
        parts.append(_indented(f"the paper claims {claim}", indent=4))
    parts += _model_error(row)
    if row.capacity is not None:
        parts.append(_indented(_capacity(row.capacity), indent=4, style="dim"))
    return parts


def _model_error(row: ComparisonRow | ModelRow) -> list[RenderableType]:
    """How far the model was off where that very point was measured, or the error to expect."""
    if row.latency_error is not None:
        text = f"error of the model: time {100 * row.latency_error:+.1f} %"
        if row.energy_error is not None:
            text += f", energy {100 * row.energy_error:+.1f} %"
    elif row.expected_latency_error is not None and row.expected_energy_error is not None:
        text = (
            "error to expect (no such point was measured): time "
            f"{percent(row.expected_latency_error)}, energy {percent(row.expected_energy_error)}"
        )
    else:
        return []
    return [_indented(text, indent=4, style="dim")]


def _name(gpu: str) -> str:
    """A GPU's name to the width of its column; a long one has a line of its own."""
    return f"{gpu:<{NAME_WIDTH}}" if len(gpu) <= NAME_WIDTH else f"{gpu}\n{'':{NAME_WIDTH}}"


def _capacity(capacity: Capacity) -> str:
    area, rate = capacity.area_mm2, capacity.tokens_per_s_per_mm2
    gpu_rate, gpu_work = capacity.gpu_tokens_per_s_per_mm2, capacity.gpu_tokens_per_j
    return (
        f"same capacity: {capacity.chips:,} chips of {capacity.sequences_per_chip} sequence and "
        f"{capacity.layers} layers, {number(area, 3)} mm^2, {number(capacity.power_w, 3)} W: "
        f"{speed_text(capacity.speedup)}. Through all layers: tokens/s/mm^2 {_power(rate)} "
        f"(GPU {_power(gpu_rate)}), tokens/J {_power(capacity.tokens_per_j)} "
        f"(GPU {_power(gpu_work)}; it holds {capacity.gpu_most_sequences:,} sequences)"
    )


def _model_row(row: ModelRow) -> list[RenderableType]:
    own = row.accelerator_latency_us / row.batch
    energy = "-" if row.per_token_energy_mj is None else _short(row.per_token_energy_mj)
    text = f"{speed_text(row.speedup)} per token ({row.kind}), {energy_text(row.energy_ratio)}"
    share = row.attention_energy_share
    return [
        Text(
            f"{_name(row.gpu)} {row.source:<8} {row.batch:>5} {row.precision:<5} "
            f"{_short(row.per_token_latency_us):>8} {percent(row.attention_latency_share):>9} "
            f"{energy:>8}   {_short(own):>8}"
        ),
        _ratio(text, row.speedup),
        _indented(
            f"GPU with its attention moved here: {_short(row.moved_latency_us / row.batch)} us a "
            f"token, {row.attention_only_speedup:.2f}x faster than alone (at most "
            f"{row.attention_only_bound:.2f}x); link, assumed: {row.link_bytes / 1e3:,.1f} kB and "
            f"{_short(row.link_latency_us)} us a step",
            indent=4,
        ),
        _indented(
            ("" if share is None else f"attention has {percent(share)} of the GPU's energy; ")
            + f"here {percent(row.accelerator_attention_latency_share)} of the time and "
            f"{percent(row.accelerator_attention_energy_share)} of the "
            f"{_short(row.accelerator_energy_mj / row.batch)} mJ",
            indent=4,
            style="dim",
        ),
        *_model_error(row),
    ]


def _engine(digital: DigitalConfig) -> str:
    text = (
        f"{number(digital.rate * 1e-12, 3)} TMAC/s, "
        f"{number(digital.energy_per_mac * 1e12, 3)} pJ a MAC, weights {digital.weights}"
    )
    if digital.weights == "streamed":
        text += (
            f" ({digital.weight_bits} bit, {number(digital.weight_bandwidth * 1e-9, 4)} GB/s, "
            f"{number(digital.energy_per_weight_byte * 1e12, 3)} pJ a byte)"
        )
    return text


def _notes(rows: Sequence[ComparisonRow]) -> list[RenderableType]:
    measured: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.source == "measured":
            measured.setdefault(row.note, {})[row.gpu] = None
    parts: list[RenderableType] = [
        note(f"{', '.join(names)}, measured: {text}") for text, names in measured.items()
    ]
    if any(row.source == "model" for row in rows):
        above = " above idle" if rows[0].protocol == "paper" else ""
        parts.append(note(f"model: docs/baseline.md; energy{above} modelled"))
    if any(row.energy_mj is None for row in rows):
        parts.append(note("<: energy was not measured; thermal design power x time"))
    return parts


def _left_out(reasons: Sequence[str]) -> list[RenderableType]:
    if not reasons:
        return []
    return [Text(""), Text("Left out", style="bold"), *(_indented(reason) for reason in reasons)]


def _ratio(text: str, speedup: float) -> Padding:
    return _indented(text, indent=4, style="green" if speedup >= 1 else "red")


def _indented(text: str, indent: int = 2, style: str = "none") -> Padding:
    return Padding(Text(text), (0, 0, 0, indent), style=style, expand=False)


def _short(value: float) -> str:
    """Four digits, or three and an exponent where that would be too long."""
    text = number(value)
    return text if len(text) <= 8 else f"{value:.2e}"


def _power(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


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
