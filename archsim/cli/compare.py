"""``archsim compare``: the accelerator beside GPUs, each figure with its protocol."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from archsim.cli import CONTEXT_SETTINGS

if TYPE_CHECKING:
    from rich.console import Console

    from archsim.baseline import Comparison, ComparisonRow

SCHEMA_VERSION = 1


@click.command("compare", context_settings=CONTEXT_SETTINGS)
@click.option("-c", "--config", metavar="HWCONFIG", help="Hardware: a shipped name or a YAML file.")
@click.option("-t", "--trace", metavar="TRACE", help="Token trace: a shipped name or a folder.")
@click.option("--set", "assignments", multiple=True, metavar="KEY.PATH=VALUE")
@click.option(
    "--gpu", "names", multiple=True, metavar="NAME", help="GPU name or YAML; default all."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option("--list-gpus", is_flag=True, help="List the GPUs that come with archsim and exit.")
def command(
    config: str | None,
    trace: str | None,
    assignments: tuple[str, ...],
    names: tuple[str, ...],
    as_json: bool,
    list_gpus: bool,
) -> None:
    """The accelerator beside GPUs, by measurements and a roofline."""
    from archsim.api import compare, simulate
    from archsim.config.gpu import available_gpus, load_gpu
    from archsim.config.hardware import DEFAULT_HARDWARE, load_hardware
    from archsim.config.loading import parse_assignments
    from archsim.workload.trace import default_trace_name, load_trace

    if list_gpus:
        gpus = {name: load_gpu(name).name for name in available_gpus()}
        if as_json:
            click.echo(json.dumps({"schema_version": SCHEMA_VERSION, "gpus": gpus}, indent=2))
        else:
            for name, full_name in gpus.items():
                click.echo(f"{name:<14}{full_name}")
        return
    chosen = [load_gpu(name) for name in dict.fromkeys(names or available_gpus())]
    hardware = load_hardware(config or DEFAULT_HARDWARE, parse_assignments(assignments))
    result = simulate(load_trace(trace or default_trace_name()), hardware)
    comparison = compare(result, chosen)
    if as_json:
        click.echo(json.dumps(comparison.document(), indent=2, allow_nan=False))
    else:
        _print(comparison.at_calibration)
        click.echo()
        _print(comparison.on_trace)


def _print(comparison: Comparison) -> None:
    from rich.console import Console

    from archsim.baseline import protocols

    console = Console(highlight=False, markup=False)
    accelerator = comparison.accelerator
    console.print(f"Accelerator {accelerator.name}", style="bold")
    _indented(
        console,
        f"{accelerator.attention_latency_s * 1e9:.4g} ns and "
        f"{accelerator.energy_per_token_j * 1e9:.4g} nJ per token and layer; "
        f"{accelerator.heads} heads x {accelerator.head_dim}, window {accelerator.window}; "
        f"{accelerator.protocol_note}",
    )
    _indented(console, "Attention of one layer only: no projections, no MLP, no host transfers.")
    for protocol in protocols():
        rows = [row for row in comparison.rows if row.protocol == protocol.name]
        if not rows:
            continue
        console.print(f"\nProtocol {protocol.name} ({protocol.kind})", style="bold")
        _indented(console, protocol.description)
        for flaw in protocol.flaws:
            _indented(console, f"- flaw: {flaw}")
        for row in rows:
            _print_row(console, row)
    if comparison.omitted:
        console.print("\nLeft out", style="bold")
        for reason in comparison.omitted:
            _indented(console, reason)


def _print_row(console: Console, row: ComparisonRow) -> None:
    if row.per_token_energy_mj is None:
        energy = f"<{row.energy_bound_mj / row.batch:.3g} mJ"  # thermal design power x time
    else:
        energy = f"{row.per_token_energy_mj:.3g} mJ"
    console.print()
    _indented(
        console,
        f"{row.gpu:<12} {row.source:<8} {row.precision}, batch {row.batch}, "
        f"window {row.window}: {row.per_token_latency_us:.4g} us, {energy}",
    )
    _indented(
        console,
        f"{speed_text(row.speedup)} per token ({row.kind}), {energy_text(row.energy_ratio)}",
        indent=4,
        style="green" if row.speedup >= 1 else "red",
    )
    _indented(console, row.note, indent=4, style="dim")


def _indented(console: Console, text: str, indent: int = 2, style: str = "none") -> None:
    from rich.padding import Padding
    from rich.text import Text

    console.print(Padding(Text(text), (0, 0, 0, indent), style=style, expand=False))


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
