"""Which half of the measurements is fitted, what the fit gives, and what was tried instead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archsim.errors import ConfigError
from archsim.gpu.file import load_gpu
from archsim.gpu.fit import (
    FITTED_GPU,
    FORMS,
    PARAMETERS,
    _error,
    board_of,
    described,
    fit,
    fitted_points,
    model_yaml,
    tried_forms,
    with_parameters,
)

H100 = load_gpu(FITTED_GPU)
OWN = [point for point in H100.measurements if point.source == "user"]
ROOT = Path(__file__).parents[2]


def listed() -> dict[str, set[str]]:
    """The list that was written down before anything was fitted, by board."""
    text = (ROOT / "hwconfigs" / "gpus" / "measured" / "README.md").read_text(encoding="utf-8")
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] not in {"board", "---"}:
            found[cells[0]] = {row.replace(" ", "") for row in cells[1].split(", ")}
    return found


def test_the_fitted_half_is_the_one_written_down_before() -> None:
    chosen: dict[str, set[str]] = {}
    for point in fitted_points(OWN):
        board = board_of(point)
        assert board is not None
        by_window = board.startswith("bf16")
        name = f"{point.batch}x{point.window if by_window else point.precision}"
        chosen.setdefault(board, set()).add(name)
    assert chosen == listed()
    boards = [board_of(point) for point in OWN]
    for board, rows in chosen.items():
        assert len(rows) == boards.count(board) // 2


def test_neighbours_on_a_board_are_never_both_fitted() -> None:
    main = [p for p in OWN if board_of(p) == "bf16, warm"]
    fitted = {(p.batch, p.window) for p in fitted_points(main)}
    batches, windows = (sorted({getattr(p, k) for p in main}) for k in ("batch", "window"))
    for b, batch in enumerate(batches):
        for w, window in enumerate(windows):
            assert ((batch, window) in fitted) == ((b + w) % 2 == 0)


def test_at_most_eight_parameters_and_the_shipped_ones_are_what_the_fit_gives() -> None:
    found = fit(H100)
    assert len(found.parameters) == len(PARAMETERS) == 8
    assert (found.points, found.energies) == (21, 19)
    assert found.drifted == []
    assert all(value > 0 for value in found.parameters.values())


def test_held_out_points_play_no_part_in_the_fit() -> None:
    fitted = fitted_points(OWN)
    moved = tuple(
        p if p in fitted or p.source != "user" else p.model_copy(update={"latency": 9 * p.latency})
        for p in H100.measurements
    )
    assert fit(H100.model_copy(update={"measurements": moved})).parameters == fit(H100).parameters


def test_the_fit_is_the_least_relative_error_of_time() -> None:
    """No small change of a parameter lowers the sum of squares over the fitted points."""
    best = fit(H100).parameters
    points = fitted_points(OWN)

    def loss(what: str, parameters: dict[str, float]) -> float:
        gpu = with_parameters(H100, parameters)
        rows = [p for p in points if what == "time" or p.step_energy is not None]
        return float(np.square([_error(gpu, p, what) for p in rows]).sum())  # type: ignore[arg-type]

    for name in PARAMETERS:
        what = "energy" if name in {"residency_power", "byte_energy"} else "time"
        least = loss(what, best)
        for factor in (0.98, 1.02):
            value = best[name] * factor
            if name.endswith("efficiency") and value > 1:
                continue
            assert loss(what, {**best, name: value}) > least, name


def test_a_fit_starts_from_anywhere_near() -> None:
    """It is no local accident: from other values it comes to the same."""
    start = {name: getattr(H100.model, name) * 0.8 for name in PARAMETERS}
    found = fit(with_parameters(H100, start)).parameters
    for name, value in fit(H100).parameters.items():
        assert found[name] == pytest.approx(value, rel=5e-3), name


def test_slower_kernels_and_other_libraries_are_not_fitted_to() -> None:
    for point in H100.measurements:
        if point.kernel in {"TensorRT-LLM", "flash"}:
            assert not described(point)
            assert board_of(point) is None
    bf16 = [p for p in OWN if p.kernel == "efficient" and p.precision == "bf16"]
    fp32 = [p for p in OWN if p.kernel == "efficient" and p.precision == "fp32"]
    assert len(bf16) == 3
    assert len(fp32) == 2
    assert not any(map(described, bf16))
    assert all(map(described, fp32))


def test_nothing_to_fit_to_is_one_line() -> None:
    with pytest.raises(ConfigError, match="A100 80 GB: nothing was measured"):
        fit(load_gpu("a100-80gb"))


def test_without_energies_those_parameters_stay() -> None:
    silent = tuple(p.model_copy(update={"energy": None}) for p in H100.measurements)
    found = fit(H100.model_copy(update={"measurements": silent}))
    assert found.energies == 0
    assert found.parameters["byte_energy"] == H100.model.byte_energy
    assert found.parameters["launch"] == fit(H100).parameters["launch"]


def test_the_fit_is_a_section_of_a_gpu_file(tmp_path: Path) -> None:
    found = fit(H100)
    text = (ROOT / "hwconfigs" / "gpus" / "a100-80gb.yaml").read_text(encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(text + model_yaml(found), encoding="utf-8")
    model = load_gpu(path).model
    for name, value in found.parameters.items():
        assert getattr(model, name) == pytest.approx(value, rel=5e-3)
    assert model.tile == H100.model.tile


def test_the_documented_forms_are_what_they_give() -> None:
    text = (ROOT / "docs" / "baseline.md").read_text(encoding="utf-8")
    for form in tried_forms(H100):
        cells = [
            f"{100 * value:.1f}"
            for value in (form.time_mean, form.energy_mean, form.time_worst, form.energy_worst)
        ]
        assert f"| {form.name} | {' | '.join(cells)} |" in text
    assert len(FORMS) > 8
