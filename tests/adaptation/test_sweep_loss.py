"""The loss as a figure of a sweep: equal to ``archsim evaluate``'s, kept by what it depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from archsim.accuracy.evaluate import evaluate_model
from archsim.errors import ConfigError
from archsim.hardware.load import load_hardware
from archsim.report.sweep import sweep_document, sweep_text
from archsim.sweeps.analysis import best
from archsim.sweeps.axes import axis_from_text
from archsim.sweeps.definition import Sweep, quick_sweep
from archsim.sweeps.exploration import Exploration
from archsim.sweeps.figures import objectives
from archsim.sweeps.runner import explore
from archsim.sweeps.shard import parse_shard
from archsim.sweeps.store import Store
from archsim.sweeps.sweep_file import load_sweep, sweep_from_values
from archsim.traces.synthetic import synthesise
from archsim.traces.trace import save_trace
from tests.adaptation.conftest import OVERRIDES

FIXED = {"array.columns": OVERRIDES["array.columns"], "window": OVERRIDES["window"]}
AXES = ["cell.model=linear,polynomial", "write_path.pulse=5 ns,10 ns"]


@pytest.fixture(scope="module")
def sweep(adapted_folder: Path, text: str, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The trace's vectors have 64 features, the model's 8: each has its own."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "unseen.txt").write_text(text)
    save_trace(synthesise(1, 2, 12, name="tiny"), folder / "trace")
    return quick_sweep(
        [axis_from_text(axis) for axis in AXES], fixed=FIXED, trace=str(folder / "trace"),
        objectives=objectives(["energy", "loss"]), model=str(adapted_folder),
        text=str(folder / "unseen.txt"), windows=2,
    )  # fmt: skip


def explored(sweep: Sweep, store: Path, **given: object) -> tuple[Exploration, int]:
    """A sweep run, and how many points and losses were not in the store."""
    ran = [0]

    def report(tally: object, new: object) -> None:
        ran[0] = tally.ran  # type: ignore[attr-defined]

    return explore(sweep, store, workers=1, report=report, **given), ran[0]  # type: ignore[arg-type]


def test_losses_are_those_of_evaluate_and_shared(
    sweep: Sweep, text: str, adapted_folder: Path, tmp_path: Path
) -> None:
    done, ran = explored(sweep, tmp_path / "s.db")
    assert done.counts == {"ok": 4}
    assert ran == 4 + 2  # points, and a loss each cell; the published design is not counted
    kept = sweep_document(done)["retention"]  # of the hardware before axes vary
    assert kept["window"] == OVERRIDES["window"]
    assert kept["warning"].startswith("at 151.7 us a token")
    console = Console(width=80)
    with console.capture() as shown:
        console.print(sweep_text(done, "s.db"))
    assert shown.get().count("Warning: at 151.7 us a token") == 1
    for point in done.points:
        overrides = {**OVERRIDES, "cell.model": point.parameters["cell.model"]}
        rows = evaluate_model(
            adapted_folder, load_hardware(overrides=overrides), text, "", windows=2, probes=0
        ).rows
        assert rows[-1].name == "hardware"
        assert point.figure("loss") == pytest.approx(rows[-1].loss, rel=1e-9)
    assert len({point.figure("loss") for point in done.points}) == 2
    (winner,) = best(done, "loss", ["loss < 100"])
    assert winner.value == min(
        float(point.results["loss"])  # type: ignore[arg-type, index]
        for point in done.points
    )
    again, ran = explored(sweep, tmp_path / "s.db")
    assert (again, ran) == (done, 0)
    less, ran = explored(replace(sweep, objectives=objectives(["energy"])), tmp_path / "s.db")
    assert ran == 0
    assert "loss" not in (less.points[0].results or {})
    assert explored(replace(sweep, windows=1), tmp_path / "s.db")[1] == 2  # losses alone
    stored = sweep_from_values(sweep.document())
    assert stored.sha256 == sweep.sha256


def test_a_point_without_a_loss_says_why(sweep: Sweep, tmp_path: Path) -> None:
    axes = (axis_from_text("retention.model=per_token,simulated"),)
    done, _ = explored(replace(sweep, axes=axes), tmp_path / "s.db")
    assert [point.status for point in done.points] == ["ok", "invalid"]
    assert done.points[1].reason.startswith("loss: retention.model simulated")


def test_shards_measure_each_loss_once(sweep: Sweep, tmp_path: Path) -> None:
    ran = sum(explored(sweep, tmp_path / f"{i}.db", shard=parse_shard(f"{i}/2"))[1] for i in (1, 2))
    assert ran == 4 + 2
    with Store(tmp_path / "all.db") as store:
        for part in (1, 2):
            store.merge(tmp_path / f"{part}.db")
    merged, ran = explored(sweep, tmp_path / "all.db")
    assert ran == 0
    assert merged.counts == {"ok": 4}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("objectives: [area]\nwindows: 2", r"sweep.yaml:5: windows is of the loss"),
        ("objectives: [loss]\nmodel: nowhere", "model nowhere: no such folder"),
        ("objectives: [loss]\ntext: nowhere.txt", "nowhere.txt: cannot be read"),
        ("objectives: [loss]\nwindows: 0", "greater than or equal to 1"),
        ("objectives: [loss]\nwindows: 9999", "has only 34"),
    ],
)
def test_losses_that_cannot_be(lines: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"name: bad\naxes:\n  window: [8]\n{lines}\n")
    with pytest.raises(ConfigError, match=message) as error:
        explore(load_sweep(path), tmp_path / "s.db")
    assert "\n" not in str(error.value)
