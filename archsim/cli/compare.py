"""``archsim compare``: the accelerator beside GPUs, each figure with its protocol."""

from __future__ import annotations

import json

import click

from archsim.cli import CONTEXT_SETTINGS


@click.command("compare", context_settings=CONTEXT_SETTINGS)
@click.option("-c", "--config", metavar="HWCONFIG", help="Hardware: a shipped name or a YAML file.")
@click.option("-t", "--trace", metavar="TRACE", help="Token trace: a shipped name or a folder.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set window=256, ..."
)
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
    from archsim.report.comparison import comparison_text
    from archsim.report.tables import show
    from archsim.workload.trace import default_trace_name, load_trace

    if list_gpus:
        gpus = {name: load_gpu(name).name for name in available_gpus()}
        if as_json:
            from archsim.evaluation.comparison import SCHEMA_VERSION

            click.echo(json.dumps({"schema_version": SCHEMA_VERSION, "gpus": gpus}, indent=2))
        else:
            for name, full_name in gpus.items():
                click.echo(f"{name:<14}{full_name}")
        return
    chosen = [load_gpu(name) for name in dict.fromkeys(names or available_gpus())]
    hardware = load_hardware(
        DEFAULT_HARDWARE if config is None else config, parse_assignments(assignments)
    )
    result = simulate(load_trace(default_trace_name() if trace is None else trace), hardware)
    comparison = compare(result, chosen)
    if as_json:
        click.echo(json.dumps(comparison.document(), indent=2, allow_nan=False))
    else:
        show(comparison_text(comparison))
