"""``archsim adapt``: bring a GPT-2 onto the hardware."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from archsim.cli import CONTEXT_SETTINGS

if TYPE_CHECKING:
    from archsim.adaptation.recipe import Optimiser, Statistic
    from archsim.adaptation.stages import AdaptationPlan
    from archsim.models.texts import Words

DEFAULT_STAGES = "basis,direct,transfer,linear,match,tune"


@click.command("adapt", context_settings=CONTEXT_SETTINGS)
@click.option(
    "--model", type=click.Path(path_type=Path), required=True, metavar="DIR", help="GPT-2 folder."
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
    help="UTF-8 text to learn from, or a folder of .txt; may be repeated.",
)
@click.option(
    "--documents",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="UTF-8 text instead, every line a document that stands alone.",
)
@click.option(
    "--tokens",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON list of token ids instead, or a list of such lists: documents.",
)
@click.option("--length", type=int, metavar="N", help="Tokens a window (default: all positions).")
@click.option(
    "--trace-text",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Text whose start becomes the folder's trace (default: the first text).",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write."
)
@click.option(
    "--stages",
    default=DEFAULT_STAGES,
    metavar="A,B,...",
    show_default=True,
    help="Which stages, in this order; control is one more.",
)
@click.option("--transfer-steps", type=int, default=150, show_default=True)
@click.option("--linear-steps", type=int, default=1000, show_default=True)
@click.option("--tune-steps", type=int, default=400, show_default=True)
@click.option(
    "--rate",
    type=float,
    default=6e-4,
    show_default=True,
    help="Peak learning rate; tune has its own.",
)
@click.option(
    "--tune-rate", type=float, help="Peak learning rate of tune (default: a quarter of --rate)."
)
@click.option(
    "--optimiser",
    type=click.Choice(["adamw", "muon"]),
    default="muon",
    show_default=True,
    help="Of the matrices; published is adamw.",
)
@click.option(
    "--distillation",
    type=float,
    default=0.5,
    show_default=True,
    help="Weight of the software model's predictions in the loss, 0 to 1.",
)
@click.option(
    "--hidden",
    type=float,
    default=2.0,
    show_default=True,
    help="Weight of the software model's hidden states in the loss, 0 for none.",
)
@click.option(
    "--scaler-rate",
    type=float,
    default=3.0,
    show_default=True,
    help="Learning rate of scalers, as a multiple of the stage's.",
)
@click.option(
    "--match",
    "statistic",
    type=click.Choice(["current", "voltage"]),
    default="current",
    show_default=True,
    help="What matching brings back for k and v; published is voltage.",
)
@click.option(
    "--gradient",
    type=click.Choice(["surrogate", "true"]),
    default="surrogate",
    show_default=True,
    help="Derivative of the polynomial cell in fine-tuning.",
)
@click.option("--batch", type=int, default=4, show_default=True, help="Windows a step.")
@click.option("--seed", type=int, default=20252, show_default=True)
@click.option("--threads", type=int, metavar="N", help="Threads of torch (default: its own).")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="How weights are stored.",
)
@click.option(
    "--train",
    "trained",
    type=click.Choice(["everything", "blocks", "attention"]),
    default="everything",
    show_default=True,
    help="Which weights may change: blocks leaves the embeddings.",
)
@click.option("--force", is_flag=True, help="Replace an adapted model that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def command(
    model: Path,
    config: str | None,
    assignments: tuple[str, ...],
    texts: tuple[Path, ...],
    documents: Path | None,
    tokens: Path | None,
    length: int | None,
    trace_text: Path | None,
    output: Path,
    stages: str,
    transfer_steps: int,
    linear_steps: int,
    tune_steps: int,
    rate: float,
    tune_rate: float | None,
    optimiser: Optimiser,
    distillation: float,
    hidden: float,
    scaler_rate: float,
    statistic: Literal["current", "voltage"],
    gradient: Literal["surrogate", "true"],
    batch: int,
    seed: int,
    threads: int | None,
    dtype: str,
    trained: str,
    force: bool,
    as_json: bool,
) -> None:
    """Bring a GPT-2 onto the hardware: the initialization algorithm.

    \b
    archsim adapt --model gpt2 --text corpus -o adapted
    archsim adapt --model gpt2 --text book.txt --stages basis,direct -o quick
    archsim adapt --model protein-gpt2 --documents list.txt --length 256 -o out

    \b
    basis     a change of basis that the software model does not notice
    direct    scalers searched head by head, no training
    transfer  each layer's attention learns to reproduce the software's
    linear    fine-tuning on the linear cell, quantised (extra: train)
    match     scalers for the polynomial cell, no back-propagation
    tune      fine-tuning on the polynomial cell
    control   the software model, trained as long, to compare with

    Interrupted, the same command goes on where it was, to the same result.
    """
    from archsim.adaptation.adapt import adapt_model
    from archsim.cli.progress import progress_bar
    from archsim.config.loading import parse_assignments
    from archsim.hardware.load import DEFAULT_HARDWARE, load_hardware
    from archsim.models.adapted import read_adaptation
    from archsim.models.record import read_text
    from archsim.report.retention import retention_table
    from archsim.report.terminal import show
    from archsim.retention import retention_of

    hardware = load_hardware(
        DEFAULT_HARDWARE if config is None else config, parse_assignments(assignments)
    )
    plan = _plan(
        stages,
        {"transfer": transfer_steps, "linear": linear_steps, "tune": tune_steps},
        {
            "rate": rate,
            "tune_rate": rate / 4 if tune_rate is None else tune_rate,
            "optimiser": optimiser,
            "distillation": distillation,
            "hidden": hidden,
            "scaler_rate": scaler_rate,
            "gradient": gradient,
            "windows": batch,
            "seed": seed,
        },
        statistic,
        dtype,
        trained,
    )
    words, apart = _words(texts, documents, tokens)
    traced = None if trace_text is None else read_text(trace_text)
    if threads is not None:
        _set_threads(threads)
    with progress_bar() as progress:
        adapt_model(
            model,
            hardware,
            words,
            output,
            plan,
            documents=apart,
            length=length,
            trace_text=traced,
            force=force,
            progress=progress,
        )
    manifest = read_adaptation(output)
    retention = retention_of(hardware)
    if as_json:
        document = {**manifest.model_dump(mode="json"), "retention": retention.document()}
        click.echo(json.dumps(document, indent=2))
        return
    for stage in manifest.stages:
        took = "" if stage.minutes is None else f", {stage.minutes:.1f} min"
        steps = f", {stage.steps} steps" if stage.steps else ""
        click.echo(f"{stage.name}: {stage.title}{steps}{took}")
    show(retention_table(retention, "adapted to"))
    click.echo(f"written to {output}; next: archsim evaluate --all --model {output}")


def _words(
    texts: tuple[Path, ...], documents: Path | None, tokens: Path | None
) -> tuple[Words, bool]:
    """What to learn from, and whether its parts stand alone."""
    from archsim.models.record import read_lines, read_texts, read_token_documents

    if sum((bool(texts), documents is not None, tokens is not None)) != 1:
        raise click.UsageError("give --text, --documents or --tokens, one of them")
    if documents is not None:
        return read_lines(documents), True
    if tokens is not None:
        found = read_token_documents(tokens)
        return found, len(found) > 1
    return read_texts(texts), False


def _plan(
    stages: str,
    steps: dict[str, int],
    settings: dict[str, Any],
    statistic: Statistic,
    dtype: str,
    trained: str,
) -> AdaptationPlan:
    from archsim.adaptation.recipe import Recipe
    from archsim.adaptation.stages import AdaptationPlan

    chosen = tuple(part.strip() for part in stages.split(",") if part.strip())
    for name, count in steps.items():
        if name in chosen and count < 1:
            raise click.UsageError(f"--{name}-steps {count}: must be at least 1")
    if settings["windows"] < 1:
        raise click.UsageError("--batch: must be at least 1")
    for name in ("rate", "tune_rate"):
        if not 0 < settings[name] < 1:
            raise click.UsageError(f"--{name.replace('_', '-')}: must lie between 0 and 1")
    if not 0 <= settings["distillation"] <= 1:
        raise click.UsageError("--distillation: must lie between 0 and 1")
    for name in ("hidden", "scaler_rate"):
        if not 0 <= settings[name] <= 1000:
            raise click.UsageError(f"--{name.replace('_', '-')}: must lie between 0 and 1000")
    rate, tune_rate = (cast(float, settings.pop(name)) for name in ("rate", "tune_rate"))
    recipes = {
        name: Recipe(steps=count, rate=rate, final_rate=rate / 10, **settings)
        for name, count in steps.items()
    }
    recipes["transfer"] = replace(recipes["transfer"], distillation=0.0, hidden=0.0)
    recipes["tune"] = replace(recipes["tune"], rate=tune_rate, final_rate=tune_rate / 10)
    # the control sees as many batches as the stages that learn language
    total = sum(steps[name] for name in ("linear", "tune") if name in chosen)
    recipes["control"] = replace(
        recipes["linear"], steps=max(total, 1), distillation=0.0, hidden=0.0
    )
    return AdaptationPlan(chosen, recipes, statistic=statistic, dtype=dtype, trained=trained)


def _set_threads(threads: int) -> None:
    from archsim.adaptation.adapt import set_threads

    set_threads(threads)
