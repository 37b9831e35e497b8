"""The accelerator beside GPUs: the paper's own workload, and the user's trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

from archsim.calibration import Calibration, calibrate, representative_heads
from archsim.comparison.accelerator import AcceleratorFigures
from archsim.comparison.compare import Comparison, ComparisonRow, compare
from archsim.comparison.request import Request
from archsim.comparison.transformer import GPT2_SMALL, ModelComparison, ModelRow, compare_models
from archsim.config.section import is_read, reads_recorded
from archsim.errors import ConfigError
from archsim.gpu.file import Gpu
from archsim.hardware.calibration_workload import HEADS
from archsim.hardware.load import Hardware
from archsim.result import Result
from archsim.retention import Retention, retention_of
from archsim.units import NANOSECOND, PICOJOULE, SQUARE_MILLIMETRE

SCHEMA_VERSION = 5

Shape = Literal["paper", "trace"]
"""Of the rows: the paper's 12 heads x 64 at the hardware's window, or those of a trace."""


@dataclass(frozen=True)
class GpuComparison:
    """Attention of one layer beside GPUs: one shape on both sides, measured and modelled.

    That is the calibration workload's, 12 heads at the hardware's window, or the trace's if `shape`
    says so. Protocol ``paper`` stands against the calibration workload in both cases. `calibrated`
    is the hardware on that workload, `full_window` the same with the window that `request` was made
    with, if there was one. `parts` differ in their accelerator figures.
    """

    hardware: Hardware
    request: Request
    shape: Shape
    calibrated: AcceleratorFigures
    full_window: AcceleratorFigures
    parts: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    """What the accelerator's figures were not fitted for."""
    unread: tuple[str, ...] = ()
    """Keys set by override that no run of the hardware read."""

    def __repr__(self) -> str:
        return f"<GpuComparison of {self.hardware.name}: {len(self.rows)} rows>"

    @property
    def rows(self) -> tuple[ComparisonRow, ...]:
        """All rows, by protocol and GPU; of a GPU the measured ones first."""
        return tuple(row for part in self.parts for row in part.rows)

    @property
    def accelerators(self) -> dict[str, AcceleratorFigures]:
        """The accelerator's figures by the workload that rows name."""
        return {p.accelerator.workload: p.accelerator for p in self.parts if p.rows}

    @cached_property
    def retention(self) -> Retention:
        """What the hardware forgets; nothing of it is in these rows' time and energy."""
        return retention_of(self.hardware.changed({"window": self.full_window.window}))

    @property
    def omitted(self) -> tuple[str, ...]:
        """What was left out, each with its reason."""
        return tuple(reason for part in self.parts for reason in part.omitted)

    def document(self) -> dict[str, Any]:
        """One JSON document; every row says which workload it is for."""
        return {
            "schema_version": SCHEMA_VERSION,
            "scope": "attention",
            "shape": self.shape,
            "notes": list(self.notes),
            "accelerators": {name: asdict(found) for name, found in self.accelerators.items()},
            "retention": self.retention.document(),
            "rows": [asdict(row) for row in self.rows],
            "omitted": list(self.omitted),
            "unread_parameters": list(self.unread),
        }


@dataclass(frozen=True)
class WholeModelComparison:
    """A whole token of GPT-2 beside GPUs; the rest of the token is computed as assumed."""

    hardware: Hardware
    comparison: ModelComparison
    request: Request
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    """Keys set by override that neither the run of the hardware nor the rest of a token read."""

    def __repr__(self) -> str:
        return f"<WholeModelComparison of {self.hardware.name}: {len(self.rows)} rows>"

    @cached_property
    def retention(self) -> Retention:
        """What the hardware forgets while it takes this comparison's own step, of most sequences.

        With a batch the cells of every sequence age by the whole step.
        """
        return retention_of(self.hardware, batch=max(self._batches))

    @property
    def retention_alone(self) -> Retention | None:
        """The same of a single sequence, where there are rows of one beside those of a batch."""
        return retention_of(self.hardware) if {1} < self._batches else None

    @property
    def _batches(self) -> set[int]:
        return {row.batch for row in self.rows} or {1}

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
            "notes": list(self.notes),
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
            "unread_parameters": list(self.unread),
        }


def trace_figures(result: Result) -> AcceleratorFigures:
    """The accelerator on the simulated trace: means over its tokens, one layer, all heads."""
    simulation = result.simulation
    trace = simulation.trace
    attended = simulation.head.sub_tiles.columns_attended(trace.tokens)
    per_head = {name: PICOJOULE.si(pj) for name, pj in result.energy_per_token_per_head_pj.items()}
    return AcceleratorFigures(
        name=simulation.hardware.name,
        workload="trace",
        attention_latency_s=NANOSECOND.si(result.latency.layer_ns.mean),
        energy_per_token_j=per_head["total"] * trace.heads,
        static_energy_j=(per_head["static"] + per_head["refresh"]) * trace.heads,
        static_power_w=simulation.head.standing_power * trace.heads,
        gaps_s=gaps_s(result),
        area_m2=SQUARE_MILLIMETRE.si(result.area_mm2.per_head * trace.heads),
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


def gaps_s(result: Result) -> float:
    """Seconds that a token of a simulated trace spends between layers and before the next token."""
    declaration = result.simulation.declaration
    between = (result.simulation.trace.layers - 1) * declaration.layer_gap
    return (between + declaration.token_gap) * declaration.clock.seconds


def calibration_figures(
    calibration: Calibration, layers: int = GPT2_SMALL.layers
) -> AcceleratorFigures:
    """The accelerator on the calibration workload: one of a token's `layers`, full window."""
    simulation = calibration.simulation
    trace = simulation.trace
    return AcceleratorFigures(
        name=simulation.hardware.name,
        workload="calibration",
        attention_latency_s=NANOSECOND.si(calibration.attention_ns),
        energy_per_token_j=PICOJOULE.si(calibration.total_pj(layers)) * trace.heads,
        static_energy_j=PICOJOULE.si(calibration.static_pj(layers)) * trace.heads,
        static_power_w=simulation.head.standing_power * trace.heads,
        gaps_s=NANOSECOND.si(calibration.gaps_ns(layers)),
        area_m2=SQUARE_MILLIMETRE.si(calibration.area_mm2() * trace.heads),
        boundary_bytes=sum(Result(simulation).interface.values()),
        layers=layers,
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
    hardware: Hardware,
    gpus: Sequence[Gpu],
    request: Request | None = None,
    window: int | None = None,
    result: Result | None = None,
) -> GpuComparison:
    """Compare `hardware` with GPUs on the calibration workload, or in the shape of `result`.

    With `window` the hardware is given that window, and all protocols but ``paper`` compare a full
    window of it: of the trace only its heads and layers count then. Raises ConfigError for a window
    that cannot be, or that no protocol asked for could have.
    """
    request = request or Request()
    if window is not None and set(request.protocols) == {"paper"}:
        raise ConfigError("window: protocol paper has its own; use another protocol")
    calibration = calibrate(hardware)
    calibrated = calibration_figures(calibration)
    full = calibrated
    if window is not None:
        full = replace(
            calibration_figures(calibrate(hardware.changed({"window": window}))),
            workload="window",
            protocol_note="uniform values, full window as asked for, simulated",
        )
    shaped = full if result is None else _shape_of(result, full, window)
    paper = tuple(name for name in request.protocols if name == "paper")
    others = tuple(name for name in request.protocols if name != "paper")
    parts: list[Comparison] = []
    if paper:
        parts.append(compare(calibrated, gpus, replace(request, protocols=paper, batch=None)))
    if others:
        parts.append(compare(shaped, gpus, replace(request, protocols=others)))
    shape: Shape = "paper" if result is None else "trace"
    notes = hardware.notes if result is None else tuple(result.simulation.notes)
    unread = {*calibration.simulation.unread}.intersection(hardware.overridden)
    if result is not None:
        unread &= {*result.simulation.unread}
    told = tuple(sorted(unread))
    return GpuComparison(hardware, request, shape, calibrated, full, tuple(parts), notes, told)


def _shape_of(result: Result, full: AcceleratorFigures, window: int | None) -> AcceleratorFigures:
    """The accelerator in the shape of a trace: on it, or on a full `window` with its heads."""
    trace = result.simulation.trace
    if window is None:
        return trace_figures(result)
    if (trace.heads, trace.layers) == (full.heads, full.layers):
        return full
    resized = result.simulation.hardware.changed({"window": window})
    return replace(
        calibration_figures(calibrate(resized, trace.heads), trace.layers),
        workload="window, heads of the trace",
        protocol_note="uniform values, full window as asked for, heads and layers of the trace",
    )


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
    calibration = calibrate(hardware, features=GPT2_SMALL.head_dim)
    figures = calibration_figures(calibration)
    request = request or Request()
    with reads_recorded() as reads:
        found = compare_models(figures, hardware.config.digital, gpus, request)
    unread = {*calibration.simulation.unread}.intersection(hardware.overridden)
    left = tuple(sorted(key for key in unread if not is_read(hardware.config, key, reads)))
    return WholeModelComparison(hardware, found, request, hardware.notes, left)


def measured_figures(
    hardware: Hardware, gpu: Gpu
) -> tuple[AcceleratorFigures, tuple[ComparisonRow, ...], tuple[ModelRow, ...], tuple[str, ...]]:
    """`hardware` on the calibration workload, and what was measured on `gpu` at that very shape.

    Attention by every protocol with a warm and a cold cache, whole tokens at batch 1 and at the
    best batch measured; and why there is no row of attention where there is none.
    """
    figures = calibration_figures(calibrate(hardware))
    warm = compare(figures, [gpu], Request(), ["measured"])
    by_cache = Request(("latency", "throughput", "eager"), cache="cold")
    attention = (*warm.rows, *compare(figures, [gpu], by_cache, ["measured"]).rows)
    reasons = () if attention else warm.omitted
    shapes = {token.shape.shape for token in gpu.tokens if token.shape is not None}
    tokens: list[ModelRow] = []
    for shape in sorted(shapes, key=lambda shape: shape.name):
        if (shape.heads, shape.head_dim) == figures.shape[:2]:
            asked = Request(("latency", "throughput"))
            found = compare_models(figures, hardware.config.digital, [gpu], asked, shape)
            tokens += [row for row in found.rows if row.source == "measured"]
    once = {(row.batch, row.precision, row.latency_us): row for row in tokens}  # by two protocols
    return figures, attention, tuple(once.values()), reasons
