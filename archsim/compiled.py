"""Compiling with numba where it is installed (extra ``[fast]``), plain Python where it is not.

Import a module that uses `jit` only where its functions are needed: numba takes half a second.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeVar, cast

from archsim.errors import ConfigError

Function = TypeVar("Function", bound=Callable[..., object])

SWITCH = "ARCHSIM_COMPILED"
"""Environment variable: 0 never compiles, 1 always does, unset compiles where it pays."""


def available() -> bool:
    """Whether numba is installed; does not import it."""
    return find_spec("numba") is not None


def pays(large: bool) -> bool:
    """Whether to use compiled code: asked for, loaded already, or the work is `large`.

    Raises ConfigError if `SWITCH` asks for numba and it is not installed.
    """
    asked = os.environ.get(SWITCH, "")
    if asked not in {"", "0", "1"}:
        raise ConfigError(f"{SWITCH}={asked}: use 0, 1 or nothing")
    if asked == "1" and not available():
        raise ConfigError(f"{SWITCH}=1 needs numba: pip install 'archsim[fast]'")
    if asked:
        return asked == "1"
    return available() and (large or "numba" in sys.modules)


def jit(function: Function) -> Function:
    """The function compiled, without the interpreter's lock and kept on disk where possible."""
    if not available() or os.environ.get(SWITCH) == "0":
        return function
    import numba

    try:
        compiled = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder where compiled code could be kept
        compiled = numba.njit(nogil=True)(function)
    return cast("Function", compiled)
