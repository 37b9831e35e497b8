"""Documents to validated models: ``--set``, types, and errors with file:line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from archsim.config.document import Document, Provenance
from archsim.config.former import FormerKeys, current_keys, former_note
from archsim.config.section import Model, Section, leaf_paths, parameters_read, suggestion
from archsim.config.variant_section import VARIANT_FAULT
from archsim.config.variants import load_plugins, plugin_faults
from archsim.errors import ConfigError, one_line

__all__ = [
    "Section", "apply_overrides", "parameters_read", "parse_assignment", "parse_assignments",
    "validate_document",
]  # fmt: skip


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


def apply_overrides(
    document: Document,
    overrides: Mapping[str, Any],
    model: type[BaseModel],
    former: FormerKeys | None = None,
) -> None:
    """Set dotted keys in `document`; the source of each becomes ``user``.

    Keys in `former` are read by their new names. Raises ConfigError for a key the model does not
    have, with the nearest known one.
    """
    known = list(leaf_paths(model))
    if former is not None:
        notes = {key: former_note(key, former[key]) for key in overrides if key in former}
        document.notes.update(notes)
        overrides = current_keys(overrides, former)
    for dotted, value in overrides.items():
        if dotted not in known:
            load_plugins()
            known = list(leaf_paths(model))
        if dotted not in known:
            hint = suggestion(dotted, known)
            raise ConfigError("; ".join([f"unknown key {dotted!r}{hint}", *plugin_faults()]))
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
    if fault["type"] == VARIANT_FAULT:
        prefix = f"{place.removeprefix('--set ')}: "
        return f"{place}: {fault['msg'].removeprefix(prefix)}{tail}"
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
