"""``archsim compare``: the accelerator beside GPUs, each figure with its protocol."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archsim.cli import CONTEXT_SETTINGS

if TYPE_CHECKING:
    from archsim.comparison.hardware import GpuComparison, Shape, WholeModelComparison
    from archsim.gpu.file import Cache, Gpu, Precision, Protocol
    from archsim.hardware.load import Hardware
    from archsim.result import Result

PROTOCOLS = ["paper", "latency", "throughput", "eager"]
"""As `archsim.gpu.protocols` has them: not imported, so that help comes at once."""


@click.command("compare", context_settings=CONTEXT_SETTINGS)
@click.option("-c", "--config", metavar="HWCONFIG", help="Hardware: a shipped name or a YAML file.")
@click.option(
    "--shape",
    type=click.Choice(["paper", "trace"]),
    help="Of all rows: 12 heads x 64 (default), or a trace's.",
)
@click.option(
    "-t", "--trace", metavar="TRACE", help="Take the shape of this trace: a name or a folder."
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set window=256, ..."
)
@click.option(
    "--gpu", "names", multiple=True, metavar="NAME", help="GPU name or YAML; default all."
)
@click.option(
    "--measured",
    multiple=True,
    metavar="FILE",
    help="A YAML of `archsim baseline measure` to read as well.",
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    type=click.Choice(PROTOCOLS),
    help="How the GPU runs; repeatable, default all.",
)
@click.option(
    "--batch", type=click.IntRange(min=1), metavar="B", help="Batch of throughput and eager."
)
@click.option(
    "--window",
    type=click.IntRange(min=1),
    metavar="S",
    help="A full window of S tokens on both sides.",
)
@click.option(
    "--precision", type=click.Choice(["fp16", "bf16", "fp32"]), help="Default: the protocol's."
)
@click.option(
    "--cache",
    type=click.Choice(["warm", "cold"]),
    default="warm",
    show_default=True,
    help="K and V still in the GPU's L2 where they fit, or not.",
)
@click.option(
    "--scope",
    type=click.Choice(["attention", "model"]),
    default="attention",
    show_default=True,
    help="One layer's attention, or a whole token of GPT-2 small.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option("--csv", "csv_path", metavar="FILE", help="Write the rows to a CSV file as well.")
@click.option("--plot", metavar="DIR", help="Write roofline and ratios as SVG, PNG and a page.")
@click.option(
    "--fail-below", type=float, metavar="RATIO", help="Exit 1 if a speed-up is below RATIO."
)
@click.option("--list-gpus", is_flag=True, help="List the GPUs that come with archsim and exit.")
def command(
    config: str | None,
    shape: Shape | None,
    trace: str | None,
    assignments: tuple[str, ...],
    names: tuple[str, ...],
    measured: tuple[str, ...],
    protocols: tuple[Protocol, ...],
    batch: int | None,
    window: int | None,
    precision: Precision | None,
    cache: Cache,
    scope: str,
    as_json: bool,
    csv_path: str | None,
    plot: str | None,
    fail_below: float | None,
    list_gpus: bool,
) -> None:
    """The accelerator beside GPUs, by measurements and a model.

    \b
    archsim compare --gpu rtx-4090 --protocol paper
    archsim compare --protocol throughput --batch 64 --window 1024
    archsim compare --shape trace
    archsim compare --scope model --gpu h100-sxm
    """
    from archsim.api import compare, compare_model
    from archsim.config.loading import parse_assignments
    from archsim.gpu.file import available_gpus
    from archsim.models.adapted import hardware_for, trace_model
    from archsim.traces.folder import default_trace_name

    if list_gpus:
        _list_gpus(as_json)
        return
    if fail_below is not None and not 0 < fail_below < float("inf"):  # nan is below nothing
        raise click.UsageError("--fail-below needs a ratio above 0")
    if shape == "paper" and trace is not None:
        raise click.UsageError("--shape paper reads no trace: leave out --trace")
    traced = shape == "trace" or trace is not None
    if scope == "model" and (cache == "cold" or traced or plot is not None):
        raise click.UsageError("--scope model goes without --cache, --shape, --trace and --plot")
    if plot is not None and traced:
        raise click.UsageError("--plot draws 12 heads x 64: leave out --shape and --trace")
    if plot is not None and (protocols or batch is not None):
        raise click.UsageError("--plot shows every batch: leave out --protocol and --batch")
    chosen = _gpus(names or available_gpus(), measured)
    name = default_trace_name() if trace is None else trace
    folder = trace_model(name) if traced else None
    hardware = hardware_for(folder, config, parse_assignments(assignments))
    wanted = protocols or None
    comparison: GpuComparison | WholeModelComparison
    if scope == "model":
        comparison = compare_model(
            hardware, chosen, protocols=wanted, batch=batch, window=window, precision=precision
        )
    else:
        comparison = compare(
            _simulated(hardware, name) if traced else hardware,
            chosen,
            shape="trace" if traced else "paper",
            protocols=wanted,
            batch=batch,
            window=window,
            precision=precision,
            cache=cache,
        )
        if plot is not None:
            _plot(comparison, chosen, Path(plot))
    _show(comparison, as_json, csv_path)
    _check(comparison, fail_below)


def _simulated(hardware: Hardware, trace: str) -> Result:
    from archsim.api import simulate
    from archsim.traces.trace import load_trace

    return simulate(load_trace(trace), hardware)


def _list_gpus(as_json: bool) -> None:
    from archsim.comparison.hardware import SCHEMA_VERSION
    from archsim.gpu.file import available_gpus, load_gpu

    gpus = {name: load_gpu(name, measured=False).name for name in available_gpus()}
    if as_json:
        click.echo(json.dumps({"schema_version": SCHEMA_VERSION, "gpus": gpus}, indent=2))
    else:
        for name, full_name in gpus.items():
            click.echo(f"{name:<14}{full_name}")


def _gpus(names: tuple[str, ...], measured: tuple[str, ...]) -> list[Gpu]:
    from archsim.errors import ConfigError
    from archsim.gpu.file import load_gpu, load_measured, with_measured

    files = [load_measured(Path(path)) for path in dict.fromkeys(measured)]
    gpus: list[tuple[str, Gpu]] = []
    for name in names:
        found = (Path(name).stem, load_gpu(name))
        if found not in gpus:  # a shipped GPU may be given by name and by path
            gpus.append(found)
    for path, file in zip(dict.fromkeys(measured), files, strict=True):
        if file.gpu not in [name for name, _ in gpus]:
            raise ConfigError(f"{path}: measured on {file.gpu}, which is not compared; add --gpu")
    return [with_measured(gpu, name, files) for name, gpu in gpus]


def _plot(comparison: GpuComparison, gpus: list[Gpu], folder: Path) -> None:
    from archsim.report.comparison_charts import write_charts

    for path in write_charts(comparison, gpus, folder):
        click.echo(f"wrote {path}", err=True)


def _show(
    comparison: GpuComparison | WholeModelComparison, as_json: bool, csv_path: str | None
) -> None:
    from archsim.comparison.hardware import WholeModelComparison
    from archsim.files import write_text
    from archsim.report.comparison import comparison_text
    from archsim.report.comparison_files import comparison_csv
    from archsim.report.terminal import show
    from archsim.report.whole_model import model_text

    if csv_path is not None:
        write_text(Path(csv_path), comparison_csv(comparison))
        click.echo(f"wrote {csv_path}", err=True)
    if as_json:
        click.echo(json.dumps(comparison.document(), indent=2, allow_nan=False))
    elif isinstance(comparison, WholeModelComparison):
        show(model_text(comparison))
    else:
        show(comparison_text(comparison))


def _check(comparison: GpuComparison | WholeModelComparison, least: float | None) -> None:
    if least is None:
        return
    below = [row for row in comparison.rows if row.speedup < least]
    for row in below:
        click.echo(
            f"below {least:g}x: {row.gpu}, {row.protocol}, {row.source}, batch {row.batch}: "
            f"{row.speedup:,.6g}x per token",
            err=True,
        )
    if below or not comparison.rows:
        if not comparison.rows:
            click.echo("nothing to compare: every row was left out", err=True)
        sys.exit(1)
