"""A simulation condensed: the numbers a user reads, as one document with units in its keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.bounds import EnergyBounds, energy_bounds
from archsim.chip.action import Law, rests_on
from archsim.chip.controller import STATIC
from archsim.function import LayerFunction
from archsim.hardware.load import Hardware
from archsim.parts import (
    Area,
    ArrayUse,
    Bottleneck,
    Crossing,
    Errors,
    Foundation,
    Generation,
    Held,
    Latency,
    LayerErrors,
    Shares,
    Spread,
    Throughput,
)
from archsim.power import peak_power
from archsim.retention import Retention, retention_of
from archsim.simulation import Simulation
from archsim.timing.analysis import (
    ENTRY,
    attention_latency,
    layer_latency,
    leaving,
    occupation,
    queueing,
    stalls,
)
from archsim.units import (
    MILLIWATT,
    NANOSECOND,
    PICOJOULE,
    PICOSECOND,
    SQUARE_MILLIMETRE,
    TERA_OPERATIONS,
    TERA_OPERATIONS_PER_WATT,
)

SCHEMA_VERSION = 1

GRADES = ("published", "calibrated", "assumed", "user")
"""How well founded a number is: the weakest source among the parameters it was computed from."""

INSIDE = "arrays, converters, DACs and the digital part of attention"
OUTSIDE = "projections, MLP, LayerNorm, embeddings, host link"


def grade(hardware: Hardware, laws: Iterable[Law]) -> str:
    """The weakest source among the parameters that `laws` read."""
    sources = {hardware.source(parameter) for parameter in rests_on(hardware.config, laws)}
    for name in ("user", "assumed", "calibrated"):
        if name in sources:
            return name
    return "published"


def _spread(values: NDArray[np.floating[Any]]) -> Spread:
    return Spread(
        float(values.mean()),
        float(np.percentile(values, 50)),
        float(np.percentile(values, 99)),
        float(values.max()),
    )


@dataclass(frozen=True)
class Result:
    """Views of one simulation; `document` is what ``--json`` prints and ``result.json`` holds."""

    simulation: Simulation

    @property
    def _ns(self) -> float:
        """Nanoseconds in a tick of the schedule."""
        return self.simulation.declaration.clock.ns

    def __repr__(self) -> str:
        energy = self.energy_per_token_per_head_pj["total"]
        ns = self.latency.layer_ns.mean
        return (
            f"<Result of {self.simulation.trace.name} on {self.simulation.hardware.name}: "
            f"{ns:,.4g} ns a layer, {energy:,.4g} pJ a token and head>"
        )

    @cached_property
    def latency(self) -> Latency:
        """Times in ns; every word as DESIGN defines it."""
        s = self.simulation.schedule
        token = leaving(s) - s.ready[:, 0]
        return Latency(
            _spread(layer_latency(s) * self._ns),
            _spread(attention_latency(s) * self._ns),
            _spread(token * self._ns),
            _spread(queueing(s) * self._ns),
            s.makespan * self._ns,
        )

    @cached_property
    def generation(self) -> Generation:
        """Time to the first token after the prompt, and per generated token (ns)."""
        s, prompt = self.simulation.schedule, self.simulation.prompt
        left = leaving(s) * self._ns
        generated = np.diff(left[prompt - 1 :])
        return Generation(
            prompt,
            len(left) - prompt,
            float(left[prompt - 1]),
            float(generated.mean()) if len(generated) else None,
        )

    @cached_property
    def energy_pj(self) -> dict[str, float]:
        """Energy of the run by published total; `total` is the sum of the others."""
        ledger = self.simulation.ledger
        buckets = {name: PICOJOULE.of(joules) for name, joules in ledger.by_bucket().items()}
        return {**buckets, "total": sum(buckets.values())}

    @cached_property
    def energy_by_component_pj(self) -> dict[str, float]:
        """Energy of the run by component."""
        ledger = self.simulation.ledger
        return {name: PICOJOULE.of(joules) for name, joules in ledger.by_component().items()}

    @cached_property
    def energy_per_token_per_head_pj(self) -> dict[str, float]:
        """`energy_pj` per token, head and layer."""
        return {name: value / self.visits for name, value in self.energy_pj.items()}

    @property
    def visits(self) -> int:
        """How often a token visits a head: tokens x heads x layers."""
        trace = self.simulation.trace
        return trace.tokens * trace.heads * trace.layers

    @cached_property
    def area_mm2(self) -> Area:
        """Of one head by component, and of all."""
        trace = self.simulation.trace
        blocks = {
            b.component: SQUARE_MILLIMETRE.of(b.area)
            for b in self.simulation.head.footprints(trace.heads)
        }
        per_head = sum(blocks.values())
        return Area(per_head, per_head * trace.heads * trace.layers, blocks)

    @cached_property
    def array_use(self) -> ArrayUse:
        """Share of the arrays' cells, and of their columns and rows, that does useful work.

        Columns attended of those built, a mean over the tokens; rows that hold a feature.
        """
        tiles, tokens = self.simulation.head.sub_tiles, self.simulation.trace.tokens
        columns = tiles.columns_attended(tokens) / (tokens * tiles.slots)
        rows = tiles.features / tiles.rows
        return ArrayUse(columns, rows, columns * rows)

    @cached_property
    def operations(self) -> int:
        """2 x multiply-accumulates of both products over the columns in the window."""
        trace = self.simulation.trace
        columns = self.simulation.head.sub_tiles.columns_attended(trace.tokens)
        return 4 * columns * trace.head_dim * trace.heads * trace.layers

    @cached_property
    def throughput(self) -> Throughput:
        """Rates over the whole run; `peak_power_mw` is the highest sum of phase powers."""
        s = self.simulation.schedule
        per_second = PICOSECOND.per_si * self.simulation.declaration.clock.per_ps
        seconds = max(s.makespan, 1) / per_second
        left = leaving(s) * self._ns
        interval = float(np.diff(left).mean()) if len(left) > 1 else float(left[0])
        joules = self.energy_pj["total"] / PICOJOULE.per_si
        milliwatts, area = MILLIWATT.of(joules / seconds), self.area_mm2.chip
        a_watt = TERA_OPERATIONS_PER_WATT.of(self.operations / joules) if joules else 0.0
        return Throughput(
            tokens_per_s=self.simulation.trace.tokens / seconds,
            initiation_interval_ns=interval,
            tops=TERA_OPERATIONS.of(self.operations / seconds),
            tops_per_w=a_watt,
            average_power_mw=milliwatts,
            peak_power_mw=MILLIWATT.of(peak_power(self.simulation)),
            power_density_mw_per_mm2=milliwatts / area if area else 0.0,
        )

    @cached_property
    def held_longest(self) -> Held:
        """The resource that a token holds longest, in the longer of prompt and generation."""
        simulation = self.simulation
        last, split = simulation.trace.tokens - 1, simulation.prompt - 1
        part = (split, last) if self._generating else (0, split)
        found = occupation(simulation.declaration, simulation.schedule, *part)
        name = max(found, key=lambda resource: found[resource].held)
        held, interval = found[name].held, found[name].interval
        share = held / interval if interval else 0.0
        return Held(name, held * self._ns, interval * self._ns, share)

    @property
    def _generating(self) -> bool:
        """Whether generation took longer than the prompt."""
        left, split = leaving(self.simulation.schedule), self.simulation.prompt - 1
        return bool(left[-1] - left[split] >= left[split] or len(left) == 1)

    @cached_property
    def bottleneck(self) -> Bottleneck:
        """`held_longest`, what bounds the rate, ns that stages waited over heads and tokens."""
        waits = stalls(self.simulation.declaration, self.simulation.schedule)
        by_cause = {
            cause: waits[cause] * self._ns for cause in sorted(waits, key=lambda c: -waits[c])
        }
        held = self.held_longest
        if held.utilisation >= 0.9:
            limit = held.resource
        elif self._generating:
            limit = "token order: one token at a time passes all layers"
        else:
            inside = (cause for cause in by_cause if cause != ENTRY)
            limit = next(inside, "filling and draining: few tokens for so many layers")
        return Bottleneck(**held, limited_by=limit, stall_ns=by_cause)

    @cached_property
    def function(self) -> Errors:
        """Error of y against *ideal*, and shares of values beyond a range."""
        layers = self.simulation.function
        rates = {
            name: float(np.mean([layer.saturation[name] for layer in layers]))
            for name in layers[0].saturation
        }
        return Errors(
            self.simulation.precision,
            self.simulation.function_passes,
            _sqnr(layers),
            max(layer.max_abs_error for layer in layers),
            rates,
            tuple(
                LayerErrors(_sqnr([layer]), layer.max_abs_error, layer.saturation)
                for layer in layers
            ),
        )

    @cached_property
    def foundation(self) -> Foundation:
        """Share of latency, energy and area by the weakest source it rests on (see `GRADES`)."""
        hardware, s = self.simulation.hardware, self.simulation.schedule
        stages = self.simulation.declaration.stages
        path = [stage for stage in stages if not stage.beside]
        times = [
            (stage.laws, float((s.end[stage.name] - s.start[stage.name]).sum())) for stage in path
        ]
        energies = [(p.action.laws, p.total) for p in self.simulation.ledger]
        areas = [
            (b.laws, b.area) for b in self.simulation.head.footprints(self.simulation.trace.heads)
        ]
        return Foundation(*(_shares(hardware, parts) for parts in (times, energies, areas)))

    @cached_property
    def retention(self) -> Retention:
        """The decay of this run beside that of a whole token's time.

        What a whole token takes may need a run of the calibration workload: it is looked up only
        where it is printed or written, and kept by hardware.
        """
        interval = NANOSECOND.si(self.throughput.initiation_interval_ns)
        return retention_of(self.simulation.hardware, interval)

    @cached_property
    def energy_bounds(self) -> EnergyBounds:
        """pJ per token, head and layer with assumed costs at their bounds (`archsim.bounds`)."""
        simulation = self.simulation
        trace, config = simulation.trace, simulation.hardware.config
        units = {
            posting.action: posting.total / self.visits / cost
            for posting in simulation.ledger
            if (cost := posting.action.cost(config))
        }
        run = simulation.schedule.makespan * simulation.declaration.clock.seconds
        # s, also where it draws nothing
        units[STATIC] = run * trace.heads * trace.layers / self.visits
        return energy_bounds(simulation.hardware, units)

    @cached_property
    def interface(self) -> Crossing:
        """Bytes that cross the boundary a token, all layers and heads: codes in, 16-bit y out."""
        trace, levels = self.simulation.trace, self.simulation.hardware.config.levels

        def bits(count: int | None) -> int:
            return 16 if count is None else (count - 1).bit_length()

        vectors = trace.layers * trace.heads * trace.head_dim
        stored = -(-vectors * bits(levels.key_value) // 8)
        return Crossing(-(-vectors * bits(levels.query) // 8), stored, stored, vectors * 2)

    def document(self, wall: bool = True) -> dict[str, Any]:
        """The whole result; without `wall` the same input gives the same bytes.

        `wall` adds what differs from run to run: the engine that ran, its events, how long it took.
        """
        simulation = self.simulation
        hardware, trace = simulation.hardware, simulation.trace
        document: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "hardware": {"name": hardware.name, "config_sha256": hardware.sha256},
            "trace": {
                "name": trace.name,
                "layers": trace.layers,
                "heads": trace.heads,
                "tokens": trace.tokens,
                "head_dim": trace.head_dim,
                "sha256": trace.sha256,
                "adapted_to": simulation.adapted and simulation.adapted.document(),
            },
            "notes": simulation.notes,
            "boundary": {
                "inside": INSIDE,
                "outside": OUTSIDE,
                "layer_gap_ns": simulation.declaration.layer_gap * self._ns,
                "token_gap_ns": simulation.declaration.token_gap * self._ns,
                "bytes_per_token": self.interface.document(),
            },
            "latency": self.latency.document(),
            "generation": self.generation.document(),
            "throughput": self.throughput.document(),
            "energy_pj": self.energy_pj,
            "energy_per_token_per_head_pj": self.energy_per_token_per_head_pj,
            "energy_by_component_pj": self.energy_by_component_pj,
            "bottleneck": self.bottleneck.document(),
            "area_mm2": self.area_mm2.document(),
            "utilisation": simulation.utilisation,
            "array_use": self.array_use.document(),
            "function": self.function.document(),
            "foundation": self.foundation.document(),
            "retention": self.retention.document(),
            "energy_bounds_per_token_per_head": self.energy_bounds.document(),
            "unread_parameters": simulation.unread,
            "events": simulation.ledger.events,
        }
        if wall:
            document["engine"] = simulation.schedule.engine
            document["engine_reason"] = simulation.why_engine
            document["engine_events"] = simulation.schedule.events
            document["wall_s"] = simulation.wall_s
        return document


def _sqnr(layers: Sequence[LayerFunction]) -> float | None:
    """dB of ideal's power over the error's; None where one is 0: exact, or ideal is silent."""
    error = sum(layer.error for layer in layers)
    signal = sum(layer.signal for layer in layers)
    if error == 0 or signal == 0:
        return None  # JSON has no infinity; max_abs_error tells the two apart
    return float(10 * np.log10(signal / error))


def _shares(hardware: Hardware, parts: list[tuple[tuple[Law, ...], float]]) -> Shares:
    total = sum(value for _, value in parts)
    shares = dict.fromkeys(GRADES, 0.0)
    for laws, value in parts:
        if value:
            shares[grade(hardware, laws)] += value / total
    return Shares(**shares)
