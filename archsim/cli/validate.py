"""``archsim validate``: every published figure beside ours."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from archsim.cli import CONTEXT_SETTINGS

if TYPE_CHECKING:
    from archsim.validation.bounds import Bounds


@click.command("validate", context_settings=CONTEXT_SETTINGS)
@click.option("-c", "--config", metavar="HWCONFIG", help="Hardware: a shipped name or a YAML file.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set window=256, ..."
)
@click.option("--bounds", is_flag=True, help="Rerun with each assumed parameter at its bounds.")
@click.option("--gpu", is_flag=True, help="The GPU model beside every measured point instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(
    config: str | None, assignments: tuple[str, ...], bounds: bool, gpu: bool, as_json: bool
) -> None:
    """Every published figure beside ours, with its error.

    Runs the calibration workload: full window, uniform values, no decay.
    Exit code 1 if a figure is out of its tolerance. --gpu validates the model
    of GPUs, which needs no hardware.
    """
    if gpu:
        if bounds or config is not None or assignments:
            raise click.UsageError("--gpu validates GPUs: leave out -c, --set and --bounds")
        _validate_gpu(as_json)
        return
    from archsim.api import validate
    from archsim.cli.progress import progress_bar
    from archsim.config.loading import parse_assignments
    from archsim.hardware.load import DEFAULT_HARDWARE, load_hardware
    from archsim.report.formats import cautions, unread
    from archsim.report.retention import retention_table
    from archsim.report.terminal import show
    from archsim.report.validation import bounds_table, fits_table, validation_table
    from archsim.validation.bounds import assumed_bounds

    hardware = load_hardware(
        DEFAULT_HARDWARE if config is None else config, parse_assignments(assignments)
    )
    validation = validate(hardware)
    spread: Bounds | None = None
    if bounds:
        with progress_bar() as report:
            spread = assumed_bounds(hardware, partial(report, "bounds"))
    if as_json:
        document = {
            **validation.document(),
            "notes": list(hardware.notes),
            "unread_parameters": list(validation.unread),
        }
        if spread is not None:
            document["bounds"] = spread.document()
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        show(validation_table(validation))
        for line in cautions(hardware.notes):
            show(line)
        show(fits_table(validation))
        click.echo()
        show(retention_table(validation.retention, "the hardware"))
        if spread is not None:
            show(bounds_table(spread))
        if validation.unread:
            show(unread(validation.unread))
    if not validation.passes:
        outside = [figure.name for figure in validation.figures if not figure.passes]
        click.echo(f"out of tolerance: {', '.join(outside) or 'a fitted coefficient'}", err=True)
        sys.exit(1)


def _validate_gpu(as_json: bool) -> None:
    from archsim.gpu.validation import validate_gpu
    from archsim.report.gpu_validation import gpu_table, parameter_table
    from archsim.report.terminal import show

    validation = validate_gpu()
    if as_json:
        click.echo(json.dumps(validation.document(), indent=2, allow_nan=False))
    else:
        show(gpu_table(validation))
        show(parameter_table(validation))
    if validation.failures:
        click.echo(f"out of limits: {'; '.join(validation.failures)}", err=True)
        sys.exit(1)
