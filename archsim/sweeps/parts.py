"""Variants from outside that points are built of: a worker must know them, and results of another
source are not reused.

The source of a variant is the file of its module, or all files of the package that it stands in.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from archsim.config.section import Section, values_of
from archsim.config.variant_section import VariantSection
from archsim.config.variants import BUILT_IN, Variant, entry, slot_named, slots, variants
from archsim.errors import ArchsimError, ConfigError, one_line


@dataclass(frozen=True)
class Part:
    """A variant that does not come with archsim: its slot, its name, and the module it is in."""

    slot: str
    name: str
    module: str

    def __str__(self) -> str:
        return f"{slot_named(self.slot).key} {self.name} of {self.module}"


def _part(known: Variant) -> Part:
    return Part(known.slot.name, known.name, known.cls.__module__)


def parts_of(config: Section) -> tuple[Part, ...]:
    """The variants from outside that a hardware is built of."""
    chosen = [s.chosen for s in values_of(config).values() if isinstance(s, VariantSection)]
    return tuple(_part(each) for each in chosen if each.origin != BUILT_IN)


def parts_on(axes: Iterable[tuple[str, Sequence[object]]]) -> tuple[Part, ...]:
    """Those that the values of a sweep's axes may choose; unknown names are left to the points."""
    found = []
    by_key = {slot.key: slot.name for slot in slots()}
    for key, values in axes:
        for value in values if key in by_key else ():
            with suppress(ConfigError):
                known = entry(by_key[key], str(value))
                found += [] if known.origin == BUILT_IN else [_part(known)]
    return tuple(found)


def registered_parts() -> tuple[Part, ...]:
    """All of them that are registered now, used or not."""
    known = [each for slot in slots() for each in variants(slot.name)]
    return tuple(_part(each) for each in known if each.origin != BUILT_IN)


def sources_of(parts: Iterable[Part]) -> list[str]:
    """Each part with a hash of its source, for a key.

    Raises ConfigError for one that is in no file: neither could a worker process have it.
    """
    sources = []
    for part in sorted(set(parts), key=str):
        digest = hashlib.sha256()
        for file in _files(part):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        sources.append(f"{part}: {digest.hexdigest()}")
    return sources


def _files(part: Part) -> Iterator[Path]:
    """The files of a part's module, or of the package that it stands in."""
    top = sys.modules.get(part.module.partition(".")[0])
    if (folders := getattr(top, "__path__", None)) is not None:
        for folder in folders:
            yield from sorted(Path(folder).rglob("*.py"))
        return
    file = getattr(sys.modules.get(part.module), "__file__", None)
    if file is None or not Path(file).is_file():
        raise ConfigError(
            f"{part} is in no file, from which worker processes could import it: put it in a module"
        )
    yield from sorted(_with_neighbours(Path(file), set()))


def _with_neighbours(file: Path, found: set[Path]) -> set[Path]:
    """A module's file, and those beside or below it that it imports, at any depth."""
    found.add(file)
    for node in ast.walk(ast.parse(file.read_bytes())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        for name in names:
            other = getattr(sys.modules.get(name), "__file__", None)
            path = None if other is None else Path(other)
            if path is not None and path not in found and path.is_relative_to(file.parent):
                _with_neighbours(path, found)
    return found


def make_known(parts: Iterable[Part]) -> None:
    """Import what a point is built of, in a worker; raises ArchsimError for what cannot be."""
    for part in parts:
        try:
            _import(part)
        except Exception as error:  # whatever stands in the module
            raise ArchsimError(
                f"a worker process does not know {part} ({one_line(error, 160)}): register it in "
                "a module that can be imported, outside `if __name__ == '__main__'`"
            ) from None


def _import(part: Part) -> None:
    with suppress(ConfigError):
        entry(part.slot, part.name)  # also of an entry point
        return
    importlib.import_module(part.module)
    entry(part.slot, part.name)
