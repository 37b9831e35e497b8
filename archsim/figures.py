"""Every figure of a run, once: where it stands, its unit, what it is called and how to read it.

Tables, CSV heads, objectives of sweeps and rows of ``archsim validate`` take names, labels and
units from here. A figure's path is that of its value in ``result.json``, where `*` stands for any
name or place; ``tokens.csv/ready_ns`` is a column of a file. The values are `archsim.parts`'.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from archsim.units import (
    BYTES,
    DECIBEL,
    MICROSECOND,
    MILLISECOND,
    MILLIWATT,
    MILLIWATT_PER_SQUARE_MILLIMETRE,
    NANOSECOND,
    NATS,
    PICOJOULE,
    PICOJOULE_NANOSECOND,
    PLAIN,
    SECOND,
    SQUARE_MICROMETRE,
    SQUARE_MILLIMETRE,
    TERA_OPERATIONS,
    TERA_OPERATIONS_PER_AREA,
    TERA_OPERATIONS_PER_WATT,
    TOKENS,
    TOKENS_PER_SECOND,
    TOKENS_PER_SECOND_AND_AREA,
    Unit,
)

Better = Literal["lower", "higher", "neither"]

Total = Literal["latency", "energy", "area"]
"""A line of ``foundation``, which says how much of a total rests on assumed numbers."""


@dataclass(frozen=True)
class Figure:
    """One figure; `better` says how to read it, `rests_on` which totals it is made of.

    `name` is what sweeps and their objectives call it; empty for what no sweep keeps.
    """

    path: str
    label: str
    unit: Unit = PLAIN
    better: Better = "neither"
    rests_on: tuple[Total, ...] = ()
    name: str = ""

    @property
    def key(self) -> str:
        """The last part of its path: its key in JSON, or the head of its CSV column."""
        return self.path.replace("/", ".").rpartition(".")[2]


@dataclass(frozen=True)
class Combined(Figure):
    """A figure that sweeps make of two others, by their names: a product or a quotient."""

    of: tuple[str, str] = ("", "")
    how: Literal["product", "quotient"] = "product"


BUCKET_LABELS = {
    "qk": "phi(Q.K)",
    "sv": "phi(S).V",
    "digital": "digital",
    "dac": "write (DACs)",
    "static": "static",
    "refresh": "refresh",
}
"""The published energy totals, and two lines that are shown even when zero."""

SATURATION_LABELS = {
    "query": "q",
    "key": "k",
    "value": "v",
    "score_low": "S<0",
    "score_high": "S>max",
    "output": "A",
}
"""Column heads of the shares beyond a range; six of them share a line."""

STATISTICS = ("mean", "p50", "p99", "max")


def _spread(
    path: str, label: str, *, mean: str = "", names: tuple[str, str] = ("", "")
) -> Iterator[Figure]:
    """The statistics of a time in ns; `names` are those of mean and largest, `mean` its label."""
    for which in STATISTICS:
        text = mean if mean and which == "mean" else f"{label}, {which}"
        name = {"mean": names[0], "max": names[1]}.get(which, "")
        yield Figure(f"{path}.{which}", text, NANOSECOND, "lower", ("latency",), name)


SPREADS = {
    "layer_ns": "a layer, ready to latched",
    "queue_ns": "of that waiting to enter",
    "attention_ns": "a head, write to latched",
    "token_ns": "token, all layers",
}
"""Times that differ from token to token: key in ``latency``, and what it is."""

TIME: tuple[Total, ...] = ("latency",)
ENERGY: tuple[Total, ...] = ("energy",)
AREA: tuple[Total, ...] = ("area",)

_TIMES: tuple[Figure, ...] = (
    *_spread(
        "latency.layer_ns",
        SPREADS["layer_ns"],
        mean="attention of one token, one layer, mean",
        names=("layer_ns", "layer_max_ns"),
    ),
    *_spread(
        "latency.attention_ns",
        SPREADS["attention_ns"],
        names=("attention_ns", "attention_max_ns"),
    ),
    *_spread("latency.token_ns", SPREADS["token_ns"], names=("token_ns", "")),
    *_spread("latency.queue_ns", SPREADS["queue_ns"], names=("queue_ns", "")),
    Figure("latency.total_ns", "run", NANOSECOND, "lower", TIME, "total_ns"),
)

_RATES: tuple[Figure, ...] = (
    Figure("throughput.initiation_interval_ns", "initiation interval", NANOSECOND, "lower", TIME,
           "interval_ns"),
    Figure("throughput.tokens_per_s", "throughput", TOKENS_PER_SECOND, "higher", TIME,
           "tokens_per_s"),
    Figure("throughput.tops", "operations", TERA_OPERATIONS, "higher", TIME, "tops"),
    Figure("throughput.tops_per_w", "efficiency", TERA_OPERATIONS_PER_WATT, "higher", ENERGY,
           "tops_per_w"),
    Figure("throughput.average_power_mw", "average power", MILLIWATT, "lower",
           ("latency", "energy"), "average_power_mw"),
    Figure("throughput.peak_power_mw", "peak power", MILLIWATT, "lower", ("latency", "energy"),
           "peak_power_mw"),
    Figure("throughput.power_density_mw_per_mm2", "power density",
           MILLIWATT_PER_SQUARE_MILLIMETRE, "lower", ("latency", "energy", "area")),
)  # fmt: skip

_ENERGIES: tuple[Figure, ...] = (
    Figure("energy_per_token_per_head_pj.total", "energy of one token in one head", PICOJOULE,
           "lower", ENERGY, "energy_pj"),
    *(
        Figure(f"energy_per_token_per_head_pj.{bucket}", f"energy {label}", PICOJOULE, "lower",
               ENERGY, f"energy_{bucket}_pj")
        for bucket, label in BUCKET_LABELS.items()
    ),
    Figure("energy_pj.total", "energy of the run", PICOJOULE, "lower", ENERGY, "run_energy_pj"),
    *(
        Figure(f"energy_pj.{bucket}", f"energy of the run, {label}", PICOJOULE, "lower", ENERGY)
        for bucket, label in BUCKET_LABELS.items()
    ),
    Figure("energy_by_component_pj.*", "energy of the run, of a component", PICOJOULE, "lower",
           ENERGY),
)  # fmt: skip

_BOUNDS: tuple[Figure, ...] = tuple(
    Figure(f"energy_bounds_per_token_per_head.{key}", label, PICOJOULE, "lower", ENERGY)
    for key, label in {
        "nominal_pj": "energy of one token in one head, costs as they are",
        "one_at_a_time_pj.*": "one assumed cost at its low or high",
        "all_together_pj.*": "all of them at once",
        "parameters_pj.*.*": "this assumed cost at its low or high",
    }.items()
)

_AREAS: tuple[Figure, ...] = (
    Figure("area_mm2.per_head", "area of one head", SQUARE_MILLIMETRE, "lower", AREA, "area_mm2"),
    Figure("area_mm2.chip", "area of all heads of all layers", SQUARE_MILLIMETRE, "lower", AREA,
           "chip_area_mm2"),
    Figure("area_mm2.components.*", "area of a component of a head", SQUARE_MILLIMETRE, "lower",
           AREA),
)  # fmt: skip

_BUSY: tuple[Figure, ...] = (
    Figure("bottleneck.resource", "held longest", rests_on=TIME, name="bottleneck"),
    Figure("bottleneck.utilisation", "share of the interval that it is held", rests_on=TIME,
           name="bottleneck_utilisation"),
    Figure("bottleneck.held_ns", "held by a token", NANOSECOND, "lower", TIME),
    Figure("bottleneck.interval_ns", "interval between tokens there", NANOSECOND, "lower", TIME),
    Figure("bottleneck.limited_by", "limited by", rests_on=TIME),
    Figure("bottleneck.stall_ns.*", "stall, over heads and tokens", NANOSECOND, "lower", TIME),
    Figure("utilisation.*", "taken", rests_on=TIME),
    Figure("array_use.columns", "columns attended", better="higher"),
    Figure("array_use.rows", "rows that hold a feature", better="higher"),
    Figure("array_use.cells", "cells that do useful work", better="higher"),
)  # fmt: skip

_ERRORS: tuple[Figure, ...] = (
    Figure("function.sqnr_db", "SQNR", DECIBEL, "higher", name="sqnr_db"),
    Figure("function.max_abs_error", "max error", better="lower", name="max_abs_error"),
    *(
        Figure(f"function.saturation.{what}", f"beyond range, {label}", better="lower",
               name=f"saturation_{what}")
        for what, label in SATURATION_LABELS.items()
    ),
    Figure("function.saturation.partial", "beyond range, partial sums", better="lower"),
    Figure("function.passes", "times the function was computed"),
    Figure("function.layers.*.sqnr_db", "SQNR of a layer", DECIBEL, "higher"),
    Figure("function.layers.*.max_abs_error", "max error of a layer", better="lower"),
    Figure("function.layers.*.saturation.*", "beyond range in a layer", better="lower"),
    Figure("function.in_loop.software_loss", "loss of the software model", NATS, "lower"),
    Figure("function.in_loop.hardware_loss", "loss in the model's loop", NATS, "lower"),
    Figure("function.in_loop.top1_agreement", "top-1 same", better="higher"),
    Figure("function.in_loop.kl", "KL divergence", NATS, "lower"),
    Figure("function.in_loop.tokens", "targets in the loop", TOKENS),
)  # fmt: skip

_FOUNDATION: tuple[Figure, ...] = tuple(
    Figure(
        f"foundation.{total}.{grade}",
        f"share of {total} that is {grade}",
        better="lower" if grade == "assumed" else "neither",
        name=f"{total}_assumed" if grade == "assumed" else "",
    )
    for total in ("latency", "energy", "area")
    for grade in ("published", "calibrated", "assumed", "user")
)

_FADING: tuple[tuple[str, str, Unit, Better], ...] = (
    ("token_time_us", "us/token", MICROSECOND, "lower"),
    ("decay_per_token", "token/tau", PLAIN, "lower"),
    ("window_times_token_time_over_tau", "window/tau", PLAIN, "lower"),
    ("oldest_token_survives", "oldest keeps", PLAIN, "higher"),
)

_RETENTION: tuple[Figure, ...] = (
    Figure("retention.window", "window", TOKENS),
    Figure("retention.tau_ms", "tau", MILLISECOND, "higher"),
    *(
        Figure(f"retention.{which}.{key}", f"{label}, {whose}", unit, better)
        for which, whose in (("used", "as used"), ("whole_token", "at a whole token's time"))
        for key, label, unit, better in _FADING
    ),
    Figure("retention.whole_token.attention_us", "attention of a token", MICROSECOND, "lower"),
    Figure("retention.whole_token.rest_us", "rest of a token", MICROSECOND, "lower"),
    Figure("retention.whole_token.batch", "sequences in a step"),
)

_RUN: tuple[Figure, ...] = (
    Figure("generation.prompt_tokens", "tokens of the prompt", TOKENS),
    Figure("generation.generated_tokens", "tokens generated", TOKENS),
    Figure("generation.time_to_first_token_ns", "time to first token", NANOSECOND, "lower", TIME),
    Figure("generation.time_per_token_ns", "time of a generated token", NANOSECOND, "lower", TIME),
    Figure("boundary.layer_gap_ns", "between layers", NANOSECOND, "lower", TIME),
    Figure("boundary.token_gap_ns", "between tokens", NANOSECOND, "lower", TIME),
    *(
        Figure(f"boundary.bytes_per_token.{what}_bytes", f"{what} that crosses", BYTES, "lower")
        for what in "qkvy"
    ),
    Figure("events", "events that the ledger holds"),
    Figure("engine_events", "events that the engine had"),
    Figure("wall_s", "time that the simulation took", SECOND),
)

_OF_SWEEPS: tuple[Figure, ...] = (
    Combined("", "energy-delay product", PICOJOULE_NANOSECOND, "lower", ("latency", "energy"),
             "edp_pj_ns", ("energy_pj", "layer_ns"), "product"),
    Combined("", "throughput per area", TOKENS_PER_SECOND_AND_AREA, "higher", ("latency", "area"),
             "tokens_per_s_per_mm2", ("tokens_per_s", "chip_area_mm2"), "quotient"),
    Combined("", "operations per area", TERA_OPERATIONS_PER_AREA, "higher", ("latency", "area"),
             "tops_per_mm2", ("tops", "chip_area_mm2"), "quotient"),
    Figure("", "loss of a model that runs on the hardware", NATS, "lower", name="loss"),
)  # fmt: skip
"""What stands in no result: made of two figures, or measured beside the simulation."""

_OF_FILES: tuple[Figure, ...] = (
    Figure("tokens.csv/ready_ns", "ready", NANOSECOND),
    Figure("tokens.csv/start_ns", "start of the first head", NANOSECOND),
    Figure("tokens.csv/last_start_ns", "start of the last head", NANOSECOND),
    Figure("tokens.csv/end_ns", "last head latched", NANOSECOND),
    Figure("tokens.csv/layer_ns", "the token's ready to latched", NANOSECOND, "lower", TIME),
    Figure("tokens.csv/attention_ns", "the token's write to latched", NANOSECOND, "lower", TIME),
    Figure("tokens.csv/queue_ns", "the token's waiting to enter", NANOSECOND, "lower", TIME),
    Figure("tokens.csv/energy_pj", "energy of the token in a layer", PICOJOULE, "lower", ENERGY),
    Figure("energy.csv/events", "events of an action"),
    Figure("energy.csv/operations", "operations of an action"),
    Figure("energy.csv/energy_pj", "energy of an action", PICOJOULE, "lower", ENERGY),
    Figure("area.csv/instances", "instances of a block"),
    Figure("area.csv/each_um2", "area of one instance", SQUARE_MICROMETRE, "lower", AREA),
    Figure("area.csv/head_mm2", "area of a head's instances", SQUARE_MILLIMETRE, "lower", AREA),
    Figure("utilisation.csv/capacity", "capacity of a resource"),
    Figure("utilisation.csv/heads", "heads that share an instance"),
    Figure("utilisation.csv/units", "units of a resource"),
    Figure("utilisation.csv/utilisation", "share of the run that it is taken", rests_on=TIME),
)

FIGURES: tuple[Figure, ...] = (
    *_TIMES, *_RATES, *_ENERGIES, *_AREAS, *_BUSY, *_ERRORS, *_FOUNDATION, *_OF_SWEEPS,
    *_BOUNDS, *_RETENTION, *_RUN, *_OF_FILES,
)  # fmt: skip

TEXTS = (
    "hardware.*", "trace.name", "trace.sha256", "trace.adapted_to", "trace.adapted_to.*",
    "notes.*", "boundary.inside", "boundary.outside", "function.precision",
    "function.in_loop.adapted_to_this_hardware", "retention.model", "retention.used",
    "retention.whole_token", "retention.whole_token.of", "retention.whole_token_unknown",
    "retention.warning", "unread_parameters.*", "engine", "engine_reason",
)  # fmt: skip
"""Paths in ``result.json`` of what was run and what must be said of it: words, no figures."""

SHAPE = ("schema_version", "trace.layers", "trace.heads", "trace.tokens", "trace.head_dim")
"""Paths of whole numbers that say what was run, not what came out."""


@cache
def figure(path: str) -> Figure:
    """The figure at a path of ``result.json`` or of a CSV file; raises KeyError for any other."""
    for each in FIGURES:
        if each.path == path or ("*" in each.path and fnmatch.fnmatchcase(path, each.path)):
            return each
    raise KeyError(path)


@cache
def columns(file: str) -> tuple[str, ...]:
    """Heads of the columns of a CSV file that hold figures."""
    return tuple(each.key for each in FIGURES if each.path.startswith(f"{file}/"))


@cache
def named() -> dict[str, Figure]:
    """Figures that sweeps keep, by the name they have there."""
    return {each.name: each for each in FIGURES if each.name}
