"""What is kept of a point: flat figures with units in their names, and the objectives over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from archsim.config.section import suggestion
from archsim.errors import ConfigError, one_line
from archsim.hardware.load import Hardware
from archsim.result import Result
from archsim.simulation import simulate_trace
from archsim.sweeps.expression import Expression, UndefinedError, Value, parse_expression
from archsim.traces.trace import Trace

Figures = dict[str, Value]
Direction = Literal["minimise", "maximise"]

PATHS = {
    "layer_ns": "latency.layer_ns.mean",
    "layer_max_ns": "latency.layer_ns.max",
    "attention_ns": "latency.attention_ns.mean",
    "attention_max_ns": "latency.attention_ns.max",
    "token_ns": "latency.token_ns.mean",
    "queue_ns": "latency.queue_ns.mean",
    "total_ns": "latency.total_ns",
    "interval_ns": "throughput.initiation_interval_ns",
    "tokens_per_s": "throughput.tokens_per_s",
    "tops": "throughput.tops",
    "tops_per_w": "throughput.tops_per_w",
    "average_power_mw": "throughput.average_power_mw",
    "peak_power_mw": "throughput.peak_power_mw",
    "energy_pj": "energy_per_token_per_head_pj.total",
    "energy_qk_pj": "energy_per_token_per_head_pj.qk",
    "energy_sv_pj": "energy_per_token_per_head_pj.sv",
    "energy_digital_pj": "energy_per_token_per_head_pj.digital",
    "energy_dac_pj": "energy_per_token_per_head_pj.dac",
    "energy_static_pj": "energy_per_token_per_head_pj.static",
    "energy_refresh_pj": "energy_per_token_per_head_pj.refresh",
    "run_energy_pj": "energy_pj.total",
    "area_mm2": "area_mm2.per_head",
    "chip_area_mm2": "area_mm2.chip",
    "bottleneck": "held_longest.resource",
    "bottleneck_utilisation": "held_longest.utilisation",
    "sqnr_db": "function.sqnr_db",
    "max_abs_error": "function.max_abs_error",
    "saturation_query": "function.saturation.query",
    "saturation_key": "function.saturation.key",
    "saturation_value": "function.saturation.value",
    "saturation_score_low": "function.saturation.score_low",
    "saturation_score_high": "function.saturation.score_high",
    "saturation_output": "function.saturation.output",
    "latency_assumed": "foundation.latency.assumed",
    "energy_assumed": "foundation.energy.assumed",
    "area_assumed": "foundation.area.assumed",
}
"""Name of a figure and where a `Result` has it; so has ``archsim simulate --json``.

``layer_ns`` is a layer's latency, waiting included; ``attention_ns`` what a head takes from its
write on. ``energy_pj`` is of one token in one head, ``area_mm2`` of one head; ``*_assumed`` are
shares.
"""

LOSS = "loss"
"""Nats a token of a model whose attention runs on the point's hardware (`archsim.sweeps.loss`)."""

COMPUTED = {
    "edp_pj_ns": ("energy_pj", "layer_ns"),
    "tokens_per_s_per_mm2": ("tokens_per_s", "chip_area_mm2"),
    "tops_per_mm2": ("tops", "chip_area_mm2"),
}
"""Figures made of two others: the product for ``edp_pj_ns``, else the quotient."""

REFERENCE, UNREAD = "sqnr_reference", "unread_parameters"
"""What the error of a point is an error against; keys of its config that its run did not read."""

NOTES = "notes"
"""What a point's hardware was not fitted for (`archsim.notes`), in words; none where all fits."""

AGAINST_IDEAL = frozenset({"sqnr_db", "max_abs_error"})
"""Figures that compare with *ideal* attention, and rank designs only where that is one function."""

TEXTS = {"bottleneck", REFERENCE, UNREAD, NOTES}

_UNITS = {
    "tokens_per_s_per_mm2": "tokens/s/mm^2", "tokens_per_s": "tokens/s",
    "tops_per_mm2": "TOPS/mm^2", "tops_per_w": "TOPS/W", "tops": "TOPS",
    "_pj_ns": "pJ ns", "_ns": "ns", "_pj": "pJ",
    "_mw": "mW", "_mm2": "mm^2", "_db": "dB", "_loss": "nats",
}  # fmt: skip


def unit_of_figure(name: str) -> str:
    """The unit of a figure as text; nothing for shares and expressions."""
    return next((unit for ending, unit in _UNITS.items() if f"_{name}".endswith(ending)), "")


def figure_names() -> list[str]:
    """Every figure of a point, in order."""
    return [*PATHS, *COMPUTED, REFERENCE, UNREAD, NOTES, LOSS]


def simulated_figures(
    trace: Trace, hardware: Hardware, *, order: str = "generate", prompt: int | None = None
) -> Figures:
    """Run a point and keep its figures: what a stored result depends on begins here.

    Raises ConfigError, InvariantError as `simulate_trace` does.
    """
    return figures(Result(simulate_trace(trace, hardware, order=order, prompt=prompt)))


def figures(result: Result) -> Figures:
    """The figures of a simulation; None where one does not exist (SQNR of an exact result)."""
    found: Figures = {}
    for name, path in PATHS.items():
        section, *inner = path.split(".")
        value = getattr(result, section)
        for key in inner:
            value = value.get(key)
            if value is None:
                break
        found[name] = value
    for name, (first, second) in COMPUTED.items():
        a, b = found[first], found[second]
        assert isinstance(a, int | float)
        assert isinstance(b, int | float)
        found[name] = a * b if name == "edp_pj_ns" else (a / b if b else None)
    run = result.simulation
    found[REFERENCE] = run.head.laws.ideal.on(run.trace.tokens).text
    found[UNREAD] = ", ".join(run.unread)
    found[NOTES] = "; ".join(result.simulation.notes) or None
    return found


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


NAMED: dict[str, tuple[str, Direction]] = {
    "latency": ("layer_ns", "minimise"),
    "energy": ("energy_pj", "minimise"),
    "area": ("area_mm2", "minimise"),
    "edp": ("edp_pj_ns", "minimise"),
    "throughput": ("tokens_per_s", "maximise"),
    "throughput_per_area": ("tokens_per_s_per_mm2", "maximise"),
    "efficiency": ("tops_per_w", "maximise"),
    "power": ("average_power_mw", "minimise"),
    "sqnr": ("sqnr_db", "maximise"),
    "loss": (LOSS, "minimise"),
}
"""Objectives by the words people use."""

DEFAULT_OBJECTIVES = ("latency", "energy", "area", "sqnr")
LOSS_OBJECTIVES = (*DEFAULT_OBJECTIVES[:-1], "loss")
"""The same where a sweep says on which model or text to measure a loss."""

_DIRECTIONS: dict[str, Direction] = {
    "minimise": "minimise", "minimize": "minimise", "min": "minimise",
    "maximise": "maximise", "maximize": "maximise", "max": "maximise",
}  # fmt: skip


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
        figure, default = NAMED[name]
        direction = default if given is None else _direction(name, given)
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
