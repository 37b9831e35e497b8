"""Sections of a config: typed values that never change, what reads them, and walks over them.

A *leaf* is a field that is no section; it is named by its dotted path (``cell.supply``).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """Base of every config section: unknown keys are errors, instances never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    def inactive(self) -> frozenset[str]:
        """Fields that the selected variant does not use, so nobody need read them."""
        return frozenset()

    @classmethod
    def every_field(cls) -> Mapping[str, FieldInfo]:
        """All fields that the section may have, in order: also those of variants not chosen."""
        return cls.model_fields

    def __getattribute__(self, name: str) -> Any:
        if _read_logs and not name.startswith("_"):
            extra = self.__pydantic_extra__
            if name in type(self).model_fields or (extra is not None and name in extra):
                for log in _read_logs:
                    log.add((id(self), name))
        return super().__getattribute__(name)


def values_of(section: Section) -> dict[str, Any]:
    """The fields that a section has, in order, and their values; looking here is no reading."""
    extra = section.__pydantic_extra__
    if not extra:
        return section.__dict__
    values = {**section.__dict__, **extra}
    order = [name for name in type(section).every_field() if name in values]
    return {name: values[name] for name in (*order, *(n for n in values if n not in order))}


def value_at(section: Section, dotted: str) -> Any:
    """The value of a dotted path; None for a field of a variant that was neither given nor chosen.

    Looking here is no reading.
    """
    value: Any = section
    for name in dotted.split("."):
        value = values_of(value).get(name) if isinstance(value, Section) else None
    return value


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
    for name, value in values_of(section).items():
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
        section = values_of(section)[part]
    return (id(section), name) in reads


def parameters_read(section: Section, formula: Callable[[], object]) -> tuple[str, ...]:
    """Dotted paths of the leaves of `section` that `formula` reads, in their order."""
    with reads_recorded() as reads:
        formula()
    return tuple(_read_leaves(section, reads))


def _read_leaves(section: Section, reads: set[tuple[int, str]], prefix: str = "") -> Iterator[str]:
    for name, value in values_of(section).items():
        if (id(section), name) in reads:
            if isinstance(value, Section):
                yield from _read_leaves(value, reads, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}"


def field_of(model: type[BaseModel], dotted: str) -> FieldInfo:
    """The field a dotted path leads to; the path must be one of `leaf_paths`."""
    *sections, name = dotted.split(".")
    for section in sections:
        annotation = _fields(model)[section].annotation
        assert isinstance(annotation, type)
        model = annotation
    return _fields(model)[name]


def _fields(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    return model.every_field() if issubclass(model, Section) else model.model_fields


def leaves(section: Section, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every leaf that a config has."""
    for name, value in values_of(section).items():
        if isinstance(value, Section):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def inactive_leaves(section: Section, prefix: str = "") -> Iterator[str]:
    """Dotted paths of leaves that the selected variants do not use."""
    inactive = section.inactive()
    for name, value in values_of(section).items():
        if isinstance(value, Section):
            whole = leaf_paths(type(value), f"{prefix}{name}.")
            yield from whole if name in inactive else inactive_leaves(value, f"{prefix}{name}.")
        elif name in inactive:
            yield f"{prefix}{name}"


def with_leaf(section: Model, dotted: str, value: object) -> Model:
    """A copy of a section with one leaf changed, unchecked: the value must fit."""
    name, _, rest = dotted.partition(".")
    before = values_of(section)[name] if isinstance(section, Section) else section.__dict__[name]
    changed = with_leaf(before, rest, value) if rest else value
    return section.model_copy(update={name: changed})


def leaf_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted paths of every leaf that a config of a model may have, all variants together."""
    for name, info in _fields(model).items():
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
