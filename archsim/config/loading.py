"""YAML to validated model: units, sources, ``extends``, ``--set``, and errors with file:line.

A leaf of a shipped YAML file is written ``{value: 15 ns, source: text, note: ...}``. Loading splits
it: the value goes to one typed field, the rest to a `Provenance` keyed by the dotted path. A leaf
written plainly (``15 ns``) has the source ``user``, and so has one given by an override.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from archsim.errors import ConfigError, one_line
from archsim.files import data_folder

Source = Literal["text", "code", "summary", "derived", "calibrated", "assumed", "user"]
"""Where a number comes from (FACTS tags); *calibrated* is fitted to a published number."""

SOURCES: tuple[str, ...] = get_args(Source)

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES, MAX_DEPTH = 1 << 20, 24
_LEAF_KEYS = {"value", "source", "note", "low", "high"}


class Section(BaseModel):
    """Base of every config section: unknown keys are errors, instances never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    def inactive(self) -> frozenset[str]:
        """Fields that the selected variant does not use, so nobody need read them."""
        return frozenset()

    def __getattribute__(self, name: str) -> Any:
        if _read_logs and not name.startswith("_") and name in type(self).model_fields:
            for log in _read_logs:
                log.add((id(self), name))
        return super().__getattribute__(name)


_read_logs: list[set[tuple[int, str]]] = []


@contextmanager
def reads_recorded() -> Iterator[set[tuple[int, str]]]:
    """Collects (id of section, field) of every config field read inside the block."""
    log: set[tuple[int, str]] = set()
    _read_logs.append(log)
    try:
        yield log
    finally:
        _read_logs[:] = [other for other in _read_logs if other is not log]


def unread_leaves(section: Section, reads: set[tuple[int, str]], prefix: str = "") -> list[str]:
    """Dotted paths of leaves that nothing in `reads` touched, selected variants only."""
    unread = []
    inactive = section.inactive()
    for name in type(section).model_fields:
        value = section.__dict__[name]
        if name in inactive:
            continue
        if isinstance(value, Section):
            unread += unread_leaves(value, reads, f"{prefix}{name}.")
        elif (id(section), name) not in reads:
            unread.append(f"{prefix}{name}")
    return unread


def is_read(section: Section, dotted: str, reads: set[tuple[int, str]]) -> bool:
    """Whether the leaf of a dotted path is among the `reads` of this very config."""
    *sections, name = dotted.split(".")
    for part in sections:
        section = section.__dict__[part]
    return (id(section), name) in reads


def parameters_read(section: Section, formula: Callable[[], object]) -> tuple[str, ...]:
    """Dotted paths of the leaves of `section` that `formula` reads, in their order."""
    with reads_recorded() as reads:
        formula()
    return tuple(_read_leaves(section, reads))


def _read_leaves(section: Section, reads: set[tuple[int, str]], prefix: str = "") -> Iterator[str]:
    for name in type(section).model_fields:
        if (id(section), name) in reads:
            value = section.__dict__[name]
            if isinstance(value, Section):
                yield from _read_leaves(value, reads, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}"


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

    def updated(self, own: Document) -> Document:
        """This document with everything that `own` says in its place."""
        _merge(self.values, own.values)
        for dotted in own.provenance:
            self.provenance.pop(dotted, None)
        self.provenance.update(own.provenance)
        self.places.update(own.places)
        self.path = own.path
        return self


def read_document(path: Path, root: Path | None = None) -> Document:
    """Read one YAML file and the file it ``extends`` (one parent a file, same folder or below).

    Raises ConfigError with file:line for unreadable files, bad YAML, and malformed leaves.
    """
    return _read(path, (root or path.parent).resolve(), ())


def _read(path: Path, root: Path, seen: tuple[Path, ...]) -> Document:
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
        base = _read(target, below, (*seen, path.resolve()))
    own = Document({}, path=path)
    _collect(tree, (), str(path), own, own.values, 0)
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


def parse_assignment(text: str) -> tuple[str, Any]:
    """``key.path=value`` of ``--set``: the dotted key and the value read as YAML 1.2.

    Raises ConfigError if there is no ``=``, the key is malformed, or the value is no YAML scalar
    or list.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    key, separator, raw = text.partition("=")
    key = key.strip()
    if not separator or not re.fullmatch(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*", key):
        raise ConfigError(f"--set {one_line(text, 80)!r}: write key.path=value, like window=256")
    try:
        value = YAML(typ="safe", pure=True).load(raw)
    except (YAMLError, RecursionError, ValueError):
        raise ConfigError(f"--set {key}: cannot read the value {one_line(raw, 60)!r}") from None
    if not (value is None or isinstance(value, bool | int | float | str | list)):
        raise ConfigError(f"--set {key}: the value must be a number, a text with a unit, or a list")
    return key, value


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Every ``--set`` of a command line; the last one of a key wins."""
    return dict(parse_assignment(text) for text in texts)


def field_of(model: type[BaseModel], dotted: str) -> FieldInfo:
    """The field a dotted path leads to; the path must be one of `leaf_paths`."""
    *sections, name = dotted.split(".")
    for section in sections:
        annotation = model.model_fields[section].annotation
        assert isinstance(annotation, type)
        model = annotation
    return model.model_fields[name]


def inactive_leaves(section: Section, prefix: str = "") -> Iterator[str]:
    """Dotted paths of leaves that the selected variants do not use."""
    inactive = section.inactive()
    for name in type(section).model_fields:
        value = section.__dict__[name]
        if isinstance(value, Section):
            whole = leaf_paths(type(value), f"{prefix}{name}.")
            yield from whole if name in inactive else inactive_leaves(value, f"{prefix}{name}.")
        elif name in inactive:
            yield f"{prefix}{name}"


def with_leaf(section: Model, dotted: str, value: object) -> Model:
    """A copy of a section with one leaf changed, unchecked: the value must fit."""
    name, _, rest = dotted.partition(".")
    changed = with_leaf(section.__dict__[name], rest, value) if rest else value
    return section.model_copy(update={name: changed})


def leaf_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted paths of every leaf field of a config model."""
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from leaf_paths(annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def suggestion(word: str, known: list[str]) -> str:
    """``; did you mean 'x'?`` or nothing."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not close:  # the right leaf name under the wrong section is the other common slip
        close = [path for path in known if path.rpartition(".")[2] == word.rpartition(".")[2]][:1]
    return f"; did you mean {close[0]!r}?" if close else ""


def apply_overrides(
    document: Document, overrides: Mapping[str, Any], model: type[BaseModel]
) -> None:
    """Set dotted keys in `document`; the source of each becomes ``user``.

    Raises ConfigError for a key the model does not have, with the nearest known one.
    """
    known = list(leaf_paths(model))
    for dotted, value in overrides.items():
        if dotted not in known:
            raise ConfigError(f"unknown key {dotted!r}{suggestion(dotted, known)}")
        *sections, name = dotted.split(".")
        target = document.values
        for section in sections:
            target = target.setdefault(section, {})
        # a script's loop variable is often a numpy scalar
        target[name] = value.item() if type(value).__module__ == "numpy" else value
        document.provenance[dotted] = Provenance("user", f"--set {dotted}")
        document.places[dotted] = f"--set {dotted}"


def validate_document(document: Document, model: type[Model]) -> Model:
    """The typed model of a document; the first fault becomes one ConfigError with its place."""
    try:
        return model.model_validate(document.values)
    except ValidationError as error:
        raise ConfigError(_first_fault(error, document, model)) from None


def _first_fault(error: ValidationError, document: Document, model: type[BaseModel]) -> str:
    fault = error.errors(include_url=False)[0]
    parts = [str(part) for part in fault["loc"] if not str(part).startswith("function-")]
    dotted = ".".join(parts)
    found_in = [key for key in document.places if key in fault["msg"]]
    named = [k for k in found_in if not any(other.startswith(f"{k}.") for other in found_in)]
    named.sort(key=lambda key: not document.places[key].startswith("--set"))
    place = document.places[named[0]] if named and not parts else str(document.path)
    for count in range(len(parts), 0, -1):
        found = document.places.get(".".join(parts[:count]))
        if found is not None:
            place = found
            break
    more = error.error_count() - 1
    tail = f" (and {more} more)" if more else ""
    if fault["type"] == "extra_forbidden":
        return f"{place}: unknown key {dotted!r}{suggestion(dotted, list(leaf_paths(model)))}{tail}"
    if fault["type"] in {"model_type", "model_attributes_type"}:
        return f"{place}: {dotted} is a section: write its keys below it{tail}"
    if fault["type"] == "missing":
        return f"{place}: {dotted} is missing{tail}"
    message = fault["msg"].removeprefix("Value error, ")
    given = fault["input"]
    shown = "" if isinstance(given, dict) or repr(given) in message else f" (got {given!r})"
    name = f"{dotted}: " if dotted and not place.startswith("--set") else ""
    return f"{place}: {name}{one_line(message, 240)}{shown[:80]}{tail}"
