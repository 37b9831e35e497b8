"""What an installed package carries, and what works without its extras."""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from archsim.accuracy.evaluate import evaluate_model
from archsim.accuracy.subject import adapted_subject
from archsim.cli import main
from archsim.errors import ConfigError
from archsim.files import data_folder
from archsim.hardware.load import load_hardware
from archsim.models.adapted import load_adapted, read_adaptation, shipped_adapted, shipped_text

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))


@pytest.fixture
def without_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["archsim", *words])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.usefixtures("without_tokenizers")
def test_a_simulation_needs_no_tokenizer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "simulate", "--tokens", "4", "--no-report") == 0
    assert "In the model's loop" in capsys.readouterr().out


@pytest.mark.usefixtures("without_tokenizers")
@pytest.mark.parametrize("words", ["evaluate --windows 1", "retention", "trace record --text {}"])
def test_reading_text_says_which_extra_it_needs(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    more = words.format(shipped_text()).split()
    if more[0] == "trace":
        more += ["--model", str(shipped_adapted()), "--length", "3", "-o", str(tmp_path / "out")]
    assert run(monkeypatch, *more) == 3
    told = capsys.readouterr().err
    assert "pip install 'archsim[text]'" in told
    assert len(told.splitlines()) == 1


def test_the_wheel_has_all_of_the_adapted_model_but_its_stages() -> None:
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    folder = f"traces/{shipped_adapted().name}"
    files = [n for n in read_adaptation(shipped_adapted()).files if not n.startswith("stages/")]
    for name in [*files, "adaptation.json", "knee.json", "trace"]:
        assert included[f"{folder}/{name}"] == f"archsim/_data/{folder}/{name}"
    assert "traces" not in included
    assert folder not in included
    assert not any("stages" in name or name == "traces/reference" for name in included)


def test_ranges_stand_in_the_project_and_versions_in_the_constraints() -> None:
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    names = [*project["dependencies"], *(name for extra in extras.values() for name in extra)]
    assert not [name for name in names if "==" in name]
    assert not [name for name in project["dependencies"] if name.startswith("tokenizers")]
    for extra in ("text", "train", "test"):
        assert any(name.startswith("tokenizers>=") for name in extras[extra])
    constraints = (Path(__file__).parents[1] / "constraints.txt").read_text("utf-8").split()
    assert any(line.startswith("torch==") for line in constraints)


def test_an_adapted_folder_without_its_stages(tmp_path: Path) -> None:
    folder = tmp_path / "reference-adapted"
    shutil.copytree(shipped_adapted(), folder, ignore=shutil.ignore_patterns("stages", "trace"))
    base = read_adaptation(folder).base_name
    (tmp_path / base).symlink_to(data_folder("traces") / base)
    adapted = load_adapted(folder)
    assert not adapted.has_stages
    assert adapted.software.config == adapted.model.config
    assert adapted.stage("linear") is None
    assert load_adapted(shipped_adapted()).stage("linear") is not None
    hardware = load_hardware()
    told = "The stages of the adaptation are not here"
    assert any(told in note for note in adapted_subject(folder).notes(hardware))
    assert not any(told in note for note in adapted_subject(shipped_adapted()).notes(hardware))
    with pytest.raises(ConfigError, match="its stages are not here"):
        evaluate_model(folder, hardware, shipped_text().read_text("utf-8"), every_stage=True)
