"""Terminal text of ``archsim compare --scope model``: a whole token on both sides."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from archsim.comparison.hardware import WholeModelComparison
from archsim.comparison.transformer import ModelRow
from archsim.gpu.protocols import protocols
from archsim.gpu.token import kernels_besides_attention
from archsim.hardware.digital import DigitalConfig
from archsim.report.comparison import (
    NAME_WIDTH,
    accelerator_lines,
    error_text,
    gpu_name,
    indented,
    left_out,
    protocol_description,
    short,
    times,
)
from archsim.report.formats import cautions, note, number, percent, unread
from archsim.report.retention import retention_table
from archsim.units import PICOJOULE

HEADS = (
    f"{'':{NAME_WIDTH}} {'':<8} {'':>5} {'':<4} {'us a':>7} {'atten-':>7} {'mJ a':>7} {'':>6} "
    f"{'less':>6} {'model,':<9}",
    f"{'GPU':<{NAME_WIDTH}} {'source':<8} {'batch':>5} {'prec':<4} {'token':>7} {'tion':>7} "
    f"{'token':>7} {'faster':>6} {'energy':>6} {'error, %':<9}",
)
MOVED = "GPU with its attention moved here"


def model_text(comparison: WholeModelComparison) -> Group:
    """A whole token on both sides, with the share that attention has, and the assumption."""
    found = comparison.comparison
    shape = found.shape
    parts: list[RenderableType] = [
        Text(f"One token of {shape.name}", style="bold"),
        *accelerator_lines([found.accelerator]),
        *cautions(comparison.notes),
        indented(
            f"{shape.layers} layers x {shape.heads} heads x {shape.head_dim}; besides attention "
            f"{shape.macs / 1e6:,.1f} M multiply-accumulates and {shape.weights / 1e6:,.1f} M "
            "weights. Without embedding look-up, sampling and host on both sides."
        ),
        indented(f"Here, besides attention (all of it assumed): {_engine(found.digital)}."),
        indented(
            f"GPU: besides attention {kernels_besides_attention(shape)} kernels that read the "
            "weights once a step."
        ),
    ]
    for protocol in protocols():
        rows = [row for row in found.rows if row.protocol == protocol.name]
        if not rows:
            continue
        parts += [
            Text(""),
            Text(f"Protocol {protocol.name}, window {rows[0].window:,}", style="bold"),
            indented(protocol_description(protocol, comparison.request)),
            indented(_kinds(rows)),
            *(Text(head, style="bold") for head in HEADS),
        ]
        parts += [_accelerator(row) for row in {row.batch: row for row in rows}.values()]
        for row in rows:
            parts += _rows(row)
    parts += [
        Text(""),
        note(
            "attention: its share of the time. faster, less energy: the accelerator's token beside "
            "that of the line. Both sides hold the batch: here every sequence has its own arrays, "
            "and one engine computes the rest for all. Moved: each layer sends q, K, V over the "
            "link (assumed) and fetches y, two transfers, the GPU idle meanwhile. error: of the "
            "model, time/energy, never fitted to one; ~: to expect, no such token was measured. "
            "With a batch cells age by the whole step."
        ),
        Text(""),
        retention_table(comparison.retention, "the hardware", comparison.retention_alone),
    ]
    parts += [Text(""), unread(comparison.unread)] if comparison.unread else []
    return Group(*parts, *left_out(found.omitted))


def _kinds(rows: list[ModelRow]) -> str:
    kinds = sorted({row.kind for row in rows})
    told = {"latency": "latencies of one token", "throughput": "time of a step over its batch"}
    return f"Times of both sides: {'; at batch 1 '.join(told[kind] for kind in reversed(kinds))}."


def _accelerator(row: ModelRow) -> Text:
    """The accelerator's own token, which depends on the batch alone."""
    return Text(
        f"{'accelerator':<{NAME_WIDTH}} {'assumed':<8} {row.batch:>5} {'':<4} "
        f"{short(row.accelerator_latency_us / row.batch, 7):>7} "
        f"{percent(row.accelerator_attention_latency_share):>7} "
        f"{short(row.accelerator_energy_mj / row.batch, 7):>7}",
        style="bold",
    )


def _rows(row: ModelRow) -> list[RenderableType]:
    """A GPU's token, and the same with its attention moved to the accelerator's arrays."""
    spent, saved, faster = row.energy_mj, row.energy_ratio, times(row.speedup, 6)
    own_attention = row.accelerator_latency_us * row.accelerator_attention_latency_share
    moved_energy = row.moved_energy_mj
    cells = (
        short(row.moved_latency_us / row.batch, 7),
        percent(own_attention / row.moved_latency_us),
        "-" if moved_energy is None else short(moved_energy / row.batch, 7),
        times(row.moved_latency_us / row.accelerator_latency_us, 6),
        "-" if moved_energy is None else times(moved_energy / row.accelerator_energy_mj, 6),
    )
    share = row.attention_energy_share
    return [
        Text(
            f"{gpu_name(row.gpu)} {row.source:<8} {row.batch:>5} {row.precision:<4} "
            f"{short(row.per_token_latency_us, 7):>7} {percent(row.attention_latency_share):>7} "
            f"{'-' if spent is None else short(spent / row.batch, 7):>7} {faster:>6} "
            f"{'-' if saved is None else times(saved, 6):>6}{error_text(row)}"
        ),
        Text("{} {:>6} {:>7} {:>7} {:>6} {:>6}".format(MOVED, *cells)),
        indented(
            f"so {row.attention_only_speedup:.2f}x faster than alone (at most "
            f"{row.attention_only_bound:.2f}x); link, assumed: {row.link_bytes / 1e3:,.1f} kB and "
            f"{short(row.link_latency_us)} us a step"
            + ("" if share is None else f"; attention has {percent(share)} of the GPU's energy")
            + f", {percent(row.accelerator_attention_energy_share)} of the accelerator's",
            indent=4,
            style="dim",
        ),
    ]


def _engine(digital: DigitalConfig) -> str:
    text = (
        f"{number(digital.rate * 1e-12, 3)} TMAC/s, "
        f"{number(PICOJOULE.of(digital.energy_per_mac), 3)} pJ a MAC, weights {digital.weights}"
    )
    if digital.weights == "streamed":
        text += (
            f" ({digital.weight_bits} bit, {number(digital.weight_bandwidth * 1e-9, 4)} GB/s, "
            f"{number(PICOJOULE.of(digital.energy_per_weight_byte), 3)} pJ a byte)"
        )
    return text
