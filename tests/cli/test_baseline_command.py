"""``archsim baseline measure``: refused without a GPU, and the whole way with a fake one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fake_gpu import FakeDevice

from archsim.baseline import cuda
from archsim.cli import application
from archsim.config.gpu import load_measured
from archsim.errors import ConfigError, MissingExtraError


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(application, [*arguments])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    device = FakeDevice()
    monkeypatch.setattr(cuda, "open_device", lambda index: device)
    return device


FEW = ("--batch", "1,64", "--window", "1024", "--seconds", "1", "--replays", "20")


def test_without_a_gpu_exit_3_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(index: int) -> None:
        raise MissingExtraError("no CUDA GPU here")

    monkeypatch.setattr(cuda, "open_device", refuse)
    result = run("baseline", "measure", "-o", str(tmp_path / "x.yaml"))
    assert isinstance(result.exception, MissingExtraError)
    assert result.exception.exit_code == 3
    assert not list(tmp_path.iterdir())


def test_measured_file_goes_into_compare(
    fake: FakeDevice, tmp_path: Path, small_trace_folder: Path
) -> None:
    path = tmp_path / "mine.yaml"
    result = run("baseline", "measure", "-o", str(path), *FEW)
    assert result.exit_code == 0, result.output
    assert "24 points, 0 left out" in result.stdout
    arguments = (
        "compare", "--gpu", "h100-sxm", "-t", str(small_trace_folder), "--protocol", "latency",
        "--precision", "fp32", "--json",
    )  # fmt: skip
    shipped = json.loads(run(*arguments).stdout)["rows"]
    compared = run(*arguments, "--measured", str(path))
    assert compared.exit_code == 0
    rows = json.loads(compared.stdout)["rows"]
    (ours,) = [row for row in rows if row not in shipped]
    assert "archsim baseline measure" in ours["note"]
    assert (ours["gpu"], ours["batch"], ours["window"]) == ("H100 SXM", 1, 1024)
    assert ours["energy_mj"] < ours["energy_bound_mj"]


def test_a_file_of_another_gpu_is_refused(fake: FakeDevice, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    run("baseline", "measure", "-o", str(path), *FEW)
    result = run("compare", "--gpu", "rtx-4090", "--measured", str(path))
    assert isinstance(result.exception, ConfigError)
    assert "measured on h100-sxm, which is not compared" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gpu", "h100"), "did you mean 'h100-sxm'"),
        (("--batch", "x"), "give whole numbers"),
        (("--seconds", "0"), "seconds: 1 to 600"),
        (("-o", "/proc/no/such.yaml"), "cannot be written"),
    ],
)
def test_bad_arguments_before_any_work(
    fake: FakeDevice, arguments: tuple[str, ...], message: str
) -> None:
    result = run("baseline", "measure", *arguments)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
    assert fake.readings == 0


def test_a_device_that_fails_leaves_no_file(
    fake: FakeDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "free_bytes", 1)
    result = run("baseline", "measure", "-o", str(tmp_path / "mine.yaml"), *FEW)
    assert isinstance(result.exception, ConfigError)
    assert not list(tmp_path.iterdir())


def test_an_interruption_writes_what_was_measured(fake: FakeDevice, tmp_path: Path) -> None:
    prepare, prepared = fake.prepare, []

    def interrupt(step, implementation):  # type: ignore[no-untyped-def]
        prepared.append(step)
        if len(prepared) == 4:
            raise KeyboardInterrupt
        return prepare(step, implementation)

    fake.prepare = interrupt  # type: ignore[method-assign]
    path = tmp_path / "mine.yaml"
    result = run("baseline", "measure", "-o", str(path), *FEW)
    assert result.exit_code != 0
    assert "3 points, 1 left out" in result.stdout
    assert "the file has the points measured so far" in result.stderr
    assert len(load_measured(path).measurements) == 3


def test_help_is_whole_at_80_columns() -> None:
    assert "Measure decode attention on an NVIDIA GPU.\n" in run("baseline", "--help").stdout
    text = run("baseline", "measure", "-h").stdout
    assert max(map(len, text.splitlines())) <= 80
    for option in ("--heads", "--head-dim", "--replays", "--seconds"):
        (line,) = [each for each in text.splitlines() if each.strip().startswith(f"{option} ")]
        assert len(line.split()) > 3, option
