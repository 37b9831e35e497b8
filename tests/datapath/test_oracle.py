"""The oracle against numbers worked out by hand, and against the authors' golden vectors."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

from .oracle import (
    LINEAR,
    POLYNOMIAL,
    Parameters,
    attend,
    edge_distance,
    ideal,
    quant,
    quant_code,
    rounding_edges,
)

GOLDEN = "64x64_single_arrays_final_output_pulse_notquant.npz"
VOLTS = {"k": (1.0, 0.0), "v": (1.0, 0.0)}  # k and v given as volts
EXACT = {"levels_query": None, "levels_key_value": None, "levels_output": None}


def column(*numbers: float) -> np.ndarray:
    """One head, one feature, one number a token."""
    return np.array(numbers, dtype=np.float64).reshape(1, -1, 1)


def draw(seed: int, heads: int, tokens: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (heads, tokens, d)
    return rng.uniform(0, 1, shape), rng.uniform(0, 0.9, shape), rng.uniform(0, 0.9, shape)


# --- the quantiser ---------------------------------------------------------------------------


def test_mid_rail_is_code_4():
    assert quant_code(0.45, 8, 0.0, 0.9) == 4
    assert quant(0.45, 8, 0.0, 0.9) == pytest.approx(0.5142857142857143, abs=1e-15)
    # The order of operations matters: dividing by the step falls below the half.
    assert round(0.45 / (0.9 / 7)) == 3


@pytest.mark.parametrize(
    ("x", "n", "lo", "hi", "code"),
    [
        (0.5, 2, 0.0, 1.0, 0),  # 0.5 to even
        (0.5, 4, 0.0, 1.0, 2),  # 1.5 to even
        (0.5, 6, 0.0, 1.0, 2),  # 2.5 to even
        (-0.1, 16, 0.0, 1.0, 0),
        (1.1, 16, 0.0, 1.0, 15),
        (2.0, 8, 0.0, 0.9, 7),
        (1.0, 32, -1.0, 1.0, 16),  # 15.5 to even
        (-1.0, 32, -1.0, 1.0, -16),
        (5.0, 32, -1.0, 1.0, 16),
        (0.0, 32, -1.0, 1.0, 0),
        (0.99, 32, -1.0, 1.0, 15),  # 15.345
    ],
)
def test_codes(x, n, lo, hi, code):
    assert quant_code(x, n, lo, hi) == code


def test_output_rail_lies_above_one():
    assert quant(1.0, 32, -1.0, 1.0) == pytest.approx(32 / 31, abs=1e-15)


def test_edges():
    assert rounding_edges(16, 0.0, 1.0) == tuple(k + 0.5 for k in range(15))
    assert rounding_edges(8, 0.0, 0.9) == tuple(k + 0.5 for k in range(7))
    assert rounding_edges(32, -1.0, 1.0) == tuple(k + 0.5 for k in range(-16, 16))
    # The clamp at 14.5 rounds inward, to 14, and so is no edge.
    assert rounding_edges(30, -1.0, 1.0) == tuple(k + 0.5 for k in range(-14, 14))


def test_edge_distance():
    assert edge_distance(0.45, 8, 0.0, 0.9) == 0.0
    assert edge_distance(0.0, 32, -1.0, 1.0) == 0.5
    assert edge_distance(1.0, 32, -1.0, 1.0) == 0.0
    assert edge_distance(1.2, 32, -1.0, 1.0) == pytest.approx(3.1)  # 18.6 - 15.5: saturated
    assert edge_distance(0.6 / 15, 16, 0.0, 1.0) == pytest.approx(0.1)
    assert edge_distance(2.0, 16, 0.0, 1.0) == pytest.approx(15.5)
    assert edge_distance(-1.0, 16, 0.0, 1.0) == pytest.approx(15.5)


@pytest.mark.parametrize(("n", "lo", "hi"), [(16, 0.0, 1.0), (8, 0.0, 0.9), (32, -1.0, 1.0)])
def test_code_holds_within_its_edge_distance(n, lo, hi):
    step = (hi - lo) / (n - 1)
    for x in np.random.default_rng(0).uniform(lo - 0.5, hi + 0.5, 300).tolist():
        reach = edge_distance(x, n, lo, hi) * step
        codes = {quant_code(x + s * 0.999 * reach, n, lo, hi) for s in (-1, 0, 1)}
        beyond = {quant_code(x + s * 1.001 * reach, n, lo, hi) for s in (-1, 1)}
        assert len(codes) == 1
        assert beyond != codes


# --- the attention, by hand -------------------------------------------------------------------


def test_two_tokens_by_hand():
    """d = 1; C = (2, 10, 0, 100); saturations 8 and 4; delta = 1/2 a token.

    Token 0: q 1, k 0.9 (deviation 0.45), v 0 (-0.45). Token 1: q 0.4, k 0.45, stored as code 4
    (deviation 9/140), v 0.9 (0.45). 0.45^3 = 0.091125.
    """
    parameters = Parameters(
        window=2,
        columns=2,
        decay_per_token=math.log(2),
        saturation_score=8.0,
        saturation_output=4.0,
        coefficients=(2.0, 10.0, 0.0, 100.0),
    )
    result = attend(
        column(1, 0.4),
        column(0.9, 0.45),
        column(0, 0.9),
        parameters,
        {**VOLTS, "output": (2.0, 0.1)},
    )
    assert result.query_codes[0, :, 0].tolist() == [15, 6]
    assert result.key_codes[0, :, 0].tolist() == [7, 4]
    assert result.value_codes[0, :, 0].tolist() == [0, 7]

    s00 = 2 + 4.5 + 9.1125  # 15.6125
    s10 = 0.4 * (2 + 4.5 / 2 + 9.1125 / 8)  # 2.155625
    s11 = 0.4 * (2 + 10 * 9 / 140 + 100 * (9 / 140) ** 3)  # 1.0677697
    assert result.scores[0, 0, 0] == pytest.approx(s00)
    assert np.isnan(result.scores[0, 0, 1])
    assert result.scores[0, 1].tolist() == pytest.approx([2.155625, 1.0677697])
    assert result.scores[0, 1].tolist() == pytest.approx([s10, s11], abs=1e-13)
    assert result.widths[0, 0].tolist() == [1.0, 0.0]
    assert result.widths[0, 1].tolist() == pytest.approx([0.269453125, 0.13347121])

    # 2 - 4.5 - 9.1125; and 0.269453125 (2 - 2.25 - 1.1390625) + 0.13347121 * 15.6125.
    assert result.outputs_raw[0, :, 0, 0].tolist() == pytest.approx([-11.6125, 1.7095321])
    # -2.9 saturates; 1.7095321 / 4 * 15.5 = 6.62444.
    assert result.output_codes[0, :, 0, 0].tolist() == [-16, 7]
    assert result.edge_distance["output"][0, 1, 0, 0] == pytest.approx(0.12444, abs=1e-5)
    assert result.edge_distance["key"][0, 1, 0] == 0.0
    assert result.y[0, :, 0].tolist() == pytest.approx([0.1 - 64 / 31, 0.1 + 28 / 31])


def test_linear_cell_by_hand():
    parameters = Parameters(
        window=2, columns=2, cell="linear", decay_per_token=math.log(2), **EXACT
    )
    result = attend(column(1, 0.5), column(0.4, 0.2), column(-0.3, 0.1), parameters)
    # k and v are offset to mid-rail by default; one power of delta in each product.
    s10, s11 = 19.3 * 0.5 * 0.4 / 2, 19.3 * 0.5 * 0.2
    assert result.scores[0, 1].tolist() == pytest.approx([s10, s11])
    a1 = 19.3 / 80 * (s10 * -0.3 / 2 + s11 * 0.1)
    assert result.outputs_raw[0, 1, 0, 0] == pytest.approx(a1)
    assert result.y[0, 1, 0] == pytest.approx(a1 / 40)
    assert LINEAR == (0.0, 19.3, 0.0, 0.0)


def test_two_features_make_one_dot_product():
    parameters = Parameters(window=1, columns=1, cell="linear", **EXACT)
    q = np.array([[[1.0, 0.5]]])
    k = np.array([[[0.4, -0.2]]])
    v = np.array([[[0.1, -0.1]]])
    result = attend(q, k, v, parameters)
    assert result.scores[0, 0, 0] == pytest.approx(19.3 * 0.3)
    width = 19.3 * 0.3 / 80
    assert result.y[0, 0].tolist() == pytest.approx([width * 1.93 / 40, -width * 1.93 / 40])


def test_a_slot_never_written_contributes_nothing():
    q, k, v = draw(1, 1, 3, 4)
    one = attend(q, k, v, Parameters(window=3, columns=4), VOLTS)
    # Four sub-tiles of which tokens reach only the first; C_0 would show at an empty slot.
    many = attend(q, k, v, Parameters(window=16, columns=4), VOLTS)
    assert many.outputs_raw.shape == (1, 3, 4, 4)
    assert np.all(many.outputs_raw[:, :, 1:] == 0.0)
    assert np.all(many.output_codes[:, :, 1:] == 0)
    assert np.array_equal(many.y, one.y)
    assert np.isnan(many.scores[0, 0]).tolist() == [False, True, True]
    assert many.slot_tokens[0].tolist() == [0] + [-1] * 15
    # It is not a slot at 0 V either.
    width = one.widths[0, 0, 0]
    y0 = quant(v[0, 0, 0], 8, 0.0, 0.9) - 0.45
    alone = width * sum(c * y0**p for p, c in enumerate(POLYNOMIAL))
    assert many.outputs_raw[0, 0, 0, 0] == pytest.approx(alone)


def test_wrap_overwrites_the_oldest():
    q, k, v = draw(2, 1, 7, 3)
    result = attend(q, k, v, Parameters(window=4, columns=2, **EXACT), VOLTS)
    assert result.slot_tokens.tolist() == [
        [0, -1, -1, -1],
        [0, 1, -1, -1],
        [0, 1, 2, -1],
        [0, 1, 2, 3],
        [4, 1, 2, 3],
        [4, 5, 2, 3],
        [4, 5, 6, 3],
    ]
    for i in range(7):
        stored = np.flatnonzero(~np.isnan(result.scores[0, i])).tolist()
        assert stored == list(range(max(0, i - 3), i + 1))
    # Sub-tiles go by physical slot: at token 4 the first holds tokens 4 and 1.
    current = np.zeros((7, 3))
    for p, c in enumerate(POLYNOMIAL):
        current += c * (v[0] - 0.45) ** p
    widths = result.widths[0, 4]
    assert result.outputs_raw[0, 4, 0] == pytest.approx(widths[[4, 1]] @ current[[4, 1]])
    assert result.outputs_raw[0, 4, 1] == pytest.approx(widths[[2, 3]] @ current[[2, 3]])
    # What was overwritten leaves no trace.
    k2, v2 = k.copy(), v.copy()
    k2[:, 0], v2[:, 0] = 0.9 - k[:, 0], 0.9 - v[:, 0]
    other = attend(q, k2, v2, Parameters(window=4, columns=2, **EXACT), VOLTS)
    assert not np.allclose(other.scores[0, 3, 0], result.scores[0, 3, 0])
    assert np.array_equal(other.y[:, 4:], result.y[:, 4:])


def test_last_subtile_may_be_partial():
    q, k, v = draw(3, 1, 5, 2)
    result = attend(q, k, v, Parameters(window=3, columns=2), VOLTS)
    assert result.outputs.shape == (1, 5, 2, 2)
    assert result.slot_tokens[4].tolist() == [3, 4, 2]


def test_age_zero_does_not_decay():
    q, k, v = draw(4, 1, 4, 3)
    still = attend(q, k, v, Parameters(window=4, columns=4), VOLTS)
    fast = attend(q, k, v, Parameters(window=4, columns=4, decay_per_token=2.0), VOLTS)
    for i in range(4):
        assert fast.scores[0, i, i] == still.scores[0, i, i]
    assert fast.scores[0, 1, 0] != still.scores[0, 1, 0]
    one = attend(q, k, v, Parameters(window=1, columns=1), VOLTS)
    gone = attend(q, k, v, Parameters(window=1, columns=1, decay_per_token=9.0), VOLTS)
    assert np.array_equal(one.y, gone.y)


def test_decay_tends_to_the_zero_power():
    q, k, v = draw(5, 1, 2, 4)
    result = attend(q, k, v, Parameters(window=2, columns=2, decay_per_token=60.0, **EXACT), VOLTS)
    assert result.scores[0, 1, 0] == pytest.approx(POLYNOMIAL[0] * q[0, 1].sum())


def test_clamps_hold_without_levels_and_the_output_clip_can_be_off():
    q, k, v = column(7.0), column(5.0), column(-5.0)
    gain = (0.0, 1000.0, 0.0, 0.0)
    par = Parameters(window=1, columns=1, coefficients=gain, **EXACT)
    result = attend(q, k, v, par)
    assert result.scores[0, 0, 0] == pytest.approx(450.0)
    assert result.widths[0, 0, 0] == 1.0
    assert result.outputs_raw[0, 0, 0, 0] == pytest.approx(-450.0)
    assert result.y[0, 0, 0] == -1.0
    assert result.output_codes is None
    assert result.query_codes is None
    off = Parameters(window=1, columns=1, coefficients=gain, output_clip=False, **EXACT)
    assert attend(q, k, v, off).y[0, 0, 0] == pytest.approx(-450 / 40)
    with pytest.raises(ValueError, match="levels_output"):
        Parameters(window=1, columns=1, output_clip=False)


def test_each_head_has_its_own_scalers():
    q, k, v = draw(6, 2, 3, 2)
    par = Parameters(window=2, columns=1)
    per_head = {
        "q": ([1.0, 0.5], [0.0, 0.2]),
        "k": ([1.0, 0.7], [0.0, 0.1]),
        "v": ([1.0, -1.0], [0.0, 0.9]),
        "output": ([1.0, 3.0], [0.0, -0.2]),
    }
    result = attend(q, k, v, par, per_head)
    first = attend(q[:1], k[:1], v[:1], par, VOLTS)
    by_hand = (0.5 * q[1:] + 0.2, 0.7 * k[1:] + 0.1, 0.9 - v[1:])
    second = attend(*by_hand, par, VOLTS)
    assert np.array_equal(result.y[0], first.y[0])
    assert result.y[1] == pytest.approx(3 * second.y[0] - 0.2)


def test_against_the_formula_for_all_tokens_at_once():
    """No wrap, so that slots are tokens: the equations as array expressions."""
    q, k, v = draw(7, 2, 12, 5)
    lam = 0.05
    par = Parameters(
        window=12, columns=4, decay_per_token=lam, saturation_score=15.0, saturation_output=8.0
    )
    result = attend(q, k, v, par, VOLTS)
    Q = np.rint(q * 15) / 15
    K = np.rint(k * 7 / 0.9) * 0.9 / 7 - 0.45
    V = np.rint(v * 7 / 0.9) * 0.9 / 7 - 0.45
    age = np.arange(12)[:, None] - np.arange(12)
    causal = age >= 0
    delta = np.exp(-lam * np.where(causal, age, 0))
    S = sum(c * delta**p * (Q @ (K**p).swapaxes(1, 2)) for p, c in enumerate(POLYNOMIAL))
    P = np.where(causal, np.clip(S / 15, 0, 1), 0)
    y = 0
    for t in range(3):
        tile = slice(4 * t, 4 * t + 4)
        A = sum(c * (P * delta**p)[:, :, tile] @ (V**p)[:, tile] for p, c in enumerate(POLYNOMIAL))
        y = y + np.rint(np.clip(A / 8, -1, 1) * 15.5) / 15.5
    assert 0 < np.mean(P[:, causal] == 0) < 0.5
    assert 0 < np.mean(P[:, causal] == 1) < 0.5
    assert result.edge_distance["output"].min() > 1e-9
    assert np.allclose(result.scores[:, causal], S[:, causal], rtol=0, atol=1e-12)
    assert np.allclose(result.widths, P, rtol=0, atol=1e-13)
    assert np.allclose(result.y, y, rtol=0, atol=1e-13)


def test_ideal_is_the_linear_cell_without_limits():
    rng = np.random.default_rng(8)
    q = rng.uniform(0, 1, (2, 6, 4))
    k, v = rng.uniform(-0.4, 0.4, (2, 2, 6, 4))
    scalers = {"q": (0.9, 0.05), "output": ([2.0, 0.5], [0.1, 0.0])}
    par = Parameters(window=3, columns=2, cell="linear", output_clip=False, **EXACT)
    y = ideal(q, k, v, 3, scalers)
    assert np.allclose(attend(q, k, v, par, scalers).y, y, rtol=0, atol=1e-14)
    # One token by hand; nothing is clamped on the way in.
    alone = ideal(column(3.0), column(1.5), column(-2.0), 1)
    assert alone[0, 0, 0] == pytest.approx(min(19.3 * 4.5 / 80, 1.0) * 19.3 * -2.0 / 40)
    alone = ideal(column(-3.0), column(-1.0), column(2.0), 1)
    assert alone[0, 0, 0] == pytest.approx(19.3 * 3 / 80 * 19.3 * 2 / 40)


def test_bad_arguments():
    with pytest.raises(ValueError, match="cell"):
        Parameters(window=1, columns=1, cell="cubic")
    with pytest.raises(ValueError, match="at least 1"):
        Parameters(window=0, columns=1)
    with pytest.raises(ValueError, match="scalers"):
        attend(column(1), column(1), column(1), Parameters(window=1, columns=1), {"x": (1, 0)})
    with pytest.raises(ValueError, match="heads, tokens, d"):
        attend(column(1, 2), column(1), column(1), Parameters(window=1, columns=1))


# --- the authors' golden vectors --------------------------------------------------------------


def test_golden_vectors():
    folder = os.environ.get("ARCHSIM_REFERENCE_DATA")
    if not folder:
        pytest.skip("ARCHSIM_REFERENCE_DATA does not name the folder of the golden vectors")
    path = Path(folder) / GOLDEN
    if not path.is_file():
        pytest.skip(f"no {GOLDEN} in ARCHSIM_REFERENCE_DATA")
    with np.load(path) as data:
        golden = {name: data[name] for name in ("Q", "K", "V", "S", "phi_S", "output")}
    parameters = Parameters(
        window=64, columns=64, decay_per_token=1e-4, decay_form="current", **EXACT
    )
    result = attend(golden["Q"], golden["K"], golden["V"], parameters, VOLTS)
    causal = np.tril(np.ones((64, 64), dtype=bool))
    assert np.isnan(result.scores[:, ~causal]).all()
    assert np.abs(result.scores - golden["S"])[:, causal].max() < 1.1e-4
    assert np.abs(result.widths - golden["phi_S"]).max() < 1.5e-6
    assert np.abs(result.y - golden["output"]).max() < 2e-6
    # The test can tell the two forms of decay apart.
    exact = Parameters(window=64, columns=64, decay_per_token=1e-4, **EXACT)
    deviation = attend(golden["Q"][:1], golden["K"][:1], golden["V"][:1], exact, VOLTS)
    assert np.abs(deviation.scores - golden["S"][:1])[:, causal].max() > 5e-4
