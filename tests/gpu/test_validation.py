"""The model beside every measured point: targets, groups, and the errors to expect elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from archsim.gpu.file import available_gpus, load_gpu
from archsim.gpu.validation import (
    BY_GRAPH,
    LIMITS,
    TOKEN,
    TRANSFER,
    GpuValidation,
    errors_by_group,
    expected_errors,
    validate_gpu,
)


@pytest.fixture(scope="module")
def validation() -> GpuValidation:
    return validate_gpu()


def errors(validation: GpuValidation, group: str, role: str) -> tuple[list[float], list[float]]:
    rows = [p for p in validation.predictions if (p.group, p.role) == (group, role)]
    energies = [p.energy_error for p in rows if p.energy_error is not None]
    return [abs(p.error) for p in rows], [abs(e) for e in energies]


def test_rows_not_fitted_keep_their_targets(validation: GpuValidation) -> None:
    times, energies = errors(validation, "bf16, warm", "held out")
    assert len(times) == len(energies) == 15
    assert sum(times) / 15 <= 0.08
    assert sum(energies) / 15 <= 0.08
    assert max(times + energies) <= 0.25
    for group in ("bf16, cold", "fused, others", "unfused", BY_GRAPH):
        times, energies = errors(validation, group, "held out")
        assert times
        assert max(times + energies) <= 0.20, group
    times, energies = errors(validation, TOKEN, "held out")
    assert len(times) == len(energies) == 15
    assert max(times + energies) <= 0.15
    times, _ = errors(validation, TRANSFER, "transfer")
    assert len(times) == 8
    assert sum(times) / 8 <= 0.10
    assert validation.failures == []


def test_every_measured_point_is_there_once(validation: GpuValidation) -> None:
    h100 = load_gpu("h100-sxm")
    own = [p for p in validation.predictions if p.gpu == h100.name]
    assert len(own) == len(h100.measurements) + len(h100.tokens)
    roles = [p.role for p in own]
    assert (roles.count("fitted"), roles.count("held out")) == (21, 21 + 3 + 15)
    assert roles.count("not modelled") == 6 + 8


def test_an_error_out_of_its_limit_is_told(validation: GpuValidation) -> None:
    worse = tuple(
        replace(p, predicted_us=2 * p.measured_us) if p.group == "bf16, warm" else p
        for p in validation.predictions
    )
    found = replace(validation, predictions=worse)
    assert found.failures == [
        "bf16, warm, held out: mean error of time 100.0 %, limit 8 %",
        "bf16, warm, held out: largest error of time 100.0 %, limit 25 %",
    ]
    assert not found.document()["passes"]
    only_fitted = tuple(
        replace(p, predicted_us=2 * p.measured_us) if p.role == "fitted" else p
        for p in validation.predictions
    )
    assert replace(validation, predictions=only_fitted).failures == []


def test_errors_to_expect_are_those_of_the_gpu_files(validation: GpuValidation) -> None:
    found = expected_errors(validation)
    assert set(found) == {load_gpu(name).name for name in available_gpus()}
    for name in available_gpus():
        gpu = load_gpu(name)
        time, energy = found[gpu.name]
        assert gpu.expected_error.time == pytest.approx(time, abs=0.006), name
        assert gpu.expected_error.energy == pytest.approx(energy, abs=0.006), name
    errors = load_gpu("h100-sxm").expected_error
    for group, (time, energy) in errors_by_group(validation).items():
        told = getattr(errors, group)
        assert told.time == pytest.approx(time, abs=6e-4), group
        assert told.energy == (None if energy is None else pytest.approx(energy, abs=6e-4)), group


def test_the_documented_table_is_what_the_model_gives(validation: GpuValidation) -> None:
    docs = Path(__file__).parents[2] / "docs" / "baseline.md"
    text = docs.read_text(encoding="utf-8")
    for row in validation.summaries:
        cells = [row.group, row.role, str(row.rows)]
        cells += [f"{100 * row.time_mean:.1f} / {100 * row.time_worst:.1f}"]
        if row.energy_mean is None or row.energy_worst is None:
            cells.append("-")
        else:
            cells.append(f"{100 * row.energy_mean:.1f} / {100 * row.energy_worst:.1f}")
        assert f"| {' | '.join(cells)} |" in text
    main = {(p.batch, p.window): p for p in validation.predictions if p.group == "bf16, warm"}
    for batch in sorted({b for b, _ in main}):
        cells = [
            f"{p.measured_us:.4g} / {p.predicted_us:.4g}{' f' if p.role == 'fitted' else ''}"
            for (b, _), p in sorted(main.items())
            if b == batch
        ]
        assert f"| {batch} | {' | '.join(cells)} |" in text
    assert set(LIMITS) <= {row.group for row in validation.summaries}
