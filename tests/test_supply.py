"""A supply other than 0.9 V: what follows it, what says that it does not, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.api import attend, simulate
from archsim.cli import application
from archsim.config.voltages import VoltageRange
from archsim.errors import ConfigError, CorruptInputError
from archsim.hardware.load import Hardware, load_hardware
from archsim.hardware.show import show_config
from archsim.result import Result
from archsim.traces.scalers import DEFAULT_RANGE, fit_scalers, rescaled
from archsim.traces.trace import Trace, load_trace, save_trace

POWERS = ("constant", "linear", "quadratic", "cubic")
SUPPLIES = st.floats(0.3, 5.0).map(lambda volts: round(volts, 3))
SHARES = st.floats(0.1, 0.9)


def same_currents(hardware: Hardware, supply: float, **changes: Any) -> Hardware:
    """`hardware` at another supply, with cells that send the same current at the same share."""
    polynomial, ratio = hardware.config.cell.polynomial, supply / hardware.config.cell.supply
    units = ("A", "A/V", "A/V^2", "A/V^3")
    laws = {
        f"cell.polynomial.{name}": f"{getattr(polynomial, name) / ratio**power!r} {unit}"
        for power, (name, unit) in enumerate(zip(POWERS, units, strict=True))
    }
    slope = hardware.config.cell.linear_slope / ratio
    laws |= {"cell.linear_slope": f"{slope!r} A/V", "cell.supply": f"{supply!r} V"}
    return hardware.changed({**laws, **changes})


def component(result: Result, name: str) -> float:
    found: float = result.document()["energy_by_component_pj"][name]
    return found


@pytest.mark.parametrize("model", ["linear", "polynomial"])
@pytest.mark.parametrize("supply", [1.8, 1.1, 0.73])
def test_cells_with_the_same_currents_compute_the_same_at_any_supply(
    small_trace: Trace, model: str, supply: float
) -> None:
    """Codes, scores below 0 and SQNR; a read costs in proportion to the voltage it drops."""
    trace, before = small_trace.select(40), load_hardware(overrides={"cell.model": model})
    after = same_currents(before, supply)
    one, other = simulate(trace, before), simulate(trace, after)
    assert other.function["saturation"] == pytest.approx(one.function["saturation"], abs=1e-12)
    assert one.function["saturation"]["score_low"] < 0.9
    assert other.function["sqnr_db"] == pytest.approx(one.function["sqnr_db"], rel=1e-5)
    ratio = supply / 0.9
    for name in ("K arrays", "V arrays"):
        assert component(other, name) == pytest.approx(ratio * component(one, name), rel=1e-9)
    lines = component(other, "write lines") / component(one, "write lines")
    assert lines == pytest.approx(ratio**2, rel=1e-9)  # C V^2
    codes = []
    for hardware in (before, after):
        scalers = trace.scalers_on(VoltageRange.of(hardware.config.cell))
        pairs = {name: (a[1], b[1]) for name, (a, b) in scalers.items()}
        codes.append(attend(*trace.layer(1), hardware, pairs, details=True).codes)
    assert codes[0] is not None
    np.testing.assert_array_equal(codes[0], codes[1])


def test_scalers_fitted_for_a_range_and_rescaled_to_it_do_the_same(small_trace: Trace) -> None:
    """A config with another supply used to read a third of its V energy: all scores were 0."""
    hardware = same_currents(load_hardware(), 1.8)
    voltages = VoltageRange.of(hardware.config.cell)
    parts = small_trace.q, small_trace.k, small_trace.v
    fitted = Trace.from_arrays(*parts, "fit", name="fitted", voltages=voltages)
    one, other = simulate(fitted, hardware), simulate(small_trace, hardware)
    for name in ("K arrays", "V arrays"):
        assert component(other, name) == pytest.approx(component(one, name), rel=1e-3)
    assert one.simulation.notes == [*hardware.notes]
    assert [n for n in other.simulation.notes if "rescaled" in n] == [
        "Scalers were made for cells of 0 to 0.9 V around 0.45 V and are rescaled to 0 to 1.8 V "
        "around 0.9 V"
    ]


@settings(max_examples=50, deadline=None)
@given(st.tuples(SUPPLIES, SHARES), st.tuples(SUPPLIES, SHARES), st.floats(-3, 3))
def test_rescaling_keeps_a_deviations_share_of_the_supply(
    one: tuple[float, float], other: tuple[float, float], x: float
) -> None:
    there, here = (VoltageRange(supply, supply * share) for supply, share in (one, other))
    scalers = {name: (np.array([[0.31]]), np.array([[0.17]])) for name in ("q", "k", "v", "output")}
    found = rescaled(scalers, there, here)
    for name in ("q", "output"):
        np.testing.assert_array_equal(found[name], scalers[name])
    for name in ("k", "v"):
        volts = [float(a[0, 0] * x + b[0, 0]) for a, b in (scalers[name], found[name])]
        shares = [(v - r.mid_rail) / r.supply for v, r in zip(volts, (there, here), strict=True)]
        assert shares[1] == pytest.approx(shares[0], abs=1e-9)
    back = rescaled(found, here, there)
    np.testing.assert_allclose(back["k"][1], 0.17, atol=1e-9)
    assert rescaled(scalers, there, there) is scalers


def test_voltages_follow_the_supply_and_keep_their_source() -> None:
    hardware = load_hardware(overrides={"cell.supply": "1.1 V"})
    cell = hardware.config.cell
    assert (cell.mid_rail, cell.effective_voltage, cell.input_voltage) == (0.55, 0.55, 1.1)
    assert hardware.source("cell.mid_rail") == "text"
    assert hardware.source("cell.effective_voltage") == "assumed"
    published = load_hardware().config.cell
    assert (published.mid_rail, published.effective_voltage, published.input_voltage) == (
        0.45, 0.45, 0.9
    )  # fmt: skip


@pytest.mark.parametrize(
    ("written", "volts"), [("1/3 supply", 0.3), ("0.4 supply", 0.36), ("0.41 V", 0.41)]
)
def test_mid_rail_in_volts_or_as_a_share(written: str, volts: float) -> None:
    hardware = load_hardware(overrides={"cell.mid_rail": written})
    assert hardware.config.cell.mid_rail == volts


@pytest.mark.parametrize("written", ["1/0 supply", "supply/2", "2 supplies", "-1/2 supply", "0.4"])
def test_what_is_no_voltage_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match=r"cell\.mid_rail"):
        load_hardware(overrides={"cell.mid_rail": written})


def test_a_shown_config_goes_on_following(tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(show_config(load_hardware(overrides={"cell.mid_rail": "2/5 supply"})))
    again = load_hardware(path, {"cell.supply": "2 V"})
    assert again.config.cell.mid_rail == 0.8
    assert load_hardware(path).sha256 == load_hardware(overrides={"cell.mid_rail": "360 mV"}).sha256


@pytest.mark.parametrize(
    ("overrides", "named", "silent"),
    [
        (
            {"cell.supply": "1.3 V"},
            ["cell.polynomial", "cell.linear_slope", "write_path.energy_per_conversion",
             "converter.score.saturation_current", "pulse_generator.energy_per_pulse"],
            ["cell.mid_rail:", "effective_voltage"],
        ),
        (
            {"cell.supply": "1.3 V", "cell.model": "linear"},
            ["cell.linear_slope"], ["polynomial"],
        ),
        (
            {"cell.supply": "1.3 V", "cell.model": "linear", "cell.linear_slope": "9 uA/V"},
            ["converter.score.saturation_current"], ["linear_slope", "polynomial"],
        ),
        (
            {"cell.mid_rail": "0.4 V"},
            ["cell.polynomial", "cell.linear_slope", "cell.effective_voltage"], ["write_path"],
        ),
        (
            {"cell.input_voltage": "0.8 V"},
            ["cell.polynomial", "pulse_generator.energy_per_pulse"], ["write_path", "effective"],
        ),
        ({"cell.effective_voltage": "0.42 V"}, [], [""]),
        ({"window": 256}, [], [""]),
    ],
)  # fmt: skip
def test_what_does_not_follow_is_named(
    overrides: dict[str, Any], named: list[str], silent: list[str]
) -> None:
    notes = " ".join(load_hardware(overrides=overrides).notes)
    assert all(name in notes for name in named)
    assert notes == "" if silent == [""] else not any(name in notes for name in silent)


def test_volts_in_a_file_that_stay_behind_its_supply_are_named(tmp_path: Path) -> None:
    path = tmp_path / "fixed.yaml"
    path.write_text(
        "extends: gaincell-28nm\ncell:\n"
        "  mid_rail: {value: 0.45 V, source: text}\n"
        "  effective_voltage: {value: 0.45 V, source: assumed}\n"
    )
    assert load_hardware(path).notes == ()
    (note,) = load_hardware(path, {"cell.supply": "0.8 V"}).notes
    assert "cell.mid_rail" in note
    assert "cell.effective_voltage" in note


def run(*words: object) -> Any:
    result = CliRunner().invoke(application, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


SET = ("--set", "cell.supply=1.7 V")


def test_every_command_says_the_same(small_trace_folder: Path, tmp_path: Path) -> None:
    """simulate, compare and sweep, in tables and in JSON."""
    trace = ("-t", small_trace_folder)
    shown = " ".join(run("simulate", *trace, "--tokens", 9, "--no-report", *SET).stdout.split())
    document = json.loads(run("simulate", *trace, "--tokens", 9, "--json", *SET).stdout)
    fitted, scalers = document["notes"]
    assert "here 1.7 V, 0.85 V, 1.7 V" in fitted
    assert "rescaled to 0 to 1.7 V around 0.85 V" in scalers
    assert fitted in shown
    assert scalers in shown
    compared = ("compare", *trace, "--gpu", "h100-sxm", "--protocol", "latency", *SET)
    compared += ("--set", "window=32")
    assert json.loads(run(*compared, "--json").stdout)["notes"] == document["notes"]
    assert scalers in " ".join(run(*compared).stdout.split())
    swept = ("sweep", *trace, "--tokens", 9, "--vary", "cell.supply=0.9 V,1.7 V")
    swept += ("--store", tmp_path / "store.db", "--workers", 1)
    points = json.loads(run(*swept, "--json").stdout)["points"]
    assert [point["results"]["notes"] for point in points] == [None, f"{fitted}; {scalers}"]
    assert "1 of 2 points: " + fitted in " ".join(run(*swept).stdout.split())


def test_a_trace_carries_its_range_and_old_files_stay_as_they_were(
    small_trace: Trace, small_trace_folder: Path, tmp_path: Path
) -> None:
    assert b"scalers.range" not in (small_trace_folder / "trace.safetensors").read_bytes()
    assert load_trace(small_trace_folder).voltages == DEFAULT_RANGE
    wide = VoltageRange(1.8, 0.7)
    parts = small_trace.q, small_trace.k, small_trace.v
    trace = Trace.from_arrays(*parts, "fit", name="wide", voltages=wide)
    np.testing.assert_array_equal(trace.scalers["k"][0], fit_scalers(*parts, wide)["k"][0])
    save_trace(trace, tmp_path / "wide")
    again = load_trace(tmp_path / "wide")
    assert again.voltages == wide == again.select(5).voltages
    assert trace.scalers_on(wide) is trace.scalers
    same = Trace.from_arrays(*parts, scalers=trace.scalers, name="wide")
    assert same.sha256 != trace.sha256  # results of one are never taken for the other's
    info = json.loads(run("trace", "info", tmp_path / "wide", "--json").stdout)
    assert info["voltages"] == {"supply_v": 1.8, "mid_rail_v": 0.7}


def test_a_range_that_is_none_is_refused(small_trace: Trace, tmp_path: Path) -> None:
    parts = small_trace.q, small_trace.k, small_trace.v
    broken = Trace.from_arrays(*parts, small_trace.scalers, voltages=VoltageRange(0.9, 1.2))
    save_trace(broken, tmp_path / "broken")
    with pytest.raises(CorruptInputError, match=r"scalers\.range is 0\.9, 1\.2"):
        load_trace(tmp_path / "broken")
