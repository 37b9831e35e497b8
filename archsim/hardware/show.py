"""A resolved config as YAML text: every value with its unit and source, exactly as loaded.

What is printed loads again to the same values, bit for bit, and so to the same hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from archsim.config.file_content import FileContent
from archsim.config.section import Section, field_of, leaves, value_at, values_of
from archsim.config.voltages import supply_share
from archsim.config.writing import field_unit, quantity_text
from archsim.hardware.load import Hardware

OPENING = "# archsim config"
"""How every printed config begins."""

WIDTH = 80

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_()/^.+-]*(?: [A-Za-z0-9_()/^.+-]+)*")
"""Text that YAML reads as itself without quotes, also between braces."""

_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}


def show_config(hardware: Hardware) -> str:
    """YAML of every value of `hardware` with its source, note and bounds; loads to the same hash.

    Physical values are text with a unit (``15 ns``), in the prefix that makes them readable.
    """
    lines = [f"{OPENING}: {hardware.name}, resolved", f"# config_sha256 {hardware.sha256}"]
    lines += _section(hardware, hardware.config, "", 0)
    return "\n".join(lines) + "\n"


def config_document(hardware: Hardware) -> dict[str, Any]:
    """What ``archsim config show --json`` prints: values in SI units, sources by dotted path."""
    model = type(hardware.config)
    units = {
        path: unit
        for path, _ in leaves(hardware.config)
        if (unit := field_unit(field_of(model, path)))
    }
    return {
        "schema_version": 1,
        "name": hardware.name,
        "config_sha256": hardware.sha256,
        "values": hardware.config.model_dump(),
        "units": units,
        "sources": {path: hardware.source(path) for path, _ in leaves(hardware.config)},
    }


def leaf_text(hardware: Hardware, dotted: str) -> str:
    """The value of a leaf with its unit, as `show_config` prints it; of a file's content a hash."""
    value, info = value_at(hardware.config, dotted), field_of(type(hardware.config), dotted)
    if isinstance(value, str) and any(isinstance(each, FileContent) for each in info.metadata):
        return f"content {hashlib.sha256(value.encode()).hexdigest()[:12]}"
    return _value_text(value, info)


def _section(hardware: Hardware, section: Section, prefix: str, depth: int) -> Iterator[str]:
    indent = "  " * depth
    fields = type(section).every_field()
    for name, value in values_of(section).items():
        dotted = f"{prefix}{name}"
        if isinstance(value, Section):
            if depth == 0:
                yield ""
            yield f"{indent}{name}:"
            yield from _section(hardware, value, f"{dotted}.", depth + 1)
        else:
            text, comment = _value_text(value, fields[name]), ""
            written = hardware.written(dotted)
            if supply_share(written) is not None:  # goes on following the supply
                text, comment = _scalar(" ".join(written.split())), f"  # {text}"
            yield from _leaf(hardware, dotted, f"{indent}{name}:", text, comment)


def _leaf(hardware: Hardware, dotted: str, head: str, value: str, comment: str) -> Iterator[str]:
    """One leaf, on as many lines as `WIDTH` asks for."""
    found = hardware.provenance.get(dotted)
    items = [f"value: {value}", f"source: {hardware.source(dotted)}"]
    if found is not None:
        bounds = (("low", found.low), ("high", found.high))
        items += [f"{key}: {_scalar(bound)}" for key, bound in bounds if bound is not None]
        if found.note:
            items.append(f"note: {_scalar(found.note)}")
    line = f"{head} {{{', '.join(items)}}}"
    if len(line) + len(comment) <= WIDTH:
        yield f"{line}{comment}"
        return
    indent = " " * (len(head) - len(head.lstrip()) + 2)
    yield f"{head}{comment}"
    line = f"{indent}{{{items[0]}"
    for item in items[1:]:
        if len(line) + len(item) + 3 <= WIDTH:
            line = f"{line}, {item}"
            continue
        yield f"{line},"
        line = f"{indent} {item}"
        while len(line) >= WIDTH and (at := _fold(line, len(indent) + 8)) > 0:
            yield line[:at]
            line = f"{indent}   {line[at + 1 :]}"
    yield f"{line}}}"


def _fold(line: str, least: int) -> int:
    """Where a long scalar may go on in the next line: YAML reads that break as one space."""
    spaces = [m.start() for m in re.finditer(r"(?<=\S) (?=\S)", line) if least < m.start() < WIDTH]
    return max(spaces, default=0)


def _value_text(value: Any, info: FieldInfo) -> str:
    unit = field_unit(info)
    if unit is not None and isinstance(value, float):
        return quantity_text(value, unit)
    return _scalar(value)


def _scalar(value: Any) -> str:
    """A YAML 1.2 flow scalar; JSON is one wherever plain text would be read as something else."""
    if isinstance(value, str):
        quantity = re.fullmatch(r"[+-]?[\d.]+(?:[eE][+-]?\d+)? [A-Za-z][A-Za-z^/\d]*", value)
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if quantity or plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)
