"""When things happen: what blocks declare fits together, and every engine gives the same times."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from archsim.chip.activity import Activity
from archsim.chip.stage import ENTRY, EXIT, After, Hold, Phase, Resource, Wait
from archsim.machine.compiled import NotCompiledError, available
from archsim.testing.cases import HEADS, Run, Trial
from archsim.timing.declaration import Declaration, Schedule
from archsim.timing.engines.contested import ContestedRun, run_simpy
from archsim.timing.engines.events import run_simpy_full
from archsim.timing.engines.recurrence import obstacle, run_fast

STRUCTURE, ENGINES = "declaration", "timing engines"


def check_structure(trial: Trial) -> None:
    """Phases and resources that are named exist, and what is taken is given back, later.

    Raises ConformError.
    """
    with trial.during(STRUCTURE):
        parts = [part for block in trial.head.blocks for part in block.stages(HEADS)]
    phases = [part for part in parts if isinstance(part, Phase)]
    names = [phase.name for phase in phases]
    blocks = [part.name for part in parts if isinstance(part, Resource)]
    for kind, found in (("phase", names), ("resource", blocks)):
        twice = sorted({name for name in found if found.count(name) > 1})
        if twice:
            raise trial.fault(STRUCTURE, f"{kind} {twice[0]} is declared twice")
    position = {name: number for number, name in enumerate(names)}
    position |= {ENTRY: 0, EXIT: len(names) - 1}
    for part in parts:
        if isinstance(part, Hold):
            _check_hold(trial, part, position, blocks)
        elif isinstance(part, Phase):
            _check_phase(trial, part, position)
        elif isinstance(part, Wait):
            _known(trial, part.stage, position, "a wait")
            _check_after(trial, part.after, position, part.stage)


def _known(trial: Trial, name: str, position: dict[str, int], what: str) -> None:
    if name not in position:
        raise trial.fault(STRUCTURE, f"{what} names the phase {name!r}, which there is not")


def _check_hold(trial: Trial, hold: Hold, position: dict[str, int], blocks: list[str]) -> None:
    if hold.resource not in blocks:
        raise trial.fault(STRUCTURE, f"{hold.stage} takes {hold.resource}, which nobody declares")
    _known(trial, hold.stage, position, f"taking {hold.resource}")
    if hold.until not in position:
        raise trial.fault(
            STRUCTURE,
            f"{hold.resource}, taken in {hold.stage}, are never given back: "
            f"there is no phase {hold.until!r}",
        )
    taken, given = position[hold.stage], position[hold.until]
    if given < taken or (given == taken and hold.point == "start"):
        raise trial.fault(
            STRUCTURE,
            f"{hold.resource}, taken in {hold.stage}, are never given back: "
            f"the {hold.point} of {hold.until} comes before",
        )


def _check_phase(trial: Trial, phase: Phase, position: dict[str, int]) -> None:
    if phase.ticks < 0:
        raise trial.fault(STRUCTURE, f"{phase.name} lasts {phase.ticks} ticks")
    if phase.longest is not None and phase.longest not in {f.name for f in fields(Activity)}:
        raise trial.fault(STRUCTURE, f"{phase.name}: there is no activity {phase.longest!r}")
    for after in phase.after:
        _check_after(trial, after, position, phase.name)


def _check_after(trial: Trial, after: After, position: dict[str, int], stage: str) -> None:
    _known(trial, after.stage, position, f"{stage}: after")
    same_token = not after.lag and not after.next_layer
    if same_token and position[after.stage] >= position[stage]:
        raise trial.fault(STRUCTURE, f"{stage} waits for {after.stage}, which comes after it")


def check(run: Run) -> dict[str, str]:
    """All engines give the times of the run, events with every phase being the reference; blocks
    are never busier than there is time. Raises ConformError.
    """
    declaration = run.simulation.declaration
    with run.trial.during(ENGINES):
        reference = run_simpy_full(declaration)
        _same(run, reference, run.simulation.schedule, "the run")
        _same(run, reference, run_simpy(declaration), "events where contended")
        backwards = ContestedRun(declaration, reverse=True).run()
        _same(run, reference, backwards, "events of an instant in reverse")
        reason = _recurrence(run, declaration, reference)
    for block, share in run.simulation.utilisation.items():
        if not 0.0 <= share <= 1.0 + 1e-12:
            raise run.trial.fault(ENGINES, f"{block} is busy {share:.3g} of the time")
    return {ENGINES: "equal" if reason is None else f"equal; recurrence not used: {reason}"}


def _recurrence(run: Run, declaration: Declaration, reference: Schedule) -> str | None:
    """Why there is none, if there is none."""
    reason = obstacle(declaration)
    if reason is not None:
        return reason
    _same(run, reference, run_fast(declaration, compiled=False), "recurrence")
    if available():
        try:
            compiled = run_fast(declaration, compiled=True)
        except NotCompiledError as error:
            return str(error)
        _same(run, reference, compiled, "compiled recurrence")
    return None


def _same(run: Run, reference: Schedule, other: Schedule, engine: str) -> None:
    for point, expected, found in (
        ("start", reference.start, other.start),
        ("end", reference.end, other.end),
    ):
        for name, times in expected.items():
            wrong = np.argwhere(found[name] != times)
            if len(wrong):
                token, layer, head = place = tuple(wrong[0])
                raise run.trial.fault(
                    ENGINES,
                    f"{engine}: {point} of {name}, token {token}, layer {layer}, head {head}: "
                    f"expected {times[place]}, found {found[name][place]} ticks",
                )
