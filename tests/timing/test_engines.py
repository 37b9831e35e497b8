"""Two engines, one schedule: every start and end equal, to the picosecond."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archsim.errors import ConfigError
from archsim.timing.des import run_simpy
from archsim.timing.fast import obstacle, run_fast
from archsim.timing.model import Declaration

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
CLOCKS = st.sampled_from(
    [
        {},
        {"controller.clock": "2 GHz"},
        {"controller.clock": "0.7 GHz", "pulse_generator.t_max": "auto"},
        {"controller.clock": "1 THz", "controller.token_gap": "3.3 ns"},
        {"levels.query": None, "controller.clock": "0.3 GHz", "converter.t_max": "14.2 ns"},
    ]
)


def assert_equal_times(d: Declaration) -> None:
    slow, fast = run_simpy(d), run_fast(d)
    assert np.array_equal(slow.ready, fast.ready)
    for name in slow.start:
        assert fast.start[name].dtype == np.int64
        assert np.array_equal(slow.start[name], fast.start[name]), name
        assert np.array_equal(slow.end[name], fast.end[name]), name


def check(overrides: dict[str, Any], clock: dict[str, Any], shape: dict[str, int]) -> None:
    d = declaration({**overrides, **clock}, **shape)
    if obstacle(d) is None:
        assert_equal_times(d)
    else:
        with pytest.raises(ConfigError, match="fast engine cannot"):
            run_fast(d)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(overrides=SHARING, clock=CLOCKS, shape=SHAPES)
def test_engines_agree_on_random_declarations(
    overrides: dict[str, Any], clock: dict[str, Any], shape: dict[str, int]
) -> None:
    check(overrides, clock, shape)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(overrides=SHARING, clock=CLOCKS, shape=SHAPES)
def test_engines_agree_on_many_more_random_declarations(
    overrides: dict[str, Any], clock: dict[str, Any], shape: dict[str, int]
) -> None:
    check(overrides, clock, shape)


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
            {"accumulator.heads_per_adder": 2, "accumulator.arbitration": "fifo"},
            5,
            "adder tree: first come",
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
