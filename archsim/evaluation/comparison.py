"""The accelerator beside GPUs: the paper's own workload, and the user's trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from archsim.baseline import AcceleratorFigures, Comparison, ComparisonRow, Request, compare
from archsim.baseline.transformer import GPT2_SMALL, ModelComparison, ModelRow, compare_models
from archsim.config.gpu import Gpu
from archsim.config.hardware import Hardware
from archsim.errors import ConfigError
from archsim.evaluation.calibration import Calibration, calibrate, representative_heads
from archsim.result import Result
from archsim.retention import Retention, retention_of
from archsim.workload.calibration import HEADS

SCHEMA_VERSION = 3


@dataclass(frozen=True)
class GpuComparison:
    """Attention of one layer beside GPUs, in parts that each have their own accelerator figures.

    Protocol ``paper``, and what was measured, stand against the calibration workload, whatever the
    trace is: those points are for 12 heads x 64. Modelled rows are for the trace's shape.
    `calibrated` is the hardware on the calibration workload, `full_window` the same with the window
    that `request` was made with, if there was one.
    """

    hardware: Hardware
    request: Request
    calibrated: AcceleratorFigures
    full_window: AcceleratorFigures
    parts: tuple[Comparison, ...]

    @property
    def rows(self) -> tuple[ComparisonRow, ...]:
        """All rows, the modelled ones last."""
        return tuple(row for part in self.parts for row in part.rows)

    @property
    def accelerators(self) -> dict[str, AcceleratorFigures]:
        """The accelerator's figures by the workload that rows name."""
        return {p.accelerator.workload: p.accelerator for p in self.parts if p.rows}

    @cached_property
    def retention(self) -> Retention:
        """What the hardware forgets; nothing of it is in these rows' time and energy."""
        return retention_of(self.hardware)

    @property
    def omitted(self) -> tuple[str, ...]:
        """What was left out, each with its reason."""
        return tuple(reason for part in self.parts for reason in part.omitted)

    def document(self) -> dict[str, Any]:
        """One JSON document; every row says which workload it is for."""
        return {
            "schema_version": SCHEMA_VERSION,
            "scope": "attention",
            "accelerators": {name: asdict(found) for name, found in self.accelerators.items()},
            "retention": self.retention.document(),
            "rows": [asdict(row) for row in self.rows],
            "omitted": list(self.omitted),
        }


@dataclass(frozen=True)
class WholeModelComparison:
    """A whole token of GPT-2 beside GPUs; the rest of the token is computed as assumed."""

    hardware: Hardware
    comparison: ModelComparison
    request: Request

    @cached_property
    def retention(self) -> Retention:
        """What the hardware forgets while it takes this comparison's own time for a token."""
        return retention_of(self.hardware)

    @property
    def rows(self) -> tuple[ModelRow, ...]:
        """All rows."""
        return self.comparison.rows

    def document(self) -> dict[str, Any]:
        """One JSON document, the assumption about the rest of the token included."""
        found = self.comparison
        return {
            "schema_version": SCHEMA_VERSION,
            "scope": "model",
            "model": {
                **asdict(found.shape),
                "macs_per_token": found.shape.macs,
                "weights": found.shape.weights,
            },
            "accelerator": {
                **asdict(found.accelerator),
                "digital": found.digital.model_dump(),
            },
            "retention": self.retention.document(),
            "rows": [asdict(row) for row in found.rows],
            "omitted": list(found.omitted),
        }


def trace_figures(result: Result) -> AcceleratorFigures:
    """The accelerator on the simulated trace: means over its tokens, one layer, all heads."""
    simulation = result.simulation
    trace = simulation.trace
    attended = simulation.head.sub_tiles.columns_attended(trace.tokens)
    per_head = {name: pj * 1e-12 for name, pj in result.energy_per_token_per_head_pj.items()}
    return AcceleratorFigures(
        name=simulation.hardware.name,
        workload="trace",
        attention_latency_s=result.latency["layer_ns"]["mean"] * 1e-9,
        energy_per_token_j=per_head["total"] * trace.heads,
        static_energy_j=per_head["static"] * trace.heads,
        static_power_w=simulation.head.controller.static_power * trace.heads,
        area_m2=result.area_mm2["per_head"] * trace.heads * 1e-6,
        boundary_bytes=sum(result.interface.values()) / trace.layers,
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
    """The accelerator on the calibration workload: one layer, full window."""
    simulation = calibration.simulation
    trace = simulation.trace
    return AcceleratorFigures(
        name=simulation.hardware.name,
        workload="calibration",
        attention_latency_s=calibration.attention_ns * 1e-9,
        energy_per_token_j=calibration.total_pj() * 1e-12 * trace.heads,
        static_energy_j=calibration.static_pj() * 1e-12 * trace.heads,
        static_power_w=simulation.head.controller.static_power * trace.heads,
        area_m2=calibration.area_mm2() * trace.heads * 1e-6,
        boundary_bytes=sum(Result(simulation).interface.values()),
        layers=GPT2_SMALL.layers,
        heads=trace.heads,
        head_dim=trace.head_dim,
        window=simulation.head.sub_tiles.window,
        protocol_note="calibration workload, full window, simulated",
    )


def window_figures(hardware: Hardware, window: int) -> AcceleratorFigures:
    """The accelerator with another window, full, on the calibration workload.

    Heads that share no block do not differ but in their random values: one is simulated then, and
    `HEADS` are reported. Raises ConfigError for a window that cannot be.
    """
    resized = hardware.changed({"window": window})
    heads = representative_heads(resized, 1)
    found = calibration_figures(calibrate(resized, heads))
    times = HEADS // heads
    return replace(
        found,
        heads=HEADS,
        energy_per_token_j=found.energy_per_token_j * times,
        static_energy_j=found.static_energy_j * times,
        static_power_w=found.static_power_w * times,
        area_m2=found.area_m2 * times,
        boundary_bytes=found.boundary_bytes * times,
    )


def compare_with_gpus(
    result: Result,
    gpus: Sequence[Gpu],
    request: Request | None = None,
    window: int | None = None,
) -> GpuComparison:
    """Compare a simulated hardware with GPUs on its trace and on the calibration workload.

    With `window` the hardware is given that window, and all protocols but ``paper`` compare a full
    window of it: of the trace only the number of heads counts then. Raises ConfigError for a window
    that cannot be, or that no protocol asked for could have.
    """
    request = request or Request()
    if window is not None and set(request.protocols) == {"paper"}:
        raise ConfigError("window: protocol paper has its own; use another protocol")
    hardware, heads = result.simulation.hardware, result.simulation.trace.heads
    calibrated = calibration_figures(calibrate(hardware))
    if window is None:
        measured_at, shaped = calibrated, trace_figures(result)
    else:
        resized = hardware.changed({"window": window})
        measured_at = replace(
            calibration_figures(calibrate(resized)),
            workload="window",
            protocol_note="uniform values, full window as asked for, simulated",
        )
        shaped = measured_at
        if heads != HEADS:
            shaped = replace(
                calibration_figures(calibrate(resized, heads)),
                workload="window, heads of the trace",
                layers=result.simulation.trace.layers,
                protocol_note="as above, with the heads of the trace",
            )
    paper = tuple(name for name in request.protocols if name == "paper")
    others = tuple(name for name in request.protocols if name != "paper")
    parts: list[Comparison] = []
    if paper:
        parts.append(compare(calibrated, gpus, replace(request, protocols=paper, batch=None)))
    if others:
        asked = replace(request, protocols=others)
        parts.append(compare(measured_at, gpus, asked, ["measured"]))
        parts.append(compare(shaped, gpus, asked, ["model"]))
    return GpuComparison(hardware, request, calibrated, measured_at, tuple(parts))


def compare_whole_model(
    hardware: Hardware,
    gpus: Sequence[Gpu],
    request: Request | None = None,
    window: int | None = None,
) -> WholeModelComparison:
    """Compare a token of GPT-2 small: attention on the calibration workload, the rest as assumed.

    Raises ConfigError if the hardware's heads are not those of the model.
    """
    if window is not None:
        hardware = hardware.changed({"window": window})
    figures = calibration_figures(calibrate(hardware, features=GPT2_SMALL.head_dim))
    request = request or Request()
    found = compare_models(figures, hardware.config.digital, gpus, request)
    return WholeModelComparison(hardware, found, request)


def measured_figures(
    hardware: Hardware, gpu: Gpu
) -> tuple[AcceleratorFigures, tuple[ComparisonRow, ...], tuple[ModelRow, ...]]:
    """`hardware` on the calibration workload, and what was measured on `gpu` at that very shape.

    Attention by every protocol, and whole tokens at batch 1 and at the best batch measured.
    """
    figures = calibration_figures(calibrate(hardware))
    attention = compare(figures, [gpu], Request(), ["measured"]).rows
    shapes = {token.shape.shape for token in gpu.tokens if token.shape is not None}
    tokens: list[ModelRow] = []
    for shape in sorted(shapes, key=lambda shape: shape.name):
        if (shape.heads, shape.head_dim) == figures.shape[:2]:
            asked = Request(("latency", "throughput"))
            found = compare_models(figures, hardware.config.digital, [gpu], asked, shape)
            tokens += [row for row in found.rows if row.source == "measured"]
    return figures, attention, tuple(dict.fromkeys(tokens))
