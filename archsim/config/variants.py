"""stub"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T", bound=type)
_KNOWN: dict[str, dict[str, type]] = {}


def variant(slot: str, name: str) -> Callable[[T], T]:
    def register(cls: T) -> T:
        _KNOWN.setdefault(slot, {})[name] = cls
        return cls

    return register


def find(slot: str, name: str) -> Any:
    import importlib

    importlib.import_module("archsim.chip.variants")

    return _KNOWN[slot][name]
