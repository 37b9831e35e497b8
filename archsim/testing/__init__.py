"""Tools that put archsim itself, and variants from outside, to the test.

>>> from archsim.testing import conform
>>> print(conform(SarAdc, bits=6, full_scale="80 uA"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archsim.errors import ConformError

if TYPE_CHECKING:
    from archsim.testing.conformity import Conformity, conform

__all__ = ["ConformError", "Conformity", "conform"]


def __getattr__(name: str) -> Any:
    """Import on first use: the other tools in here need none of it."""
    if name not in {"Conformity", "conform"}:
        raise AttributeError(f"module 'archsim.testing' has no attribute {name!r}")
    from archsim.testing import conformity

    return getattr(conformity, name)
