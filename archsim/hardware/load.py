"""The hardware description: its sections put together, read from a file (FACTS 1 to 3).

A `Hardware` is what `load_hardware` returns: the typed values, where each came from, and a hash.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from archsim.arguments import as_mapping, as_path
from archsim.config.document import Document, Provenance, read_document
from archsim.config.file_content import read_files
from archsim.config.former import make_current
from archsim.config.loading import apply_overrides, validate_document
from archsim.config.quantity import Quantity
from archsim.config.section import field_of, inactive_leaves, leaf_paths, value_at
from archsim.config.voltages import SuppliedVoltage, in_volts
from archsim.errors import ConfigError, one_line
from archsim.files import data_folder
from archsim.hardware.former_keys import FORMER_KEYS
from archsim.hardware.sections import HardwareConfig

DEFAULT_HARDWARE = "gaincell-28nm"

GIVEN = "a Hardware, the name of a shipped config, or the path of a YAML file"


@dataclass(frozen=True, eq=False)
class Hardware:
    """A validated config with the source of every number."""

    name: str
    config: HardwareConfig
    provenance: Mapping[str, Provenance]
    document: Document

    def __repr__(self) -> str:
        return f"<Hardware {self.name}, {self.sha256[:12]}>"

    def __eq__(self, other: object) -> bool:
        """The same name, values and sources."""
        if not isinstance(other, Hardware):
            return NotImplemented
        mine, theirs = self._identity, other._identity
        return mine == theirs

    def __hash__(self) -> int:
        return hash(self.sha256)

    @property
    def _identity(self) -> tuple[object, ...]:
        return self.name, self.config, dict(self.provenance), self.document.path

    @property
    def is_published(self) -> bool:
        """Whether this is the shipped description of the published design (with any overrides)."""
        own = self.document.path
        return own is not None and own.resolve() == hardware_path(DEFAULT_HARDWARE).resolve()

    @property
    def overridden(self) -> list[str]:
        """Keys set by override."""
        return sorted(k for k, found in self.provenance.items() if found.place == f"--set {k}")

    @property
    def unused_overrides(self) -> list[str]:
        """Keys set by override that the selected variants do not use."""
        return sorted({*self.overridden} & set(inactive_leaves(self.config)))

    def changed(self, overrides: Mapping[str, Any]) -> Hardware:
        """The same hardware with dotted keys set; raises ConfigError as `load_hardware` does."""
        return _validated(self.name, deepcopy(self.document), overrides)

    @property
    def notes(self) -> tuple[str, ...]:
        """What its voltages leave behind (`archsim.hardware.conditions`); what its variants take
        for granted; keys renamed since.
        """
        from archsim.hardware.conditions import condition_notes

        variants = self.config.variant_notes()
        return (*condition_notes(self), *variants, *self.document.notes.values())

    def leaves(self, parameter: str) -> list[str]:
        """Dotted paths of a leaf, or of all leaves of a section."""
        return [
            path
            for path in leaf_paths(HardwareConfig)
            if path == parameter or path.startswith(f"{parameter}.")
        ]

    def written(self, dotted: str) -> Any:
        """A leaf as the file or the override has it, not yet read; None where it is a default."""
        value: Any = self.document.values
        for part in dotted.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    @cached_property
    def sha256(self) -> str:
        """Hash of the resolved values in SI units: the same hardware, however it was written."""
        left_out: dict[str, Any] = {
            "description": True,
            # they decide no figure, only what is said about them
            "cell": {"fit_supply", "fit_mid_rail", "fit_input_voltage"},
        }
        # keeps the hash of configs from before there was a choice
        if self.config.readout.model == "charge_to_pulse":
            left_out["readout"] = True
        if self.config.refresh.model == "none":
            left_out["refresh"] = True
        if self.config.converter.law == "hard_sigmoid":
            left_out["converter"] = {"law", *self.config.converter.inactive()}
        values = self.config.model_dump(exclude=left_out)
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def source(self, dotted: str) -> str:
        """The source of a leaf; a default of the schema, given nowhere, is ``assumed``."""
        found = self.provenance.get(dotted)
        return found.source if found is not None else "assumed"

    def bounds(self, dotted: str) -> tuple[float, float]:
        """Low and high of a number that the config gives, in SI units; where none, its value."""
        return _bounds(dotted, self.provenance[dotted], self.config)


def available_hardware() -> list[str]:
    """Names of the shipped configs."""
    from archsim.config.published import PUBLISHED_FILE

    found = data_folder("hwconfigs").glob("*.yaml")
    return sorted(path.stem for path in found if path.name != PUBLISHED_FILE)


def hardware_path(name_or_path: str | Path) -> Path:
    """The file of a shipped config's name or of a path.

    Raises ConfigError if there is neither.
    """
    text = str(name_or_path)
    if not text.strip():
        raise ConfigError("config: an empty name; give a shipped name or a YAML file")
    path = Path(text)
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        if not path.is_file():
            raise ConfigError(f"{text}: no such config file")
        return path
    shipped, known = data_folder("hwconfigs") / f"{text}.yaml", available_hardware()
    if text not in known:
        close = difflib.get_close_matches(text, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"shipped: {', '.join(known)}"
        raise ConfigError(f"{text}: no such config; {hint}")
    return shipped


def load_hardware(
    name_or_path: str | Path = DEFAULT_HARDWARE, overrides: Mapping[str, Any] | None = None
) -> Hardware:
    """Load a shipped config by name, or a YAML file, with dotted-key `overrides` as in ``--set``.

    Raises ConfigError with file:line for anything that does not fit.
    """
    path = hardware_path(as_path(name_or_path, "hardware", GIVEN))
    document = read_document(path, each=_made_whole)
    return _validated(path.stem, document, {} if overrides is None else overrides)


def _made_whole(own: Document) -> None:
    """One file by the keys of now, and with the content of the files that it names."""
    make_current(own, FORMER_KEYS)
    folder = Path() if own.path is None else own.path.parent
    read_files(own, HardwareConfig, folder)


def as_hardware(given: Hardware | str | Path) -> Hardware:
    """`given`, loaded if it is a name or a path. Raises ConfigError as `load_hardware` does."""
    return given if isinstance(given, Hardware) else load_hardware(given)


def _validated(name: str, document: Document, overrides: Mapping[str, Any]) -> Hardware:
    overrides = as_mapping(overrides, "overrides", "{'controller.clock': '2 GHz'}")
    apply_overrides(document, overrides, HardwareConfig, FORMER_KEYS)
    read_files(document, HardwareConfig, Path())
    config = validate_document(document, HardwareConfig)
    known = set(leaf_paths(HardwareConfig))
    for key, found in document.provenance.items():
        if key not in known:
            raise ConfigError(
                f"{found.place}: {key} is a section: give a source to each value in it"
            )
        _check_bounds(key, found, config)
    return Hardware(name, config, document.provenance, document)


def _check_bounds(key: str, found: Provenance, config: HardwareConfig) -> None:
    """Raises ConfigError unless low <= value <= high, in units that fit the value."""
    if found.low is not None or found.high is not None:
        _bounds(key, found, config)


def _bounds(key: str, found: Provenance, config: HardwareConfig) -> tuple[float, float]:
    """Low and high of a leaf, its value where there is none; ConfigError as `_check_bounds`."""
    info = field_of(HardwareConfig, key)
    quantity = next((q for q in info.metadata if isinstance(q, Quantity)), None)
    if info.annotation == float | Literal["auto"]:
        quantity = Quantity("s")
    value = value_at(config, key)
    low, high = value, value
    if value == "auto":
        raise ConfigError(f"{found.place}: {key}: auto goes without low and high")
    try:
        if found.low is not None:
            low = _bound(found.low, quantity, config)
        if found.high is not None:
            high = _bound(found.high, quantity, config)
    except ValueError as error:
        raise ConfigError(f"{found.place}: {key}: bounds: {one_line(error, 160)}") from None
    if not low <= value <= high:
        raise ConfigError(f"{found.place}: {key}: the value is not between low and high")
    return low, high


def _bound(written: object, quantity: Quantity | None, config: HardwareConfig) -> float:
    if quantity is None:
        return float(str(written))
    follows = isinstance(quantity, SuppliedVoltage)
    return quantity.parse(in_volts(written, config.cell.supply) if follows else written)
