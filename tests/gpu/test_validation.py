"""The model beside every measured point: targets, groups, and the errors to expect elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from archsim.gpu.file import Group, available_gpus, load_gpu
from archsim.gpu.fit import FITTED_GPU
from archsim.gpu.validation import (
    BY_GRAPH,
    LIMITS,
    TOKEN,
    TRANSFER,
    GpuValidation,
    Prediction,
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


def means(points: Sequence[Prediction]) -> tuple[float, float | None]:
    """Mean absolute error of time and energy."""
    energies = [abs(p.energy_error) for p in points if p.energy_error is not None]
    time = sum(abs(p.error) for p in points) / len(points)
    return time, sum(energies) / len(energies) if energies else None


def expected_errors(validation: GpuValidation) -> dict[str, tuple[float, float]]:
    """Mean absolute error of time and energy to expect on each shipped GPU, by its name.

    On the fitted GPU, that of what was held out. On one that a measured library ties to it, that
    and the error of the ratio. On any other, the mean over the GPUs that were not fitted, or that
    of its own points where that is larger.
    """
    fitted, points = load_gpu(FITTED_GPU).name, validation.predictions
    held = [p for p in points if (p.gpu, p.role) == (fitted, "held out") and p.part is None]
    foreign = {
        name: [p for p in points if p.gpu == name and p.role in {"transfer", "authors"}]
        for name in dict.fromkeys(p.gpu for p in points if p.gpu != fitted)
    }
    own_time, own_energy = means(held)
    assert own_energy is not None
    known = {name: means(rows) for name, rows in foreign.items() if rows}
    times = [time for time, _ in known.values()]
    energies = [energy for _, energy in known.values() if energy is not None]
    time_mean, energy_mean = sum(times) / len(times), sum(energies) / len(energies)
    found = {}
    for name in (load_gpu(each).name for each in available_gpus()):
        time, energy = known.get(name, (0.0, None))
        if name == fitted:
            found[name] = (own_time, own_energy)
        elif any(p.role == "transfer" for p in foreign.get(name, [])):
            found[name] = (own_time + time, max(energy_mean, energy or 0.0))
        else:
            found[name] = (max(time_mean, time), max(energy_mean, energy or 0.0))
    return found


def errors_by_group(validation: GpuValidation) -> dict[Group, tuple[float, float | None]]:
    """Mean absolute error of time and energy of the fitted GPU's held-out points, by kind of work.

    Of unfused attention those launched by Python, as rows of ``eager`` and ``paper`` are.
    """
    groups: dict[Group, set[str]] = {
        "fused": {"bf16, warm", "fused, others"},
        "unfused": {"unfused"},
        "cold": {"bf16, cold"},
        "whole_token": {TOKEN},
    }
    held = [p for p in validation.predictions if p.role == "held out"]
    return {
        name: means([p for p in held if p.group in members]) for name, members in groups.items()
    }


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
