"""archsim: a cycle-level simulator of in-memory attention accelerators.

>>> import archsim
>>> result = archsim.simulate(archsim.load_trace("reference"), archsim.load_hardware())
>>> result.latency["attention_ns"]["mean"]
65.0

Everything a script needs is listed here; the modules behind it may move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archsim.api import (
        adapt,
        attend,
        compare,
        compare_model,
        evaluate,
        judge_claims,
        simulate,
        validate,
    )
    from archsim.chip.variants import variant
    from archsim.errors import ArchsimError
    from archsim.gpu.file import load_gpu
    from archsim.hardware.load import load_hardware
    from archsim.sweeps.definition import load_sweep
    from archsim.sweeps.exploration import explore
    from archsim.traces.trace import Trace, load_trace

__all__ = [
    "ArchsimError",
    "Trace",
    "adapt",
    "attend",
    "compare",
    "compare_model",
    "evaluate",
    "explore",
    "judge_claims",
    "load_gpu",
    "load_hardware",
    "load_sweep",
    "load_trace",
    "simulate",
    "validate",
    "variant",
]

_HOMES = {
    "ArchsimError": "archsim.errors",
    "Trace": "archsim.traces.trace",
    "adapt": "archsim.api",
    "attend": "archsim.api",
    "compare": "archsim.api",
    "compare_model": "archsim.api",
    "evaluate": "archsim.api",
    "judge_claims": "archsim.api",
    "load_gpu": "archsim.gpu.file",
    "explore": "archsim.sweeps.exploration",
    "load_hardware": "archsim.hardware.load",
    "load_sweep": "archsim.sweeps.definition",
    "load_trace": "archsim.traces.trace",
    "simulate": "archsim.api",
    "validate": "archsim.api",
    "variant": "archsim.chip.variants",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``import archsim`` stays fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'archsim' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
