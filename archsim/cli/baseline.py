"""``archsim baseline``: measure the GPU side on a GPU of your own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archsim.cli import CONTEXT_SETTINGS

if TYPE_CHECKING:
    from archsim.baseline.measure import Implementation
    from archsim.config.gpu import Cache, Precision


@click.group("baseline", context_settings=CONTEXT_SETTINGS)
def command() -> None:
    """Measure the GPU side on a GPU of your own."""


@command.command("measure", context_settings=CONTEXT_SETTINGS)
@click.option("--gpu", metavar="NAME", help="GPU file it is; default: by the driver's name.")
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
    help="Fused from a graph, or unfused; default both.",
)
@click.option(
    "--cache",
    "caches",
    multiple=True,
    type=click.Choice(["warm", "cold"]),
    help="K and V left in L2 or not; default both.",
)
@click.option("--heads", type=int, default=12, show_default=True, help="Heads of the layer.")
@click.option("--head-dim", type=int, default=64, show_default=True, help="Features of a head.")
@click.option(
    "--replays", type=int, default=200, show_default=True, help="Replays that time a point."
)
@click.option(
    "--seconds", type=float, default=5.0, show_default=True, help="Of the energy of a point."
)
@click.option("--device", type=int, default=0, show_default=True, help="Index of the GPU.")
@click.option("-o", "--output", metavar="FILE", help="YAML to write; default NAME-measured.yaml.")
def measure_command(
    gpu: str | None,
    batches: str | None,
    windows: str | None,
    precisions: tuple[Precision, ...],
    implementations: tuple[Implementation, ...],
    caches: tuple[Cache, ...],
    heads: int,
    head_dim: int,
    replays: int,
    seconds: float,
    device: int,
    output: str | None,
) -> None:
    """Measure decode attention on an NVIDIA GPU.

    The file is for `archsim compare --measured`. Needs the extra [gpu] and
    takes about half an hour with the defaults. Every token of the window is
    attended to; time by CUDA events, energy by the driver's counter.
    Interrupted, it writes the points measured so far.

    \b
    archsim baseline measure -o my-gpu.yaml
    archsim compare --gpu h100-sxm --measured my-gpu.yaml
    """
    import datetime

    from archsim.baseline.cuda import open_device
    from archsim.baseline.measure import (
        BATCHES,
        CACHES,
        IMPLEMENTATIONS,
        PRECISIONS,
        WINDOWS,
        Plan,
        list_of,
        matching_gpu,
        measure,
        measured_yaml,
    )
    from archsim.config.gpu import load_gpu
    from archsim.files import atomic_path

    plan = Plan(
        heads,
        head_dim,
        list_of(batches, "--batch") if batches is not None else BATCHES,
        list_of(windows, "--window") if windows is not None else WINDOWS,
        precisions or PRECISIONS,
        implementations or IMPLEMENTATIONS,
        caches or CACHES,
        replays,
        seconds,
    )
    if gpu is not None:
        load_gpu(gpu)
    found = open_device(device)
    name = Path(gpu).stem if gpu is not None else matching_gpu(found.name)
    path = Path(output if output is not None else f"{name}-measured.yaml")
    with atomic_path(path) as temporary:  # refused before half an hour of work, not after
        with click.progressbar(length=1000, label="measuring", file=sys.stderr) as bar:

            def report(done: int, total: int) -> None:
                bar.update(1000 * done // total - bar.pos)

            measured = measure(found, plan, report)
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        temporary.write_text(measured_yaml(measured, name, today), encoding="utf-8")
    click.echo(f"wrote {path}: {len(measured.points)} points, {len(measured.left_out)} left out")
    if measured.interrupted:
        click.echo("the file has the points measured so far", err=True)
        raise KeyboardInterrupt
