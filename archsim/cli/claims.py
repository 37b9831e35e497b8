"""``archsim claims``: the paper's sentences, and what each is worth."""

from __future__ import annotations

from pathlib import Path

import click

from archsim.cli import CONTEXT_SETTINGS
from archsim.cli.printing import print_found


@click.command("claims", context_settings=CONTEXT_SETTINGS)
@click.option("-c", "--config", metavar="HWCONFIG", help="Hardware: a shipped name or a YAML file.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set window=256, ..."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option("--markdown", metavar="FILE", help="Write the table as Markdown as well.")
def command(
    config: str | None, assignments: tuple[str, ...], as_json: bool, markdown: str | None
) -> None:
    """The paper's claims, each with what archsim gets and a verdict.

    Latency, energy, area, ratios to three GPUs, accuracy; under the authors'
    protocol, under fair ones and in a whole token. Verdicts follow from the
    figures by rules that the output states.
    """
    from archsim.api import judge_claims
    from archsim.config.loading import parse_assignments
    from archsim.files import write_text
    from archsim.hardware.load import DEFAULT_HARDWARE, load_hardware
    from archsim.report.claims import claims_markdown, claims_text

    hardware = load_hardware(
        DEFAULT_HARDWARE if config is None else config, parse_assignments(assignments)
    )
    found = judge_claims(hardware)
    if markdown is not None:
        write_text(Path(markdown), claims_markdown(found))
        click.echo(f"wrote {markdown}", err=True)
    print_found(found.document, lambda: claims_text(found), hardware.unused_overrides, as_json)
