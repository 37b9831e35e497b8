"""The code a stored result depends on, read from imports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from archsim.sweeps import point
from archsim.sweeps.code import ROOT, code_sha256, reached


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "archsim"
    files = {
        "__init__.py": "",
        "a.py": "def f():\n    from archsim.inner import b\n    return b\n",
        "inner/__init__.py": "from . import named\n",
        "inner/named.py": "",
        "inner/b.py": "import numpy\nfrom ..c import value\n",
        "slots/one.py": "SLOT = declare('x', 'x.model', 'archsim.variety')\n'archsim.'\n",
        "variety/__init__.py": "",
        "variety/late.py": "from archsim import f\n",
        "c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from archsim import d\n"
        "else:\n    import archsim.e\nvalue = 1\n",
        "d.py": "",
        "e.py": "",
        "f.py": "import archsim.a\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_imports_are_followed_wherever_they_stand(package: Path) -> None:
    found = {path.relative_to(package).as_posix() for path in reached("archsim.a", package)}
    assert found == {"a.py", "inner/__init__.py", "inner/named.py", "inner/b.py", "c.py", "e.py"}


def test_all_modules_of_a_slot_are_reached(package: Path) -> None:
    found = {path.relative_to(package).as_posix() for path in reached("archsim.slots.one", package)}
    assert found >= {"slots/one.py", "variety/__init__.py", "variety/late.py", "f.py", "a.py"}


@pytest.mark.parametrize(("name", "changes"), [("c.py", True), ("e.py", True), ("d.py", False)])
def test_a_key_changes_with_what_is_reached(package: Path, name: str, changes: bool) -> None:
    before = code_sha256("archsim.a", package)
    path = package / name
    path.write_text(path.read_text() + "# changed\n")
    assert (code_sha256("archsim.a", package) != before) == changes


def test_every_module_that_a_point_loads_is_in_its_key(tiny_trace: Path) -> None:
    """What a process has loaded after a run, against what was read from the sources."""
    import subprocess

    program = (
        "import sys; from archsim.sweeps.figures import simulated_figures as run\n"
        "from archsim.traces.trace import load_trace\n"
        "from archsim.hardware.load import load_hardware\n"
        f"run(load_trace({str(tiny_trace)!r}), load_hardware())\n"
        "print(*[m.__file__ for n, m in sys.modules.items() if n.startswith('archsim.')])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {Path(name) for name in ran.stdout.split()}
    assert loaded - {*reached("archsim.sweeps.figures")} == set()
    for name in (
        "machine/blas.py",
        "machine/parallel.py",
        "machine/compiled.py",
        "datapath/ideal.py",
    ):
        assert ROOT / name in reached("archsim.sweeps.figures")
        assert ROOT / name in reached("archsim.sweeps.loss")
    assert ROOT / "accuracy/closed_loop.py" in reached("archsim.sweeps.loss")
    assert point.model_version() != point.loss_version()
