"""Memory that a thread uses again for every head."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

CACHE_LINE = 64
"""Bytes. Small matrix products take a third longer where lines straddle cache lines."""


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros whose first byte starts a cache line."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + CACHE_LINE, np.uint8)
    offset = -raw.ctypes.data % CACHE_LINE
    return raw[offset : offset + size].view(dtype).reshape(shape)


class Workspace(threading.local):
    """Aligned arrays by name, each thread its own; they hold what was last written to them."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[Any, ...], NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The array of this name and shape; zeros when it is first asked for."""
        key = (name, shape, dtype)
        if key not in self._arrays:
            self._arrays[key] = aligned(shape, dtype)
        return self._arrays[key]
