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

README = Path(archsim.__file__).parent / "chip" / "README.md"


def test_the_cell_of_the_readme_conforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved as the README says; the script as it stands runs with the other pages' examples."""
    text = README.read_text(encoding="utf-8")
    (example,) = re.findall("```python\n(.*?)```", text, re.DOTALL)
    cell, _, script = example.partition("\n\nchosen = ")
    assert len(script.splitlines()) == 3
    (tmp_path / "cell_of_the_readme.py").write_text(cell)
    monkeypatch.syspath_prepend(tmp_path)
    with temporary():
        module: Any = importlib.import_module("cell_of_the_readme")
        found = conform(module.TanhCell, saturation="9 uA", scale="0.4 V")
    assert found.variant == "cell.model tanh"
