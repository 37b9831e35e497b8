"""A trace small enough that a point takes milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim.traces.synthetic import synthesise
from archsim.traces.trace import save_trace


@pytest.fixture(scope="session")
def tiny_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1 layer x 2 heads x 12 tokens x 64, on disk."""
    folder = tmp_path_factory.mktemp("traces") / "tiny"
    save_trace(synthesise(1, 2, 12, name="tiny"), folder)
    return folder
