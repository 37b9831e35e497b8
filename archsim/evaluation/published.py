"""Every published figure beside ours (FACTS 1 to 4): what is fitted, predicted, or unresolved."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

from archsim.baseline import Request, compare
from archsim.components.head import Head
from archsim.config.gpu import load_gpu
from archsim.config.hardware import Hardware, load_hardware
from archsim.config.loading import inactive_leaves
from archsim.evaluation.calibration import (
    PUBLISHED_ATTENTION_NS,
    PUBLISHED_HEAD_MM2,
    PUBLISHED_PJ,
    Calibration,
    Fit,
    calibrate,
    representative_heads,
)
from archsim.evaluation.comparison import calibration_figures
from archsim.retention import Retention, retention_of, with_token_period

SCHEMA_VERSION = 1

Status = Literal["calibrated", "predicted", "assumed", "unresolved"]
"""What a figure's agreement is worth.

calibrated: a parameter was fitted to this very figure. predicted: nothing was fitted, it follows
from other inputs, some of them by plain arithmetic. assumed: unpublished parts chosen so that the
sum holds. unresolved: the sources contradict each other or say too little; decides nothing.
"""

BOUND_HEADS = 2
"""Heads of each rerun for bounds, if none share a block: fewer than the table's own run, so its
energy scatters by 1 %."""

DENSE_HARDWARE = "gaincell-osfet"
PAPER_GPUS = ("rtx-4090", "jetson-nano")
"""The GPUs that the authors measured; their files hold the points and the claimed ratios."""


@dataclass(frozen=True)
class Figure:
    """One published figure and ours; `tolerance` None decides nothing."""

    name: str
    unit: str
    published: float
    simulated: float | None
    status: Status
    tolerance: float | None
    config: str
    note: str

    @property
    def relative_error(self) -> float | None:
        """(ours - published) / published."""
        if self.simulated is None:
            return None
        return (self.simulated - self.published) / self.published

    @property
    def passes(self) -> bool:
        """Within tolerance, or without one."""
        if self.tolerance is None:
            return True
        error = self.relative_error
        return error is not None and abs(error) <= self.tolerance


@dataclass(frozen=True)
class Validation:
    """All figures, and the coefficients that were fitted."""

    hardware: Hardware
    figures: list[Figure]
    fits: list[Fit]

    @cached_property
    def retention(self) -> Retention:
        """The decay that the published figures assume beside that of a whole token's time."""
        return retention_of(self.hardware)

    @property
    def passes(self) -> bool:
        """Whether every figure that decides is within its tolerance.

        On the published design a fitted coefficient must be positive as well.
        """
        fits = not self.hardware.is_published or all(fit.fitted > 0 for fit in self.fits)
        return fits and all(figure.passes for figure in self.figures)

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "hardware": {"name": self.hardware.name, "config_sha256": self.hardware.sha256},
            "figures": [
                {**asdict(f), "relative_error": f.relative_error, "passes": f.passes}
                for f in self.figures
            ],
            "fits": [asdict(fit) for fit in self.fits],
            "retention": self.retention.document(),
            "passes": self.passes,
        }


def validate_hardware(hardware: Hardware) -> Validation:
    """Run the calibration workload on `hardware` and set every published figure beside it."""
    calibration = calibrate(hardware)
    figures = [
        *_headline(hardware, calibration),
        *_cell(
            hardware, Head(with_token_period(hardware).config)
        ),  # with its decay, unlike the calibration run
        *_ratios(hardware, calibration),
    ]
    if not hardware.is_published:  # the paper says nothing about it
        figures = [replace(figure, tolerance=None) for figure in figures]
    figures += [*_dense(), *_unresolved(hardware, calibration)]
    return Validation(hardware, figures, calibration.fits())


def _headline(hardware: Hardware, calibration: Calibration) -> list[Figure]:
    name, head = hardware.name, calibration.simulation.head
    buckets = calibration.buckets_pj()
    total = calibration.total_pj()
    blocks = head.footprints(calibration.simulation.trace.heads)
    cells = head.sub_tiles.footprint()
    labels = {
        "qk": "energy phi(Q.K)",
        "sv": "energy phi(S).V",
        "digital": "energy digital",
        "dac": "energy DACs",
    }
    per = "per token and head"
    return [
        Figure("attention latency", "ns", PUBLISHED_ATTENTION_NS, calibration.attention_ns,
               "assumed", 0.0, name,
               "3 x 15 ns of pulses published; 2 x 10 ns chosen so that the sum holds"),
        *(
            Figure(labels[bucket], "pJ", value, buckets[bucket], "calibrated", 0.01, name, per)
            for bucket, value in PUBLISHED_PJ.items()
        ),
        Figure("energy total", "pJ", sum(PUBLISHED_PJ.values()), total, "calibrated", 0.01, name,
               per),
        Figure("energy, 12 heads", "nJ", 73.8, total * 12e-3, "calibrated", 0.01, name,
               "per token and layer"),
        Figure("head area", "mm^2", PUBLISHED_HEAD_MM2, sum(b.area for b in blocks) * 1e6,
               "calibrated", 0.02, name, "with digital"),
        Figure("cells of a head", "cells", 131072, cells.instances, "predicted", 0.0, name,
               "from window and array size"),
        Figure("cell area of a head", "mm^2", 0.131, cells.area * 1e6, "predicted", 0.01, name,
               "cells x 1 um^2"),
    ]  # fmt: skip


def _cell(hardware: Hardware, head: Head) -> list[Figure]:
    name, cell = hardware.name, head.cell
    root = min(cell.silent_at, key=abs, default=None)
    zero = None if root is None else root + cell.mid_rail
    low, high = (_current(head, volts) for volts in (0.0, cell.supply))
    by_clock = hardware.config.retention.model == "simulated"  # no rate a token to speak of
    fade = None if by_clock else math.exp(-cell.decay_per_token * (head.sub_tiles.window - 1))
    table = "circuit-simulation table; ours is the polynomial"
    score = head.score_converter.saturation * head.pulse_generator.t_max * 1e6
    output = head.output_converter.saturation * head.output_converter.t_max * 1e6
    return [
        Figure("zero-current voltage", "V", 0.409, zero, "predicted", 0.01, name, table),
        Figure("cell current at 0 V", "uA", -10.149, low, "predicted", 0.05, name, table),
        Figure("cell current at 0.9 V", "uA", 9.973, high, "predicted", 0.05, name, table),
        Figure("score full scale", "pC", 1.2, score, "predicted", 0.01, name, "80 uA x T_max"),
        Figure("output full scale", "pC", 0.6, output, "predicted", 0.01, name, "40 uA x T_max"),
        Figure("retention, full window", "", 0.849, fade, "predicted", 0.01, name,
               "exp(-lambda (M - 1))"),
    ]  # fmt: skip


def _current(head: Head, volts: float) -> float:
    import numpy as np

    return float(head.cell.current(np.array([volts - head.cell.mid_rail]))[0])


def _dense() -> list[Figure]:
    head = Head(load_hardware(DENSE_HARDWARE).config)
    crossbars = head.sub_tiles.footprint().area * 1e6
    return [
        Figure("crossbars of a head, dense", "mm^2", 15.7e-3, crossbars, "calibrated", 0.01,
               DENSE_HARDWARE, "the cell's area is derived from it")
    ]  # fmt: skip


def _ratios(hardware: Hardware, calibration: Calibration) -> list[Figure]:
    figures = []
    accelerator = calibration_figures(calibration)
    paper = Request(protocols=("paper",))
    note = "authors' GPU measurement / ours; batch 64, fp32, flawed (see docs/baseline.md)"
    for gpu in (load_gpu(name) for name in PAPER_GPUS):
        assert gpu.claim is not None
        rows = [r for r in compare(accelerator, [gpu], paper).rows if r.source == "measured"]
        speed = rows[0].speedup if rows else None
        energy = rows[0].energy_ratio if rows else None
        figures += [
            Figure(f"{gpu.name}: time ratio", "x", gpu.claim.speedup, speed, "assumed", 0.01,
                   hardware.name, note),
            Figure(f"{gpu.name}: energy ratio", "x", gpu.claim.energy_ratio, energy, "calibrated",
                   0.01, hardware.name, note),
        ]  # fmt: skip
    return figures


def _unresolved(hardware: Hardware, calibration: Calibration) -> list[Figure]:
    digital_mw = calibration.buckets_pj()["digital"] / calibration.attention_ns
    return [
        Figure("digital power of a head", "mW", 113.7, digital_mw, "unresolved", None,
               hardware.name, "stated; with 4000 pJ it means 35 ns active, not 65"),
        Figure("head area, 3-D, per layer", "mm^2", 36.7e-3, None, "unresolved", None,
               DENSE_HARDWARE, "stated as 36.7e-3 / N; stacking is not modelled"),
    ]  # fmt: skip


@dataclass(frozen=True)
class Bound:
    """Headline results with one assumed parameter at its low and its high."""

    parameter: str
    low: str
    high: str
    attention_ns: tuple[float, float]
    energy_pj: tuple[float, float]
    area_mm2: tuple[float, float]


@dataclass(frozen=True)
class Bounds:
    """One-at-a-time sensitivity to everything assumed that has bounds in the YAML."""

    attention_ns: float
    energy_pj: float
    area_mm2: float
    bounds: list[Bound]

    def spread(self, name: str) -> tuple[float, float]:
        """Lowest and highest value of a headline result over all rows."""
        values = [v for b in self.bounds for v in getattr(b, name)] + [getattr(self, name)]
        return min(values), max(values)

    def document(self) -> dict[str, Any]:
        """What ``--json`` adds."""
        names = ("attention_ns", "energy_pj", "area_mm2")
        return {
            "nominal": {name: getattr(self, name) for name in names},
            "spread": {name: list(self.spread(name)) for name in names},
            "rows": [asdict(b) for b in self.bounds],
        }


def assumed_bounds(
    hardware: Hardware, progress: Callable[[int, int], None] | None = None
) -> Bounds:
    """Rerun the calibration workload with each bounded assumption at its low and its high.

    Fitted coefficients stay as they are: the spread is what the assumption alone is worth.
    """

    def headline(variant: Hardware) -> tuple[float, float, float]:
        run = calibrate(variant, representative_heads(variant, BOUND_HEADS))
        area = run.area_mm2()
        return run.attention_ns, run.total_pj(), area

    ranged = {
        parameter: (found.low, found.high)
        for parameter, found in hardware.provenance.items()
        if found.source == "assumed" and found.low is not None and found.high is not None
    }
    steady = hardware.changed({"retention.model": "off"})  # as the calibration workload runs
    for parameter in inactive_leaves(steady.config):
        ranged.pop(parameter, None)
    rows = []
    for done, (parameter, (low, high)) in enumerate(ranged.items()):
        if progress is not None:
            progress(done, len(ranged))
        at_low, at_high = (headline(hardware.changed({parameter: end})) for end in (low, high))
        pairs = list(zip(at_low, at_high, strict=True))
        rows.append(Bound(parameter, str(low), str(high), *pairs))
    return Bounds(*headline(hardware), rows)
