"""``archsim simulate`` as a user runs it, and how its cost grows."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import archsim
from archsim.function import CACHE
from archsim.machine.compiled import SWITCH, available
from archsim.traces.synthetic import synthesise
from benchmarks.measure import Measured, environment, fastest

TOKENS = 1024


WATCH = """
import os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - began
print(status, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""
"""A small process in between: the peak of a process begins with that of the one that started it."""


def run(arguments: list[str], fast: bool = True) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds and peak bytes of ``archsim`` with some arguments.

    The peak is that of its largest process.

    `fast`: as installed, compiling where it pays; otherwise as without the extra.
    """
    variables = {name: value for name, value in os.environ.items() if name != SWITCH}
    if not fast:
        variables[SWITCH] = "0"
    command = [sys.executable, "-c", WATCH, sys.executable, "-m", "archsim", *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=variables, check=True)
    status, seconds, cpu, peak = run.stdout.split()
    if int(status):
        raise SystemExit(f"archsim {' '.join(arguments)}: exit status {status}")
    return float(seconds), float(cpu), int(peak) * 1024


def all_cpu() -> float:
    """CPU seconds of this process and of those it has waited for."""
    return sum(os.times()[:4])


def measure(quick: bool) -> Measured:
    """GPT-2's shape: trace file in, JSON out; function, timing, energy and checks."""
    tokens = TOKENS // 4 if quick else TOKENS
    data: dict[str, Any] = {"layers": 12, "heads": 12, "tokens": tokens, "runs": []}
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        run(["trace", "synth", "--tokens", str(tokens), "-o", str(trace)])
        command = ["simulate", "-t", str(trace), "--no-report", "--json"]
        for fast in (False, True) if available() else (False,):
            wall, cpu, peak = min(run(command, fast) for _ in range(4))
            name = r"with \[fast]" if fast else "numpy alone"
            figures = (f"{tokens / wall:,.0f}", f"{wall:.2f}", f"{cpu:.2f}", f"{peak >> 20:,}")
            rows.append((name, *figures))
            data["runs"].append(
                {
                    "fast": fast,
                    "wall_s": wall,
                    "cpu_s": cpu,
                    "tokens_per_s": tokens / wall,
                    "peak_bytes": peak,
                }
            )
    columns = ("GPT-2 shape", "tokens/s", "wall s", "CPU s", "peak MiB")
    return Measured(columns, rows, data)


def scaling(quick: bool) -> Measured:
    """CPU time a token and head, by tokens (12 heads, 1 layer) and by layers (12 heads)."""
    hardware = archsim.load_hardware()
    data: dict[str, Any] = {"heads": 12, "by_tokens": [], "by_layers": []}
    rows: list[tuple[str, ...]] = []

    def one(layers: int, tokens: int) -> float:
        trace = synthesise(layers, 12, tokens)

        def simulate() -> None:
            CACHE.clear()
            archsim.simulate(trace, hardware)

        with environment(**{SWITCH: int(available())}):  # one way of computing for all sizes
            return fastest(simulate, 2, all_cpu)[0]

    one(1, 64)
    for tokens in (256, 512, 1024, 2048, 4096, 8192)[: 3 if quick else None]:
        seconds = one(1, tokens)
        each = seconds / (tokens * 12)
        data["by_tokens"].append({"tokens": tokens, "cpu_s": seconds, "per_head_token_s": each})
        rows.append((f"{tokens:,}", "1", f"{seconds:.2f}", f"{each * 1e6:.1f}"))
    rows.append(())
    for layers in (1, 2, 4, 12, 24, 48)[: 3 if quick else None]:
        tokens = TOKENS // 4 if quick else TOKENS
        seconds = one(layers, tokens)
        each = seconds / (tokens * 12 * layers)
        data["by_layers"].append({"layers": layers, "cpu_s": seconds, "per_head_token_s": each})
        rows.append((f"{tokens:,}", f"{layers}", f"{seconds:.2f}", f"{each * 1e6:.1f}"))
    columns = ("tokens", "layers of 12 heads", "CPU s", "us a head-token")
    return Measured(columns, rows, data)
