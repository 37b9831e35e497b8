"""Terminal tables of a result: readable at 80 columns, without colour, in plain ASCII.

Numbers are never wrapped or cut: only names and notes may fold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from archsim.accuracy.trace_loop import InLoop
from archsim.calibration import PUBLISHED_BUCKETS
from archsim.chip.action import BUCKETS, Law, rests_on
from archsim.config.published import published
from archsim.hardware.load import Hardware
from archsim.notes import AdaptedTo
from archsim.report.terminal import show as show
from archsim.result import GRADES, INSIDE, OUTSIDE, PER_PICO, Result, grade

BUCKET_NAMES = {
    "qk": "phi(Q.K)",
    "sv": "phi(S).V",
    "digital": "digital",
    "dac": "write (DACs)",
    "static": "static",
    "refresh": "refresh",
}

SATURATION_NAMES = {
    "query": "q",
    "key": "k",
    "value": "v",
    "score_low": "S<0",
    "score_high": "S>max",
    "output": "A",
}
"""Column heads of the saturation rates; six of them share a line."""

_GRADE_STYLES = {"published": "green", "calibrated": "cyan", "assumed": "yellow", "user": "magenta"}


def summary(result: Result, loop: InLoop | None = None) -> Group:
    """Every table of a result, the boundary first."""
    from archsim.report.retention import retention_table  # which takes its formats from here

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
    bytes_ = result.interface
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
        f"q {bytes_['q_bytes']:,}, k {bytes_['k_bytes']:,}, v {bytes_['v_bytes']:,} in; "
        f"y {bytes_['y_bytes']:,} out",
    )
    return table


def hardware_text(hardware: Hardware, adapted: AdaptedTo | None) -> str:
    """Name and hash of a hardware, and whether a model that it runs was made for it."""
    text = f"{hardware.name}, {hardware.sha256[:12]}"
    if adapted is None:
        return text
    return f"{text}; model {adapted.folder} was adapted to {'it' if adapted.here else 'another'}"


def cautions(notes: Iterable[str]) -> list[RenderableType]:
    """What was fitted for something else, before any figure."""
    lines = [Text(f"{line}.", style="yellow") for line in notes]
    return [Group(*lines)] if lines else []


def headline(result: Result) -> Group:
    """The three published totals beside ours."""
    table = _table("Headline", ("here", 12), ("published", 12))
    published_area = "-"  # of another design the paper gives none
    if result.simulation.hardware.is_published:
        published_area = _stated("head_area")
    waits = ", its wait in the prompt counted" if result.generation["prompt_tokens"] > 1 else ""
    table.add_row(
        f"attention of one token, one layer, mean{waits}",
        f"{number(result.latency['layer_ns']['mean'])} ns",
        _stated("attention_latency"),
    )
    table.add_row(
        "energy of one token in one head",
        f"{number(result.energy_per_token_per_head_pj['total'])} pJ",
        _stated("energy_head"),
    )
    if result.energy_bounds.parameters:
        ends = _pj_range(result.energy_bounds.one_at_a_time)
        table.add_row("  one assumed cost at its low or high", f"{ends} pJ", "")
    table.add_row(
        "area of one head",
        f"{number(result.area_mm2['per_head'], 3)} mm^2",
        published_area,
    )
    return Group(
        table,
        note(
            f"Published: window {published('window').value:,.0f}; its energy is for a full window "
            "on the calibration workload (archsim validate). This run has its own activity."
        ),
    )


def latency(result: Result) -> Group:
    """Latency by scope, and the first token after a prompt."""
    times = result.latency
    table = _table("Latency, ns", ("mean", 11), ("p50", 11), ("p99", 11), ("max", 11))
    rows = {
        "a layer, ready to latched": times["layer_ns"],
        "  of that waiting to enter": times["queue_ns"],
        "  a head, write to latched": times["attention_ns"],
        "token, all layers": times["token_ns"],
    }
    for name, values in rows.items():
        table.add_row(name, *(number(values[key]) for key in ("mean", "p50", "p99", "max")))
    table.add_row("run", "", "", "", number(times["total_ns"], 6))
    generation = result.generation
    prompt, generated = generation["prompt_tokens"], generation["generated_tokens"]
    notes: list[RenderableType] = []
    if prompt > 1:
        notes.append(
            note("All tokens of a prompt are ready at 0: waiting for those before counts.")
        )
    if prompt > 1 and generated:
        each = generation["time_per_token_ns"]
        first = number(generation["time_to_first_token_ns"], 6)
        notes.append(
            note(
                f"Time to first token {first} ns ({prompt:,} prompt tokens); then {number(each)} "
                f"ns a token ({generated:,} generated)."
            )
        )
    return Group(table, *notes)


def throughput(result: Result) -> Group:
    """Rates, power, and how TOPS are counted."""
    rates = result.throughput
    cells = [
        ("throughput", rates["tokens_per_s"], "tokens/s"),
        ("average power", rates["average_power_mw"], "mW"),
        ("initiation interval", rates["initiation_interval_ns"], "ns"),
        ("peak power", rates["peak_power_mw"], "mW"),
        ("operations", rates["tops"], "TOPS"),
        ("power density", rates["power_density_mw_per_mm2"], "mW/mm^2"),
        ("efficiency", rates["tops_per_w"], "TOPS/W"),
        ("energy of the run", result.energy_pj["total"] * 1e-3, "nJ"),
    ]
    halves = []
    for half in (cells[::2], cells[1::2]):
        table = Table.grid(padding=(0, 2))
        for justify in ("left", "right", "left"):
            table.add_column(justify=justify, no_wrap=True)
        for name, value, unit in half:
            table.add_row(name, number(value), unit)
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
    trace = result.simulation.trace
    visits = trace.tokens * trace.layers * trace.heads
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row("limited by", found["limited_by"])
    table.add_row(
        "held longest",
        f"{found['resource']}: {number(found['held_ns'])} of {number(found['interval_ns'])} ns "
        f"a token, {percent(found['utilisation'])}",
    )
    stalls = [f"{cause} {number(ns / visits)}" for cause, ns in found["stall_ns"].items()]
    table.add_row("stalls, ns a token and head", "; ".join(stalls) or "none")
    return Group(Text("Bottleneck", style="bold"), Padding(table, (0, 0, 0, 2)))


def energy(result: Result) -> Group:
    """Energy by published total and, below each, by component; then what assumed costs make it."""
    table = _table(
        "Energy, pJ of one token in one head",
        ("here", 9), ("share", 8), ("published", 10), ("rests on", 10),
    )  # fmt: skip
    hardware, per_visit = result.simulation.hardware, result.energy_per_token_per_head_pj
    total = per_visit["total"] or 1.0
    trace = result.simulation.trace
    visits = trace.tokens * trace.layers * trace.heads
    for bucket in BUCKETS:
        name_of = PUBLISHED_BUCKETS.get(bucket)
        components: dict[str, float] = {}
        laws: dict[str, list[Law]] = {}
        for posting in result.simulation.ledger:
            if posting.action.bucket == bucket:
                name = posting.action.component
                components[name] = components.get(name, 0.0) + posting.total * PER_PICO / visits
                laws.setdefault(name, []).extend(posting.action.laws)
        grades = {
            name: grade(hardware, found) if rests_on(hardware.config, found) else ""
            for name, found in laws.items()
        }
        alone = name_of is None and len(components) == 1  # static and refresh are one line each
        table.add_row(
            BUCKET_NAMES[bucket],
            number(per_visit[bucket]),
            percent(per_visit[bucket] / total),
            "" if name_of is None else number(published(name_of).value),
            _graded(next(iter(grades.values()))) if alone else "",
            style="bold",
        )
        if not alone:
            for name, value in components.items():
                share, source = percent(value / total), _graded(grades[name])
                table.add_row(f"  {name}", number(value), share, "", source)
    table.add_row(
        "total",
        number(per_visit["total"]),
        percent(1.0 if per_visit["total"] else 0.0),
        number(published("energy_head").value),
        style="bold",
    )
    bounds = result.energy_bounds
    if not bounds.parameters:
        return Group(table)
    table.add_row("  one assumed cost at its low or high", _pj_range(bounds.one_at_a_time))
    table.add_row("  all of them at once", _pj_range(bounds.all_together))
    return Group(
        table,
        note(
            f"{len(bounds.parameters)} assumed costs have a low and a high in the config; how the "
            "published totals divide is not published. Times and counts stay those of this run "
            "(archsim validate --bounds moves them too)."
        ),
    )


def _stated(name: str) -> str:
    figure = published(name)
    return f"{number(figure.value)} {figure.unit}"


def _pj_range(pair: tuple[float, float]) -> str:
    return "-".join(number(pj) for pj in pair)


def area(result: Result) -> Table:
    """Area by component of one head, and of all heads."""
    table = _table("Area of a head", ("mm^2", 8), ("share", 7))
    whole = result.area_mm2["per_head"] or 1.0
    for name, value in result.area_mm2["components"].items():
        table.add_row(name, f"{value:.4f}", percent(value / whole))
    trace = result.simulation.trace
    table.add_row("one head", f"{result.area_mm2['per_head']:.4f}", "", style="bold")
    table.add_row(f"{trace.layers * trace.heads:,} heads", number(result.area_mm2["chip"]), "")
    return table


def utilisation(result: Result) -> Table:
    """Share of the run that a resource is taken, a mean over its instances."""
    table = _table("Utilisation, mean", ("taken", 8))
    for name, share in result.simulation.utilisation.items():
        table.add_row(name, percent(share))
    return table


def array_use(result: Result) -> Padding:
    """What utilisation is, and how much of the arrays works at all."""
    use = result.array_use
    return note(
        "Utilisation: occupied in time, whatever of the block works, a mean over all its "
        f"instances. Of the cells built {percent(use['cells'])} do useful work: "
        f"{percent(use['columns'])} of the columns are attended (mean over tokens), "
        f"{percent(use['rows'])} of the rows hold a feature."
    )


def function(result: Result, loop: InLoop | None = None) -> Group:
    """Error against *ideal* and saturation, by layer; the software model beside it if known."""
    columns = [(name, 7) for name in SATURATION_NAMES.values()]
    table = _table("Function", ("SQNR dB", 8), ("max error", 10), *columns, name_width=7)
    found = result.function
    for index, layer in enumerate(found["layers"]):
        table.add_row(f"layer {index}", *_function_cells(layer))
    if len(found["layers"]) > 1:
        table.add_row("all", *_function_cells(found), style="bold")
    beside: list[RenderableType] = [] if loop is None else [Text(""), _in_loop(loop)]
    partial = found["saturation"].get("partial")
    alone = len(result.simulation.head.laws.readout.parts) == 1
    digitised = "bit lines" if alone else "partial sums"
    split = (
        ""
        if partial is None
        else f" Of the {digitised} that S is put together from, {percent(partial)}."
    )
    return Group(
        table,
        note(
            "Error of y against ideal: same scaled inputs, linear cells, no quantiser, no output "
            "clip, no decay. Then % of values beyond range: q, k, v after scaling; scores "
            f"S below 0 and above full scale; sub-tile outputs A.{split} "
            f"Analog products in {found['precision']}."
        ),
        *beside,
    )


def _in_loop(loop: InLoop) -> Group:
    """What all layers together cost the model."""
    title = (
        "In the model's loop"
        if loop["adapted_to_this_hardware"]
        else "In a loop not adapted to this hardware"
    )
    table = _table(title, ("software", 9), ("here", 9), ("top-1 same", 10), ("KL", 7))
    table.add_row(
        "loss, nats a token",
        f"{loop['software_loss']:.3f}",
        f"{loop['hardware_loss']:.3f}",
        percent(loop["top1_agreement"]),
        f"{loop['kl']:.3f}",
    )
    return Group(
        table,
        note(
            f"Over the trace's own {loop['tokens']:,} targets, each layer fed what the hardware "
            "made of the layers before; the software model is the one that was adapted. More text, "
            "and where the loss comes from: archsim evaluate."
        ),
    )


def _function_cells(values: Mapping[str, Any]) -> list[str]:
    sqnr, rates = values["sqnr_db"], values["saturation"]
    largest = values["max_abs_error"]
    ratio = f"{sqnr:.1f}" if sqnr is not None else ("-" if largest else "exact")
    return [ratio, f"{largest:.3g}", *(percent(rates[name]) for name in SATURATION_NAMES)]


def foundation(result: Result) -> Group:
    """How much of each total rests on assumed numbers."""
    table = _table("Rests on", *((name, 11) for name in GRADES))
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


def unread(names: Sequence[str], what: str = "this run") -> Text:
    """Parameters that nothing read, so that changing them would have changed nothing.

    The table on retention beside it takes some of them, which is said.
    """
    beside = [name for name in names if name.startswith("retention.") or name in TOKEN_TIME]
    but = f" (the table on retention alone takes {', '.join(beside)})" if beside else ""
    return Text(f"Not read by {what}: {', '.join(names)}{but}", style="yellow")


TOKEN_TIME = frozenset(
    {"digital.rate", "digital.weights", "digital.weight_bits", "digital.weight_bandwidth"}
)
"""Keys besides those of ``retention`` that its table reads, whatever the run does."""


def window(result: Result) -> int:
    """Token slots that a head attends to."""
    return result.simulation.head.sub_tiles.window


def number(value: float, digits: int = 4) -> str:
    """`digits` significant digits, thousands separators, no trailing zeros after the point."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4:
        return f"{value:.{digits - 1}g}"
    text = f"{value:,.{max(0, digits - 1 - exponent)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float) -> str:
    """A share as per cent, one decimal; what is more than nothing never reads as 0."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %"


def _table(title: str, *columns: tuple[str, int], name_width: int | None = None) -> Table:
    """A table whose first column holds names and whose head is its title."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(title, min_width=name_width)
    for head, width in columns:
        table.add_column(head, justify="right", min_width=width, no_wrap=True)
    return table


def _beside(*tables: Table, apart: int = 6) -> Table:
    grid = Table.grid(padding=(0, apart, 0, 0))
    for _ in tables:
        grid.add_column()
    grid.add_row(*tables)
    return grid


def note(text: str) -> Padding:
    return Padding(Text(text, style="dim"), (0, 0, 0, 2))


def _graded(source: str) -> Text:
    return Text(source, style=_GRADE_STYLES.get(source, ""))
