"""The fit of the decode model and its errors on what was not fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archsim.baseline.fit import (
    FITTED_WINDOWS,
    LIMITS,
    _alternative,
    attention_of,
    fit,
    validate_gpu,
)
from archsim.baseline.roofline import estimate
from archsim.config.gpu import load_gpu
from archsim.errors import InvariantError


def shipped_step(point):
    return point.batch * point.window >= load_gpu("h100-sxm").timing.step_tokens


@pytest.fixture(scope="module")
def validation():
    return validate_gpu()


def test_errors_on_rows_that_were_not_fitted(validation):
    assert validation.mean_error("held out") <= 0.15
    assert validation.mean_error("transfer") <= 0.20
    roles = [point.role for point in validation.predictions]
    counts = {role: roles.count(role) for role in set(roles)}
    assert counts == {"fitted": 4, "held out": 4, "transfer": 8, "paper": 2}
    fitted = [p for p in validation.predictions if p.role == "fitted"]
    assert {(p.gpu, p.window) for p in fitted} == {("H100 SXM", 128), ("H100 SXM", 1024)}


def test_fewer_parameters_than_rows_and_all_of_them_shipped(validation):
    assert len(validation.fitted) == 3 < 4
    assert validation.drifted == []
    assert validation.failures == []


def test_the_fit_is_the_least_relative_error():
    """No small change of a parameter lowers the sum of squares over the four rows."""
    gpu = load_gpu("h100-sxm", measured=False)
    best = fit(gpu, shipped_step)
    rows = [p for p in gpu.measurements if p.window in FITTED_WINDOWS]

    def loss(parameters):
        changed = gpu.model_copy(update={"timing": gpu.timing.model_copy(update=parameters)})
        errors = [estimate(changed, attention_of(p)).latency_s / p.step_latency - 1 for p in rows]
        return float(np.square(errors).sum())

    for name, value in best.items():
        for factor in (0.99, 1.01):
            assert loss({**best, name: value * factor}) > loss(best)


def test_held_out_rows_play_no_part_in_the_fit():
    gpu = load_gpu("h100-sxm", measured=False)
    moved = tuple(
        p if p.window in FITTED_WINDOWS else p.model_copy(update={"latency": 10 * p.latency})
        for p in gpu.measurements
    )
    assert fit(gpu.model_copy(update={"measurements": moved}), shipped_step) == fit(
        gpu, shipped_step
    )


def test_h200_has_the_parameters_of_the_h100():
    assert load_gpu("h200-sxm").timing == load_gpu("h100-sxm").timing


def test_a_drifted_parameter_and_a_bad_error_are_told(validation):
    drifted = replace(validation, shipped={**validation.shipped, "floor": 9e-6})
    assert drifted.failures == ["floor is not what the fit gives"]
    worse = tuple(
        replace(p, predicted_us=2 * p.measured_us) if p.role == "transfer" else p
        for p in validation.predictions
    )
    (failure,) = replace(validation, predictions=worse).failures
    assert failure == "transfer: mean absolute error 100.0 %, limit 20 %"
    assert not replace(validation, predictions=worse).document()["passes"]


def test_the_documented_table_is_what_the_model_gives(validation):
    text = (Path(__file__).parents[2] / "docs" / "baseline.md").read_text(encoding="utf-8")
    for point in validation.predictions:
        if point.role == "paper":
            time, energy = 100 * point.error, 100 * point.energy_error
            assert f"time {time:+.0f} %, energy {energy:+.0f} %" in text
            continue
        (line,) = [
            row for row in text.splitlines() if row.startswith(f"| {point.gpu}, {point.batch} |")
        ]
        assert f"{point.measured_us:.1f} / {point.predicted_us:.1f}" in line
    for role, limit in (("held out", 15), ("transfer", 20)):
        assert f"| {100 * validation.mean_error(role):.1f} % | {limit} % |" in text
    for form in validation.alternatives:
        cells = [f"{100 * error:.1f} %" for error in form.errors.values()]
        efficiency = f"{form.parameters['bandwidth_efficiency']:.3f}"
        cells = [form.name, *cells, f"{100 * form.worst:+.1f} %", efficiency]
        assert f"| {' | '.join(cells)} |" in text


def test_other_forms_are_fitted_to_the_same_rows_and_judged_by_the_same(validation):
    forms = {form.name: form for form in validation.alternatives}
    window = forms["step from a window of 1,024 on"]
    assert window.errors == pytest.approx({"held out": 0.019, "transfer": 0.072}, abs=5e-4)
    lone = forms["the same, at batch 1 only"]
    assert lone.errors == pytest.approx({"held out": 0.020, "transfer": 0.065}, abs=5e-4)
    assert lone.parameters["bandwidth_efficiency"] == pytest.approx(0.808, abs=5e-4)
    none = forms["no step"]
    assert none.errors == pytest.approx({"held out": 0.110, "transfer": 0.148}, abs=5e-4)
    assert none.parameters["step"] == 0
    halved = forms["half the L2 bandwidth"]
    assert halved.errors == pytest.approx({"held out": 0.066, "transfer": 0.094}, abs=5e-4)
    assert forms["step from 256 tokens of the batch on"].errors["held out"] > 0.14


def test_the_alternatives_are_computed_as_the_model_is(validation):
    """The linear form, given the shipped step, has the errors of the model itself."""
    h100, h200 = (load_gpu(name, measured=False) for name in ("h100-sxm", "h200-sxm"))
    form = _alternative("shipped", h100, h200, shipped_step)
    for role in LIMITS:
        assert form.errors[role] == pytest.approx(validation.mean_error(role), rel=0.01)


@pytest.mark.parametrize("change", [{"cache": "cold"}, {"protocol": "eager"}, {"batch": 2}])
def test_only_the_four_rows_are_fitted_to(change):
    gpu = load_gpu("h100-sxm", measured=False)
    stray = gpu.measurements[4].model_copy(update={"latency": 1.0, **change})
    more = gpu.model_copy(update={"measurements": (*gpu.measurements, stray)})
    assert fit(more, shipped_step) == fit(gpu, shipped_step)
    fewer = gpu.model_copy(update={"measurements": gpu.measurements[1:]})
    with pytest.raises(InvariantError, match="3 measurements to fit to"):
        fit(fewer, shipped_step)


def test_the_authors_points_are_predicted_and_their_error_is_shown(validation):
    paper = [p for p in validation.predictions if p.role == "paper"]
    assert [p.gpu for p in paper] == ["RTX 4090", "Jetson Nano"]
    for point in paper:
        assert (point.batch, point.window, point.precision) == (64, 1024, "fp32")
        assert 0.3 < point.predicted_us / point.measured_us < 3
        assert point.energy_error is not None
