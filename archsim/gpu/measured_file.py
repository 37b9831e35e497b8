"""The file of a measurement: every point with its units, and how, on what and when it was made."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

from archsim.config.writing import quantity_text
from archsim.gpu.measure import Measured, MeasuredPoint
from archsim.gpu.plan import CALLS

METHOD = {
    "work": "one layer of decode attention: one query a sequence against a full window, no mask, "
    "so that every token is attended to, checked once a point; q, K and V are random, normal",
    "time": "CUDA events after warm-up around each replay of a graph of several calls, divided by "
    "their number (eager: around each call); latency is the median over replays",
    "kernel": "best: each kernel that runs is timed in short, the fastest is measured and named",
    "cold": "a buffer of twice the L2 is written before each replay of one call, untimed; the "
    "launch of that one call is in its time, which a warm replay spreads over several",
    "energy": "difference of the NVML energy counter over the energy window of back-to-back calls, "
    "divided by their number; idle power included. None for cold: the flush would count",
    "idle": "the same counter while nothing runs: bare, before this process had a CUDA context "
    "and if no other had one; context, with one, after a pause",
}
TOKEN_METHOD = {
    "tokens": "a whole token in one CUDA graph: plain PyTorch operations, random weights, K and V "
    "written into a cache of the window; attention: its layers' attention alone; rest: without it"
}


def measured_yaml(measured: Measured, gpu: str, date: str) -> str:
    """The file that ``compare`` reads: measurements of the GPU file `gpu`, and how they were made.

    The device's name and the date are in every row's note; versions and clocks are in the file.
    """
    from ruamel.yaml import YAML

    plan = measured.plan
    note = f"archsim baseline measure, {measured.device}, {date}"
    attention = [point for point in measured.points if point.task.part is None]
    tokens = [point for point in measured.points if point.task.part is not None]
    document: dict[str, Any] = {
        "gpu": gpu,
        "method": {
            **METHOD,
            **(TOKEN_METHOD if tokens else {}),
            "replays": plan.replays,
            "calls_a_graph": CALLS,
            "energy_window": quantity_text(plan.seconds, "s"),
            "date": date,
        },
        "device": {"name": measured.device, **measured.conditions},
    }
    idle = {"context": measured.idle_power_w, "bare": measured.bare_power_w}
    known = {name: _rounded(value, "W") for name, value in idle.items() if value is not None}
    if known:
        document["idle"] = known
    if tokens:
        document["model"] = asdict(plan.model)
    document["measurements"] = [_attention_row(point, note) for point in attention]
    document["tokens"] = [_token_row(point, note) for point in tokens]
    document["left_out"] = list(measured.left_out)
    stream = io.StringIO()
    stream.write("# Written by archsim baseline measure; archsim compare --measured reads it.\n")
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.width = 100
    yaml.sort_base_mapping_type_on_output = False
    yaml.dump(document, stream)
    return stream.getvalue()


def _attention_row(point: MeasuredPoint, note: str) -> dict[str, Any]:
    step, task = point.step, point.task
    kind = "latency" if step.batch == 1 else "throughput"
    grouped = {"kv_heads": step.kv_heads} if step.groups != step.heads else {}
    return {
        "protocol": "eager" if task.implementation == "eager" else kind,
        "kind": kind,
        "precision": step.precision,
        "cache": task.cache,
        "kernel": point.kernel,
        "batch": step.batch,
        "window": step.window,
        "heads": step.heads,
        **grouped,
        "head_dim": step.head_dim,
        **_quantities(point, note),
    }


def _token_row(point: MeasuredPoint, note: str) -> dict[str, Any]:
    step = point.step
    return {
        "part": point.task.part,
        "precision": step.precision,
        "batch": step.batch,
        "window": step.window,
        **_quantities(point, f"one CUDA graph of plain PyTorch operations, {note}"),
    }


def _quantities(point: MeasuredPoint, note: str) -> dict[str, Any]:
    """What every row says, with units."""
    quantities = (
        ("latency", point.latency_s, "s"),
        ("latency_p5", point.latency_p5_s, "s"),
        ("latency_p95", point.latency_p95_s, "s"),
        ("energy", point.energy_j, "J"),
        ("idle_power", point.idle_power_w, "W"),
        ("sm_clock_before", point.clock_before_hz, "Hz"),
        ("sm_clock_after", point.clock_after_hz, "Hz"),
    )
    row: dict[str, Any] = {
        name: _rounded(value, unit) for name, value, unit in quantities if value is not None
    }
    if point.slowed:
        row["slowed"] = True
    return {**row, "source": "user", "note": note}


def _rounded(value: float, unit: str) -> str:
    return quantity_text(float(f"{value:.5g}"), unit)
