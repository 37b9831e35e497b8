"""Keys that had another name in the version before: read as the new ones, with a line that says so.

What a key was called, and what its words were, is a table of the model (`FormerKeys`); here it is
applied to files and overrides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from archsim.config.document import Document
from archsim.errors import ConfigError


@dataclass(frozen=True)
class NewKey:
    """What a key is called now, and its words where they changed too."""

    key: str
    words: Mapping[str, str] = field(default_factory=dict)

    def value(self, former: Any) -> Any:
        """A value of the former key as the new one has it."""
        return self.words.get(former, former) if isinstance(former, str) else former


FormerKeys = Mapping[str, NewKey]


def former_note(former: str, new: NewKey) -> str:
    """The line that tells a user what to write."""
    words = ", ".join(f"{old} = {now}" for old, now in new.words.items())
    return (
        f"{former} is called {new.key} now{f' ({words})' if words else ''}: "
        "the old name works in this version only"
    )


def current_keys(values: Mapping[str, Any], former: FormerKeys) -> dict[str, Any]:
    """Dotted keys and values by their new names; ConfigError where a key has both."""
    found = {}
    for key, value in values.items():
        new = former.get(key)
        if new is not None and new.key in values:
            raise ConfigError(f"{key} is called {new.key} now, and both are given: drop {key}")
        found[key if new is None else new.key] = value if new is None else new.value(value)
    return found


def make_current(document: Document, former: FormerKeys) -> None:
    """Give the leaves of one file their new names, and note it in the document.

    Raises ConfigError with file:line where a leaf is there under both.
    """
    for old, new in former.items():
        if old not in document.provenance:
            continue
        found = document.provenance.pop(old)
        place = document.places.pop(old)
        if new.key in document.provenance:
            raise ConfigError(
                f"{place}: {old} is called {new.key} now, and both are given: drop {old}"
            )
        document.provenance[new.key] = found
        section = new.key.rpartition(".")[0]
        document.places.setdefault(section, place)
        document.places[new.key] = place
        _put(document.values, new.key, new.value(_take(document.values, old)))
        document.notes[old] = former_note(old, new)


def _take(values: dict[str, Any], dotted: str) -> Any:
    """Remove a leaf, and its sections where they are empty then."""
    name, _, rest = dotted.partition(".")
    if not rest:
        return values.pop(name)
    value = _take(values[name], rest)
    if not values[name]:
        del values[name]
    return value


def _put(values: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, name = dotted.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[name] = value
