"""A YAML file as plain values and where each came from, with ``extends``.

A leaf of a shipped YAML file is written ``{value: 15 ns, source: text, note: ...}``. Reading splits
it: the value stays, the rest goes to a `Provenance` keyed by the dotted path. A leaf written
plainly (``15 ns``) has the source ``user``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from archsim.errors import ConfigError, one_line
from archsim.files import data_folder

Source = Literal["text", "code", "summary", "derived", "calibrated", "assumed", "user"]
"""Where a number comes from (FACTS tags); *calibrated* is fitted to a published number."""

SOURCES: tuple[str, ...] = get_args(Source)

MAX_BYTES, MAX_DEPTH = 1 << 20, 24
_LEAF_KEYS = {"value", "source", "note", "low", "high"}


@dataclass(frozen=True)
class Provenance:
    """Where one leaf came from: its source, a note, its bounds as written, and its place."""

    source: Source
    place: str
    note: str = ""
    low: object = None
    high: object = None


@dataclass
class Document:
    """A config file after ``extends`` and overrides: plain values and their provenance."""

    values: dict[str, Any]
    provenance: dict[str, Provenance] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    path: Path | None = None
    notes: dict[str, str] = field(default_factory=dict)
    """Lines for whoever wrote the file, by the key that they are about."""

    def updated(self, own: Document) -> Document:
        """This document with everything that `own` says in its place."""
        _merge(self.values, own.values)
        for dotted in own.provenance:
            self.provenance.pop(dotted, None)
        self.provenance.update(own.provenance)
        self.places.update(own.places)
        self.notes.update(own.notes)
        self.path = own.path
        return self


def read_document(
    path: Path, root: Path | None = None, each: Callable[[Document], None] | None = None
) -> Document:
    """Read one YAML file and the file it ``extends`` (one parent a file, same folder or below).

    `each` is called with what each file says itself, before they are put together.
    Raises ConfigError with file:line for unreadable files, bad YAML, and malformed leaves.
    """
    return _read(path, (root or path.parent).resolve(), (), each)


def _read(
    path: Path,
    root: Path,
    seen: tuple[Path, ...],
    each: Callable[[Document], None] | None,
) -> Document:
    tree = _parse_yaml(path)
    parent = tree.pop("extends", None)
    if parent is None:
        base = Document({}, path=path)
    else:
        target, below = path.parent / str(parent), root
        shipped = data_folder("hwconfigs")
        if (shipped / f"{parent}.yaml").is_file() and re.fullmatch(r"[\w-]+", str(parent)):
            target, below = shipped / f"{parent}.yaml", shipped.resolve()
        if not isinstance(parent, str) or not target.resolve().is_relative_to(below):
            raise ConfigError(f"{path}: extends must name a shipped config or a file below {root}")
        if target.resolve() in seen or target.resolve() == path.resolve():
            raise ConfigError(f"{path}: extends goes round in a circle")
        if not target.is_file():
            raise ConfigError(f"{path}: extends {parent}: no such shipped config, no such file")
        base = _read(target, below, (*seen, path.resolve()), each)
    own = Document({}, path=path)
    _collect(tree, (), str(path), own, own.values, 0)
    if each is not None:
        each(own)
    return base.updated(own)


_REFUSED = re.compile(r"[&*!]|<<|^%", re.MULTILINE)
"""Without one of these there is no anchor, alias, tag, merge key or directive."""


def _parse_yaml(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.tokens import (
        AliasToken,
        AnchorToken,
        DirectiveToken,
        ScalarToken,
        TagToken,
    )

    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: larger than 1 MiB; a config is a small YAML file")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    try:
        suspect = _REFUSED.search(text)  # reading tokens takes as long as reading the file
        for token in YAML(typ="rt", pure=True).scan(text) if suspect else ():
            where = f"{path}:{token.start_mark.line + 1}"
            if isinstance(token, AnchorToken | AliasToken):  # a few nested ones can fill the memory
                raise ConfigError(f"{where}: anchors and aliases are not accepted; use extends")
            if isinstance(token, TagToken | DirectiveToken):
                raise ConfigError(f"{where}: tags and directives are not accepted")
            if isinstance(token, ScalarToken) and token.value == "<<":
                raise ConfigError(f"{where}: merge keys are not accepted; use extends")
        tree = YAML(typ="rt", pure=True).load(text)
    except (YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        problem = getattr(error, "problem", None) or type(error).__name__
        raise ConfigError(f"{where}: not valid YAML ({one_line(problem, 120)})") from None
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path}: a config is a mapping of sections, for example 'window: 1024'")
    return tree


def _plain(value: Any) -> Any:
    """A ruamel scalar or sequence as a plain Python object."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


def _collect(
    tree: Any,
    path: tuple[str, ...],
    file: str,
    document: Document,
    into: dict[str, Any],
    depth: int,
) -> None:
    if depth > MAX_DEPTH:
        raise ConfigError(f"{file}: nested deeper than {MAX_DEPTH} levels")
    for key in tree:
        name, value = str(key), tree[key]
        dotted = ".".join((*path, name))
        try:
            line = tree.lc.key(key)[0] + 1
        except (AttributeError, KeyError):
            line = 1
        place = f"{file}:{line}"
        document.places[dotted] = place
        if isinstance(value, Mapping) and "value" in value:
            into[name], document.provenance[dotted] = _leaf(value, dotted, place)
        elif isinstance(value, Mapping):
            into[name] = {}
            _collect(value, (*path, name), file, document, into[name], depth + 1)
        else:
            into[name] = _plain(value)
            document.provenance[dotted] = Provenance("user", place)


def _leaf(value: Mapping[str, Any], dotted: str, place: str) -> tuple[Any, Provenance]:
    unknown = set(value) - _LEAF_KEYS
    if unknown:
        raise ConfigError(
            f"{place}: {dotted}: unknown key {sorted(unknown)[0]!r} beside value "
            f"(known: {', '.join(sorted(_LEAF_KEYS))})"
        )
    if isinstance(value["value"], Mapping):
        raise ConfigError(f"{place}: {dotted}: value must be a number, a text, or a list")
    source = value.get("source", "user")
    if source not in SOURCES:
        known = ", ".join(SOURCES)
        raise ConfigError(f"{place}: {dotted}: source {source!r} is not one of {known}")
    return _plain(value["value"]), Provenance(
        source,
        place,
        str(value.get("note", "")),
        _plain(value.get("low")),
        _plain(value.get("high")),
    )


def _merge(base: dict[str, Any], own: Mapping[str, Any]) -> None:
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value
