"""``archsim config``: what a config says once resolved, and what one may say."""

from __future__ import annotations

import json

import click

from archsim.cli import CONTEXT_SETTINGS


@click.group(context_settings=CONTEXT_SETTINGS)
def command() -> None:
    """Show a resolved config, the schema of configs, variants, or the shipped ones."""


@command.command()
@click.argument("hwconfig", required=False)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set window=256, ..."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: values in SI.")
def show(hwconfig: str | None, assignments: tuple[str, ...], as_json: bool) -> None:
    """Print every value of a config with its unit and source.

    HWCONFIG is a shipped name or a YAML file (default: gaincell-28nm). What is
    printed is a config itself: save it and it loads to the same hash.
    """
    from archsim.config.loading import parse_assignments
    from archsim.hardware.load import DEFAULT_HARDWARE, load_hardware
    from archsim.hardware.show import config_document, show_config

    hardware = load_hardware(
        DEFAULT_HARDWARE if hwconfig is None else hwconfig, parse_assignments(assignments)
    )
    for line in hardware.document.notes.values():
        click.echo(f"note: {line}", err=True)
    if as_json:
        click.echo(json.dumps(config_document(hardware), indent=2, allow_nan=False))
    else:
        click.echo(show_config(hardware), nl=False)


@command.command()
def schema() -> None:
    """Print the JSON Schema (2020-12) of a hardware YAML file."""
    from archsim.hardware.schema import schema_text

    click.echo(schema_text(), nl=False)


@command.command("variants")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_variants(as_json: bool) -> None:
    """List what a block of the chip may be: every variant and its keys.

    Those of other distributions, and of your own, stand beside the built-in
    ones: see docs/your-own.md.
    """
    from archsim.config.variants import plugin_faults
    from archsim.hardware.variants import variants_document, variants_text

    if as_json:
        click.echo(json.dumps(variants_document(), indent=2, allow_nan=False))
    else:
        click.echo(variants_text(), nl=False)
        for line in plugin_faults():
            click.echo(f"note: {line}", err=True)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_configs(as_json: bool) -> None:
    """List the configs that come with archsim."""
    from archsim.hardware.load import available_hardware, load_hardware

    configs = {name: load_hardware(name).config.description for name in available_hardware()}
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "configs": configs}, indent=2))
        return
    for name, description in configs.items():
        click.echo(name)
        click.echo(f"  {description}")
