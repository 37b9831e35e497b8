"""GPUs beside the accelerator: a model of decode attention, and published measurements.

Knows `archsim.config` only; the accelerator comes in as a few figures (`AcceleratorFigures`).
"""

from archsim.baseline.accelerator import AcceleratorFigures
from archsim.baseline.capacity import Capacity
from archsim.baseline.compare import (
    Comparison,
    ComparisonRow,
    compare,
)
from archsim.baseline.protocols import ProtocolDescription, protocols
from archsim.baseline.request import Request
from archsim.baseline.roofline import DecodeAttention, RooflineEstimate, estimate
from archsim.baseline.validation import GpuValidation, Prediction, validate_gpu

__all__ = [
    "AcceleratorFigures",
    "Capacity",
    "Comparison",
    "ComparisonRow",
    "DecodeAttention",
    "GpuValidation",
    "Prediction",
    "ProtocolDescription",
    "Request",
    "RooflineEstimate",
    "compare",
    "estimate",
    "protocols",
    "validate_gpu",
]
