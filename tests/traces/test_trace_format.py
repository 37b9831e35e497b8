"""docs/traces.md: its examples run, and what they write is a trace to the last rule."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import archsim
from archsim.errors import CorruptInputError
from archsim.traces.manifest import Content, Cut, Manifest, ModelRecord, Shapes
from archsim.traces.trace import load_trace

PAGE = Path(__file__).parents[2] / "docs" / "traces.md"


def example(heading: str) -> str:
    """The Python block of the page after a heading or mark."""
    after = PAGE.read_text(encoding="utf-8").partition(heading)[2]
    return after.partition("```python\n")[2].partition("```")[0]


def test_a_trace_written_from_the_page_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = example("<!-- by hand -->")
    assert "archsim" not in code
    written: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), written)
    trace = load_trace("./by-hand")
    assert (trace.layers, trace.heads, trace.tokens, trace.head_dim) == (2, 3, 11, 8)
    tensors = written["tensors"]
    assert isinstance(tensors, dict)
    np.testing.assert_array_equal(trace.k[1], tensors["layers.1.k"])
    again = trace.save(tmp_path / "again")
    assert again.content_sha256 == trace.manifest.content_sha256
    result = archsim.simulate(trace, archsim.load_hardware(overrides={"window": 64}))
    assert result.function["saturation"]["key"] < 0.05
    manifest = json.loads((tmp_path / "by-hand" / "manifest.json").read_text())
    manifest["content"]["shapes"]["tokens"] = 10
    (tmp_path / "by-hand" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CorruptInputError, match="content_sha256 does not match"):
        load_trace("./by-hand")


def test_the_example_of_arrays_in_memory_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(compile(example("## Arrays in memory"), str(PAGE), "exec"), found)
    trace, y = found["trace"], found["y"]
    assert isinstance(trace, archsim.Trace)
    assert isinstance(y, np.ndarray)
    assert y.shape == (2, 48, 64)
    assert np.ptp(y) > 0
    assert load_trace("./mine").manifest == trace.manifest


def test_the_example_of_your_own_runs() -> None:
    page = (PAGE.parent / "your-own.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    q, k, v = np.random.default_rng(4).normal(0, 2, (3, 2, 2, 40, 32))
    found: dict[str, object] = {"q": q, "k": k, "v": v}
    exec(compile(code, "your-own.md", "exec"), found)
    assert isinstance(found["y"], np.ndarray)
    assert np.ptp(found["y"]) > 0


@pytest.mark.parametrize("model", [Manifest, Content, Shapes, ModelRecord, Cut])
def test_every_key_is_on_the_page(model: type) -> None:
    named = set(re.findall(r"`([a-z_0-9]+)`", PAGE.read_text(encoding="utf-8")))
    assert set(model.model_fields) <= named  # type: ignore[attr-defined]
