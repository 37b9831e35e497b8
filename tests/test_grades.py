"""What a result rests on follows from what its formulas read, whatever variant is chosen."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

import archsim
from archsim.chip.action import Law, rests_on
from archsim.chip.cell import READ_KEYS
from archsim.chip.refresh.none import REFRESH
from archsim.config.document import Provenance
from archsim.config.section import field_of, leaf_paths, value_at, with_leaf
from archsim.hardware.load import Hardware, load_hardware
from archsim.hardware.sections import HardwareConfig
from archsim.result import Result, grade
from archsim.simulation import Simulation
from archsim.traces.trace import Trace

TOKENS, HEADS = 6, 2

CHOICES: dict[str, dict[str, tuple[Any, ...]]] = {
    "cell": {"cell.model": ("polynomial", "linear")},
    "retention": {"retention.model": ("off", "per_token", "nominal", "simulated")},
    "phases": {"controller.phases": ("worst_case", "early_end")},
    "pulses": {"pulse_generator.t_max": ("15 ns", "auto")},
    "rows": {"readout.model": ("charge_to_pulse", "digital_sum")},
    "refresh": {"refresh.model": ("none", "rows")},
}
"""Every choice of a law, and its variants; the other parameters make each one count."""


def variants() -> list[dict[str, Any]]:
    """One choice changed at a time, and all of them at once."""
    singles = [{key: value} for each in CHOICES.values() for key, values in each.items()
               for value in values]  # fmt: skip
    last = {key: values[-1] for each in CHOICES.values() for key, values in each.items()}
    return [*singles, last]


def trace() -> Trace:
    rng = np.random.default_rng(5)
    shape = (1, HEADS, TOKENS, 24)
    identity = (np.ones((1, HEADS)), np.zeros((1, HEADS)))
    return Trace.from_arrays(
        rng.uniform(0, 1, shape),
        rng.uniform(0, 0.9, shape),
        rng.uniform(0, 0.9, shape),
        scalers=dict.fromkeys(("q", "k", "v", "output"), identity),
    )


def run(hardware: Hardware) -> Simulation:
    return archsim.simulate(trace(), hardware).simulation


BASE = {
    "window": 8,
    "array.columns": 4,
    "array.rows": 10,
    "static.power_per_head": "1 mW",
    "refresh.period": "0.3 us",
    "refresh.read_back_time": "4 ns",
    "refresh.energy_per_read_back": "1 fJ",
    "refresh.area": "3 um^2",
}


def graded(simulation: Simulation) -> dict[str, tuple[Law, ...]]:
    """Every part of a result that has a grade."""
    found = {p.action.label: p.action.laws for p in simulation.ledger if p.action is not REFRESH}
    found |= {f"{s.name}, time": s.laws for s in simulation.declaration.stages}
    blocks = simulation.head.footprints(HEADS)
    return found | {f"{b.component}, area": b.laws for b in blocks}


def tagged(hardware: Hardware, parameter: str | None) -> Hardware:
    """The same values: all of them published but one, which the user is said to have set."""
    sources = {
        key: Provenance("user" if key == parameter else "text", "here")
        for key in leaf_paths(HardwareConfig)
    }
    return replace(hardware, provenance=sources)


@pytest.mark.parametrize("overrides", variants(), ids=str)
def test_the_source_of_what_is_read_is_the_grade_and_no_other(overrides: dict[str, Any]) -> None:
    hardware = load_hardware(overrides={**BASE, **overrides})
    parts = graded(run(hardware))
    read = {name: set(rests_on(hardware.config, laws)) for name, laws in parts.items()}
    assert all(read.values())
    for name, laws in parts.items():
        assert grade(tagged(hardware, None), laws) == "published", name
    for parameter in leaf_paths(HardwareConfig):
        one = tagged(hardware, parameter)
        for name, laws in parts.items():
            assert (grade(one, laws) == "user") == (parameter in read[name]), (name, parameter)


@pytest.mark.parametrize("overrides", variants(), ids=str)
def test_what_changes_a_cost_is_what_it_rests_on(overrides: dict[str, Any]) -> None:
    """A number moved by 1 % moves energies an operation, times and areas that read it, no others.

    But for what sets how much there is to do, which no grade is about.
    """
    hardware = load_hardware(overrides={**BASE, **overrides})
    before = run(hardware)
    parts = graded(before)
    worked, costs = activity(before), cost(before)
    for parameter in leaf_paths(HardwareConfig):
        moved = nudged(hardware, parameter)
        if moved is None:
            continue
        after = run(moved)
        same_work = activity(after) == worked
        for name, value in cost(after).items():
            read = parameter in rests_on(hardware.config, parts[name])
            if value != pytest.approx(costs[name], rel=1e-9, abs=0) and same_work:
                assert read, (name, parameter)


def nudged(hardware: Hardware, parameter: str) -> Hardware | None:
    """The hardware with a quantity 1 % larger; None where that cannot be."""
    value = value_at(hardware.config, parameter)
    if not isinstance(value, float) or parameter.startswith("digital."):
        return None
    return replace(hardware, config=with_leaf(hardware.config, parameter, value * 1.01))


def activity(simulation: Simulation) -> dict[str, Any]:
    """How much there was to do: operations, currents, the longest pulses."""
    found: dict[str, Any] = {p.action.label: p.operations for p in simulation.ledger}
    for layer in simulation.function:
        for name, values in vars(layer.activity).items():
            if values is not None:
                found[name] = np.asarray(values).tolist()
    return found


def cost(simulation: Simulation) -> dict[str, float]:
    """What each graded part costs: J an operation, ps, m^2 each."""
    found = {
        p.action.label: p.total / max(p.operations, 1.0)
        for p in simulation.ledger
        if p.action.stage != "head"  # these count cycles and seconds
    }
    durations = simulation.declaration.durations
    found |= {f"{name}, time": float(lasts.sum()) for name, lasts in durations.items()}
    return found | {f"{b.component}, area": b.area_each for b in simulation.head.footprints(HEADS)}


def test_a_linear_cell_rests_on_its_slope() -> None:
    """It was graded by the polynomial that it has no use for."""
    linear = load_hardware(overrides={"cell.model": "linear"})
    read = rests_on(linear.config, READ_KEYS.laws)
    assert "cell.linear_slope" in read
    assert not any(parameter.startswith("cell.polynomial") for parameter in read)
    polynomial = rests_on(load_hardware().config, READ_KEYS.laws)
    assert "cell.linear_slope" not in polynomial
    assert sum(parameter.startswith("cell.polynomial.") for parameter in polynomial) == 4


def test_a_choice_that_the_user_made_is_the_users() -> None:
    chosen = load_hardware(overrides={"cell.model": "linear"})
    assert grade(chosen, READ_KEYS.laws) == "user"
    assert grade(load_hardware(), READ_KEYS.laws) == "assumed"  # the voltage it draws from
    early = Result(run(load_hardware(overrides={**BASE, "controller.phases": "early_end"})))
    assert early.foundation["latency"]["user"] > 0.4


def test_choices_are_all_that_there_are() -> None:
    """A new choice of a law needs its variants here."""
    named = {key for each in CHOICES.values() for key in each}
    elsewhere = {
        "controller.pipelining", "write_path.arbitration", "pulse_generator.arbitration",
        "accumulator.arbitration", "digital.weights", "array.write_during_read",
        "controller.gate_unwritten", "retention.token_period", "cell.interpolation",
        "converter.law",  # of one variant
    }  # fmt: skip
    choices = {
        path
        for path in leaf_paths(HardwareConfig)
        if field_of(HardwareConfig, path).annotation is bool
        or any(isinstance(each, str) for each in literals(field_of(HardwareConfig, path)))
    }
    assert choices == named | elsewhere


def literals(field: Any) -> list[Any]:
    """Every word that a field may have."""
    given = get_args(field.annotation)
    return list(itertools.chain.from_iterable(get_args(each) or (each,) for each in given))
