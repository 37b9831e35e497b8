"""The hardware that a model was adapted to is what its traces run on, unless another is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from archsim.accuracy.closed_loop import closed_loop
from archsim.adaptation.adapt import adapt_model
from archsim.cli import application
from archsim.errors import ConfigError
from archsim.hardware.load import Hardware, load_hardware
from archsim.models.adapted import hardware_for, load_adapted
from archsim.sweeps.axes import axis_from_text
from archsim.sweeps.definition import quick_sweep
from archsim.sweeps.sweep_file import load_sweep
from archsim.traces.trace import load_trace
from tests.adaptation.conftest import OVERRIDES, plan

LEVELS = {**OVERRIDES, "levels.key_value": 16}
HERE = [word for key, value in LEVELS.items() for word in ("--set", f"{key}={value}")]
EIGHT = [*HERE[:-1], "levels.key_value=8"]


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapted to 16 levels of K and V at a supply of 1.2 V, without training."""
    output = tmp_path_factory.mktemp("adapted") / "sixteen"
    hardware = load_hardware(overrides={**LEVELS, "cell.supply": "1.2 V"})
    return adapt_model(tiny_folder, hardware, [text], output, plan("direct"))


def run(*words: object) -> str:
    result = CliRunner().invoke(application, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def simulated(*words: object) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run("simulate", *words, "--json"))
    return document


def test_simulate_takes_the_folders_hardware(folder: Path) -> None:
    own = hardware_for(folder)
    assert own.config.levels.key_value == 16
    document = simulated("-t", folder)
    assert document["hardware"] == {"name": "sixteen-hardware", "config_sha256": own.sha256}
    assert document["trace"]["adapted_to"]["config_sha256"] == own.sha256
    assert document["trace"]["adapted_to"]["differences"] == []
    assert document["function"]["in_loop"]["adapted_to_this_hardware"] is True
    assert not any("rescaled" in note or "adapted" in note for note in document["notes"])
    shown = run("simulate", "-t", folder, "--no-report")
    assert "model sixteen was adapted to it" in " ".join(shown.split())
    assert "In the model's loop" in shown


def test_another_hardware_is_named_with_what_differs(folder: Path) -> None:
    words = ("-t", folder, "-c", "gaincell-28nm", *EIGHT)
    document = simulated(*words)
    assert document["hardware"]["name"] == "gaincell-28nm"
    differences = document["trace"]["adapted_to"]["differences"]
    assert "levels.key_value 16 there, 8 here" in differences
    assert "cell.supply 1.2 V there, 0.9 V here" in differences
    assert any("Model sixteen was adapted to other hardware" in n for n in document["notes"])
    assert any("rescaled to 0 to 0.9 V" in note for note in document["notes"])
    assert document["function"]["in_loop"]["adapted_to_this_hardware"] is False
    shown = run("simulate", *words, "--no-report")
    assert "In the model's loop" not in shown
    assert "was adapted to another" in " ".join(shown.split())


def test_what_the_function_does_not_read_makes_no_other_hardware(folder: Path) -> None:
    document = simulated("-t", folder, "--set", "write_path.pulse=12 ns")
    assert document["trace"]["adapted_to"]["differences"] == []
    assert document["function"]["in_loop"]["adapted_to_this_hardware"] is True


def test_compare_and_sweep_take_it_too(folder: Path, tmp_path: Path) -> None:
    own = hardware_for(folder)
    words = ("compare", "-t", folder, "--gpu", "h100-sxm", "--protocol", "latency", "--json")
    names = {a["name"] for a in json.loads(run(*words))["accelerators"].values()}
    assert names == {"sixteen-hardware"}
    quick = quick_sweep([axis_from_text("window=16,48")], trace=str(folder))
    assert load_hardware(quick.hardware).sha256 == own.sha256
    given = quick_sweep(
        [axis_from_text("window=16,48")], trace=str(folder), hardware="gaincell-28nm"
    )
    assert given.hardware == "gaincell-28nm"
    path = tmp_path / "sweep.yaml"
    path.write_text(f"name: of-a-folder\ntrace: {folder}\naxes:\n  window: [16, 48]\n")
    assert load_hardware(load_sweep(path).hardware).sha256 == own.sha256
    path.write_text(
        f"name: of-two\naxes:\n  window: [16, 48]\n  trace: [{folder}, reference-adapted]\n"
    )
    with pytest.raises(ConfigError, match="say which hardware"):
        load_sweep(path)


def test_evaluate_says_it_as_simulate_does(folder: Path, text: str, tmp_path: Path) -> None:
    (tmp_path / "unseen.txt").write_text(text)
    words = ("evaluate", "--model", folder, "--text", tmp_path / "unseen.txt", "--windows", 1)
    words += ("--probes", 0, "--json")
    own = json.loads(run(*words))
    assert own["hardware"] == "sixteen-hardware"
    assert not any("adapted" in note for note in own["notes"])
    other = json.loads(run(*words, "-c", "gaincell-28nm", *EIGHT))
    assert any("levels.key_value 16 there, 8 here" in note for note in other["notes"])
    assert any("rescaled to 0 to 0.9 V" in note for note in other["notes"])


def test_scalers_of_another_supply_keep_the_loss(
    folder: Path, tiny_hardware: Hardware, text: str, tmp_path: Path
) -> None:
    """The same cells at another supply: rescaled scalers give the loss of the adapted ones."""
    (tmp_path / "unseen.txt").write_text(text)
    words = ("evaluate", "--model", folder, "--text", tmp_path / "unseen.txt", "--windows", 1)
    words += ("--probes", 0, "--json", "--set", "cell.model=linear")
    ratio = 0.8 / 1.2
    slope = load_adapted(folder) and hardware_for(folder).config.cell.linear_slope / ratio
    moved = ("--set", "cell.supply=0.8 V", "--set", f"cell.linear_slope={slope!r} A/V")
    losses = [json.loads(run(*words, *more))["rows"][-1]["loss"] for more in ((), moved)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_a_recording_keeps_the_range_of_its_hardware(folder: Path) -> None:
    assert closed_loop(folder)["voltages"].supply == 1.2
    assert load_trace(folder).voltages.supply == 1.2
