"""How slow a token may be: against laws that can be inverted, and on a tiny adapted model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from archsim.accuracy.evaluate import evaluate_model
from archsim.accuracy.tolerance import CLOSE, Tolerances, find_tolerances, measure_tolerances
from archsim.cli import application
from archsim.errors import ConfigError
from archsim.hardware.load import load_hardware
from archsim.models.adapted import adapted_hardware
from archsim.retention import token_time
from tests.adaptation.conftest import OVERRIDES

RISES = (0.01, 0.03, 0.1)


@pytest.mark.parametrize("trained", [0.0, 1e-6, 3e-3])
@pytest.mark.parametrize("scale", [1e-7, 2e-4, 0.5])
def test_tolerances_of_a_law_that_can_be_inverted(trained: float, scale: float) -> None:
    """loss = 4 + (decay / scale)^2, above its value at `trained`."""
    asked: list[float] = []

    def loss(decay: float) -> float:
        asked.append(decay)
        return 4 + (decay / scale) ** 2

    for found in find_tolerances(loss, trained, 1024, RISES):
        exact = scale * math.sqrt(found.rise + (trained / scale) ** 2)
        assert found.exceeds is not None
        assert found.holds in {*asked, 0.0}
        assert found.exceeds in asked
        assert found.holds <= exact * (1 + 1e-9)
        assert exact <= found.exceeds * (1 + 1e-9)
        if found.decay is None:  # slower than anything that was tried
            assert found.holds == 0.0
        elif trained < exact / 2:
            assert found.exceeds / found.holds <= CLOSE * (1 + 1e-9)
            assert found.decay == pytest.approx(exact, rel=0.01)


def test_a_loss_that_never_rises_has_no_tolerance() -> None:
    found = find_tolerances(lambda decay: 5.0 - decay, 0.0, 300, [0.2])[0]
    assert (found.holds, found.exceeds, found.decay) == (3.0, None, None)


@pytest.fixture(scope="module")
def text_file(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "unseen.txt"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def found(adapted_folder: Path, text: str) -> Tolerances:
    hardware = load_hardware(adapted_hardware(adapted_folder))
    return measure_tolerances(adapted_folder, hardware, text, "unseen", rises=(0.0005, 0.002))


def test_losses_are_those_of_evaluate(found: Tolerances, adapted_folder: Path, text: str) -> None:
    """At the decay of each bracket, and at the whole token's of each kind of cell."""
    assert found.trained == 1.6e-4
    decays = {found.trained, *(cell.whole_decay for cell in found.cells)}
    for decay in decays:
        assert decay is not None
        keys = {"retention.model": "nominal", "retention.tau": "1 s"}
        keys["retention.token_period"] = f"{decay!r} s"
        hardware = found.hardware.changed(keys)
        rows = evaluate_model(adapted_folder, hardware, text, "", windows=2, probes=0).rows
        assert found.losses[decay] == pytest.approx(rows[-1].loss, abs=1e-12)


def test_every_time_and_tau_follows_from_the_decay(found: Tolerances) -> None:
    token = token_time(found.hardware).total_s
    this, silicon, oxide = found.cells
    assert (this.tau, silicon.tau, oxide.tau) == (5e-3, 5e-3, 5.0)
    assert oxide.whole_decay == pytest.approx(token / 5)
    assert oxide.whole_loss == found.losses[token / 5.0]
    for place, each in enumerate(found.tolerances):
        if each.decay is not None and each.exceeds is not None:
            assert each.holds <= each.decay <= each.exceeds
            assert found.losses[each.holds] - found.base < each.rise
            assert found.losses[each.exceeds] - found.base >= each.rise
            assert found.needed_tau(each) == pytest.approx(token / each.decay)
            slowest = [cell.slowest[place] for cell in (silicon, oxide)]
            assert slowest == pytest.approx([each.decay * 5e-3, each.decay * 5])


def run(*words: object) -> Result:
    return CliRunner().invoke(application, [str(word) for word in words])


def test_command_prints_what_the_document_says(adapted_folder: Path, text_file: Path) -> None:
    words = ["retention", "-m", adapted_folder, "--text", text_file, "--windows", 1]
    words += ["--set", "digital.weights=resident"]
    result = run(*words, "--json")
    document: dict[str, Any] = json.loads(result.stdout)
    assert [row["rise_nats"] for row in document["tolerances"]] == list(RISES)
    assert [cell["name"] for cell in document["cells"]] == ["this hardware", "silicon", "oxide"]
    assert document["against"]["decay_per_token"] == 1.6e-4
    assert document["retention"]["whole_token"]["token_time_us"] == pytest.approx(13.2, rel=0.01)
    assert document == json.loads(run(*words, "--json").stdout), "the same twice"
    text = run(*words).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert f"{document['against']['loss']:.3f} at 0.00016 a token" in text
    for heading in ("slowest token", "tau needed", "silicon", "oxide", "a whole token (assumed)"):
        assert heading in text


def test_partly_filled_windows_are_refused_or_said(
    adapted_folder: Path, text: str, text_file: Path
) -> None:
    result = run("retention", "-m", adapted_folder, "--text", text_file, "--length", 47)
    assert isinstance(result.exception, ConfigError)
    assert "length 47: leaves the window of 48 partly filled" in str(result.exception)
    assert "\n" not in str(result.exception)
    wide = load_hardware(overrides={**OVERRIDES, "window": 80})
    with pytest.raises(ConfigError, match="at least 64"):
        measure_tolerances(adapted_folder, wide, text, "", length=60)
    words = ["retention", "-m", adapted_folder, "--text", text_file, "--windows", 1]
    words += [part for key, value in OVERRIDES.items() for part in ("--set", f"{key}={value}")]
    shown = " ".join(run(*words, "--set", "window=80").stdout.split())
    assert "window of 80 never fills (the model has 64 positions)" in shown


def test_evaluate_and_sweeps_take_the_whole_token(
    adapted_folder: Path, text: str, text_file: Path
) -> None:
    auto = ["--set", "retention.model=nominal", "--set", "retention.token_period=auto"]
    words = ["evaluate", "--model", adapted_folder, "--text", text_file, "--windows", 1]
    mine = json.loads(run(*words, "--probes", 0, "--json", *auto).stdout)
    own = json.loads(run(*words, "--probes", 0, "--json").stdout)
    hardware = load_hardware(adapted_hardware(adapted_folder))
    decay = token_time(hardware).total_s / hardware.config.retention.tau
    given = ["--set", "retention.decay_per_token=" + repr(decay)]
    same = json.loads(run(*words, "--probes", 0, "--json", *given).stdout)
    losses = [document["rows"][-1]["loss"] for document in (mine, same, own)]
    assert losses[0] == losses[1] != losses[2]
    assert mine["retention"]["used"] == {
        **same["retention"]["used"], "token_time_us": mine["retention"]["used"]["token_time_us"]
    }  # fmt: skip
    vary = ["--vary", "digital.weights=streamed,resident", *auto]
    varied = json.loads(run(*words, "--json", *vary).stdout)["rows"]
    assert varied[1]["loss"] == losses[0] != varied[2]["loss"]
    shown = run(*words, "--probes", 0).stdout
    assert shown.count("a whole token (assumed)") == 1
    assert shown.count("Warning") == 1


def test_adapt_says_what_it_adapts_to(tiny_folder: Path, text_file: Path, tmp_path: Path) -> None:
    words = ["adapt", "--model", tiny_folder, "--text", text_file, "--stages", "direct"]
    words += [part for key, value in OVERRIDES.items() for part in ("--set", f"{key}={value}")]
    shown = run(*words, "-o", tmp_path / "one").stdout
    assert shown.count("a whole token (assumed)") == shown.count("Warning") == 1
    document = json.loads(run(*words, "-o", tmp_path / "two", "--json").stdout)
    assert document["retention"]["window"] == 48
    assert document["retention"]["used"]["decay_per_token"] == 1.6e-4
