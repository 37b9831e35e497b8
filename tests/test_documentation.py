"""Every example of README and docs: commands parse, their keys exist, files load, short ones run.

What would take long, or needs files of the reader's own, is parsed alone; sweeps and scripts run on
a few tokens.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import archsim
from archsim.cli import application, main
from archsim.config.loading import parse_assignments
from archsim.config.variants import temporary
from archsim.hardware.load import available_hardware, load_hardware
from archsim.sweeps.analysis import unread
from archsim.sweeps.axes import axis_from_text
from archsim.sweeps.contest import judging
from archsim.sweeps.definition import Sweep, quick_sweep
from archsim.sweeps.figures import objectives
from archsim.sweeps.runner import explore
from archsim.sweeps.sweep_file import available_sweeps, load_sweep
from archsim.traces.synthetic import synthesise
from archsim.traces.trace import load_trace, save_trace

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

TOKENS = 8
"""As many of a shipped trace as an example runs on."""

Example = tuple[str, str]
"""Where it stands (page and line), and its text."""


def blocks(*kinds: str) -> Iterator[Example]:
    """Fenced blocks of the given kinds."""
    for page in PAGES:
        kind, start, lines = None, 0, list[str]()
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            if not line.startswith("```"):
                lines.append(line)
            elif kind is None:
                kind, start, lines = line[3:], number, []
            else:
                if kind in kinds:
                    place = f"{page.relative_to(ROOT).as_posix()}:{start}"
                    yield place, "\n".join(lines) + "\n"
                kind = None


def words_of(line: str) -> list[str]:
    """The words of a command line up to a pipe, a redirection or the next command."""
    words = shlex.split(line, comments=True)
    end = next((i for i, word in enumerate(words) if word in {"|", ">", "&&", ";"}), len(words))
    return words[:end]


def commands() -> Iterator[Example]:
    """Command lines that begin with ``archsim``: of blocks, and those within a sentence."""
    for place, text in blocks("", "bash"):
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith("archsim "):
                yield place, line
    for page in PAGES:
        for found in re.findall(r"`(archsim [^`]+)`", page.read_text(encoding="utf-8")):
            if not re.search(r"\b[A-Z]{4,}\b|\.\.\.", found):  # words that stand for something
                yield page.relative_to(ROOT).as_posix(), " ".join(found.split())


def parsed(words: list[str]) -> click.Context:
    """The context of the command that words name; raises click's errors for what it has not."""
    context = application.make_context("archsim", words)
    command: click.Command = application
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, found, left = command.resolve_command(context, rest)
        assert found is not None, rest
        command = found
        context = command.make_context(name, left, parent=context)
    return context


@pytest.mark.parametrize(("place", "line"), sorted(set(commands())))
def test_a_command_has_every_option_key_and_value_it_is_given(place: str, line: str) -> None:
    words = words_of(line)[1:]
    try:
        given = parsed(words).params
    except click.MissingParameter:
        if any(word.startswith("-") for word in words):
            raise
        return  # a sentence names the command
    config = given.get("config")
    base = config if config in available_hardware() else "gaincell-28nm"
    if given.get("assignments"):
        load_hardware(base, parse_assignments(given["assignments"]))
    if "sweep_file" in given:
        name = given["sweep_file"]
        assert name is None or name.endswith(".yaml") or name in available_sweeps()
        if given["vary"]:
            quick_sweep([axis_from_text(text) for text in given["vary"]])


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", words)
    try:
        main()
    except SystemExit as status:
        return int(status.code or 0)
    return 0


@pytest.fixture
def readers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that examples name."""
    monkeypatch.chdir(tmp_path)
    save_trace(synthesise(1, 2, TOKENS, name="my-trace"), tmp_path / "my-trace")
    (yaml,) = (text for place, text in blocks("yaml") if text.startswith("extends:"))
    (tmp_path / "mine.yaml").write_text(yaml, encoding="utf-8")
    shutil.copy(ROOT / "hwconfigs" / "gpus" / "h100-sxm.yaml", tmp_path / "my-gpu.yaml")
    return tmp_path


def short(line: str) -> list[str] | None:
    """A command line that runs in a moment and shows the same; None if there is none such."""
    words = words_of(line)
    if words[1] == "simulate":
        layers = [] if {"my-trace", "mine"} & {*words} else ["--layers", "0:1"]
        few = {"--explain": "5", "--prompt": "4"}
        for option, value in few.items():
            if option in words:
                words[words.index(option) + 1] = value
        return [*words, "--tokens", str(TOKENS), *layers, "--no-report"]
    if words[1] == "config" or words[1:3] in (["trace", "info"], ["sweep", "list"]):
        return words
    return None


SHORT = sorted({line for _, line in commands() if short(line) is not None})


@pytest.mark.parametrize("line", SHORT)
def test_a_short_command_runs(
    line: str,
    readers_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for made in ("mine", "by-hand"):  # by the lines before it
        shutil.copytree(readers_folder / "my-trace", readers_folder / made)
    words = short(line)
    assert words is not None
    code = run(words, monkeypatch)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert printed.out
    assert "Not read by" not in printed.out


def few_tokens(sweep: Sweep) -> Sweep:
    """The same design space, on a few tokens of one layer and without losses, which take long."""
    kept = tuple(o for o in sweep.objectives if o.name != "loss")
    return dataclasses.replace(
        sweep,
        tokens=TOKENS,
        layers=1,
        objectives=kept or objectives(["energy"]),
        loss=False,
        windows=4,
    )


@pytest.mark.parametrize(("place", "text"), list(blocks("yaml")))
def test_a_file_says_what_the_program_reads(place: str, text: str, tmp_path: Path) -> None:
    """A sweep's points are all valid, read every key it gives, and rank by its objectives."""
    path = tmp_path / "example.yaml"
    path.write_text(text, encoding="utf-8")
    if "axes:" not in text:
        assert load_hardware(path).sha256
        return
    done = explore(few_tokens(load_sweep(path)), tmp_path / "s.db", workers=1)
    assert done.counts == {"ok": len(done.points)}
    assert unread(done) == {}
    assert judging(done).left_out == ()


def test_sweeps_that_come_along_rank_by_figures_that_mean_one_thing() -> None:
    from archsim.sweeps.design import design
    from archsim.sweeps.judging import judged
    from archsim.sweeps.point import Preparation

    for name in available_sweeps():
        sweep = few_tokens(load_sweep(name))
        if sweep.method == "search":
            continue
        jobs = [Preparation(sweep).job(point) for point in design(sweep)[::7]]
        assert judged(load_sweep(name), jobs).left_out == (), name


@pytest.mark.parametrize(("place", "text"), list(blocks("python")))
def test_a_script_runs(
    place: str, text: str, readers_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trace(name: str) -> Any:
        return load_trace(name).select(tokens=TOKENS, layers=slice(0, 1))

    def sweep(name: str) -> Sweep:
        found = few_tokens(load_sweep(name))
        return dataclasses.replace(
            found,
            axes=tuple(
                dataclasses.replace(axis, values=(axis.values or ())[-2:]) for axis in found.axes
            ),
        )

    monkeypatch.setattr(archsim, "load_trace", trace, raising=False)
    monkeypatch.setattr(archsim, "load_sweep", sweep, raising=False)
    monkeypatch.setattr("archsim.api.as_trace", lambda x: trace(x) if isinstance(x, str) else x)
    monkeypatch.setattr("archsim.sweeps.runner.load_sweep", sweep)
    rng = np.random.default_rng(4)
    arrays = {name: rng.normal(size=(1, 2, TOKENS, 64)) for name in "qkv"}
    with temporary():  # what a script registers
        exec(compile(text, place, "exec", dont_inherit=True), {**arrays, "__name__": "__main__"})
