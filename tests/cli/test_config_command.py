"""``archsim config``: what it prints loads again, and the committed schema is current."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from archsim.cli.config import command
from archsim.config import variants
from archsim.config.document import SOURCES
from archsim.config.quantity import parse_quantity
from archsim.config.section import leaf_paths
from archsim.config.writing import quantity_text
from archsim.errors import ConfigError
from archsim.files import data_folder
from archsim.hardware.load import available_hardware, load_hardware
from archsim.hardware.schema import SCHEMA_FILE, hardware_schema
from archsim.hardware.sections import HardwareConfig
from archsim.hardware.show import show_config

UNITS = ("s", "Hz", "V", "A", "F", "J", "m^2", "W", "A/V", "A/V^2", "A/V^3")


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("name", available_hardware())
def test_show_loads_to_the_same_hardware(name: str, tmp_path: Path) -> None:
    hardware = load_hardware(name)
    text = shown("show", name)
    assert max(map(len, text.splitlines())) <= 80
    path = tmp_path / f"{name}.yaml"
    path.write_text(text)
    again = load_hardware(path)
    assert again.sha256 == hardware.sha256
    for dotted, found in hardware.provenance.items():
        written = again.provenance[dotted]
        assert (written.source, written.note, written.low, written.high) == (
            found.source, found.note, found.low, found.high,
        )  # fmt: skip
    assert show_config(again) == text


def held() -> set[str]:
    """Leaves of the default hardware: all but those of a variant neither chosen nor given."""
    hardware, left_out = load_hardware(), set[str]()
    for slot in variants.slots():
        chosen = getattr(hardware.config, slot.section).chosen
        for each in variants.variants(slot.name):
            keys = {f"{slot.section}.{name}" for name in each.fields if name not in chosen.fields}
            left_out |= {key for key in keys if hardware.written(key) is None}
    return {*leaf_paths(HardwareConfig)} - left_out


def test_show_covers_every_leaf_with_unit_and_source() -> None:
    text = shown("show", "--set", "write_path.pulse=12.5 ns", "--set", "levels.query=null")
    assert "  pulse: {value: 12.5 ns, source: user}" in text
    assert "  query: {value: null, source: user}" in text
    assert "  input_voltage: {value: supply, source: text}  # 0.9 V\n" in text
    assert "  area: {value: 1 um^2, source: summary}" in text
    assert "{value: 1 GHz, source: assumed, low: 1 GHz, high: 2 GHz," in text
    assert text.count("{value: ") == len(held())


@pytest.mark.parametrize(
    "note",
    ["plain", "a: b", "ends with #", "&anchor", "no", "1e3", "5 ns", 'a "quote" and \\ back',
     "it's", "{braces}, [lists]", "λ Ω µ", "  spaces  ", "x" * 120, "word " * 40 + "end",
     "- dash", "null", "two  spaces " * 12 + "."],
)  # fmt: skip
def test_notes_survive(note: str, tmp_path: Path) -> None:
    """Any text in a note, quoted where YAML would read it as something else."""
    base = data_folder("hwconfigs") / "gaincell-28nm.yaml"
    own = tmp_path / "own.yaml"
    window = "window: {value: 1024, source: text}"
    noted = f"window: {{value: 1024, source: text, note: {json.dumps(note, ensure_ascii=False)}}}"
    own.write_text(base.read_text().replace(window, noted))
    hardware = load_hardware(own)
    assert hardware.provenance["window"].note == note
    again = tmp_path / "again.yaml"
    again.write_text(show_config(hardware))
    assert load_hardware(again).provenance["window"].note == note


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(UNITS))
def test_any_quantity_reads_back_exactly(value: float, unit: str) -> None:
    again = parse_quantity(quantity_text(value, unit), unit)
    assert again == value
    assert math.copysign(1, again) == math.copysign(1, value)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.5e-8, "s", "15 ns"),
        (0.9, "V", "0.9 V"),
        (1e-12, "m^2", "1 um^2"),
        (1.2e-13, "m^2", "0.12 um^2"),
        (5e-7, "m^2", "0.5 mm^2"),
        (1e9, "Hz", "1 GHz"),
        (1.93e-5, "A/V", "19.3 uA/V"),
        (0.0, "W", "0 W"),
        (1e-20, "J", "1e-20 J"),
    ],
)
def test_quantities_read_well(value: float, unit: str, text: str) -> None:
    assert quantity_text(value, unit) == text


def test_json_has_si_values_and_sources() -> None:
    document = json.loads(shown("show", "--json", "--set", "write_path.pulse=12 ns"))
    hardware = load_hardware(overrides={"write_path.pulse": "12 ns"})
    assert document["config_sha256"] == hardware.sha256
    assert document["values"]["write_path"]["pulse"] == 1.2e-8
    assert document["units"]["write_path.pulse"] == "s"
    assert document["units"]["pulse_generator.t_max"] == "s"
    assert document["sources"]["write_path.pulse"] == "user"
    assert set(document["sources"]) == held()


def test_list_names_the_shipped_configs() -> None:
    assert json.loads(shown("list", "--json"))["configs"].keys() == set(available_hardware())
    text = shown("list")
    assert "gaincell-28nm-window256\n" in text
    assert max(map(len, text.splitlines())) <= 80


def test_bad_configs_are_config_errors() -> None:
    for arguments in (["show", "nope"], ["show", "--set", "windw=3"]):
        with pytest.raises(ConfigError):
            CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_the_committed_schema_is_current() -> None:
    """`archsim config schema > hwconfigs/hwconfig.schema.json` after a change of the models."""
    committed = data_folder("hwconfigs") / SCHEMA_FILE
    assert committed.read_text(encoding="utf-8") == shown("schema")


def test_schema_says_what_a_file_may_hold() -> None:
    schema = hardware_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "archsim hardware"
    assert schema["$defs"]["Sourced"]["properties"]["source"]["enum"] == list(SOURCES)
    assert set(_leaves(schema, schema)) == {*leaf_paths(HardwareConfig), "extends"}
    pattern = schema["$defs"]["WritePathConfig"]["properties"]["pulse"]["anyOf"][0]["pattern"]
    for good in ("15 ns", "1e-9 s", "0.5ns", "400 s"):
        assert re.search(pattern, good)
    for bad in ("15", "ns", "", "about 15 ns"):
        assert not re.search(pattern, bad)


def _leaves(schema: dict[str, Any], section: dict[str, Any], prefix: str = "") -> list[str]:
    assert section["additionalProperties"] is False
    found = []
    for name, entry in section["properties"].items():
        if "$ref" in entry:
            nested = schema["$defs"][entry["$ref"].removeprefix("#/$defs/")]
            found += _leaves(schema, nested, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
            if name != "extends":
                plain, sourced = entry["anyOf"]
                assert sourced["properties"]["value"] == plain
    return found


def test_shipped_variants_are_what_they_say() -> None:
    base, small = load_hardware(), load_hardware("gaincell-28nm-window256")
    assert small.config.window == 256
    assert small.config.cell == base.config.cell
    dense = load_hardware("gaincell-osfet")
    cells = 131072 * dense.config.cell.area
    assert cells == pytest.approx(15.7e-9, rel=0.01)
    assert dense.source("cell.area") == "derived"
    assert dense.config.retention.decay_per_token == pytest.approx(
        0.8e-6 / dense.config.retention.tau
    )
    assert dense.source("retention.decay_per_token") == "assumed"
