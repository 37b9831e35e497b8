"""What a reader must know of a run before its figures: what was fitted for something else.

One home for these lines: every command prints them, and every document has them under ``notes``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsim.config.section import leaf_paths, value_at
from archsim.config.voltages import VoltageRange
from archsim.function import functional_keys
from archsim.hardware.load import Hardware
from archsim.hardware.sections import HardwareConfig
from archsim.hardware.show import leaf_text

MOST_DIFFERENCES = 4


@dataclass(frozen=True)
class Difference:
    """A parameter that decides the function, and its values as text: there and here."""

    parameter: str
    there: str
    here: str

    def __str__(self) -> str:
        return f"{self.parameter} {self.there} there, {self.here} here"


@dataclass(frozen=True)
class AdaptedTo:
    """The hardware that a result of ``archsim adapt`` is for, beside the one it runs on."""

    folder: str
    hardware: str
    config_sha256: str
    differences: tuple[Difference, ...]

    @property
    def here(self) -> bool:
        """Whether it runs on what it was adapted to, as far as the function goes."""
        return not self.differences

    @property
    def whom(self) -> str:
        """Which model was adapted to which hardware, where it is another one."""
        return f"Model {self.folder} was adapted to other hardware ({self.hardware})"

    @property
    def shown(self) -> tuple[Difference, ...]:
        """The differences that a line has room for."""
        return self.differences[:MOST_DIFFERENCES]

    def note(self) -> str:
        """One line where it is another hardware; empty where it is not."""
        if self.here:
            return ""
        more = len(self.differences) - MOST_DIFFERENCES
        tail = f"; {more} more" if more > 0 else ""
        return f"{self.whom}: {'; '.join(map(str, self.shown))}{tail}"

    def document(self) -> dict[str, Any]:
        return {
            "model": self.folder,
            "hardware": self.hardware,
            "config_sha256": self.config_sha256,
            "differences": [str(each) for each in self.differences],
        }


def adapted_to(folder: Path, hardware: Hardware, head_dim: int) -> AdaptedTo:
    """How the hardware that a result folder is for differs from `hardware`.

    Raises ConfigError or CorruptInputError if the folder's files cannot be read.
    """
    from archsim.models.adapted import read_adaptation

    manifest = read_adaptation(folder)
    differences: tuple[Difference, ...] = ()
    if manifest.hardware_sha256 != hardware.sha256:
        there = _folder_hardware(folder.resolve(), manifest.hardware_sha256)
        differences = tuple(_differences(there, hardware, head_dim))
    return AdaptedTo(
        folder.resolve().name, manifest.hardware, manifest.hardware_sha256, differences
    )


@functools.lru_cache(maxsize=8)
def _folder_hardware(folder: Path, config_sha256: str) -> Hardware:
    """A folder's hardware, read once for all points of a sweep."""
    from archsim.models.adapted import hardware_for

    return hardware_for(folder)


def _differences(there: Hardware, here: Hardware, head_dim: int) -> Iterator[Difference]:
    decisive = dict.fromkeys(
        key for each in (there, here) for key in functional_keys(each.config, head_dim)
    )
    for name in leaf_paths(HardwareConfig):
        if name in decisive and value_at(there.config, name) != value_at(here.config, name):
            yield Difference(name, leaf_text(there, name), leaf_text(here, name))


def run_notes(
    hardware: Hardware, made_for: VoltageRange, adapted: AdaptedTo | None = None
) -> list[str]:
    """Lines for a run of scalers `made_for` some range, of a model `adapted` to some hardware."""
    notes = list(hardware.notes)
    here = VoltageRange.of(hardware.config.cell)
    if made_for != here:
        notes.append(f"Scalers were made for cells of {made_for} and are rescaled to {here}")
    if adapted is not None and (line := adapted.note()):
        notes.append(line)
    return notes
