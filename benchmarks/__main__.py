"""``python -m benchmarks [PART ...] [--quick]``: measure, print, keep as JSON.

``python -m benchmarks against CHECKOUT``: this version beside another (`benchmarks.against`).

Seconds differ from machine to machine and from minute to minute. What is compared is measured in
one run, on one declaration, in one process where that is possible: engine against engine, the
function against this machine's own matrix products, tokens a second end to end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from archsim.files import atomic_path
from benchmarks import against, end_to_end, engines, function, start, sweep
from benchmarks.measure import Part

PARTS: dict[str, Part] = {
    "engines": engines.measure,
    "function": function.measure,
    "end-to-end": end_to_end.measure,
    "scaling": end_to_end.scaling,
    "sweep": sweep.measure,
    "start": start.measure,
}
OUTPUT = Path("reports/benchmarks")


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    packages = ["numpy", "simpy", *(["numba"] if find_spec("numba") else [])]
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    return {
        "processor": model or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def main() -> None:
    """Run the parts asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small shapes, a minute in all")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    console = Console()
    for name in arguments.parts or PARTS:
        measured = PARTS[name](arguments.quick)
        shown = Table(title=name, title_justify="left")
        for index, column in enumerate(measured.columns):
            shown.add_column(column, justify="right" if index else "left")
        for row in measured.rows:
            shown.add_row(*row)
        console.print(shown)
        document = {"part": name, "quick": arguments.quick, "machine": machine(), **measured.data}
        arguments.output.mkdir(parents=True, exist_ok=True)
        path = arguments.output / f"{name}{'-quick' if arguments.quick else ''}.json"
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        console.print(f"kept in {path}\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["against"]:
        sys.exit(against.main(sys.argv[2:]))
    main()
