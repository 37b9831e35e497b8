"""A sweep: what varies, under which constraints, judged by what, drawn how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from archsim.config.former import current_keys, former_note
from archsim.errors import ConfigError, one_line
from archsim.hardware.former_keys import FORMER_KEYS
from archsim.hardware.load import DEFAULT_HARDWARE, Hardware, load_hardware
from archsim.sweeps.axes import RUN_KEYS, WORKLOAD_KEYS, Axis, check_key, si_value
from archsim.sweeps.expression import Expression, Value
from archsim.sweeps.figures import (
    DEFAULT_OBJECTIVES,
    LOSS,
    LOSS_OBJECTIVES,
    Objective,
    objectives,
)
from archsim.traces.folder import default_trace_name

Method = Literal["grid", "random", "sobol", "search"]
Sampler = Literal["nsga2", "tpe"]
Aggregate = Literal["mean", "worst"]

DEFAULT_POINTS = 256
"""Points of random, sobol and search where a sweep does not say."""

DEFAULT_WINDOWS = 4
"""Windows of text where a sweep does not say: some seconds a point with the shipped model."""

_NOT_POINTS = ("name", "description", "objectives", "aggregate", "time_limit")
"""Fields that do not decide which points a sweep has."""


@dataclass(frozen=True)
class Sweep:
    """A checked sweep; everything in it is plain, so that it can be kept in a store."""

    name: str
    axes: tuple[Axis, ...]
    objectives: tuple[Objective, ...]
    description: str = ""
    hardware: str = DEFAULT_HARDWARE
    fixed: Mapping[str, Value] = field(default_factory=dict)
    trace: str = field(default_factory=default_trace_name)
    tokens: int | None = None
    layers: int | None = None
    order: str = "generate"
    prompt: int | None = None
    derived: Mapping[str, Expression] = field(default_factory=dict)
    constraints: tuple[Expression, ...] = ()
    aggregate: Aggregate | None = None
    method: Method = "grid"
    points: int = DEFAULT_POINTS
    seed: int = 0
    sampler: Sampler = "nsga2"
    batch: int = 16
    time_limit: float | None = None
    loss: bool = False
    model: str | None = None
    text: str | None = None
    windows: int = DEFAULT_WINDOWS
    notes: tuple[str, ...] = field(default=(), compare=False)
    """Lines for whoever wrote it."""

    def __repr__(self) -> str:
        axes = one_line(", ".join(axis.key for axis in self.axes), 100)
        return f"<Sweep {self.name}: {self.method} over {axes}>"

    @property
    def measures_loss(self) -> bool:
        """Whether every point's loss is wanted."""
        return self.loss or any(LOSS in o.expression.names for o in self.objectives)

    def document(self) -> dict[str, Any]:
        """The sweep as a sweep file would say it; `archsim.sweeps.sweep_file` reads it back."""
        values: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "hardware": self.hardware,
            "set": dict(self.fixed),
            "trace": self.trace,
            "tokens": self.tokens,
            "layers": self.layers,
            "order": self.order,
            "prompt": self.prompt,
            "axes": {axis.key: _axis_document(axis) for axis in self.axes},
            "derived": {key: expression.text for key, expression in self.derived.items()},
            "constraints": [expression.text for expression in self.constraints],
            "objectives": {
                o.name: {"expression": o.expression.text, "direction": o.direction}
                for o in self.objectives
            },
            "aggregate": self.aggregate,
            "method": self.method,
            "points": self.points,
            "seed": self.seed,
            "sampler": self.sampler,
            "batch": self.batch,
            "time_limit": None if self.time_limit is None else f"{self.time_limit!r} s",
        }
        if self.method == "grid":
            del values["points"]
        if self.measures_loss:
            values |= {"model": self.model, "text": self.text, "windows": self.windows}
            values |= {"loss": True} if self.loss else {}
        return {key: value for key, value in values.items() if value not in (None, {}, [], "")}

    @property
    def sha256(self) -> str:
        """Hash of what decides which points there are; objectives and limits do not."""
        decides = self.document()
        kept = ("objectives",) if self.method == "search" else ()
        for key in {*_NOT_POINTS}.difference(kept):
            decides.pop(key, None)
        if self.measures_loss:  # wherever it is asked for
            decides["loss"] = True
        text = json.dumps(decides, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _axis_document(axis: Axis) -> object:
    if axis.values is not None:
        return list(axis.values)
    ends: tuple[object, object] = (axis.low, axis.high)
    if axis.unit:
        ends = (f"{axis.low!r} {axis.unit}", f"{axis.high!r} {axis.unit}")
    elif axis.integer:
        ends = (int(axis.low), int(axis.high))
    return {"from": ends[0], "to": ends[1], "scale": "log" if axis.log else "linear"}


def quick_sweep(axes: Sequence[Axis], **given: Any) -> Sweep:
    """A sweep of the quick form: axes, and any other field of `Sweep`.

    Raises ConfigError if an axis is given twice or a grid's range has no number of points.
    """
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"--vary {key}: given twice; list all values in one")
    fixed = given.get("fixed", {})
    for key, value in fixed.items():
        check_fixed(key, value, set(keys))
    notes = former_notes((*(axis.former for axis in axes), *fixed), given.get("constraints", ()))
    given |= {"fixed": current_keys(fixed, FORMER_KEYS), "notes": notes}
    for axis in axes:
        if given.get("method", "grid") == "grid":
            _ = axis.levels
    usual = LOSS_OBJECTIVES if {"model", "text", "windows"} & set(given) else DEFAULT_OBJECTIVES
    given.setdefault("objectives", objectives(list(usual)))
    given.setdefault("name", "quick")
    sweep = Sweep(axes=tuple(axes), **given)
    if sweep.aggregate is not None:
        check_aggregate(sweep)
    return sweep if "hardware" in given else replace(sweep, hardware=hardware_of_traces(sweep))


def former_notes(keys: Sequence[str], expressions: Sequence[Expression]) -> tuple[str, ...]:
    """A line for each key that is called otherwise now."""
    given = {*keys, *(name for each in expressions for name in each.former)}
    return tuple(former_note(old, new) for old, new in FORMER_KEYS.items() if old in given)


def check_aggregate(sweep: Sweep) -> None:
    """Raises ConfigError for an aggregate of a sweep over one workload."""
    if not any(axis.key in WORKLOAD_KEYS for axis in sweep.axes):
        raise ConfigError(
            f"aggregate {sweep.aggregate}: no axis changes the workload "
            f"({', '.join(WORKLOAD_KEYS)}), so there is nothing to aggregate over"
        )


def check_fixed(key: str, value: object, taken: set[str]) -> None:
    """Raises ConfigError for a key that cannot be set for every point, or a value that is none."""
    check_key(key)
    if key in FORMER_KEYS:
        key, value = FORMER_KEYS[key].key, FORMER_KEYS[key].value(value)
    if key in RUN_KEYS:
        raise ConfigError(f"set.{key}: write {key}: ... beside set, not in it")
    if key in taken:
        raise ConfigError(f"{key}: is an axis already, so it cannot be set")
    si_value(key, value)


def hardware_of_traces(sweep: Sweep) -> str:
    """The hardware that the models behind a sweep's traces were adapted to, else the default.

    Raises ConfigError if they were adapted to different ones.
    """
    listed = {axis.key: axis.values or () for axis in sweep.axes}
    if "hardware" in listed:
        return sweep.hardware
    from archsim.models.adapted import adapted_hardware, trace_model

    traces = [str(name) for name in listed.get("trace", (sweep.trace,))]
    folders = [trace_model(name) for name in traces]
    found = {DEFAULT_HARDWARE if f is None else adapted_hardware(f) for f in folders}
    if len(found) > 1:
        raise ConfigError(
            f"traces {', '.join(traces)} are of models for different hardware: say which hardware"
        )
    return found.pop()


def base_hardware(sweep: Sweep, name: str | None = None) -> Hardware:
    """The hardware that points of a sweep start from.

    Where a variant needs what an axis gives, with the first value of every axis.
    """
    name = sweep.hardware if name is None else name
    try:
        return load_hardware(name, sweep.fixed)
    except ConfigError:
        of_hardware = [
            a for a in sweep.axes if a.key not in {*RUN_KEYS, *WORKLOAD_KEYS, "hardware"}
        ]
        if not of_hardware:
            raise
        return load_hardware(name, {**sweep.fixed, **{a.key: a.at(0.0) for a in of_hardware}})
