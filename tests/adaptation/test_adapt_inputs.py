"""What ``archsim adapt`` learns from, and that all it can refuse is refused before it begins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import archsim
from archsim.adaptation import stages
from archsim.adaptation.adapt import adapt_model
from archsim.adaptation.corpus import encode_corpus
from archsim.cli import application
from archsim.errors import ConfigError
from archsim.hardware.load import Hardware, load_hardware
from archsim.models.adapted import load_adapted
from archsim.models.texts import shipped_texts
from archsim.models.training import batches
from tests.adaptation.conftest import OVERRIDES, plan, recipe

SET = [word for key, value in OVERRIDES.items() for word in ("--set", f"{key}={value}")]


def run(*words: object) -> Result:
    return CliRunner().invoke(application, [str(word) for word in words])


@pytest.fixture
def no_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if any stage begins, or the model is read."""

    def begun(*arguments: object) -> None:
        raise AssertionError("a long step began")

    for name in stages.STAGES:
        monkeypatch.setattr(stages.StageRunner, name, begun)


@pytest.mark.usefixtures("no_stage")
@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"output": "out with space"}, "trace name 'out with space'"),
        ({"output": "a" * 80}, "trace name"),
        ({"output": "file/below"}, "cannot be written"),
        ({"plan": plan("basis,control")}, "no stage puts the model on the hardware"),
        ({"length": 65}, "length 65: takes 8 to 64"),
        ({"length": 7}, "length 7: takes 8 to 64"),
        ({"trace_text": ""}, "trace text: is empty"),
        ({"texts": ["short"]}, "adaptation needs at least"),
        ({"texts": [[1, 2, 7000]]}, "token id 7000"),
        ({"texts": [[1, 2], [3]], "documents": True}, "document 1: 1 tokens"),
        ({"overrides": {"retention.model": "simulated"}}, "retention.model simulated"),
        ({"overrides": {"array.rows": 4, "readout.model": "digital_sum"}}, "cannot be trained"),
    ],
)
def test_refused_before_the_first_stage(
    changes: dict[str, Any], match: str, tiny_folder: Path, text: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    changes = dict(changes)
    hardware = load_hardware(overrides=OVERRIDES | changes.pop("overrides", {}))
    output = tmp_path / changes.pop("output", "out")
    texts, how = changes.pop("texts", [text]), changes.pop("plan", plan())
    with pytest.raises(ConfigError, match=match):
        adapt_model(tiny_folder, hardware, texts, output, how, **changes)
    assert not output.exists(), "nothing is left behind"


@pytest.mark.usefixtures("no_stage")
def test_held_out_text_is_no_text_to_learn_from(
    tiny_folder: Path, tiny_hardware: Hardware, text: str, tmp_path: Path
) -> None:
    (held_out,) = shipped_texts(("held_out",))
    bible = f"{text}\n{held_out.documents[0]}"
    with pytest.raises(ConfigError, match="kept out of every choice"):
        adapt_model(tiny_folder, tiny_hardware, [text, bible], tmp_path / "out", plan())


def test_a_head_of_fewer_features_than_rows_is_adapted(
    tiny_folder: Path, text: str, tmp_path: Path
) -> None:
    """Head dimension 8 on 64 rows: what simulate and evaluate accept; the same as on 8 rows."""
    losses = []
    for rows in (64, 8):
        hardware = load_hardware(overrides=OVERRIDES | {"array.rows": rows})
        output = tmp_path / f"rows-{rows}"
        adapt_model(tiny_folder, hardware, [text], output, plan("direct,linear,match"))
        curves = json.loads((output / "curves.json").read_text())
        losses.append((curves["linear"][-1][1], curves["matching"]["loss"][-1]))
        found = archsim.evaluate(output, hardware, text, windows=1, probes=0)
        losses[-1] += (found.rows[-1].loss,)
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def documents(count: int = 60) -> list[list[int]]:
    """Each of one token over and over: two tokens in a window would be two documents."""
    rng = np.random.default_rng(6)
    return [[place + 1] * int(rng.integers(2, 90)) for place in range(count)]


def test_no_window_holds_two_documents() -> None:
    corpus = batches.Documents.of(documents())
    lengths = set()
    for step in range(50):
        ids, there = batches.document_batch(1, step, corpus, 4, 30)
        for row, exists in zip(ids, there, strict=True):
            size = int(exists.sum()) + 1
            assert exists[: size - 1].all(), "targets that exist come first"
            assert len(set(row[:size].tolist())) == 1
            assert not row[size:].any()
            lengths.add(size)
    assert max(lengths) == 31
    assert min(lengths) < 20


def test_calibration_is_of_whole_starts(tiny_folder: Path) -> None:
    corpus = encode_corpus(tiny_folder, documents(), 300, 40, documents=True)
    for seed in (0, 5):
        windows = corpus.calibration(40, 3, seed)
        assert windows.shape[1] <= 41
        assert all(len(set(window)) == 1 for window in windows.tolist())
        assert len({window[0] for window in windows.tolist()}) == len(windows) > 1
    stream = encode_corpus(tiny_folder, documents(), 300, 40)
    assert stream.sha256 != corpus.sha256
    assert stream.calibration(40, 3, 0).shape == (3, 41)


def test_padding_teaches_nothing(tiny_folder: Path) -> None:
    """The loss of short documents together is the mean over their own tokens."""
    import torch

    from archsim.adaptation.model import trainable
    from archsim.adaptation.training import Batch, Language, missed_share
    from archsim.models.huggingface import load_gpt2

    model = trainable(load_gpt2(tiny_folder), "tiny", torch.float64)
    ids = torch.tensor([[5, 6, 7, 8, 9], [4, 3, 0, 0, 0]])
    there = torch.tensor([[True] * 4, [True] + [False] * 3])
    teacher = trainable(load_gpt2(tiny_folder, np.float64), "tiny", torch.float64)
    for objective in (Language(), Language(teacher, 0.4, 0.0)):
        both = objective(model, None, Batch(ids, there.double(), there)).item()
        apart = [
            objective(model, None, Batch(row[None, : n + 1], torch.ones(1, n).double())).item()
            for row, n in ((ids[0], 4), (ids[1], 1))
        ]
        assert both == pytest.approx((4 * apart[0] + apart[1]) / 5, abs=1e-6)
    alone = Batch(ids[1:, :2], torch.ones(1, 1).double(), there[1:, :1])
    assert np.isfinite(Language(teacher, 0.4, 0.7)(model, None, alone).item())
    x = torch.randn(2, 4, 3)
    changed = x.clone()
    changed[1, 1:] += 9
    assert float(missed_share(changed, x, Batch(ids, there.double(), there))) == 0.0


def test_documents_are_adapted_and_evaluated(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.json").write_text(json.dumps(documents()))
    words = ["--model", tiny_folder, "--tokens", tmp_path / "ids.json", "--length", 32, *SET]
    steps = ["--stages", "basis,direct,linear,match", "--linear-steps", 3, "--batch", 2]
    done = run("adapt", *words, *steps, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    adapted = load_adapted(tmp_path / "out")
    assert adapted.manifest.stages[1].settings["tokens"] == 32
    found = run(
        "evaluate", "--model", tmp_path / "out", "--tokens", tmp_path / "ids.json",
        "--length", 32, "--windows", 9, "--json",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["windows"] == 9


@pytest.mark.parametrize(("tokens", "vocabulary"), [(8, 3), (24, 300), (39, 20)])
def test_short_windows_and_small_vocabularies_have_all_kinds(tokens: int, vocabulary: int) -> None:
    corpus = np.random.default_rng(1).integers(0, vocabulary, 500).astype(np.uint16)
    kinds = set()
    for step in range(1590, 1620):
        ids, weight, drawn = batches.batch(7, step, corpus, 6, tokens, vocabulary)
        assert ids.shape == (6, tokens + 1)
        assert weight.shape == (6, tokens)
        assert ids.max() < vocabulary
        kinds |= set(drawn)
    assert kinds == set(batches.KINDS)


def test_adapt_takes_one_kind_of_text(tiny_folder: Path, tmp_path: Path) -> None:
    words = ["adapt", "--model", tiny_folder, "-o", tmp_path / "out"]
    assert "one of them" in run(*words).output
    assert "one of them" in run(*words, "--text", "a.txt", "--tokens", "b.json").output


def test_the_length_bounds_the_windows(
    tiny_folder: Path, tiny_hardware: Hardware, text: str, tmp_path: Path
) -> None:
    how = replace(plan("direct,tune"), recipes={"tune": recipe(2)})
    output = adapt_model(tiny_folder, tiny_hardware, [text], tmp_path / "out", how, length=24)
    assert load_adapted(output).manifest.stages[-1].settings["tokens"] == 24
