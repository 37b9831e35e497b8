"""What the blocks of a hardware may be: every variant of every slot, with its keys."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from archsim.config.section import Section
from archsim.config.variants import (
    Slot,
    Variant,
    load_plugins,
    plugin_faults,
    slots,
    variants,
)
from archsim.config.writing import field_unit, quantity_text
from archsim.hardware.sections import HardwareConfig

WIDTH = 80


def variants_document() -> dict[str, Any]:
    """What ``archsim config variants --json`` prints; defaults in SI units."""
    load_plugins()
    return {
        "schema_version": 1,
        "slots": [
            {
                "slot": slot.name,
                "key": slot.key,
                "default": _default(slot),
                "variants": [_variant_document(each) for each in variants(slot.name)],
            }
            for slot in slots()
            if slot.section in HardwareConfig.model_fields
        ],
        "faults": list(plugin_faults()),
    }


def _default(slot: Slot) -> Any:
    section: Any = HardwareConfig.model_fields[slot.section].annotation
    return section.model_fields[slot.choice].default


def _variant_document(variant: Variant) -> dict[str, Any]:
    return {
        "name": variant.name,
        "from": variant.origin,
        "description": variant.description,
        "fields": [
            {
                "key": key,
                "unit": field_unit(info),
                "required": info.is_required(),
                "default": None if info.is_required() else info.get_default(),
                "description": info.description or "",
            }
            for key, info in _leaves(variant.fields.items(), f"{variant.slot.section}.")
        ],
    }


def _leaves(fields: Any, prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in fields:
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _leaves(kind.every_field().items(), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info


def variants_text() -> str:
    """What ``archsim config variants`` prints: a line or two for each, at most 80 columns."""
    document = variants_document()
    lines = []
    for slot in document["slots"]:
        lines.append(f"{slot['key']} (default: {slot['default']})")
        for variant in slot["variants"]:
            lines.append(f"  {variant['name']} ({variant['from']})")
            lines += _wrapped(variant["description"], 4)
            for field in variant["fields"]:
                lines.append(f"    {field['key']}: {_kind(field)}")
                lines += _wrapped(field["description"], 6)
        lines.append("")
    return "\n".join(lines)


def _wrapped(text: str, indent: int) -> list[str]:
    space = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent=space, subsequent_indent=space)


def _kind(field: dict[str, Any]) -> str:
    """Unit of a field, and its default or that it has none."""
    unit, default = field["unit"], field["default"]
    if not field["required"]:
        shown = quantity_text(default, unit) if unit and isinstance(default, float) else default
        return f"default {'null' if shown is None else shown}"
    return f"in {unit}, required" if unit else "required"
