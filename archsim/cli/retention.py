"""``archsim retention``: how slow a token may be, and how long cells must hold."""

from __future__ import annotations

from pathlib import Path

import click

from archsim.cli import CONTEXT_SETTINGS
from archsim.cli.printing import print_found


@click.command("retention", context_settings=CONTEXT_SETTINGS)
@click.option("-c", "--config", metavar="HWCONFIG", help="Hardware: a shipped name or a YAML file.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set window=256, ..."
)
@click.option(
    "-m",
    "--model",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="GPT-2 folder or a result of archsim adapt (default: the shipped adapted model).",
)
@click.option(
    "--text",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Unseen UTF-8 text (default: the shipped one).",
)
@click.option(
    "--windows",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="Windows of text.",
)
@click.option(
    "--length",
    type=click.IntRange(min=2),
    metavar="N",
    help="Tokens a window of text; at least the hardware's window.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(
    config: str | None,
    assignments: tuple[str, ...],
    model: Path | None,
    text: Path | None,
    windows: int,
    length: int | None,
    as_json: bool,
) -> None:
    """The slowest token at which a model's loss rises by 0.01, 0.03, 0.1 nats.

    And the tau that cells need while a whole token takes its time, for this
    hardware, silicon and oxide cells. Rises are above the loss at the decay that
    the model was adapted to.

    \b
    archsim retention
    archsim retention -c gaincell-osfet --set digital.weights=resident
    """
    from archsim.accuracy.tolerance import measure_tolerances
    from archsim.cli.progress import progress_bar
    from archsim.config.loading import parse_assignments
    from archsim.models.adapted import hardware_for, shipped_adapted, shipped_text
    from archsim.models.record import read_text
    from archsim.report.tolerance import tolerance_text

    folder = shipped_adapted() if model is None else model
    hardware = hardware_for(folder, config, parse_assignments(assignments))
    path = shipped_text() if text is None else text
    words = read_text(path)
    with progress_bar() as bar:
        found = measure_tolerances(
            folder,
            hardware,
            words,
            path.name,
            windows=windows,
            length=length,
            progress=bar,
        )
    print_found(found.document, lambda: tolerance_text(found), hardware.unused_overrides, as_json)
