"""The accelerator beside GPUs: the paper's own workload, and the user's trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from archsim.baseline import AcceleratorFigures, Comparison, compare
from archsim.config.gpu import Gpu
from archsim.evaluation.calibration import Calibration, calibrate
from archsim.result import Result

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class GpuComparison:
    """`on_trace`: modelled rows for the trace's shape. `at_calibration`: rows that are measured.

    The measured points are for 12 heads x 64 at a full window, so they stand against the hardware
    on its calibration workload, whatever the trace is.
    """

    on_trace: Comparison
    at_calibration: Comparison

    def document(self) -> dict[str, Any]:
        """One JSON document; every row says which workload it is for."""
        parts = {"calibration": self.at_calibration, "trace": self.on_trace}
        return {
            "schema_version": SCHEMA_VERSION,
            "accelerators": {name: asdict(part.accelerator) for name, part in parts.items()},
            "rows": [
                {"workload": name, **asdict(row)}
                for name, part in parts.items()
                for row in part.rows
            ],
            "omitted": [reason for part in parts.values() for reason in part.omitted],
        }


def trace_figures(result: Result) -> AcceleratorFigures:
    """The accelerator on the simulated trace: means over its tokens, one layer, all heads."""
    simulation = result.simulation
    trace = simulation.trace
    attended = simulation.head.sub_tiles.columns_attended(trace.tokens)
    per_head = result.energy_per_token_per_head_pj["total"] * 1e-12
    return AcceleratorFigures(
        name=simulation.hardware.name,
        attention_latency_s=result.latency["attention_ns"]["mean"] * 1e-9,
        energy_per_token_j=per_head * trace.heads,
        layers=trace.layers,
        heads=trace.heads,
        head_dim=trace.head_dim,
        window=max(1, round(attended / trace.tokens)),
        protocol_note=(
            f"trace {trace.name}, mean over {trace.tokens} tokens; the window is the mean number "
            "of tokens attended to"
        ),
    )


def calibration_figures(calibration: Calibration) -> AcceleratorFigures:
    """The accelerator on the calibration workload: one layer x 12 heads, full window."""
    simulation = calibration.simulation
    trace = simulation.trace
    return AcceleratorFigures(
        name=simulation.hardware.name,
        attention_latency_s=calibration.attention_ns * 1e-9,
        energy_per_token_j=calibration.total_pj() * 1e-12 * trace.heads,
        layers=1,
        heads=trace.heads,
        head_dim=trace.head_dim,
        window=simulation.head.sub_tiles.window,
        protocol_note="calibration workload, full window, simulated",
    )


def compare_with_gpus(result: Result, gpus: Sequence[Gpu]) -> GpuComparison:
    """Compare a simulated hardware with GPUs on its trace and on the calibration workload."""
    modelled = compare(trace_figures(result), gpus)
    measured = compare(calibration_figures(calibrate(result.simulation.hardware)), gpus)
    return GpuComparison(
        replace(modelled, rows=tuple(r for r in modelled.rows if r.source == "model"), omitted=()),
        replace(measured, rows=tuple(r for r in measured.rows if r.source != "model")),
    )
