"""``archsim trace``: record a trace from a model, make one of arrays, and look at one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from archsim.cli import CONTEXT_SETTINGS

if TYPE_CHECKING:
    from rich.table import Table

    from archsim.traces.manifest import Manifest


@click.group(context_settings=CONTEXT_SETTINGS)
def command() -> None:
    """Record, make and inspect token traces."""


@command.command()
@click.option("--model", type=click.Path(path_type=Path), required=True, help="GPT-2 folder.")
@click.option("--text", type=click.Path(path_type=Path), help="UTF-8 text to run the model over.")
@click.option("--tokens", type=click.Path(path_type=Path), help="JSON list of token ids instead.")
@click.option("--length", type=int, required=True, help="Tokens to record.")
@click.option("--skip-tokens", type=int, default=0, help="Tokens to leave out at the start.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write."
)
@click.option("--name", help="Name of the trace (default: the folder's).")
@click.option("--description", default="", help="One line kept in the manifest.")
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    help="How q, k and v are stored (default: float16).",
)
@click.option("--force", is_flag=True, help="Replace a trace that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def record(
    model: Path,
    text: Path | None,
    tokens: Path | None,
    length: int,
    skip_tokens: int,
    output: Path,
    name: str | None,
    description: str,
    dtype: Literal["float16", "float32"],
    force: bool,
    as_json: bool,
) -> None:
    """Run a GPT-2 over a text and record q, k and v of every layer, head and token.

    \b
    archsim trace record --model gpt2 --text story.txt --length 1024 -o story

    The folder holds config.json and model.safetensors as Hugging Face stores them,
    and a tokenizer unless --tokens is given. A result of archsim adapt is recorded in
    closed loop: each layer sees what the hardware made of the layers before.
    """
    if (text is None) == (tokens is None):
        raise click.UsageError("give --text FILE or --tokens FILE.json, one of the two")

    from archsim.accuracy.closed_loop import closed_loop
    from archsim.cli.progress import progress_bar
    from archsim.files import check_writable
    from archsim.models import record as recorder
    from archsim.models.adapted import is_adapted
    from archsim.traces.checks import check_name
    from archsim.traces.folder import refuse_existing
    from archsim.traces.manifest import MANIFEST_FILE
    from archsim.traces.summary import summarise
    from archsim.traces.trace import save_trace

    refuse_existing(output, force)  # before the model runs
    check_name(name or output.resolve().name)
    loop = closed_loop(model) if is_adapted(model) else None
    check_writable(output / MANIFEST_FILE)
    with progress_bar() as progress:
        trace = recorder.record(
            model,
            text=recorder.read_text(text) if text else None,
            token_ids=recorder.read_token_ids(tokens) if tokens else None,
            length=length,
            name=name or output.resolve().name,
            skip_tokens=skip_tokens,
            dtype=dtype,
            description=description,
            command=_command_line(model, text, tokens, length, skip_tokens, dtype),
            attention=loop and loop["attention"],
            scalers=loop and loop["scalers"],
            attention_sha256=loop and loop["attention_sha256"],
            **({"voltages": loop["voltages"]} if loop else {}),
            progress=progress,
        )
    manifest = save_trace(trace, output, force)
    if as_json:
        click.echo(json.dumps(summarise(trace) | {"folder": str(output)}, indent=2))
    else:
        size = manifest.files["trace.safetensors"].bytes
        click.echo(f"{output}: {_shape(manifest)}, {size:,} bytes")


@command.command()
@click.option("--layers", type=int, default=12, help="Default: 12.")
@click.option("--heads", type=int, default=12, help="Default: 12.")
@click.option("--tokens", type=int, default=1024, help="Default: 1024.")
@click.option("--head-dim", type=int, default=64, help="Default: 64.")
@click.option("--seed", type=int, default=0, help="Default: 0.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write."
)
@click.option("--name", help="Name of the trace (default: the folder's).")
@click.option("--force", is_flag=True, help="Replace a trace that is there.")
def synth(
    layers: int,
    heads: int,
    tokens: int,
    head_dim: int,
    seed: int,
    output: Path,
    name: str | None,
    force: bool,
) -> None:
    """Make a trace of any shape with the statistics of a real one.

    \b
    archsim trace synth -o gpt2-shape        # 12 layers x 12 heads x 1,024 tokens

    For size and speed: what a token means to another is not imitated.
    """
    from archsim.traces.checks import check_name
    from archsim.traces.folder import refuse_existing
    from archsim.traces.synthetic import synthesise
    from archsim.traces.trace import save_trace

    refuse_existing(output, force)  # before the numbers are drawn
    check_name(name or output.resolve().name)
    trace = synthesise(layers, heads, tokens, head_dim, seed, name or output.resolve().name)
    manifest = save_trace(trace, output, force)
    size = manifest.files["trace.safetensors"].bytes
    click.echo(f"{output}: {_shape(manifest)}, {size:,} bytes")


@command.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write."
)
@click.option(
    "--fit-scalers", is_flag=True, help="Bring every head's mean and spread into the arrays' range."
)
@click.option("--tokens", type=click.Path(path_type=Path), help="JSON list of the token ids.")
@click.option("--name", help="Name of the trace (default: the folder's).")
@click.option("--description", default="", help="One line kept in the manifest.")
@click.option("--force", is_flag=True, help="Replace a trace that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def import_(
    path: Path,
    output: Path,
    fit_scalers: bool,
    tokens: Path | None,
    name: str | None,
    description: str,
    force: bool,
    as_json: bool,
) -> None:
    """Make a trace of arrays that another program computed.

    \b
    archsim trace import qkv.npz --fit-scalers -o mine

    PATH is a .npz or .safetensors file with q, k and v, each (layers, heads, tokens, head_dim)
    and q without 1/sqrt(head_dim); a .npy file with the three side by side; or a folder of
    q.npy, k.npy and v.npy. Without --fit-scalers they go into the arrays as they are: q in
    [0, 1], k and v around the middle of the rail. All names: docs/traces.md.
    """
    from archsim.models.record import read_token_ids
    from archsim.traces.folder import refuse_existing
    from archsim.traces.importing import import_trace
    from archsim.traces.summary import summarise
    from archsim.traces.trace import save_trace

    refuse_existing(output, force)
    trace = import_trace(
        path,
        name or output.resolve().name,
        fit=fit_scalers,
        token_ids=read_token_ids(tokens) if tokens else None,
        description=description,
        command=_import_command(path, tokens, fit_scalers),
    )
    manifest = save_trace(trace, output, force)
    summary = summarise(trace)
    if as_json:
        click.echo(json.dumps(summary | {"folder": str(output)}, indent=2))
        return
    size = manifest.files["trace.safetensors"].bytes
    click.echo(f"{output}: {_shape(manifest)}, {size:,} bytes")
    beyond = [f"{part} {100 * x['saturated']:.1f} %" for part, x in summary["tensors"].items()]
    click.echo(f"beyond the arrays' range after the scalers: {', '.join(beyond)}")
    if not fit_scalers and all((a == 1).all() for a, _ in trace.scalers.values()):
        click.echo("every gain is 1; --fit-scalers brings mean and spread into range")


@command.command()
@click.argument("path", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def info(path: str | None, as_json: bool) -> None:
    """Show a trace: sizes, origin, hashes, ranges, scalers.

    PATH is a folder or the name of a shipped trace (default: the shipped reference).
    Every check that loading makes is made.
    """
    from archsim.traces.folder import default_trace_name
    from archsim.traces.summary import summarise
    from archsim.traces.trace import load_trace

    trace = load_trace(default_trace_name() if path is None else path)
    summary = summarise(trace)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return

    from rich.console import Group

    from archsim.report.formats import note
    from archsim.report.terminal import show

    show(
        Group(
            _origin(trace.manifest),
            "",
            _tensors(summary["tensors"]),
            "",
            _scalers(summary["scalers"]),
            note(
                "saturated: values outside the arrays' range after the scaler a x + b, made for "
                f"cells of {trace.voltages}"
            ),
        )
    )


def _command_line(
    model: Path, text: Path | None, tokens: Path | None, length: int, skip_tokens: int, dtype: str
) -> str:
    """The command that makes the trace, with names instead of this machine's folders."""
    source = ["--text", text.name] if text else ["--tokens", tokens.name if tokens else ""]
    words = ["archsim", "trace", "record", "--model", model.resolve().name, *source]
    words += ["--length", str(length)]
    if skip_tokens:
        words += ["--skip-tokens", str(skip_tokens)]
    if dtype != "float16":
        words += ["--dtype", dtype]
    return shlex.join(words)


def _import_command(path: Path, tokens: Path | None, fit_scalers: bool) -> str:
    """The command that makes the trace, with names instead of this machine's folders."""
    words = ["archsim", "trace", "import", path.name]
    words += ["--tokens", tokens.name] if tokens else []
    words += ["--fit-scalers"] if fit_scalers else []
    return shlex.join(words)


def _shape(manifest: Manifest) -> str:
    shapes = manifest.content.shapes
    return (
        f"{shapes.layers} layers x {shapes.heads} heads x {shapes.tokens} tokens x "
        f"{shapes.head_dim}, {manifest.content.dtype}"
    )


def _origin(manifest: Manifest) -> Table:
    """Name, shapes, and what the trace was made from; 64-digit hashes fit 80 columns."""
    from rich.table import Table

    content, file = manifest.content, manifest.files["trace.safetensors"]
    rows = [
        ("trace", manifest.name),
        ("about", manifest.description),
        ("shape", _shape(manifest)),
        ("model", content.model.name if content.model else "none"),
        ("weights", content.model.weights_sha256 if content.model else ""),
        ("tokenizer", content.tokenizer_sha256 or ""),
        ("text", content.text_sha256 or ""),
        ("data", file.sha256),
        ("content", manifest.content_sha256),
    ]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, value in rows:
        if value:
            table.add_row(label, value)
    return table


def _tensors(tensors: Mapping[str, Mapping[str, float]]) -> Table:
    """Range and spread of q, k and v as recorded, and what saturates after the scalers."""
    table = _numbers("tensor", "min", "max", "mean", "std", "saturated")
    for name, values in tensors.items():
        numbers = [f"{values[key]:.4g}" for key in ("min", "max", "mean", "std")]
        table.add_row(name, *numbers, f"{100 * values['saturated']:.2f} %")
    return table


def _scalers(scalers: Mapping[str, Mapping[str, float]]) -> Table:
    """Smallest and largest gain a and offset b over layers and heads."""
    keys = ("a_min", "a_max", "b_min", "b_max")
    table = _numbers("scaler", *(key.replace("_", " ") for key in keys))
    for name, values in scalers.items():
        table.add_row(name, *(f"{values[key]:.4g}" for key in keys))
    return table


def _numbers(first: str, *headings: str) -> Table:
    """An empty table with one column of names and right-aligned numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(first, min_width=9)
    for heading in headings:
        table.add_column(heading, justify="right", min_width=9, no_wrap=True)
    return table
