"""Two engines, one schedule: every start and end equal, to the picosecond."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archsim.errors import ConfigError
from archsim.machine.compiled import available
from archsim.timing.declaration import Declaration, Schedule
from archsim.timing.engines.contested import ContestedRun, run_simpy
from archsim.timing.engines.events import run_simpy_full
from archsim.timing.engines.recurrence import obstacle, run_fast

from .test_schedule import SHARING, declaration

SHAPES = st.fixed_dictionaries(
    {
        "tokens": st.integers(1, 14),
        "layers": st.integers(1, 4),
        "heads": st.integers(1, 5),
        "prompt": st.sampled_from([1, 2, 5, 14]),
        "seed": st.integers(0, 10_000),
    }
)
PARALLEL = st.sampled_from([None, None, None, 1, 2, 3])
CLOCKS = st.sampled_from(
    [
        {},
        {"controller.clock": "2 GHz"},
        {"controller.clock": "0.7 GHz", "pulse_generator.t_max": "auto"},
        {"controller.clock": "3 GHz"},
        {"controller.clock": "271 GHz", "pulse_generator.t_max": "auto"},
        {"controller.clock": "1 THz", "controller.token_gap": "3.3 ns"},
        {"levels.query": None, "controller.clock": "0.3 GHz", "converter.t_max": "14.2 ns"},
    ]
)


def assert_same(one: Schedule, other: Schedule) -> None:
    assert np.array_equal(one.ready, other.ready)
    for name in one.start:
        assert other.start[name].dtype == other.end[name].dtype == np.int64
        assert np.array_equal(one.start[name], other.start[name]), name
        assert np.array_equal(one.end[name], other.end[name]), name


def assert_equal_times(d: Declaration) -> None:
    """All engines: naive, contested-only, numpy or interpreted loops, compiled loops."""
    naive = run_simpy_full(d)
    assert_same(naive, run_simpy(d))
    assert_same(naive, ContestedRun(d, reverse=True).run())
    if obstacle(d) is not None:
        with pytest.raises(ConfigError, match="fast engine cannot"):
            run_fast(d)
        return
    assert_same(naive, run_fast(d, compiled=False))
    if available():
        assert_same(naive, run_fast(d, compiled=True))


def check(
    overrides: dict[str, Any], clock: dict[str, Any], shape: dict[str, int], parallel: int | None
) -> None:
    if overrides["controller.pipelining"] == "none":
        overrides = {**overrides, "controller.heads_in_parallel": parallel}
    assert_equal_times(declaration({**overrides, **clock}, **shape))


FIFO = {
    "controller.phases": "early_end",
    "controller.pipelining": "stages",
    "write_path.heads_per_driver": 2,
    "write_path.arbitration": "fifo",
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(overrides=SHARING, clock=CLOCKS, shape=SHAPES, parallel=PARALLEL)
def test_engines_agree_on_random_declarations(
    overrides: dict[str, Any], clock: dict[str, Any], shape: dict[str, int], parallel: int | None
) -> None:
    check(overrides, clock, shape, parallel)


@pytest.mark.slow
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(overrides=SHARING, clock=CLOCKS, shape=SHAPES, parallel=PARALLEL)
def test_engines_agree_on_many_more_random_declarations(
    overrides: dict[str, Any], clock: dict[str, Any], shape: dict[str, int], parallel: int | None
) -> None:
    check(overrides, clock, shape, parallel)


@pytest.mark.parametrize("prompt", [1, 40, 90])
def test_engines_agree_on_a_longer_run(prompt: int) -> None:
    overrides = {
        "controller.phases": "early_end",
        "controller.pipelining": "stages",
        "write_path.heads_per_driver": 2,
        "accumulator.heads_per_adder": 4,
        "accumulator.time": "23 ns",
        "window": 30,
        "array.columns": 8,
    }
    assert_equal_times(declaration(overrides, 90, 3, 4, prompt))


@pytest.mark.parametrize(
    ("overrides", "prompt", "words"),
    [
        ({"controller.heads_in_parallel": 2}, 1, "heads in parallel"),
        (
            {
                "accumulator.heads_per_adder": 2,
                "accumulator.arbitration": "fifo",
                "controller.layer_buffer": 2,
            },
            5,
            "adder tree: first come.*buffer",
        ),
    ],
)
def test_what_the_recurrence_cannot_express_is_refused_with_the_reason(
    overrides: dict[str, Any], prompt: int, words: str
) -> None:
    d = declaration(overrides, prompt=prompt)
    with pytest.raises(ConfigError, match=words):
        run_fast(d)


def test_first_come_among_heads_of_one_token_is_expressible() -> None:
    d = declaration(
        {
            "accumulator.heads_per_adder": 3,
            "accumulator.arbitration": "fifo",
            "controller.phases": "early_end",
        }
    )
    assert obstacle(d) is None
    assert_equal_times(d)


@settings(max_examples=30, deadline=None)
@given(shape=SHAPES, stage=st.sampled_from(["read_key", "read_value", "count"]), seed=st.integers())
def test_a_longer_phase_never_makes_anything_earlier(
    shape: dict[str, int], stage: str, seed: int
) -> None:
    """Static order is monotone; first come, first served is not, and is not claimed to be."""
    d = declaration({"controller.pipelining": "stages", "write_path.heads_per_driver": 3}, **shape)
    before = run_fast(d)
    rng = np.random.default_rng(abs(seed))
    where = tuple(int(rng.integers(0, n)) for n in d.shape)
    d.durations[stage][where] += 7_000
    after = run_fast(d)
    for name in before.start:
        assert (after.start[name] >= before.start[name]).all()


def test_long_runs_are_not_left_to_compiled_loops() -> None:
    """Beyond 2^51 ticks they would round clock edges wrongly."""
    d = declaration({"controller.clock": "1 THz"}, tokens=5)
    long = replace(d, token_gap=2**54 + 1)
    assert_same(run_simpy(long), run_fast(long))
    with pytest.raises(ConfigError, match="2\\^51"):
        run_fast(long, compiled=True)
    assert obstacle(replace(d, token_gap=2**60)) == "times beyond 64 bits"


def test_private_blocks_for_several_tokens() -> None:
    """No hardware has them today; a declaration may."""
    d = declaration({"controller.pipelining": "stages", "accumulator.time": "90 ns"}, 14, 2, 3, 14)
    two = tuple(replace(r, capacity=2) if r.name == "adder tree" else r for r in d.resources)
    assert_equal_times(replace(d, resources=two))


@pytest.mark.parametrize("switch", ["0", "1"])
def test_the_switch_decides_and_compiled_loops_are_kept(switch: str) -> None:
    if switch == "1" and not available():
        pytest.skip("needs numba (extra [fast])")
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from timing.test_engines import FIFO, declaration\n"
        "from archsim.timing.run import run\n"
        "print(run(declaration(FIFO, 6, 1, 4, 6))[0].engine, 'numba' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    for _ in range(2):  # the first run compiles, where nothing is kept yet
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=root,
            env={**os.environ, "ARCHSIM_COMPILED": switch},
            check=True,
        )
    assert run.stdout.strip() == ("simpy False" if switch == "0" else "fast (compiled) False")
