"""``archsim baseline measure``: refused without a GPU, and the whole way with a fake one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fake_gpu import FakeDevice

from archsim.cli import application
from archsim.errors import ConfigError, MissingExtraError
from archsim.files import data_folder
from archsim.gpu import cuda
from archsim.gpu.file import load_measured


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


def test_measured_file_goes_into_compare(fake: FakeDevice, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    result = run("baseline", "measure", "-o", str(path), *FEW)
    assert result.exit_code == 0, result.output
    assert "24 points, 0 left out" in result.stdout
    arguments = (
        "compare", "--gpu", "h100-sxm", "--protocol", "latency", "--precision", "fp32", "--json",
    )  # fmt: skip
    shipped = json.loads(run(*arguments).stdout)["rows"]
    compared = run(*arguments, "--measured", str(path))
    assert compared.exit_code == 0
    rows = json.loads(compared.stdout)["rows"]
    (ours,) = [row for row in rows if row not in shipped]
    assert "archsim baseline measure" in ours["note"]
    assert (ours["gpu"], ours["batch"], ours["window"]) == ("H100 SXM", 1, 1024)
    assert ours["energy_mj"] < ours["energy_bound_mj"]
    assert ours["measured_file"] == str(path)
    assert {row["measured_file"] for row in shipped} == {None}
    text = run(*arguments[:-1], "--measured", str(path)).stdout
    starred = [line for line in text.splitlines() if line.endswith("*")]
    assert len(starred) == 1
    assert starred[0].startswith("H100 SXM     measured     1 fp32")
    assert f"*: of {path.name}" in " ".join(text.split()).replace(f"{path.parent}/", "")


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
        (("--minutes", "0"), "minutes: 0.5 to"),
        (("--kv-heads", "5"), "model 12 layers x 12 heads x 64: 12 heads cannot share 5 kv_heads"),
        (("--kv-heads", "0"), "--kv-heads: at least 1"),
        (("--layers", "0"), "layers must be at least 1"),
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

    def interrupt(step, implementation, kernel):  # type: ignore[no-untyped-def]
        prepared.append(step)
        if len(prepared) == 4:
            raise KeyboardInterrupt
        return prepare(step, implementation, kernel)

    fake.prepare = interrupt  # type: ignore[method-assign]
    path = tmp_path / "mine.yaml"
    result = run("baseline", "measure", "-o", str(path), "--kernel", "cudnn", *FEW)
    assert result.exit_code != 0
    assert "3 points, 1 left out" in result.stdout
    assert "the file has the points measured so far" in result.stderr
    assert len(load_measured(path).measurements) == 3


def test_help_is_whole_at_80_columns() -> None:
    assert "Measure decode attention and whole tokens on an" in run("baseline", "--help").stdout
    text = run("baseline", "measure", "-h").stdout
    assert max(map(len, text.splitlines())) <= 80
    for option in ("--heads", "--head-dim", "--replays", "--seconds"):
        (line,) = [each for each in text.splitlines() if each.strip().startswith(f"{option} ")]
        assert len(line.split()) > 3, option


def test_six_minutes_measure_a_plan_of_both_scopes(fake: FakeDevice, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    result = run("baseline", "measure", "--minutes", "6", "-o", str(path))
    assert result.exit_code == 0, result.output
    file = load_measured(path)
    assert {p.batch for p in file.measurements} == {1, 4, 16, 64, 256}
    assert {p.window for p in file.measurements} == {128, 512, 1024, 2048, 4096, 8192}
    assert {token.part for token in file.tokens} == {"whole", "rest", "attention"}
    assert {token.batch for token in file.tokens} == {1, 8, 64}
    assert (file.idle.context, file.idle.bare) == (71.5, 68.5)
    assert file.method["energy_window"] == "1.5 s"
    # the summary: every line whole, ratios to the default hardware
    told, *table = result.stdout.splitlines()
    assert told.endswith("mine.yaml: 74 points, 1 left out")
    assert "left out: 321 points: no room in 6 minutes" in result.stderr
    assert max(map(len, table)) <= 80
    lines = [line.split() for line in table]
    found = {line[0]: line for line in lines if len(line) > 1 and line[-2].endswith("x")}
    assert {"paper*", "latency", "throughput", "eager", "a", "latency+", "throughput+"} == set(
        found
    )
    tokens = [line for line in table if line.startswith("a token")]
    assert len(tokens) == len(set(tokens)) > 0
    assert " ".join(table).count("batch 1: attention has") == 1
    latency = next(
        p.latency for p in file.measurements
        if (p.protocol, p.precision, p.window, p.cache) == ("latency", "bf16", 1024, "warm")
        and p.kernel == "cudnn"
    )  # fmt: skip
    assert found["latency"][1] == "cudnn"
    assert float(found["latency"][-2].rstrip("x")) == pytest.approx(latency / 65e-9, rel=0.01)


def test_a_measured_file_of_another_shape_has_nothing_to_compare(
    fake: FakeDevice, tmp_path: Path
) -> None:
    arguments = ("--heads", "16", "--kv-heads", "4", "--scope", "attention", "--scope", "model")
    path = tmp_path / "mine.yaml"
    result = run("baseline", "measure", "-o", str(path), *arguments, *FEW)
    assert result.exit_code == 0, result.output
    told = " ".join(result.stdout.split())
    assert (
        "Nothing to compare: H100 SXM, protocol latency: of 16 heads x 64, window 1,024; the"
        in told
    )
    file = load_measured(path)
    assert {(p.heads, p.kv_heads) for p in file.measurements} == {(16, 4)}
    assert file.model is not None
    assert (file.model.heads, file.model.kv_heads, file.model.mlp) == (16, 4, 4096)


def test_half_a_minute_tells_a_token_once(fake: FakeDevice, tmp_path: Path) -> None:
    """One token answers two protocols, latency and throughput at the best batch."""
    result = run("baseline", "measure", "--minutes", "0.5", "-o", str(tmp_path / "mine.yaml"))
    assert result.exit_code == 0, result.output
    assert sum(line.startswith("a token graph") for line in squeezed(result.stdout)) == 1
    assert " ".join(result.stdout.split()).count("attention has") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--cache", "cold", "--implementation", "sdpa", "--precision", "bf16"),
         "latency+ cudnn bf16 1"),
        (("--kernel", "math", "--implementation", "sdpa", "--precision", "bf16"),
         "math is unfused operations, replayed from a graph: no fused kernel"),
    ],
)  # fmt: skip
def test_the_summary_is_of_what_was_measured(
    fake: FakeDevice, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    path = tmp_path / "mine.yaml"
    result = run("baseline", "measure", *arguments, *FEW, "-o", str(path))
    assert result.exit_code == 0, result.output
    assert words in " ".join(result.stdout.split())
    compared = run("compare", "--gpu", "h100-sxm", "--measured", str(path), "--protocol", "latency")
    said = "H100 SXM: math is unfused operations, replayed from a graph" in compared.stdout
    assert said == ("math" in arguments)


def squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_fit_says_which_gpu_a_file_is_of(fake: FakeDevice, tmp_path: Path) -> None:
    path, gpu = tmp_path / "mine.yaml", tmp_path / "my-gpu.yaml"
    run("baseline", "measure", "-o", str(path), *FEW)
    gpu.write_bytes((data_folder("hwconfigs") / "gpus" / "rtx-4090.yaml").read_bytes())
    result = run("baseline", "fit", "--gpu", str(gpu), "--measured", str(path))
    assert isinstance(result.exception, ConfigError)
    assert "mine.yaml: measured on h100-sxm, not on my-gpu; give its --gpu" in str(result.exception)


def test_the_fit_command_makes_a_section_of_a_gpu_file(fake: FakeDevice, tmp_path: Path) -> None:
    """A stand-in made by the model itself gives back the parameters of the time."""
    measured, section = tmp_path / "mine.yaml", tmp_path / "model.yaml"
    run("baseline", "measure", "-o", str(measured), "--kernel", "cudnn", "--seconds", "1")
    arguments = ("--measured", str(measured), "-o", str(section), "--json")
    result = run("baseline", "fit", *arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    for name in ("launch", "memory_efficiency", "l2_efficiency", "eager_launch"):
        found = document["parameters"][name]
        assert found == pytest.approx(document["shipped"][name], rel=0.02), name
    assert "source: calibrated" in section.read_text(encoding="utf-8")


def test_the_shipped_parameters_are_those_of_the_fit() -> None:
    result = run("baseline", "fit")
    assert result.exit_code == 0, result.output
    assert "21 measured points, 19 with energy" in result.stdout
    assert result.stderr == ""
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_nothing_to_fit_to_is_one_line() -> None:
    result = run("baseline", "fit", "--gpu", "a100-80gb")
    assert isinstance(result.exception, ConfigError)
    assert "nothing was measured" in str(result.exception)


def test_a_measured_token_goes_into_the_scope_model(fake: FakeDevice, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    arguments = ("--scope", "model", "--batch", "1", "--window", "1024", "--seconds", "1")
    assert run("baseline", "measure", "-o", str(path), *arguments).exit_code == 0
    compared = run(
        "compare", "--scope", "model", "--gpu", "h100-sxm", "--measured", str(path), "--protocol",
        "latency", "--precision", "bf16", "--json",
    )  # fmt: skip
    assert compared.exit_code == 0, compared.output
    rows = json.loads(compared.stdout)["rows"]
    assert [row["source"] for row in rows] == ["measured", "model"]
    run("baseline", "measure", "-o", str(path), "--gpu", "a100-80gb", *arguments)
    compared = run(
        "compare", "--scope", "model", "--gpu", "a100-80gb", "--measured", str(path), "--protocol",
        "latency", "--json",
    )  # fmt: skip
    measured, model = json.loads(compared.stdout)["rows"]
    assert "archsim baseline measure" in measured["note"]
    assert measured["date"] is not None
    assert model["latency_error"] is not None
