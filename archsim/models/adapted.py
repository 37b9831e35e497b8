"""A model brought onto gain cells: a Hugging Face folder with scalers, stages and a manifest.

A result of ``archsim adapt`` is a folder that any reader of GPT-2 folders can open, plus

* ``scalers.safetensors``: ``q``, ``k``, ``v``, ``output``, each (layers, heads, 2) as (a, b);
* ``stages/NAME/``: weights and scalers after a stage, only the tensors that differ from the
  folder's own;
* ``adaptation.json``: what was done, from what, for which hardware, and a hash of every file;
* ``curves.json``, ``hardware.yaml`` and ``trace/``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import Field, ValidationError

from archsim.arguments import as_path
from archsim.config.voltages import VoltageRange
from archsim.errors import ConfigError, CorruptInputError, one_line
from archsim.files import atomic_path, data_folder, sha256_of_file, write_text
from archsim.hardware.load import DEFAULT_HARDWARE, Hardware, available_hardware, load_hardware
from archsim.models.gpt2 import Gpt2
from archsim.models.huggingface import (
    CONFIG_FILE,
    LIMITS,
    WEIGHTS_FILE,
    assemble,
    checkpoint_sha256,
    disassemble,
    load_gpt2,
)
from archsim.traces.checks import checked_scalers
from archsim.traces.folder import ADAPTATION_FILE, model_of, trace_folder
from archsim.traces.manifest import Environment, FileRecord, Record, Scalar, Sha256, Text
from archsim.traces.scalers import SCALED, Scaler
from archsim.traces.tensor_file import Limits, open_tensors
from archsim.traces.text_file import read_bytes

SCALERS_FILE = "scalers.safetensors"
CURVES_FILE, HARDWARE_FILE = "curves.json", "hardware.yaml"
STAGES_FOLDER = "stages"
"""A folder without it is whole: an installed package leaves the stages of training out."""
STAGES_FOLDER = "stages"
SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 1 << 20

SCALER_LIMITS = Limits(header_bytes=1 << 16, tensors=16, data_bytes=1 << 26)

Attention = Literal["software", "linear", "polynomial"]
"""What a stage's weights were made for: softmax, or the cell law of the arrays."""

RelativePath = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*){0,3}$")]


class StageRecord(Record):
    """One stage as it ended."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    title: Text
    attention: Attention
    weights: RelativePath | None = None
    scalers: RelativePath | None = None
    steps: int = Field(default=0, ge=0)
    minutes: float | None = Field(default=None, ge=0)
    settings: dict[Text, Scalar] = Field(default_factory=dict, max_length=64)


class AdaptationManifest(Record):
    """The content of ``adaptation.json``; file names are relative to its folder."""

    schema_version: Literal[1] = 1
    base_name: Text
    base_sha256: Sha256
    base_beside: bool = False
    """Whether the software model is the folder `base_name` beside this one, not a stage in it."""
    hardware: Text
    hardware_sha256: Sha256
    text_sha256: Sha256 | None = None
    stages: tuple[StageRecord, ...] = Field(min_length=1, max_length=32)
    files: dict[RelativePath, FileRecord] = Field(min_length=1, max_length=256)
    environment: Environment | None = None


@dataclass(frozen=True, eq=False)
class Stage:
    """A stage loaded: its record, the model with its weights, and its scalers if it has any."""

    record: StageRecord
    model: Gpt2
    scalers: dict[str, Scaler] | None


@dataclass(frozen=True, eq=False)
class AdaptedModel:
    """A result folder; `stage` reads the weights of one of its stages."""

    folder: Path
    manifest: AdaptationManifest
    model: Gpt2
    scalers: dict[str, Scaler]

    @cached_property
    def voltages(self) -> VoltageRange:
        """The cells that its scalers were made for."""
        return VoltageRange.of(hardware_for(self.folder).config.cell)

    @property
    def has_stages(self) -> bool:
        """Whether the weights and scalers of its stages are at hand."""
        return (self.folder / STAGES_FOLDER).is_dir()

    def stage(self, name: str) -> Stage | None:
        """The stage called `name`, or None if this adaptation had none, or has it no longer.

        Raises CorruptInputError if its files are damaged.
        """
        for record in self.manifest.stages:
            if record.name == name:
                if name == "software" and self.manifest.base_beside:
                    return Stage(record, self._base(), None)
                if _of_stages(record.weights, record.scalers) and not self.has_stages:
                    return None
                return self._load(record)
        return None

    def _base(self) -> Gpt2:
        beside = self.folder.resolve().parent / self.manifest.base_name
        if not beside.is_dir() or checkpoint_sha256(beside) != self.manifest.base_sha256:
            raise ConfigError(
                f"{self.folder}: was made from {self.manifest.base_name}, which must stand beside "
                "it, unchanged"
            )
        return load_gpt2(beside, self.model.weights.wte.dtype)

    @property
    def software(self) -> Gpt2:
        """The software model it was made from."""
        found = self.stage("software")
        if found is None:
            raise CorruptInputError(f"{self.folder / ADAPTATION_FILE}: has no stage software")
        return found.model

    def _load(self, record: StageRecord) -> Stage:
        model = self.model
        if record.weights is not None:
            path = self.folder / record.weights
            file = open_tensors(path, LIMITS)
            tensors = disassemble(self.model)
            for name, entry in file.tensors.items():
                if name not in tensors or entry.shape != tensors[name].shape:
                    raise CorruptInputError(
                        f"{path}: tensor {one_line(name, 80)!r} does not belong to this model"
                    )
                stored = file.read(name)
                if not np.isfinite(stored).all():
                    raise CorruptInputError(f"{path}: {name} is not finite")
                tensors[name] = stored.astype(tensors[name].dtype)
            model = assemble(self.model.config, tensors)
        scalers = None
        if record.scalers is not None:
            scalers = read_scalers(self.folder / record.scalers, model)
        return Stage(record, model, scalers)


def _of_stages(*names: str | None) -> bool:
    """Whether any of some files lies in the folder of the stages."""
    return any(name is not None and name.startswith(f"{STAGES_FOLDER}/") for name in names)


def model_folder(given: str | Path) -> Path:
    """The folder of a model: a shipped one's name (``reference-model``), else a path.

    Raises ConfigError for what is neither, a model in memory for instance.
    """
    path = Path(as_path(given, "model", "the path of a GPT-2 folder, or a shipped one's name"))
    if isinstance(given, str) and len(path.parts) == 1 and not path.exists():
        shipped = data_folder("traces") / path
        return shipped if (shipped / CONFIG_FILE).is_file() else path
    return path


def is_adapted(folder: str | Path) -> bool:
    """Whether a folder is a result of ``archsim adapt``."""
    return (Path(folder) / ADAPTATION_FILE).is_file()


def load_adapted(folder: str | Path, dtype: DTypeLike = np.float32) -> AdaptedModel:
    """A result folder, every file compared with the manifest's hash.

    The folder of the stages may be missing as a whole. Raises ConfigError if it is no result,
    CorruptInputError if a file is damaged or was changed.
    """
    folder = Path(folder)
    manifest = read_adaptation(folder)
    with_stages = (folder / STAGES_FOLDER).is_dir()
    for name, record in manifest.files.items():
        if _of_stages(name) and not with_stages:
            continue
        path = folder / name
        if not path.is_file():
            raise CorruptInputError(f"{path}: listed in {ADAPTATION_FILE}, but not there")
        if path.stat().st_size != record.bytes or sha256_of_file(path) != record.sha256:
            raise CorruptInputError(
                f"{path}: SHA-256 or size differs from {ADAPTATION_FILE}: changed or damaged; "
                "copy the folder or adapt again"
            )
    for needed in (WEIGHTS_FILE, SCALERS_FILE):
        if needed not in manifest.files:
            raise CorruptInputError(f"{folder / ADAPTATION_FILE}: does not list {needed}")
    model = load_gpt2(folder, dtype)
    return AdaptedModel(folder, manifest, model, read_scalers(folder / SCALERS_FILE, model))


def read_adaptation(folder: Path) -> AdaptationManifest:
    """The manifest of a result folder.

    Raises ConfigError if there is none, CorruptInputError for anything that is not one.
    """
    path = folder / ADAPTATION_FILE
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise CorruptInputError(f"{path}: larger than 1 MiB; a manifest is a small JSON file")
        return AdaptationManifest.model_validate_json(read_bytes(path, MAX_MANIFEST_BYTES))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(one_line(part, 80) for part in fault["loc"])
        raise CorruptInputError(
            f"{path}: not an adaptation manifest ({where}: {one_line(fault['msg'], 160)})"
        ) from None


def read_scalers(path: Path, model: Gpt2) -> dict[str, Scaler]:
    """Scalers of a file, checked to fit the model. Raises CorruptInputError if they do not."""
    file = open_tensors(path, SCALER_LIMITS)
    shape = (model.config.n_layer, model.config.n_head)
    found = {}
    for name in SCALED:
        entry = file.tensors.get(name)
        if entry is None or entry.shape != (*shape, 2):
            raise CorruptInputError(f"{path}: {name} must be (layers, heads, 2) = {(*shape, 2)}")
        pair = file.read(name)
        found[name] = (pair[..., 0], pair[..., 1])
    return checked_scalers(found, shape, str(path))


def write_scalers(path: Path, scalers: Mapping[str, Scaler]) -> None:
    """Write scalers as float32."""
    from safetensors.numpy import save

    pairs = {
        name: np.ascontiguousarray(np.stack(pair, axis=-1).astype(np.float32))
        for name, pair in scalers.items()
    }
    _write_bytes(path, save(pairs))


def write_weights(
    path: Path, model: Gpt2, dtype: DTypeLike, apart_from: Mapping[str, NDArray[Any]] | None = None
) -> bool:
    """Write the parameters of `model` in `dtype`; returns whether a file was written.

    With `apart_from` only those that differ from it once both are in `dtype`, if any do.
    """
    from safetensors.numpy import save

    tensors = {}
    for name, x in disassemble(model).items():
        stored = np.ascontiguousarray(x.astype(dtype))
        if not np.isfinite(stored).all():
            raise ConfigError(f"{path}: {name} is too large for {np.dtype(dtype).name}")
        if apart_from is None or not np.array_equal(stored, apart_from[name].astype(dtype)):
            tensors[name] = stored
    if not tensors:
        return False
    _write_bytes(path, save(tensors, metadata={"format": "pt"}))
    return True


def write_adaptation(folder: Path, manifest: AdaptationManifest) -> None:
    """Write ``adaptation.json``: last, so that a folder with it is whole."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n"
    write_text(folder / ADAPTATION_FILE, text)


def file_record(path: Path) -> FileRecord:
    return FileRecord(bytes=path.stat().st_size, sha256=sha256_of_file(path))


def _write_bytes(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def adapted_hardware(folder: str | Path) -> str:
    """The hardware a result folder was made for, to load: a shipped name if it is that one still.

    Else the config file in the folder; for any other folder the default's name.
    """
    path = Path(folder) / HARDWARE_FILE
    if not is_adapted(folder) or not path.is_file():
        return DEFAULT_HARDWARE
    manifest = read_adaptation(Path(folder))
    shipped = manifest.hardware in available_hardware()
    if shipped and load_hardware(manifest.hardware).sha256 == manifest.hardware_sha256:
        return manifest.hardware
    return str(path)


def hardware_for(
    folder: str | Path | None,
    config: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Hardware:
    """The hardware that a command runs: `config` if given, else what a folder was adapted to.

    `folder` is a model or None; one that was never adapted runs on the default. Raises ConfigError
    as `load_hardware` does.
    """
    if config is not None or folder is None:
        return load_hardware(DEFAULT_HARDWARE if config is None else config, overrides)
    name = adapted_hardware(folder)
    found = load_hardware(name, overrides)
    if name == str(Path(folder) / HARDWARE_FILE):  # every such file has the same name
        found = replace(found, name=f"{Path(folder).resolve().name}-hardware")
    return found


def trace_model(name_or_path: str | Path) -> Path | None:
    """The result of ``archsim adapt`` that a trace belongs to; None for any other trace.

    Raises ConfigError if there is no such trace.
    """
    return model_of(trace_folder(name_or_path))


def shipped_adapted() -> Path:
    """The reference model on the default hardware, as shipped."""
    return data_folder("traces") / "reference-adapted"


def shipped_text() -> Path:
    """Text that no shipped model was trained on."""
    return data_folder("traces") / "unseen.txt"
