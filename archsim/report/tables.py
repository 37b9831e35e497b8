"""Terminal tables of a result: readable at 80 columns, without colour, in plain ASCII.

Numbers are never wrapped or cut: only names and notes may fold.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from archsim.accuracy.trace_loop import InLoop
from archsim.calibration import PUBLISHED_BUCKETS
from archsim.chip.action import BUCKETS, Law, rests_on
from archsim.config.published import published
from archsim.figures import BUCKET_LABELS, SPREADS, STATISTICS, Figure, figure
from archsim.hardware.load import Hardware
from archsim.notes import AdaptedTo
from archsim.report.formats import cautions, note, number, percent, titled_table, unread
from archsim.report.function import function
from archsim.report.retention import retention_table
from archsim.result import GRADES, INSIDE, OUTSIDE, Result, grade
from archsim.units import NANOJOULE, PICOJOULE

_GRADE_STYLES = {"published": "green", "calibrated": "cyan", "assumed": "yellow", "user": "magenta"}


def summary(result: Result, loop: InLoop | None = None) -> Group:
    """Every table of a result, the boundary first."""
    parts: list[RenderableType] = [
        boundary(result),
        *cautions(result.simulation.notes),
        headline(result),
        latency(result),
        throughput(result),
        bottleneck(result),
        energy(result),
        Group(_beside(area(result), utilisation(result)), array_use(result)),
        function(result, loop),
        retention_table(result.retention),
        foundation(result),
    ]
    if result.simulation.unread:
        parts.append(unread(result.simulation.unread))
    spaced: list[RenderableType] = []
    for part in parts:
        spaced += [part, Text("")]
    return Group(*spaced[:-1])


def boundary(result: Result) -> Table:
    """What was run, and what every total below includes and leaves out."""
    simulation = result.simulation
    trace, declaration = simulation.trace, simulation.declaration
    crossing = result.interface
    order = {trace.tokens: "prefill", 1: "generate"}.get(
        simulation.prompt, f"{simulation.prompt:,} prompt tokens, then generate"
    )
    gaps = (
        f"{number(declaration.layer_gap / declaration.clock.per_ns)} ns between layers, "
        f"{number(declaration.token_gap / declaration.clock.per_ns)} ns between tokens"
    )
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row("hardware", hardware_text(simulation.hardware, simulation.adapted))
    table.add_row(
        "trace",
        f"{trace.name}: {trace.layers} layers x {trace.heads} heads x {trace.tokens:,} tokens x "
        f"{trace.head_dim}",
    )
    engine = f"engine {simulation.schedule.engine}: {simulation.why_engine}"
    table.add_row("run", f"{order}; window {window(result):,}; {engine}")
    hardware = simulation.hardware
    sources = {hardware.source(f"controller.{gap}_gap") for gap in ("layer", "token")}
    gap_source = ", ".join(sorted(sources))
    table.add_row("inside", INSIDE)
    table.add_row("outside", f"{OUTSIDE}; {gaps} ({gap_source})")
    table.add_row(
        "crossing",
        "bytes a token, all layers and heads: "
        f"q {crossing.q_bytes:,}, k {crossing.k_bytes:,}, v {crossing.v_bytes:,} in; "
        f"y {crossing.y_bytes:,} out",
    )
    return table


def hardware_text(hardware: Hardware, adapted: AdaptedTo | None) -> str:
    """Name and hash of a hardware, and whether a model that it runs was made for it."""
    text = f"{hardware.name}, {hardware.sha256[:12]}"
    if adapted is None:
        return text
    return f"{text}; model {adapted.folder} was adapted to {'it' if adapted.here else 'another'}"


def headline(result: Result) -> Group:
    """The three published totals beside ours."""
    table = titled_table("Headline", ("here", 12), ("published", 12))
    published_area = "-"  # of another design the paper gives none
    if result.simulation.hardware.is_published:
        published_area = _stated("head_area")
    waits = ", its wait in the prompt counted" if result.generation.prompt_tokens > 1 else ""
    time, energy = figure("latency.layer_ns.mean"), figure("energy_per_token_per_head_pj.total")
    table.add_row(
        f"{time.label}{waits}",
        _here(time, result.latency.layer_ns.mean),
        _stated("attention_latency"),
    )
    table.add_row(
        energy.label,
        _here(energy, result.energy_per_token_per_head_pj["total"]),
        _stated("energy_head"),
    )
    bounds = result.energy_bounds
    if bounds.parameters:
        each = figure("energy_bounds_per_token_per_head.one_at_a_time_pj.0")
        table.add_row(f"  {each.label}", f"{_range(bounds.one_at_a_time)} {each.unit.text}", "")
    area = figure("area_mm2.per_head")
    table.add_row(area.label, _here(area, result.area_mm2.per_head, 3), published_area)
    return Group(
        table,
        note(
            f"Published: window {published('window').value:,.0f}; its energy is for a full window "
            "on the calibration workload (archsim validate). This run has its own activity."
        ),
    )


def _here(of: Figure, value: float, digits: int = 4) -> str:
    return f"{number(value, digits)} {of.unit.text}"


def latency(result: Result) -> Group:
    """Latency by scope, and the first token after a prompt."""
    run = figure("latency.total_ns")
    table = titled_table(f"Latency, {run.unit.text}", *((name, 11) for name in STATISTICS))
    for key, label in SPREADS.items():
        within = "  " if key in {"queue_ns", "attention_ns"} else ""  # of the layer's time
        spread = result.latency[key]
        table.add_row(f"{within}{label}", *(number(spread[name]) for name in STATISTICS))
    table.add_row(run.label, "", "", "", number(result.latency.total_ns, 6))
    generation = result.generation
    prompt, generated = generation.prompt_tokens, generation.generated_tokens
    notes: list[RenderableType] = []
    if prompt > 1:
        notes.append(
            note("All tokens of a prompt are ready at 0: waiting for those before counts.")
        )
    each = generation.time_per_token_ns
    if prompt > 1 and each is not None:
        first = number(generation.time_to_first_token_ns, 6)
        notes.append(
            note(
                f"Time to first token {first} ns ({prompt:,} prompt tokens); then {number(each)} "
                f"ns a token ({generated:,} generated)."
            )
        )
    return Group(table, *notes)


RATES = (
    "tokens_per_s", "average_power_mw", "initiation_interval_ns", "peak_power_mw", "tops",
    "power_density_mw_per_mm2", "tops_per_w",
)  # fmt: skip
"""Rates in the order of their lines, two on each."""


def throughput(result: Result) -> Group:
    """Rates, power, and how TOPS are counted."""
    cells = [
        (each.label, result.throughput[each.key], each.unit)
        for each in (figure(f"throughput.{name}") for name in RATES)
    ]
    joules = PICOJOULE.to(NANOJOULE, result.energy_pj["total"])
    cells.append((figure("energy_pj.total").label, joules, NANOJOULE))
    halves = []
    for half in (cells[::2], cells[1::2]):
        table = Table.grid(padding=(0, 2))
        for justify in ("left", "right", "left"):
            table.add_column(justify=justify, no_wrap=True)
        for name, value, unit in half:
            table.add_row(name, number(value), unit.text)
        halves.append(table)
    return Group(
        Text("Throughput and power", style="bold"),
        Padding(_beside(*halves, apart=2), (0, 0, 0, 2)),
        note(
            "An operation is a multiply or an add of Q.K or P.V over the columns in the window, "
            "whatever their bits. Power and area are of all heads of all layers."
        ),
    )


def bottleneck(result: Result) -> Group:
    """What bounds the throughput, and what stages waited for."""
    found = result.bottleneck
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row(figure("bottleneck.limited_by").label, found.limited_by)
    table.add_row(
        figure("bottleneck.resource").label,
        f"{found.resource}: {number(found.held_ns)} of {number(found.interval_ns)} ns "
        f"a token, {percent(found.utilisation)}",
    )
    stalls = [f"{cause} {number(ns / result.visits)}" for cause, ns in found.stall_ns.items()]
    table.add_row("stalls, ns a token and head", "; ".join(stalls) or "none")
    return Group(Text("Bottleneck", style="bold"), Padding(table, (0, 0, 0, 2)))


def energy(result: Result) -> Group:
    """Energy by published total and, below each, by component; then what assumed costs make it."""
    table = titled_table(
        f"Energy, {PICOJOULE.text} of one token in one head",
        ("here", 9), ("share", 8), ("published", 10), ("rests on", 10),
    )  # fmt: skip
    for bucket in BUCKETS:
        _add_bucket(table, result, bucket)
    total = result.energy_per_token_per_head_pj["total"]
    table.add_row(
        "total",
        number(total),
        percent(1.0 if total else 0.0),
        number(published("energy_head").value),
        style="bold",
    )
    bounds = result.energy_bounds
    if not bounds.parameters:
        return Group(table)
    for key, ends in (
        ("one_at_a_time_pj", bounds.one_at_a_time),
        ("all_together_pj", bounds.all_together),
    ):
        label = figure(f"energy_bounds_per_token_per_head.{key}.0").label
        table.add_row(f"  {label}", _range(ends))
    return Group(
        table,
        note(
            f"{len(bounds.parameters)} assumed costs have a low and a high in the config; how the "
            "published totals divide is not published. Times and counts stay those of this run "
            "(archsim validate --bounds moves them too)."
        ),
    )


def _add_bucket(table: Table, result: Result, bucket: str) -> None:
    """The line of a published total, and one for each component in it."""
    hardware, per_visit = result.simulation.hardware, result.energy_per_token_per_head_pj
    total = per_visit["total"] or 1.0
    name_of = PUBLISHED_BUCKETS.get(bucket)
    components: dict[str, float] = {}
    laws: dict[str, list[Law]] = {}
    for posting in result.simulation.ledger:
        if posting.action.bucket == bucket:
            name, joules = posting.action.component, posting.total
            pj = PICOJOULE.of(joules) / result.visits
            components[name] = components.get(name, 0.0) + pj
            laws.setdefault(name, []).extend(posting.action.laws)
    grades = {
        name: grade(hardware, found) if rests_on(hardware.config, found) else ""
        for name, found in laws.items()
    }
    alone = name_of is None and len(components) == 1  # static and refresh are one line each
    table.add_row(
        BUCKET_LABELS[bucket],
        number(per_visit[bucket]),
        percent(per_visit[bucket] / total),
        "" if name_of is None else number(published(name_of).value),
        _graded(next(iter(grades.values()))) if alone else "",
        style="bold",
    )
    if not alone:
        for name, value in components.items():
            table.add_row(
                f"  {name}", number(value), percent(value / total), "", _graded(grades[name])
            )


def _stated(name: str) -> str:
    figure = published(name)
    return f"{number(figure.value)} {figure.unit}"


def _range(pair: tuple[float, float]) -> str:
    return "-".join(number(value) for value in pair)


def area(result: Result) -> Table:
    """Area by component of one head, and of all heads."""
    found, unit = result.area_mm2, figure("area_mm2.per_head").unit
    table = titled_table("Area of a head", (unit.text, 8), ("share", 7))
    whole = found.per_head or 1.0
    for name, value in found.components.items():
        table.add_row(name, f"{value:.4f}", percent(value / whole))
    trace = result.simulation.trace
    table.add_row("one head", f"{found.per_head:.4f}", "", style="bold")
    table.add_row(f"{trace.layers * trace.heads:,} heads", number(found.chip), "")
    return table


def utilisation(result: Result) -> Table:
    """Share of the run that a resource is taken, a mean over its instances."""
    table = titled_table("Utilisation, mean", (figure("utilisation.*").label, 8))
    for name, share in result.simulation.utilisation.items():
        table.add_row(name, percent(share))
    return table


def array_use(result: Result) -> Padding:
    """What utilisation is, and how much of the arrays works at all."""
    use = result.array_use
    return note(
        "Utilisation: occupied in time, whatever of the block works, a mean over all its "
        f"instances. Of the cells built {percent(use.cells)} do useful work: "
        f"{percent(use.columns)} of the columns are attended (mean over tokens), "
        f"{percent(use.rows)} of the rows hold a feature."
    )


def foundation(result: Result) -> Group:
    """How much of each total rests on assumed numbers."""
    table = titled_table("Rests on", *((name, 11) for name in GRADES))
    for total, shares in result.foundation.items():
        table.add_row(total, *(percent(shares[name]) for name in GRADES))
    return Group(
        table,
        note(
            "Each part counts to the weakest source among the coefficients behind it: published, "
            "calibrated (fitted to a published total), assumed, or set by the user. What sets how "
            "often they apply (window, levels, clock) is not graded."
        ),
    )


def window(result: Result) -> int:
    """Token slots that a head attends to."""
    return result.simulation.head.sub_tiles.window


def _beside(*tables: Table, apart: int = 6) -> Table:
    grid = Table.grid(padding=(0, apart, 0, 0))
    for _ in tables:
        grid.add_column()
    grid.add_row(*tables)
    return grid


def _graded(source: str) -> Text:
    return Text(source, style=_GRADE_STYLES.get(source, ""))
