"""The JSON Schema of a hardware YAML file, for editors that check while one types.

It describes the file, not the loaded model: physical values are text with a unit, and every leaf
may be written plainly or with its source beside it.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, create_model

from archsim.config.document import SOURCES
from archsim.config.section import Section
from archsim.config.variant_section import VariantSection
from archsim.config.variants import load_plugins
from archsim.hardware.sections import HardwareConfig

SCHEMA_FILE = "hwconfig.schema.json"
"""Committed beside the shipped configs."""

_QUANTITY = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\s*[A-Za-zµμΩ°%1].*$"


def hardware_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a hardware YAML file."""
    load_plugins()
    model = _with_every_field(HardwareConfig).model_json_schema()
    sections = model.pop("$defs")
    sections = {name: _section(section, sections) for name, section in sections.items()}
    root = _section(model, sections)
    required = model["required"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "archsim hardware",
        **root,
        "properties": {
            "extends": {"type": "string", "description": "a config to start from: file name"},
            **root["properties"],
        },
        "anyOf": [{"required": ["extends"]}, {"required": required}],
        "$defs": {"Sourced": _sourced(), **sections},
    }


def _with_every_field(model: type[Section]) -> type[BaseModel]:
    """A model with the fields of all variants in its sections."""
    fields: dict[str, Any] = {}
    for name, info in model.every_field().items():
        kind: Any = info.annotation
        if isinstance(kind, type) and issubclass(kind, VariantSection):
            kind = _with_every_field(kind)
        fields[name] = (kind, info)
    return create_model(model.__name__, __doc__=model.__doc__, **fields)


def schema_text() -> str:
    """The schema as the committed file holds it."""
    return json.dumps(hardware_schema(), indent=1) + "\n"


def _sourced() -> dict[str, Any]:
    bound = {"type": ["string", "number", "null"]}
    return {
        "description": "a value and where it comes from",
        "type": "object",
        "properties": {
            "value": True,
            "source": {"enum": list(SOURCES)},
            "note": {"type": "string"},
            "low": bound,
            "high": bound,
        },
        "required": ["value"],
        "additionalProperties": False,
    }


def _section(section: dict[str, Any], sections: dict[str, Any]) -> dict[str, Any]:
    """A section without `required` (a file with `extends` gives only what it changes)."""
    properties = {}
    for name, found in section["properties"].items():
        reference = found.get("$ref", "")
        nested = reference.removeprefix("#/$defs/") in sections
        properties[name] = {"$ref": reference} if nested else _leaf(found)
    return {
        "description": section.get("description", ""),
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _leaf(found: dict[str, Any]) -> dict[str, Any]:
    """A leaf, either plain or as ``{value, source, note, low, high}``."""
    described: dict[str, Any] = {
        key: found[key] for key in ("description", "default") if key in found
    }
    dropped = {*described, "title", "examples"}
    plain = {key: value for key, value in found.items() if key not in dropped}
    if "x-unit" in plain:
        others: list[dict[str, Any]] = []
        if "x-share" in plain:
            others.append(
                {
                    "description": "or a share of cell.supply, which it follows then",
                    "type": "string",
                    "pattern": plain["x-share"],
                }
            )
        if "x-null" in plain:
            others.append({"type": "null"})
        plain = _quantity(plain["x-unit"])
        plain = {"anyOf": [plain, *others]} if others else plain
    elif {"type": "number"} in plain.get("anyOf", ()):  # a time or `auto`, both given as text
        plain = {"anyOf": [{"const": "auto"}, _quantity("s")]}
    sourced = {"$ref": "#/$defs/Sourced", "properties": {"value": plain}}
    return {**described, "anyOf": [plain, sourced]}


def _quantity(unit: str) -> dict[str, Any]:
    return {"description": f"with a unit of {unit}", "type": "string", "pattern": _QUANTITY}
