"""What one checkout computes, job after job: a script that runs on any version of archsim.

Started by its path with ``PYTHONPATH`` at the checkout, so it knows nothing of the package that it
lies in, and of archsim only what is public: the functions, and documents of what they return. What
lies deeper is looked at where it is found, and left out otherwise. Jobs come in and answers go out
as one JSON document a line.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import archsim

KEYED_BY = {
    "tokens.csv": ("layer", "token"),
    "energy.csv": ("component", "action"),
    "area.csv": ("component",),
    "utilisation.csv": ("resource",),
}
"""Columns that name the row of a table; the first two of any other."""


def fingerprint(array: Any) -> dict[str, Any]:
    """A hash of an array's bytes, and what shows how far another one is from it."""
    values = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{values.dtype}".encode() + values.tobytes()).hexdigest()
    found: dict[str, Any] = {"shape": str(values.shape), "sha256": digest[:12]}
    if values.size and values.dtype.kind in "if":
        found |= {"sum": values.sum().item(), "max": values.max().item()}
    return found


def trace_of(wanted: dict[str, Any]) -> Any:
    """A shipped trace's first tokens, or a random trace."""
    if "shipped" in wanted:
        trace = archsim.load_trace(wanted["shipped"])
        return trace.select(tokens=min(wanted["tokens"], trace.tokens))
    rng = np.random.default_rng(wanted["seed"])
    shape = tuple(wanted[size] for size in ("layers", "heads", "tokens", "head_dim"))
    q, k, v = (
        (rng.normal(rng.normal(0, 0.4), rng.uniform(0.3, 1.5), shape)).astype(wanted["dtype"])
        for _ in range(3)
    )
    scalers: Any = {"fit": "fit", "none": None}.get(wanted["scalers"], {})
    if wanted["scalers"] == "random":
        for name, middle in (("q", 0.4), ("k", 0.45), ("v", 0.45), ("output", 0.0)):
            a, b = rng.uniform(0.05, 0.6, shape[:2]), rng.normal(middle, 0.1, shape[:2])
            scalers[name] = (a, b)
    return archsim.Trace.from_arrays(q, k, v, scalers, name="random")


def tables(folder: Path) -> dict[str, Any]:
    """The CSV files of a result by file, row and column; its other files are documents elsewhere.

    Numbers are read as such, words as lists.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.csv")):
        rows = found[path.name] = {}
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
            keys = KEYED_BY.get(path.name, tuple(row)[:2])
            rows[" ".join(row[key] for key in keys)] = {
                key: sorted(text.split()) if key == "rests_on" else _number(text)
                for key, text in row.items()
            }
    return found


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def arrays_in(value: Any, depth: int = 3) -> Any:
    """Fingerprints of the arrays that an object holds, by the names of its attributes."""
    if isinstance(value, np.ndarray):
        return fingerprint(value)
    if isinstance(value, tuple | list):
        value = {str(index): each for index, each in enumerate(value)}
    elif hasattr(value, "__dict__"):
        value = vars(value)
    if not isinstance(value, dict) or not depth:
        return None
    found = {str(name): arrays_in(each, depth - 1) for name, each in value.items()}
    return {name: each for name, each in found.items() if each}


def inside(result: Any) -> dict[str, Any]:
    """Every time and every count of activity, where this version keeps them in sight."""
    simulation = getattr(result, "simulation", None)
    declaration = getattr(simulation, "declaration", None)
    return {
        "schedule": arrays_in(getattr(simulation, "schedule", None)),
        "durations": arrays_in(getattr(declaration, "durations", None)),
        "function": arrays_in(getattr(simulation, "function", None)),
    }


def written(result: Any) -> dict[str, Any] | None:
    """The tables that a command would write; none where this version keeps the writer elsewhere."""
    try:
        write = importlib.import_module("archsim.report.files").write_result
    except (ImportError, AttributeError):
        return None
    with tempfile.TemporaryDirectory() as folder:
        write(result, Path(folder))
        return tables(Path(folder))


def simulate(job: dict[str, Any]) -> dict[str, Any]:
    """One trace on one hardware by every engine asked for, and what `attend` returns of a layer."""
    trace = trace_of(job["trace"])
    hardware = archsim.load_hardware(job["hardware"], job["overrides"])
    found: dict[str, Any] = {}
    for run in job["runs"]:
        name = " ".join(["run", *map(str, run.values())])
        found[name] = answer(_run, trace, hardware, run, first=not found)
    scalers = {name: (a[0], b[0]) for name, (a, b) in trace.scalers.items()}
    found["attend"] = answer(_attended, trace, hardware, scalers)
    return found


def _run(trace: Any, hardware: Any, run: dict[str, Any], *, first: bool) -> dict[str, Any]:
    result = archsim.simulate(trace, hardware, **run)
    found: dict[str, Any] = {"inside": inside(result), "repr": repr(result)}
    simulation = getattr(result, "simulation", None)
    if first:
        found["document"] = result.document()
        found["document"].pop("wall_s", None)
        found["tables"] = written(result)
    else:  # the rest follows from the times: `document` would work all of it out again
        latency = result.latency
        found["latency"] = latency.document() if hasattr(latency, "document") else latency
        found["why_engine"] = getattr(simulation, "why_engine", None)
    return found


def _attended(trace: Any, hardware: Any, scalers: Any) -> Any:
    q, k, v = trace.layer(0)
    return arrays_in(archsim.attend(q, k, v, hardware, scalers, details=True))


def command(job: dict[str, Any]) -> dict[str, Any]:
    """What a command prints and writes; rounded numbers in columns, whatever their width."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-P", "-m", "archsim", *job["arguments"], "-o", folder]
        variables = {**os.environ, "COLUMNS": "160"}
        run = subprocess.run(words, capture_output=True, text=True, env=variables, check=False)
        if run.returncode not in {0, 2, 3, 4}:
            raise RuntimeError(f"exit status {run.returncode}: {run.stderr[-200:]}")
        lines = [" ".join(line.split()) for line in run.stdout.splitlines()]
        lines = [line.replace(folder, "FOLDER") for line in lines if line]
        return {"exit_code": run.returncode, "printed": lines, "tables": tables(Path(folder))}


def document(job: dict[str, Any]) -> dict[str, Any]:
    """What the public function of the job's name says of a hardware."""
    given = [job["hardware"], *([job["gpus"]] if "gpus" in job else [])]
    found: dict[str, Any] = getattr(archsim, job["kind"])(*given).document()
    return found


KINDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "simulate": simulate,
    "command": command,
    "validate": document,
    "judge_claims": document,
    "compare": document,
}


def answer(function: Callable[..., Any], *arguments: Any, **named: Any) -> dict[str, Any]:
    """What a function found, or the exception that it raised; whether that is one for users."""
    try:
        return {"found": function(*arguments, **named)}
    except Exception as error:
        return {
            "error": type(error).__name__,
            "message": " ".join(str(error).split())[:300],
            "refused": isinstance(error, archsim.ArchsimError),
        }


def main() -> None:
    """Answer jobs until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the code prints is no answer

    def say(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=answers, flush=True)

    say({"package": str(Path(archsim.__file__).resolve().parent)})
    for line in sys.stdin:
        job = json.loads(line)
        os.environ["ARCHSIM_COMPILED"] = "1" if job.get("compiled") else "0"
        say(answer(KINDS[job["kind"]], job))


if __name__ == "__main__":
    main()
