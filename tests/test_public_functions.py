"""What the public functions take, names and paths too, and that what they give can be kept."""

from __future__ import annotations

import ast
import copy
import importlib.metadata
import inspect
import json
import pickle
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import archsim
from archsim import api
from archsim.cli import application
from archsim.errors import ConfigError
from archsim.hardware.load import Hardware
from archsim.result import Result
from archsim.traces.trace import Trace

WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "deep copy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.fixture(scope="module")
def hardware_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text("extends: gaincell-28nm\nwindow: 64\n")
    return path


def test_names_and_paths_stand_for_what_they_name(
    small_trace: Trace, small_trace_folder: Path, small_result: Result, hardware_file: Path
) -> None:
    expected = small_result.document(wall=False)
    for trace in (small_trace_folder, str(small_trace_folder)):
        assert archsim.simulate(trace, "gaincell-28nm").document(wall=False) == expected
    by_path = archsim.simulate(small_trace, hardware_file)
    assert by_path.simulation.hardware.config.window == 64
    q, k, v = small_trace.layer(0)
    np.testing.assert_array_equal(
        archsim.attend(q, k, v, str(hardware_file)).y,
        archsim.attend(q, k, v, archsim.load_hardware(hardware_file)).y,
    )
    gpu = archsim.load_gpu("rtx-4090")
    documents = [
        archsim.compare(small_result, gpus, protocols=["latency"]).document()
        for gpus in (gpu, [gpu], "rtx-4090", ("rtx-4090",))
    ]
    assert all(document == documents[0] for document in documents)
    model = archsim.compare_model("gaincell-28nm", gpu, protocols=["latency"])
    assert model.rows


MISTAKES: dict[str, tuple[Callable[[Trace, Hardware], object], str]] = {
    "trace": (lambda t, h: archsim.simulate(h, h), "trace: give a Trace, the name"),
    "hardware": (lambda t, h: archsim.simulate(t, t), "hardware: give a Hardware, the name"),
    "no hardware": (lambda t, h: archsim.simulate(t, None), "hardware: .*not NoneType"),
    "a name": (lambda t, h: archsim.simulate("referense", h), "no trace named 'referense'"),
    "attend": (lambda t, h: archsim.attend(*t.layer(0), 5), "hardware: give .*, not int"),
    "load": (lambda t, h: archsim.load_trace(t), "trace: give .*, not Trace"),
    "load 2": (lambda t, h: archsim.load_hardware(h), "hardware: give .*, not Hardware"),
    "overrides": (
        lambda t, h: archsim.load_hardware(overrides=["window=64"]),
        "overrides: give a mapping",
    ),
    "GPU": (lambda t, h: archsim.load_gpu(4090), "GPU: give a Gpu, .*not int"),
    "GPUs": (lambda t, h: archsim.compare_model(h, [None]), "GPU: give a Gpu, .*not NoneType"),
    "a GPU's name": (lambda t, h: archsim.compare_model(h, "rtx4090"), "unknown GPU 'rtx4090'"),
    "result": (lambda t, h: archsim.compare(t, "rtx-4090"), "design: give a hardware, or a result"),
    "validate": (lambda t, h: archsim.validate([]), "hardware: give .*, not list"),
    "sweep": (lambda t, h: archsim.sweep({"axes": {}}), "sweep: give a Sweep, .*not dict"),
    "sweep's name": (lambda t, h: archsim.sweep("sharin"), "sharing"),
    "model": (lambda t, h: archsim.evaluate(t, h, "text"), "model: give the path .*not Trace"),
    "model's name": (lambda t, h: archsim.evaluate("gpt2", h, "text"), "gpt2: no such folder"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(name: str, small_trace: Trace) -> None:
    call, match = MISTAKES[name]
    with pytest.raises(ConfigError, match=match) as raised:
        call(small_trace, archsim.load_hardware())
    assert "\n" not in str(raised.value)


ODD: list[Any] = [object(), b"x", 1.5, [1], {"a": 1}, {3: 1}, True, "\ud800", -(10**30)]

ARGUMENTS: dict[str, Callable[[Result, Any], object]] = {
    "order": lambda r, x: archsim.simulate(r.simulation.trace, "gaincell-28nm", order=x),
    "prompt": lambda r, x: archsim.simulate(r.simulation.trace, "gaincell-28nm", prompt=x),
    "engine": lambda r, x: archsim.simulate(r.simulation.trace, "gaincell-28nm", engine=x),
    "precision": lambda r, x: archsim.simulate(r.simulation.trace, "gaincell-28nm", precision=x),
    "protocols": lambda r, x: archsim.compare(r, "rtx-4090", protocols=x),
    "batch": lambda r, x: archsim.compare(r, "rtx-4090", batch=x),
    "format": lambda r, x: archsim.compare(r, "rtx-4090", precision=x),
    "cache": lambda r, x: archsim.compare(r, "rtx-4090", cache=x),
    "window": lambda r, x: archsim.compare(r, "rtx-4090", window=x),
    "tokens": lambda r, x: r.simulation.trace.select(tokens=x),
    "layers": lambda r, x: r.simulation.trace.select(layers=x),
    "layer": lambda r, x: r.simulation.trace.layer(x),
    "value": lambda r, x: archsim.load_hardware(overrides={"window": x}),
    "overrides": lambda r, x: archsim.load_hardware(overrides=x),
    "changed": lambda r, x: archsim.load_hardware().changed(x),
    "name": lambda r, x: archsim.Trace.from_arrays(*r.simulation.trace.layer(0), name=x),
    "scalers": lambda r, x: archsim.attend(*r.simulation.trace.layer(0), "gaincell-28nm", x),
    "folder": lambda r, x: r.simulation.trace.save(x),
    "trace": lambda r, x: archsim.load_trace(x),
    "GPU": lambda r, x: archsim.load_gpu(x),
    "hardware": lambda r, x: archsim.load_hardware(x),
    "sweep": lambda r, x: archsim.load_sweep(x),
    "workers": lambda r, x: archsim.sweep("sharing", workers=x, only_stored=True),
    "store": lambda r, x: archsim.sweep("sharing", x or 0, only_stored=True),
    "shard": lambda r, x: archsim.sweep("sharing", shard=x, only_stored=True),
    "explained": lambda r, x: archsim.explain(r, x),
    "explained head": lambda r, x: archsim.explain(r, 0, 0, x),
    "result": lambda r, x: archsim.explain(x, 0),
    "run": lambda r, x: archsim.in_loop(x),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_odd_arguments_raise_nothing_but_our_errors(
    name: str, small_result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = 0
    for odd in ODD:
        try:
            ARGUMENTS[name](small_result, odd)
        except archsim.ArchsimError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused >= len(ODD) - 1


@pytest.mark.parametrize("way", WAYS)
def test_a_trace_can_be_kept_and_stays_as_it_is(way: str, small_trace: Trace) -> None:
    kept = WAYS[way](small_trace.select(tokens=9))
    assert kept.sha256 == small_trace.select(tokens=9).sha256
    assert kept.manifest == small_trace.select(tokens=9).manifest
    arrays = [
        kept.q,
        kept.k,
        kept.v,
        kept.token_ids,
        *(x for p in kept.scalers.values() for x in p),
    ]
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(TypeError):
        kept.scalers["q"] = (0, 0)
    with pytest.raises(AttributeError):
        kept.name = "other"


@pytest.mark.parametrize("way", WAYS)
def test_results_hardware_and_sweeps_can_be_kept(way: str, small_result: Result) -> None:
    keep = WAYS[way]
    hardware = archsim.load_hardware(overrides={"window": 128})
    assert keep(hardware).sha256 == hardware.sha256
    assert keep(hardware).changed({"window": 64}).config.window == 64
    gpu = archsim.load_gpu("rtx-4090")
    assert keep(gpu) == gpu
    sweep = archsim.load_sweep("sharing")
    assert keep(sweep) == sweep
    assert keep(sweep).sha256 == sweep.sha256
    for found in (
        small_result,
        archsim.compare(small_result, gpu, protocols=["latency"]),
        archsim.compare_model(hardware, gpu, protocols=["latency"]),
    ):
        document: Any = found.document()  # type: ignore[attr-defined]
        assert keep(found).document() == document
    layer = archsim.attend(*small_result.simulation.trace.layer(0), hardware)
    np.testing.assert_array_equal(keep(layer).y, layer.y)
    with pytest.raises(AttributeError):
        keep(small_result).simulation = None
    with pytest.raises(AttributeError):
        keep(hardware).name = "other"


@pytest.mark.parametrize("words", [3, None, b"abc", {"a": 1}, 1.5])
def test_a_text_that_is_none_is_one_line(words: Any) -> None:
    with pytest.raises(ConfigError, match="give a text, a list of texts, token ids"):
        archsim.evaluate("reference-adapted", archsim.load_hardware(), words)


def test_hardware_equals_its_copies_and_nothing_else() -> None:
    one = archsim.load_hardware(overrides={"window": 77})
    assert copy.copy(one) == one == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(copy.deepcopy(one))
    assert one != archsim.load_hardware()
    assert one != "gaincell-28nm"
    changed = one.changed({"window": 77})
    assert (changed == one) == (changed.provenance == one.provenance)


def test_objects_show_themselves_on_one_line(small_result: Result, tmp_path: Path) -> None:
    hardware = archsim.load_hardware()
    sweep = archsim.load_sweep("sharing")
    explored = archsim.sweep(sweep, tmp_path / "s.db", only_stored=True)
    shown = [
        hardware,
        small_result,
        small_result.simulation,
        small_result.simulation.trace,
        archsim.load_gpu("h100-sxm"),
        archsim.compare(hardware, "h100-sxm", protocols=["latency"]),
        archsim.compare_model(hardware, "h100-sxm", protocols=["latency"]),
        archsim.explain(small_result, 1),
        sweep,
        explored,
        explored.points[0],
        archsim.Stop(),
        archsim.AdaptationPlan(("basis", "direct"), {}),
        archsim.Claims(hardware, ()),
    ]
    for found in shown:
        assert repr(found).startswith(f"<{type(found).__name__} ")
        assert "\n" not in repr(found)
        assert len(repr(found)) < 200


def _classes(hint: Any) -> Iterator[type]:
    """Every class of archsim in a type hint."""
    if isinstance(hint, type) and hint.__module__.startswith("archsim"):
        yield hint
    for part in typing.get_args(hint):
        for each in part if isinstance(part, list) else [part]:
            yield from _classes(each)


def test_every_type_that_a_public_function_takes_or_gives_is_exported() -> None:
    names = dict(vars(api))
    for node in ast.parse(inspect.getsource(api)).body:
        if isinstance(node, ast.If):  # what it imports for type checkers alone
            exec(compile(ast.Module(node.body, []), "imports", "exec"), names)
    seen = set()
    for name in archsim.__all__:
        function = getattr(archsim, name)
        assert function.__name__ == name
        if inspect.isfunction(function):
            home = names if function.__module__ == api.__name__ else None
            for hint in typing.get_type_hints(function, home).values():
                seen |= {found.__name__ for found in _classes(hint)}
    assert {"Result", "Sweep", "Exploration", "Claims", "AdaptationPlan", "InLoop"} <= seen
    assert seen <= set(archsim.__all__), seen - set(archsim.__all__)


def test_the_package_says_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert archsim.__version__ == importlib.metadata.version("archsim")
    assert "__version__" in dir(archsim)

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert archsim.__version__ == "0+unknown"


def test_the_old_name_of_sweep_says_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match=r"archsim\.explore is now archsim\.sweep"):
        old = archsim.explore
    assert old is archsim.sweep
    with pytest.raises(AttributeError, match="no attribute 'exploring'"):
        archsim.exploring  # noqa: B018


def test_a_sweep_takes_a_name_and_a_shard_as_text(tmp_path: Path) -> None:
    whole = archsim.sweep("sharing", str(tmp_path / "s.db"), only_stored=True)
    assert whole.sweep == archsim.load_sweep("sharing")
    assert whole.counts == {"waiting": len(whole.points)}
    part = archsim.sweep("sharing", tmp_path / "s.db", shard="1/2", only_stored=True)
    assert part == whole
    with pytest.raises(ConfigError, match="write i/n"):
        archsim.sweep("sharing", tmp_path / "s.db", shard="half")


def test_python_says_what_the_command_line_says(tmp_path: Path) -> None:
    trace = archsim.load_trace("reference-adapted").select(tokens=12)
    result = archsim.simulate(trace, "gaincell-28nm")
    words = ["simulate", "--tokens", "12", "--explain", "11", "--explain-head", "1:2", "--json"]
    printed = CliRunner().invoke(application, words)
    assert printed.exit_code == 0, printed.output
    document = json.loads(printed.stdout)
    explained = archsim.explain(result, 11, 1, 2).document()
    assert json.loads(json.dumps(explained)) == document["explanation"]
    loop = archsim.in_loop(result)
    assert loop == document["function"]["in_loop"]
    assert loop is not None
    assert loop["tokens"] == 11
    assert (
        archsim.in_loop(archsim.simulate(trace.select(layers=slice(0, 1)), "gaincell-28nm")) is None
    )
