"""``archsim sweep`` as a user runs it: timing points, points with a function each, a resume."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from archsim.machine.compiled import available
from archsim.sweeps.runner import default_workers
from benchmarks.end_to_end import TOKENS, run
from benchmarks.measure import Measured

TIMING = {
    "write_path.pulse": "5 ns..13 ns:5",
    "accumulator.time": "5 ns..13 ns:5",
    "controller.clock": "1 GHz,2 GHz,4 GHz,5 GHz,10 GHz",
    "controller.phases": "worst_case,early_end",
    "write_path.heads_per_driver": "1,4",
    "order": "generate,prefill",
}
"""1,000 points of one function; half of them are prompts in a pipeline."""

FUNCTION = {
    "array.columns": "16,32,64,128,256",
    "levels.query": "4,8,16,32",
    "levels.key_value": "4,8,16,32,64",
    "window": "256,512",
}
"""200 points of a function each."""


def measure(quick: bool) -> Measured:
    """The three runs, each a command in a process of its own, with tables and charts."""
    rows: list[tuple[str, ...]] = []
    data: dict[str, Any] = {"compiled": available(), "workers": default_workers(), "runs": []}
    tokens = TOKENS // 4 if quick else TOKENS

    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)

        def sweep(name: str, place: Path, axes: dict[str, str], *others: str) -> None:
            words = [word for key, values in axes.items() for word in ("--vary", f"{key}={values}")]
            command = ["sweep", *words, *others, "--store", str(here / "s.db"), "-o", str(place)]
            seconds, _, peak = run([*command, "--quiet"])
            points = json.loads((place / "sweep.json").read_text(encoding="utf-8"))["points"]
            if any(point["status"] != "ok" for point in points):
                raise SystemExit(f"{name}: a point has no result")
            each = len(points) / seconds
            rows.append((name, f"{len(points):,}", f"{seconds:.1f}", f"{each:.1f}"))
            data["runs"].append(
                {"name": name, "points": len(points), "wall_s": seconds, "peak_bytes": peak}
            )

        trace = here / "trace"
        run(["trace", "synth", "--tokens", str(tokens), "-o", str(trace)])
        timing, function = dict(TIMING), dict(FUNCTION)
        if quick:
            timing["controller.clock"], function["array.columns"] = "1 GHz", "64"
            function["levels.key_value"] = "8"
        gpt2 = ("-t", str(trace), "--set", "controller.pipelining=stages")
        shape = f"timing and energy, 12 x 12 x {tokens:,}"
        sweep(shape, here / "timing", timing, *gpt2)
        sweep(
            "a function each, default trace",
            here / "function",
            function,
            "--set",
            "pulse_generator.t_max=auto",
        )
        sweep("the first resumed", here / "timing", timing, *gpt2, "--resume")
    columns = ("archsim sweep", "points", "wall s", "points/s")
    return Measured(columns, rows, data)
