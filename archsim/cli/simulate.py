"""``archsim simulate``: replay a token trace on the hardware."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archsim.cli import CONTEXT_SETTINGS
from archsim.errors import one_line

if TYPE_CHECKING:
    from archsim.datapath.attention import Precision
    from archsim.timing.run import Detail, Engine


@click.command("simulate", context_settings=CONTEXT_SETTINGS)
@click.option("-c", "--config", metavar="HWCONFIG", help="Hardware: a shipped name or a YAML file.")
@click.option("-t", "--trace", "trace_name", metavar="TRACE", help="A shipped name or a folder.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set window=256, ..."
)
@click.option(
    "--order",
    type=click.Choice(["generate", "prefill"]),
    help="Tokens one after another (default), or all known at once.",
)
@click.option("--prompt", type=int, metavar="N", help="First N tokens as prefill, then generate.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "simpy", "fast"]),
    default="auto",
    help="Events (simpy) or a recurrence (fast): the same times.",
)
@click.option(
    "--detail",
    type=click.Choice(["contested", "full"]),
    default="contested",
    help="Events where blocks are contended, or of every sub-tile's phases: the same times.",
)
@click.option(
    "--precision",
    type=click.Choice(["float64", "float32"]),
    default="float64",
    help="Of the analog products; float32 is faster with numpy alone and may move a pulse by 1 ps.",
)
@click.option("--tokens", type=int, metavar="N", help="Use only the first N tokens.")
@click.option("--layers", metavar="A:B", help="Use only layers A to B - 1.")
@click.option("--explain", "explained", type=int, metavar="TOKEN", help="Show one token's phases.")
@click.option("--explain-head", metavar="L:H", help="Layer and head for --explain (default: 0:0).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    help="Folder for the result (default: one below reports/; none with --json).",
)
@click.option("--no-report", is_flag=True, help="Write no files.")
@click.option("--force", is_flag=True, help="Replace files that archsim did not write.")
def command(
    config: str | None,
    trace_name: str | None,
    assignments: tuple[str, ...],
    order: str | None,
    prompt: int | None,
    engine: Engine,
    detail: Detail,
    precision: Precision,
    tokens: int | None,
    layers: str | None,
    explained: int | None,
    explain_head: str | None,
    as_json: bool,
    output: str | None,
    no_report: bool,
    force: bool,
) -> None:
    """Replay a token trace on the hardware: time, energy, area, function.

    \b
    archsim simulate
    archsim simulate --set controller.pipelining=stages --order prefill
    archsim simulate --tokens 64 --layers 0:2 --explain 63
    """
    if no_report and output is not None:
        raise click.UsageError("--no-report and -o contradict each other")
    if explain_head is not None and explained is None:
        raise click.UsageError("--explain-head says where to --explain a token: give both")
    layer_range = _layer_range(layers)
    place = _layer_and_head(explain_head or "0:0")

    from concurrent.futures import ThreadPoolExecutor

    from archsim.traces.folder import default_trace_name
    from archsim.traces.trace import load_trace

    name = default_trace_name() if trace_name is None else trace_name
    # reading and hashing a trace takes as long as these imports, and a core of its own; the thread
    # is gone before the run, which may fork
    with ThreadPoolExecutor(1) as beside:
        loading = beside.submit(load_trace, name)

        from archsim.accuracy.trace_loop import trace_in_loop
        from archsim.api import simulate
        from archsim.cli.progress import progress_bar
        from archsim.config.loading import parse_assignments
        from archsim.models.adapted import hardware_for, trace_model
        from archsim.report.explain import check_place, explain
        from archsim.report.files import check_folder, default_folder, whole_document, write_result
        from archsim.simulation import known_tokens

        hardware = hardware_for(trace_model(name), config, parse_assignments(assignments))
        trace = loading.result().select(tokens, layer_range)
    if output is not None and not output.strip():
        raise click.UsageError("output folder: an empty name")
    folder = None if output is None else Path(output)
    if output is None and not as_json and not no_report:
        known = known_tokens(trace, order or "generate", prompt)
        folder = default_folder(hardware, trace, known, precision)
    if folder is not None:
        check_folder(folder, force)  # before the run, which takes longer
    if explained is not None:
        check_place(trace, explained, *place)

    with progress_bar() as progress:
        result = simulate(
            trace,
            hardware,
            order=order or "generate",
            prompt=prompt,
            engine=engine,
            detail=detail,
            precision=precision,
            progress=progress,
        )
    explanation = None if explained is None else explain(result, explained, *place)
    loop = trace_in_loop(trace, hardware)
    if folder is not None:
        write_result(result, folder, force, loop)
    if as_json:
        document = whole_document(result, loop)
        if explanation is not None:
            document["explanation"] = explanation.document()
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        from archsim.report.explain import explanation_table
        from archsim.report.tables import summary
        from archsim.report.terminal import show

        show(summary(result, loop))
        if explanation is not None:
            click.echo()
            show(explanation_table(explanation))
        if folder is not None:
            click.echo(f"\nwritten to {folder}")


def _layer_range(text: str | None) -> slice | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{0,6}):(\d{0,6})", text)
    if found is None:
        shown = one_line(text, 40)
        raise click.UsageError(f"--layers {shown!r}: write A:B, like 0:2 for the first two layers")
    first, stop = (int(part) if part else None for part in found.groups())
    return slice(first, stop)


def _layer_and_head(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6}):(\d{1,6})", text)
    if found is None:
        raise click.UsageError(f"--explain-head {one_line(text, 40)!r}: write L:H, like 0:0")
    return int(found[1]), int(found[2])
