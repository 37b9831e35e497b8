"""Axes, sweep files and the points they give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archsim.config.section import leaf_paths
from archsim.errors import ConfigError
from archsim.files import data_folder
from archsim.hardware.load import load_hardware
from archsim.hardware.sections import HardwareConfig
from archsim.sweeps.axes import axis_from_file, axis_from_text, config_value, known_keys, si_value
from archsim.sweeps.definition import quick_sweep
from archsim.sweeps.design import design, sobol_base
from archsim.sweeps.sweep_file import (
    SCHEMA_FILE,
    available_sweeps,
    load_sweep,
    schema_text,
    sweep_from_values,
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("array.rows=32,64,128", (32, 64, 128)),
        ("controller.clock=0.5GHz..2GHz:4", ("0.5 GHz", "1 GHz", "1.5 GHz", "2 GHz")),
        ("window=64..1024:5:log", (64, 128, 256, 512, 1024)),
        ("write_path.pulse=500 ps..2 ns:4", ("500 ps", "1000 ps", "1500 ps", "2000 ps")),
        ("levels.query=8,null", (8, None)),
        ("array.write_during_read=false,true", (False, True)),
        ("pulse_generator.t_max=auto,15 ns", ("auto", "15 ns")),
        ("order=generate,prefill", ("generate", "prefill")),
        ("array.columns=2..4:9", (2, 3, 4)),
    ],
)
def test_axes_of_the_quick_form(text: str, values: tuple[object, ...]) -> None:
    assert axis_from_text(text).values == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("array.row=32", "did you mean 'array.rows'"),
        ("array.rows=", "empty axis"),
        ("array.rows=64,64", "twice"),
        ("array.rows=1.5", "valid integer"),
        ("controller.clock=1 ns,2 ns", "unit"),
        ("window=10..5:3", "does not go up"),
        ("window=10..50:1", "2 or more"),
        ("window=-5..50:3", "greater than"),
        ("retention.decay_per_token=0..1:3:log", "above 0"),
        ("controller.phases=early_end..worst_case:3", "between numbers"),
        ("array.rows", "write key="),
    ],
)
def test_axes_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        axis_from_text(text)


def test_ranges_of_a_file() -> None:
    axis = axis_from_file("write_path.pulse", {"from": "5 ns", "to": "10 ns", "step": "2 ns"})
    assert axis.values == ("5 ns", "7 ns", "9 ns")
    tau = axis_from_file("retention.tau", {"from": "1 ms", "to": "1 s", "scale": "log"})
    assert tau.values is None
    assert tau.at(0.0) == "1 ms"
    assert si_value("retention.tau", tau.at(1.0)) == pytest.approx(1.0)
    assert si_value("retention.tau", tau.at(0.5)) == pytest.approx(0.0316, rel=1e-3)
    rows = axis_from_file("array.rows", {"from": 4, "to": 6})
    assert {rows.at(i / 30) for i in range(30)} == {4, 5, 6}


def test_every_value_of_the_default_hardware_goes_round() -> None:
    """What an expression computes in SI units can be written into a config again."""
    config = load_hardware().config.model_dump()
    for key in leaf_paths(HardwareConfig):
        if key == "description":
            continue
        *sections, leaf = key.split(".")
        value = config
        for part in sections:
            value = value[part]
        if leaf not in value:
            # of a variant that is not chosen, it must be given
            assert load_hardware().written(key) is None
            continue
        value = value[leaf]
        assert si_value(key, config_value(key, value)) == value, key  # type: ignore[arg-type]


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


def test_derived_keys_follow_the_axes(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        name: tied
        axes: {pulse_generator.t_max: [15 ns, 30 ns], array.columns: [32, 64]}
        derived:
          converter.t_max: pulse_generator.t_max
          window: 4 * array.columns
        constraints: [window >= 200 or converter.t_max > '20 ns']
        """,
    )
    points = design(load_sweep(path))
    assert [(p["converter.t_max"], p["window"]) for p in points] == [
        ("1.5e-08 s", 256), ("3e-08 s", 128), ("3e-08 s", 256),
    ]  # fmt: skip


BAD = {
    "unknown axis": ("axes: {array.rowz: [1]}", "did you mean 'array.rows'"),
    "empty axis": ("axes: {array.rows: []}", "empty axis"),
    "no axis": ("axes: {}", "nothing varies"),
    "contradiction": (
        "axes: {array.rows: [8, 16]}\nconstraints: [array.rows > 64]",
        "leave none of 2 points",
    ),
    "a call": (
        "axes: {array.rows: [8]}\nconstraints: [\"__import__('os').system('true')\"]",
        "calls nothing",
    ),
    "huge": (
        "axes: {window: {from: 1, to: 1000, points: 1000}, array.rows: {from: 1, to: 1000, "
        "points: 1000}, array.columns: {from: 1, to: 1000, points: 1000}}",
        "1,000,000,000 points",
    ),
    "large": (
        "axes: {window: {from: 1, to: 1000, points: 1000}, array.rows: {from: 1, to: 1000, "
        "points: 1000}}",
        "confirm with --yes",
    ),
    "unknown key": ("axis: {array.rows: [8]}", "unknown key 'axis'"),
    "unknown objective": ("axes: {array.rows: [8]}\nobjectives: [latencyy]", "did you mean"),
    "no direction": ("axes: {array.rows: [8]}\nobjectives: [peak_power_mw]", "say minimise"),
    "set and varied": ("axes: {window: [8]}\nset: {window: 9}", "is an axis already"),
    "a continuous grid": ("axes: {window: {from: 1, to: 9}}", "points: N"),
    "points of a grid": ("axes: {window: [8]}\npoints: 9", "not of grid"),
    "no hardware": ("axes: {window: [8]}\nhardware: nothing", "no such config"),
    "no trace": ("axes: {window: [8]}\ntrace: nothing", "no trace named"),
    "no name": ("name: ''\naxes: {window: [8]}", "name"),
    "bad limit": ("axes: {window: [8]}\ntime_limit: 3", "number with a unit"),
    "step of another unit": (
        "axes: {controller.clock: {from: 1 GHz, to: 2 GHz, step: 1 ns}}",
        "step 1 ns: .*wrong unit",
    ),
    "step of nan": ("axes: {window: {from: 1, to: 9, step: .nan}}", "step must be above 0"),
    "step of inf": ("axes: {window: {from: 1, to: 9, step: .inf}}", "step must be above 0"),
    "condition as objective": (
        "axes: {window: [8]}\nobjectives: {x: {expression: energy_pj < 3, direction: min}}",
        "sweep.yaml:3: objective x: .*is not a number",
    ),
    "objective of a text": (
        "axes: {window: [8]}\nobjectives: {x: {expression: energy_pj * 'a', direction: min}}",
        "is not a number",
    ),
    "objective of nothing": (
        "axes: {window: [8]}\nobjectives: {x: {expression: '3', direction: min}}",
        "reads no figure",
    ),
    "not a range": ("axes: {window: {from: 1}}", "both from and to"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_sweep_files(case: str, tmp_path: Path) -> None:
    from archsim.sweeps.runner import explore

    text, message = BAD[case]
    path = write(tmp_path, text if text.startswith("name") else f"name: bad\n{text}")
    with pytest.raises(ConfigError, match=message) as error:
        explore(load_sweep(path), tmp_path / "s.db")
    assert "\n" not in str(error.value)


def test_faults_name_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, "name: bad\naxes:\n  window: [64]\n  array.rowz: [1]\n")
    with pytest.raises(ConfigError, match=r"sweep\.yaml:4: unknown axis"):
        load_sweep(path)


def test_random_points_meet_constraints_and_are_distinct() -> None:
    axes = [axis_from_text("array.rows=1..64"), axis_from_text("array.columns=16,32,64")]
    sweep = quick_sweep(axes, method="random", points=50, seed=3)
    points = design(sweep)
    assert len(points) == 50
    assert len({tuple(p.values()) for p in points}) == 50
    assert points == design(sweep)
    few = quick_sweep(axes[1:], method="random", points=50)
    assert len(design(few)) == 3  # there are no more


def test_sobol_points_are_balanced() -> None:
    axes = [axis_from_text("array.columns=16,32,64,128"), axis_from_text("window=1..1024")]
    sweep = quick_sweep(axes, method="sobol", points=256)
    assert sobol_base(sweep) == 64
    points = design(sweep)
    columns = [p["array.columns"] for p in points]
    assert min(columns.count(c) for c in (16, 32, 64, 128)) > 30
    with pytest.raises(ConfigError, match="too few"):
        design(quick_sweep(axes, method="sobol", points=5))


@pytest.mark.parametrize("name", available_sweeps())
def test_shipped_sweeps_load_and_say_the_same_again(name: str) -> None:
    sweep = load_sweep(name)
    assert sweep.name == name
    again = sweep_from_values(json.loads(json.dumps(sweep.document())))
    assert again.sha256 == sweep.sha256
    if sweep.method != "search":
        assert design(again) == design(sweep)


def test_schema_is_the_committed_one_and_knows_every_key() -> None:
    committed = data_folder("hwconfigs") / SCHEMA_FILE
    assert committed.read_text(encoding="utf-8") == schema_text(), (
        "run: archsim sweep schema > hwconfigs/sweep.schema.json"
    )
    axes = json.loads(schema_text())["properties"]["axes"]
    assert set(axes["properties"]) == set(known_keys())


def test_axes_over_files_look_beside_the_sweep_file_too(tmp_path: Path) -> None:
    """As `hardware:` and `trace:` do: the same line must not mean another file elsewhere."""
    (tmp_path / "mine.yaml").write_text("extends: gaincell-28nm\nname: mine\nwindow: 8\n")
    (tmp_path / "traces" / "one").mkdir(parents=True)
    path = write(
        tmp_path,
        "name: files\naxes: {hardware: [gaincell-28nm, mine.yaml], trace: [reference, traces/one]}",
    )
    hardware, trace = load_sweep(path).axes
    assert hardware.values == ("gaincell-28nm", str(tmp_path / "mine.yaml"))
    assert trace.values == ("reference", str(tmp_path / "traces" / "one"))
