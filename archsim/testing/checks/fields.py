"""A variant as somebody meets it: its description, its fields, its file written and read again."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic.fields import FieldInfo

from archsim.config.section import Section, leaf_paths
from archsim.config.writing import field_unit
from archsim.files import write_text
from archsim.hardware.load import load_hardware
from archsim.hardware.show import show_config
from archsim.testing.cases import Trial

FIELDS, FILES = "fields", "configs"


def check(trial: Trial) -> None:
    """Raises ConformError for what a file or a reader cannot do with the variant."""
    variant = trial.variant
    if not variant.description:
        raise trial.fault(FIELDS, "the class has no docstring, whose first line is listed")
    for key, info in _leaves(variant.fields, f"{variant.slot.section}."):
        if not info.description:
            raise trial.fault(FIELDS, f"{key} has no description")
        if info.annotation is float and field_unit(info) is None and not info.metadata:
            raise trial.fault(FIELDS, f"{key} has no unit (archsim.config.kinds), nor bounds")
    times = getattr(variant.cls, "times", None)
    for key, seconds in () if times is None else times(trial.hardware.config):
        known = {*leaf_paths(type(trial.hardware.config))}
        if key not in known or not seconds > 0:
            raise trial.fault(FIELDS, f"times: {key}, {seconds} s: expected a key and its seconds")
    with trial.during(FILES):
        _check_files(trial)


def _leaves(fields: Mapping[str, FieldInfo], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _leaves(kind.every_field(), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info


def _check_files(trial: Trial) -> None:
    """What is shown loads again to the same hash; a hardware goes to other processes."""
    hardware = trial.hardware
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "shown.yaml"
        write_text(file, show_config(hardware))
        again = load_hardware(file)
    if again.sha256 != hardware.sha256:
        raise trial.fault(FILES, "as shown it loads to another hash")
    if pickle.loads(pickle.dumps(hardware)).sha256 != hardware.sha256:
        raise trial.fault(FILES, "another hash after pickling, as worker processes do")
