"""A sweep file: its fields, its schema, and the checked sweep that it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from archsim.arguments import as_path
from archsim.config.document import read_document
from archsim.config.file_content import names_file
from archsim.config.former import current_keys
from archsim.config.loading import validate_document
from archsim.config.quantity import Quantity
from archsim.config.section import Section
from archsim.errors import ConfigError
from archsim.files import data_folder
from archsim.hardware.former_keys import FORMER_KEYS
from archsim.hardware.load import DEFAULT_HARDWARE
from archsim.hardware.sections import HardwareConfig
from archsim.sweeps.axes import RUN_KEYS, Axis, axis_from_file, check_key, known_keys
from archsim.sweeps.definition import (
    DEFAULT_POINTS,
    DEFAULT_WINDOWS,
    Aggregate,
    Method,
    Sampler,
    Sweep,
    check_aggregate,
    check_fixed,
    former_notes,
    hardware_of_traces,
)
from archsim.sweeps.expression import parse_expression
from archsim.sweeps.figures import DEFAULT_OBJECTIVES, LOSS_OBJECTIVES, objectives
from archsim.traces.folder import default_trace_name

SCHEMA_FILE = "sweep.schema.json"
"""Committed beside the shipped sweeps."""

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
    given_axes, given_fixed = _files_beside(file.axes, folder), _files_beside(file.fixed, folder)
    axes = tuple(at(f"axes.{key}", axis_from_file, key, given) for key, given in given_axes.items())
    taken = {axis.key for axis in axes}
    if len(taken) < len(axes):
        raise ConfigError(f"{place('axes')}: axes: a key is there under its former name too")
    fixed = at("set", current_keys, given_fixed, FORMER_KEYS)
    for key, value in given_fixed.items():
        at(f"set.{key}", check_fixed, key, value, taken)
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
        hardware=_file_beside(file.hardware, folder),
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
        notes=former_notes(
            (*file.axes, *file.fixed, *file.derived), (*derived.values(), *constraints)
        ),
    )
    if sweep.aggregate is not None:
        at("aggregate", check_aggregate, sweep)
    if "hardware" not in file.model_fields_set:
        sweep = replace(sweep, hardware=at("trace", hardware_of_traces, sweep))
    for key in {"model", "text", "windows"} & file.model_fields_set:
        if not sweep.measures_loss:
            raise ConfigError(f"{place(key)}: {key} is of the loss, which is no objective here")
    return sweep


def _objectives(file: SweepFile) -> object:
    """Those of the file; by default with the loss for accuracy where it says on what to measure."""
    of_loss = {"model", "text", "windows"} & file.model_fields_set
    if of_loss and not file.loss and "objectives" not in file.model_fields_set:
        return list(LOSS_OBJECTIVES)
    return file.objectives


def _file_beside(name: str, folder: Path) -> str:
    """A file that lies beside the sweep file by its path; else the name as it is."""
    return str(folder / name) if (folder / name).is_file() else name


def _trace_beside(name: str, folder: Path) -> str:
    path = Path(name)
    beside = not path.is_absolute() and len(path.parts) > 1 and (folder / path).is_dir()
    return str(folder / path) if beside else name


def _files_beside(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Values of config keys, one or a list each; of files that lie beside the sweep file paths."""

    def beside(key: str, value: Any) -> Any:
        return _file_beside(value, folder) if names_file(HardwareConfig, key, value) else value

    return {
        key: [beside(key, each) for each in value]
        if isinstance(value, list)
        else beside(key, value)
        for key, value in given.items()
    }


_BESIDE = {"hardware": _file_beside, "trace": _trace_beside}


def _beside(axis: Axis, folder: Path) -> Axis:
    """An axis over files, with paths as those of the sweep's own hardware and trace."""
    find = _BESIDE.get(axis.key)
    if find is None or axis.values is None:
        return axis
    return replace(axis, values=tuple(find(str(value), folder) for value in axis.values))


def _check_derived(key: str, taken: set[str]) -> None:
    check_key(key)
    key = FORMER_KEYS[key].key if key in FORMER_KEYS else key
    if key in RUN_KEYS:
        raise ConfigError(f"derived.{key}: only a key of the config can be derived")
    if key in taken:
        raise ConfigError(f"{key}: has a value already, so it cannot be derived")
