"""The closed loop's measures, against formulas written out, and the command line's promises."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import archsim
from archsim.accuracy import probes
from archsim.accuracy.closed_loop import Variant, measure
from archsim.accuracy.evaluate import evaluate_sweep
from archsim.cli import application
from archsim.errors import ConfigError
from archsim.hardware.load import Hardware, load_hardware
from archsim.models.gpt2 import Gpt2
from archsim.models.huggingface import load_gpt2
from archsim.models.tokenizer import load_tokenizer
from tests.adaptation.conftest import OVERRIDES

SET = [word for key, value in OVERRIDES.items() for word in ("--set", f"{key}={value}")]
NAMES = ["software", "linear_unclipped", "linear", "polynomial", "hardware"]


def run(*words: object) -> Result:
    return CliRunner().invoke(application, [str(word) for word in words])


@pytest.fixture(scope="module")
def text_file(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "unseen.txt"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def document(tiny_folder: Path, text_file: Path) -> dict[str, Any]:
    result = run(
        "evaluate", "--model", tiny_folder, "--text", text_file, "--windows", 3, "--probes", 0,
        "--json", *SET,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_json_has_the_five_rows(document: dict[str, Any]) -> None:
    assert document["schema_version"] == 2
    assert [row["name"] for row in document["rows"]] == NAMES
    for row in document["rows"]:
        assert row["perplexity"] == pytest.approx(math.exp(row["loss"]))
        assert 0 <= row["top1_agreement"] <= 1
        assert row["kl"] >= -1e-12
    software, *_, polynomial, hardware = document["rows"]
    assert (software["top1_agreement"], software["kl"]) == (1.0, pytest.approx(0.0, abs=1e-12))
    assert {**hardware, "name": 0} == {**polynomial, "name": 0}, "the default cell is polynomial"


def test_measures_by_their_formulas(tiny_folder: Path, text: str) -> None:
    """One window at a time, token by token, against the batched measure."""
    model, other = load_gpt2(tiny_folder), load_gpt2(tiny_folder)
    ids = np.asarray(load_tokenizer(tiny_folder).encode(text)[:130])
    windows = np.stack([ids[:65], ids[64:129]])

    def uniform(layer: int, q: Any, k: Any, v: Any) -> Any:
        return np.cumsum(v, axis=1) / np.arange(1, v.shape[1] + 1)[:, None]

    rows = measure(Variant("a", model), [Variant("b", other, uniform)], windows, (), characters=500)
    losses, same, divergence = [], [], []
    for window in windows:
        p, q = (
            np.exp(x - x.max(1, keepdims=True))
            / np.exp(x - x.max(1, keepdims=True)).sum(1)[:, None]
            for x in (model.logits(window[:-1]), other.logits(window[:-1], uniform))
        )
        for place, target in enumerate(window[1:]):
            losses.append(-math.log(q[place, target]))
            same.append(p[place].argmax() == q[place].argmax())
            divergence.append(float((p[place] * np.log(p[place] / q[place])).sum()))
    assert rows[1].loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert rows[1].top1_agreement == pytest.approx(np.mean(same))
    assert rows[1].kl == pytest.approx(np.mean(divergence), rel=1e-4)
    assert rows[1].bits_per_char == pytest.approx(sum(losses) / math.log(2) / 500, rel=1e-5)
    by_position = np.reshape(losses, (2, 64))
    assert rows[1].loss_by_position["32-63"] == pytest.approx(by_position[:, 32:].mean(), rel=1e-5)


class Copier(Gpt2):
    """Not a language model: predicts what followed the last earlier copy of the current token."""

    def logits(self, ids: Any, attention: Any = None) -> Any:
        result = np.zeros((*ids.shape, self.config.vocab_size), np.float32)
        for row, sequence in enumerate(ids):
            last: dict[int, int] = {}
            for place, token in enumerate(sequence):
                if token in last:
                    result[row, place, sequence[last[token] + 1]] = 20.0
                last[int(token)] = place
        return result


def test_probes_are_solved_by_copying_and_by_nothing_else(tiny_folder: Path) -> None:
    """A pure copier gets random copies and recall right; a model of no context gets them wrong."""
    model = load_gpt2(tiny_folder)
    vocabulary = 5000
    text = np.random.default_rng(1).integers(1, vocabulary, 2000)
    made = probes.make_probes(text, vocabulary, 256, 3)
    assert [p.name for p in made] == ["copy_random", "copy_text", "recall"]
    config = model.config
    object.__setattr__(config, "vocab_size", vocabulary)
    copier = Copier(config, model.weights)
    for probe in made:
        logits = copier.logits(probe.ids[:, :-1])
        hits = logits.argmax(-1) == probe.ids[:, 1:]
        assert probes.score(probe, np.zeros(hits.shape), hits)[probe.name] > 85
        first = hits[probe.first] if probe.first.any() else hits[:, :10]
        assert first.mean() < 0.3
    scores = probes.score(made[0], np.zeros((3, 256)), np.zeros((3, 256), bool))
    assert [name for name in scores if name.startswith("copy_random_")] == [
        "copy_random_32", "copy_random_64", "copy_random_128", "copy_random_224",
        "copy_random_loss",
    ]  # fmt: skip


def test_every_distance_is_the_distance(tiny_folder: Path) -> None:
    text = np.arange(1, 3000)
    for probe in probes.make_probes(text, 3000, 512, 2)[:2]:
        for row, place in np.argwhere(probe.asked):
            back = place - probe.distance[row, place]
            assert probe.ids[row, place + 1] == probe.ids[row, back + 1]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--windows", "0"], "windows 0: must be at least 1"),
        (["--length", "65"], "length 65: the model takes 2 to 64 tokens"),
        (["--probes", "2"], "probes need a window and a model of at least 128 tokens"),
        (["--all", "--probes", "0"], "not a result of archsim adapt"),
        (["--plot", "x.svg"], "--plot draws a sweep or --curves"),
        (["--vary", "window=32", "--plot", "x.pdf"], "write .svg or .png"),
        (["--vary", "window=32", "--knee"], "a sweep of its own"),
        (["--vary", "window=32", "--vary", "window=16"], "given twice"),
        (["--vary", "wndow=32"], "wndow"),
        (["--vary", "window="], "give values"),
        (["--vary", "window"], "write key.path=value"),
    ],
)
def test_bad_requests_are_one_line(
    words: list[str], match: str, tiny_folder: Path, text_file: Path
) -> None:
    result = run("evaluate", "--model", tiny_folder, "--text", text_file, *SET, *words)
    message = str(result.exception) if result.exit_code == 1 else result.output
    assert match in message, message
    assert result.exit_code != 0


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("a", "a document of 1 tokens has nothing to predict"),
        ("a man in possession", "needs two, one to search scalers on and one to measure"),
    ],
)
def test_a_text_too_short_is_refused(
    words: str, match: str, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "short.txt").write_text(words)
    result = run("evaluate", "--model", tiny_folder, "--text", tmp_path / "short.txt", *SET)
    assert isinstance(result.exception, ConfigError)
    assert match in str(result.exception)


def test_a_sweep_changes_only_what_it_names(
    adapted_folder: Path, tiny_hardware: Hardware, text: str
) -> None:
    """The row at the hardware's own levels is the hardware row; ideal converters differ."""
    axes = {"levels.query": [None, 16], "levels.key_value": [8, 2]}
    swept = evaluate_sweep(adapted_folder, tiny_hardware, axes, text, "text", windows=2)
    assert [row.name for row in swept.rows[1:]] == [
        "levels.query=null, levels.key_value=8",
        "levels.query=null, levels.key_value=2",
        "levels.query=16, levels.key_value=8",
        "levels.query=16, levels.key_value=2",
    ]
    plain = archsim.evaluate(adapted_folder, tiny_hardware, text, windows=2, probes=0)
    assert swept.rows[3].loss == plain.rows[-1].loss
    assert len({row.loss for row in swept.rows[1:]}) == 4


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_plot_is_a_picture(
    kind: str, adapted_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"sweep.{kind}"
    result = run(
        "evaluate", "--model", adapted_folder, "--text", text_file, "--windows", 1, *SET,
        "--vary", "levels.query=16,8", "--vary", "levels.key_value=8,4", "--plot", path,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert path.read_bytes().startswith(b"<svg" if kind == "svg" else b"\x89PNG")


def test_a_plot_without_the_extra_is_one_line(
    tiny_folder: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "altair", None)
    result = run(
        "evaluate", "--model", tiny_folder, "--text", text_file, *SET,
        "--vary", "window=32", "--plot", tmp_path / "x.svg",
    )  # fmt: skip
    assert isinstance(result.exception, archsim.ArchsimError)
    assert "pip install 'archsim[report]'" in str(result.exception)
    assert not (tmp_path / "x.svg").exists()


def test_a_short_window_is_closed_loop_too(adapted_folder: Path, text: str) -> None:
    """Window 1 attends to itself alone: more than a change in the last digits."""
    one = load_hardware(overrides=OVERRIDES | {"window": 1})
    many = load_hardware(overrides=OVERRIDES)
    losses = [
        archsim.evaluate(adapted_folder, hardware, text, windows=1, probes=0).rows[-1].loss
        for hardware in (one, many)
    ]
    assert abs(losses[0] - losses[1]) > 1e-4


def test_arrays_lower_than_the_head_are_in_the_loop(adapted_folder: Path, text: str) -> None:
    """Head dimension 8 on 4 rows: joined bit lines compute as 8 rows do, split ones add steps."""

    def loss(**changes: Any) -> float:
        dotted = {f"readout.{key}": value for key, value in changes.items()}
        rows = OVERRIDES if not changes else OVERRIDES | {"array.rows": 4}
        hardware = load_hardware(overrides=rows | dotted)
        return archsim.evaluate(adapted_folder, hardware, text, windows=1, probes=0).rows[-1].loss

    whole = loss()
    assert loss(model="charge_to_pulse") == whole
    fine = loss(model="digital_sum", partial_levels=None, pulse_levels=None)
    assert fine == pytest.approx(whole, abs=1e-9)
    coarse = loss(model="digital_sum", partial_levels=3, pulse_levels=2)
    assert abs(coarse - whole) > 1e-5


def test_curves_are_shown_and_drawn(adapted_folder: Path, tmp_path: Path) -> None:
    result = run("evaluate", "--model", adapted_folder, "--curves", "--plot", tmp_path / "c.svg")
    assert result.exit_code == 0, result.output
    assert "8.655" in result.output, "the published curve stands beside"
    assert (tmp_path / "c.svg").read_text().startswith("<svg")


def test_all_shows_every_stage(adapted_folder: Path, text_file: Path) -> None:
    words = ["evaluate", "--model", adapted_folder, "--text", text_file, "--windows", 1]
    result = run(*words, "--probes", 0, "--all", "--json")
    assert result.exit_code == 0, result.output
    names = [row["name"] for row in json.loads(result.stdout)["rows"]]
    assert names == [
        "software",
        "control",
        "transfer",
        "linear",
        "unadapted",
        "matched_voltage",
        "matched",
        "tuned",
    ]
    shown = run(*words, "--probes", 0, "--all")
    assert "matched: polynomial cell after scaler matching" in shown.output
    assert max(map(len, shown.output.splitlines())) <= 80


def test_keys_that_no_row_depends_on_are_told(
    adapted_folder: Path, tiny_hardware: Hardware, text: str
) -> None:
    """What only sets time and energy, a variant that is not selected, or ideal's own slope."""
    axes = {"write_path.pulse": ["10 ns", "20 ns"], "levels.key_value": [8, 4]}
    hardware = tiny_hardware.changed({"retention.tau": "3 ms", "cell.linear_slope": "21 uA/V"})
    swept = evaluate_sweep(adapted_folder, hardware, axes, text, "text", windows=1)
    assert {"write_path.pulse", "retention.tau", "cell.linear_slope"} <= {*swept.unread}
    assert "levels.key_value" not in swept.unread
    rows = {row.name: row.loss for row in swept.rows}
    assert (
        rows["write_path.pulse=10 ns, levels.key_value=4"]
        == (rows["write_path.pulse=20 ns, levels.key_value=4"])
    )
    plain = archsim.evaluate(adapted_folder, hardware, text, windows=1, probes=0)
    assert "retention.tau" in plain.unread
    assert "cell.linear_slope" not in plain.unread  # the rows ideal and linear read it
    assert plain.document()["unread_parameters"] == list(plain.unread)
