"""GPUs beside the accelerator: a roofline for decode attention, and published measurements.

Knows `archsim.config` only; the accelerator comes in as a few figures (`AcceleratorFigures`).
"""

from archsim.baseline.compare import (
    AcceleratorFigures,
    Comparison,
    ComparisonRow,
    ProtocolDescription,
    compare,
    protocols,
)
from archsim.baseline.roofline import DecodeAttention, RooflineEstimate, estimate

__all__ = [
    "AcceleratorFigures",
    "Comparison",
    "ComparisonRow",
    "DecodeAttention",
    "ProtocolDescription",
    "RooflineEstimate",
    "compare",
    "estimate",
    "protocols",
]
