"""Every published figure beside ours (FACTS 1 to 5): made to meet, arithmetic, or predicted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from archsim.calibration import PUBLISHED_BUCKETS, Calibration, Fit, calibrate
from archsim.chip.accumulator import adder_sharing
from archsim.chip.action import BUCKETS, Law, rests_on
from archsim.chip.array import geometry
from archsim.chip.cell import cell_area, current_law, silent_at, swing
from archsim.chip.controller import clock_period
from archsim.chip.converter import buffers, output_full_scale, score_full_scale
from archsim.chip.head import WAITING, WORK, Head
from archsim.chip.pulse_generator import generator_sharing
from archsim.chip.pulses import longest_converted, longest_query
from archsim.chip.retention import decay_per_token
from archsim.chip.write_path import driver_sharing
from archsim.comparison.compare import ComparisonRow, compare
from archsim.comparison.hardware import calibration_figures
from archsim.comparison.request import Request
from archsim.config.published import published_of
from archsim.figures import figure as figure_of
from archsim.gpu.file import available_gpus, load_gpu
from archsim.hardware.calibration_workload import HEADS
from archsim.hardware.load import DEFAULT_HARDWARE, Hardware, load_hardware
from archsim.retention import Retention, retention_of, with_token_period
from archsim.units import MICROAMPERE_SECOND, NANOJOULE, PICOCOULOMB, PICOJOULE, SQUARE_MILLIMETRE
from archsim.validation import predictions
from archsim.validation.figures import Computed, Figure, Tolerance, figure, reads

SCHEMA_VERSION = 2

DENSE_HARDWARE = "gaincell-osfet"
ENERGY = "energy_per_token_per_head_pj."

EXACT = Tolerance(0.0, "whole numbers, and phases of whole nanoseconds")
ROUNDED = Tolerance(0.01, "published and fitted numbers are rounded to three or four digits")
AREA = Tolerance(0.02, "published to one digit")
FITTED_LAW = Tolerance(0.05, "the polynomial is a fit of the table, 0.13 uA rms of 10 uA")
ROUND_STATEMENT = Tolerance(0.2, "stated as a round number; other software on the same GPU")
SHARES = Tolerance(0.25, "how the digital energy divides is assumed, each part to a factor of two")
CODES = Tolerance(2e-4, "8 codes: float32 vectors, where a value at a rounding edge may turn over")
OTHER_MODEL = Tolerance(1.0, "another model of another size on other text: within a factor of two")
OVERSHOOT = Tolerance(0.5, "another model of another size on other text: within half")


@dataclass(frozen=True)
class Validation:
    """All figures, and the coefficients that were fitted."""

    hardware: Hardware
    figures: list[Figure]
    fits: list[Fit]
    unread: tuple[str, ...] = ()
    """Keys set by override that no figure read."""

    def __repr__(self) -> str:
        outside = sum(not figure.passes for figure in self.figures)
        figures = f"{len(self.figures)} figures, {outside} out of tolerance"
        return f"<Validation of {self.hardware.name}: {figures}>"

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
    """Run the calibration workload on `hardware` and set every published figure beside it.

    Raises ConfigError as `calibrate` does, CorruptInputError for damaged reference data.
    """
    calibration = calibrate(hardware)
    reference = load_hardware(DEFAULT_HARDWARE)
    rows = (*simulated_rows(hardware, calibration), *_ratios(hardware, calibration))
    figures = [figure(*row, reference=reference) for row in rows]
    if not hardware.is_published:  # the paper says nothing about it
        figures = [replace(each, tolerance=None, tolerance_reason="") for each in figures]
    figures += [figure(*row, reference=row[2].hardware) for row in _of_other_designs(reference)]
    return Validation(hardware, figures, calibration.fits(), _unread(hardware, calibration))


def _unread(hardware: Hardware, calibration: Calibration) -> tuple[str, ...]:
    """Keys set by override that neither the run nor the row on retention read."""
    set_here = {*calibration.simulation.unread}.intersection(hardware.overridden)
    faded = {key for key in set_here if key.startswith("retention.")}
    return tuple(sorted({*(set_here - faded), *hardware.unused_overrides}))


Row = tuple[str, str, Computed, Tolerance]
"""Name in published.yaml, label, our value, and what passes."""


def simulated_rows(hardware: Hardware, calibration: Calibration) -> Iterator[Row]:
    """Figures of the accelerator alone."""
    yield from _headline(hardware, calibration)
    yield from _cell(hardware, calibration)
    yield from _predicted(hardware, calibration)


def _work(calibration: Calibration) -> tuple[Law, ...]:
    """What sets how much there is to do."""
    readout = calibration.simulation.head.readout
    return (*WORK, longest_query, longest_converted, *readout.work)


def _times(calibration: Calibration) -> tuple[Law, ...]:
    """What sets how long a token takes."""
    stages = calibration.simulation.declaration.stages
    early = calibration.simulation.head.controller.early_end
    laws = tuple(law for stage in stages for law in stage.laws)
    # what is digital starts on a clock edge
    return (*laws, *WAITING, clock_period, *(_work(calibration) if early else ()))


def _energy(calibration: Calibration, *buckets: str) -> tuple[Law, ...]:
    """What the energy of some buckets comes from."""
    postings = [p for p in calibration.simulation.ledger if p.action.bucket in buckets]
    costs = tuple(law for posting in postings for law in posting.action.laws)
    by_time = any(posting.action.stage == "head" for posting in postings)
    times = _times(calibration) if by_time else ()
    return (*costs, *_work(calibration), *times)


def _area(calibration: Calibration) -> tuple[Law, ...]:
    simulation = calibration.simulation
    blocks = simulation.head.footprints(simulation.trace.heads)
    counted = (geometry, buffers, driver_sharing, generator_sharing, adder_sharing)
    return (*(law for block in blocks for law in block.laws), *counted)


def _headline(hardware: Hardware, calibration: Calibration) -> Iterator[Row]:
    def here(value: float, laws: tuple[Law, ...], note: str) -> Computed:
        return Computed(hardware, value, reads(hardware, laws), note=note)

    split = "pulses published; times to write and to add chosen so that the sum holds"
    times = _times(calibration)
    yield ("attention_latency", "attention latency",
           here(calibration.attention_ns, times, split), EXACT)  # fmt: skip
    per, spent = "per token and head", calibration.buckets_pj()
    for bucket, name in PUBLISHED_BUCKETS.items():
        value = here(spent[bucket], _energy(calibration, bucket), per)
        yield (
            name,
            "energy DACs" if bucket == "dac" else figure_of(ENERGY + bucket).label,
            value,
            ROUNDED,
        )
    every, total = _energy(calibration, *BUCKETS), calibration.total_pj()
    yield "energy_head", "energy total", here(total, every, per), ROUNDED
    layer = here(PICOJOULE.to(NANOJOULE, total * HEADS), every, "per token and layer")
    yield "energy_layer", "energy, 12 heads", layer, ROUNDED
    area = here(calibration.area_mm2(), _area(calibration), "with digital")
    yield "head_area", "head area", area, AREA
    cells = calibration.simulation.head.cells
    count = here(cells.instances, (geometry,), "from window and array size")
    yield "head_cells", "cells of a head", count, EXACT
    area = here(SQUARE_MILLIMETRE.of(cells.area), (geometry, cell_area), "cells x area of one")
    yield "head_cell_area", "cell area of a head", area, ROUNDED


def _cell(hardware: Hardware, calibration: Calibration) -> Iterator[Row]:
    # with its decay, unlike the calibration run
    head = Head(with_token_period(hardware).config)
    cell, table = head.cell, "circuit-simulation table; ours is the polynomial"
    law = reads(hardware, (current_law, swing))
    root = min(silent_at(cell.law, *cell.deviations), key=abs, default=None)
    zero = None if root is None else root + cell.mid_rail
    silent = "" if root is not None else "this cell always sends a current"
    yield ("zero_current_voltage", "zero-current voltage",
           Computed(hardware, zero, law, note=table, unresolved=silent), ROUNDED)  # fmt: skip
    for name, label, volts in (
        ("cell_current_low", "cell current at 0 V", 0.0),
        ("cell_current_high", "cell current at the supply", cell.supply),
    ):
        yield name, label, Computed(hardware, _current(head, volts), law, note=table), FITTED_LAW
    score = MICROAMPERE_SECOND.to(
        PICOCOULOMB, head.laws.readout.saturation * head.pulse_generator.t_max
    )
    output = MICROAMPERE_SECOND.to(
        PICOCOULOMB, head.laws.output.full_scale * head.output_converters.t_max
    )
    scale = "saturation current x T_max"
    read = reads(hardware, (score_full_scale, longest_query))
    full = Computed(hardware, score, read, note=scale)
    yield "score_full_scale", "score full scale", full, ROUNDED
    read = reads(hardware, (output_full_scale, longest_converted))
    full = Computed(hardware, output, read, note=scale)
    yield "output_full_scale", "output full scale", full, ROUNDED
    yield "retention_window", "retention, full window", _retention(hardware, head), ROUNDED


def _retention(hardware: Hardware, head: Head) -> Computed:
    read = rests_on(hardware.config, (decay_per_token, geometry))
    read = tuple(name for name in read if not name.startswith("array."))
    if hardware.config.retention.model == "simulated":
        return Computed(
            hardware, None, read, unresolved="ages come with the times: no rate a token"
        )
    fade = math.exp(-head.cell.decay_per_token * (head.sub_tiles.window - 1))
    return Computed(hardware, fade, read, note="exp(-lambda (M - 1))")


def _current(head: Head, volts: float) -> float:
    import numpy as np

    return float(head.cell.current(np.array([volts - head.cell.mid_rail]))[0])


def _ratios(hardware: Hardware, calibration: Calibration) -> Iterator[Row]:
    """Published ratios to GPUs beside those of the protocol ``paper``, as measured."""
    accelerator = calibration_figures(calibration)
    paper = Request(protocols=("paper",))
    for name in available_gpus():
        stated = dict(published_of(name))
        if not stated:
            continue
        gpu = load_gpu(name)
        rows = [r for r in compare(accelerator, [gpu], paper).rows if r.source == "measured"]
        row = rows[0] if rows else None
        for key, known in stated.items():
            time = known.ratio == "time"
            laws = _times(calibration) if time else _energy(calibration, *BUCKETS)
            value = None if row is None else (row.speedup if time else row.energy_ratio)
            computed = Computed(
                hardware,
                value,
                reads(hardware, laws),
                (f"hwconfigs/gpus/{name}.yaml",),
                _measured_note(row, time),
                unresolved="" if row is not None else "no measurement of that shape",
            )
            by_authors = bool(known.of)  # their own measurement over their own figure
            tolerance = ROUNDED if by_authors else ROUND_STATEMENT
            yield key, f"{gpu.name}: {known.ratio} ratio", computed, tolerance


def _measured_note(row: ComparisonRow | None, time: bool) -> str:
    if row is None:
        return ""
    note = "protocol paper, as measured: batch 64, fp32, flawed (see docs/baseline.md)"
    if not time and row.total_energy_ratio is not None:
        note += f"; above idle, {row.total_energy_ratio:,.0f} with idle"
    return note


def _predicted(hardware: Hardware, calibration: Calibration) -> Iterator[Row]:
    power = Computed(
        hardware,
        predictions.top_digital_power(calibration),
        reads(hardware, _energy(calibration, "digital")),
        note="ours: the phase that draws most; stated x latency is nearly twice the digital energy",
    )
    yield "digital_power", "digital power, top phase", power, SHARES
    codes = predictions.golden_codes(hardware)
    yield "golden_codes", "codes of golden vectors", codes, CODES


def _of_other_designs(reference: Hardware) -> Iterator[Row]:
    """Figures that are not of the hardware that is validated, but of one that is shipped."""
    dense = load_hardware(DENSE_HARDWARE)
    crossbars = SQUARE_MILLIMETRE.of(Head(dense.config).cells.area)
    of_cells = Computed(dense, crossbars, reads(dense, (geometry, cell_area)),
                        note="the cell's area is derived from it")  # fmt: skip
    yield "crossbars_dense", "dense crossbars of a head", of_cells, ROUNDED
    yield "stacked_area", "head area, 3-D, per layer", Computed(dense, None), ROUNDED
    adapted = replace(reference, name=predictions.ADAPTED)
    passes, first = predictions.matching_passes(adapted), predictions.matching_overshoot(adapted)
    yield "matching_losses", "passes of matching", passes, OTHER_MODEL
    yield "matching_losses", "first pass of matching", first, OVERSHOOT
    order, rise = predictions.knee_order(adapted), predictions.knee_rise(adapted)
    yield "quantisation_losses", "knee, points in order", order, EXACT
    yield "quantisation_losses", "knee, rise at (16, 4)", rise, EXACT
