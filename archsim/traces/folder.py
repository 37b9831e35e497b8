"""Where traces lie: the folder that a name or a path means."""

from __future__ import annotations

import re
from pathlib import Path

from archsim.config.section import suggestion
from archsim.errors import ConfigError, one_line
from archsim.files import data_folder
from archsim.traces.manifest import DATA_FILE, MANIFEST_FILE, NAME_PATTERN

GIVEN = "a Trace, the name of a shipped one, or the path of a folder"

ADAPTATION_FILE = "adaptation.json"
ADAPTED_TRACE = "trace"
"""Folder of the trace inside a result of ``archsim adapt``."""


def default_trace_name() -> str:
    """The trace that commands use when none is named."""
    return "reference-adapted"


def trace_folder(name_or_path: str | Path) -> Path:
    """The folder of a trace, found as `load_trace` says. Raises ConfigError if there is none."""
    if not str(name_or_path).strip():
        raise ConfigError("trace: an empty name; give a shipped name or a folder")
    path = Path(name_or_path)
    bare = isinstance(name_or_path, str) and re.fullmatch(NAME_PATTERN, name_or_path)
    if bare:
        shipped = data_folder("traces")
        for folder in (shipped / path, shipped / path / ADAPTED_TRACE):
            if (folder / MANIFEST_FILE).is_file():
                return folder
    if path.name in (MANIFEST_FILE, DATA_FILE) and path.is_file():
        return path.parent
    for folder in (path, path / ADAPTED_TRACE):
        if (folder / MANIFEST_FILE).is_file():
            return folder
    if path.is_dir():
        raise ConfigError(f"{path}: no {MANIFEST_FILE} in this folder; record a trace into it")
    if not bare:
        raise ConfigError(f"{one_line(path, 200)}: no such trace folder")
    known = sorted(
        {entry.parent.name for entry in shipped.glob(f"*/{MANIFEST_FILE}")}
        | {entry.parent.parent.name for entry in shipped.glob(f"*/{ADAPTED_TRACE}/{MANIFEST_FILE}")}
    )
    listed = f" (shipped: {', '.join(known)})" if known else ""
    raise ConfigError(f"no trace named {name_or_path!r}{suggestion(path.name, known)}{listed}")


def model_of(folder: Path) -> Path | None:
    """The result of ``archsim adapt`` that a trace folder belongs to; None for any other."""
    model = folder.resolve().parent
    return model if (model / ADAPTATION_FILE).is_file() else None


def refuse_existing(folder: Path, force: bool = False) -> None:
    """Raise ConfigError if `folder` holds a trace already and `force` is not given."""
    for name in (MANIFEST_FILE, DATA_FILE):
        if not force and (folder / name).exists():
            raise ConfigError(f"{folder / name}: exists already; use --force to replace it")
