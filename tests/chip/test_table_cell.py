"""``cell.model: table``: currents from a CSV file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import archsim
from archsim.adaptation.attention import check_trainable
from archsim.chip.cell import current_law
from archsim.chip.cells.polynomial import PolynomialCurrent
from archsim.chip.cells.table import CurrentTable, TableCell, measured, monotone_pieces
from archsim.chip.laws import laws_of
from archsim.cli import application
from archsim.errors import ConfigError
from archsim.hardware.load import Hardware, load_hardware
from archsim.hardware.show import leaf_text, show_config
from archsim.testing import conform
from archsim.traces.trace import Trace

SMALL = "stored_V, current_uA\n0, -10\n0.3, -2\n0.45, 0\n0.6, 3\n0.9, 10\n"
BY_READ = "stored_V, current_uA@0.6V, current_uA@0.9V\n0, -4, -10\n0.45, 0, 0\n0.9, 4, 8\n"


def table(path: Path, **overrides: object) -> Hardware:
    return load_hardware(overrides={"cell.model": "table", "cell.table": str(path), **overrides})


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "cell.csv"
        path.write_text(text)
        return path

    return write


def published() -> PolynomialCurrent:
    law = current_law(load_hardware().config)
    assert isinstance(law, PolynomialCurrent)
    return law


def sampled(points: int) -> str:
    """The published polynomial as a table."""
    volts = np.linspace(0, 0.9, points)
    rows = zip(volts.tolist(), published().current(volts - 0.45).tolist(), strict=True)
    return "stored_V,current_uA\n" + "\n".join(f"{v!r},{i!r}" for v, i in rows)


def test_currents_between_points(file: Callable[[str], Path]) -> None:
    config = table(file(SMALL)).config
    got = current_law(config).current(np.array([-0.45, -0.3, 0.0, 0.075, 0.45]))
    np.testing.assert_allclose(got, [-10, -6, 0, 1.5, 10])
    assert laws_of(config).cell == CurrentTable((-0.45, -0.15000000000000002, 0.0,
                                                 0.14999999999999997, 0.45),
                                                (-10.0, -2.0, 0.0, 3.0, 10.0))  # fmt: skip


def test_monotone_pieces_meet_their_points_and_never_turn() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        x, y = np.cumsum(rng.uniform(0.01, 1, 9)), np.cumsum(rng.uniform(0, 2, 9) ** 3)
        law = CurrentTable(tuple(x.tolist()), tuple(y.tolist()), "monotone")
        np.testing.assert_allclose(law.current(x), y, rtol=1e-12)
        assert (np.diff(law.current(np.linspace(x[0] - 1, x[-1] + 1, 2001))) >= -1e-12).all()


def test_monotone_pieces_are_scipys() -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    rng = np.random.default_rng(4)
    for points in (2, 3, 8):
        x, y = np.cumsum(rng.uniform(0.01, 1, points)), rng.normal(size=points)
        theirs = interpolate.PchipInterpolator(x, y).c[::-1]
        np.testing.assert_allclose(monotone_pieces(x, y), theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("points", "interpolation", "within"),
    [(51, "linear", 0.005), (51, "monotone", 0.0005), (2001, "linear", 1e-5)],
)
def test_the_published_polynomial_as_a_table(
    file: Callable[[str], Path],
    small_trace: Trace,
    small_result: archsim.Result,
    points: int,
    interpolation: str,
    within: float,
) -> None:
    hardware = table(file(sampled(points)), **{"cell.interpolation": interpolation})
    result = archsim.simulate(small_trace, hardware)
    assert result.energy_pj["total"] == pytest.approx(small_result.energy_pj["total"], rel=within)
    assert result.energy_pj["qk"] == pytest.approx(small_result.energy_pj["qk"], rel=within)
    sqnr = small_result.function["sqnr_db"]
    assert result.function["sqnr_db"] == pytest.approx(sqnr, abs=20 * within)
    assert result.latency == small_result.latency


def test_without_fading_a_table_goes_by_panels(
    file: Callable[[str], Path], small_trace: Trace
) -> None:
    off = {"retention.model": "off"}
    from_table = archsim.simulate(small_trace, table(file(sampled(2001)), **off))
    exact = archsim.simulate(small_trace, load_hardware(overrides=off))
    assert from_table.energy_pj["qk"] == pytest.approx(exact.energy_pj["qk"], rel=1e-5)


def test_read_voltages(file: Callable[[str], Path]) -> None:
    path = file(BY_READ)
    ends = np.array([-0.45, 0.45])
    for volts, currents in (("0.9 V", [-10, 8]), ("0.6 V", [-4, 4]), ("0.75 V", [-7, 6])):
        law = current_law(table(path, **{"cell.input_voltage": volts}).config)
        np.testing.assert_allclose(law.current(ends), currents)
    with pytest.raises(ConfigError, match=r"cell.table: covers read voltages from 0.6 to 0.9 V; "):
        table(path, **{"cell.input_voltage": "0.5 V"})


def test_one_column_says_that_it_does_not_follow(file: Callable[[str], Path]) -> None:
    assert not any("cell.table" in note for note in table(file(SMALL)).notes)
    moved = table(file(SMALL), **{"cell.input_voltage": "0.8 V"})
    assert any("cell.table names no read voltage" in note for note in moved.notes)
    moved = table(file(BY_READ), **{"cell.input_voltage": "0.8 V"})
    assert not any("cell.table" in note for note in moved.notes)


@pytest.mark.parametrize(
    "text",
    [
        "stored_mV,current_nA\n0,-10000\n300,-2e3\n450,0\n600,3000\n900,10000",
        "\ufeffstored_V,current_A\r\n0,-10e-6\r\n0.3,-2e-6\r\n0.45,0\r\n0.6,3e-6\r\n0.9,1e-5\r\n",
        '# measured\n"stored_V","current_µA"\n\n0,-10\n.3,-2\n0.45,0\n0.60,+3\n0.9,10.',
        "a_V\\b_V,0.9\n0,-10e-6\n0.3,-2e-6\n0.45,0\n0.6,3e-6\n0.9,1e-5",
    ],
)
def test_units_and_layouts(file: Callable[[str], Path], text: str) -> None:
    got, want = table(file(text)).config.cell, table(file(SMALL)).config.cell
    law, other = measured(got.table), measured(want.table)  # type: ignore[attr-defined]
    assert (law.stored, law.currents) == (other.stored, other.currents)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "an empty table"),
        ("stored_V,current_uA\n", "0 row of numbers"),
        ("stored_V,current_uA\n0,1\n", "1 row of numbers"),
        ("stored_V,current_uA\n0,1\n0.9,nan\n", "row 3: 'nan' is no number"),
        ("stored_V,current_uA\n0,1\n0.9,inf\n", "row 3: 'inf' is no number"),
        ("stored_V,current_uA\n0,1\n0.9\n", "row 3: 1 columns, the header has 2"),
        ("stored_V,current_uA\n0,1\n0.9,2\n0.9,3", "row 4: stored voltages must rise"),
        ("stored_V,current_uA\n0,1\n0.9,1e9\n", "row 3: a current beyond 10 mA"),
        ("stored_V\n0\n", "the header is 'stored_V'; give a CSV file"),
        ("stored_V;current_uA\n0;1\n", "the header is 'stored_V'; give a CSV file"),
        ("0,1\n0.9,2\n", "column 1 is '0': call it stored_V"),
        ("stored_s,current_uA\n0,1\n0.9,2\n", "column 1 is 'stored_s': call it stored_V"),
        ("stored_V,current_uV\n0,1\n0.9,2\n", "column 2 is 'current_uV': call it current_uA"),
        ("stored_V,current_uA@9A\n0,1\n0.9,2\n", "a read voltage is in V or mV"),
        ("stored_V,current_uA,current_uA\n0,1,2\n0.9,2,3\n", "of several columns each names"),
        ("stored_V,current_uA@1V,current_uA@0.9V\n0,1,2\n", "read voltages must rise"),
        ("stored_V,current_uA@1V,current_nA@2V\n0,1,2\n", "columns of several units"),
        ("stored_V,current_uA\n" + "\n".join(f"{n},0" for n in range(6000)), "12,000 numbers"),
        ("x" * (1 << 21), "larger than 1 MiB"),
        ("stored_V,current_uA\n0.1,1\n0.9,2\n", "covers stored voltages from 0.1 to 0.9 V"),
        ("stored_V,current_uA\n0,1\n0.8,2\n", "cells store 0 to cell.supply, 0.9 V"),
    ],
)
def test_bad_tables_are_one_line(file: Callable[[str], Path], text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        table(file(text))
    assert fault in str(caught.value)
    assert str(caught.value).startswith("--set cell.table: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_what_is_no_table_file_is_one_line(tmp_path: Path) -> None:
    pipe, binary = tmp_path / "pipe.csv", tmp_path / "binary.csv"
    os.mkfifo(pipe)
    binary.write_bytes(b"\xff\xfe\x00s")
    for path, fault in (
        (tmp_path / "no.csv", "no such file"),
        (tmp_path, "is a folder"),
        (pipe, "no regular file"),
        (binary, "not UTF-8"),
        (tmp_path / ("n" * 400), "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=fault) as caught:
            table(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"cell\.model table needs cell\.table"):
        load_hardware(overrides={"cell.model": "table"})
    with pytest.raises(ConfigError, match="give the name of a CSV file"):
        load_hardware(overrides={"cell.model": "table", "cell.table": 5})


def test_a_config_names_a_table_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "chips"
    folder.mkdir()
    (folder / "iv.csv").write_text(SMALL)
    text = "extends: gaincell-28nm\ncell:\n  model: table\n  table: {value: iv.csv, source: user}\n"
    (folder / "mine.yaml").write_text(text)
    hardware = load_hardware(folder / "mine.yaml")
    monkeypatch.chdir(folder)
    assert hardware.sha256 == table(Path("iv.csv")).sha256
    (folder / "iv.csv").unlink()
    with pytest.raises(ConfigError, match=r"mine\.yaml:4: cell\.table: .*iv\.csv: no such file"):
        load_hardware("mine.yaml")


def test_numbers_are_hashed_not_names(file: Callable[[str], Path], tmp_path: Path) -> None:
    first = table(file(SMALL))
    (tmp_path / "other.csv").write_text(SMALL)
    assert table(tmp_path / "other.csv").sha256 == first.sha256
    second = table(file(SMALL.replace("-2", "-2.000001")))
    assert second.sha256 != first.sha256
    assert laws_of(second.config).sha256 != laws_of(first.config).sha256
    monotone = first.changed({"cell.interpolation": "monotone"})
    assert laws_of(monotone.config).sha256 != laws_of(first.config).sha256


def test_a_written_config_needs_no_file(file: Callable[[str], Path], tmp_path: Path) -> None:
    for text in (sampled(37), BY_READ):
        path = file(text)
        hardware = table(path, **{"cell.interpolation": "monotone"})
        path.unlink()
        (tmp_path / "config.yaml").write_text(show_config(hardware))
        again = load_hardware(tmp_path / "config.yaml")
        assert again.sha256 == hardware.sha256
        assert laws_of(again.config) == laws_of(hardware.config)
        assert hardware.changed({"window": 128}).config.window == 128
        assert len(leaf_text(hardware, "cell.table")) < 40


def test_training_refuses(file: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"cell\.model table: cannot be trained"):
        check_trainable(table(file(SMALL)).config, 64)


def test_the_kit(file: Callable[[str], Path]) -> None:
    assert conform(TableCell, table=str(file(sampled(9)))).refused == {}


def test_commands(file: Callable[[str], Path], small_trace_folder: Path, tmp_path: Path) -> None:
    path = file(sampled(51))
    setting = ["--set", f"cell.table={path}"]
    chosen = ["--set", "cell.model=table"]
    few = ["-t", str(small_trace_folder), "--tokens", "40"]
    out = ["--store", str(tmp_path / "s.db"), "-o", str(tmp_path / "out"), "--workers", "1"]
    for command in (
        ["simulate", *few, *chosen],
        ["compare", *few[:2], *chosen],
        ["sweep", "--vary", "cell.model=polynomial,table", *few, *out],
    ):
        ran = CliRunner().invoke(application, [*command, *setting])
        assert ran.exit_code == 0, ran.output
    assert "model table" in ran.output


def test_a_sweep_file_names_tables_beside_it(file: Callable[[str], Path], tmp_path: Path) -> None:
    file(SMALL)
    (tmp_path / "other.csv").write_text(BY_READ)
    sweep = tmp_path / "sweep.yaml"
    axes = "axes:\n  cell.table: [cell.csv, other.csv]\n"
    sweep.write_text(f"name: tables\nset: {{cell.model: table}}\n{axes}")
    found = archsim.load_sweep(sweep).axes[0].values
    assert found == (str(tmp_path / "cell.csv"), str(tmp_path / "other.csv"))
    sweep.write_text(f"name: tables\n{axes}".replace("other", "absent"))
    with pytest.raises(ConfigError, match=r"sweep.yaml:3: .*absent.csv: no such file"):
        archsim.load_sweep(sweep)


def test_the_measured_table_of_the_published_cell() -> None:
    """The circuit simulation that the polynomial was fitted to (FACTS 2)."""
    folder = os.environ.get("ARCHSIM_REFERENCE_DATA")
    if folder is None or not (path := Path(folder) / "gaincell_iv_table.csv").is_file():
        pytest.skip("ARCHSIM_REFERENCE_DATA names no folder with gaincell_iv_table.csv")
    deviation = np.linspace(-0.4, 0.4, 41)
    got = current_law(table(path).config).current(deviation)
    assert np.abs(got - published().current(deviation)).max() < 0.5
    ends = current_law(table(path).config).current(np.array([-0.45, 0.45]))
    np.testing.assert_allclose(ends, [-10.148774, 9.97322089], atol=1e-6)
    lower = table(path, **{"cell.input_voltage": "0.7 V", "cell.interpolation": "monotone"})
    assert np.abs(current_law(lower.config).current(deviation)).max() < np.abs(got).max() / 2


def test_validation_measures_the_cell_at_hand(file: Callable[[str], Path]) -> None:
    """No polynomial any more, so its codes are not the published ones to the last."""
    setting = ["--set", "cell.model=table", "--set", f"cell.table={file(SMALL)}"]
    ran = CliRunner().invoke(application, ["validate", "--json", *setting])
    assert ran.exit_code == 1, ran.output
    figures = {row["name"]: row for row in json.loads(ran.stdout)["figures"]}
    assert figures["cell current at 0 V"]["simulated"] == pytest.approx(-10)
    assert figures["zero-current voltage"]["simulated"] == pytest.approx(0.45)
