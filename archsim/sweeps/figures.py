"""What is kept of a point: flat figures with units in their names, and the objectives over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from archsim.config.section import suggestion
from archsim.errors import ConfigError, one_line
from archsim.figures import Better, Combined, named
from archsim.hardware.load import Hardware
from archsim.notes import AdaptedTo
from archsim.result import Result
from archsim.simulation import simulate_trace
from archsim.sweeps.expression import Expression, UndefinedError, Value, parse_expression
from archsim.traces.trace import Trace

Figures = dict[str, Value]
Direction = Literal["minimise", "maximise"]

PATHS = {name: each.path for name, each in named().items() if each.path}
"""Name of a figure and where ``archsim simulate --json`` has it (`archsim.figures`).

``layer_ns`` is a layer's latency, waiting included; ``attention_ns`` what a head takes from its
write on. ``energy_pj`` is of one token in one head, ``area_mm2`` of one head; ``*_assumed`` are
shares.
"""

LOSS = "loss"
"""Nats a token of a model whose attention runs on the point's hardware (`archsim.sweeps.loss`)."""

COMPUTED = {name: each for name, each in named().items() if isinstance(each, Combined)}
"""Figures made of two others."""

REFERENCE, UNREAD = "sqnr_reference", "unread_parameters"
"""What the error of a point is an error against; keys of its config that its run did not read."""

NOTES = "notes"
"""What a point's hardware was not fitted for (`archsim.notes`), in words; none where all fits."""

AGAINST_IDEAL = frozenset({"sqnr_db", "max_abs_error"})
"""Figures that compare with *ideal* attention, and rank designs only where that is one function."""

TEXTS = {"bottleneck", REFERENCE, UNREAD, NOTES}


def unit_of_figure(name: str) -> str:
    """The unit of a figure as text; nothing for shares and expressions."""
    return named()[name].unit.text if name in named() else ""


def figure_names() -> list[str]:
    """Every figure of a point, in order."""
    return [*PATHS, *COMPUTED, REFERENCE, UNREAD, NOTES, LOSS]


def simulated_figures(
    trace: Trace, hardware: Hardware, *, order: str = "generate", prompt: int | None = None
) -> tuple[Figures, AdaptedTo | None]:
    """Run a point and keep its figures, and for what hardware the trace's model was adapted.

    What a stored result depends on begins here. Raises ConfigError, InvariantError as
    `simulate_trace` does.
    """
    simulation = simulate_trace(trace, hardware, order=order, prompt=prompt)
    return figures(Result(simulation)), simulation.adapted


def figures(result: Result) -> Figures:
    """The figures of a simulation; None where one does not exist (SQNR of an exact result)."""
    found: Figures = {name: _value(result, path) for name, path in PATHS.items()}
    for name, each in COMPUTED.items():
        first, second = (found[part] for part in each.of)
        assert isinstance(first, int | float)
        assert isinstance(second, int | float)
        if each.how == "product":
            found[name] = first * second
        else:
            found[name] = first / second if second else None
    run = result.simulation
    found[REFERENCE] = run.head.laws.ideal.on(run.trace.tokens).text
    found[UNREAD] = ", ".join(run.unread)
    found[NOTES] = "; ".join(result.simulation.notes) or None
    return found


def _value(result: Result, path: str) -> Value:
    section, *inner = path.split(".")
    # of the bottleneck no sweep keeps the stalls, which take longest to count
    value = getattr(result, "held_longest" if section == "bottleneck" else section)
    for key in inner:
        value = value.get(key)
        if value is None:
            return None
    kept: Value = value
    return kept


@dataclass(frozen=True)
class Objective:
    """What a design is judged by: a figure, or an expression over figures, and its better end."""

    name: str
    direction: Direction
    expression: Expression

    def value(self, results: Mapping[str, Value]) -> float | None:
        """Its value for a point; None where a figure is missing, or it divides by zero."""
        if any(results.get(name) is None for name in self.expression.names):
            return None
        try:
            value = self.expression.value(results)
        except UndefinedError:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"objective {self.name}: {self.expression.text!r} is not a number")
        return float(value)

    @property
    def against_ideal(self) -> bool:
        """Whether it compares with *ideal* attention."""
        return not AGAINST_IDEAL.isdisjoint(self.expression.names)

    @property
    def sign(self) -> float:
        """+1 where smaller is better, -1 where larger is."""
        return 1.0 if self.direction == "minimise" else -1.0


NAMED = {
    "latency": "layer_ns",
    "energy": "energy_pj",
    "area": "area_mm2",
    "edp": "edp_pj_ns",
    "throughput": "tokens_per_s",
    "throughput_per_area": "tokens_per_s_per_mm2",
    "efficiency": "tops_per_w",
    "power": "average_power_mw",
    "sqnr": "sqnr_db",
    "loss": LOSS,
}
"""Objectives by the words people use; which end is better is the figure's."""

DEFAULT_OBJECTIVES = ("latency", "energy", "area", "sqnr")
LOSS_OBJECTIVES = (*DEFAULT_OBJECTIVES[:-1], "loss")
"""The same where a sweep says on which model or text to measure a loss."""

_DIRECTIONS: dict[str, Direction] = {
    "minimise": "minimise", "minimize": "minimise", "min": "minimise",
    "maximise": "maximise", "maximize": "maximise", "max": "maximise",
}  # fmt: skip


def better_end(name: str) -> Direction | None:
    """Which end of a figure that an objective names is better; None of any other figure."""
    better = named()[name].better if name in NAMED.values() else "neither"
    ends: dict[Better, Direction | None] = {"lower": "minimise", "higher": "maximise"}
    return ends.get(better)


def _direction(name: str, text: object) -> Direction:
    if not isinstance(text, str) or text not in _DIRECTIONS:
        raise ConfigError(
            f"objective {name}: direction {one_line(text, 40)!r}: use minimise or maximise"
        )
    return _DIRECTIONS[text]


def objective(name: str, given: object = None) -> Objective:
    """An objective by name, with a direction, or as ``{expression, direction}``.

    Raises ConfigError for an unknown figure, or a direction that is missing or unknown.
    """
    numbers = [figure for figure in figure_names() if figure not in TEXTS]
    if isinstance(given, Mapping):
        if set(given) != {"expression", "direction"}:
            raise ConfigError(f"objective {name}: give expression and direction")
        expression = parse_expression(given["expression"], numbers)
        found = Objective(name, _direction(name, given["direction"]), expression)
        if not expression.names:
            raise ConfigError(f"objective {name}: {expression.text!r} reads no figure")
        found.value({figure: 1.0 + i / len(numbers) for i, figure in enumerate(numbers)})
        return found
    if name in NAMED:
        figure = NAMED[name]
        direction = better_end(figure) if given is None else _direction(name, given)
        assert direction is not None
        return Objective(name, direction, parse_expression(figure, numbers))
    if name not in numbers:
        hint = suggestion(name, [*NAMED, *numbers]) or f"; use {', '.join(NAMED)}"
        raise ConfigError(f"unknown objective {name!r}{hint}")
    if given is None:
        raise ConfigError(f"objective {name}: say minimise or maximise, like '{name}: minimise'")
    return Objective(name, _direction(name, given), parse_expression(name, numbers))


def objectives(given: object) -> tuple[Objective, ...]:
    """Objectives of a sweep file: a list of names, or names with directions or expressions.

    Raises ConfigError as `objective` does.
    """
    if isinstance(given, Mapping):
        found = [objective(str(name), value) for name, value in given.items()]
    elif isinstance(given, list):
        found = []
        for item in given:
            name, separator, direction = str(item).partition(":")
            found.append(objective(name.strip(), direction.strip() if separator else None))
    else:
        raise ConfigError("objectives: a list like [latency, energy], or names with directions")
    if not found:
        raise ConfigError("objectives: none given; like [latency, energy, area]")
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"objective {name}: given twice")
    return tuple(found)
