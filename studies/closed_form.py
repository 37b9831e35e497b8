"""The closed-form estimate of a design, to set beside its simulation.

What one would put into a spreadsheet: every phase at its mean length, a token's way through a layer
as the sum of the phases, one token every so long as the most used resource takes for it, and the
last of those who share a block waiting once for all the others.
``python -m studies.closed_form`` writes the study of docs/studies/closed-form.md: where
that is good enough, and where it is not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from archsim.chip import controller
from archsim.files import renew_marked
from archsim.hardware.load import Hardware, load_hardware
from archsim.simulation import Simulation, simulate_trace
from archsim.timing.analysis import occupation
from archsim.timing.declaration import Declaration
from archsim.timing.engines.recurrence import run_fast
from archsim.traces.folder import default_trace_name
from archsim.traces.trace import Trace, load_trace


@dataclass(frozen=True)
class Estimate:
    """Makespan, and the time a head is busy with a token, in ticks, in closed form."""

    makespan: float
    busy: float


def estimate(declaration: Declaration) -> Estimate:
    """The closed-form estimate of a declaration; knows nothing of buffers and of the order in time.

    Mean phases are rounded up to clock edges, as phases are. Tokens known from the start follow
    each other at the interval of the most used resource; the others pass all layers one by one.
    """
    tokens, layers, heads = declaration.shape
    period = declaration.period
    mean = {
        name: np.full((1, 1, 1), -(-int(np.rint(times.mean())) // period) * period, np.int64)
        for name, times in declaration.durations.items()
    }
    single = replace(
        declaration,
        resources=tuple(replace(r, heads=1, capacity=1) for r in declaration.resources),
        durations=mean,
        sub_tiles=declaration.sub_tiles[:1],
        prompt=1,
    )
    alone = run_fast(single)
    held = {name: found.held for name, found in occupation(single, alone, 0, 0).items()}
    use = {r.name: held[r.name] * min(r.heads, heads) / r.capacity for r in declaration.resources}
    turns = max(
        (use[r.name] - held[r.name] for r in declaration.resources if r.heads > 1), default=0.0
    )  # heads that took turns at one block come to the next one after another
    layer = alone.makespan + turns
    way = layers * layer + (layers - 1) * declaration.layer_gap
    known = max(1, min(declaration.prompt, tokens))
    interval = max(use.values())
    prompt = way + (known - 1) * interval
    rest = (tokens - known) * (way + declaration.token_gap)
    overlapping = (known - 1) * min(interval, alone.makespan)
    busy = (overlapping + (tokens - known + 1) * alone.makespan) / tokens
    return Estimate(prompt + rest, busy)


def estimated_energy(simulation: Simulation, estimated: Estimate) -> float:
    """J of the run with the controller's busy cycles and the makespan as estimated.

    All that follows from the activity alone is as simulated; no timing model changes it.
    """
    control = simulation.head.controller
    visits = float(np.prod(simulation.declaration.shape))
    cycles = np.array(estimated.busy / control.clock.period * visits)
    timed = {controller.CONTROL, controller.CLOCK, controller.STATIC}
    rest = sum(p.total for p in simulation.ledger if p.action not in timed)
    heads = simulation.declaration.shape[1] * simulation.declaration.shape[2]
    static = control.static_power * heads * estimated.makespan * control.clock.seconds
    spent = control.control_energy(cycles) + control.clock_energy(cycles)
    return rest + float(spent) + static


@dataclass(frozen=True)
class Case:
    """One row of the study."""

    group: str
    name: str
    overrides: dict[str, Any]
    order: str


EARLY = {"controller.phases": "early_end"}
STAGES = {"controller.pipelining": "stages"}


def cases(heads: int) -> Iterator[Case]:
    """One change at a time, from a token alone to everything shared."""
    shared = sorted({1, 2, heads})
    for order in ("generate", "prefill"):
        yield Case("as published", order, {}, order)
    yield Case("as published", "prefill, stages overlap", STAGES, "prefill")
    for order, extra in (("generate", {}), ("prefill", STAGES)):
        group = f"phases end early, {order}"
        for window in (64, 256, 1024):
            yield Case(group, f"window {window}", {**EARLY, **extra, "window": window}, order)
        for n in shared[1:]:
            for arbitration in ("static", "fifo"):
                overrides = {
                    "write_path.heads_per_driver": n,
                    "write_path.arbitration": arbitration,
                    "accumulator.heads_per_adder": n,
                    "accumulator.arbitration": arbitration,
                }
                name = f"{n} heads share DACs and adders, {arbitration}"
                yield Case(group, name, {**EARLY, **extra, **overrides}, order)
    for depth in (8, 2, 1):
        overrides = {**EARLY, **STAGES, "controller.layer_buffer": depth}
        yield Case("buffer between layers, prefill", f"room for {depth}", overrides, "prefill")
    for depth in (8, 2, 1):
        overrides = {
            **EARLY,
            **STAGES,
            "controller.layer_buffer": depth,
            "controller.layer_gap": "100 ns",
        }
        name = f"room for {depth}, 100 ns between layers"
        yield Case("buffer between layers, prefill", name, overrides, "prefill")


@dataclass(frozen=True)
class Row:
    """One case: time in us and energy in nJ a token, simulated and by the closed form."""

    case: Case
    simulated_us: float
    estimated_us: float
    simulated_nj: float
    estimated_nj: float

    @property
    def time_error(self) -> float:
        return self.estimated_us / self.simulated_us - 1

    @property
    def energy_error(self) -> float:
        return self.estimated_nj / self.simulated_nj - 1


def study(trace: Trace, hardware: Hardware) -> list[Row]:
    """Every case simulated and estimated on one trace."""
    rows = []
    for case in cases(trace.heads):
        simulation = simulate_trace(trace, hardware.changed(case.overrides), order=case.order)
        estimated = estimate(simulation.declaration)
        joules = sum(posting.total for posting in simulation.ledger)
        rows.append(
            Row(
                case,
                simulation.schedule.makespan * (simulation.declaration.clock.ns * 1e-3),
                estimated.makespan * (simulation.declaration.clock.ns * 1e-3),
                joules / trace.tokens * 1e9,
                estimated_energy(simulation, estimated) / trace.tokens * 1e9,
            )
        )
    return rows


def _percent(error: float) -> str:
    return f"{error:+.1%}" if round(error, 3) else "0"


def table(rows: list[Row]) -> str:
    """The rows as Markdown, a heading a group."""
    lines = []
    group = ""
    for row in rows:
        if row.case.group != group:
            group = row.case.group
            lines += [
                "",
                f"**{group[0].upper()}{group[1:]}**",
                "",
                "| | simulated us | closed form us | error | nJ a token | closed form nJ | error |",
                "|---|--:|--:|--:|--:|--:|--:|",
            ]
        lines.append(
            f"| {row.case.name} | {row.simulated_us:.2f} | {row.estimated_us:.2f} "
            f"| {_percent(row.time_error)} | {row.simulated_nj:.2f} | {row.estimated_nj:.2f} "
            f"| {_percent(row.energy_error)} |"
        )
    return "\n".join(lines[1:]) + "\n"


OPENING, CLOSING = "<!-- made by: python -m studies.closed_form -->", "<!-- end -->"


def main(words: list[str] | None = None) -> None:
    """Renew the tables between the two marks of a Markdown page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/studies/closed-form.md"))
    parser.add_argument("-t", "--trace", default=default_trace_name())
    arguments = parser.parse_args(words)
    text = table(study(load_trace(arguments.trace), load_hardware()))
    renew_marked(arguments.output, OPENING, CLOSING, text)


if __name__ == "__main__":
    main()
