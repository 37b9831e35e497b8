"""Functions as machine code: the same results, kept on disk, and what is refused."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from archsim.errors import InvariantError
from archsim.machine import compiled

pytestmark = pytest.mark.skipif(
    not compiled.available(), reason="numba (extra [fast]) is not installed"
)

SOURCE = """
import numpy as np

from archsim.machine.compiled import Kernel


def doubled(x):
    return {factor} * x


@Kernel
def total(x, scale, most):
    sum = 0.0
    for i in range(len(x)):
        for j in range(x.shape[1]):
            x[i, j] = doubled(x[i, j]) * scale
            sum += x[i, j]
    return int(min(sum, most))


@Kernel
def clear(x):
    for i in range(len(x)):
        x[i] = 0


@Kernel
def allocates(x):
    return len(np.sort(x))
"""


def kernels(folder: Path, factor: int = 2) -> ModuleType:
    """A module of kernels, new to this process."""
    path = folder / "kernels.py"
    path.write_text(SOURCE.format(factor=factor))
    spec = importlib.util.spec_from_file_location("kernels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kernels"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_results_are_those_of_python(tmp_path: Path, dtype: type) -> None:
    module = kernels(tmp_path)
    x = np.arange(6).reshape(2, 3).astype(dtype)
    expected = x.copy()
    assert module.total(x, 3.0, 1000) == module.total.interpreted(expected, 3.0, 1000) == 90
    assert np.array_equal(x, expected)
    assert module.clear(x.ravel()) == 0
    assert not x.any()


def test_code_is_kept_and_earlier_versions_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "__pycache__"
    x = np.ones((1, 1))
    assert kernels(tmp_path).total(x.copy(), 1.0, 9) == 2
    (first,) = kept.glob("archsim.kernels-total.*.o")
    with monkeypatch.context() as patch:
        patch.setattr(compiled._Machine, "compile", None)  # cannot be called
        assert kernels(tmp_path).total(x.copy(), 1.0, 9) == 2
    assert kernels(tmp_path, factor=3).total(x.copy(), 1.0, 9) == 3
    (second,) = kept.glob("archsim.kernels-total.*.o")
    assert second != first


def test_damaged_code_is_compiled_anew(tmp_path: Path) -> None:
    x = np.ones((1, 1))
    kernels(tmp_path).total(x.copy(), 1.0, 9)
    (path,) = (tmp_path / "__pycache__").glob("archsim.kernels-total.*.o")
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1] + b"?"):
        path.write_bytes(damaged)
        assert kernels(tmp_path).total(x.copy(), 1.0, 9) == 2
        assert len(path.read_bytes()) == len(whole)


def test_code_goes_to_the_users_caches_or_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "__pycache__").write_text("a file where the folder should be")
    x = np.ones((1, 1))
    assert kernels(tmp_path).total(x.copy(), 1.0, 9) == 2
    assert len([*(tmp_path / "caches" / "archsim").glob("archsim.kernels-total.*.o")]) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    with pytest.raises(compiled.NotCompiledError, match="no folder to keep it in"):
        kernels(tmp_path, factor=4).total(x.copy(), 1.0, 9)
    monkeypatch.setenv(compiled.SWITCH, "1")
    assert kernels(tmp_path, factor=4).total(x.copy(), 1.0, 9) == 4


def test_what_is_refused(tmp_path: Path) -> None:
    module = kernels(tmp_path)
    with pytest.raises(InvariantError, match="one piece"):
        module.clear(np.ones((4, 4))[:, 0])
    with pytest.raises(InvariantError, match="takes no str"):
        module.total(np.ones((1, 1)), "1", 9)
    with pytest.raises(InvariantError, match="allocates as machine code needs"):
        module.allocates(np.ones(3))


def test_a_number_from_another_module_is_part_of_the_key(tmp_path: Path) -> None:
    """Machine code holds it as it was; the source of the function is the same."""
    x = np.ones((1, 1))
    module = kernels(tmp_path)
    module.SIZE = 3  # as ``from elsewhere import SIZE`` leaves it
    module.total(x.copy(), 1.0, 9)
    (first,) = (tmp_path / "__pycache__").glob("archsim.kernels-total.*.o")
    module = kernels(tmp_path)
    module.SIZE = 4
    module.total(x.copy(), 1.0, 9)
    (second,) = (tmp_path / "__pycache__").glob("archsim.kernels-total.*.o")
    assert first != second
