"""Memory that a thread uses again for every head."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

CACHE_LINE = 64
"""Bytes. Small matrix products take a third longer where lines straddle cache lines."""

PIECE = 8 << 20
"""Bytes asked of the system at once: a few large pages instead of thousands of small ones."""


class Workspace(threading.local):
    """Aligned arrays by name, each thread its own.

    They hold what was last written to them; `shared` ones until their name is asked for again.
    """

    def __init__(self) -> None:
        self._shared: dict[str, NDArray[np.uint8]] = {}
        self._views: dict[tuple[Any, ...], NDArray[Any]] = {}
        self._arrays: dict[tuple[Any, ...], NDArray[Any]] = {}
        self._free = np.empty(0, np.uint8)

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The array of this name and shape; zeros when it is first asked for."""
        key = (name, shape, dtype)
        if key not in self._arrays:
            self._arrays[key] = self._aligned(shape, dtype)
        return self._arrays[key]

    def shared(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array in the memory that all of this name share, whatever their shape and type.

        It holds anything, and what was there before is not to be used any more.
        """
        key = (name, shape, dtype)
        view = self._views.get(key)
        if view is None:
            size = math.prod(shape) * dtype.itemsize
            memory = self._shared.get(name)
            if memory is None or size > len(memory):
                memory = self._shared[name] = self._aligned((size,), np.dtype(np.uint8))
                self._views = {k: v for k, v in self._views.items() if k[0] != name}
            view = self._views[key] = memory[:size].view(dtype).reshape(shape)
        return view

    def zeros(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The array of this name and shape, filled with 0."""
        array = self.array(name, shape, dtype)
        array[...] = 0
        return array

    def _aligned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Zeros whose first byte starts a cache line."""
        size = math.prod(shape) * dtype.itemsize
        whole = -(-size // CACHE_LINE) * CACHE_LINE
        if whole > len(self._free):
            piece = np.zeros(max(PIECE, whole) + CACHE_LINE, np.uint8)
            self._free = piece[-piece.ctypes.data % CACHE_LINE :]
        raw, self._free = self._free[:size], self._free[whole:]
        return raw.view(dtype).reshape(shape)
