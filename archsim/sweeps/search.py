"""Search by Optuna: points asked for in batches, by what the ones before have shown.

Batches and their order do not depend on the number of workers, and points are told in the order
they were asked for: the same sweep and seed ask for the same points. So a search that was cut off
goes on by asking again; what the store has is not run twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from archsim.errors import ConfigError, MissingExtraError
from archsim.sweeps.axes import WORKLOAD_KEYS, Axis
from archsim.sweeps.definition import Sweep
from archsim.sweeps.design import Parameters, Space, at
from archsim.sweeps.driver import Stop
from archsim.sweeps.exploration import Exploration, explored, note
from archsim.sweeps.figures import Objective
from archsim.sweeps.judging import judged
from archsim.sweeps.point import Job, Outcome, Preparation

if TYPE_CHECKING:
    import optuna

    from archsim.sweeps.store import Store

ASKED_PER_POINT = 20
"""How often a search may ask for points that are excluded or known before it ends."""


CORNERS = 16
"""Most places on an axis where a search looks beforehand what its objectives compare with."""


def search(
    sweep: Sweep,
    preparation: Preparation,
    run: Callable[[Sequence[Job], Sequence[Job]], dict[str, Outcome]],
    store: Store,
    number: int,
    stop: Stop,
) -> Exploration:
    """Ask, run and tell until `sweep.points` different points were asked for.

    Raises MissingExtraError without Optuna, ConfigError if no point meets the constraints or as
    `searched` does.
    """
    goals = searched(sweep, preparation)
    study = _study(sweep, goals)
    space = Space(sweep)
    papers = preparation.papers(())
    run((), papers)
    jobs: dict[str, Job] = {}
    asked = 0
    while len(jobs) < sweep.points and asked < ASKED_PER_POINT * sweep.points and not stop.asked:
        trials = [(trial := study.ask(), _complete(space, trial)) for _ in range(sweep.batch)]
        asked += len(trials)
        batch: list[tuple[optuna.Trial, Job | None]] = []
        for trial, parameters in trials:
            job = None if parameters is None else preparation.job(parameters)
            if job is not None and job.key not in jobs and len(jobs) >= sweep.points:
                job = None
            if job is not None:
                jobs.setdefault(job.key, job)
            batch.append((trial, job))
        note(store, number, papers, list(jobs.values()))
        answers = run([job for _, job in batch if job is not None], ())
        for trial, job in batch:
            _tell(study, goals, trial, None if job is None else answers.get(job.key))
    if not jobs and not stop.asked:
        raise space.nothing_left(asked)
    members = note(store, number, papers, list(jobs.values()))
    return explored(sweep, members, store)


def searched(sweep: Sweep, preparation: Preparation) -> tuple[Objective, ...]:
    """What a search goes by: objectives that rank designs wherever on the axes they are.

    Raises ConfigError if there is none, or if the search would rank workloads as designs.
    """
    workloads = [axis.key for axis in sweep.axes if axis.key in WORKLOAD_KEYS]
    if workloads:
        raise ConfigError(
            f"axis {workloads[0]}: a search compares designs on one workload; search each alone, "
            "or use method grid or random"
        )
    return judged(sweep, _corners(sweep, preparation)).objectives


def _corners(sweep: Sweep, preparation: Preparation) -> list[Job]:
    """Points along every axis through one that is valid: what ideal attention depends on shows."""
    space, middle = Space(sweep), [0.5] * len(sweep.axes)
    jobs = []
    for index, axis in enumerate(sweep.axes):
        count = min(len(axis.values), CORNERS) if axis.values is not None else CORNERS
        for step in range(count):
            shares = [*middle]
            shares[index] = (step + 0.5) / count
            point = space.complete(at(sweep, shares))
            if point is not None:
                jobs.append(preparation.job(point))
    return jobs


def _study(sweep: Sweep, goals: Sequence[Objective]) -> optuna.Study:
    try:
        import optuna
    except ImportError:
        raise MissingExtraError(
            "method search needs Optuna: pip install 'archsim[sweep]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: optuna.samplers.BaseSampler
        if sweep.sampler == "nsga2":
            sampler = optuna.samplers.NSGAIISampler(
                population_size=max(2, min(48, sweep.points // 4)), seed=sweep.seed
            )
        else:
            sampler = optuna.samplers.TPESampler(seed=sweep.seed, constant_liar=True)
        return optuna.create_study(
            directions=["minimize" if o.sign > 0 else "maximize" for o in goals],
            sampler=sampler,
        )


def _share(trial: optuna.Trial, axis: Axis) -> float:
    """Where on an axis a trial is, 0 to 1; lists of words have no order."""
    if axis.values is None:
        return trial.suggest_float(axis.key, 0.0, 1.0)
    count = len(axis.values)
    ordered = all(isinstance(v, int | float) for v in axis.values) or axis.high > axis.low
    if ordered:
        index = trial.suggest_int(axis.key, 0, count - 1)
    else:
        index = trial.suggest_categorical(axis.key, list(range(count)))
    return (index + 0.5) / count


def _complete(space: Space, trial: optuna.Trial) -> Parameters | None:
    chosen = {axis.key: axis.at(_share(trial, axis)) for axis in space.sweep.axes}
    return space.complete(chosen)


def _tell(
    study: optuna.Study,
    goals: Sequence[Objective],
    trial: optuna.Trial,
    outcome: Outcome | None,
) -> None:
    from optuna.trial import TrialState

    results = outcome.results if outcome is not None else None
    values = [o.value(results) for o in goals] if results is not None else [None]
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(goals):
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, numbers)
