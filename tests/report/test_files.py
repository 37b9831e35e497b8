"""Result files: the same bytes for the same run, whole or absent, and a config that loads again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from archsim.api import simulate
from archsim.errors import ConfigError
from archsim.hardware.load import load_hardware
from archsim.report import files
from archsim.report.files import check_folder, default_folder, write_result
from archsim.result import Result
from archsim.traces.trace import Trace

NAMES = {
    "area.csv",
    "config.yaml",
    "energy.csv",
    "result.json",
    "tokens.csv",
    "utilisation.csv",
}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_two_runs_give_the_same_bytes(
    small_result: Result, small_trace: Trace, tmp_path: Path
) -> None:
    write_result(small_result, tmp_path / "a")
    write_result(simulate(small_trace, load_hardware()), tmp_path / "b")
    assert {path.name for path in (tmp_path / "a").iterdir()} == NAMES
    for name in NAMES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_json_is_the_document(small_result: Result, tmp_path: Path) -> None:
    write_result(small_result, tmp_path)
    text = (tmp_path / "result.json").read_text()
    assert json.loads(text) == small_result.document(wall=False)
    assert "wall_s" not in text
    assert "NaN" not in text
    assert "Infinity" not in text


def test_token_rows_add_up(small_result: Result, tmp_path: Path) -> None:
    write_result(small_result, tmp_path)
    table = rows(tmp_path / "tokens.csv")
    assert len(table) == 2 * 96
    assert [(row["layer"], row["token"]) for row in table[95:97]] == [("0", "95"), ("1", "0")]
    assert {row["attention_ns"] for row in table} == {"65.0"}
    total = sum(float(row["energy_pj"]) for row in table)
    assert total == pytest.approx(small_result.energy_pj["total"], rel=1e-12)


def test_energy_that_belongs_to_no_token_is_divided(small_trace: Trace, tmp_path: Path) -> None:
    hardware = load_hardware(overrides={"static.power_per_head": "1 mW"})
    result = simulate(small_trace.select(tokens=8), hardware)
    write_result(result, tmp_path)
    total = sum(float(row["energy_pj"]) for row in rows(tmp_path / "tokens.csv"))
    assert result.energy_pj["static"] > 0
    assert total == pytest.approx(result.energy_pj["total"], rel=1e-12)


def test_tables_hold_what_the_result_holds(small_result: Result, tmp_path: Path) -> None:
    write_result(small_result, tmp_path)
    energy = rows(tmp_path / "energy.csv")
    assert sum(float(row["energy_pj"]) for row in energy) == pytest.approx(
        small_result.energy_pj["total"], rel=1e-12
    )
    assert sum(int(row["events"]) for row in energy) == small_result.simulation.ledger.events
    area = {row["component"]: float(row["head_mm2"]) for row in rows(tmp_path / "area.csv")}
    assert area == small_result.area_mm2["components"]
    busy = rows(tmp_path / "utilisation.csv")
    assert {row["resource"]: float(row["utilisation"]) for row in busy} == (
        small_result.simulation.utilisation
    )


def test_the_config_loads_to_the_same_hash(small_trace: Trace, tmp_path: Path) -> None:
    overrides = {
        "window": 100,
        "static.power_per_head": "0.3 mW",
        "pulse_generator.t_max": "auto",
        "levels.output": None,
        "retention.decay_per_token": 1e-5,
    }
    hardware = load_hardware("gaincell-osfet", overrides)
    write_result(simulate(small_trace.select(tokens=2), hardware), tmp_path)
    again = load_hardware(tmp_path / "config.yaml")
    assert again.sha256 == hardware.sha256
    assert again.config == hardware.config
    assert {p: again.source(p) for p in hardware.provenance} == {
        p: hardware.source(p) for p in hardware.provenance
    }


def test_a_rerun_replaces_its_own_files_only(small_result: Result, tmp_path: Path) -> None:
    write_result(small_result, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    write_result(small_result, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "config.yaml").write_text("window: 3\n")
    with pytest.raises(ConfigError, match="not written by archsim"):
        write_result(small_result, tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "window: 3\n"
    write_result(small_result, tmp_path, force=True)
    assert (tmp_path / "config.yaml").read_text().startswith("# archsim config")


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="is not a folder"):
        check_folder(tmp_path / "out")


def test_a_failed_write_leaves_nothing(
    small_result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up at the last file: none of them gets its name."""
    real = Path.write_bytes

    def fails(path: Path, data: bytes) -> int:
        if path.name.startswith(".result.json"):
            raise OSError(28, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(files.Path, "write_bytes", fails)
    with pytest.raises(ConfigError, match="No space left"):
        write_result(small_result, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_default_folder_names_hardware_and_trace(small_trace: Trace) -> None:
    plain = default_folder(load_hardware(), small_trace, 1)
    assert plain.parent == Path("reports")
    assert plain.name.startswith("gaincell-28nm-small-")
    assert plain == default_folder(load_hardware(), small_trace, 1)
    assert plain != default_folder(load_hardware(), small_trace, 96)
    assert plain != default_folder(load_hardware(), small_trace, 1, "float32")
    assert plain != default_folder(load_hardware(overrides={"window": 9}), small_trace, 1)
    assert plain != default_folder(load_hardware(), small_trace.select(tokens=9), 1)
