"""``archsim validate --gpu``: every error of the GPU model, and its exit code."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from archsim.baseline import fit
from archsim.cli import application


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(application, ["validate", *arguments])


def test_every_measured_point_has_its_error() -> None:
    result = run("--gpu")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    document = json.loads(run("--gpu", "--json").stdout)
    assert document["passes"] is True
    assert len(document["predictions"]) == 18
    for point in document["predictions"]:
        assert f"{100 * point['error']:+.1f} %" in result.stdout
    mean = document["mean_absolute_error"]
    for role, limit in document["limits"].items():
        text = f"{role} {100 * mean[role]:.1f} % (limit {100 * limit:.0f} %)"
        assert text in " ".join(result.stdout.split())


def test_a_limit_that_is_broken_is_exit_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fit.LIMITS, "transfer", 0.01)
    result = run("--gpu")
    assert result.exit_code == 1
    assert "out of limits: transfer: mean absolute error" in result.stderr
    assert json.loads(run("--gpu", "--json").stdout)["passes"] is False


@pytest.mark.parametrize("more", [("--bounds",), ("-c", "gaincell-28nm"), ("--set", "window=64")])
def test_gpu_goes_alone(more: tuple[str, ...]) -> None:
    result = run("--gpu", *more)
    assert result.exit_code == 2
    assert "leave out -c, --set and --bounds" in result.stderr
