"""Variants from outside in sweeps: their source is in the key, and workers know them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archsim.config import variants
from archsim.config.variants import variant
from archsim.errors import ArchsimError, ConfigError
from archsim.hardware.load import load_hardware
from archsim.sweeps.axes import axis_from_text
from archsim.sweeps.definition import quick_sweep
from archsim.sweeps.exploration import Exploration
from archsim.sweeps.parts import Part, make_known, parts_of, sources_of
from archsim.sweeps.point import Preparation, run_job
from archsim.sweeps.runner import explore, identity

MODULE = "halved_by_somebody"
SOURCE = """
from dataclasses import dataclass
from archsim import variant
from archsim.chip.activations.hard_sigmoid import HardSigmoid

@dataclass(frozen=True)
class Halved(HardSigmoid):
    def pulses(self, score, out):
        return super().pulses(score * 0.5, out)

@variant("activation", "halved")
class HalvedConverter:
    "Half the slope."

    @staticmethod
    def law(config):
        return Halved()
"""


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    with variants.temporary():
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] == MODULE]:
        del sys.modules[name]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that registers ``converter.law: halved``, imported."""
    folder = tmp_path / "plugin"
    folder.mkdir()
    file = folder / f"{MODULE}.py"
    file.write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    importlib.import_module(MODULE)
    return file


LAWS = "converter.law=hard_sigmoid,halved"


def test_a_changed_plugin_does_not_answer_from_the_store(
    plugin: Path, tiny_trace: Path, tmp_path: Path
) -> None:
    ran = []

    def run() -> Exploration:
        def report(tally: Any, new: object) -> None:
            ran[-1] = tally.ran

        ran.append(0)
        sweep = quick_sweep([axis_from_text(LAWS)], trace=str(tiny_trace))
        return explore(sweep, tmp_path / "s.db", workers=1, report=report)

    first = run()
    assert [point.status for point in first.points] == ["ok", "ok"]  # in a worker that imported it
    run()
    plugin.write_text(SOURCE.replace("0.5", "0.25"), encoding="utf-8")
    changed = run()
    assert ran == [2, 0, 1]
    assert changed.points[0].results == first.points[0].results
    assert changed.points[1].results != first.points[1].results


def test_an_identity_names_the_sources_that_axes_may_choose(plugin: Path, tiny_trace: Path) -> None:
    sweep = quick_sweep([axis_from_text(LAWS)], trace=str(tiny_trace))
    before = identity(sweep, Preparation(sweep))
    assert identity(sweep, Preparation(sweep)) == before
    plugin.write_text(SOURCE + "# changed", encoding="utf-8")
    assert identity(sweep, Preparation(sweep)) != before


def test_all_files_of_a_package_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / MODULE
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module(f"{MODULE}.parts")
    parts = parts_of(load_hardware(overrides={"converter.law": "halved"}).config)
    assert parts == (Part("activation", "halved", f"{MODULE}.parts"),)
    before = sources_of(parts)
    (package / "constants.py").write_text("HALF = 0.5\n")
    assert sources_of(parts) != before
    assert parts_of(load_hardware().config) == ()


def test_a_refusal_holds_for_the_source_that_refused(plugin: Path, tiny_trace: Path) -> None:
    sweep = quick_sweep([axis_from_text("converter.law=halved")], trace=str(tiny_trace))

    def refused() -> str:
        job = Preparation(sweep).job({"converter.law": "halved", "tokens": 500})
        assert job.hardware is None
        return job.key

    before = refused()
    plugin.write_text(SOURCE + "# changed", encoding="utf-8")
    assert refused() != before


def test_what_workers_cannot_know_is_one_line(plugin: Path, tiny_trace: Path) -> None:
    sweep = quick_sweep([axis_from_text("converter.law=halved")], trace=str(tiny_trace))
    job = Preparation(sweep).job({"converter.law": "halved"})
    assert job.parts == (Part("activation", "halved", MODULE),)
    make_known(job.parts)
    ghost = Part("activation", "ghost", __name__)
    with pytest.raises(ArchsimError, match=r"does not know converter\.law ghost of .*test_parts"):
        make_known([ghost])
    outcome = run_job(replace(job, parts=(ghost,)))
    assert (outcome.status, outcome.results) == ("failed", None)  # not kept for good
    assert "register it in a module that can be imported" in outcome.reason
    with pytest.raises(ArchsimError, match="No module named 'nowhere_at_all'"):
        make_known([replace(ghost, module="nowhere_at_all")])


def test_a_variant_in_no_file_is_refused_before_anything_runs(tiny_trace: Path) -> None:
    kind: Any = type("Typed", (), {"__module__": "nowhere", "__doc__": "From a prompt."})
    kind.law = staticmethod(lambda config: None)
    variant("activation", "typed")(kind)
    sweep = quick_sweep([axis_from_text("converter.law=typed")], trace=str(tiny_trace))
    with pytest.raises(ConfigError, match=r"converter\.law typed of nowhere is in no file"):
        identity(sweep, Preparation(sweep))


def test_the_source_of_a_part_is_also_what_its_module_imports_from_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plugin"
    folder.mkdir()
    helper = folder / f"{MODULE}_helper.py"
    helper.write_text("FACTOR = 0.5\n", encoding="utf-8")
    text = SOURCE.replace("* 0.5", "* FACTOR")
    text = f"from {MODULE}_helper import FACTOR\n{text}"
    (folder / f"{MODULE}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    importlib.import_module(MODULE)
    (part,) = parts_of(load_hardware(overrides={"converter.law": "halved"}).config)
    before = sources_of([part])
    helper.write_text("FACTOR = 0.25\n", encoding="utf-8")
    assert sources_of([part]) != before
    sys.modules.pop(f"{MODULE}_helper")


def test_an_axis_may_give_what_a_variant_needs(tiny_trace: Path, tmp_path: Path) -> None:
    fixed = {
        "refresh.model": "rows",
        "refresh.read_back_time": "5 ns",
        "refresh.energy_per_read_back": "1 fJ",
    }
    axes = [axis_from_text("refresh.period=5 us,20 us")]
    sweep = quick_sweep(axes, fixed=fixed, trace=str(tiny_trace))
    found = explore(sweep, tmp_path / "points.db", workers=1)
    assert [point.status for point in found.points] == ["ok", "ok"]
    without = quick_sweep([axis_from_text("window=8,16")], fixed=fixed, trace=str(tiny_trace))
    with pytest.raises(ConfigError, match=r"refresh.model rows needs refresh.period"):
        explore(without, tmp_path / "points.db", workers=1)


def test_a_built_in_name_is_taken_for_whoever_comes_with_it() -> None:
    with pytest.raises(ConfigError, match=r"cell.model linear is archsim\..*register .*Mine under"):

        @variant("cell", "linear")
        class Mine:
            """Another."""
