"""The example of the room's README is a cell that works."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import archsim
from archsim.config.variants import temporary
from archsim.testing import conform
from archsim.traces.trace import Trace

README = Path(archsim.__file__).parent / "chip" / "README.md"


def test_the_cell_of_the_readme_conforms(
    small_trace: Trace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    simulate = archsim.simulate
    monkeypatch.setattr(archsim, "simulate", lambda _, hardware: simulate(small_trace, hardware))
    cell, script = re.findall("```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "cell_of_the_readme.py").write_text(cell)
    monkeypatch.syspath_prepend(tmp_path)
    with temporary():
        module: Any = importlib.import_module("cell_of_the_readme")
        exec(compile(script, str(README), "exec", dont_inherit=True), {})
        assert float(capsys.readouterr().out) < 20
        found = conform(module.TanhCell, full_current="8 uA", knee="0.3 V")
    assert found.variant == "cell.model tanh"
