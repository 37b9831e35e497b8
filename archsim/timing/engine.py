"""Which engine runs a declaration, and why."""

from __future__ import annotations

from typing import Literal

from archsim.errors import ConfigError
from archsim.timing.des import Progress, run_simpy
from archsim.timing.fast import obstacle, run_fast
from archsim.timing.model import Declaration, Schedule

Engine = Literal["auto", "simpy", "fast"]


def run(
    declaration: Declaration, engine: Engine = "auto", progress: Progress | None = None
) -> tuple[Schedule, str]:
    """Times of a declaration, and one line on why this engine ran.

    ``auto`` takes the recurrence where it is exact, else the discrete-event simulation.

    Raises ConfigError if ``fast`` is asked for where it would not be exact.
    """
    if engine == "simpy":
        return run_simpy(declaration, progress), "asked for"
    if engine == "fast":
        return run_fast(declaration), "asked for"
    if engine != "auto":
        raise ConfigError(f"engine {engine!r}: use auto, simpy or fast")
    reason = obstacle(declaration)
    if reason is None:
        return run_fast(declaration), "the order of every resource's use is known beforehand"
    return run_simpy(declaration, progress), reason
