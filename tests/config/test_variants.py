"""Variants: the registry, sections with the fields of all of them, and who else registers some."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest
from click.testing import CliRunner
from pydantic import Field

import archsim
from archsim.cli import application
from archsim.config import variants
from archsim.config.kinds import Duration, Joules, Levels
from archsim.config.section import (
    Section,
    field_of,
    inactive_leaves,
    is_read,
    leaf_paths,
    leaves,
    parameters_read,
    reads_recorded,
    unread_leaves,
    value_at,
    with_leaf,
)
from archsim.config.variants import find, names, variant
from archsim.errors import ConfigError
from archsim.hardware.load import load_hardware
from archsim.hardware.schema import hardware_schema
from archsim.hardware.sections import HardwareConfig
from archsim.hardware.show import show_config
from archsim.sweeps.axes import axis_from_text, known_keys, si_value, unit_of

ADC = {"readout.model": "flash_adc", "readout.depth": 6}


class Reference(Section):
    """A section in a variant's own."""

    settling: Duration = 1e-9


def register() -> type[Any]:
    """A readout from outside, with a required field, defaults, and a section."""

    @variant("readout", "flash_adc")
    class FlashAdc:
        """Flash converter of each column.

        More of it.
        """

        class Config(Section):
            depth: Annotated[int, Field(ge=1, le=16, description="of a code")]
            conversion_time: Duration = Field(default=2e-8, description="of one code")
            conversion_energy: Joules = 1e-12
            reference: Reference = Field(default_factory=Reference)

        @staticmethod
        def check(config: HardwareConfig) -> None:
            if value_at(config.readout, "depth") == 13:
                raise ValueError("readout.depth: 13 brings bad luck")

        @staticmethod
        def times(config: HardwareConfig) -> Iterator[tuple[str, float]]:
            yield "readout.conversion_time", value_at(config.readout, "conversion_time")

    return FlashAdc


@pytest.fixture(autouse=True)
def _kept() -> Iterator[None]:
    with variants.temporary():
        yield


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(f"extends: gaincell-28nm\n{text}", encoding="utf-8")
    return path


def test_a_variant_registered_late_is_chosen_and_filled_with_its_defaults(tmp_path: Path) -> None:
    adc = register()
    path = written(tmp_path, "readout:\n  model: flash_adc\n  depth: 6\n  conversion_time: 30 ns\n")
    readout: Any = load_hardware(path).config.readout
    assert (readout.model, readout.depth, readout.conversion_time) == ("flash_adc", 6, 30e-9)
    assert (readout.conversion_energy, readout.reference.settling) == (1e-12, 1e-9)
    assert find("readout", "flash_adc") is adc
    assert names("readout")[-1] == "flash_adc"
    assert archsim.variant is variant


def test_what_is_temporary_is_forgotten() -> None:
    with variants.temporary():
        register()
        assert "readout.depth" in known_keys()
    assert "flash_adc" not in names("readout")
    assert "readout.depth" not in [*known_keys(), *leaf_paths(HardwareConfig)]


def test_only_the_chosen_has_defaults_and_values_of_others_stand_inactive() -> None:
    register()
    plain = load_hardware()
    assert value_at(plain.config, "readout.conversion_time") is None
    with pytest.raises(AttributeError):
        _ = plain.config.readout.conversion_time
    given = plain.changed({"readout.conversion_time": "7 ns", "readout.reference.settling": "2 ns"})
    assert value_at(given.config, "readout.conversion_time") == 7e-9
    unused = {"readout.conversion_time", "readout.reference.settling"}
    assert unused < {*inactive_leaves(given.config)}
    assert {*given.unused_overrides} == unused
    chosen = given.changed(ADC)
    assert value_at(chosen.config, "readout.conversion_time") == 7e-9
    assert not unused & {*inactive_leaves(chosen.config)}
    assert "readout.add_time" in [*inactive_leaves(chosen.config)]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("readout:\n  model: flash_adc\n", 3, "readout.model flash_adc needs readout.depth"),
        ("readout: {model: flash_adc, depth: 4,\n  dept: 3}\n", 3,
         r"unknown key 'readout.dept' \(readout.model flash_adc\); did you mean 'readout.depth'"),
        ("readout:\n  model: flash_acd\n", 3, "no readout 'flash_acd'; did you mean 'flash_adc'"),
        ("readout:\n  model: 3\n", 3, "readout.model: Input should be a valid string"),
        ("window: 64\nreadout:\n  model: flash_adc\n  depth: 17\n", 5, "readout.depth: Input"),
        ("readout:\n  conversion_time: 3 V\n", 3, "readout.conversion_time: '3 V' has the wrong"),
        ("readout:\n  reference:\n    settling: 1\n", 4, "readout.reference.settling: give a n"),
        ("readout:\n  reference: {settle: 1 ns}\n", 3, "unknown key 'readout.reference.settle'"),
        ("readout:\n  model: flash_adc\n  depth: 13\n", 4, "readout.depth: 13 brings bad luck"),
        ("readout: {model: flash_adc, depth: 3}\ncell:\n  model: none\n", 4, "no cell 'none'; k"),
        ("readout:\n  depth: {value: 9, low: 10, high: 12}\n", 3, "not between low and high"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_with_its_place(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    register()
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as error:
        load_hardware(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"readout.model": "flash_adc"}, "^--set readout.model: readout.model flash_adc needs rea"),
        ({"readout.model": "adc"}, "^--set readout.model: no readout 'adc'"),
        (
            {"readout.dept": 3},
            "^unknown key 'readout.dept'; did you mean 'readout.depth'",
        ),
        ({**ADC, "readout.conversion_time": "1.3 ps"}, "conversion_time: 1.3 ps: times are"),
    ],
)
def test_faults_of_overrides(overrides: dict[str, Any], message: str) -> None:
    register()
    with pytest.raises(ConfigError, match=message):
        load_hardware(overrides=overrides)


def test_what_is_shown_loads_to_the_same_hash(tmp_path: Path) -> None:
    register()
    for overrides in (ADC, {"readout.depth": 9}, {"cell.model": "linear"}):
        hardware = load_hardware(overrides=overrides)
        path = tmp_path / "shown.yaml"
        path.write_text(show_config(hardware), encoding="utf-8")
        again = load_hardware(path)
        assert again.sha256 == hardware.sha256
        assert again.config == hardware.config
    chosen = load_hardware(overrides=ADC)
    assert chosen.sha256 != chosen.changed({"readout.depth": 7}).sha256
    assert "  conversion_time: {value: 20 ns, source: assumed}" in show_config(chosen)
    assert "conversion_time" not in show_config(load_hardware())


def test_reads_are_recorded_like_those_of_any_field() -> None:
    register()
    config = load_hardware(overrides=ADC).config
    readout: Any = config.readout
    with reads_recorded() as reads:
        _ = readout.depth, readout.reference.settling
    assert is_read(config, "readout.depth", reads)
    assert is_read(config, "readout.reference.settling", reads)
    assert not is_read(config, "readout.conversion_time", reads)
    unread = unread_leaves(config, reads)
    assert "readout.conversion_time" in unread
    assert not {"readout.depth", "readout.add_time"} & {*unread}
    assert parameters_read(config, lambda: config.readout.depth) == ("readout.depth",)


def test_walks_know_the_fields_of_all_variants() -> None:
    register()
    paths = [*leaf_paths(HardwareConfig)]
    at = paths.index("readout.model")
    assert paths[at + 1 : at + 15] == [
        "readout.partial_levels", "readout.partial_saturation_current", "readout.add_time",
        "readout.pulse_levels", "readout.bits", "readout.full_scale", "readout.time",
        "readout.energy_per_conversion", "readout.area", "readout.columns_per_adc",
        "readout.depth", "readout.conversion_time",
        "readout.conversion_energy", "readout.reference.settling",
    ]  # fmt: skip
    assert field_of(HardwareConfig, "readout.depth").description == "of a code"
    config = load_hardware(overrides=ADC).config
    assert dict(leaves(config))["readout.reference.settling"] == 1e-9
    assert value_at(with_leaf(config, "readout.depth", 3), "readout.depth") == 3
    assert value_at(with_leaf(config, "readout.reference.settling", 3.0), "readout.depth") == 6
    assert value_at(config, "readout.depth") == 6
    assert config.model_dump()["readout"]["reference"] == {"settling": 1e-9}


def test_configs_pickle_copy_and_compare() -> None:
    register()
    hardware = load_hardware(overrides=ADC)
    for other in (pickle.loads(pickle.dumps(hardware)), copy.deepcopy(hardware)):
        assert other == hardware
        assert other.config.readout.depth == 6
    assert hardware.config != hardware.changed({"readout.depth": 7}).config


def test_bounds_and_sources_are_those_of_any_field(tmp_path: Path) -> None:
    register()
    path = written(
        tmp_path,
        "readout:\n  model: flash_adc\n  depth: 5\n  conversion_time:\n"
        "    {value: 20 ns, source: assumed, low: 10 ns, high: 40 ns}\n",
    )
    hardware = load_hardware(path)
    assert hardware.bounds("readout.conversion_time") == (10e-9, 40e-9)
    sources = [hardware.source(f"readout.{key}") for key in ("depth", "conversion_energy")]
    assert sources == ["user", "assumed"]


def test_axes_vary_a_variant_and_its_fields() -> None:
    assert si_value("readout.model", "digital_sum") == "digital_sum"
    with pytest.raises(ConfigError, match="'charge_to_pulse', 'digital_sum' or 'sar_adc'"):
        si_value("readout.model", "flash_adc")
    register()
    assert axis_from_text("readout.model=flash_adc,digital_sum").levels == (
        "flash_adc",
        "digital_sum",
    )
    assert axis_from_text("readout.depth=4..8:5").levels == (4, 5, 6, 7, 8)
    assert unit_of("readout.conversion_time") == "s"


def test_the_schema_is_the_union() -> None:
    register()
    schema = hardware_schema()["$defs"]
    properties = schema["ReadoutConfig"]["properties"]
    assert properties["model"]["anyOf"][0]["enum"] == [
        "charge_to_pulse", "digital_sum", "sar_adc", "flash_adc"
    ]  # fmt: skip
    assert properties["depth"]["anyOf"][0]["maximum"] == 16
    assert properties["reference"] == {"$ref": "#/$defs/Reference"}
    assert "settling" in schema["Reference"]["properties"]
    assert schema["ReadoutConfig"]["additionalProperties"] is False


def test_a_name_is_of_one_class() -> None:
    register()
    register()  # as a module that is loaded again
    with pytest.raises(ConfigError, match=r"readout.model flash_adc is .*FlashAdc already"):
        variant("readout", "flash_adc")(type("Other", (), {}))
    with pytest.raises(ConfigError, match="no slot 'readouts'; there are: cell, readout"):
        variant("readouts", "flash_adc")
    with pytest.raises(ConfigError, match="slot 'readout' is declared already"):
        variants.declare("readout", "other.model")


@pytest.mark.filterwarnings("ignore:Field name:UserWarning")
def test_fields_that_cannot_stand_in_the_section_are_refused() -> None:
    def add(**fields: Any) -> None:
        annotations = {name: kind for name, (kind, _) in fields.items()}
        values = {name: value for name, (_, value) in fields.items()}
        config = type("Config", (Section,), {"__annotations__": annotations, **values})
        variant("readout", "other")(type("Other", (), {"Config": config}))

    for name in ("model", "inactive", "chosen"):
        with pytest.raises(ConfigError, match=f"a field cannot be named '{name}'"):
            add(**{name: (int, 3)})
    with pytest.raises(ConfigError, match="'add_time' is of another kind than that of digital_sum"):
        add(add_time=(int, 3))
    with pytest.raises(ConfigError, match="its Config must be a Section"):
        variant("readout", "other")(type("Other", (), {"Config": dict}))
    assert "other" not in names("readout")


def test_fields_of_one_name_are_each_bounded_by_their_own() -> None:
    @variant("readout", "slow")
    class Slow:
        class Config(Section):
            add_time: Annotated[float, field_of(HardwareConfig, "readout.add_time").metadata[0]]
            partial_levels: Levels = 4

    _ = Slow
    slow = load_hardware(overrides={"readout.model": "slow", "readout.add_time": "3 ns"})
    assert value_at(slow.config, "readout.add_time") == 3e-9
    assert field_of(HardwareConfig, "readout.add_time").metadata
    fresh = {"readout.model": "slow"}
    assert value_at(load_hardware(overrides=fresh).config, "readout.partial_levels") == 32


class Entry:
    """An entry point of another distribution."""

    def __init__(self, distribution: str, load: Any) -> None:
        self.value = f"{distribution.replace('-', '_')}.parts"
        self.dist = type("Distribution", (), {"name": distribution})
        self.load = load


def broken() -> None:
    raise ImportError("no module\nnamed 'lost'")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two distributions with variants, one of them broken; how often they were looked for."""
    found: list[str] = []

    def entry_points(group: str) -> list[Entry]:
        found.append(group)
        return [Entry("my-chip", register), Entry("bad-chip", broken)]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    monkeypatch.setattr(variants._registry, "plugins_loaded", False)
    return found


def test_distributions_are_asked_for_what_is_not_known_only(
    asked: list[str], tmp_path: Path
) -> None:
    load_hardware(overrides={"readout.model": "digital_sum", "cell.model": "linear"})
    assert asked == []
    path = written(tmp_path, "readout: {model: flash_adc, depth: 4}\n")
    assert value_at(load_hardware(path).config, "readout.depth") == 4
    with pytest.raises(ConfigError, match=r"of bad-chip \(bad_chip.parts\) cannot be used"):
        load_hardware(overrides={"readout.model": "nobodys"})
    assert asked == ["archsim.variants"]
    assert {v.name: v.origin for v in variants.variants("readout")} == {
        "charge_to_pulse": "built-in", "digital_sum": "built-in", "sar_adc": "built-in",
        "flash_adc": "my-chip"
    }  # fmt: skip


@pytest.mark.parametrize("ask", ["override", "file", "axis"])
def test_a_key_of_another_distribution_is_found(asked: list[str], tmp_path: Path, ask: str) -> None:
    if ask == "override":
        assert load_hardware(overrides={"readout.depth": 3})
    elif ask == "file":
        assert load_hardware(written(tmp_path, "readout:\n  depth: 4\n"))
    else:
        assert axis_from_text("readout.depth=4,5").key == "readout.depth"
    assert asked == ["archsim.variants"]


def test_the_command_lists_every_variant(asked: list[str]) -> None:
    result = CliRunner().invoke(application, ["config", "variants"])
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "  flash_adc (my-chip)\n    Flash converter" in result.stdout
    assert "    readout.depth: required\n      of a code\n" in result.stdout
    assert "    readout.conversion_time: default 20 ns\n" in result.stdout
    assert result.stderr == (
        "note: variants of bad-chip (bad_chip.parts) cannot be used: "
        "ImportError: no module named 'lost'\n"
    )
    document = json.loads(CliRunner().invoke(application, ["config", "variants", "--json"]).stdout)
    assert [slot["key"] for slot in document["slots"]] == [
        "cell.model", "readout.model", "converter.law", "refresh.model"
    ]  # fmt: skip
    adc = document["slots"][1]["variants"][3]
    assert (adc["from"], adc["description"]) == (
        "my-chip", "Flash converter of each column."
    )  # fmt: skip
    assert adc["fields"][1] == {
        "key": "readout.conversion_time", "unit": "s", "required": False, "default": 2e-8,
        "description": "of one code",
    }  # fmt: skip


def test_a_slots_package_is_searched_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "parts_of_a_slot"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text(
        "from archsim.config.variants import variant\n\n\n"
        "@variant('dummy', 'one')\nclass One:\n    'The one.'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    slot = variants.declare("dummy", "dummy.model", package.name)
    assert "parts_of_a_slot.one" not in sys.modules
    assert names("dummy") == ("one",)
    found = variants.entry("dummy", "one")
    assert (found.slot, found.description) == (slot, "The one.")
    assert found.origin == "parts_of_a_slot.one"
    assert isinstance(sys.modules.pop("parts_of_a_slot.one"), ModuleType)
