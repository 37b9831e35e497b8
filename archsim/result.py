"""A simulation condensed: the numbers a user reads, as one document with units in its keys."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.bounds import EnergyBounds, energy_bounds
from archsim.chip.action import Law, rests_on
from archsim.chip.controller import STATIC
from archsim.chip.stage import Periodic
from archsim.function import LayerFunction
from archsim.hardware.load import Hardware
from archsim.retention import Retention, retention_of
from archsim.simulation import Simulation, holding
from archsim.timing.analysis import (
    ENTRY,
    attention_latency,
    layer_latency,
    leaving,
    occupation,
    queueing,
    stalls,
)
from archsim.timing.declaration import Schedule

Array = NDArray[np.float64]

SCHEMA_VERSION = 1
PER_PICO = 1e12

SLOTS = 4_000_000
"""Instants up to which power is summed on a grid of clock edges; else they are sorted."""

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


def _statistics(values: NDArray[np.floating[Any]]) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "p50": float(np.percentile(values, 50)),
        "p99": float(np.percentile(values, 99)),
        "max": float(values.max()),
    }


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
        ns = self.latency["layer_ns"]["mean"]
        return (
            f"<Result of {self.simulation.trace.name} on {self.simulation.hardware.name}: "
            f"{ns:,.4g} ns a layer, {energy:,.4g} pJ a token and head>"
        )

    @cached_property
    def latency(self) -> dict[str, Any]:
        """Times in ns; every word as DESIGN defines it."""
        s = self.simulation.schedule
        token = leaving(s) - s.ready[:, 0]
        return {
            "layer_ns": _statistics(layer_latency(s) * self._ns),
            "attention_ns": _statistics(attention_latency(s) * self._ns),
            "token_ns": _statistics(token * self._ns),
            "queue_ns": _statistics(queueing(s) * self._ns),
            "total_ns": s.makespan * self._ns,
        }

    @cached_property
    def generation(self) -> dict[str, Any]:
        """Time to the first token after the prompt, and per generated token (ns)."""
        s, prompt = self.simulation.schedule, self.simulation.prompt
        left = leaving(s) * self._ns
        generated = np.diff(left[prompt - 1 :])
        return {
            "prompt_tokens": prompt,
            "generated_tokens": len(left) - prompt,
            "time_to_first_token_ns": float(left[prompt - 1]),
            "time_per_token_ns": float(generated.mean()) if len(generated) else None,
        }

    @cached_property
    def energy_pj(self) -> dict[str, float]:
        """Energy of the run by published total; `total` is the sum of the others."""
        buckets = {k: v * PER_PICO for k, v in self.simulation.ledger.by_bucket().items()}
        return {**buckets, "total": sum(buckets.values())}

    @cached_property
    def energy_per_token_per_head_pj(self) -> dict[str, float]:
        """`energy_pj` per token, head and layer."""
        trace = self.simulation.trace
        visits = trace.tokens * trace.heads * trace.layers
        return {name: value / visits for name, value in self.energy_pj.items()}

    @cached_property
    def area_mm2(self) -> dict[str, Any]:
        """`components` and `per_head` are one head's; `chip` has every head of every layer."""
        trace = self.simulation.trace
        blocks = {
            b.component: b.area * 1e6
            for b in self.simulation.head.footprints(self.simulation.trace.heads)
        }
        per_head = sum(blocks.values())
        chip = per_head * trace.heads * trace.layers
        return {"per_head": per_head, "chip": chip, "components": blocks}

    @cached_property
    def array_use(self) -> dict[str, float]:
        """Share of the arrays' cells, and of their columns and rows, that does useful work.

        Columns attended of those built, a mean over the tokens; rows that hold a feature.
        """
        tiles, tokens = self.simulation.head.sub_tiles, self.simulation.trace.tokens
        columns = tiles.columns_attended(tokens) / (tokens * tiles.slots)
        rows = tiles.features / tiles.rows
        return {"columns": columns, "rows": rows, "cells": columns * rows}

    @cached_property
    def operations(self) -> int:
        """2 x multiply-accumulates of both products over the columns in the window."""
        trace = self.simulation.trace
        columns = self.simulation.head.sub_tiles.columns_attended(trace.tokens)
        return 4 * columns * trace.head_dim * trace.heads * trace.layers

    @cached_property
    def throughput(self) -> dict[str, float]:
        """Rates over the whole run; `peak_power_mw` is the highest sum of phase powers."""
        s = self.simulation.schedule
        ticks = self.simulation.declaration.clock.per_ps
        seconds = max(s.makespan, 1) / (PER_PICO * ticks)
        left = leaving(s) * self._ns
        interval = float(np.diff(left).mean()) if len(left) > 1 else float(left[0])
        joules = self.energy_pj["total"] / PER_PICO
        power, area = joules / seconds, self.area_mm2["chip"]
        return {
            "tokens_per_s": self.simulation.trace.tokens / seconds,
            "initiation_interval_ns": interval,
            "tops": self.operations / seconds / 1e12,
            "tops_per_w": self.operations / joules / 1e12 if joules else 0.0,
            "average_power_mw": power * 1e3,
            "peak_power_mw": peak_power(self.simulation) * 1e3,
            "power_density_mw_per_mm2": power * 1e3 / area if area else 0.0,
        }

    @cached_property
    def held_longest(self) -> dict[str, Any]:
        """The resource whose most loaded instance a token holds longest.

        In the longer of prompt and generation: `interval_ns` is the time between two tokens that
        come to it, `held_ns` for how much of it they hold it, `utilisation` the ratio, at most 1.
        """
        simulation = self.simulation
        last, split = simulation.trace.tokens - 1, simulation.prompt - 1
        part = (split, last) if self._generating else (0, split)
        found = occupation(simulation.declaration, simulation.schedule, *part)
        name = max(found, key=lambda resource: found[resource].held)
        held, interval = found[name].held, found[name].interval
        return {
            "resource": name,
            "held_ns": held * self._ns,
            "interval_ns": interval * self._ns,
            "utilisation": held / interval if interval else 0.0,
        }

    @property
    def _generating(self) -> bool:
        """Whether generation took longer than the prompt."""
        left, split = leaving(self.simulation.schedule), self.simulation.prompt - 1
        return bool(left[-1] - left[split] >= left[split] or len(left) == 1)

    @cached_property
    def bottleneck(self) -> dict[str, Any]:
        """`held_longest`, what bounds the rate, ns that stages waited over heads and tokens."""
        waits = stalls(self.simulation.declaration, self.simulation.schedule)
        by_cause = {
            cause: waits[cause] * self._ns for cause in sorted(waits, key=lambda c: -waits[c])
        }
        if self.held_longest["utilisation"] >= 0.9:
            limit = self.held_longest["resource"]
        elif self._generating:
            limit = "token order: one token at a time passes all layers"
        else:
            inside = (cause for cause in by_cause if cause != ENTRY)
            limit = next(inside, "filling and draining: few tokens for so many layers")
        return {**self.held_longest, "limited_by": limit, "stall_ns": by_cause}

    @cached_property
    def function(self) -> dict[str, Any]:
        """Error of y against *ideal*, and shares of values beyond a range."""
        layers = self.simulation.function
        rates = {
            name: float(np.mean([layer.saturation[name] for layer in layers]))
            for name in layers[0].saturation
        }
        return {
            "precision": self.simulation.precision,
            "passes": self.simulation.function_passes,
            "sqnr_db": _sqnr(layers),
            "max_abs_error": max(layer.max_abs_error for layer in layers),
            "saturation": rates,
            "layers": [
                {
                    "sqnr_db": _sqnr([layer]),
                    "max_abs_error": layer.max_abs_error,
                    "saturation": layer.saturation,
                }
                for layer in layers
            ],
        }

    @cached_property
    def foundation(self) -> dict[str, dict[str, float]]:
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
        return {
            "latency": _shares(hardware, times),
            "energy": _shares(hardware, energies),
            "area": _shares(hardware, areas),
        }

    @cached_property
    def retention(self) -> Retention:
        """The decay of this run beside that of a whole token's time."""
        interval = self.throughput["initiation_interval_ns"] * 1e-9
        return retention_of(self.simulation.hardware, interval)

    @cached_property
    def energy_bounds(self) -> EnergyBounds:
        """pJ per token, head and layer with assumed costs at their bounds (`archsim.bounds`)."""
        simulation = self.simulation
        trace, config = simulation.trace, simulation.hardware.config
        visits = trace.tokens * trace.heads * trace.layers
        units = {
            posting.action: posting.total / visits / cost
            for posting in simulation.ledger
            if (cost := posting.action.cost(config))
        }
        run = simulation.schedule.makespan * simulation.declaration.clock.seconds
        units[STATIC] = run * trace.heads * trace.layers / visits  # s, also where it draws nothing
        return energy_bounds(simulation.hardware, units)

    @cached_property
    def interface(self) -> dict[str, int]:
        """Bytes that cross the boundary a token, all layers and heads: codes in, 16-bit y out."""
        trace, levels = self.simulation.trace, self.simulation.hardware.config.levels

        def bits(count: int | None) -> int:
            return 16 if count is None else (count - 1).bit_length()

        vectors = trace.layers * trace.heads * trace.head_dim
        return {
            "q_bytes": -(-vectors * bits(levels.query) // 8),
            "k_bytes": -(-vectors * bits(levels.key_value) // 8),
            "v_bytes": -(-vectors * bits(levels.key_value) // 8),
            "y_bytes": vectors * 2,
        }

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
                "bytes_per_token": self.interface,
            },
            "latency": self.latency,
            "generation": self.generation,
            "throughput": self.throughput,
            "energy_pj": self.energy_pj,
            "energy_per_token_per_head_pj": self.energy_per_token_per_head_pj,
            "energy_by_component_pj": {
                name: value * PER_PICO for name, value in simulation.ledger.by_component().items()
            },
            "bottleneck": self.bottleneck,
            "area_mm2": self.area_mm2,
            "utilisation": simulation.utilisation,
            "array_use": self.array_use,
            "function": self.function,
            "foundation": self.foundation,
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


def _shares(hardware: Hardware, parts: list[tuple[tuple[Law, ...], float]]) -> dict[str, float]:
    total = sum(value for _, value in parts)
    shares = dict.fromkeys(GRADES, 0.0)
    for laws, value in parts:
        if value:
            shares[grade(hardware, laws)] += value / total
    return shares


def peak_power(simulation: Simulation) -> float:
    """The highest instantaneous power in W: each phase spends its energy evenly over its time.

    A phase of no length spends it over one clock period.
    """
    schedule, clock = simulation.schedule, simulation.declaration.clock
    period = clock.period
    energies: dict[str, Array] = {}
    for posting in simulation.ledger:
        if posting.action.bucket != "static" and posting.total:
            stage = posting.action.stage
            energies[stage] = energies.get(stage, 0.0) + posting.energy
    static = simulation.head.controller.static_power
    floor = static * simulation.trace.heads * simulation.trace.layers
    if not energies:
        return floor
    times: list[NDArray[np.int64]] = []
    steps: list[Array] = []
    for stage, energy in energies.items():
        if stage == "head":
            start, end = holding(schedule)
        else:
            start, end = schedule.times(stage)
        if (every := simulation.declaration.periodic.get(stage)) is not None:
            start, end = _worked(schedule, stage, every, period)
        end = np.maximum(end, start + period)
        watts = energy * (PER_PICO * clock.per_ps) / (end - start)
        for when, step in ((start, watts), (end, -watts)):
            if (when == when[..., :1]).all():  # all heads of a layer at once
                when, step = when[..., 0], step.sum(axis=-1)
            times.append(when.ravel())
            steps.append(step.ravel())
    ticks = _ticks(times, period)
    instants = max(int(tick.max()) for tick in ticks) + 1
    if instants <= SLOTS:
        power = np.zeros(instants)
        for tick, step in zip(ticks, steps, strict=True):
            np.add.at(power, tick, step)
        return float(np.cumsum(power, out=power).max()) + floor
    when, step = np.concatenate(ticks), np.concatenate(steps)
    order = np.argsort(when, kind="stable")  # made of sorted stretches, which it makes use of
    when, power = when[order], np.cumsum(step[order])
    settled = np.append(when[1:] != when[:-1], True)  # after everything at one instant
    return float(power[settled].max()) + floor


def _worked(
    schedule: Schedule, stage: str, every: Periodic, clock: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """From when to when periodic work went on whose energy is each token's, if without a break."""
    begin = schedule.start[stage]
    ends = [schedule.end[name] for name in every.free]
    end = every.last_starts(begin, ends, clock) + every.lasts
    due = begin // every.period
    often = np.diff(due, prepend=np.zeros_like(due[:1]), axis=0)
    often[-1] += schedule.makespan // every.period - due[-1]
    return np.maximum(end - often * every.lasts, 0), end


def _ticks(times: list[NDArray[np.int64]], period: int) -> list[NDArray[np.int64]]:
    """Times in the coarsest unit that counts them all: clock periods, if all lie on clock edges."""
    ticks = [when // period for when in times]
    unit = period
    for when, tick in zip(times, ticks, strict=True):
        beyond = when - tick * period
        if beyond.any():
            unit = math.gcd(unit, *np.unique(beyond[beyond > 0]).tolist())
    return ticks if unit == period else [when // unit for when in times]
