"""What many tests share: one small trace, its folder, and one run of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archsim.api import simulate
from archsim.hardware.load import load_hardware
from archsim.result import Result
from archsim.traces.trace import Trace, save_trace


@pytest.fixture(scope="session")
def small_trace() -> Trace:
    """2 layers x 2 heads x 96 tokens x 64: two sub-tiles, the second partly filled."""
    rng = np.random.default_rng(7)
    q, k, v = (rng.standard_normal((2, 2, 96, 64)).astype(np.float16) for _ in range(3))
    return Trace.from_arrays(q, k, v, "fit", name="small")


@pytest.fixture(scope="session")
def small_trace_folder(small_trace: Trace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small_trace` on disk."""
    folder = tmp_path_factory.mktemp("traces") / "small"
    save_trace(small_trace, folder)
    return folder


@pytest.fixture(scope="session")
def small_result(small_trace: Trace) -> Result:
    """`small_trace` on the default hardware, one token at a time."""
    return simulate(small_trace, load_hardware())
