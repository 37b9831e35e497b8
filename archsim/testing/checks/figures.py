"""Energies and areas are numbers that can be, and rest on parameters that there are."""

from __future__ import annotations

import math
from collections.abc import Iterable

from archsim.chip.action import Law, rests_on
from archsim.testing.cases import Run

FIGURES = "energies and areas"


def check(run: Run) -> dict[str, str]:
    """Costs, energies and areas are finite and not negative; laws can be asked what they read.

    Raises ConformError.
    """
    simulation = run.simulation
    for posting in simulation.ledger:
        action = posting.action
        with run.trial.during(FIGURES):
            cost = float(action.cost(run.trial.hardware.config))
        _number(run, f"{action.label}: its cost", cost, "J")
        _number(run, f"{action.label}: its energy", posting.total, "J")
        _number(run, f"{action.label}: its operations", posting.operations, "")
        _check_laws(run, action.label, action.laws)
    for block in simulation.head.footprints(run.trial.trace.heads):
        _number(run, f"{block.component}: their number", block.instances, "")
        _number(run, f"{block.component}: their area", block.area_each, "m^2")
        _check_laws(run, block.component, block.laws)
    for stage in simulation.declaration.stages:
        _check_laws(run, stage.name, stage.laws)
    return {FIGURES: "finite, none negative"}


def _number(run: Run, what: str, value: float, unit: str) -> None:
    if not (math.isfinite(value) and value >= 0):
        text = f"{what} is {value:g} {unit}".rstrip()
        raise run.trial.fault(FIGURES, f"{text}: expected at least 0, and finite")


def _check_laws(run: Run, what: str, laws: Iterable[Law]) -> None:
    """Laws can be asked again, and read what there is; else raises ConformError."""
    with run.trial.during(f"{FIGURES} ({what})"):
        rests_on(run.trial.hardware.config, laws)
