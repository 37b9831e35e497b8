"""Per-head affine scalers of q, k, v and the output (FACTS 2.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.arguments import as_mapping
from archsim.arrays import real_array
from archsim.errors import ConfigError
from archsim.machine.compiled import Kernel
from archsim.traces.scalers import GivenScalers, default_pairs

Array = NDArray[np.float64]
Scalers = GivenScalers


def resolve_scalers(
    scalers: Scalers | None, heads: int, mid_rail: float
) -> dict[str, tuple[Array, Array]]:
    """Per-head (a, b) for q, k, v and output, defaults about `mid_rail` (V) filled in.

    Raises ConfigError for an unknown name, a wrong shape, or a value that is not finite.
    """
    given = as_mapping({} if scalers is None else scalers, "scalers", "{'q': (1.0, 0.5)}")
    defaults = default_pairs(mid_rail)
    unknown = given.keys() - defaults.keys()
    if unknown:
        raise ConfigError(f"scalers: unknown name {sorted(unknown)[0]!r}; use q, k, v, output")
    resolved = {}
    for name, default in defaults.items():
        try:
            first, second = given.get(name, default)
        except (TypeError, ValueError):
            raise ConfigError(f"scalers.{name}: give a pair (a, b) of numbers") from None
        a, b = (
            real_array(value, f"scalers.{name}").astype(np.float64) for value in (first, second)
        )
        for array in (a, b):
            if array.shape not in {(), (heads,)} or not np.isfinite(array).all():
                raise ConfigError(f"scalers.{name}: a and b must be finite, of shape ({heads},)")
        resolved[name] = (np.broadcast_to(a, (heads,)), np.broadcast_to(b, (heads,)))
    return resolved


def scale(x: Array, a: float, b: float, out: Array, compiled: bool = False) -> bool:
    """``a x + b`` into `out` (tokens, features) (FACTS 2.2); whether all of it is finite."""
    out[...] = x
    if compiled:
        return _scale(out, a, b) == 0
    with np.errstate(over="ignore", invalid="ignore"):  # found, and told, by who asks
        out *= a
        out += b
    return bool(np.isfinite(out).all())


@Kernel
def _scale(x: Array, a: float, b: float) -> int:
    """``a x + b`` in place, (tokens, features); how many are not finite."""
    infinite = 0
    tokens, features = x.shape
    for i in range(tokens):
        for d in range(features):
            y = x[i, d] * a + b
            x[i, d] = y
            infinite += y - y != 0
    return infinite
