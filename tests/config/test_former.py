"""Keys by their names of the version before: the same hardware, and a line that says the new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from archsim.cli import application
from archsim.config.section import value_at
from archsim.errors import ConfigError
from archsim.hardware.load import load_hardware
from archsim.sweeps.axes import axis_from_text
from archsim.sweeps.definition import quick_sweep
from archsim.sweeps.design import design
from archsim.sweeps.expression import parse_expression
from archsim.sweeps.sweep_file import load_sweep, sweep_from_values

OLD = {"mapping.row_split": "digital", "mapping.add_time": "7 ns", "array.rows": 24}
NEW = {"readout.model": "digital_sum", "readout.add_time": "7 ns", "array.rows": 24}
NOTE = (
    "mapping.row_split is called readout.model now (charge = charge_to_pulse, digital = "
    "digital_sum): the old name works in this version only"
)


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_overrides_by_old_names_are_those_by_new_ones() -> None:
    old, new = load_hardware(overrides=OLD), load_hardware(overrides=NEW)
    assert (old.sha256, old.config, old.overridden) == (new.sha256, new.config, new.overridden)
    assert old.notes[0] == NOTE
    assert len(old.notes) == 2
    assert new.notes == ()
    assert len(old.changed({"mapping.row_split": "charge"}).notes) == 2


def test_files_by_old_names_are_those_by_new_ones(tmp_path: Path) -> None:
    base = written(tmp_path, "extends: gaincell-28nm\nmapping:\n  row_split: digital\n", "a.yaml")
    path = written(
        tmp_path,
        "extends: a.yaml\nmapping:\n  add_time: {value: 7 ns, source: assumed, high: 9 ns}\n"
        "array: {rows: 24}\n",
    )
    hardware, new = load_hardware(path), load_hardware(overrides=NEW)
    assert (hardware.sha256, hardware.config) == (new.sha256, new.config)
    assert hardware.source("readout.add_time") == "assumed"
    assert hardware.bounds("readout.add_time") == (7e-9, 9e-9)
    assert [line.split()[0] for line in hardware.notes] == ["mapping.row_split", "mapping.add_time"]
    assert (
        load_hardware(base, {"readout.model": "charge_to_pulse"}).sha256 == load_hardware().sha256
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mapping: {row_split: digital}\nreadout: {model: digital_sum}\n",
         "mine.yaml:2: mapping.row_split is called readout.model now, and both are given"),
        ("mapping:\n  row_split: sideways\n", "mine.yaml:3: no readout 'sideways'|readout.model"),
        ("mapping:\n  add_time: 3 V\n", "mine.yaml:3: readout.add_time: '3 V' has the wrong"),
        ("mapping:\n  pulses: 3\n", "mine.yaml:2: unknown key 'mapping'"),
        ("mapping: 3\n", "mine.yaml:2: unknown key 'mapping'"),
    ],
)  # fmt: skip
def test_faults_of_old_names(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, f"extends: gaincell-28nm\n{text}")
    with pytest.raises(ConfigError, match=message):
        load_hardware(path)


def test_both_names_of_one_key_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"both are given: drop mapping\.add_time"):
        load_hardware(overrides={"mapping.add_time": "7 ns", "readout.add_time": "8 ns"})
    axes = [
        axis_from_text("mapping.row_split=digital"),
        axis_from_text("readout.model=digital_sum"),
    ]
    with pytest.raises(ConfigError, match="given twice"):
        quick_sweep(axes)


def test_a_sweep_by_old_names_is_that_by_new_ones(tmp_path: Path) -> None:
    def sweep(text: str, name: str) -> Any:
        return load_sweep(written(tmp_path, f"name: both\n{text}", f"{name}.yaml"))

    old = sweep(
        "axes:\n  mapping.row_split: [charge, digital]\n  array.rows: [24, 64]\n"
        "set: {mapping.add_time: 7 ns}\nderived: {mapping.partial_levels: array.rows}\n"
        "constraints: [\"array.rows < 64 or mapping.row_split in ['charge']\"]\n",
        "old",
    )
    new = sweep(
        "axes:\n  readout.model: [charge_to_pulse, digital_sum]\n  array.rows: [24, 64]\n"
        "set: {readout.add_time: 7 ns}\nderived: {readout.partial_levels: array.rows}\n"
        "constraints: [\"array.rows < 64 or readout.model in ['charge_to_pulse']\"]\n",
        "new",
    )
    assert design(old) == design(new)
    assert len(design(new)) == 3
    assert old.fixed == new.fixed
    assert [line.split()[0] for line in old.notes] == [
        "mapping.row_split", "mapping.partial_levels", "mapping.add_time"
    ]  # fmt: skip
    assert new.notes == ()
    assert design(sweep_from_values(old.document())) == design(new)


def test_an_expression_by_old_names() -> None:
    known = ["readout.model", "array.rows"]
    old = parse_expression("mapping.row_split == 'digital' and array.rows > 3", known)
    assert old.names == {*known}
    assert old.former == {"mapping.row_split"}
    assert old.holds({"readout.model": "digital_sum", "array.rows": 4})
    assert not old.holds({"readout.model": "charge_to_pulse", "array.rows": 4})


def test_the_commands_say_the_new_name_once() -> None:
    arguments = ["config", "show", "--set", "mapping.row_split=digital"]
    result = CliRunner().invoke(application, arguments)
    assert result.exit_code == 0
    assert result.stderr == f"note: {NOTE}\n"
    assert "  model: {value: digital_sum, source: user}" in result.stdout
    assert "mapping" not in result.stdout


def test_values_of_a_readout_not_chosen_are_kept() -> None:
    hardware = load_hardware(overrides={"mapping.add_time": "3 ns"})
    assert value_at(hardware.config, "readout.add_time") == 3e-9
    assert hardware.unused_overrides == ["readout.add_time"]
