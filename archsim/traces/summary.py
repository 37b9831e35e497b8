"""What a reader wants to know of a trace before using it: sizes, origin, ranges, saturation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.traces.scalers import SCALED, full_range, saturation
from archsim.traces.trace import Trace

SCHEMA_VERSION = 1


def summarise(trace: Trace) -> dict[str, Any]:
    """A JSON-ready summary.

    ``manifest`` is the manifest; ``tensors`` has for q, k and v the minimum, maximum, mean and
    standard deviation before the scalers and the share of values that saturate after them;
    ``scalers`` has the smallest and largest a and b over layers and heads, ``voltages`` the cells
    they were made for.
    """
    tensors = {}
    for name, x in (("q", trace.q), ("k", trace.k), ("v", trace.v)):
        tensors[name] = _statistics(x) | {
            "saturated": saturation(x, trace.scalers[name], full_range(name, trace.voltages))
        }
    scalers = {}
    for name in SCALED:
        a, b = trace.scalers[name]
        scalers[name] = {
            "a_min": float(a.min()),
            "a_max": float(a.max()),
            "b_min": float(b.min()),
            "b_max": float(b.max()),
        }
    return {
        "schema_version": SCHEMA_VERSION,
        "manifest": trace.manifest.model_dump(mode="json"),
        "tensors": tensors,
        "scalers": scalers,
        "voltages": {"supply_v": trace.voltages.supply, "mid_rail_v": trace.voltages.mid_rail},
    }


def _statistics(x: NDArray[Any]) -> dict[str, float]:
    """Minimum, maximum, mean and standard deviation, summed in float64 a layer at a time."""
    total = squares = 0.0
    for layer in x:
        values = layer.astype(np.float64)
        total += float(values.sum())
    mean = total / x.size
    for layer in x:
        squares += float(((layer.astype(np.float64) - mean) ** 2).sum())
    return {
        "min": float(x.min()),
        "max": float(x.max()),
        "mean": mean,
        "std": float(np.sqrt(squares / x.size)),
    }
