"""Which engine runs a declaration, and why."""

from __future__ import annotations

from typing import Literal, get_args

from archsim.errors import ConfigError
from archsim.timing.declaration import Declaration, Progress, Schedule
from archsim.timing.engines.recurrence import obstacle, run_fast, search_worth_compiling, searches

Engine = Literal["auto", "simpy", "fast"]
Detail = Literal["contested", "full"]
"""Events of the discrete-event engine: where something can be contended, or of every phase."""


def run(
    declaration: Declaration,
    engine: Engine = "auto",
    detail: Detail = "contested",
    progress: Progress | None = None,
) -> tuple[Schedule, str]:
    """Times of a declaration, and one line on why this engine ran.

    ``auto`` takes the recurrence where it is exact, else the discrete-event simulation. `detail`
    ``full`` is the discrete-event simulation with an event for every phase of every sub-tile.

    Raises ConfigError if ``fast`` is asked for where it would not be exact, or ``full`` of it.
    """
    if engine not in get_args(Engine):
        raise ConfigError(f"engine {engine!r}: use {', '.join(get_args(Engine))}")
    if detail not in get_args(Detail):
        raise ConfigError(f"detail {detail!r}: use {', '.join(get_args(Detail))}")
    if detail == "full":
        if engine == "fast":
            raise ConfigError("detail full is one of events: use engine simpy")
        from archsim.timing.engines.events import run_simpy_full

        return run_simpy_full(declaration, progress), "every phase asked for"
    if engine == "simpy":
        return _simulated(declaration, progress), "asked for"
    if engine == "fast":
        return run_fast(declaration), "asked for"
    reason = obstacle(declaration)
    if reason is None and searches(declaration) and not search_worth_compiling(declaration):
        reason = "who is served first is found as quickly by events: short, or without [fast]"
    if reason is None:
        return run_fast(declaration), "every time follows from times before it"
    return _simulated(declaration, progress), reason


def _simulated(declaration: Declaration, progress: Progress | None) -> Schedule:
    from archsim.timing.engines.contested import run_simpy

    return run_simpy(declaration, progress)
