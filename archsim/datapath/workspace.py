"""Memory that a thread uses again for every head."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

CACHE_LINE = 64
"""Bytes. Small matrix products take a third longer where rows straddle cache lines."""


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros whose first byte starts a cache line."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + CACHE_LINE, np.uint8)
    offset = -raw.ctypes.data % CACHE_LINE
    return raw[offset : offset + size].view(dtype).reshape(shape)


def padded(width: int, dtype: np.dtype[Any]) -> int:
    """`width` rounded up so that every row starts a cache line."""
    step = CACHE_LINE // dtype.itemsize
    return -(-width // step) * step


class Workspace(threading.local):
    """Aligned arrays that are given back after use, each thread its own."""

    def __init__(self) -> None:
        self._free: defaultdict[tuple[Any, ...], list[NDArray[Any]]] = defaultdict(list)

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array that holds anything finite."""
        free = self._free[shape, dtype]
        return free.pop() if free else aligned(shape, dtype)

    def give_back(self, *arrays: NDArray[Any]) -> None:
        """Arrays from `take`, of this thread, that nobody uses any more."""
        for array in arrays:
            self._free[array.shape, array.dtype].append(array)
