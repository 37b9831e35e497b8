"""Timing engines against each other: one declaration, equal times, seconds of CPU."""

from __future__ import annotations

import time
from dataclasses import fields
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import simpy

from archsim.chip.activity import Activity
from archsim.chip.head import Head
from archsim.hardware.load import load_hardware
from archsim.machine.compiled import available
from archsim.timing.declaration import Declaration, Schedule, declare
from archsim.timing.engines.contested import run_simpy
from archsim.timing.engines.events import run_simpy_full
from archsim.timing.engines.recurrence import run_fast
from benchmarks.measure import Measured, fastest

LAYERS, HEADS, TOKENS = 12, 12, 1024

SHARED = {
    "controller.phases": "early_end",
    "controller.pipelining": "stages",
    "write_path.heads_per_driver": 4,
    "accumulator.heads_per_adder": 4,
}
FIRST_COME = {
    **SHARED,
    "write_path.arbitration": "fifo",
    "accumulator.arbitration": "fifo",
}
CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "default hardware, generate": ({}, False),
    "shared blocks in static order, prefill": (SHARED, True),
    "shared blocks first come, prefill": (FIRST_COME, True),
}


def declaration(overrides: dict[str, Any], tokens: int, prefill: bool) -> Declaration:
    """GPT-2's shape with random activity; a fifth of the pulses have no length."""
    rng = np.random.default_rng(0)

    def widths() -> np.ndarray:
        return rng.uniform(0, 1, (HEADS, tokens)) * (rng.random((HEADS, tokens)) > 0.2)

    activities = [Activity(*(widths() for _ in fields(Activity))) for _ in range(LAYERS)]
    head = Head(load_hardware(overrides=overrides).config)
    return declare(head, activities, tokens if prefill else 1)


def bare_rate(processes: int, events: int) -> float:
    """Events a second of SimPy doing nothing but timeouts, with so many live processes."""
    env = simpy.Environment()

    def process(delay: int):  # type: ignore[no-untyped-def]
        while True:
            yield env.timeout(delay)

    for index in range(processes):
        env.process(process(1000 + index % 7))
    began = time.process_time()
    env.run(until=1000 * max(2, events // processes))
    return float(next(env._eid)) / (time.process_time() - began)


def measure(quick: bool) -> Measured:
    """Every engine on every case; `full` only where it ends within a few minutes."""
    tokens = TOKENS // 16 if quick else TOKENS
    visits = tokens * LAYERS * HEADS
    rows: list[tuple[str, ...]] = []
    data: dict[str, Any] = {"layers": LAYERS, "heads": HEADS, "tokens": tokens, "cases": {}}
    processes = LAYERS * HEADS * (6 + 3 * 16)
    bare = bare_rate(processes, 40 * processes)
    data["bare_simpy_events_per_s"] = bare
    text = f"bare SimPy, {processes:,} processes"
    rows.append((text, "", "", "", f"{bare / 1e3:,.0f}"))
    for name, (overrides, prefill) in CASES.items():
        d = declaration(overrides, tokens, prefill)
        runs: dict[str, tuple[float, Schedule]] = {}
        if not prefill or quick:
            runs["simpy full"] = fastest(partial(run_simpy_full, d))
        runs["simpy"] = fastest(partial(run_simpy, d))
        if "first come" not in name:
            runs["fast, numpy"] = fastest(partial(run_fast, d, compiled=False), 5)
        if available():
            run_fast(d, compiled=True)  # compile, or load what was compiled
            runs["fast, compiled"] = fastest(partial(run_fast, d, compiled=True), 5)
        found = list(runs.values())
        if not all(a[1].same_times(b[1]) for a, b in pairwise(found)):
            raise SystemExit(f"{name}: engines differ")
        slowest = found[0][0]
        case: dict[str, Any] = {"engines": {}, "equal": True}
        rows += [(), (f"[bold]{name}[/bold]",)]
        for engine, (seconds, schedule) in runs.items():
            figures = {
                "cpu_s": seconds,
                "times_faster": slowest / seconds,
                "head_tokens_per_s": visits / seconds,
                "events_per_head_token": schedule.events / visits,
            }
            case["engines"][engine] = figures
            row = [engine, f"{seconds * 1e3:,.1f}", f"{figures['times_faster']:,.0f}x"]
            if schedule.events:
                rate = schedule.events / seconds
                figures["events_per_s"] = rate
                row += [f"{figures['events_per_head_token']:.1f}", f"{rate / 1e3:,.0f}"]
            rows.append(tuple(row))
        data["cases"][name] = case
    columns = ("all times equal", "CPU ms", "faster", "events/ht", "k events/s")
    return Measured(columns, rows, data)
