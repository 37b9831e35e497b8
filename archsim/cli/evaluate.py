"""``archsim evaluate``: what attention on the hardware costs a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archsim.cli import CONTEXT_SETTINGS

if TYPE_CHECKING:
    from archsim.models.texts import Text


@click.command("evaluate", context_settings=CONTEXT_SETTINGS)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="GPT-2 folder or a result of archsim adapt (default: the shipped adapted model).",
)
@click.option("-c", "--config", metavar="HWCONFIG", help="Hardware: a shipped name or a YAML file.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set window=256, ..."
)
@click.option(
    "--text",
    "texts",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="PATH",
    help="Unseen UTF-8 text, or a folder of .txt; may be repeated (default: the shipped ones).",
)
@click.option(
    "--documents",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="UTF-8 text, every line a document that stands alone.",
)
@click.option(
    "--tokens",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON list of token ids, or a list of such lists: documents.",
)
@click.option(
    "--windows", type=int, metavar="N", help="Windows of each text (default: 8; documents: all)."
)
@click.option("--length", type=int, metavar="N", help="Tokens a window (default: all positions).")
@click.option(
    "--probes",
    type=int,
    metavar="N",
    help="Sequences of each probe (default: 4; of documents and ids 0).",
)
@click.option("--all", "every_stage", is_flag=True, help="Every stage of an adaptation.")
@click.option(
    "--vary",
    "varied",
    multiple=True,
    metavar="KEY=A,B,...",
    help="Sweep a key; several keys give every combination.",
)
@click.option("--knee", is_flag=True, help="Sweep the levels of Q and of K and V.")
@click.option("--curves", is_flag=True, help="Show how the adaptation went; runs nothing.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the sweep or the curves as .svg or .png (extra: report).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(
    model: Path | None,
    config: str | None,
    assignments: tuple[str, ...],
    texts: tuple[Path, ...],
    documents: Path | None,
    tokens: Path | None,
    windows: int | None,
    length: int | None,
    probes: int | None,
    every_stage: bool,
    varied: tuple[str, ...],
    knee: bool,
    curves: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Run a model with the hardware's attention inside: loss, agreement, probes.

    \b
    archsim evaluate
    archsim evaluate --all
    archsim evaluate --model path/to/gpt2 --text story.txt -c gaincell-osfet
    archsim evaluate --model protein-gpt2 --documents proteins.txt --length 256
    archsim evaluate --vary window=1024,512,256 --plot window.svg
    archsim evaluate --knee --plot knee.svg
    archsim evaluate --curves --plot curves.svg

    The shipped texts are reported apart; the one held out counts in no mean and
    no sweep. A document, or a text of its own, is never run into another.
    """
    if every_stage and (varied or knee):
        raise click.UsageError("--all shows stages, --vary and --knee sweep one: choose")
    if knee and varied:
        raise click.UsageError("--knee is a sweep of its own: leave out --vary")
    if curves and (varied or knee or every_stage or as_json):
        raise click.UsageError("--curves shows what was recorded: leave out --all, sweeps, --json")
    if plot is not None and not (varied or knee or curves):
        raise click.UsageError("--plot draws a sweep or --curves: give --vary, --knee or --curves")
    if plot is not None and plot.suffix.lower() not in {".svg", ".png"}:
        raise click.UsageError(f"--plot {plot.name}: write .svg or .png")
    if sum((bool(texts), documents is not None, tokens is not None)) > 1:
        raise click.UsageError("--text, --documents and --tokens: one of them")
    if probes is not None and probes < 0:
        raise click.UsageError("--probes: a number of sequences, 0 for none")

    from archsim.accuracy.evaluate import KNEE, evaluate_model, evaluate_sweep
    from archsim.cli.progress import progress_bar
    from archsim.config.loading import parse_assignments
    from archsim.files import check_writable
    from archsim.models.adapted import hardware_for, shipped_adapted
    from archsim.report.accuracy import save_chart, summary, sweep_chart, sweep_summary
    from archsim.report.charts import chart_tools
    from archsim.report.terminal import show

    axes: dict[str, Sequence[Any]] = dict(KNEE) if knee else _axes(varied)
    if plot is not None:
        chart_tools()  # before the run, which takes longer
        check_writable(plot)
    folder = shipped_adapted() if model is None else model
    if curves:
        _show_curves(folder, plot)
        return
    hardware = hardware_for(folder, config, parse_assignments(assignments))
    words = _words(texts, documents, tokens, bool(axes))
    running = documents is None and tokens is None
    if windows is None and running:
        windows = DEFAULT_WINDOWS
    with progress_bar() as progress:
        if axes:
            evaluation = evaluate_sweep(
                folder,
                hardware,
                axes,
                words,
                windows=windows,
                length=length,
                progress=progress,
            )
        else:
            evaluation = evaluate_model(
                folder,
                hardware,
                words,
                every_stage=every_stage,
                windows=windows,
                length=length,
                probes=(4 if running else 0) if probes is None else probes,
                progress=progress,
            )
    if plot is not None:
        save_chart(sweep_chart(evaluation, dict(axes)), plot)
    if as_json:
        click.echo(json.dumps(evaluation.document(), indent=2, allow_nan=False))
        return
    show(sweep_summary(evaluation) if axes else summary(evaluation, every_stage))
    if plot is not None:
        click.echo(f"\nwritten to {plot}")


DEFAULT_WINDOWS = 8


def _words(
    texts: tuple[Path, ...], documents: Path | None, tokens: Path | None, choosing: bool
) -> list[Text]:
    """What to measure on; of the shipped texts the held-out one not for `choosing`."""
    from archsim.models.record import read_lines, read_text, read_token_documents, text_files
    from archsim.models.texts import Text, refuse_held_out, shipped_texts

    if tokens is not None:
        return [Text(tokens.name, tuple(read_token_documents(tokens)))]
    if documents is not None:
        return [Text(documents.name, tuple(read_lines(documents)))]
    if texts:
        found = [Text(path.name, (read_text(path),)) for path in text_files(texts)]
        if choosing:
            refuse_held_out([text.documents[0] for text in found], "sweep")  # type: ignore[misc]
        return found
    return shipped_texts(("recipe", "choices") if choosing else ("recipe", "choices", "held_out"))


def _show_curves(folder: Path, plot: Path | None) -> None:
    from archsim.models.adapted import load_adapted
    from archsim.report.accuracy import save_chart
    from archsim.report.curves import curves_chart, curves_table
    from archsim.report.terminal import show

    adapted = load_adapted(folder)
    show(curves_table(adapted))
    if plot is not None:
        save_chart(curves_chart(adapted), plot)
        click.echo(f"\nwritten to {plot}")


def _axes(varied: tuple[str, ...]) -> dict[str, Sequence[Any]]:
    from archsim.config.loading import parse_assignment

    axes = {}
    for text in varied:
        key, separator, values = text.partition("=")
        wrapped = values if values.lstrip().startswith("[") else f"[{values}]"
        name, parsed = parse_assignment(f"{key}{separator}{wrapped}" if separator else text)
        if name in axes:
            raise click.UsageError(f"--vary {name}: given twice")
        if not parsed:
            raise click.UsageError(f"--vary {name}: give values, like {name}=1024,512")
        axes[name] = parsed
    return axes
