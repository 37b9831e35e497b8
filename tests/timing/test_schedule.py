"""The engine against closed forms, and against an independent judge of legality."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.chip.head import Head
from archsim.datapath.attention import Activity
from archsim.hardware.load import load_hardware
from archsim.timing.analysis import (
    ENTRY,
    attention_latency,
    leaving,
    queueing,
    stalls,
    unloaded_latency,
    utilisation,
)
from archsim.timing.declaration import Declaration, Schedule, declare
from archsim.timing.engines.events import EventRun

HEAD_DIM = 64
"""Of the declarations: more than an array of `SPLIT` has rows."""

SPLIT = {"readout.model": "digital_sum", "array.rows": 24}


def activity(rng: np.random.Generator, heads: int, tokens: int) -> Activity:
    """Random activity; a fifth of the pulses have no length."""

    def widths() -> np.ndarray:
        return rng.uniform(0, 1, (heads, tokens)) * (rng.random((heads, tokens)) > 0.2)

    return Activity(*(widths() for _ in fields(Activity)))


def declaration(
    overrides: dict[str, Any],
    tokens: int = 12,
    layers: int = 2,
    heads: int = 3,
    prompt: int = 1,
    seed: int = 0,
) -> Declaration:
    rng = np.random.default_rng(seed)
    head = Head(load_hardware(overrides=overrides).config, HEAD_DIM)
    return declare(head, [activity(rng, heads, tokens) for _ in range(layers)], prompt)


def judge(d: Declaration, s: Schedule) -> None:
    """Legality from the declaration's words alone: precedence, clock edges, holders."""
    tokens, layers, heads = d.shape
    for stage in d.stages:
        start, end = s.start[stage.name], s.end[stage.name]
        assert (end - start == d.durations[stage.name]).all()
        assert (start % d.period == 0).all()
        for after in stage.after:
            for t in range(max(after.lag, after.from_token), tokens):
                times = s.end if after.point == "end" else s.start
                before = times[after.stage][t - after.lag]
                if after.next_layer:
                    assert (start[t, :-1] >= before[1:].max(axis=1)[:, None]).all()
                else:
                    assert (start[t] >= before).all()
    for layer in range(layers):
        for token in range(tokens):
            if layer:
                done = s.end["accumulate"][token, layer - 1].max()
                assert s.ready[token, layer] == done + d.layer_gap
            elif token >= d.prompt:
                done = s.end["accumulate"][token - 1, -1].max()
                assert s.ready[token, 0] == done + d.token_gap
    assert (s.start["write_key"] >= s.ready[:, :, None]).all()
    for resource in d.resources:
        for layer in range(layers):
            for first in range(0, heads, resource.heads):
                members = range(first, min(first + resource.heads, heads))
                for unit in range(resource.units):
                    intervals = []
                    for stage in d.users(resource.name):
                        giver, point = d.giver(resource.name, stage)
                        until = s.end if point == "end" else s.start
                        for token in range(tokens):
                            one = stage.one_unit and resource.units > 1
                            if one and d.sub_tiles[token] != unit:
                                continue
                            intervals += [
                                (
                                    int(s.start[stage.name][token, layer, head]),
                                    int(until[giver.name][token, layer, head]),
                                )
                                for head in members
                            ]
                    instants = sorted({start for start, _ in intervals})
                    for now in instants:
                        holders = sum(a <= now < b for a, b in intervals)
                        assert holders <= resource.capacity, resource.name


def judge_arrays(s: Schedule, window: int, columns: int, exclusive: bool) -> None:
    """What the physics forbids, said without the declaration.

    A slot must not change while a token that still attends to it is read; without simultaneous
    access, an array must not be written while anything is read.
    """
    tokens = s.start["write_key"].shape[0]
    for write, read in (("write_key", "read_key"), ("write_value", "read_value")):
        for t in range(tokens):
            own = s.start[read][t] >= s.end[write][t]
            assert own.all(), "a token reads its own column"
            for reader in range(tokens):
                begin, end = s.start[read][reader], s.end[read][reader]
                apart = (s.start[write][t] >= end) | (s.end[write][t] <= begin)
                overwrites = reader < t and t - window > reader - window and t - window >= 0
                attended = overwrites and reader - window < t - window <= reader
                if attended:
                    assert (s.start[write][t] >= end).all(), "overwritten while still attended to"
                elif exclusive:
                    assert apart.all(), "written during a read"


SHARING = st.fixed_dictionaries(
    {
        "controller.phases": st.sampled_from(["worst_case", "early_end"]),
        "controller.pipelining": st.sampled_from(["none", "stages"]),
        "converter.buffers": st.sampled_from([1, 2]),
        "write_path.heads_per_driver": st.integers(1, 4),
        "write_path.arbitration": st.sampled_from(["static", "fifo"]),
        "pulse_generator.heads_per_generator": st.integers(1, 3),
        "pulse_generator.arbitration": st.sampled_from(["static", "fifo"]),
        "accumulator.heads_per_adder": st.integers(1, 4),
        "accumulator.arbitration": st.sampled_from(["static", "fifo"]),
        "accumulator.time": st.sampled_from(["10 ns", "40 ns", "7.3 ns"]),
        "write_path.pulse": st.sampled_from(["10 ns", "3.25 ns"]),
        "controller.layer_gap": st.sampled_from(["0 ns", "12.5 ns"]),
        "controller.layer_buffer": st.sampled_from([None, None, 1, 2, 3]),
        "array.write_during_read": st.booleans(),
        "window": st.sampled_from([1024, 5, 200]),
        "array.columns": st.sampled_from([64, 2]),
        "readout.model": st.sampled_from(["charge_to_pulse", "digital_sum"]),
        "array.rows": st.sampled_from([64, 24, 24]),
        "readout.add_time": st.sampled_from(["10 ns", "3.3 ns", "40 ns"]),
        "readout.pulse_levels": st.none(),  # whose steps need not fit the clock
    }
)


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 3), prompt=st.sampled_from([1, 5]), fifo=st.booleans(), seed=st.integers(0, 99)
)
def test_heads_in_parallel_holds_back_the_others(
    n: int, prompt: int, fifo: bool, seed: int
) -> None:
    overrides = {
        "controller.heads_in_parallel": n,
        "controller.phases": "early_end",
        "accumulator.heads_per_adder": 2,
        "accumulator.arbitration": "fifo" if fifo else "static",
    }
    d = declaration(overrides, tokens=6, heads=4, prompt=prompt, seed=seed)
    s = EventRun(d).run()
    judge(d, s)
    for layer in range(2):
        begin = s.start["write_key"][:, layer].ravel()
        end = s.end["accumulate"][:, layer].ravel()
        assert max(int(((begin <= now) & (end > now)).sum()) for now in begin) <= n


def test_latency_and_queue_are_those_of_the_slowest_head() -> None:
    """Two heads a driver: head 1 waits 10 ns, head 0 counts longer; the two do not mix."""
    act = replace(Activity.busiest(2, 1), longest_output=np.array([[1.0], [0.2]]))
    hardware = load_hardware(
        overrides={"write_path.heads_per_driver": 2, "controller.phases": "early_end"}
    )
    s = EventRun(declare(Head(hardware.config), [act], 1)).run()
    assert (s.end["accumulate"] - s.start["write_key"]).ravel().tolist() == [65_000, 53_000]
    assert attention_latency(s).tolist() == [[65_000]]
    assert queueing(s).tolist() == [[10_000]]


@settings(max_examples=25, deadline=None)
@given(overrides=SHARING, prompt=st.sampled_from([1, 4, 9]), seed=st.integers(0, 1000))
def test_every_schedule_is_legal_and_independent_of_construction_order(
    overrides: dict[str, Any], prompt: int, seed: int
) -> None:
    d = declaration(overrides, tokens=9, prompt=prompt, seed=seed)
    forward, backward = EventRun(d).run(), EventRun(d, reverse=True).run()
    judge(d, forward)
    exclusive = not overrides["array.write_during_read"]
    judge_arrays(forward, overrides["window"], overrides["array.columns"], exclusive)
    for name in forward.start:
        assert np.array_equal(forward.start[name], backward.start[name]), name
        assert np.array_equal(forward.end[name], backward.end[name]), name
    assert max(utilisation(d, forward).values()) <= 1
    assert all(waited >= 0 for waited in stalls(d, forward).values())
    assert (attention_latency(forward) >= unloaded_latency(d).max(axis=2)).all()


@settings(max_examples=25, deadline=None)
@given(
    phases=st.sampled_from(["worst_case", "early_end"]),
    pipelining=st.sampled_from(["none", "stages"]),
    pulse=st.integers(1, 40_000),
    add=st.integers(1, 40_000),
    split=st.sampled_from([{}, {**SPLIT, "readout.add_time": "7.3 ns"}]),
    seed=st.integers(0, 1000),
)
def test_without_contention_every_latency_equals_the_formula(
    phases: str, pipelining: str, pulse: int, add: int, split: dict[str, Any], seed: int
) -> None:
    overrides = {
        "controller.phases": phases,
        "controller.pipelining": pipelining,
        "write_path.pulse": f"{pulse} ps",
        "accumulator.time": f"{add} ps",
        **split,
    }
    d = declaration(overrides, seed=seed)
    s = EventRun(d).run()
    took = s.end["accumulate"] - s.start["write_key"]
    assert np.array_equal(took, unloaded_latency(d))
    assert (queueing(s) < d.period).all()  # at most the wait for the next clock edge


def test_default_token_takes_65_ns_in_every_layer() -> None:
    d = declaration({})
    s = EventRun(d).run()
    assert (s.end["accumulate"] - s.start["write_key"] == 65_000).all()
    assert (np.diff(leaving(s)) == 2 * 65_000).all()


def test_phases_of_the_published_design() -> None:
    """The table of DESIGN, to the picosecond, for the first token."""
    d = declaration({}, tokens=1, layers=1, heads=1)
    s = EventRun(d).run()
    spans = {n: (int(s.start[n][0, 0, 0]), int(s.end[n][0, 0, 0])) for n in s.start}
    assert spans == {
        "write_key": (0, 10_000),
        "write_value": (0, 10_000),
        "read_key": (10_000, 25_000),
        "read_value": (25_000, 40_000),
        "count": (40_000, 55_000),
        "accumulate": (55_000, 65_000),
    }


def test_phases_of_a_dot_product_that_is_split_digitally() -> None:
    """Counted, added and made a pulse again before V is read: 25 ns more."""
    d = declaration(SPLIT, tokens=1, layers=1, heads=1)
    s = EventRun(d).run()
    spans = {n: (int(s.start[n][0, 0, 0]), int(s.end[n][0, 0, 0])) for n in s.start}
    assert spans == {
        "write_key": (0, 10_000),
        "write_value": (0, 10_000),
        "read_key": (10_000, 25_000),
        "count_partial": (25_000, 40_000),
        "add_partial": (40_000, 50_000),
        "read_value": (50_000, 65_000),
        "count": (65_000, 80_000),
        "accumulate": (80_000, 90_000),
    }


def test_a_slow_adder_of_partial_sums_pushes_back_on_the_counters() -> None:
    """An adder holds its sum until the pulse generators take it, a counter its count until then."""
    overrides = {"controller.pipelining": "stages", "readout.add_time": "50 ns"}
    s = EventRun(declaration({**SPLIT, **overrides}, tokens=6, heads=1, prompt=6)).run()
    adds, reads = s.start["add_partial"][:, 0, 0], s.start["read_value"][:, 0, 0]
    assert (np.diff(adds) == 50_000).all()
    assert (adds[1:] == reads[:-1]).all()
    assert (s.start["count_partial"][1:, 0, 0] >= adds[:-1]).all()


def test_phases_of_partial_sums_end_early_with_their_own_longest_pulse() -> None:
    act = replace(
        Activity.busiest(1, 1),
        longest_partial=np.array([[0.31]]),  # 4.65 ns
        longest_score=np.array([[7 / 15]]),
    )
    hardware = load_hardware(overrides={**SPLIT, "controller.phases": "early_end"})
    d = declare(Head(hardware.config, HEAD_DIM), [act], 1)
    assert d.durations["count_partial"].ravel().tolist() == [5_000]
    assert d.durations["read_value"].ravel().tolist() == [7_000]


@pytest.mark.parametrize(
    ("overrides", "interval"),
    [
        ({"controller.pipelining": "none"}, 65_000),
        ({"controller.pipelining": "stages"}, 30_000),
        ({"controller.pipelining": "stages", "converter.buffers": 2}, 25_000),
        ({"controller.pipelining": "stages", "accumulator.time": "40 ns"}, 40_000),
        ({**SPLIT, "controller.pipelining": "none"}, 90_000),
        ({**SPLIT, "controller.pipelining": "stages"}, 30_000),  # converters: K read and count
        ({**SPLIT, "controller.pipelining": "stages", "converter.buffers": 2}, 25_000),
    ],
)
def test_initiation_interval_in_prefill(overrides: dict[str, Any], interval: int) -> None:
    d = declaration(overrides, tokens=20, prompt=20)
    assert (np.diff(leaving(EventRun(d).run()))[5:] == interval).all()


def test_pipelining_changes_nothing_in_generate() -> None:
    plain = EventRun(declaration({})).run()
    staged = EventRun(declaration({"controller.pipelining": "stages"})).run()
    for name in plain.start:
        assert np.array_equal(plain.start[name], staged.start[name])


def test_shared_driver_makes_heads_take_turns() -> None:
    """Two heads a driver: the second head's write, and so everything, comes 10 ns later."""
    d = declaration({"write_path.heads_per_driver": 2}, tokens=1, layers=1, heads=2)
    s = EventRun(d).run()
    assert s.start["write_key"].ravel().tolist() == [0, 10_000]
    assert s.end["accumulate"].ravel().tolist() == [65_000, 75_000]
    assert stalls(d, s) == {"K DACs": 10_000}


def test_first_come_serves_the_earlier_request_and_breaks_ties_by_head() -> None:
    """Static order waits for head 0 even when head 1 asks first; fifo does not."""
    times = {}
    for arbitration in ("static", "fifo"):
        head = Head(
            load_hardware(
                overrides={
                    "controller.phases": "early_end",
                    "accumulator.heads_per_adder": 3,
                    "accumulator.arbitration": arbitration,
                }
            ).config
        )
        late = np.array([[1.0], [0.2], [0.2]])  # head 0 counts longest
        act = replace(Activity.busiest(3, 1), longest_output=late)
        s = EventRun(declare(head, [act], 1), reverse=True).run()
        times[arbitration] = s.start["accumulate"].ravel().tolist()
    assert times["static"] == [55_000, 65_000, 75_000]
    assert times["fifo"] == [63_000, 43_000, 53_000]


def test_early_end_ends_with_the_longest_pulse_at_a_clock_edge() -> None:
    head = Head(load_hardware(overrides={"controller.phases": "early_end"}).config)
    longest = np.array([0.0, 1e-9, 0.2, 0.5, 7 / 15, 1.0])
    assert head.controller.phase(longest, 15_000).tolist() == [0, 0, 3000, 8000, 7000, 15_000]


def test_write_waits_for_the_read_before_it() -> None:
    """Prefill: K of token 1 is written once K read 0 ended, V of token 1 once V read 0 ended."""
    d = declaration({"controller.pipelining": "stages"}, tokens=2, layers=1, heads=1, prompt=2)
    s = EventRun(d).run()
    assert s.start["write_key"][1, 0, 0] == s.end["read_key"][0, 0, 0] == 25_000
    assert s.start["write_value"][1, 0, 0] == s.end["read_value"][0, 0, 0] == 40_000
    assert s.start["read_key"][1, 0, 0] == 40_000  # one integration capacitor
    assert stalls(d, s) == {ENTRY: 25_000, "converters": 5_000, "V arrays": 15_000}


def test_gaps_outside_the_accelerator_are_added() -> None:
    overrides = {"controller.layer_gap": "100 ns", "controller.token_gap": "1 us"}
    s = EventRun(declaration(overrides, tokens=3)).run()
    assert leaving(s).tolist() == [230_000, 1_460_000, 2_690_000]


def test_the_declaration_needs_no_datapath() -> None:
    import subprocess
    import sys

    program = (
        "import sys, archsim.timing.declaration\n"
        "sys.exit(any(name.startswith('archsim.datapath') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
