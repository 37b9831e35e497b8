"""The power of a run over time: each phase spends its energy evenly over the time that it takes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from archsim.chip.stage import Periodic
from archsim.simulation import Simulation, holding
from archsim.timing.declaration import Schedule
from archsim.units import PICOSECOND

Array = NDArray[np.float64]

SLOTS = 4_000_000
"""Instants up to which power is summed on a grid of clock edges; else they are sorted."""


def peak_power(simulation: Simulation) -> float:
    """The highest instantaneous power in W: each phase spends its energy evenly over its time.

    A phase of no length spends it over one clock period.
    """
    schedule, clock = simulation.schedule, simulation.declaration.clock
    period = clock.period
    energies: dict[str, Array] = {}
    for posting in simulation.ledger:
        if posting.action.bucket != "static" and posting.total:
            stage = posting.action.stage
            energies[stage] = energies.get(stage, 0.0) + posting.energy
    static = simulation.head.controller.static_power
    floor = static * simulation.trace.heads * simulation.trace.layers
    if not energies:
        return floor
    times: list[NDArray[np.int64]] = []
    steps: list[Array] = []
    for stage, energy in energies.items():
        if stage == "head":
            start, end = holding(schedule)
        else:
            start, end = schedule.times(stage)
        if (every := simulation.declaration.periodic.get(stage)) is not None:
            start, end = _worked(schedule, stage, every, period)
        end = np.maximum(end, start + period)
        watts = energy * (PICOSECOND.per_si * clock.per_ps) / (end - start)
        for when, step in ((start, watts), (end, -watts)):
            if (when == when[..., :1]).all():  # all heads of a layer at once
                when, step = when[..., 0], step.sum(axis=-1)
            times.append(when.ravel())
            steps.append(step.ravel())
    ticks = _ticks(times, period)
    instants = max(int(tick.max()) for tick in ticks) + 1
    if instants <= SLOTS:
        power = np.zeros(instants)
        for tick, step in zip(ticks, steps, strict=True):
            np.add.at(power, tick, step)
        return float(np.cumsum(power, out=power).max()) + floor
    when, step = np.concatenate(ticks), np.concatenate(steps)
    order = np.argsort(when, kind="stable")  # made of sorted stretches, which it makes use of
    when, power = when[order], np.cumsum(step[order])
    settled = np.append(when[1:] != when[:-1], True)  # after everything at one instant
    return float(power[settled].max()) + floor


def _worked(
    schedule: Schedule, stage: str, every: Periodic, clock: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """From when to when periodic work went on whose energy is each token's, if without a break."""
    begin = schedule.start[stage]
    ends = [schedule.end[name] for name in every.free]
    end = every.last_starts(begin, ends, clock) + every.lasts
    due = begin // every.period
    often = np.diff(due, prepend=np.zeros_like(due[:1]), axis=0)
    often[-1] += schedule.makespan // every.period - due[-1]
    return np.maximum(end - often * every.lasts, 0), end


def _ticks(times: list[NDArray[np.int64]], period: int) -> list[NDArray[np.int64]]:
    """Times in the coarsest unit that counts them all: clock periods, if all lie on clock edges."""
    ticks = [when // period for when in times]
    unit = period
    for when, tick in zip(times, ticks, strict=True):
        beyond = when - tick * period
        if beyond.any():
            unit = math.gcd(unit, *np.unique(beyond[beyond > 0]).tolist())
    return ticks if unit == period else [when // unit for when in times]
