"""Clocks, and what a part of the benchmarks returns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def environment(**variables: object) -> Iterator[None]:
    """Environment variables of this process for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update({name: str(value) for name, value in variables.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
