"""How long a user waits for nothing: CPU time of the help and of the import."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.measure import Measured

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "archsim --help": ["-m", "archsim", "--help"],
    "archsim simulate --help": ["-m", "archsim", "simulate", "--help"],
    "import archsim": ["-c", "import archsim"],
    "archsim.load_hardware()": ["-c", "import archsim; archsim.load_hardware()"],
}


def cpu(arguments: list[str], variables: Mapping[str, str] | None = None) -> float:
    """CPU seconds of one interpreter, with these environment variables or with ours."""
    command = [sys.executable, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=variables)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)}: exit status {status}")
    return usage.ru_utime + usage.ru_stime


def measure(quick: bool) -> Measured:
    """The fastest of some starts each."""
    seconds = {
        name: min(cpu(words) for _ in range(2 if quick else 7)) for name, words in COMMANDS.items()
    }
    data: dict[str, Any] = {"cpu_s": seconds}
    rows: list[tuple[str, ...]] = [(name, f"{value * 1e3:.0f}") for name, value in seconds.items()]
    return Measured(("", "CPU ms"), rows, data)
