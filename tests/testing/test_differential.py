"""Two checkouts beside each other: equal ones are equal, and whatever differs is named."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from itertools import islice
from pathlib import Path

import pytest

from archsim.testing.differential import compare, main
from archsim.testing.documents import differences
from archsim.testing.jobs import Job, random_job, random_jobs

REPOSITORY = Path(__file__).resolve().parents[2]


def small_job() -> Job:
    """A quick random job that no version refuses."""
    for job in random_jobs(7):
        trace = job["trace"]
        small = trace["tokens"] * trace["heads"] * trace["layers"] < 60
        overrides = job["overrides"]
        own = "accumulator.energy_per_add" in overrides
        if small and not own and overrides["controller.phases"] == "worst_case":
            return {**job, "compiled": False, "runs": job["runs"][:2]}
    raise AssertionError


@pytest.fixture
def mutant(tmp_path: Path) -> Path:
    """A copy of this checkout in which an addition costs a little more."""
    for folder in ("archsim", "hwconfigs"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    config = tmp_path / "hwconfigs" / "gaincell-28nm.yaml"
    text = config.read_text()
    assert text.count("energy_per_add: {value: 0.6 pJ,") == 1
    config.write_text(text.replace("{value: 0.6 pJ,", "{value: 0.6000000001 pJ,"))
    return tmp_path


def test_a_changed_constant_is_found_and_nothing_else(mutant: Path) -> None:
    jobs = [(1, small_job())]
    assert not compare(REPOSITORY, REPOSITORY, jobs).found
    comparison = compare(REPOSITORY, mutant, jobs)
    assert comparison.different_jobs == {1}
    places = list(comparison.found)
    assert "* / document / energy_by_component_pj / adders" in places
    assert all(re.search("energy|tables|sha256|repr|power|tops_per_w", place) for place in places)
    assert not any("latency" in place or "inside" in place for place in places)


def imitation(folder: Path, body: str) -> Path:
    """A checkout that takes no time: what it says of a hardware is in `body`."""
    (folder / "archsim").mkdir(parents=True)
    (folder / "hwconfigs").mkdir()
    (folder / "hwconfigs" / "only.yaml").touch()
    text = """
        import os, time
        class ArchsimError(Exception): ...
        class ConfigError(ArchsimError): ...
        class Said:
            def __init__(self, document): self.given = document
            def document(self): return self.given
        def validate(hardware): return Said({})
        def judge_claims(hardware): return Said({})
        def compare(hardware, gpus): return Said({})
    """
    source = textwrap.dedent(text) + body + "\n"
    (folder / "archsim" / "__init__.py").write_text(source)
    return folder


def compared(
    tmp_path: Path, old: str, new: str, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    """Exit status and output of two imitations compared."""
    folders = [imitation(tmp_path / name, body) for name, body in (("old", old), ("new", new))]
    status = main([*map(str, folders), "--hardwares", "0", *arguments])
    return status, capsys.readouterr().out


def says(document: str) -> str:
    return f"def validate(hardware): return Said({document})"


def test_equal_is_0_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = compared(tmp_path, says("{'a': 1.5}"), says("{'a': 1.5}"), capsys)
    assert status == 0
    assert printed.startswith("3 jobs: none different; 0 refused alike")


def test_a_difference_is_one_line_with_the_job_to_run_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "found.json"
    arguments = ("--json", str(found))
    status, printed = compared(
        tmp_path, says("{'a': 1, 'gone': 2}"), says("{'a': 3, 'more': 4}"), capsys, *arguments
    )
    assert status == 1
    value, lost, new, _ = printed.splitlines()
    assert value.startswith("a: 1 -> 3  [1 job; python -m archsim.testing.differential")
    assert value.endswith("--seed 1 --only 1]")
    assert lost.startswith("gone: lost (was 2)")
    assert new.startswith("remark: more: new (4)")
    document = json.loads(found.read_text())
    assert not document["equal"]
    assert [entry["place"] for entry in document["differences"]] == ["a", "gone"]


def test_what_may_differ_is_a_remark_and_one_job_runs_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--allow", "a*", "--only", "1")
    status, printed = compared(tmp_path, says("{'ab': 1}"), says("{'ab': 2}"), capsys, *arguments)
    assert status == 0
    assert printed.startswith("remark: ab: 1 -> 2")
    assert "\n1 jobs: none different" in printed


@pytest.mark.parametrize(
    ("raised", "status"), [("ConfigError('no')", 0), ("TypeError('a defect')", 1)]
)
def test_refusing_alike_is_equal_and_failing_alike_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], raised: str, status: int
) -> None:
    body = f"def validate(hardware): raise {raised}"
    found, printed = compared(tmp_path, body, body, capsys)
    assert found == status
    assert ("1 refused alike" in printed) == (status == 0)


def test_another_exception_is_a_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = (f"def validate(hardware): raise {e}('no')" for e in ("ConfigError", "ArchsimError"))
    status, printed = compared(tmp_path, old, new, capsys)
    assert status == 1
    assert "ConfigError: no -> ArchsimError: no" in printed


@pytest.mark.parametrize(
    ("does", "named"), [("os._exit(3)", "exit status 3"), ("time.sleep(60)", "no answer in 0.5 s")]
)
def test_a_breakdown_is_named_and_the_other_jobs_still_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], does: str, named: str
) -> None:
    broken = f"def validate(hardware): {does}"
    status, printed = compared(tmp_path, says("{}"), broken, capsys, "--timeout", "0.5")
    assert status == 1
    assert f"a result -> broke down: {named}" in printed
    assert "3 jobs: 1 different" in printed


def test_what_is_no_checkout_or_does_not_start_cannot_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere"), str(REPOSITORY)]) == 2
    assert "no checkout of archsim" in capsys.readouterr().err
    body = "raise RuntimeError('cannot even start')"
    assert main([str(imitation(tmp_path, body))] * 2) == 2
    assert "does not start: RuntimeError: cannot even start" in capsys.readouterr().err


def test_energies_may_differ_in_their_rounding_and_times_not_at_all() -> None:
    old, new = 0.1 + 0.2, 0.3
    assert not list(differences({"energy_pj": {"qk": old}}, {"energy_pj": {"qk": new}}))
    assert list(differences({"energy_pj": {"qk": 1.0}}, {"energy_pj": {"qk": 1.0 + 1e-11}}))
    (found,) = differences({"layer_ns": old}, {"layer_ns": new})
    assert str(found) == f"layer_ns: {old} -> {new}"
    assert list(differences({"layer_ns": 65}, {"layer_ns": 65.0})), "other bytes in JSON"


def test_what_a_version_keeps_out_of_sight_is_named_and_not_called_different() -> None:
    old = {"run": {"inside": {"schedule": {"ready": 1}}, "tables": {"area.csv": {}}}}
    new = {"run": {"inside": {"schedule": None}, "tables": None}}
    found = list(differences(old, new))
    assert {d.kind for d in found} == {"hidden"}
    assert [d.where for d in found] == ["run / inside / schedule", "run / tables"]


def test_lists_by_name_by_key_and_by_order() -> None:
    assert not list(differences(["b.x", "a.y"], ["a.y", "b.x"]))
    assert list(differences(["words in", "their order"], ["their order", "words in"]))
    named = [{"name": "energy of a head", "here": 1.0}, {"name": "other", "here": 2.0}]
    changed = [{**named[1], "here": 2.0 + 1e-15}, {**named[0], "here": 1.0 + 1e-15}]
    (found,) = differences(named, changed)
    assert found.path == ("other", "here")


def test_names_that_changed_are_read_in_the_new_words() -> None:
    old = {"unread": ["mapping.add_time"], "text": "mapping.row_split: digital"}
    new = {"unread": ["readout.add_time"], "text": "readout.model: digital_sum"}
    assert not list(differences(old, new))
    notes = ["Something else.", "mapping.add_time is readout.add_time now: write that"]
    assert not list(differences({"notes": notes[:1]}, {"notes": notes}))


def test_a_random_job_follows_from_its_seed_and_place() -> None:
    some = list(islice(random_jobs(1), 60))
    assert some[41] == random_job(1, 41) != random_job(2, 41)
    values: dict[str, set[object]] = {}
    for job in some:
        for key, value in job["overrides"].items():
            values.setdefault(key, set()).add(value)
    assert values["retention.model"] == {"off", "per_token", "nominal", "simulated"}
    assert values["controller.pipelining"] == {"none", "stages"}
    assert values["pulse_generator.arbitration"] == {"static", "fifo"}
    assert None in values["levels.output"]
    split = [
        job
        for job in some
        if job["overrides"]["array.rows"] < job["trace"]["head_dim"]
        and job["overrides"].get("mapping.row_split") == "digital"
    ]
    assert len(split) > 10
