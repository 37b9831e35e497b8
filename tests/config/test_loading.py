"""Configs: units, sources, extends, overrides, and one line with a place for every mistake."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archsim
from archsim.config.document import SOURCES
from archsim.config.loading import parse_assignment
from archsim.config.quantity import POWERS_OF_TEN, converted, parse_quantity, picoseconds
from archsim.config.section import leaf_paths
from archsim.errors import ArchsimError, ConfigError
from archsim.hardware.load import available_hardware, hardware_path
from archsim.hardware.sections import HardwareConfig


@pytest.fixture
def base(tmp_path: Path) -> Path:
    shutil.copy(hardware_path("gaincell-28nm"), tmp_path / "base.yaml")
    return tmp_path


def load(folder: Path, text: str) -> archsim.load_hardware:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return archsim.load_hardware(path)


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("15 ns", "s", 15e-9),
        ("0.12 um^2", "m^2", 0.12e-12),
        ("5 µm²", "m^2", 5e-12),
        ("1008 GB/s", "byte/s", 1.008e12),
        ("16 MiB", "byte", 16 * 2**20),
        ("46.05483778 uA/V^3", "A/V^3", 46.05483778e-6),
        ("1e-3 mm^2", "m^2", 1e-9),
    ],
)
def test_units_give_the_nearest_float(text: str, unit: str, value: float) -> None:
    assert parse_quantity(text, unit) == value


@pytest.mark.parametrize("unit", POWERS_OF_TEN)
def test_units_read_without_pint_are_what_pint_finds(unit: str) -> None:
    for symbol in POWERS_OF_TEN[unit]:
        for number in ("1", "0.2", "7.3e-4", "123456.789"):
            text = f"{number} {symbol}"
            assert parse_quantity(text, unit) == converted(text, number, symbol, unit)


@pytest.mark.parametrize(
    "text",
    ["15", "15 parsecs", "ns", "", "2**2**2**2**2 s", "1e999 s", "nan s", "15 ns extra", "1 m"],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_quantity(text, "s")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_no_text_hangs_or_crashes_the_unit_parser(text: str) -> None:
    try:
        parse_quantity(text, "s")
    except ValueError as error:
        assert "\n" not in str(error)


def test_time_is_rounded_once_to_picoseconds() -> None:
    assert picoseconds(parse_quantity("15 ns", "s")) == 15_000
    assert picoseconds(parse_quantity("7.3 ns", "s")) == 7_300


def test_every_number_of_a_shipped_config_names_its_source() -> None:
    for name in available_hardware():
        hardware = archsim.load_hardware(name)
        for leaf in leaf_paths(HardwareConfig):
            if leaf != "description":
                assert hardware.source(leaf) in set(SOURCES) - {"user"}, (name, leaf)


def test_assumed_timing_energy_and_area_parameters_have_bounds() -> None:
    hardware = archsim.load_hardware()
    for leaf, found in hardware.provenance.items():
        is_number = isinstance(hardware.document.values.get(leaf.split(".")[0]), dict)
        name = leaf.rpartition(".")[2]
        costs = name.startswith(("energy", "area", "clock_energy", "pulse", "time"))
        if found.source == "assumed" and is_number and costs and not name.endswith("levels"):
            assert found.low is not None, leaf
            assert found.high is not None, leaf


def test_extends_changes_only_what_is_written(base: Path) -> None:
    mine = load(base, "extends: base.yaml\nwindow: 256\nwrite_path: {pulse: 5 ns}\n")
    assert mine.config.window == 256
    assert mine.config.write_path.pulse == 5e-9
    assert mine.config.accumulator.time == 10e-9
    assert mine.source("write_path.pulse") == "user"
    assert mine.source("accumulator.time") == "assumed"


def test_extends_takes_a_shipped_name_anywhere(tmp_path: Path) -> None:
    mine = load(tmp_path, "extends: gaincell-28nm\nwindow: 32\n")
    assert mine.config.window == 32
    assert mine.source("accumulator.time") == "assumed"


def test_the_hash_is_of_the_values_not_of_how_they_are_written(base: Path) -> None:
    plain = archsim.load_hardware()
    same = load(base, "extends: base.yaml\nwrite_path: {pulse: 0.01 us}\n")
    other = load(base, "extends: base.yaml\nwrite_path: {pulse: 0.011 us}\n")
    assert same.sha256 == plain.sha256 != other.sha256


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extends: base.yaml\nwindw: 3\n", r"mine\.yaml:2: unknown key 'windw'; did you mean"),
        ("extends: base.yaml\nwindow: 0\n", r"mine\.yaml:2: window: "),
        ("extends: base.yaml\nwindow: many\n", r"mine\.yaml:2: window: "),
        ("extends: base.yaml\nwrite_path:\n  pulse: 3\n", r"mine\.yaml:3: write_path\.pulse: give"),
        ("extends: base.yaml\nwrite_path:\n  pulse: 3 V\n", r"mine\.yaml:3: .*unit"),
        ("extends: base.yaml\nwrite_path:\n  pulse: -3 ns\n", r"mine\.yaml:3: "),
        ("extends: base.yaml\nwindow: {value: 3, sorce: text}\n", r"mine\.yaml:2: .*'sorce'"),
        ("extends: base.yaml\nwindow: {value: 3, source: hearsay}\n", r"mine\.yaml:2: .*hearsay"),
        ("extends: base.yaml\ncontroller: {clock: 0.5 GHz}\n", r"whole number of clock edges"),
        ("extends: nowhere.yaml\n", r"mine\.yaml: extends nowhere"),
        ("extends: mine.yaml\n", r"circle"),
        ("extends: ../../etc/passwd\n", r"must name a shipped config"),
        ("window: 3\n", r"mine\.yaml: .* is missing"),
        ("- a\n- b\n", r"mapping of sections"),
        ("window: 3\nwindow: 4\n", r"mine\.yaml:2: not valid YAML"),
        ("a: [1, 2\n", r"mine\.yaml:\d+: not valid YAML"),
        ("a: &x 1\nb: *x\n", r"mine\.yaml:1: anchors and aliases"),
        ("extends: base.yaml\ncell: 3\n", r"mine\.yaml:2: cell"),
        ("a: " + "[" * 5000, r"not valid YAML"),
        ("", r"mapping of sections"),
    ],
)
def test_mistakes_in_a_file_are_one_line_with_their_place(
    base: Path, text: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load(base, text)
    assert "\n" not in str(caught.value)


def test_a_note_may_hold_any_character(base: Path) -> None:
    text = 'extends: base.yaml\nwindow: {value: 64, source: user, note: "see #3 & *this* \'x"}\n'
    assert load(base, text).provenance["window"].note == "see #3 & *this* 'x"


def test_overrides_take_numpy_scalars() -> None:
    overrides = {"window": np.int64(320), "retention.decay_per_token": np.float64(0.01)}
    hardware = archsim.load_hardware(overrides=overrides)
    assert hardware.config.window == 320
    same = {"window": 320, "retention.decay_per_token": 0.01}
    assert hardware.sha256 == archsim.load_hardware(overrides=same).sha256


@pytest.mark.parametrize("name", ["no-such", "missing.yaml", "gaincell-28mn", "a/b.yaml"])
def test_unknown_configs_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no such config"):
        archsim.load_hardware(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("window=256", ("window", 256)),
        ("a.b=1e-9", ("a.b", 1e-9)),
        ("a.b=15 ns", ("a.b", "15 ns")),
        ("a=null", ("a", None)),
        ("a=true", ("a", True)),
        ("a=on", ("a", "on")),
        ("a.b = x=y", ("a.b", "x=y")),
    ],
)
def test_assignments(text: str, expected: tuple[str, object]) -> None:
    assert parse_assignment(text) == expected


@pytest.mark.parametrize(
    "text", ["window", "=3", "a..b=1", "a=[1", "a={b: 1}", "a b=1", "a=2026-01-01"]
)
def test_malformed_assignments_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parse_assignment(text)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(list(leaf_paths(HardwareConfig))),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=12),
        st.sampled_from(["1 ns", "0 s", "1e30 s", "1 fs", "5 GHz", "1 uA", "1e-30 m^2", "auto"]),
    ),
)
def test_no_override_gives_anything_but_a_hardware_or_one_line(key: str, value: object) -> None:
    try:
        hardware = archsim.load_hardware(overrides={key: value})
    except ArchsimError as error:
        assert "\n" not in str(error)
    else:
        assert hardware.sha256
