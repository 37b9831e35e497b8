"""The functional engine against this machine's own matrix products, turn by turn."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from statistics import median
from typing import Any, get_args

import numpy as np
from threadpoolctl import threadpool_limits

from archsim.chip.head import Head
from archsim.datapath.attention import LayerInput, Precision, attend_layers
from archsim.datapath.products import PANEL
from archsim.hardware.load import load_hardware
from archsim.machine.compiled import SWITCH, available
from archsim.machine.parallel import CORES
from archsim.traces.synthetic import synthesise
from benchmarks.measure import Measured, environment

SIZE = 2048
ROUNDS = 5
A_WHILE = 0.5
"""Seconds of matrix products: about what a run of the function takes."""


def gemm_rate(dtype: type[np.floating[Any]], cores: int) -> float:
    """FLOP/s of square matrix products on some cores, one after the other for a while."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((SIZE, SIZE)).astype(dtype) for _ in range(2))
    products, out = 0, np.empty_like(a)
    with threadpool_limits(cores):
        began = time.perf_counter()
        while (seconds := time.perf_counter() - began) < A_WHILE:
            np.matmul(a, b, out=out)
            products += 1
    return products * 2 * SIZE**3 / seconds


def useful_operations(tokens: int, features: int, powers: int) -> int:
    """FLOP of both products of one head over causal blocks of 64, diagonal blocks whole."""
    blocks = tokens // PANEL
    return 2 * 2 * (blocks * (blocks + 1) // 2) * PANEL * PANEL * features * powers


def measure(quick: bool) -> Measured:
    """GPT-2's shape, on one core and on all, with matrix products on as many between the runs."""
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

    def rounds(precision: Precision, count: int) -> Iterator[tuple[float, float]]:
        """Seconds of a run and the rate of the products before and after it."""
        dtype = np.float64 if precision == "float64" else np.float32
        attend_layers(inputs, head.laws, precision=precision, keep_y=False)
        before = gemm_rate(dtype, count)
        for _ in range(ROUNDS):
            began = time.perf_counter()
            attend_layers(inputs, head.laws, precision=precision, keep_y=False)
            seconds = time.perf_counter() - began
            after = gemm_rate(dtype, count)
            yield seconds, (before + after) / 2
            before = after

    rows: list[tuple[str, ...]] = []
    runs = []
    for compiled in (False, True) if available() else (False,):
        for count in sorted({1, os.cpu_count() or 1}):
            for precision in get_args(Precision):
                with environment(**{SWITCH: int(compiled), CORES: count}):
                    measured = list(rounds(precision, count))
                shares = [operations / seconds / rate for seconds, rate in measured]
                seconds, gemm = (median(column) for column in zip(*measured, strict=True))
                rows.append(
                    (
                        "compiled" if compiled else "numpy",
                        f"{count}",
                        precision,
                        f"{seconds:.2f}",
                        f"{operations / seconds / 1e9:,.0f}",
                        f"{gemm / 1e9:,.0f}",
                        f"{median(shares):.0%}",
                        f"{min(shares):.0%} to {max(shares):.0%}",
                    )
                )
                runs.append(
                    {
                        "compiled": compiled,
                        "cores": count,
                        "precision": precision,
                        "wall_s": seconds,
                        "gemm_flop_per_s": gemm,
                        "share_of_gemm": median(shares),
                        "shares_of_gemm": shares,
                        "tokens_per_s": 1024 * layers / 12 / seconds,
                    }
                )
    data: dict[str, Any] = {
        "layers": layers,
        "heads": 12,
        "tokens": 1024,
        "useful_operations": operations,
        "runs": runs,
    }
    useful = f"{operations / 1e9:.1f} useful GFLOP"
    columns = (useful, "cores", "", "wall s", "GFLOP/s", "GEMM", "share", "of rounds")
    return Measured(columns, rows, data)
