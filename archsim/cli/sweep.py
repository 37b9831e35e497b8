"""``archsim sweep``: explore a design space, and what its store holds."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archsim.cli import CONTEXT_SETTINGS
from archsim.cli.sweep_progress import sweep_progress

if TYPE_CHECKING:
    from archsim.sweeps.definition import Sweep
    from archsim.sweeps.exploration import Exploration
    from archsim.sweeps.figures import Objective

RUN = "run"
METHODS = ["grid", "random", "sobol", "search"]


class SweepGroup(click.Group):
    """``archsim sweep FILE`` runs a sweep; ``archsim sweep export`` is a command of its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] in ctx.help_option_names:
            return super().parse_args(ctx, args)
        if not args or args[0] not in self.commands:
            args = [RUN, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in super().list_commands(ctx) if name != RUN]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        run_command.format_help(click.Context(run_command, ctx.parent, ctx.info_name), formatter)
        self.format_commands(ctx, formatter)


@click.group("sweep", cls=SweepGroup, context_settings=CONTEXT_SETTINGS)
def command() -> None:
    """Explore a design space."""


@command.command(RUN, context_settings=CONTEXT_SETTINGS)
@click.argument("sweep_file", required=False, metavar="[FILE]")
@click.option("--vary", multiple=True, metavar="KEY=VALUES", help="An axis: 32,64 or 1GHz..2GHz:4.")
@click.option("-c", "--config", metavar="HWCONFIG", help="Hardware to start from, with --vary.")
@click.option("-t", "--trace", metavar="TRACE", help="A shipped trace or a folder.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A key for every point."
)
@click.option("--order", type=click.Choice(["generate", "prefill"]), help="Order of tokens.")
@click.option("--tokens", type=click.IntRange(1), metavar="N", help="Use the first N tokens.")
@click.option("--layers", type=click.IntRange(1), metavar="N", help="Use the first N layers.")
@click.option("--method", type=click.Choice(METHODS), help="How points are drawn.")
@click.option("--points", type=click.IntRange(1), metavar="N", help="How many, unless a grid.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Of random, sobol and search.")
@click.option("--constraint", multiple=True, metavar="CONDITION", help="array.rows<=window, ...")
@click.option(
    "--objective", multiple=True, metavar="NAME[:minimise]", help="latency, energy, area, sqnr, ..."
)
@click.option(
    "--aggregate",
    type=click.Choice(["mean", "worst"]),
    help="Judge designs over all workloads of an axis.",
)
@click.option("--best", metavar="NAME", help="Show the best point by an objective or figure.")
@click.option("--where", multiple=True, metavar="CONDITION", help="Budget: 'area_mm2<0.6', ...")
@click.option(
    "--windows", type=click.IntRange(1, 10_000), metavar="N", help="Of text, for objective loss."
)
@click.option("--store", metavar="FILE", help="SQLite file (default: reports/sweeps.db).")
@click.option("--resume", is_flag=True, help="Go on with a sweep begun before (FILE: the last).")
@click.option("--retry", is_flag=True, help="Run points again that crashed, failed or took long.")
@click.option("--workers", type=click.IntRange(1, 1024), metavar="N", help="Processes.")
@click.option("--time-limit", metavar="TIME", help="Longest that a point may take, like '60 s'.")
@click.option("--cluster", metavar="ADDRESS", help="A Dask scheduler, or: local.")
@click.option("--shard", metavar="I/N", help="Only a part of the points, for batch queues.")
@click.option("--yes", is_flag=True, help="Run more than 100,000 points.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option("-o", "--output", metavar="DIR", help="Folder for tables and charts.")
@click.option("--no-report", is_flag=True, help="Write no files but the store.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
def run_command(**given: Any) -> None:
    """Run a design space: every point once, in parallel, kept in a store.

    \b
    archsim sweep array-dimensions
    archsim sweep my-sweep.yaml --best energy --where 'area_mm2 < 0.6'
    archsim sweep --vary array.columns=32,64,128 --vary window=256..1024:4
    archsim sweep --resume

    FILE is a shipped sweep's name or a YAML file.
    """
    from archsim.errors import ConfigError

    if given["no_report"] and given["output"] is not None:
        raise click.UsageError("--no-report and -o contradict each other")
    if given["where"] and given["best"] is None:
        raise click.UsageError("--where says under which budget to look for --best: give both")

    from archsim.files import check_writable
    from archsim.report.sweep import best_text, sweep_document, sweep_text
    from archsim.report.sweep_files import default_folder, write_sweep
    from archsim.report.terminal import show
    from archsim.sweeps.analysis import best
    from archsim.sweeps.driver import Stop
    from archsim.sweeps.runner import DEFAULT_STORE, explore
    from archsim.sweeps.shard import parse_shard

    store = Path(given["store"]) if given["store"] is not None else DEFAULT_STORE
    if not str(given["store"] if given["store"] is not None else "x").strip():
        raise click.UsageError("--store: an empty name")
    sweep = _sweep(given, store)
    for line in sweep.notes:
        click.echo(f"note: {line}", err=True)
    shard = parse_shard(given["shard"]) if given["shard"] is not None else None
    if given["best"] is not None:
        sweep = _with_goal(sweep, given["best"], given["where"])
    if given["windows"] is not None and not sweep.measures_loss:
        raise click.UsageError("--windows is of the loss, which is no objective here")
    if given["output"] is not None:  # before the points, which take longer
        if not given["output"].strip():
            raise ConfigError("output folder: an empty name")
        check_writable(Path(given["output"]) / "sweep.json")
    stop = Stop()
    with stop.on_signals(), sweep_progress(sweep, given["quiet"]) as report:
        exploration = explore(
            sweep,
            store,
            workers=given["workers"],
            cluster=given["cluster"],
            shard=shard,
            retry=given["retry"],
            confirmed=given["yes"],
            report=report,
            stop=stop,
        )
    if stop.asked:
        waiting = exploration.counts.get("waiting", 0)
        left = f"; {waiting:,} points wait" if waiting else ""
        click.echo(f"stopped, all that ran is kept{left}; go on with:", err=True)
        click.echo(f"  {_resume_command()}", err=True)
        sys.exit(130)
    winners = None
    if given["best"] is not None:
        winners = best(exploration, given["best"], given["where"])
    folder = None if given["output"] is None else Path(given["output"])
    if folder is None and not given["as_json"] and not given["no_report"] and shard is None:
        folder = default_folder(exploration)
    written, missing = ([], "") if folder is None else write_sweep(exploration, folder)
    if given["as_json"]:
        document = sweep_document(exploration)
        if winners is not None:
            document["best"] = {
                "objective": given["best"], "where": list(given["where"]),
                "designs": [{"workload": w.workload, "points": list(w.points)} for w in winners],
            }  # fmt: skip
        click.echo(json.dumps(document, indent=1, allow_nan=False))
        _check_any(exploration)
        return
    if shard is not None:
        done = len(exploration.points) - exploration.counts.get("waiting", 0)
        click.echo(f"shard {given['shard']}: {done:,} of {len(exploration.points):,} points stored")
        click.echo(f"merge the stores of all shards: archsim sweep merge all.db {store} ...")
        return
    show(sweep_text(exploration, str(store)))
    if winners is not None:
        click.echo()
        show(best_text(exploration, given["best"], given["where"], winners))
    if written:
        click.echo("\nwritten:")
        for path in written:
            click.echo(f"  {path}")
    if missing:
        click.echo(f"without charts: {missing}", err=True)
    _check_any(exploration)


def _check_any(exploration: Exploration) -> None:
    """Raises ConfigError if no point gave a result: a batch queue must not go on."""
    from archsim.errors import ConfigError

    points = exploration.points
    waiting = exploration.counts.get("waiting", 0)
    if points and not waiting and not exploration.counts.get("ok", 0):
        raise ConfigError(
            f"none of {len(points):,} points has a result; the first: {points[0].reason}"
        )


def _with_goal(sweep: Sweep, goal: str, where: Sequence[str]) -> Sweep:
    """The sweep with what ``--best`` needs; an unknown name is refused before it, not after."""
    from dataclasses import replace

    from archsim.sweeps.analysis import budget, goal_objective
    from archsim.sweeps.figures import LOSS

    needed = budget(sweep, where)
    needed.append(goal_objective(sweep, goal).expression)
    return replace(sweep, loss=True) if any(LOSS in each.names for each in needed) else sweep


def _sweep(given: dict[str, Any], store: Path) -> Sweep:
    """The sweep that a file, the quick form, or the store's last one says, options laid over."""
    from dataclasses import replace

    from archsim.config.loading import parse_assignments
    from archsim.config.quantity import parse_quantity
    from archsim.errors import ConfigError
    from archsim.sweeps.axes import axis_from_text, known_keys
    from archsim.sweeps.definition import check_aggregate, quick_sweep
    from archsim.sweeps.expression import parse_expression
    from archsim.sweeps.store import Store
    from archsim.sweeps.sweep_file import load_sweep, sweep_from_values

    name, vary = given["sweep_file"], given["vary"]
    quick = {
        "hardware": given["config"], "trace": given["trace"], "order": given["order"],
        "tokens": given["tokens"], "layers": given["layers"], "method": given["method"],
        "points": given["points"], "seed": given["seed"],
    }  # fmt: skip
    quick = {key: value for key, value in quick.items() if value is not None}
    limits: dict[str, Any] = {}
    if given["time_limit"] is not None:
        try:
            limits["time_limit"] = parse_quantity(given["time_limit"], "s")
        except ValueError as error:
            raise click.UsageError(f"--time-limit: {error}") from None
        if not 0.1 <= limits["time_limit"] <= 1e6:
            raise click.UsageError("--time-limit: 0.1 s to 1,000,000 s")
    if given["objective"]:
        limits["objectives"] = _objectives(given["objective"])
    if given["windows"] is not None:
        limits["windows"] = given["windows"]
    if given["aggregate"] is not None:
        limits["aggregate"] = given["aggregate"]
    if name is not None and vary:
        raise click.UsageError("give a FILE or --vary, not both")
    if vary:
        fixed = parse_assignments(given["assignments"])
        conditions = tuple(parse_expression(text, known_keys()) for text in given["constraint"])
        axes = [axis_from_text(text) for text in vary]
        return quick_sweep(axes, fixed=fixed, constraints=conditions, **quick, **limits)
    shape = [key for key in ("hardware", "trace", "order", "tokens", "layers") if key in quick]
    if shape or given["assignments"] or given["constraint"]:
        raise click.UsageError(
            "-c, -t, --set, --order, --tokens, --layers and --constraint go with --vary; "
            "a FILE says them itself"
        )
    if name is not None:
        sweep = load_sweep(name)
    elif given["resume"]:
        if not store.is_file():
            raise ConfigError(f"{store}: no such store, so nothing to resume")
        with Store(store, create=False) as kept:
            begun = kept.sweeps()
        if not begun:
            raise ConfigError(f"{store}: no sweep was begun here, so nothing to resume")
        sweep = sweep_from_values(begun[-1].definition)
    else:
        raise click.UsageError("give a FILE, --vary KEY=VALUES, or --resume")
    if "points" in quick and quick.get("method", sweep.method) == "grid":
        raise click.UsageError("--points is of random, sobol and search, not of grid")
    sweep = replace(sweep, **quick, **limits)
    if sweep.aggregate is not None:
        check_aggregate(sweep)
    return sweep


def _objectives(texts: Sequence[str]) -> tuple[Objective, ...]:
    from archsim.sweeps.figures import objectives

    return objectives(list(texts))


def _resume_command() -> str:
    words = ["archsim", *sys.argv[1:]]
    if "--resume" not in words:
        words.append("--resume")
    return shlex.join(words)


@command.command("list")
@click.argument("store", required=False, metavar="[STORE]")
def list_sweeps(store: str | None) -> None:
    """List the shipped sweeps, or those begun in a store."""
    if store is None:
        from archsim.sweeps.sweep_file import available_sweeps, load_sweep

        for name in available_sweeps():
            click.echo(name)
            click.echo(f"  {load_sweep(name).description}")
        return
    from archsim.sweeps.store import Store

    with Store(store, create=False) as kept:
        for begun in kept.sweeps():
            members = [m for m in kept.members(begun.id) if m.position >= 0]
            keys = {key for member in members for key in (member.key, member.loss) if key}
            what = "points and losses" if any(m.loss for m in members) else "points"
            click.echo(f"{begun.name}: {len(kept.known(keys)):,} of {len(keys):,} {what}")


@command.command("export")
@click.argument("target", metavar="FILE")
@click.option("--store", metavar="FILE", help="SQLite file (default: reports/sweeps.db).")
@click.option("--sweep", "name", metavar="NAME", help="Only sweeps of this name (default: all).")
def export_command(target: str, store: str | None, name: str | None) -> None:
    """Write the points of a store to FILE, a .parquet or .csv."""
    from archsim.report.sweep_files import export
    from archsim.sweeps.exploration import stored_explorations
    from archsim.sweeps.runner import DEFAULT_STORE
    from archsim.sweeps.store import Store

    with Store(DEFAULT_STORE if store is None else store, create=False) as kept:
        explorations = stored_explorations(kept, name)
    rows = export(explorations, Path(target))
    click.echo(f"{target}: {rows:,} points")


@command.command("merge")
@click.argument("target", metavar="STORE")
@click.argument("parts", nargs=-1, required=True, metavar="PART...")
def merge_command(target: str, parts: tuple[str, ...]) -> None:
    """Take the points of other stores into STORE, which may be new."""
    from archsim.errors import ConfigError
    from archsim.sweeps.store import Store

    for part in parts:  # before anything is made
        if not Path(part).is_file():
            raise ConfigError(f"{part}: no such store")
    with Store(target) as kept:
        for part in parts:
            new, there = kept.merge(Path(part))
            click.echo(f"{part}: {there:,} points, {new:,} of them new")


@command.command("schema")
def schema() -> None:
    """Print the JSON Schema (2020-12) of a sweep file."""
    from archsim.sweeps.sweep_file import schema_text

    click.echo(schema_text(), nl=False)
