"""The functional engine against this machine's own matrix products."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any, get_args

import numpy as np
from threadpoolctl import threadpool_limits

from archsim.compiled import SWITCH, available
from archsim.components.head import Head
from archsim.config.hardware import load_hardware
from archsim.datapath.attention import LayerInput, Precision, attend_layers
from archsim.datapath.products import PANEL
from archsim.parallel import CORES
from archsim.workload.synthetic import synthesise
from benchmarks.measure import Measured, environment, fastest

SIZE = 2048


def gemm_rate(dtype: type[np.floating[Any]], cores: int) -> float:
    """FLOP/s of a square matrix product on some cores."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((SIZE, SIZE)).astype(dtype) for _ in range(2))
    with threadpool_limits(cores):
        seconds, _ = fastest(lambda: a @ b, 5, time.perf_counter)
    return 2 * SIZE**3 / seconds


def useful_operations(tokens: int, features: int, powers: int) -> int:
    """FLOP of both products of one head over causal blocks of 64, diagonal blocks whole."""
    blocks = tokens // PANEL
    return 2 * 2 * (blocks * (blocks + 1) // 2) * PANEL * PANEL * features * powers


def measure(quick: bool) -> Measured:
    """GPT-2's shape, on one core and on all; the matrix product on as many, before and after."""
    layers = 1 if quick else 12
    trace = synthesise(layers, 12, 1024)
    head = Head(load_hardware().config)
    inputs = [
        LayerInput(
            trace.q[layer],
            trace.k[layer],
            trace.v[layer],
            {name: (a[layer], b[layer]) for name, (a, b) in trace.scalers.items()},
        )
        for layer in range(layers)
    ]
    operations = useful_operations(1024, 64, 3) * 12 * layers

    def all_layers(precision: Precision) -> None:
        attend_layers(inputs, head, precision=precision, keep_y=False)

    def rate_of(precision: Precision, count: int) -> float:
        return gemm_rate(np.float64 if precision == "float64" else np.float32, count)

    every = sorted({1, os.cpu_count() or 1})
    ways = [(count, p) for count in every for p in get_args(Precision)]
    rates = {way: rate_of(way[1], way[0]) for way in ways}
    runs = []
    for compiled in (False, True) if available() else (False,):
        for count, precision in ways:
            with environment(**{SWITCH: int(compiled), CORES: count}):
                all_layers(precision)
                seconds, _ = fastest(partial(all_layers, precision), 5, time.perf_counter)
            runs.append((compiled, count, precision, seconds))
    rates = {way: max(rate, rate_of(way[1], way[0])) for way, rate in rates.items()}
    data: dict[str, Any] = {
        "layers": layers,
        "heads": 12,
        "tokens": 1024,
        "useful_operations": operations,
        "gemm_flop_per_s": {f"{p}, {n} cores": rate for (n, p), rate in rates.items()},
        "runs": [],
    }
    rows: list[tuple[str, ...]] = [
        ("matrix product", f"{count}", precision, "", f"{rate / 1e9:,.0f}", "100%")
        for (count, precision), rate in rates.items()
    ]
    for compiled, count, precision, seconds in runs:
        share = operations / seconds / rates[count, precision]
        rate = f"{operations / seconds / 1e9:,.0f}"
        name = "compiled" if compiled else "numpy"
        rows.append((name, f"{count}", precision, f"{seconds:.2f}", rate, f"{share:.0%}"))
        data["runs"].append(
            {
                "compiled": compiled,
                "cores": count,
                "precision": precision,
                "wall_s": seconds,
                "share_of_gemm": share,
                "tokens_per_s": 1024 * layers / 12 / seconds,
            }
        )
    columns = (f"{operations / 1e9:.1f} useful GFLOP", "cores", "", "wall s", "GFLOP/s", "share")
    return Measured(columns, rows, data)
