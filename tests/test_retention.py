"""Retention against a whole token's time: one number, everywhere the same."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import archsim
from archsim.api import simulate
from archsim.calibration import calibrate
from archsim.chip.head import Head
from archsim.chip.laws import laws_of
from archsim.cli import application
from archsim.comparison.hardware import compare_whole_model
from archsim.errors import ConfigError, InvariantError
from archsim.function import function_key
from archsim.gpu.file import load_gpu
from archsim.hardware.load import load_hardware
from archsim.hardware.show import show_config
from archsim.retention import attention_ns, retention_of, token_time, with_token_period
from archsim.sweeps.axes import axis_from_text
from archsim.sweeps.definition import quick_sweep
from archsim.sweeps.design import design
from archsim.sweeps.point import Job, Preparation, run_job
from archsim.timing.run import run as run_timing
from archsim.traces.synthetic import synthesise
from archsim.traces.trace import Trace, save_trace

AUTO = {"retention.model": "nominal", "retention.token_period": "auto"}
SMALL = {"window": 64}

DESIGNS: list[dict[str, Any]] = [
    {},
    {"digital.weights": "resident", "digital.rate": "3 TMAC/s"},
    {"digital.weight_bandwidth": "4.8 TB/s", "write_path.pulse": "7 ns"},
    {"write_path.heads_per_driver": 5, "accumulator.heads_per_adder": 3},
    {"write_path.heads_per_driver": 4, "write_path.arbitration": "fifo", "window": 100},
    {"controller.heads_in_parallel": 5},
    {"controller.pipelining": "stages", "array.write_during_read": True, "converter.buffers": 2},
    {"controller.gate_unwritten": True, "accumulator.heads_per_adder": 12},
    {"array.rows": 32, "readout.model": "digital_sum"},
    {"controller.phases": "early_end"},
    {"controller.phases": "early_end", "accumulator.heads_per_adder": 2, "window": 40},
]


@pytest.mark.parametrize("design", DESIGNS, ids=str)
def test_token_period_auto_is_the_whole_token_that_compare_prints(design: dict[str, Any]) -> None:
    hardware = load_hardware(overrides={**SMALL, **design, **AUTO})
    rows = compare_whole_model(hardware, [load_gpu("h100-sxm")]).rows
    ours = {row.accelerator_latency_us for row in rows if row.batch == 1}
    period = with_token_period(hardware).config.retention.token_period
    assert ours == {token_time(hardware).total_s * 1e6} == {period * 1e6}  # type: ignore[operator]
    assert attention_ns(hardware) == calibrate(hardware, features=64).attention_ns


def test_published_hardware_forgets_within_a_streamed_token() -> None:
    found = retention_of(load_hardware())
    assert found.token is not None
    assert found.token.total_s == pytest.approx(0.78e-6 + 123_653_376 / 819.2e9, rel=1e-3)
    assert found.used is not None
    assert found.used.oldest == pytest.approx(math.exp(-1.6e-4 * 1023))
    assert found.whole is not None
    assert found.whole.over_window == pytest.approx(1024 * found.token.total_s / 5e-3)
    assert found.whole.oldest == pytest.approx(math.exp(-1023 * found.token.total_s / 5e-3))
    assert found.warning is not None
    assert "31.1 tau" in found.warning
    assert retention_of(load_hardware("gaincell-osfet")).warning is None


def test_warning_comes_above_one_and_only_there() -> None:
    token = token_time(load_hardware()).total_s
    for factor, warned in ((1.01, True), (0.99, False)):
        tau = f"{1024 * token / factor!r} s"
        found = retention_of(load_hardware(overrides={"retention.tau": tau}))
        assert found.whole is not None
        assert found.whole.over_window == pytest.approx(factor)
        assert (found.warning is not None) is warned


def test_a_run_that_takes_whole_tokens_says_no_more_than_that() -> None:
    found = retention_of(load_hardware(overrides=AUTO))
    assert found.used == found.whole
    assert found.warning is not None
    assert "no loss or error" not in found.warning


def test_off_and_simulated_have_their_own_row(small_trace: Trace) -> None:
    off = retention_of(load_hardware(overrides={"retention.model": "off"}))
    assert off.used is not None
    assert (off.used.decay_per_token, off.used.oldest) == (0.0, 1.0)
    simulated = {"retention.model": "simulated", "controller.token_gap": "3 us"}
    hardware = load_hardware(overrides=simulated)
    assert retention_of(hardware).used is None
    result = archsim.simulate(small_trace, hardware)
    used = result.document()["retention"]["used"]
    interval = result.throughput["initiation_interval_ns"]
    assert used["token_time_us"] == pytest.approx(interval * 1e-3)
    assert used["token_time_us"] > 3


def test_run_and_keys_are_those_of_the_number(small_trace: Trace) -> None:
    """The same codes and energy as with the number given, the same key; another engine another."""
    auto = load_hardware(overrides={**AUTO, "retention.tau": "20 ms"})
    period = token_time(auto).total_s
    given = auto.changed({"retention.token_period": f"{period!r} s"})
    other = auto.changed({"digital.weights": "resident"})
    assert with_token_period(auto).sha256 == given.sha256
    keys = [
        function_key(small_trace, laws_of(with_token_period(h).config, small_trace.head_dim))
        for h in (auto, given, other)
    ]
    assert keys[0] == keys[1] != keys[2]
    mine, theirs, faster = (archsim.simulate(small_trace, h) for h in (auto, given, other))
    assert mine.energy_pj == theirs.energy_pj
    assert mine.function == theirs.function
    assert mine.function["sqnr_db"] != faster.function["sqnr_db"]
    q, k, v = (x[0].astype(float) for x in (small_trace.q, small_trace.k, small_trace.v))
    y = [archsim.attend(q, k, v, hardware).y for hardware in (auto, given, other)]
    assert (y[0] == y[1]).all()
    assert (y[0] != y[2]).any()


def test_what_a_run_reads_of_the_digital_section(small_trace: Trace) -> None:
    """Its time with auto; its energy never, which is said where it was set."""
    cut = small_trace.select(8, slice(0, 1))
    given = {"digital.rate": "1 TMAC/s", "digital.energy_per_mac": "1 pJ"}
    without = archsim.simulate(cut, load_hardware(overrides=given)).simulation.unread
    assert without == ["digital.energy_per_mac", "digital.rate"]
    auto = archsim.simulate(cut, load_hardware(overrides={**given, **AUTO})).simulation.unread
    assert auto == ["digital.energy_per_mac"]
    assert archsim.simulate(cut, load_hardware(overrides=AUTO)).simulation.unread == []


def test_auto_loads_shows_and_loads_again(tmp_path: Path) -> None:
    hardware = load_hardware(overrides=AUTO)
    path = tmp_path / "auto.yaml"
    path.write_text(show_config(hardware))
    assert "token_period: {value: auto, source: user" in path.read_text()
    again = load_hardware(path)
    assert again.sha256 == hardware.sha256 != load_hardware().sha256
    assert again.config.retention.token_period == "auto"
    assert load_hardware(overrides={"retention.token_period": "2 us"}).config.retention == (
        load_hardware().config.retention.model_copy(update={"token_period": 2e-6})
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("automatic", "retention.token_period"),
        (0.5, "give a time with a unit, like '15 ns', or auto"),
        ("2000 s", "between 0 and 1,000 s"),
        ("-1 us", "between 0 and 1,000 s"),
    ],
)
def test_other_periods_are_refused_in_one_line(value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load_hardware(overrides={"retention.token_period": value})
    assert "\n" not in str(caught.value)


def test_auto_needs_a_digital_section_and_no_bounds(tmp_path: Path) -> None:
    lines = show_config(load_hardware(overrides=AUTO)).splitlines()
    path = tmp_path / "no-digital.yaml"
    path.write_text("\n".join(lines[: lines.index("digital:")]) + "\n")
    with pytest.raises(ConfigError, match=r"no-digital\.yaml: digital is missing"):
        load_hardware(path)
    path.write_text(
        "extends: gaincell-28nm\nretention:\n"
        "  token_period: {value: auto, low: 1 us, high: 2 us, source: assumed}\n"
    )
    with pytest.raises(ConfigError, match="token_period: auto goes without low and high"):
        load_hardware(path)


def test_window_too_long_to_fill_is_refused_only_where_values_decide() -> None:
    long = {"window": 1 << 15}
    assert token_time(load_hardware(overrides=long)).total_s > 1e-4
    hardware = load_hardware(overrides={**long, **AUTO, "controller.phases": "early_end"})
    with pytest.raises(ConfigError, match="token_period auto: window 32,768"):
        with_token_period(hardware)
    known = retention_of(hardware.changed({"retention.model": "per_token"}))
    assert (known.token, known.whole, known.warning) == (None, None, None)
    assert "at most 16,384" in known.document()["whole_token_unknown"]


def test_a_cell_never_guesses_the_period() -> None:
    with pytest.raises(InvariantError, match="with_token_period"):
        Head(load_hardware(overrides=AUTO).config)


def run(*words: str) -> Any:
    return CliRunner().invoke(application, list(words))


@pytest.fixture(scope="module")
def words(small_trace_folder: Path) -> dict[str, list[str]]:
    gpu = ["--gpu", "h100-sxm", "--protocol", "latency"]
    return {
        "simulate": ["simulate", "-t", str(small_trace_folder), "--tokens", "8", "--no-report"],
        "compare": ["compare", "-t", str(small_trace_folder), *gpu],
        "compare model": ["compare", "--scope", "model", *gpu],
        "validate": ["validate"],
    }


@pytest.mark.parametrize("name", ["simulate", "compare", "compare model", "validate"])
def test_commands_print_it_with_one_warning(name: str, words: dict[str, list[str]]) -> None:
    text = run(*words[name]).output
    assert text.count("Warning: at 151.7 us a token the window lasts 31.1 tau") == 1
    assert text.count("a whole token (assumed)") == 1
    assert "0.00016" in text
    assert "84.9 %" in text
    assert max(map(len, text.splitlines())) <= 80
    document = json.loads(run(*words[name], "--json").output)["retention"]
    assert document["whole_token"]["token_time_us"] == pytest.approx(151.724, rel=1e-4)
    assert document["used"]["oldest_token_survives"] == pytest.approx(0.849, abs=1e-3)
    assert document["warning"].startswith("at 151.7 us a token")


def test_commands_do_not_warn_of_cells_that_hold(words: dict[str, list[str]]) -> None:
    text = run(*words["compare model"], "-c", "gaincell-osfet").output
    assert "Warning" not in text
    assert "a whole token (assumed)" in text


def test_sweep_keys_follow_the_resolved_period(tmp_path: Path) -> None:
    """A sweep over tau or the engine keeps apart what differs, and shares what does not."""
    save_trace(synthesise(1, 2, 12, name="tiny"), tmp_path / "trace")

    def jobs(*axes: str, **fixed: Any) -> list[Job]:
        sweep = quick_sweep(
            [axis_from_text(axis) for axis in axes], fixed={"window": 32, **fixed},
            trace=str(tmp_path / "trace"),
        )  # fmt: skip
        preparation = Preparation(sweep)
        return [preparation.job(parameters) for parameters in design(sweep)]

    taus = jobs("retention.tau=1 ms,10 ms,1 s", **AUTO)
    assert len({job.key for job in taus}) == len({job.group for job in taus}) == 3
    assert [job.reason for job in taus] == ["", "", ""]
    mixed = {**AUTO, "retention.tau": "2 ms"}
    engines = jobs("digital.weights=streamed,resident", **mixed)
    assert len({job.group for job in engines}) == 2
    period = token_time(load_hardware(overrides={**mixed, "window": 32})).total_s
    given = jobs("digital.weights=streamed", **{**mixed, "retention.token_period": f"{period!r} s"})
    assert (given[0].key, given[0].group) == (engines[0].key, engines[0].group)
    fixed = jobs("retention.token_period=auto,1 us", **{"retention.model": "nominal"})
    assert len({job.group for job in fixed}) == 2
    outcomes = [run_job(job) for job in engines]
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"]


@pytest.mark.parametrize("period", ["151.7 us", "151.67 us", "152 us"])
def test_a_run_at_the_time_that_is_shown_is_not_told_that_it_lacks_it(period: str) -> None:
    given = {"retention.model": "nominal", "retention.token_period": period}
    warning = retention_of(load_hardware(overrides=given)).warning
    assert warning is not None
    assert "no loss or error shown here" not in warning
    soon = retention_of(load_hardware(overrides={**given, "retention.token_period": "140 us"}))
    assert soon.warning is not None
    assert "no loss or error shown here" in soon.warning


def test_a_whole_tokens_time_is_computed_once_and_not_by_a_run(
    small_trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``early_end`` it runs the calibration workload, longer than a small simulation takes."""
    runs = []

    def counted(*arguments: object) -> object:
        runs.append(arguments)
        return run_timing(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("archsim.retention.run", counted)
    early = {"controller.phases": "early_end", "window": 65}  # that no other test has
    result = simulate(small_trace.select(tokens=2), load_hardware(overrides=early))
    assert result.latency.layer_ns.mean > 0
    assert runs == []
    shown = result.document()["retention"]
    again = retention_of(load_hardware(overrides=early))
    assert len(runs) == 1
    assert again.document()["whole_token"] == shown["whole_token"]


def test_what_is_kept_hides_no_read(small_trace: Trace) -> None:
    """``token_period: auto`` worked out again: the run's unread parameters are the same."""
    auto = {**AUTO, "window": 66, "digital.rate": "3 TMAC/s"}
    few = small_trace.select(tokens=2)
    first, second = (simulate(few, load_hardware(overrides=auto)) for _ in range(2))
    assert first.simulation.unread == second.simulation.unread
