"""One token of one head, phase by phase: what held what, when, for how long, at what energy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from archsim.chip.stage import Stage
from archsim.errors import ConfigError
from archsim.report.files import visit_energy_pj
from archsim.report.formats import number
from archsim.result import Result
from archsim.timing.declaration import Declaration
from archsim.traces.trace import Trace

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Phase:
    """One stage of the token: times in ns from the start of the run, energy in pJ.

    `pulses` counts the pulses that are not empty, `pulse_ns` is their (shortest, longest); None for
    a stage without pulses or where all are empty.
    """

    stage: str
    start_ns: float
    end_ns: float
    holds: tuple[str, ...]
    pulses: int | None
    pulse_ns: tuple[float, float] | None
    energy_pj: float

    @property
    def duration_ns(self) -> float:
        return self.end_ns - self.start_ns


@dataclass(frozen=True)
class Explanation:
    """One token in one head; `overhead_pj` is energy of the head as a whole, by component."""

    token: int
    layer: int
    head: int
    slot: int
    sub_tile: int
    columns: int
    ready_ns: float
    queue_ns: float
    attention_ns: float
    phases: tuple[Phase, ...]
    overhead_pj: dict[str, float]

    def __repr__(self) -> str:
        return (
            f"<Explanation of token {self.token} in layer {self.layer}, head {self.head}: "
            f"{len(self.phases)} phases, {self.attention_ns:g} ns, {self.energy_pj:.4g} pJ>"
        )

    @property
    def energy_pj(self) -> float:
        return sum(phase.energy_pj for phase in self.phases) + sum(self.overhead_pj.values())

    def document(self) -> dict[str, Any]:
        """What ``--json`` holds."""
        return {**asdict(self), "energy_pj": self.energy_pj}


def check_place(trace: Trace, token: int, layer: int = 0, head: int = 0) -> None:
    """Raise ConfigError unless the trace has that token, layer and head."""
    ranges = (("token", token, trace.tokens), ("layer", layer, trace.layers))
    for name, index, count in (*ranges, ("head", head, trace.heads)):
        if not 0 <= index < count:
            raise ConfigError(f"explain: {name} {index}: this run has {name}s 0 to {count - 1}")


def explain(result: Result, token: int, layer: int = 0, head: int = 0) -> Explanation:
    """The phases of one token in one head, indices from 0 within the run.

    Times and energies are those of the run, and so are the pulses: its own ages and precision.
    Raises ConfigError if the run has no such token, layer or head.
    """
    simulation = result.simulation
    check_place(simulation.trace, token, layer, head)
    schedule, sub_tiles = simulation.schedule, simulation.head.sub_tiles
    pulses = _pulses(result, token, layer, head)
    place = (token, layer, head)

    energies = {action: float(pj[place]) for action, pj in visit_energy_pj(result).items()}
    phases = []
    per_ns = simulation.declaration.clock.per_ns
    for stage in simulation.declaration.stages:
        widths = pulses.get(stage.name)
        seen = None if widths is None else widths[widths > 0]
        empty = seen is None or not len(seen)
        lasts = schedule.end[stage.name][place] > schedule.start[stage.name][place]
        phases.append(
            Phase(
                stage.name,
                float(schedule.start[stage.name][place]) / per_ns,
                float(schedule.end[stage.name][place]) / per_ns,
                _held(simulation.declaration, stage) if lasts or not stage.periodic else (),
                None if seen is None else len(seen),
                None if seen is None or empty else (float(seen.min()), float(seen.max())),
                sum(pj for action, pj in energies.items() if action.stage == stage.name),
            )
        )
    overhead: dict[str, float] = {}
    for action, pj in energies.items():
        if action.stage not in schedule.start:
            overhead[action.component] = overhead.get(action.component, 0.0) + pj
    ready, start = int(schedule.ready[token, layer]), int(schedule.entered[place])
    return Explanation(
        token,
        layer,
        head,
        sub_tiles.slot(token),
        sub_tiles.sub_tile(token),
        min(token + 1, sub_tiles.window),
        ready / per_ns,
        (start - ready) / per_ns,
        (int(schedule.latched[place]) - start) / per_ns,
        tuple(phases),
        overhead,
    )


def _pulses(result: Result, token: int, layer: int, head: int) -> dict[str, Array]:
    """Pulse widths in ns of the token, by the stage they run in.

    Output pulses are known to a count; the longest of every phase is the run's, because it may end
    the phase.
    """
    simulation = result.simulation
    per_ns = simulation.declaration.clock.per_ns
    laws, activity = simulation.head.laws, simulation.function[layer].activity
    output = simulation.attended(layer, head, token + 1)
    assert output.pulse_widths is not None
    assert output.codes is not None
    a, b = (x[layer, head] for x in simulation.trace.scalers["q"])
    scaled = a * simulation.trace.q[layer][head, token].astype(np.float64) + b
    query = laws.query.values(laws.query.codes(scaled))
    widths = {
        "longest_query": np.clip(query, 0.0, 1.0),
        "longest_score": output.pulse_widths[0, token],
        "longest_output": np.abs(laws.output.quantiser.values(output.codes[0, token])).ravel(),
    }
    if laws.readout.conversion is not None:
        assert output.partials is not None
        parts = laws.readout.conversion.quantiser.values(output.partials[0, token])
        widths["longest_partial"] = np.abs(parts).ravel()
    pulses = {}
    for stage in simulation.declaration.stages:
        if stage.longest is not None:
            longest = getattr(activity, stage.longest)[head, token]
            shares = widths[stage.longest]
            if stage.longest != "longest_query":
                shares = _with_longest(shares, longest)
            pulses[stage.name] = shares * (stage.ticks / per_ns)
    return pulses


def _with_longest(counted: Array, longest: float) -> Array:
    """Pulse widths known to a count, or to rounding, the longest of them as it was."""
    widths: Array = np.minimum(counted, longest)
    if longest > 0:
        widths[widths.argmax()] = longest
    return widths


def _held(declaration: Declaration, stage: Stage) -> tuple[str, ...]:
    """What the token holds while `stage` runs, taken by it or by an earlier stage."""
    position = declaration.stages.index(stage)
    held = [] if stage.periodic is None else [*stage.periodic.occupies]
    for taker in declaration.stages[: position + 1]:
        for name in taker.takes:
            giver, point = declaration.giver(name, taker)
            last = declaration.stages.index(giver) - (point == "start")
            if last >= position:
                held.append(name)
    return tuple(held)


def explanation_table(explanation: Explanation) -> Group:
    """The phases as a table: times in ns after the token's start, energies in pJ."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("phase", no_wrap=True)
    columns = (("from", 5), ("to", 5), ("ns", 5), ("pulses", 6), ("min..max ns", 11), ("pJ", 7))
    for name, width in columns:
        table.add_column(name, justify="right", min_width=width, no_wrap=True)
    table.add_column("holds")
    phases, origin = explanation.phases, explanation.phases[0].start_ns
    # what is held from the first phase to the last says nothing about any of them
    always = [name for name in phases[0].holds if all(name in phase.holds for phase in phases)]
    for phase in phases:
        table.add_row(
            phase.stage,
            number(phase.start_ns - origin, 6),
            number(phase.end_ns - origin, 6),
            number(phase.duration_ns, 6),
            "" if phase.pulses is None else f"{phase.pulses:,}",
            "" if phase.pulse_ns is None else "..".join(f"{ns:.2f}" for ns in phase.pulse_ns),
            number(phase.energy_pj),
            ", ".join(name for name in phase.holds if name not in always),
        )
    for name, value in explanation.overhead_pj.items():
        table.add_row(name, "", "", "", "", "", number(value), "")
    attention = number(explanation.attention_ns, 6)
    total = number(explanation.energy_pj)
    table.add_row(
        "token", "0", attention, attention, "", "", total, ", ".join(always), style="bold"
    )
    title = (
        f"Token {explanation.token:,} in layer {explanation.layer}, head {explanation.head}: "
        f"slot {explanation.slot:,} of sub-tile {explanation.sub_tile}, "
        f"{explanation.columns:,} columns in the window"
    )
    when = (
        f"Ready at {number(explanation.ready_ns, 12)} ns, waited {number(explanation.queue_ns, 6)} "
        f"ns, started at {number(origin, 12)} ns; the times below are counted from there."
    )
    return Group(Text(title, style="bold"), Text(when), table)
