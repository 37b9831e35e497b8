"""``readout.model: digital_sum``: dot products put together from the partial sums of arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archsim
from archsim.chip.head import Head
from archsim.datapath.attention import AttentionOutput, LayerInput, attend_layer, attend_layers

from . import oracle
from .test_engines import EDGE, Plain, everything, times

SPLIT = {"readout.model": "digital_sum", "array.columns": 4, "window": 10}
FEATURES = 7


def split_head(features: int = FEATURES, **overrides: Any) -> Head:
    """Three arrays of three rows by default, the last with one feature."""
    hardware = archsim.load_hardware(overrides={"array.rows": 3, **SPLIT, **overrides})
    return Head(hardware.config, features)


def draw(seed: int, tokens: int = 30, features: int = FEATURES) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.4, (2, tokens, features)) + shift for shift in (0.5, 0.0, 0.0)]


def parameters(head: Head, rows: int = 3, **changes: Any) -> oracle.Parameters:
    assert head.laws.readout.conversion is not None
    return oracle.Parameters(
        window=head.sub_tiles.window,
        columns=head.sub_tiles.columns,
        cell="linear" if len(head.cell.law.coefficients) == 2 else "polynomial",
        rows=rows,
        levels_partial=head.laws.readout.conversion.quantiser.levels,
        saturation_partial=head.laws.readout.conversion.full_scale,
        levels_pulse=head.laws.readout.widths.levels,
        **changes,
    )


def assert_same(got: AttentionOutput, expected: oracle.Result, excused: float = 0.02) -> None:
    """Codes at every stage, but where rounding decides; what a token reads hangs together."""
    assert got.partials is not None
    assert got.scores is not None
    assert got.pulse_widths is not None
    assert got.codes is not None
    unsure = expected.edge_distance["partial"] <= EDGE
    if expected.partial_codes.any():
        assert np.array_equal(got.partials[~unsure], expected.partial_codes[~unsure])
    pair = unsure.any(axis=2)
    scores = np.nan_to_num(expected.scores)
    np.testing.assert_allclose(got.scores[~pair], scores[~pair], rtol=1e-10, atol=1e-9)
    pair |= expected.edge_distance["pulse"] <= EDGE
    np.testing.assert_allclose(got.pulse_widths[~pair], expected.widths[~pair], atol=1e-12)
    doubtful = (expected.edge_distance["output"] <= EDGE) | pair.any(axis=2)[:, :, None, None]
    assert np.array_equal(got.codes[~doubtful], expected.output_codes[~doubtful])
    assert doubtful.mean() <= excused


# full scales without simple ratios, or sums of counts fall on the pulses' steps exactly
CASES = st.fixed_dictionaries(
    {
        "window": st.integers(1, 20),
        "array.columns": st.integers(1, 7),
        "array.rows": st.integers(1, 6),
        "cell.model": st.sampled_from(["polynomial", "linear"]),
        "retention.decay_per_token": st.sampled_from([0.0, 1.6e-4, 0.3, 2.5]),
        "converter.score.saturation_current": st.sampled_from(["80 uA", "13.07 uA"]),
        "readout.partial_levels": st.sampled_from([3, 32, 33, None]),
        "readout.partial_saturation_current": st.sampled_from(["81.7 uA", "9.137 uA", "2.311 uA"]),
        "readout.pulse_levels": st.sampled_from([2, 4, 16, None]),
    }
)


@settings(max_examples=60, deadline=None)
@given(overrides=CASES, tokens=st.integers(1, 24), gain=st.floats(0.2, 8), seed=st.integers(0, 999))
def test_codes_are_the_oracles_at_every_stage(
    overrides: dict[str, Any], tokens: int, gain: float, seed: int
) -> None:
    head = split_head(**overrides)
    q, k, v = draw(seed, tokens)
    scalers = {"q": (np.array([gain, 1.0]), np.array([0.5, 0.2]))}
    got = attend_layer(q, k, v, head.laws, scalers, details=True)
    par = parameters(
        head,
        overrides["array.rows"],
        decay_per_token=overrides["retention.decay_per_token"],
        saturation_score=head.laws.readout.saturation,
    )
    expected = oracle.attend(q, k, v, par, scalers)
    assert_same(got, expected, excused=0.1)
    size = np.abs(np.nan_to_num(expected.scores))
    cancelled = ((size > 0) & (size < EDGE)).any()  # terms that should add up to 0 and so no pulse
    distance = expected.edge_distance
    if distance["partial"].min() > EDGE < distance["pulse"].min() and not cancelled:
        assert_activity(got, expected, par)


def assert_activity(got: AttentionOutput, expected: oracle.Result, par: oracle.Parameters) -> None:
    """Pulses and counts for time and energy come from the same pass."""
    activity = got.activity
    pulses = (expected.widths > 0).sum(axis=2)
    assert np.array_equal(activity.score_pulses, pulses)
    np.testing.assert_allclose(activity.longest_score, expected.widths.max(axis=2), atol=1e-12)
    clamped = np.minimum(np.abs(expected.partials), 1.0)
    np.testing.assert_allclose(
        activity.longest_partial, clamped.max(axis=(2, 3)), rtol=1e-9, atol=1e-12
    )
    if par.levels_partial is not None:
        counts = np.abs(expected.partial_codes).sum(axis=(2, 3))
        assert np.array_equal(activity.partial_counts, counts)
        seen = ~np.isnan(expected.scores)
        beyond = (np.abs(expected.partials) > 1).sum(axis=(1, 2, 3))
        share = beyond / (seen.sum(axis=(1, 2)) * expected.partials.shape[2])
        np.testing.assert_allclose(got.saturation.partial, share)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 999),
    tau=st.sampled_from([1e-9, 1e-6, 5e-3]),
    gap=st.sampled_from([1e-8, 1e-3, 10.0]),
)
def test_ages_from_the_clock_act_inside_every_partial_sum(
    seed: int, tau: float, gap: float
) -> None:
    head = split_head(**{"readout.partial_saturation_current": "17.3 uA"})
    q, k, v = draw(seed, tokens=20)
    stamped = times(seed, 2, 20, tau, gap)
    got = attend_layer(q, k, v, head.laws, details=True, ages=stamped.ages)
    expected = oracle.attend(q, k, v, parameters(head, decay_per_token=1.0), ages=stamped.by_pair)
    assert_same(got, expected, excused=0.1)


@pytest.mark.parametrize("levels", [8, None])
@pytest.mark.parametrize("rate", [1e-3, 0.2])
def test_looked_up_cells_equal_expanded_ones(levels: int | None, rate: float) -> None:
    head = split_head(
        **{
            "levels.key_value": levels,
            "retention.decay_per_token": rate,
            "readout.partial_saturation_current": "17.3 uA",
        }
    )
    q, k, v = draw(5, tokens=90)
    layer = LayerInput(q, k, v)
    expanded = attend_layers([layer], head.laws, details=True)[0]
    direct = attend_layers([layer], head.laws, details=True, law=Plain(head.cell))[0]
    assert np.array_equal(direct.partials, expanded.partials)  # type: ignore[arg-type]
    assert np.array_equal(direct.codes, expanded.codes)  # type: ignore[arg-type]
    for name, expected in vars(expanded.activity).items():
        np.testing.assert_allclose(
            getattr(direct.activity, name), expected, rtol=1e-9, atol=1e-12, err_msg=name
        )


@pytest.mark.parametrize("rate", [0.0, 0.05, 2.0])
def test_what_cells_draw_does_not_depend_on_who_converts(rate: float) -> None:
    """K cells see the same query pulses; V cells those that were made again."""
    split = split_head(**{"retention.decay_per_token": rate})
    joined = split_head(**{"retention.decay_per_token": rate, "readout.model": "charge_to_pulse"})
    q, k, v = draw(3, tokens=70)
    here, there = (attend_layer(q, k, v, head.laws, details=True) for head in (split, joined))
    np.testing.assert_allclose(here.activity.key_current, there.activity.key_current, rtol=1e-9)
    i = np.arange(70)
    left = np.exp(-rate * np.maximum(i[:, None] - i, 0))[:, :, None]
    stored = split.write_path.voltages(v + 0.45) - 0.45
    read_current = [np.abs(split.cell.current(x * left)).sum(axis=2) for x in stored]
    values = np.einsum("hij,hij->hi", here.pulse_widths, read_current)
    np.testing.assert_allclose(here.activity.value_current, values, rtol=1e-9, atol=1e-12)


IDEAL = {"readout.partial_levels": None, "readout.pulse_levels": None}


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_without_levels_digital_is_charge(precision: Any) -> None:
    """Only the order of additions differs; what saturates is the sum alone."""
    q, k, v = draw(8, tokens=90, features=64)
    overrides = {"array.rows": 16, "array.columns": 64, "window": 64}
    split = split_head(64, **overrides, **IDEAL)
    joined = split_head(64, **overrides, **{"readout.model": "charge_to_pulse"})
    assert [x.laws.readout.conversion is None for x in (split, joined)] == [False, True]
    here, there = (
        attend_layer(q, k, v, head.laws, details=True, precision=precision)
        for head in (split, joined)
    )
    close = 1e-12 if precision == "float64" else 1e-4
    np.testing.assert_allclose(here.scores, there.scores, rtol=close, atol=80 * close)  # type: ignore[arg-type]
    np.testing.assert_allclose(here.pulse_widths, there.pulse_widths, atol=close)  # type: ignore[arg-type]
    assert (here.codes != there.codes).mean() < (1e-3 if precision == "float32" else 1e-9)


def test_many_levels_and_a_wide_range_come_to_charge() -> None:
    """Every level halves its step and with it the error; clipping is not one of levels."""
    q, k, v = draw(9, tokens=60, features=64)
    overrides = {"array.rows": 16, "array.columns": 16, "window": 64}
    there = attend_layer(
        q,
        k,
        v,
        split_head(64, **overrides, **{"readout.model": "charge_to_pulse"}).laws,
        details=True,
    )

    def error(levels: int, full_scale: str) -> float:
        many = {
            "readout.partial_levels": levels,
            "readout.partial_saturation_current": full_scale,
            "readout.pulse_levels": None,
        }
        here = attend_layer(q, k, v, split_head(64, **overrides, **many).laws, details=True)
        assert here.saturation.partial is not None
        assert (here.saturation.partial.max() == 0) == (full_scale == "200 uA")
        return float(np.abs(here.scores - there.scores).max())  # type: ignore[operator]

    for levels in (33, 1025, 65536):
        assert 0 < error(levels, "200 uA") <= 4 * 200 / (levels - 1)  # half a step an array
    assert error(65536, "20 uA") > 10
    here = attend_layer(
        q,
        k,
        v,
        split_head(
            64,
            **overrides,
            **{
                "readout.partial_levels": 65536,
                "readout.partial_saturation_current": "200 uA",
                "readout.pulse_levels": None,
            },
        ).laws,
        details=True,
    )
    assert (here.codes != there.codes).mean() < 1e-3


def test_a_part_alone_has_no_hard_sigmoid() -> None:
    """One cell an array, q = 1: +60.4 and -60.4 uA cancel; beyond its range a part is clipped."""
    volts = {name: (np.ones(1), np.zeros(1)) for name in "qkv"}
    linear = {"cell.model": "linear", "cell.linear_slope": "134.2 uA/V", "retention.model": "off"}
    fine = {"levels.key_value": None, **IDEAL}

    def scores(**overrides: Any) -> float:
        head = split_head(2, **{"array.rows": 1, **linear, **fine, **overrides})
        q = np.ones((1, 1, 2))
        k = np.array([[[0.9, 0.6]]])
        got = attend_layer(q, k, k, head.laws, volts, details=True)
        assert got.scores is not None
        return float(got.scores[0, 0, 0])

    parts = 134.2 * 0.45, 134.2 * 0.15
    assert scores() == pytest.approx(sum(parts))
    narrow = {
        "readout.partial_levels": 65535,
        "readout.partial_saturation_current": "30 uA",
    }
    assert scores(**narrow) == pytest.approx(30 + parts[1], abs=1e-3)


def test_an_array_that_holds_all_features_has_nothing_to_split() -> None:
    head = split_head(3)
    assert head.laws.readout.conversion is None
    q, k, v = draw(2, features=3)
    joined = split_head(3, **{"readout.model": "charge_to_pulse"})
    here, there = (everything(attend_layer(q, k, v, x.laws, details=True)) for x in (head, joined))
    assert here == there
    assert head.footprints(1) == joined.footprints(1)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(
    "overrides",
    [{}, {"readout.partial_levels": None}, {"readout.pulse_levels": None, "window": 100}],
    ids=lambda overrides: ",".join(overrides) or "default",
)
def test_threads_change_no_bit(
    overrides: dict[str, Any], precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = {"array.rows": 24, "array.columns": 64, "window": 1024}
    head = split_head(64, **{**usual, **overrides})
    q, k, v = np.random.default_rng(11).normal(0, 0.4, (3, 4, 150, 64))
    results = []
    for cores in (1, 3):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        results.append(
            everything(attend_layer(q, k, v, head.laws, details=True, precision=precision))
        )
    assert results[0] == results[1]


def test_float32_products_are_close() -> None:
    head = split_head(64, **{"array.rows": 16, "array.columns": 64, "window": 1024})
    q, k, v = np.random.default_rng(8).normal(0, 0.4, (3, 2, 200, 64))
    exact, single = (
        attend_layer(q, k, v, head.laws, details=True, precision=precision)
        for precision in ("float64", "float32")
    )
    differ = exact.partials != single.partials
    assert differ.mean() < 1e-3
    assert np.abs(exact.partials - single.partials).max() <= 1  # type: ignore[operator]
    assert (exact.codes != single.codes).mean() < 2e-2
