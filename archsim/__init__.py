"""archsim: a cycle-level simulator of in-memory attention accelerators.

>>> import archsim
>>> result = archsim.simulate("reference-adapted", "gaincell-28nm")
>>> result.latency["attention_ns"]["mean"]
65.0

Everything a script needs is listed here; the modules behind it may move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archsim.accuracy.evaluation import Evaluation
    from archsim.accuracy.trace_loop import InLoop
    from archsim.adaptation.stages import AdaptationPlan
    from archsim.api import (
        adapt,
        attend,
        compare,
        compare_model,
        evaluate,
        explain,
        in_loop,
        judge_claims,
        simulate,
        sweep,
        validate,
    )
    from archsim.chip.variants import variant
    from archsim.comparison.hardware import GpuComparison, WholeModelComparison
    from archsim.datapath.activity import AttentionOutput
    from archsim.errors import ArchsimError
    from archsim.gpu.file import Gpu, load_gpu
    from archsim.hardware.load import Hardware, load_hardware
    from archsim.report.explain import Explanation
    from archsim.result import Result
    from archsim.sweeps.definition import Sweep
    from archsim.sweeps.driver import Stop, Tally
    from archsim.sweeps.exploration import DesignPoint, Exploration
    from archsim.sweeps.point import Outcome
    from archsim.sweeps.shard import Shard
    from archsim.sweeps.sweep_file import load_sweep
    from archsim.traces.trace import Trace, load_trace
    from archsim.validation.claims import Claims
    from archsim.validation.published import Validation

    __version__: str

__all__ = [
    "AdaptationPlan",
    "ArchsimError",
    "AttentionOutput",
    "Claims",
    "DesignPoint",
    "Evaluation",
    "Explanation",
    "Exploration",
    "Gpu",
    "GpuComparison",
    "Hardware",
    "InLoop",
    "Outcome",
    "Result",
    "Shard",
    "Stop",
    "Sweep",
    "Tally",
    "Trace",
    "Validation",
    "WholeModelComparison",
    "adapt",
    "attend",
    "compare",
    "compare_model",
    "evaluate",
    "explain",
    "in_loop",
    "judge_claims",
    "load_gpu",
    "load_hardware",
    "load_sweep",
    "load_trace",
    "simulate",
    "sweep",
    "validate",
    "variant",
]

_HOMES = {
    "AdaptationPlan": "archsim.adaptation.stages",
    "ArchsimError": "archsim.errors",
    "AttentionOutput": "archsim.datapath.activity",
    "Claims": "archsim.validation.claims",
    "DesignPoint": "archsim.sweeps.exploration",
    "Evaluation": "archsim.accuracy.evaluation",
    "Explanation": "archsim.report.explain",
    "Exploration": "archsim.sweeps.exploration",
    "Gpu": "archsim.gpu.file",
    "GpuComparison": "archsim.comparison.hardware",
    "Hardware": "archsim.hardware.load",
    "InLoop": "archsim.accuracy.trace_loop",
    "Outcome": "archsim.sweeps.point",
    "Result": "archsim.result",
    "Shard": "archsim.sweeps.shard",
    "Stop": "archsim.sweeps.driver",
    "Sweep": "archsim.sweeps.definition",
    "Tally": "archsim.sweeps.driver",
    "Trace": "archsim.traces.trace",
    "Validation": "archsim.validation.published",
    "WholeModelComparison": "archsim.comparison.hardware",
    "adapt": "archsim.api",
    "attend": "archsim.api",
    "compare": "archsim.api",
    "compare_model": "archsim.api",
    "evaluate": "archsim.api",
    "explain": "archsim.api",
    "in_loop": "archsim.api",
    "judge_claims": "archsim.api",
    "load_gpu": "archsim.gpu.file",
    "load_hardware": "archsim.hardware.load",
    "load_sweep": "archsim.sweeps.sweep_file",
    "load_trace": "archsim.traces.trace",
    "simulate": "archsim.api",
    "sweep": "archsim.api",
    "validate": "archsim.api",
    "variant": "archsim.chip.variants",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``import archsim`` stays fast."""
    import importlib

    if name == "__version__":
        return _version()
    if name == "explore":  # its name up to 0.1
        import warnings

        warnings.warn("archsim.explore is now archsim.sweep", DeprecationWarning, stacklevel=2)
        name = "sweep"
    if name not in _HOMES:
        raise AttributeError(f"module 'archsim' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def _version() -> str:
    """Of the installed package; ``0+unknown`` where only its source is at hand."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("archsim")
    except PackageNotFoundError:
        return "0+unknown"


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
