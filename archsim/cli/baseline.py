"""``archsim baseline``: measure the GPU side on a GPU of your own, and fit the model to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archsim.cli import CONTEXT_SETTINGS

if TYPE_CHECKING:
    from archsim.gpu.file import Cache, Precision
    from archsim.gpu.plan import Implementation, KernelChoice, MeasurementPlan, Scope

SCHEMA_VERSION = 1
SHOWN_REASONS = 3


@click.group("baseline", context_settings=CONTEXT_SETTINGS)
def command() -> None:
    """Measure the GPU side on a GPU of your own."""


@command.command("measure", context_settings=CONTEXT_SETTINGS)
@click.option("--gpu", metavar="NAME", help="GPU file it is; default: by the driver's name.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["attention", "model"]),
    help="One layer, or a whole token; default attention, with --minutes both.",
)
@click.option("--minutes", type=float, metavar="N", help="What fits, most informative first.")
@click.option("--batch", "batches", metavar="B,B,...", help="Batches; default 1,4,16,64,256.")
@click.option("--window", "windows", metavar="S,S,...", help="Windows; default 128 to 8,192.")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp16", "bf16", "fp32"]),
    help="Repeatable; default all.",
)
@click.option(
    "--implementation",
    "implementations",
    multiple=True,
    type=click.Choice(["sdpa", "eager"]),
    help="From a graph, or unfused and launched by hand; default both.",
)
@click.option(
    "--kernel",
    "kernels",
    multiple=True,
    type=click.Choice(["best", "cudnn", "flash", "efficient", "math"]),
    help="Of sdpa; default best: the fastest of all that run.",
)
@click.option(
    "--cache",
    "caches",
    multiple=True,
    type=click.Choice(["warm", "cold"]),
    help="K and V left in L2 or not; default both.",
)
@click.option("--heads", type=int, default=12, show_default=True, help="Heads of a layer.")
@click.option("--kv-heads", type=int, metavar="G", help="Fewer: grouped queries; default all.")
@click.option("--head-dim", type=int, default=64, show_default=True, help="Features of a head.")
@click.option("--layers", type=int, default=12, show_default=True, help="Of the whole model.")
@click.option("--mlp", type=int, metavar="N", help="Its MLP's width; default four times its own.")
@click.option("--vocabulary", type=int, default=50257, show_default=True, help="Its words.")
@click.option(
    "--replays", type=int, default=200, show_default=True, help="Replays that time a point."
)
@click.option(
    "--seconds", type=float, help="Of the energy of a point; default 5, with --minutes 1.5."
)
@click.option("--device", type=int, default=0, show_default=True, help="Index of the GPU.")
@click.option("-o", "--output", metavar="FILE", help="YAML to write; default NAME-measured.yaml.")
def measure_command(
    gpu: str | None,
    scopes: tuple[Scope, ...],
    minutes: float | None,
    batches: str | None,
    windows: str | None,
    precisions: tuple[Precision, ...],
    implementations: tuple[Implementation, ...],
    kernels: tuple[KernelChoice, ...],
    caches: tuple[Cache, ...],
    heads: int,
    kv_heads: int | None,
    head_dim: int,
    layers: int,
    mlp: int | None,
    vocabulary: int,
    replays: int,
    seconds: float | None,
    device: int,
    output: str | None,
) -> None:
    """Measure decode attention and whole tokens on an NVIDIA GPU.

    The file is for `archsim compare --measured`. Needs the extra [gpu]. With
    the defaults it takes about 40 minutes, with --minutes 6 about six: a point
    that will not fit is not begun. Every token of the window is attended to;
    time by CUDA events, energy by the driver's counter. Interrupted, it writes
    the points measured so far.

    \b
    archsim baseline measure --minutes 6 -o my-gpu.yaml
    archsim compare --gpu h100-sxm --measured my-gpu.yaml
    """
    import datetime

    from archsim.cli.progress import progress_bar
    from archsim.files import atomic_path
    from archsim.gpu.cuda import open_device
    from archsim.gpu.file import load_gpu
    from archsim.gpu.measure import matching_gpu, measure
    from archsim.gpu.measured_file import measured_yaml

    plan = _plan(
        scopes, minutes, batches, windows, precisions, implementations, kernels, caches,
        heads, kv_heads, head_dim, layers, mlp, vocabulary, replays, seconds,
    )  # fmt: skip
    if gpu is not None:
        load_gpu(gpu, measured=False)
    found = open_device(device)
    name = Path(gpu).stem if gpu is not None else matching_gpu(found.name)
    model = load_gpu(gpu if gpu is not None else name, measured=False)
    path = Path(output if output is not None else f"{name}-measured.yaml")
    with atomic_path(path) as temporary:  # refused before half an hour of work, not after
        with progress_bar() as progress:
            measured = measure(
                found, plan, lambda done, total: progress("measuring", done, total), model
            )
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        temporary.write_text(measured_yaml(measured, name, today), encoding="utf-8")
    click.echo(f"wrote {path}: {len(measured.points)} points, {len(measured.left_out)} left out")
    for reason in measured.left_out[:SHOWN_REASONS]:
        click.echo(f"left out: {reason}", err=True)
    if len(measured.left_out) > SHOWN_REASONS:
        click.echo("left out: more, in the file", err=True)
    _summarise(path, gpu if gpu is not None else name, name)
    if measured.interrupted:
        click.echo("the file has the points measured so far", err=True)
        raise KeyboardInterrupt


def _plan(
    scopes: tuple[Scope, ...],
    minutes: float | None,
    batches: str | None,
    windows: str | None,
    precisions: tuple[Precision, ...],
    implementations: tuple[Implementation, ...],
    kernels: tuple[KernelChoice, ...],
    caches: tuple[Cache, ...],
    heads: int,
    kv_heads: int | None,
    head_dim: int,
    layers: int,
    mlp: int | None,
    vocabulary: int,
    replays: int,
    seconds: float | None,
) -> MeasurementPlan:
    """What the options ask for; raises ConfigError for what cannot be measured."""
    from dataclasses import replace

    from archsim.config.transformer import GPT2_SMALL, TransformerShape
    from archsim.errors import ConfigError
    from archsim.gpu import plan

    for option, value in (("--kv-heads", kv_heads), ("--mlp", mlp)):
        if value is not None and value < 1:
            raise ConfigError(f"{option}: at least 1")
    shape = TransformerShape(
        f"{layers} layers x {heads} heads x {head_dim}",
        layers,
        heads,
        head_dim,
        vocabulary,
        kv_heads or 0,
        mlp or 0,
    )
    both: tuple[Scope, ...] = ("attention", "model")
    some_batches = plan.list_of(batches, "--batch") if batches is not None else None
    some_windows = plan.list_of(windows, "--window") if windows is not None else None
    usual = plan.ENERGY_SECONDS if minutes is None else plan.SHORT_ENERGY_SECONDS
    return plan.MeasurementPlan(
        heads=heads,
        head_dim=head_dim,
        kv_heads=kv_heads or 0,
        batches=some_batches or plan.BATCHES,
        windows=some_windows or plan.WINDOWS,
        token_batches=some_batches or plan.TOKEN_BATCHES,
        token_windows=some_windows or plan.TOKEN_WINDOWS,
        precisions=precisions or plan.PRECISIONS,
        implementations=implementations or plan.IMPLEMENTATIONS,
        kernels=kernels or ("best",),
        caches=caches or plan.CACHES,
        scopes=scopes or (("attention",) if minutes is None else both),
        model=GPT2_SMALL if replace(shape, name=GPT2_SMALL.name) == GPT2_SMALL else shape,
        replays=replays,
        seconds=usual if seconds is None else seconds,
        minutes=minutes,
    )


def _summarise(path: Path, gpu: str, name: str) -> None:
    """What the default hardware makes of the points just measured."""
    from archsim.comparison.hardware import measured_figures
    from archsim.gpu.file import load_gpu, load_measured, with_measured
    from archsim.hardware.load import load_hardware
    from archsim.report.measured import measured_table
    from archsim.report.terminal import show

    own = load_gpu(gpu, measured=False).model_copy(update={"measurements": (), "tokens": ()})
    found = with_measured(own, name, [load_measured(path)])
    show(measured_table(*measured_figures(load_hardware(), found)))


@command.command("fit", context_settings=CONTEXT_SETTINGS)
@click.option(
    "--gpu", default="h100-sxm", show_default=True, metavar="NAME", help="GPU name or YAML."
)
@click.option(
    "--measured", multiple=True, metavar="FILE", help="A YAML of `archsim baseline measure`."
)
@click.option("--forms", is_flag=True, help="Fit other forms of the model as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option("-o", "--output", metavar="FILE", help="Write the section `model` of a GPU file.")
def fit_command(
    gpu: str, measured: tuple[str, ...], forms: bool, as_json: bool, output: str | None
) -> None:
    """Fit the model of GPUs to half of what was measured on one.

    Which half: hwconfigs/gpus/measured/README.md. Needs scipy, of the extra
    [sweep]. Exit code 1 if the shipped parameters are not what the fit to
    their own GPU gives.
    """
    from dataclasses import asdict

    from archsim.errors import ConfigError
    from archsim.files import write_text
    from archsim.gpu.file import load_gpu, load_measured, with_measured
    from archsim.gpu.fit import FITTED_GPU, fit, model_yaml, tried_forms
    from archsim.report.gpu_validation import fit_table
    from archsim.report.terminal import show

    name = Path(gpu).stem
    files = [load_measured(Path(path)) for path in dict.fromkeys(measured)]
    own = load_gpu(gpu)
    for path, file in zip(dict.fromkeys(measured), files, strict=True):
        if file.gpu != name:
            raise ConfigError(f"{path}: measured on {file.gpu}, not on {name}; give its --gpu")
    if files:  # and not what is shipped of it: that is another series
        bare = own.model_copy(update={"measurements": (), "tokens": ()})
        own = with_measured(bare, name, files)
    found = fit(own)
    tried = tuple(tried_forms(own)) if forms else ()
    if output is not None:
        write_text(Path(output), model_yaml(found))
        click.echo(f"wrote {output}", err=True)
    if as_json:
        document = {
            "schema_version": SCHEMA_VERSION,
            **found.document(),
            "forms": [asdict(form) for form in tried],
        }
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        show(fit_table(found, own, tried))
    if name == FITTED_GPU and not files and found.drifted:
        click.echo(f"not what the fit gives: {', '.join(found.drifted)}", err=True)
        sys.exit(1)
