"""The functional engine against this machine's own matrix products."""

from __future__ import annotations

import os
import time
from typing import Any, get_args

import numpy as np
from threadpoolctl import threadpool_limits

from archsim.compiled import SWITCH, available
from archsim.components.head import Head
from archsim.config.hardware import load_hardware
from archsim.datapath.attention import LayerInput, Precision, attend_layers
from archsim.workload.synthetic import synthesise
from benchmarks.measure import Measured, fastest

SIZE = 2048
PANEL = 64


def gemm_rate(dtype: type[np.floating[Any]] = np.float64) -> float:
    """FLOP/s of a square matrix product on all cores."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((SIZE, SIZE)).astype(dtype) for _ in range(2))
    with threadpool_limits(os.cpu_count()):
        seconds, _ = fastest(lambda: a @ b, 5, time.perf_counter)
    return 2 * SIZE**3 / seconds


def useful_operations(tokens: int, features: int, powers: int) -> int:
    """FLOP of both products of one head over causal blocks of 64, diagonal blocks whole."""
    blocks = tokens // PANEL
    return 2 * 2 * (blocks * (blocks + 1) // 2) * PANEL * PANEL * features * powers


def switched(compiled: bool) -> None:
    os.environ[SWITCH] = "1" if compiled else "0"


def measure(quick: bool) -> Measured:
    """GPT-2's shape, all cores, wall time; the matrix product before and after."""
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
        attend_layers(inputs, head, precision=precision)

    rates = {"float64": [gemm_rate(np.float64)], "float32": [gemm_rate(np.float32)]}
    runs = []
    asked = os.environ.get(SWITCH)
    for compiled in (False, True) if available() else (False,):
        switched(compiled)
        for precision in get_args(Precision):
            all_layers(precision)
            seconds, _ = fastest(lambda p=precision: all_layers(p), 3, time.perf_counter)
            runs.append((compiled, precision, seconds))
    if asked is None:
        del os.environ[SWITCH]
    else:
        os.environ[SWITCH] = asked
    rates["float64"].append(gemm_rate(np.float64))
    rates["float32"].append(gemm_rate(np.float32))
    best = {name: max(found) for name, found in rates.items()}
    data: dict[str, Any] = {
        "layers": layers,
        "heads": 12,
        "tokens": 1024,
        "useful_operations": operations,
        "gemm_flop_per_s": best,
        "runs": [],
    }
    rows: list[tuple[str, ...]] = [
        (f"matrix product, {name}", "", f"{rate / 1e9:,.0f}", "100%") for name, rate in best.items()
    ]
    for compiled, precision, seconds in runs:
        share = operations / seconds / best[precision]
        name = f"{precision}, {'compiled' if compiled else 'numpy'}"
        rows.append((name, f"{seconds:.2f}", f"{operations / seconds / 1e9:,.0f}", f"{share:.0%}"))
        data["runs"].append(
            {
                "compiled": compiled,
                "precision": precision,
                "wall_s": seconds,
                "share_of_gemm": share,
                "tokens_per_s": 1024 * layers / 12 / seconds,
            }
        )
    columns = (f"{operations / 1e9:.1f} useful GFLOP", "wall s", "GFLOP/s", "share")
    return Measured(columns, rows, data)
