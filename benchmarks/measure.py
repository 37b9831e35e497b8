"""Clocks, and what a part of the benchmarks returns."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Measured:
    """A table of text to print, and the same as `data` to keep."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    data: dict[str, Any]


Part = Callable[[bool], Measured]


def fastest(
    function: Callable[[], Value], times: int = 1, clock: Callable[[], float] = time.process_time
) -> tuple[float, Value]:
    """The shortest of some runs in seconds (CPU time unless told), and what the last returned."""
    best = float("inf")
    for _ in range(times):
        began = clock()
        value = function()
        best = min(best, clock() - began)
    return best, value
