"""By what the designs of a sweep are judged.

An error against *ideal* attention ranks designs only where *ideal* is one function: a design that
attends to fewer tokens is compared with an *ideal* that does so too, and may look better for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from archsim.errors import ConfigError
from archsim.sweeps.axes import workload_of
from archsim.sweeps.definition import Sweep
from archsim.sweeps.design import Parameters
from archsim.sweeps.figures import Objective
from archsim.sweeps.point import Job

SHOWN_VALUES = 4


@dataclass(frozen=True)
class Judged:
    """The objectives that rank designs, and those that do not.

    `reason`: why those do not, or how little one of them says; empty where nothing is to be said.
    """

    objectives: tuple[Objective, ...]
    left_out: tuple[Objective, ...] = ()
    reason: str = ""


def judged(sweep: Sweep, jobs: Iterable[Job]) -> Judged:
    """What ranks the points of some jobs.

    Raises ConfigError if nothing is left to judge by.
    """
    found = judged_by(
        sweep, ((job.parameters, job.reference) for job in jobs if job.hardware is not None)
    )
    if not found.objectives:
        raise ConfigError(f"objectives: nothing left to judge by: {found.reason}")
    return found


def judged_by(sweep: Sweep, points: Iterable[tuple[Parameters, str]]) -> Judged:
    """What ranks points of which each has parameters and a text that says what *ideal* is there."""
    against = tuple(o for o in sweep.objectives if o.against_ideal)
    if not against:
        return Judged(sweep.objectives)
    by_workload: dict[str, dict[str, None]] = {}
    for parameters, reference in points:
        workload = repr(sorted(workload_of(parameters).items()))
        by_workload.setdefault(workload, {})[reference] = None
    most = max(by_workload.values(), key=len, default={})
    if len(most) < 2:
        return Judged(sweep.objectives)
    kept = tuple(o for o in sweep.objectives if not o.against_ideal)
    return Judged(kept, against, why_left_out(against, list(most), sweep.measures_loss))


def drowned(against: Sequence[Objective], best: float, has_loss: bool) -> str:
    """One sentence for objectives that compare outputs with *ideal* ones that errors exceed."""
    names = " and ".join(o.name for o in against)
    advice = "" if has_loss else "; judge accuracy by loss: add the objective loss"
    return (
        f"{names} ranks little: at most {best:.2f} dB, at every point the error is larger than the "
        f"signal{advice}"
    )


def why_left_out(against: Sequence[Objective], references: Sequence[str], has_loss: bool) -> str:
    """One sentence for objectives that compare with several kinds of *ideal*."""
    names = " and ".join(o.name for o in against)
    columns = zip(*(reference.split("; ") for reference in references), strict=True)
    differing = [list(dict.fromkeys(column)) for column in columns if len(set(column)) > 1]
    shown = []
    for texts in differing:
        name, _, _ = texts[0].rpartition(" ")
        if texts[0].endswith(" V"):
            name, _, _ = name.rpartition(" ")
        values = [text.removeprefix(name).strip() for text in texts]
        more = f", ... ({len(values)})" if len(values) > SHOWN_VALUES else ""
        shown.append(f"{name} {', '.join(values[:SHOWN_VALUES])}{more}")
    advice = "" if has_loss else "; judge accuracy by loss: add the objective loss"
    return (
        f"{names} left out: it compares with ideal attention, which is not the same at every point "
        f"({'; '.join(shown)}){advice}"
    )
