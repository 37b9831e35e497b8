"""Arrays as callers have them, as numpy arrays: lists, tensors, other libraries' number formats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import ConfigError, one_line

_KEPT = ("float16", "float32", "float64")


def real_array(x: ArrayLike, name: str) -> NDArray[Any]:
    """`x` as a floating-point array; float16, float32 and float64 are kept.

    bfloat16 (and smaller formats of torch) becomes float32, which holds it exactly; integers,
    booleans and long doubles become float64. A torch tensor may need a gradient, or lie on another
    device; lists may hold tensors. No copy is made where none is needed.

    Raises ConfigError, which calls the array `name`, for anything that is no array of real numbers.
    """
    array = number_array(x, name)
    return array if array.dtype.name in _KEPT else array.astype(np.float64)


def number_array(x: ArrayLike, name: str) -> NDArray[Any]:
    """`x` as an array of real numbers, integers as they are; see `real_array`."""
    try:
        array = _plain(x)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged, sparse, without data, ...
        reason = one_line(error, 120)
        raise ConfigError(f"{name}: {_kind(x)} is no array of real numbers ({reason})") from None
    if array.dtype.kind not in "fiub":
        raise ConfigError(
            f"{name}: {_kind(x)} with dtype {array.dtype} is no array of real numbers; give "
            "float16, float32, float64, bfloat16 or integers"
        )
    return array


def _plain(x: Any) -> NDArray[Any]:
    if isinstance(x, np.ma.MaskedArray):
        raise ValueError("masked values have no meaning here; fill them first")
    if hasattr(x, "detach") and hasattr(x, "cpu"):  # a torch tensor, without importing torch
        tensor = x.detach().cpu()
        if tensor.is_floating_point() and str(tensor.dtype).removeprefix("torch.") not in _KEPT:
            tensor = tensor.float()
        return np.asarray(tensor.numpy())
    if isinstance(x, list | tuple) and any(hasattr(e, "detach") for e in _leaves(x)):
        return np.stack([_plain(element) for element in x])
    array = np.asarray(x)
    # numpy knows bfloat16 only by the package ml_dtypes, as a type of no kind
    return (
        array.astype(np.float32)
        if "float" in array.dtype.name and array.dtype.kind == "V"
        else array
    )


def _leaves(x: Any) -> list[Any]:
    """The first element at every depth of nested lists."""
    found = []
    while isinstance(x, list | tuple) and x:
        x = x[0]
        found.append(x)
    return found


def _kind(x: object) -> str:
    return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
