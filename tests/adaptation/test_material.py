"""What is measured: texts apart, documents alone, calibration aside, one text held out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import archsim
from archsim.accuracy import subject as accuracy
from archsim.accuracy.closed_loop import Variant, measure
from archsim.accuracy.evaluate import evaluate_model, evaluate_sweep
from archsim.accuracy.material import cut_material
from archsim.accuracy.uncertainty import estimate
from archsim.cli import application
from archsim.errors import ConfigError
from archsim.hardware.load import Hardware, load_hardware
from archsim.models.huggingface import load_gpt2, read_config
from archsim.models.texts import Text, as_text, refuse_held_out, shipped_texts
from archsim.models.tokenizer import load_tokenizer
from tests.adaptation.conftest import OVERRIDES

SET = [word for key, value in OVERRIDES.items() for word in ("--set", f"{key}={value}")]


def run(*words: object) -> Result:
    return CliRunner().invoke(application, [str(word) for word in words])


def test_the_standard_error_of_equal_units_is_that_of_their_mean() -> None:
    """And of unequal ones that of a ratio, against a bootstrap."""
    rng = np.random.default_rng(3)
    values = rng.normal(3.0, 0.4, 23)
    found = estimate(values * 50, np.full(23, 50))
    assert found.mean == pytest.approx(values.mean())
    assert found.error == pytest.approx(values.std(ddof=1) / math.sqrt(23))
    counts = rng.integers(5, 60, 400)
    sums = rng.normal(3.0, 0.4, 400) * counts
    drawn = rng.integers(0, 400, (3000, 400))
    spread = (sums[drawn].sum(1) / counts[drawn].sum(1)).std()
    assert estimate(sums, counts).error == pytest.approx(spread, rel=0.1)
    assert estimate([1.0, 0.0], [4, 0]).error is None, "one unit alone"


def test_calibration_and_measured_text_never_overlap(tiny_folder: Path, text: str) -> None:
    """Every token of the stream is in one of them at most, whatever is asked for."""
    config = read_config(tiny_folder)
    ids = np.random.default_rng(2).integers(1, config.vocab_size, 700)
    unique = [Text("own", (ids.tolist(),))]
    for count, length in ((None, 64), (3, 64), (None, 17), (2, 40)):
        material = cut_material(tiny_folder, unique, config, count, length, calibrate=True)
        assert material.calibration.size >= 1.9 * length
        # places in the stream: the first tokens are calibration's, and nothing of them is measured
        end = material.calibration.size
        assert np.array_equal(material.calibration.ravel(), ids[:end])
        starts = [
            next(s for s in range(len(ids)) if np.array_equal(ids[s : s + length + 1], window))
            for window in material.windows
        ]
        assert min(starts) >= end
    both = cut_material(tiny_folder, [as_text(text, "t")], config, None, None, calibrate=True)
    assert (
        len(both.windows) + len(both.calibration)
        == (len(load_tokenizer(tiny_folder).encode(text)) - 1) // 64
    )


def test_scalers_are_searched_on_what_is_not_measured(
    tiny_folder: Path, tiny_hardware: Hardware, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    original = accuracy.search_scalers

    def keep(model: Any, head: Any, ids: Any, **options: Any) -> Any:
        seen.append(ids)
        return original(model, head, ids, rounds=0, **options)

    monkeypatch.setattr(accuracy, "search_scalers", keep)
    found = evaluate_model(tiny_folder, tiny_hardware, text, windows=2, probes=0)
    measured = {tuple(window[:-1]) for window in found.material.windows.tolist()}
    assert len(seen) == 2, "one search a cell; the hardware as configured shares one"
    assert not measured & {tuple(window) for ids in seen for window in ids.tolist()}
    assert "not measured" in found.document()["scalers"]


def test_documents_are_never_run_into_each_other(
    adapted_folder: Path, tiny_hardware: Hardware
) -> None:
    """A document's loss is the same alone, among others and in another order."""
    rng = np.random.default_rng(8)
    documents = [rng.integers(1, 40, length).tolist() for length in (9, 40, 23, 150, 2)]

    def rows(*given: list[int], length: int = 30) -> Any:
        return archsim.evaluate(adapted_folder, tiny_hardware, list(given), length=length)

    whole = rows(*documents)
    assert whole.material.lengths.tolist() == [8, 30, 22, 30, 30, 30, 30, 1]
    per_window = np.nansum(whole.rows[-1].token_losses, axis=1)
    turned = rows(*documents[::-1])
    assert np.nansum(turned.rows[-1].token_losses, axis=1).tolist() == pytest.approx(
        per_window[[7, 3, 4, 5, 6, 2, 1, 0]].tolist(), abs=1e-9
    )
    alone = rows(documents[2])
    assert alone.rows[-1].loss * 22 == pytest.approx(per_window[2], abs=1e-9)
    model = load_gpt2(adapted_folder)
    plain = measure(Variant("m", model), [], np.array([documents[0]]))[0]
    software = load_gpt2(adapted_folder)
    padded = measure(
        Variant("m", software), [], whole.material.windows, lengths=whole.material.lengths
    )[0]
    assert np.nansum(padded.token_losses[0]) == pytest.approx(plain.token_losses.sum(), abs=1e-5)
    assert padded.loss == pytest.approx(
        np.nansum(padded.token_losses) / whole.material.lengths.sum()
    )


def test_documents_tokens_and_length_on_the_command_line(
    adapted_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "ids.json").write_text(json.dumps([[3, 4, 5, 6, 7], [8, 9, 10] * 12]))
    (tmp_path / "lines.txt").write_text("a good man\n\nin possession of a fortune\n")
    words = ["evaluate", "--model", adapted_folder, "--length", 16, "--json"]
    ids = run(*words, "--tokens", tmp_path / "ids.json")
    assert ids.exit_code == 0, ids.output
    document = json.loads(ids.stdout)
    assert (document["windows"], document["tokens"]) == (3, 4 + 32)
    assert document["rows"][0]["bits_per_char"] is None
    lines = run(*words, "--documents", tmp_path / "lines.txt")
    assert json.loads(lines.stdout)["windows"] == 2
    for option, content, match in (
        ("--tokens", "[[1, 2], 3]", "document 1 is no list"),
        ("--tokens", "[[1, 2], [3, -4]]", "document 1, entry 1 is -4"),
        ("--tokens", "[[1, 2], [9999, 4]]", "token id 9999: the model has ids 0 to"),
        ("--tokens", "[[1, 2], [3]]", "nothing to predict"),
        ("--documents", "\n \n", "no line with text"),
    ):
        (tmp_path / "bad").write_text(content)
        refused = run(*words, option, tmp_path / "bad")
        assert isinstance(refused.exception, archsim.ArchsimError), refused.output
        assert match in str(refused.exception)
    both = run(*words, "--tokens", tmp_path / "ids.json", "--documents", tmp_path / "lines.txt")
    assert "one of them" in both.output
    with pytest.raises(ConfigError, match="probes need running text"):
        archsim.evaluate(
            adapted_folder, load_hardware(overrides=OVERRIDES), [[1, 2], [3, 4]], probes=1
        )


def test_every_text_stands_apart_with_its_error(
    adapted_folder: Path, tiny_hardware: Hardware, text: str, tmp_path: Path
) -> None:
    """Rows of a text are those of it alone; the mean leaves held-out text out."""
    parts = [text[:900], text[900:1900], text[1900:2700]]
    texts = [
        Text("one", (parts[0],), "recipe"),
        Text("two", (parts[1],), "choices"),
        Text("three", (parts[2],), "held_out"),
    ]
    found = evaluate_model(adapted_folder, tiny_hardware, texts, probes=0)
    row, control = found.rows[-1], found.control
    assert control is not None
    for part, words in zip(found.by_text(row), parts, strict=True):
        alone = evaluate_model(adapted_folder, tiny_hardware, words, probes=0)
        assert part.loss.mean == pytest.approx(alone.rows[-1].loss, abs=1e-9)
        apart = alone.rows[-1].token_losses.mean(1) - alone.control.token_losses.mean(1)  # type: ignore[union-attr]
        assert part.above_control is not None
        assert part.above_control.mean == pytest.approx(apart.mean(), abs=1e-9)
        if len(apart) > 1:
            expected = apart.std(ddof=1) / math.sqrt(len(apart))
            assert part.above_control.error == pytest.approx(expected)
    mean = np.nanmean(row.token_losses[found.material.text_of < 2])
    assert row.loss == pytest.approx(mean)
    (document,) = [r for r in found.document()["rows"] if r["name"] == "hardware"]
    assert [part["text"] for part in document["by_text"]] == ["one", "two", "three"]
    assert found.document()["held_out"] == ["three"]


def test_the_table_by_text_fits_and_says_what_each_text_is_for(
    adapted_folder: Path, tmp_path: Path, text: str
) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(text)
    for more in ([], ["--all"]):
        shown = run("evaluate", "--model", adapted_folder, "--text", tmp_path, "--probes", 0, *more)
        assert shown.exit_code == 0, shown.output
        assert shown.output.count("  b.txt") == (6 if more else 1)
        assert max(map(len, shown.output.splitlines())) <= 80
        assert "…" not in shown.output


def test_one_shipped_text_is_held_out_of_every_choice(
    adapted_folder: Path, tiny_hardware: Hardware, tmp_path: Path
) -> None:
    (held_out,) = shipped_texts(("held_out",))
    others = shipped_texts(("recipe", "choices"))
    whole = "".join(str(text.documents[0]) for text in others)
    from archsim.files import data_folder

    assert whole == (data_folder("traces") / "unseen.txt").read_text()
    refuse_held_out([whole], "sweep")
    wrapped = "\n".join(str(held_out.documents[0]).split(" "))
    with pytest.raises(ConfigError, match=r"adaptation: the text holds .*Ecclesiastes"):
        refuse_held_out(["fine", f"Genesis. {wrapped}"], "adaptation")
    with pytest.raises(ConfigError, match="is held out"):
        evaluate_sweep(adapted_folder, tiny_hardware, {"window": [32]}, [held_out])
    (tmp_path / "e.txt").write_text(str(held_out.documents[0]))
    words = ["--model", adapted_folder, "--text", tmp_path / "e.txt", *SET]
    refused = run("evaluate", *words, "--vary", "window=32")
    assert "kept out of every choice" in str(refused.exception)


@pytest.mark.parametrize(
    ("folder", "key", "values"),
    [
        ("adapted_folder", "cell.model", ["linear", "polynomial"]),
        ("adapted_folder", "window", [20, 48]),
        ("adapted_folder", "levels.query", [6]),
        ("tiny_folder", "cell.model", ["linear"]),  # scalers are searched for every hardware
    ],
)
def test_varied_and_set_are_one_loss(
    folder: str, key: str, values: list[Any], text: str, request: pytest.FixtureRequest
) -> None:
    """Adapted or not: a row of a sweep is the row ``hardware`` of that hardware."""
    model: Path = request.getfixturevalue(folder)
    base = load_hardware(overrides=OVERRIDES | {"pulse_generator.t_max": "auto"})
    swept = evaluate_sweep(model, base, {key: values}, text, windows=2)
    for value, row in zip(values, swept.rows[1:], strict=True):
        alone = evaluate_model(model, base.changed({key: value}), text, windows=2, probes=0).rows[
            -1
        ]
        assert row.loss == alone.loss
        assert row.scalers == alone.scalers
    expected = {"linear": "linear stage", "polynomial": "final"}
    if folder == "adapted_folder" and key == "cell.model":
        assert [row.scalers for row in swept.rows[1:]] == list(expected.values())
