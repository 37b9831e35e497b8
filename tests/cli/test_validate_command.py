"""``archsim validate --gpu``: every error of the GPU model, and its exit code."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner, Result

from archsim.cli import application
from archsim.gpu import validation
from archsim.validation import predictions


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
    assert headings == [
        "H100 SXM, bf16, warm: fitted",
        "H100 SXM, bf16, warm: held out (form chosen with it in view)",
    ]
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


def test_figures_say_what_their_agreement_is_worth() -> None:
    result = run()
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "…" not in result.stdout
    document = json.loads(run("--json").stdout)
    assert document["schema_version"] == 2
    flat = " ".join(result.stdout.split())
    for figure in document["figures"]:
        assert re.search(rf"{re.escape(figure['name'])}( \*)? .*{figure['status']}", flat)
        if figure["status"] == "predicted":
            assert f"{figure['name']}: within {100 * figure['tolerance']:g} % (passes)" in flat
            assert figure["tolerance_reason"] in flat
        if figure["status"] == "unresolved":
            assert figure["tolerance"] is None
            assert f"{figure['name']}: {figure['note']}" in flat
    by_name = {figure["name"]: figure for figure in document["figures"]}
    energy = by_name["H100 SXM: energy ratio"]
    assert energy["status"] == "unresolved"
    assert energy["relative_error"] < -0.5
    assert "above idle, 44,5" in energy["note"]


def test_a_prediction_that_fails_is_exit_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "top_digital_power", lambda run: 70.0)
    result = run()
    assert result.exit_code == 1
    assert "digital power, top phase: within 25 % (FAILS)" in " ".join(result.stdout.split())
    assert "out of tolerance: digital power, top phase" in result.stderr


@pytest.mark.parametrize(
    ("more", "heads", "differs"),
    [((), 2, True), (("--set", "write_path.heads_per_driver=3"), 12, False)],
)
def test_bounds_say_of_how_many_heads(more: tuple[str, ...], heads: int, differs: bool) -> None:
    small = ("--bounds", "--set", "window=32", "--set", "array.columns=16", *more)
    flat = " ".join(run(*small).stdout.split())
    assert f"Of {heads} heads{', so that the energy differs' if differs else '.'}" in flat
    assert json.loads(run(*small, "--json").stdout)["bounds"]["heads"] == heads


def test_the_words_of_the_published_design_are_its_own() -> None:
    result = run("-c", "gaincell-28nm-window256")
    assert result.exit_code == 0
    flat = " ".join(result.stdout.split())
    assert "calibrated" not in flat
    assert "each must be positive" not in flat
    assert "Other than in the published design: window." in flat
    assert "for gaincell-28nm-window256 they decide nothing" in flat
    document = json.loads(run("-c", "gaincell-28nm-window256", "--json").stdout)
    own = [f for f in document["figures"] if f["config"] == "gaincell-28nm-window256"]
    assert all("window" in f["note"] for f in own if f["differs"] and f["status"] != "unresolved")
