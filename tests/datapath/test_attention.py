"""The datapath against the loop-by-loop oracle, the golden vectors, and ideal attention."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archsim
from archsim.chip.head import Head
from archsim.datapath.attention import LayerInput, attend_layer, attend_layers
from archsim.datapath.elementwise import read_keys, read_values
from archsim.datapath.ideal import ideal_attention
from archsim.datapath.products import (
    Layout,
    ScoreFading,
    in_panels,
    powers_of,
    raise_powers,
    value_operand,
)
from archsim.errors import ConfigError
from archsim.machine.workspace import Workspace

from . import oracle

EDGE = 1e-9


def small_hardware(overrides: dict[str, Any]) -> Any:
    return archsim.load_hardware(
        overrides={"array.rows": 4, "array.columns": 4, "window": 8, **overrides}
    )


CASES = st.fixed_dictionaries(
    {
        "window": st.integers(1, 20),
        "array.columns": st.integers(1, 7),
        "array.rows": st.integers(1, 5),
        "cell.model": st.sampled_from(["polynomial", "linear"]),
        "levels.query": st.sampled_from([2, 4, 16]),
        "levels.key_value": st.sampled_from([2, 8, 15]),
        "levels.output": st.sampled_from([3, 32, 33]),
        "retention.decay_per_token": st.sampled_from([0.0, 1.6e-4, 0.3, 2.5]),
        "pulse_generator.t_max": st.just("auto"),
    }
)


@settings(max_examples=60, deadline=None)
@given(overrides=CASES, tokens=st.integers(1, 24), gain=st.floats(0.2, 8), seed=st.integers(0, 999))
def test_attend_gives_the_oracles_codes(
    overrides: dict[str, Any], tokens: int, gain: float, seed: int
) -> None:
    hardware = archsim.load_hardware(overrides=overrides)
    config = hardware.config
    rng = np.random.default_rng(seed)
    shape = (2, tokens, config.array.rows)
    q, k, v = (rng.normal(0, 0.3, shape) for _ in range(3))
    scalers = {
        "q": (np.array([gain, 1.0]), np.array([0.5, 0.2])),
        "v": (np.array([2.0, 1.0]), np.array([0.45, 0.3])),
        "output": (np.array([0.5, 2.0]), np.array([0.0, -1.0])),
    }
    got = archsim.attend(q, k, v, hardware, scalers, details=True)
    expected = oracle.attend(
        q,
        k,
        v,
        oracle.Parameters(
            window=config.window,
            columns=config.array.columns,
            levels_query=config.levels.query,
            levels_key_value=config.levels.key_value,
            levels_output=config.levels.output,
            cell=config.cell.model,
            decay_per_token=config.retention.decay_per_token,
        ),
        scalers,
    )
    assert got.codes is not None
    assert got.scores is not None
    excused = expected.edge_distance["output"] <= EDGE
    assert np.array_equal(got.codes[~excused], expected.output_codes[~excused])
    assert excused.sum() <= 0.01 * excused.size + 1
    scores = np.nan_to_num(expected.scores)
    np.testing.assert_allclose(got.scores, scores, rtol=1e-11, atol=1e-10)
    if not excused.any():
        np.testing.assert_allclose(got.y, expected.y, rtol=1e-12, atol=1e-12)


def test_middle_of_the_range_is_stored_as_code_4() -> None:
    """FACTS 2: 0.45 V is not a level; the order of operations decides that it becomes 0.51429 V."""
    head = Head(archsim.load_hardware().config)
    assert head.write_path.quantiser.codes(np.array([0.45])).tolist() == [4.0]
    np.testing.assert_allclose(head.write_path.voltages(np.array([0.45])), 0.9 * 4 / 7)


OFF = {
    "levels.query": None,
    "levels.key_value": None,
    "levels.output": None,
    "cell.model": "linear",
    "retention.model": "off",
}


@pytest.mark.parametrize("window", [1, 7, 64, 100])
@pytest.mark.parametrize("spread", [0.1, 3.0])
def test_every_effect_off_is_ideal_attention(window: int, spread: float) -> None:
    """The digital twin: nothing analog is left, even for values far out of range."""
    hardware = archsim.load_hardware(overrides={**OFF, "window": window})
    rng = np.random.default_rng(1)
    q, k, v = rng.normal(0, spread, (3, 3, 90, 64))
    y = archsim.attend(q, k, v, hardware).y
    # the three lines, typed again on purpose: this is the reference, not the code under test
    i = np.arange(90)
    near = (i[:, None] >= i) & (i[:, None] - i < window)
    ideal = (np.clip(19.3 * q @ k.swapaxes(1, 2) / 80, 0, 1) * near) @ (19.3 * v) / 40
    scale = np.abs(ideal).max()
    assert np.abs(y - ideal).max() <= 1e-12 * scale
    assert (
        np.abs(ideal_attention(q, k, v, Head(hardware.config).laws) - ideal).max() <= 1e-12 * scale
    )


def reference_data() -> Path:
    folder = os.environ.get("ARCHSIM_REFERENCE_DATA")
    if not folder:
        pytest.skip("ARCHSIM_REFERENCE_DATA is not set: the authors' vectors are not shipped")
    path = Path(folder) / "64x64_single_arrays_final_output_pulse_notquant.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in ARCHSIM_REFERENCE_DATA")
    return path


def test_golden_vectors() -> None:
    """The authors' ten single-sub-tile problems, through the two products everything uses.

    Their decay is an older one: a single factor on S and on phi_S, multiplied here between calls.
    """
    golden = np.load(reference_data(), allow_pickle=False)
    head = Head(archsim.load_hardware().config)
    layout, coefficients = Layout(64, 3, fading=True), head.cell.law.coefficients
    still, work = np.ones(64), Workspace()  # a row that does not fade
    powers = powers_of(still, layout.powers)
    key, score = np.empty((3, 64, 64)), np.empty((64, 64))
    value, current, read_current = (
        np.empty((layout.value_width, 64)),
        np.empty((64, 64)),
        np.empty(64),
    )
    factors = np.repeat(coefficients[1:, None], 64, axis=1)
    i = np.arange(64)
    fade = np.exp(-1e-4 * (i[:, None] - i)) * (i[:, None] >= i)
    for n in range(10):
        q, k, v = (golden[name][n].astype(np.float64) for name in ("Q", "K", "V"))
        key[0] = k - head.cell.mid_rail
        fading = ScoreFading(factors, still, coefficients[0] * q.sum(axis=1))
        read_keys(raise_powers(key), in_panels(q), fading, score, work)
        faded = score.T * fade
        pulse = head.laws.readout.pulses(faded / head.laws.readout.saturation)
        stored = v - head.cell.mid_rail
        value_operand(stored, still, coefficients, 1.0, None, value, work)
        widths = np.ascontiguousarray((pulse * fade).T)
        read_values(value, widths, powers, layout, current, read_current, work)
        output = np.clip(current.T / head.laws.output.full_scale, -1, 1)
        causal = i[:, None] >= i
        assert np.abs(faded - golden["S"][n])[causal].max() <= 2e-4
        assert np.abs(pulse - golden["phi_S"][n])[causal].max() <= 2.5e-6
        assert np.abs(output - golden["output"][n]).max() <= 3e-6


@pytest.mark.parametrize("model", ["polynomial", "linear"])
@pytest.mark.parametrize("rate", [0.0, 1.6e-4, 0.05, 2.0])
@pytest.mark.parametrize("window", [5, 64])
def test_current_sums_equal_sums_over_cells(model: str, rate: float, window: int) -> None:
    """|I| summed cell by cell, also where decay turns a current's sign round."""
    overrides = {"cell.model": model, "window": window, "retention.decay_per_token": rate}
    hardware = archsim.load_hardware(overrides={"array.rows": 6, **overrides})
    head = Head(hardware.config)
    tokens = 70
    q, k, v = np.random.default_rng(3).uniform(-0.6, 1.2, (3, 1, tokens, 6))
    out = archsim.attend(q, k, v, hardware, details=True)
    pulses = head.pulse_generator.widths(q[0])
    i = np.arange(tokens)
    age = i[:, None] - i
    visible = (age >= 0) & (age < window)
    left = np.exp(-rate * np.maximum(age, 0))[:, :, None]

    def magnitude(stored: np.ndarray) -> np.ndarray:  # (read, written, feature)
        deviation = head.write_path.voltages(stored + 0.45) - 0.45
        return np.abs(head.cell.current(deviation[None] * left)) * visible[:, :, None]

    keys = np.einsum("id,ijd->i", pulses, magnitude(k[0]))
    np.testing.assert_allclose(out.activity.key_current[0], keys, rtol=1e-9)
    assert out.pulse_widths is not None
    values = np.einsum("ij,ijd->i", out.pulse_widths[0], magnitude(v[0]))
    np.testing.assert_allclose(out.activity.value_current[0], values, rtol=1e-9)


def test_results_do_not_depend_on_the_other_heads() -> None:
    hardware = small_hardware({})
    q, k, v = np.random.default_rng(5).normal(0, 0.3, (3, 3, 30, 4))
    together = archsim.attend(q, k, v, hardware).y
    for h in range(3):
        part = slice(h, h + 1)
        assert np.array_equal(archsim.attend(q[part], k[part], v[part], hardware).y[0], together[h])


@pytest.mark.parametrize("rate", [1.6e-4, 2.5])
def test_later_tokens_change_nothing_before_them(rate: float) -> None:
    hardware = small_hardware({"retention.decay_per_token": rate})
    q, k, v = np.random.default_rng(6).normal(0, 0.3, (3, 1, 150, 4))
    short = archsim.attend(q[:, :70], k[:, :70], v[:, :70], hardware)
    long = archsim.attend(q, k, v, hardware)
    assert np.array_equal(long.y[:, :70], short.y)
    assert np.array_equal(long.activity.longest_output[:, :70], short.activity.longest_output)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((1, 4, 4), (1, 4, 4), (1, 5, 4)), "same shape"),
        (((4, 4), (4, 4), (4, 4)), "same shape"),
        (((1, 0, 4),) * 3, "same shape"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes: Any, words: str) -> None:
    q, k, v = (np.zeros(shape) for shape in shapes)
    with pytest.raises(ConfigError, match=words):
        archsim.attend(q, k, v, small_hardware({}))


def test_values_and_scalers_that_make_no_sense_are_refused() -> None:
    hardware, good = small_hardware({}), np.zeros((1, 3, 4))
    bad = good.copy()
    bad[0, 1, 2] = np.nan
    with pytest.raises(ConfigError, match="k holds values that are not finite"):
        archsim.attend(good, bad, good, hardware)
    with pytest.raises(ConfigError, match="unknown name 'p'"):
        archsim.attend(good, good, good, hardware, {"p": (1, 0)})
    with pytest.raises(ConfigError, match=r"shape \(1,\)"):
        archsim.attend(good, good, good, hardware, {"q": (np.ones(2), np.ones(2))})


def test_saturation_rates_are_counted_over_what_is_visible() -> None:
    hardware = small_hardware({"cell.model": "linear", "retention.model": "off"})
    q = np.array([[[2.0, -1.0, 0.5, 0.5]]])
    out = attend_layer(q, q * 0, q * 0, Head(hardware.config).laws)
    assert out.saturation.query.tolist() == [0.5]
    assert out.saturation.key.tolist() == [0.0]


@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_ideal_of_any_size(name: str) -> None:
    """In single precision where that does, in double where terms are large."""
    head = Head(archsim.load_hardware().config)
    q, k, v = np.random.default_rng(2).normal(0.3, 0.4, (3, 1, 70, 64))
    for gain in (1.0, 1e5, 1e40):
        scalers = {name: (np.array([gain]), np.array([0.0]))}
        got = attend_layers([LayerInput(q, k, v, scalers)], head.laws, ideal=True)[0].ideal
        assert got is not None
        exact = ideal_attention(q, k, v, head.laws, scalers)
        np.testing.assert_allclose(got.signal, np.vdot(exact, exact), rtol=1e-5)
