"""A sweep: what varies, under which constraints, judged by what, drawn how; from a YAML file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from archsim.arguments import as_path
from archsim.config.document import read_document
from archsim.config.former import current_keys, former_note
from archsim.config.loading import validate_document
from archsim.config.quantity import Quantity
from archsim.config.section import Section
from archsim.errors import ConfigError
from archsim.files import data_folder
from archsim.hardware.former_keys import FORMER_KEYS
from archsim.hardware.load import DEFAULT_HARDWARE, Hardware, load_hardware
from archsim.sweeps.axes import (
    RUN_KEYS,
    WORKLOAD_KEYS,
    Axis,
    axis_from_file,
    check_key,
    known_keys,
    si_value,
)
from archsim.sweeps.expression import Expression, Value, parse_expression
from archsim.sweeps.figures import (
    DEFAULT_OBJECTIVES,
    LOSS,
    LOSS_OBJECTIVES,
    Objective,
    objectives,
)
from archsim.sweeps.loss import DEFAULT_WINDOWS
from archsim.traces.trace import default_trace_name

Method = Literal["grid", "random", "sobol", "search"]
Sampler = Literal["nsga2", "tpe"]
Aggregate = Literal["mean", "worst"]

SCHEMA_FILE = "sweep.schema.json"
"""Committed beside the shipped sweeps."""

DEFAULT_POINTS = 256
"""Points of random, sobol and search where a sweep does not say."""

_SCALAR = {"type": ["string", "number", "boolean", "null"]}
_RANGE = {
    "type": "object",
    "properties": {
        "from": {"type": ["string", "number"]},
        "to": {"type": ["string", "number"]},
        "points": {"type": "integer", "minimum": 2},
        "step": {"type": ["string", "number"]},
        "scale": {"enum": ["linear", "log"]},
    },
    "required": ["from", "to"],
    "additionalProperties": False,
}
_OBJECTIVES = {
    "anyOf": [
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        {"type": "object", "minProperties": 1},
    ]
}
_AXIS = {"anyOf": [{"type": "array", "items": _SCALAR, "minItems": 1}, _RANGE, _SCALAR]}


def _keyed(values: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "type": "object",
            "properties": dict.fromkeys(known_keys(), values),
            "additionalProperties": False,
        }
    )


class SweepFile(Section):
    """A design space and what to look for in it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,63}$")]
    description: str = ""
    hardware: str = Field(
        DEFAULT_HARDWARE,
        description="shipped name or YAML file to start from; left out, that of an adapted trace",
    )
    fixed: Annotated[dict[str, Any], _keyed(_SCALAR)] = Field(
        default={}, alias="set", description="keys set for every point"
    )
    trace: str = Field(default_factory=default_trace_name, description="shipped name or folder")
    tokens: Annotated[int, Field(ge=1)] | None = Field(None, description="use the first N tokens")
    layers: Annotated[int, Field(ge=1)] | None = Field(None, description="use the first N layers")
    order: Literal["generate", "prefill"] = "generate"
    prompt: Annotated[int, Field(ge=1)] | None = None
    axes: Annotated[dict[str, Any], _keyed(_AXIS)] = Field(default={}, description="what varies")
    derived: Annotated[dict[str, str], _keyed({"type": "string"})] = Field(
        default={}, description="keys that follow from the axes, as expressions in SI units"
    )
    constraints: list[str] = Field(default=[], description="conditions that every point meets")
    objectives: Annotated[Any, WithJsonSchema(_OBJECTIVES)] = Field(
        default=list(DEFAULT_OBJECTIVES), description="figures and their better end"
    )
    aggregate: Aggregate | None = Field(
        None, description="judge a design by its mean or worst value over the workloads of an axis"
    )
    method: Method = "grid"
    points: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="how many, for random, sobol and search"
    )
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    sampler: Sampler = Field("nsga2", description="of method search")
    batch: Annotated[int, Field(ge=1, le=4096)] = Field(
        16, description="points that a search asks for at once"
    )
    loss: bool = Field(False, description="measure the loss though it is no objective")
    model: str | None = Field(
        None, description="folder of the model whose loss is measured (default: the shipped one)"
    )
    text: str | None = Field(None, description="unseen text (default: the shipped one)")
    windows: Annotated[int, Field(ge=1, le=10_000)] = Field(
        DEFAULT_WINDOWS, description="windows of the text that a loss is measured on"
    )
    time_limit: Annotated[float, Quantity("s", ge=0.1, le=1e6)] | None = Field(
        None, description="longest that one point may take"
    )


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

    @property
    def measures_loss(self) -> bool:
        """Whether every point's loss is wanted."""
        return self.loss or any(LOSS in o.expression.names for o in self.objectives)

    def document(self) -> dict[str, Any]:
        """The sweep as a sweep file would say it; `sweep_from_values` reads it back."""
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


def sweep_path(name_or_path: str | Path) -> Path:
    """The file of a shipped sweep's name or of a path; ConfigError if there is neither."""
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        if not path.is_file():
            raise ConfigError(f"{path}: no such sweep file")
        return path
    folder = data_folder("hwconfigs") / "sweeps"
    shipped = folder / f"{name_or_path}.yaml"
    if not str(name_or_path).strip() or not shipped.is_file():
        known = ", ".join(available_sweeps())
        raise ConfigError(f"{str(name_or_path)[:80]!r}: no such sweep; shipped: {known}")
    return shipped


def available_sweeps() -> list[str]:
    """Names of the shipped sweeps."""
    return sorted(path.stem for path in (data_folder("hwconfigs") / "sweeps").glob("*.yaml"))


def load_sweep(name_or_path: str | Path) -> Sweep:
    """A shipped sweep by name, or a YAML file.

    Raises ConfigError with file:line for anything that does not fit.
    """
    path = sweep_path(
        as_path(name_or_path, "sweep", "a Sweep, the name of a shipped one, or a YAML file")
    )
    document = read_document(path)
    file = validate_document(document, SweepFile)

    def place(key: str) -> str:
        return document.places.get(key, str(path))

    return _checked(file, place, path.parent)


def sweep_from_values(values: Mapping[str, Any]) -> Sweep:
    """A sweep from `Sweep.document`; raises ConfigError for what does not fit."""
    file = SweepFile.model_validate(values)
    return _checked(file, lambda key: "sweep", Path())


def _checked(file: SweepFile, place: Any, folder: Path) -> Sweep:
    def at(key: str, check: Any, *arguments: Any) -> Any:
        try:
            return check(*arguments)
        except ConfigError as error:
            raise ConfigError(f"{place(key)}: {error}") from None

    if not file.axes:
        raise ConfigError(f"{place('axes')}: axes: nothing varies; like 'array.rows: [32, 64]'")
    axes = tuple(at(f"axes.{key}", axis_from_file, key, given) for key, given in file.axes.items())
    taken = {axis.key for axis in axes}
    if len(taken) < len(axes):
        raise ConfigError(f"{place('axes')}: axes: a key is there under its former name too")
    fixed = at("set", current_keys, file.fixed, FORMER_KEYS)
    for key, value in file.fixed.items():
        at(f"set.{key}", _check_fixed, key, value, taken)
    for key in file.derived:
        at(f"derived.{key}", _check_derived, key, taken | set(fixed))
    readable = known_keys()
    derived = {
        key: at(f"derived.{key}", parse_expression, text, readable)
        for key, text in file.derived.items()
    }
    derived = at("derived", current_keys, derived, FORMER_KEYS)
    constraints = tuple(
        at("constraints", parse_expression, text, readable) for text in file.constraints
    )
    if file.points is not None and file.method == "grid":
        raise ConfigError(f"{place('points')}: points is of random, sobol and search, not of grid")
    if file.method == "grid":
        for axis in axes:
            at(f"axes.{axis.key}", getattr, axis, "levels")
    axes = tuple(_beside(axis, folder) for axis in axes)
    model, text = (
        str(folder / given) if given is not None and (folder / given).exists() else given
        for given in (file.model, file.text)
    )
    sweep = Sweep(
        name=file.name,
        description=" ".join(file.description.split()),
        hardware=_hardware_beside(file.hardware, folder),
        fixed=fixed,
        trace=_trace_beside(file.trace, folder),
        tokens=file.tokens,
        layers=file.layers,
        order=file.order,
        prompt=file.prompt,
        axes=axes,
        derived=derived,
        constraints=constraints,
        objectives=at("objectives", objectives, _objectives(file)),
        aggregate=file.aggregate,
        method=file.method,
        points=DEFAULT_POINTS if file.points is None else file.points,
        seed=file.seed,
        sampler=file.sampler,
        batch=file.batch,
        time_limit=file.time_limit,
        loss=file.loss,
        model=model,
        text=text,
        windows=file.windows,
        notes=_notes((*file.axes, *file.fixed, *file.derived), (*derived.values(), *constraints)),
    )
    if sweep.aggregate is not None:
        at("aggregate", check_aggregate, sweep)
    if "hardware" not in file.model_fields_set:
        sweep = replace(sweep, hardware=at("trace", _hardware_of_traces, sweep))
    for key in {"model", "text", "windows"} & file.model_fields_set:
        if not sweep.measures_loss:
            raise ConfigError(f"{place(key)}: {key} is of the loss, which is no objective here")
    return sweep


def _notes(keys: Sequence[str], expressions: Sequence[Expression]) -> tuple[str, ...]:
    """A line for each key that is called otherwise now."""
    given = {*keys, *(name for each in expressions for name in each.former)}
    return tuple(former_note(old, new) for old, new in FORMER_KEYS.items() if old in given)


def _objectives(file: SweepFile) -> object:
    """Those of the file; by default with the loss for accuracy where it says on what to measure."""
    of_loss = {"model", "text", "windows"} & file.model_fields_set
    if of_loss and not file.loss and "objectives" not in file.model_fields_set:
        return list(LOSS_OBJECTIVES)
    return file.objectives


def check_aggregate(sweep: Sweep) -> None:
    """Raises ConfigError for an aggregate of a sweep over one workload."""
    if not any(axis.key in WORKLOAD_KEYS for axis in sweep.axes):
        raise ConfigError(
            f"aggregate {sweep.aggregate}: no axis changes the workload "
            f"({', '.join(WORKLOAD_KEYS)}), so there is nothing to aggregate over"
        )


def _hardware_beside(name: str, folder: Path) -> str:
    """A hardware file that lies beside the sweep file by its path; else the name as it is."""
    return str(folder / name) if (folder / name).is_file() else name


def _hardware_of_traces(sweep: Sweep) -> str:
    """The hardware that the models behind a sweep's traces were adapted to, else the default."""
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


def loss_model(sweep: Sweep) -> str:
    """The folder of the model whose loss a sweep measures.

    The one it names; else the one that its traces are of, if that is one that was adapted; else the
    shipped one. Raises ConfigError if there is no such trace.
    """
    from archsim.models.adapted import shipped_adapted, trace_model

    if sweep.model is not None:
        return sweep.model
    listed = {axis.key: axis.values or () for axis in sweep.axes}
    folders = {trace_model(str(name)) for name in listed.get("trace", (sweep.trace,))}
    only = folders.pop() if len(folders) == 1 else None
    return str(shipped_adapted() if only is None else only)


def _trace_beside(name: str, folder: Path) -> str:
    path = Path(name)
    beside = not path.is_absolute() and len(path.parts) > 1 and (folder / path).is_dir()
    return str(folder / path) if beside else name


_BESIDE = {"hardware": _hardware_beside, "trace": _trace_beside}


def _beside(axis: Axis, folder: Path) -> Axis:
    """An axis over files, with paths as those of the sweep's own hardware and trace."""
    find = _BESIDE.get(axis.key)
    if find is None or axis.values is None:
        return axis
    return replace(axis, values=tuple(find(str(value), folder) for value in axis.values))


def _check_fixed(key: str, value: object, taken: set[str]) -> None:
    check_key(key)
    if key in FORMER_KEYS:
        key, value = FORMER_KEYS[key].key, FORMER_KEYS[key].value(value)
    if key in RUN_KEYS:
        raise ConfigError(f"set.{key}: write {key}: ... beside set, not in it")
    if key in taken:
        raise ConfigError(f"{key}: is an axis already, so it cannot be set")
    si_value(key, value)


def _check_derived(key: str, taken: set[str]) -> None:
    check_key(key)
    key = FORMER_KEYS[key].key if key in FORMER_KEYS else key
    if key in RUN_KEYS:
        raise ConfigError(f"derived.{key}: only a key of the config can be derived")
    if key in taken:
        raise ConfigError(f"{key}: has a value already, so it cannot be derived")


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
        _check_fixed(key, value, set(keys))
    notes = _notes((*(axis.former for axis in axes), *fixed), given.get("constraints", ()))
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
    return sweep if "hardware" in given else replace(sweep, hardware=_hardware_of_traces(sweep))


def base_hardware(sweep: Sweep, name: str | None = None) -> Hardware:
    """The hardware that points of a sweep start from."""
    return load_hardware(sweep.hardware if name is None else name, sweep.fixed)


def schema_text() -> str:
    """JSON Schema (2020-12) of a sweep file, as the committed file holds it."""
    model = SweepFile.model_json_schema(by_alias=True)
    model["properties"]["extends"] = {"type": "string", "description": "a sweep file to start from"}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model,
        "title": "archsim sweep",
    }
    return json.dumps(schema, indent=1) + "\n"
