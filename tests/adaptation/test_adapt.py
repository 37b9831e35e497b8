"""The stages end to end on a tiny model: results, resuming, refusing, who accepts the folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import archsim
from archsim.accuracy.closed_loop import closed_loop
from archsim.adaptation import adapt, training
from archsim.adaptation.adapt import adapt_model
from archsim.adaptation.stages import AdaptationPlan
from archsim.cli import application
from archsim.errors import ArchsimError, ConfigError, CorruptInputError
from archsim.hardware.load import Hardware
from archsim.models.adapted import load_adapted
from archsim.models.huggingface import disassemble, load_gpt2
from archsim.models.record import capture
from archsim.models.tokenizer import load_tokenizer
from archsim.traces.trace import load_trace
from tests.adaptation.conftest import OVERRIDES, plan, recipe

SET = [word for key, value in OVERRIDES.items() for word in ("--set", f"{key}={value}")]


def files(folder: Path) -> dict[str, bytes]:
    """Every file but the manifest, whose minutes differ."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in found
        if p.name not in {"adaptation.json", "manifest.json"}
    }


def test_beside_its_base_a_folder_holds_no_copy_of_it_and_a_trace_of_a_text_of_its_own(
    tiny_folder: Path, tiny_hardware: Hardware, text: str, tmp_path: Path
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "base")
    output = adapt_model(
        tmp_path / "base",
        tiny_hardware,
        [text],
        tmp_path / "adapted",
        plan("basis,direct"),
        trace_text="fortune good man",
    )
    assert not (output / "stages" / "software").exists()
    adapted = load_adapted(output)
    original = disassemble(load_gpt2(tiny_folder))
    for name, x in disassemble(adapted.software).items():
        np.testing.assert_array_equal(x, original[name], err_msg=name)
    expected = load_tokenizer(tiny_folder).encode("fortune good man")
    assert load_trace(output / "trace").token_ids.tolist() == expected
    (tmp_path / "base").rename(tmp_path / "gone")
    with pytest.raises(ConfigError, match="must stand beside it"):
        _ = load_adapted(output).software


def test_a_result_folder_is_complete(adapted_folder: Path, tiny_folder: Path) -> None:
    adapted = load_adapted(adapted_folder)
    names = [stage.name for stage in adapted.manifest.stages]
    assert names == [
        "software",
        "transfer",
        "linear",
        "unadapted",
        "matched_voltage",
        "matched",
        "tuned",
        "control",
    ]
    original = disassemble(load_gpt2(tiny_folder))
    for name, x in disassemble(adapted.software).items():
        np.testing.assert_array_equal(x, original[name], err_msg=name)
    tuned = adapted.stage("tuned")
    assert tuned is not None
    assert tuned.scalers is not None
    for name, pair in tuned.scalers.items():
        np.testing.assert_array_equal(pair, adapted.scalers[name])
    curves = json.loads((adapted_folder / "curves.json").read_text())
    assert [len(curves[name]) for name in ("transfer", "linear", "tune", "control")] == [4, 6, 3, 9]
    assert len(curves["matching"]["loss"]) == len(curves["matching"]["deviation"])
    assert not (adapted_folder / "checkpoints").exists()


def test_training_lowers_the_loss(tiny_folder: Path, text: str, tmp_path: Path) -> None:
    from archsim.hardware.load import load_hardware

    hardware = load_hardware(overrides=OVERRIDES)
    long = AdaptationPlan(
        ("direct", "tune"), {"tune": recipe(40, rate=3e-3)}, calibration_windows=2
    )
    output = adapt_model(tiny_folder, hardware, [text], tmp_path / "out", long)
    curve = [loss for _, loss in json.loads((output / "curves.json").read_text())["tune"]]
    assert np.mean(curve[-5:]) < 0.9 * np.mean(curve[:3])


@pytest.mark.parametrize("stage", ["transfer", "linear", "tune"])
def test_interrupted_training_resumes_to_the_same_files(
    stage: str,
    adapted_folder: Path,
    tiny_folder: Path,
    tiny_hardware: Hardware,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped in the middle of a stage, between two checkpoints, and run again."""
    original = training.train

    def often(*arguments: Any, **options: Any) -> Any:
        return original(*arguments, **options, every=2)

    monkeypatch.setattr(training, "train", often)

    def stop(step: str, done: int, total: int) -> None:
        # a checkpoint is written after 2 steps; tune has only 3
        if step == stage and done == (2 if stage == "tune" else 3):
            raise KeyboardInterrupt

    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        adapt_model(tiny_folder, tiny_hardware, [text], output, plan(), progress=stop)
    assert (output / "checkpoints" / f"{stage}.pt").exists()
    assert not (output / "adaptation.json").exists()
    adapt_model(tiny_folder, tiny_hardware, [text], output, plan())
    assert files(output) == files(adapted_folder)


@pytest.fixture
def interrupted(tiny_folder: Path, tiny_hardware: Hardware, text: str, tmp_path: Path) -> Path:
    """An output folder with a finished transfer and nothing else."""

    def stop(step: str, done: int, total: int) -> None:
        if step == "linear":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt_model(tiny_folder, tiny_hardware, [text], tmp_path / "out", plan(), progress=stop)
    return tmp_path / "out"


def test_a_checkpoint_of_something_else_is_refused(
    interrupted: Path, tiny_folder: Path, tiny_hardware: Hardware, text: str
) -> None:
    changed = [
        (tiny_hardware.changed({"window": 32}), text, plan()),
        (tiny_hardware, text + "more", plan()),
        (tiny_hardware, text, plan(trained="attention")),
    ]
    for hardware, words, what in changed:
        with pytest.raises(ConfigError, match=r"transfer\.pt: belongs to another") as caught:
            adapt_model(tiny_folder, hardware, [words], interrupted, what)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_refused(
    damage: bytes | None,
    interrupted: Path,
    tiny_folder: Path,
    tiny_hardware: Hardware,
    text: str,
) -> None:
    path = interrupted / "checkpoints" / "transfer.pt"
    path.write_bytes(path.read_bytes()[:-2000] if damage is None else damage)
    with pytest.raises(CorruptInputError, match="not a checkpoint, or damaged") as caught:
        adapt_model(tiny_folder, tiny_hardware, [text], interrupted, plan())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stages", "match"),
    [
        ("linear,basis", "each at most once, in the order"),
        ("linear,linear", "each at most once"),
        ("cook", "stage 'cook': use basis"),
        ("direct,match", "needs stage linear"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(stages: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        plan(stages)


def test_no_stage_on_the_hardware_is_refused(
    tiny_folder: Path, tiny_hardware: Hardware, text: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="add direct, transfer or linear"):
        adapt_model(tiny_folder, tiny_hardware, [text], tmp_path / "out", plan("basis"))
    assert not (tmp_path / "out" / "adaptation.json").exists()


def test_a_decay_too_fast_to_train_is_refused_before_anything_runs(
    tiny_folder: Path, tiny_hardware: Hardware, text: str, tmp_path: Path
) -> None:
    fast = tiny_hardware.changed({"retention.decay_per_token": 3})
    with pytest.raises(ConfigError, match="too fast to train over 64 tokens"):
        adapt_model(tiny_folder, fast, [text], tmp_path / "out", plan("direct,tune"))
    assert not (tmp_path / "out").exists()


def test_a_result_in_the_way_is_kept(
    adapted_folder: Path, tiny_folder: Path, tiny_hardware: Hardware, text: str
) -> None:
    with pytest.raises(ConfigError, match="holds an adapted model already"):
        adapt_model(tiny_folder, tiny_hardware, [text], adapted_folder, plan())


def test_without_torch_the_stages_that_need_none_run(
    tiny_folder: Path,
    tiny_hardware: Hardware,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ArchsimError, match=r"pip install 'archsim\[train\]'") as caught:
        adapt_model(tiny_folder, tiny_hardware, [text], tmp_path / "a", plan())
    assert caught.value.exit_code == 3
    assert not (tmp_path / "a").exists()
    adapt_model(tiny_folder, tiny_hardware, [text], tmp_path / "b", plan("basis,direct"))
    assert load_adapted(tmp_path / "b").stage("direct") is not None


@pytest.mark.parametrize("name", ["model.safetensors", "scalers.safetensors", "hardware.yaml"])
def test_a_changed_file_is_found(name: str, adapted_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(adapted_folder, tmp_path / "copy")
    path = tmp_path / "copy" / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptInputError, match="changed or damaged"):
        load_adapted(tmp_path / "copy")


def run(*words: object) -> Result:
    return CliRunner().invoke(application, [str(word) for word in words])


def test_every_other_command_accepts_the_folder(adapted_folder: Path, tmp_path: Path) -> None:
    assert run("simulate", "-t", adapted_folder, "--no-report", *SET).exit_code == 0
    assert run("trace", "info", adapted_folder).exit_code == 0
    assert run("compare", "--help").exit_code == 0
    text = tmp_path / "text.txt"
    text.write_text("a man in possession of a good fortune " * 40)
    recorded = run(
        "trace", "record", "--model", adapted_folder, "--text", text, "--length", 40,
        "-o", tmp_path / "trace",
    )  # fmt: skip
    assert recorded.exit_code == 0, recorded.output
    manifest = json.loads((tmp_path / "trace" / "manifest.json").read_text())
    assert manifest["content"]["attention_sha256"] is not None
    evaluated = run("evaluate", "--model", adapted_folder, "--text", text, "--probes", 0, "--json")
    assert evaluated.exit_code == 0, evaluated.output
    shown = run("config", "show", adapted_folder / "hardware.yaml")
    assert shown.exit_code == 0


def test_adapt_from_the_command_line(tiny_folder: Path, text: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(text)
    words = ["adapt", "--model", tiny_folder, "--text", tmp_path, "-o", tmp_path / "out", *SET]
    words += ["--stages", "direct,tune", "--tune-steps", 2, "--gradient", "true", "--threads", 1]
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "direct: scalers by direct search" in result.output
    again = run(*words)
    assert isinstance(again.exception, ConfigError)


def test_every_result_is_written_last(
    tiny_folder: Path,
    tiny_hardware: Hardware,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*arguments: Any) -> None:
        raise ConfigError("disk full")

    monkeypatch.setattr(adapt, "write_scalers", full)
    with pytest.raises(ConfigError, match="disk full"):
        adapt_model(tiny_folder, tiny_hardware, [text], tmp_path / "out", plan("basis,direct"))
    assert not (tmp_path / "out" / "adaptation.json").exists()


def test_simulate_compares_with_the_software_model(adapted_folder: Path, tmp_path: Path) -> None:
    """The losses are those of `evaluate` on the same tokens; a cut in layers has none."""
    words = ["simulate", "-t", adapted_folder, "--json", *SET]
    result = run(*words)
    assert result.exit_code == 0, result.output
    loop = json.loads(result.stdout)["function"]["in_loop"]
    trace = archsim.load_trace(adapted_folder)
    adapted = load_adapted(adapted_folder)
    logits = adapted.software.logits(trace.token_ids[:-1]).astype(np.float64)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    losses = -logits[np.arange(len(logits)), trace.token_ids[1:]]
    assert loop["software_loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert loop["hardware_loss"] != loop["software_loss"]
    assert loop["tokens"] == trace.tokens - 1
    cut = json.loads(run(*words, "--layers", "0:1").stdout)
    assert "in_loop" not in cut["function"]
    shown = run("simulate", "-t", adapted_folder, "--no-report", *SET).output
    assert "In the model's loop" in shown


def test_the_recorded_trace_is_the_closed_loops(adapted_folder: Path) -> None:
    """q, k, v of the last layer come after an analog layer, not after the software's."""
    trace = archsim.load_trace(adapted_folder)
    adapted = load_adapted(adapted_folder)
    ids = trace.token_ids.astype(np.int64)
    loop = closed_loop(adapted_folder)
    found = capture(adapted.model, ids, loop["attention"])
    plain = capture(adapted.model, ids)
    assert np.abs(found["q"] - trace.q).max() < 0.01
    assert np.abs(plain["q"][1] - trace.q[1]).max() > 0.05
    for name, pair in adapted.scalers.items():
        np.testing.assert_array_equal(trace.scalers[name], pair)


@pytest.mark.parametrize(("given", "expected"), [([], 1e-3), (["--tune-rate", "2e-4"], 2e-4)])
def test_rates_of_the_stages(
    given: list[str],
    expected: float,
    tiny_folder: Path,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans: list[AdaptationPlan] = []

    def keep(*arguments: Any, **options: Any) -> Path:
        plans.append(arguments[4])
        raise ConfigError("enough")

    monkeypatch.setattr(adapt, "adapt_model", keep)
    (tmp_path / "one.txt").write_text(text)
    words = ["adapt", "--model", str(tiny_folder), "--text", str(tmp_path / "one.txt")]
    CliRunner().invoke(application, [*words, "-o", "out", "--rate", "4e-3", *given])
    recipes = plans[0].recipes
    assert (recipes["tune"].rate, recipes["tune"].final_rate) == (expected, expected / 10)
    assert {recipes[name].rate for name in ("transfer", "linear", "control")} == {4e-3}
    assert {each.optimiser for each in recipes.values()} == {"muon"}
