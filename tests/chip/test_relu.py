"""``converter.law: relu``: a rectifier that saturates, softly from a knee on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archsim
from archsim.chip.activations.hard_sigmoid import HardSigmoid
from archsim.chip.activations.relu import Relu
from archsim.chip.head import Head
from archsim.datapath.attention import attend_layer
from archsim.datapath.fused import charge_to_pulse
from archsim.errors import ConfigError
from archsim.hardware.load import Hardware
from archsim.report.explain import explain
from archsim.traces.trace import Trace
from tests.datapath import oracle
from tests.datapath.test_engines import assert_codes, everything, times
from tests.datapath.test_row_split import assert_same

SOFT = {"converter__knee": 0.7, "converter__slope_beyond_knee": 0.25}
SCORES = np.concatenate([np.linspace(-2, 8, 2001), [0.0, 0.7, 1.0, 1.9]])


def hardware(**overrides: Any) -> Hardware:
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return archsim.load_hardware(overrides={"converter.law": "relu", **dotted})


def small_head(features: int = 7, **overrides: Any) -> Head:
    small = {"array__rows": features, "array__columns": 4, "window": 10}
    return Head(hardware(**{**small, **overrides}).config, features)


def draw(seed: int, tokens: int, features: int = 7) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.4, (2, tokens, features)) + shift for shift in (0.5, 0.1, 0.0)]


@pytest.fixture(scope="module")
def trace() -> Trace:
    q, k, v = np.random.default_rng(0).normal(0, 0.4, (3, 2, 2, 40, 64))
    return Trace.from_arrays(q + 0.5, k, v, "fit")


# --- the law ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("knee", [1e-3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
def test_each_score_by_itself(dtype: Any, knee: float, slope: float) -> None:
    """Up to the knee the score, beyond it less, never more than 1; in place, of one precision."""
    scores = SCORES.astype(dtype)
    before = scores.copy()
    elsewhere = np.empty_like(scores)
    assert Relu(knee, slope).pulses(scores, out=elsewhere) is elsewhere
    assert np.array_equal(scores, before)
    assert Relu(knee, slope).pulses(scores, out=scores) is scores
    assert scores.dtype == dtype
    assert np.array_equal(scores, elsewhere)
    par = oracle.Parameters(1, 1, saturation_score=1.0, knee=knee, slope_beyond_knee=slope)
    expected = [oracle.activation(float(x), par) for x in before]
    np.testing.assert_allclose(
        scores, expected, rtol=0, atol=1e-14 if dtype is np.float64 else 1e-6
    )
    order = np.argsort(before)
    assert (np.diff(scores[order]) >= 0).all()
    assert (scores[before <= 0] == 0).all()
    assert scores.max() <= 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("law", [Relu(), Relu(0.3, 1.0), Relu(1.0, 0.0)])
def test_a_straight_one_is_the_hard_sigmoid(dtype: Any, law: Relu) -> None:
    scores = SCORES.astype(dtype)
    got, expected = (x.pulses(scores, out=np.empty_like(scores)) for x in (law, HardSigmoid()))
    if law.knee == 1:
        assert np.array_equal(got, expected)
    np.testing.assert_allclose(got, expected, atol=4 * np.finfo(dtype).eps)


# --- in a head -------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    knee=st.sampled_from([0.05, 0.4, 0.9, 1.0]),
    slope=st.sampled_from([0.0, 0.3, 1.0]),
    saturation=st.sampled_from([80.0, 13.07, 2.3]),
    window=st.integers(1, 14),
    columns=st.integers(1, 6),
    decay=st.sampled_from([0.0, 1.6e-4, 0.3]),
    cell=st.sampled_from(["polynomial", "linear"]),
    tokens=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_codes_are_those_of_plain_loops(
    knee: float,
    slope: float,
    saturation: float,
    window: int,
    columns: int,
    decay: float,
    cell: str,
    tokens: int,
    seed: int,
) -> None:
    head = small_head(
        converter__knee=knee,
        converter__slope_beyond_knee=slope,
        converter__score__saturation_current=f"{saturation} uA",
        window=window,
        array__columns=columns,
        retention__decay_per_token=decay,
        cell__model=cell,
    )
    q, k, v = draw(seed, tokens)
    got = attend_layer(q, k, v, head.laws, details=True)
    par = oracle.Parameters(
        window=window,
        columns=columns,
        cell=cell,
        decay_per_token=decay,
        saturation_score=saturation,
        knee=knee,
        slope_beyond_knee=slope,
    )
    expected = oracle.attend(q, k, v, par)
    assert_codes(got, expected)
    np.testing.assert_allclose(got.pulse_widths, expected.widths, atol=1e-11)  # type: ignore[arg-type]
    longest = expected.widths.max(axis=2)
    np.testing.assert_allclose(got.activity.longest_score, longest, atol=1e-11)


def test_ages_from_the_clock_act_before_it() -> None:
    head = small_head(**SOFT, converter__score__saturation_current="9.7 uA")
    q, k, v = draw(4, 20)
    stamped = times(4, 2, 20, 1e-6, 1e-3)
    par = oracle.Parameters(
        10, 4, decay_per_token=1.0, saturation_score=9.7, knee=0.7, slope_beyond_knee=0.25
    )
    got = attend_layer(q, k, v, head.laws, details=True, ages=stamped.ages)
    assert_codes(got, oracle.attend(q, k, v, par, ages=stamped.by_pair))


@pytest.mark.parametrize("model", ["digital_sum", "sar_adc"])
def test_digital_readouts_take_it_of_the_sum(model: str) -> None:
    soft = {**SOFT, "readout__model": model, "array__rows": 3}
    if model == "digital_sum":
        soft["readout__partial_saturation_current"] = "17.3 uA"
    else:
        soft["readout__full_scale"] = "17.3 uA"
    head = small_head(**soft, converter__score__saturation_current="13.07 uA")
    q, k, v = draw(6, 25)
    par = oracle.Parameters(
        10,
        4,
        rows=3,
        levels_partial=32 if model == "digital_sum" else 15,
        saturation_partial=17.3,
        saturation_score=13.07,
        knee=0.7,
        slope_beyond_knee=0.25,
        decay_per_token=1.6e-4,
    )
    got = attend_layer(q, k, v, head.laws, details=True)
    assert_same(got, oracle.attend(q, k, v, par), excused=0.1)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_with_a_knee_of_full_scale_results_are_those_of_the_hard_sigmoid(
    trace: Trace, precision: Any, slope: float
) -> None:
    """Every figure, every code: the digital twin."""
    q, k, v = np.random.default_rng(11).normal(0.2, 0.4, (3, 2, 90, 64))
    straight, usual = {"converter__slope_beyond_knee": slope}, {"converter__law": "hard_sigmoid"}
    both: list[dict[str, Any]] = [straight, usual]
    laws = [Head(hardware(**x).config, 64).laws for x in both]
    here, there = (
        everything(attend_layer(q, k, v, law, details=True, precision=precision)) for law in laws
    )
    assert here == there
    early = {"controller__phases": "early_end"}
    runs = [archsim.simulate(trace, hardware(**early, **x), precision=precision) for x in both]
    documents = [run.document(wall=False) for run in runs]
    for document in documents:
        del document["hardware"], document["unread_parameters"]
    assert documents[0] == documents[1]


def test_compiled_code_knows_the_hard_sigmoid_alone() -> None:
    assert charge_to_pulse(Head(hardware(converter__law="hard_sigmoid").config).laws.readout)
    assert not charge_to_pulse(Head(hardware().config).laws.readout)


def test_a_soft_end_shortens_pulses_and_phases(trace: Trace) -> None:
    full = {"controller__phases": "early_end", "converter__score__saturation_current": "5 uA"}
    hard, soft = (
        archsim.simulate(trace, hardware(**full, **x))
        for x in ({}, {"converter__knee": 0.2, "converter__slope_beyond_knee": 0.01})
    )
    assert soft.latency["attention_ns"]["mean"] < hard.latency["attention_ns"]["mean"]
    longest = explain(soft, 30).phases[3].pulse_ns
    assert longest is not None
    assert longest[1] <= 15 * (0.2 + 0.01 * 40)
    for x in (hard, soft):
        issued = {p.action.component: p.operations for p in x.simulation.ledger}
        assert issued["converters"] == 40 * 4 * 1024
    assert Head(hardware(**SOFT).config).footprints(1) == Head(hardware().config).footprints(1)


def test_all_engines_print_the_same_numbers(trace: Trace) -> None:
    soft = hardware(**SOFT, controller__phases="early_end", controller__pipelining="stages")
    documents = [
        archsim.simulate(
            trace.select(tokens=20), soft, prompt=12, engine=engine, detail=detail
        ).document(wall=False)
        for engine, detail in (("simpy", "full"), ("simpy", "contested"), ("fast", "contested"))
    ]
    assert documents[0] == documents[1] == documents[2]


# --- who assumed a hard sigmoid --------------------------------------------------------------


def test_ideal_stays_what_it_is() -> None:
    usual = Head(hardware(converter__law="hard_sigmoid").config, 64).laws
    soft = Head(hardware(**SOFT).config, 64).laws
    assert soft.ideal == usual.ideal
    assert soft.sha256 != usual.sha256


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({}, "converter.law relu: cannot be trained, only hard_sigmoid"),
        (
            {"converter__law": "hard_sigmoid", "readout__model": "sar_adc"},
            "readout.model sar_adc: digitised scores cannot be trained",
        ),
    ],
)
def test_adaptation_refuses_with_a_line(overrides: dict[str, Any], message: str) -> None:
    attention = pytest.importorskip("archsim.adaptation.attention")
    with pytest.raises(ConfigError, match=message) as raised:
        attention.check_trainable(hardware(**overrides).config, 64, 64)
    assert "\n" not in str(raised.value)


def test_hashes_tell_laws_apart_and_not_what_is_unused() -> None:
    usual = archsim.load_hardware()
    assert usual.changed({"converter.knee": 0.5}).sha256 == usual.sha256
    assert usual.changed({"converter.knee": 0.5}).unused_overrides == ["converter.knee"]
    assert hardware().sha256 != usual.sha256
    assert hardware(converter__knee=0.5).sha256 != hardware().sha256
    slope = hardware(converter__slope_beyond_knee=0.5)
    assert slope.unused_overrides == ["converter.slope_beyond_knee"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("knee", 0), ("knee", 1.01), ("knee", "half"), ("slope_beyond_knee", -0.1),
     ("slope_beyond_knee", 1.5)],
)  # fmt: skip
def test_bad_values_are_one_line(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"converter.{key}: Input should be") as raised:
        hardware(**{f"converter__{key}": value})
    assert "\n" not in str(raised.value)
