"""``refresh.model: rows``: when a head is refreshed, who waits, what it costs and restores."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from datapath import oracle
from datapath.test_engines import assert_codes, parameters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timing.test_engines import assert_equal_times
from timing.test_schedule import SHARING, declaration

import archsim
from archsim.chip.head import Head
from archsim.chip.refresh import time_between
from archsim.chip.refresh.rows import READ_BACK, WRITE_BACK, RowRefresh
from archsim.chip.work import Spent, Work
from archsim.cli import application
from archsim.datapath.attention import attend_layer
from archsim.errors import ConfigError, InvariantError
from archsim.function import function_key
from archsim.hardware.load import load_hardware
from archsim.report.explain import explain
from archsim.result import Result
from archsim.retention import retention_of
from archsim.simulation import cell_ages
from archsim.timing.analysis import stalls, utilisation
from archsim.timing.declaration import Declaration, Schedule
from archsim.timing.run import run
from archsim.traces.trace import Trace

ROWS: dict[str, Any] = {
    "refresh.model": "rows",
    "refresh.period": "2 us",
    "refresh.read_back_time": "4.5 ns",
    "refresh.energy_per_read_back": "3 fJ",
}
SMALL = {"array.rows": 8, "array.columns": 4, "window": 12}
LASTS = 8 * (5 + 10)  # ns: 8 rows, each read in 4.5 ns, up to an edge, and written in 10


@pytest.fixture(scope="module")
def trace() -> Trace:
    return Trace.from_arrays(*np.random.default_rng(3).normal(0, 1, (3, 2, 2, 40, 8)), "fit")


def simulated(trace: Trace, more: dict[str, Any], **given: Any) -> Result:
    return archsim.simulate(trace, load_hardware(overrides={**ROWS, **SMALL, **more}), **given)


def by_hand(d: Declaration, s: Schedule, layer: int, head: int) -> tuple[list[int], list[int]]:
    """When each token may be written and the refresh before it started, walking along a head."""
    every, period = d.periodic["refresh"], d.period
    waits, restored, done, last, ended = [], [], 0, 0, 0
    for token in range(d.shape[0]):
        start = int(s.start["refresh"][token, layer, head])
        free = 0
        if token:
            reads = (s.end[name][token - 1, layer, head] for name in ("read_key", "read_value"))
            free = int(max(reads))
        while (done + 1) * every.period <= start:
            done += 1
            last = max(done * every.period, free, ended)
            last += -last % period
            ended = last + every.lasts
        waits.append(max(ended - start, 0))
        restored.append(last)
    return waits, restored


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    overrides=SHARING,
    period=st.sampled_from(["0.121 us", "0.5 us", "1.0007 us", "4 us"]),
    gap=st.sampled_from(["0 ns", "33.3 ns", "1.3 us"]),
    prompt=st.sampled_from([1, 4, 14]),
    seed=st.integers(0, 999),
    shape=st.tuples(st.integers(1, 14), st.integers(1, 3), st.integers(1, 4)),
)
def test_engines_agree_and_no_refresh_is_left_out(
    overrides: dict[str, Any],
    period: str,
    gap: str,
    prompt: int,
    seed: int,
    shape: tuple[int, int, int],
) -> None:
    """All engines alike, each token waits as a walk along its head says, and arrays are free."""
    given_ = {**overrides, **ROWS, **SMALL, "refresh.period": period, "controller.token_gap": gap}
    d = declaration(given_, *shape, prompt, seed)
    assert_equal_times(d)
    s, _ = run(d)
    refresh = Head(load_hardware(overrides=given_).config, 64).refresh
    restored = refresh.restored(s.times)
    assert restored is not None
    for layer in range(shape[1]):
        for head in range(shape[2]):
            waits, last = by_hand(d, s, layer, head)
            place = slice(None), layer, head
            assert (s.end["refresh"] - s.start["refresh"])[place].tolist() == waits
            assert restored[place].tolist() == last
    for before in ("read_key", "read_value"):  # of the token before: a refresh follows it
        assert (restored[1:] >= s.end[before][:-1])[np.diff(restored, axis=0) > 0].all()
    assert (s.start["write_key"] >= s.end["refresh"]).all()
    assert (s.start["write_key"] >= restored + d.periodic["refresh"].lasts)[restored > 0].all()
    assert all(share <= 1 for share in utilisation(d.as_run(s), s).values())
    assert all(wait >= 0 for wait in stalls(d.as_run(s), s).values())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(overrides=SHARING, prompt=st.sampled_from([1, 5, 20]), seed=st.integers(0, 999))
def test_a_refresh_that_never_comes_moves_nothing(
    overrides: dict[str, Any], prompt: int, seed: int
) -> None:
    shape = (20, 2, 3, prompt, seed)
    never = {**overrides, **ROWS, "refresh.period": "1 ms"}
    plain, idle = (run(declaration(given_, *shape))[0] for given_ in (overrides, never))
    for name, start in plain.start.items():
        assert np.array_equal(start, idle.start[name]), name
        assert np.array_equal(plain.end[name], idle.end[name]), name
    assert (idle.start["refresh"] == idle.end["refresh"]).all()


def test_a_token_waits_for_what_is_left() -> None:
    """One layer, a token every 65 ns: due at 2,000 ns in the midst of token 30, done after it."""
    d = declaration({**ROWS, **SMALL}, 40, 1, 1)
    s, _ = run(d)
    waits = (s.end["refresh"] - s.start["refresh"]).ravel() // 1000
    assert np.flatnonzero(waits).tolist() == [31]
    # V read of token 30 ends at 1,990: idle at 2,000, but token 30 still holds the head till 2,015
    assert s.start["refresh"].ravel()[31] == 2_015_000
    assert waits[31] == LASTS - 15
    gap = declaration({**ROWS, **SMALL, "controller.token_gap": "300 ns"}, 12, 1, 1)
    slow, _ = run(gap)
    waits = (slow.end["refresh"] - slow.start["refresh"]).ravel()
    # due at 2,000, done by 2,120, and tokens come at 1,825 and 2,190; then in the way of one
    assert waits.tolist() == [0] * 11 + [(LASTS - 15) * 1000]
    refresh = Head(load_hardware(overrides={**ROWS, **SMALL}).config, 64).refresh
    restored = refresh.restored(slow.times)
    assert restored is not None
    assert restored.ravel().tolist() == [0] * 6 + [2_000_000] * 5 + [4_000_000]


@pytest.mark.parametrize("gated", [False, True])
def test_every_period_costs_one_refresh(trace: Trace, gated: bool) -> None:
    result = simulated(trace, {"controller.gate_unwritten": gated, "static.power_per_head": "0 W"})
    schedule, ledger = result.simulation.schedule, result.simulation.ledger
    periods = schedule.makespan // 2_000_000
    assert periods == 2  # 40 tokens x 2 layers x 65 ns, and waits
    cells = periods * 4 * 3 * 2 * 8 * 4  # heads, sub-tiles, K and V, features, columns
    operations = {posting.action: posting.operations for posting in ledger}
    assert operations[READ_BACK] == operations[WRITE_BACK] == cells
    config = result.simulation.hardware.config
    charged = config.cell.storage_capacitance * config.cell.supply**2
    each = 3e-15 + config.write_path.energy_per_conversion + charged
    assert result.energy_pj["refresh"] == pytest.approx(cells * each * 1e12)
    refresh = result.simulation.head.refresh
    assert refresh.power == pytest.approx(3 * 2 * 8 * 4 * each / 2e-6)
    assert result.throughput["peak_power_mw"] > refresh.power * 1e3


def test_a_wrong_count_is_caught(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    spend = RowRefresh.spend

    def twice(self: RowRefresh, work: Work) -> Spent:
        for action, energy, operations in spend(self, work):
            yield action, energy, operations * 2

    monkeypatch.setattr(RowRefresh, "spend", twice)
    with pytest.raises(InvariantError, match="refresh: read cells back"):
        simulated(trace, {})


@pytest.mark.parametrize("order", ["generate", "prefill"])
@pytest.mark.parametrize("model", ["off", "per_token", "nominal", "simulated"])
def test_runs_of_every_retention_settle(trace: Trace, model: str, order: str) -> None:
    more = {
        "retention.model": model,
        "controller.phases": "early_end",
        "controller.pipelining": "stages",
        "refresh.period": "0.3 us",
        "retention.tau": "3 us",
        "retention.token_period": "30 ns",
    }
    results = [
        simulated(trace, more, order=order, engine=engine, detail=detail).simulation
        for engine, detail in (("fast", "contested"), ("simpy", "contested"), ("simpy", "full"))
    ]
    first = results[0]
    assert all(first.schedule.same_times(other.schedule) for other in results)
    assert first.function_passes <= (1 if model == "off" else 12)
    assert (first.schedule.end["refresh"] > first.schedule.start["refresh"]).any()


@pytest.mark.parametrize("model", ["nominal", "simulated"])
def test_ages_start_anew_as_a_plain_loop_says(trace: Trace, model: str) -> None:
    more = {
        "retention.model": model,
        "retention.tau": "3 us",
        "retention.token_period": "130 ns",
        "refresh.period": "1 us",
        "window": 40,
    }
    result = simulated(trace, more)
    head, schedule = result.simulation.head, result.simulation.schedule
    found = cell_ages(result.simulation.hardware, head, schedule)
    assert found is not None
    tokens, layer = trace.tokens, 1
    restored = head.refresh.restored(schedule.times)
    assert restored is not None
    pairs = []
    for read, write in (("read_key", "write_key"), ("read_value", "write_value")):
        ages = np.zeros((2, tokens, tokens))
        for h in range(2):
            for i in range(tokens):
                last = int(restored[i, layer, h])
                since = [t for t in range(i + 1) if restored[t, layer, h] == last]
                for j in range(i + 1):
                    if model == "nominal":
                        ages[h, i, j] = (i - max(j, since[0] if last else 0)) * 0.13 / 3
                        continue
                    written = int(schedule.end[write][j, layer, h])
                    age = int(schedule.start[read][i, layer, h]) - max(written, last)
                    ages[h, i, j] = age * 1e-12 / 3e-6
        pairs.append(ages)
    q, k, v = trace.layer(layer)
    scalers = {n: (a[layer], b[layer]) for n, (a, b) in trace.scalers.items()}
    got = attend_layer(q, k, v, head.laws, scalers, details=True, ages=found[layer])
    expected = oracle.attend(
        q, k, v, parameters(head, decay_per_token=1.0), scalers, (pairs[0], pairs[1])
    )
    assert_codes(got, expected)


def test_kept_results_know_of_refresh(trace: Trace) -> None:
    result = simulated(trace, {"retention.model": "simulated"})
    ages = cell_ages(result.simulation.hardware, result.simulation.head, result.simulation.schedule)
    assert ages is not None
    without = [
        replace(a, keys=replace(a.keys, restored=None), values=replace(a.values, restored=None))
        for a in ages
    ]
    laws = result.simulation.head.laws
    keys = {function_key(trace, laws, ages=each) for each in (ages, without, None)}
    assert len(keys) == 3


def test_refresh_keeps_what_fades(trace: Trace) -> None:
    fading = {"retention.model": "simulated", "retention.tau": "2 us", "window": 40}
    kept = simulated(trace, {**fading, "refresh.period": "0.2 us"})
    lost = simulated(trace, {**fading, "refresh.model": "none"})
    never = simulated(trace, {**fading, "retention.model": "off"})
    best, found, worst = (each.function["sqnr_db"] for each in (never, kept, lost))
    assert best - found < (best - worst) / 3


def test_explain_shows_the_refresh(trace: Trace) -> None:
    result = simulated(trace, {})
    schedule = result.simulation.schedule
    waits = (schedule.end["refresh"] - schedule.start["refresh"])[:, 0, 0]
    token = int(np.flatnonzero(waits)[0])
    shown, other = (explain(result, each).phases[0] for each in (token, token + 1))
    assert shown.stage == other.stage == "refresh"
    assert shown.duration_ns == waits[token] / 1000
    assert shown.holds[:2] == ("K arrays", "V arrays")
    assert shown.energy_pj > 0
    assert (other.duration_ns, other.energy_pj, other.holds) == (0, 0, ())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"refresh.period": "100 ns"},
            "refresh.period: 100 ns is no longer than a refresh, 120 ns",
        ),
        ({"refresh.period": "0 s"}, "refresh.period"),
        ({"refresh.energy_per_read_back": "3 ns"}, "refresh.energy_per_read_back"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        load_hardware(overrides={**ROWS, **SMALL, **more})
    assert "\n" not in str(refused.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ConfigError, match=r"refresh\.model rows needs refresh\.period"):
        load_hardware(overrides={"refresh.model": "rows"})


def test_retention_figures_count_refresh() -> None:
    rows = load_hardware(overrides={**ROWS, "refresh.period": "50 us"})
    found, plain = retention_of(rows), retention_of(load_hardware())
    assert time_between(rows.config) == pytest.approx(50e-6)
    assert time_between(load_hardware().config) == math.inf
    assert plain.warning is not None
    assert found.warning is None
    assert found.whole is not None
    assert found.token is not None
    assert found.whole.oldest == pytest.approx(math.exp(-(50e-6 + found.token.total_s) / 5e-3))
    seldom = load_hardware(overrides={**ROWS, "refresh.period": "20 ms"})
    assert "refreshed every 4 tau" in str(retention_of(seldom).warning)


def test_it_is_listed_and_its_assumption_stands_in_the_output(small_trace_folder: Any) -> None:
    listed = CliRunner().invoke(application, ["config", "variants"]).output
    assert "rows (built-in)" in listed
    given_ = [part for key, value in ROWS.items() for part in ("--set", f"{key}={value}")]
    shown = CliRunner().invoke(
        application, ["simulate", "-t", str(small_trace_folder), "--no-report", *given_]
    )
    assert shown.exit_code == 0
    assert "Refresh is taken to restore exactly what was stored" in shown.output
