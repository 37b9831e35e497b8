"""``archsim validate --gpu``: every error of the GPU model, and its exit code."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from archsim.baseline import validation
from archsim.cli import application


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(application, ["validate", *arguments])


def test_every_measured_point_has_its_error() -> None:
    result = run("--gpu")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    document = json.loads(run("--gpu", "--json").stdout)
    assert document["passes"] is True
    assert len(document["predictions"]) == 59 + 15 + 8 + 2
    for point in document["predictions"]:
        assert f"{100 * point['error']:+.1f} %" in result.stdout
        if point["energy_error"] is not None:
            assert f"{100 * point['energy_error']:+.1f} %" in result.stdout
    flat = " ".join(result.stdout.split())
    for row in document["summaries"]:
        mean, worst = (f"{100 * row[key]:.1f}" for key in ("time_mean", "time_worst"))
        assert f"{row['group']} {row['role']} {row['rows']} {mean}/{worst}" in flat
    # what was fitted stands apart from what was not
    headings = [line for line in result.stdout.splitlines() if line.startswith("H100 SXM, bf16, w")]
    assert headings == ["H100 SXM, bf16, warm: fitted", "H100 SXM, bf16, warm: held out"]
    for name in document["parameters"]:
        assert name in result.stdout


def test_a_limit_that_is_broken_is_exit_1(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = validation.Limit(mean=0.01)
    monkeypatch.setitem(validation.LIMITS, validation.TRANSFER, limit)
    result = run("--gpu")
    assert result.exit_code == 1
    assert "out of limits: two GPUs, one kernel, transfer: mean error of time" in result.stderr
    assert json.loads(run("--gpu", "--json").stdout)["passes"] is False


@pytest.mark.parametrize("more", [("--bounds",), ("-c", "gaincell-28nm"), ("--set", "window=64")])
def test_gpu_goes_alone(more: tuple[str, ...]) -> None:
    result = run("--gpu", *more)
    assert result.exit_code == 2
    assert "leave out -c, --set and --bounds" in result.stderr
