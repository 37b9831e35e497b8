"""Jobs that two checkouts are given alike: what is shipped, and random hardwares and traces.

A job is a JSON document in the language that both versions speak: names of shipped configs and
traces, dotted keys as in ``--set``, arguments of the public functions. What a random job asks for
follows from its seed and its place alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count, product
from pathlib import Path
from typing import Any

Job = dict[str, Any]

DEFAULT = "gaincell-28nm"
TOKENS = 300
"""Of a shipped trace: several sub-tiles, and more than the smaller of the shipped windows."""

PERIODS_PS = {"1 GHz": 1000, "2 GHz": 500, "1.25 GHz": 800, "500 MHz": 2000}
CLOCKS = (*["1 GHz"] * 4, *(name for name in PERIODS_PS if name != "1 GHz"))


def shipped(checkout: Path) -> tuple[list[str], list[str], list[str]]:
    """Names of the configs, traces and GPUs that a checkout ships."""
    configs = [path.stem for path in (checkout / "hwconfigs").glob("*.yaml")]
    gpus = [path.stem for path in (checkout / "hwconfigs" / "gpus").glob("*.yaml")]
    traces = [
        folder.name
        for folder in (checkout / "traces").glob("*")
        if any((folder / part / "manifest.json").is_file() for part in ("", "trace"))
    ]
    return sorted({*configs} - {"published"}), sorted(traces), sorted(gpus)


def shipped_jobs(configs: list[str], traces: list[str], gpus: list[str]) -> Iterator[Job]:
    """Every config with every trace, and what is said of every config by itself."""
    for config, trace in product(configs, traces):
        for order, phases in product(("generate", "prefill"), ("worst_case", "early_end")):
            yield {
                "kind": "simulate",
                "hardware": config,
                "overrides": {"controller.phases": phases},
                "trace": {"shipped": trace, "tokens": TOKENS},
                "runs": [{"order": order, "engine": "auto"}, {"order": order, "engine": "simpy"}],
            }
        words = ["-c", config, "-t", trace, "--tokens", "40", "--explain", "39"]
        yield {"kind": "command", "arguments": ["simulate", *words]}
    for config in configs:
        yield {"kind": "validate", "hardware": config}
        yield {"kind": "judge_claims", "hardware": config}
        yield {"kind": "compare", "hardware": config, "gpus": gpus}


def random_jobs(seed: int) -> Iterator[Job]:
    """Random hardwares, each with a random trace, without end."""
    return (random_job(seed, index) for index in count())


def random_job(seed: int, index: int) -> Job:
    """The random job of a seed at a place; a few of a hundred are refused by any version."""
    rng = random.Random(f"{seed} {index}")
    trace = _trace(rng)
    overrides = {
        **_sizes(rng, trace["head_dim"]),
        **_pulses(rng),
        **_cells(rng),
        **_order(rng),
        **_sharing(rng),
        **_costs(rng),
    }
    if rng.random() < 0.03:
        overrides |= rng.choice(REFUSED)
    order: dict[str, Any] = {"order": rng.choice(["generate", "prefill"])}
    if rng.random() < 0.25:
        order = {"prompt": rng.randint(1, trace["tokens"])}
    order["precision"] = "float32" if rng.random() < 0.2 else "float64"
    engines: list[dict[str, Any]] = [{"engine": name} for name in ("auto", "simpy", "fast")]
    if rng.random() < 0.25:
        engines.append({"engine": "simpy", "detail": "full"})
    return {
        "kind": "simulate",
        "hardware": DEFAULT,
        "overrides": overrides,
        "trace": trace,
        "runs": [{**order, **engine} for engine in engines],
        "compiled": rng.random() < 0.3,
    }


REFUSED: tuple[dict[str, Any], ...] = (
    {"controller.clock": "1.3 GHz", "pulse_generator.t_max": "15 ns", "levels.query": 16},
    {"controller.heads_in_parallel": 1, "controller.pipelining": "stages"},
    {"array.columns": 0},
    {"write_path.pulse": "10 nm"},
    {"controller.tempo": "1 GHz"},
)
"""What no version takes: the exceptions are compared."""


def _trace(rng: random.Random) -> dict[str, Any]:
    return {
        "seed": rng.randrange(1 << 31),
        "layers": rng.randint(1, 3),
        "heads": rng.randint(1, 5),
        "tokens": rng.randint(3, 40),
        "head_dim": rng.randint(1, 12),
        "dtype": rng.choice(["float16", "float32", "float64"]),
        "scalers": rng.choice(["fit", "fit", "random", "none"]),
    }


def _sizes(rng: random.Random, head_dim: int) -> dict[str, Any]:
    """Window and arrays; half of them have fewer rows than a head features."""
    smaller = rng.random() < 0.5 and head_dim > 1
    return {
        "window": rng.randint(1, 32),
        "array.columns": rng.randint(1, 10),
        "array.rows": rng.randint(
            *((-(-head_dim // 4), head_dim - 1) if smaller else (head_dim, 16))
        ),
        "array.write_during_read": rng.random() < 0.4,
    }


def _pulses(rng: random.Random) -> dict[str, Any]:
    """Clock, levels, and times that fit both: a step of a pulse takes whole clock edges."""
    clock = rng.choice(CLOCKS)
    period = PERIODS_PS[clock]

    def pulse(levels: int | None) -> str:
        if levels is None:
            return f"{rng.randint(700, 30_000)} ps"
        return f"{(levels - 1) * rng.choice([1, 1, 2, 3]) * period} ps"

    query = rng.choice([2, 4, 8, 16, 16, 32, None])
    widths = rng.choice([2, 5, 16, 16, None])
    values: dict[str, Any] = {
        "controller.clock": clock,
        "levels.query": query,
        "levels.key_value": rng.choice([2, 4, 8, 8, 16, 256, None]),
        "levels.output": rng.choice([2, 3, 16, 32, 32, 33, None]),
        "pulse_generator.t_max": "auto" if query and rng.random() < 0.2 else pulse(query),
        "converter.t_max": pulse(widths),
    }
    if rng.random() < 0.7:
        values["mapping.row_split"] = "digital"
        values["mapping.pulse_levels"] = widths
        values["mapping.partial_levels"] = rng.choice([2, 3, 8, 32, 33, 1024, None])
        values["mapping.partial_saturation_current"] = f"{rng.uniform(2, 90):.6f} uA"
        values["mapping.add_time"] = f"{rng.randint(100, 25_000)} ps"
    return values


def _cells(rng: random.Random) -> dict[str, Any]:
    values: dict[str, Any] = {
        "cell.model": rng.choice(["polynomial", "polynomial", "linear"]),
        "converter.score.saturation_current": f"{rng.uniform(2, 90):.6f} uA",
        "converter.output.saturation_current": f"{rng.uniform(1, 45):.6f} uA",
        "retention.model": rng.choice(["off", "per_token", "per_token", "nominal", "simulated"]),
        "retention.decay_per_token": rng.choice([0, 1.6e-4, 0.03, 0.4]),
        "retention.tau": rng.choice(["5 ms", "20 us", "2 us", "300 ns"]),
        "retention.token_period": "auto" if rng.random() < 0.1 else f"{rng.randint(50, 2000)} ns",
    }
    if rng.random() < 0.2:
        values["cell.supply"] = rng.choice(["0.8 V", "1.1 V"])
    if rng.random() < 0.1:
        values["cell.mid_rail"] = rng.choice(["0.4 V", "4/9 supply"])
    return values


def _order(rng: random.Random) -> dict[str, Any]:
    """When phases end, and what may go on beside what."""
    values: dict[str, Any] = {
        "controller.phases": rng.choice(["worst_case", "early_end"]),
        "controller.pipelining": rng.choice(["none", "stages"]),
        "controller.gate_unwritten": rng.random() < 0.4,
        "controller.layer_gap": f"{rng.choice([0, 0, rng.randint(1, 40_000)])} ps",
        "controller.token_gap": f"{rng.choice([0, 0, rng.randint(1, 40_000)])} ps",
        "converter.buffers": rng.choice([1, 2]),
    }
    if values["controller.pipelining"] == "none" and rng.random() < 0.4:
        values["controller.heads_in_parallel"] = rng.randint(1, 4)
    if rng.random() < 0.4:
        values["controller.layer_buffer"] = rng.randint(1, 4)
    return values


def _sharing(rng: random.Random) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for block, key in (
        ("write_path", "heads_per_driver"),
        ("pulse_generator", "heads_per_generator"),
        ("accumulator", "heads_per_adder"),
    ):
        if rng.random() < 0.5:
            values[f"{block}.{key}"] = rng.randint(1, 6)
            values[f"{block}.arbitration"] = rng.choice(["static", "fifo"])
    return values


COSTS = (
    "write_path.energy_per_conversion", "pulse_generator.energy_per_pulse",
    "converter.score.energy_per_conversion", "converter.output.energy_per_conversion",
    "counter.energy_per_count", "accumulator.energy_per_add", "controller.energy_per_cycle",
    "controller.clock_energy_per_cycle",
)  # fmt: skip


def _costs(rng: random.Random) -> dict[str, Any]:
    """Times of phases that no level decides, and some of the coefficients of cost."""
    values: dict[str, Any] = {}
    for key in ("write_path.pulse", "accumulator.time"):
        if rng.random() < 0.5:
            values[key] = f"{rng.randint(100, 25_000)} ps"
    values |= {key: f"{rng.uniform(0, 9):.6f} pJ" for key in COSTS if rng.random() < 0.2}
    if rng.random() < 0.2:
        values["static.power_per_head"] = f"{rng.uniform(0, 2):.6f} mW"
    if rng.random() < 0.2:
        key = rng.choice(["cell", "counter", "accumulator", "controller", "write_path"])
        values[f"{key}.area"] = f"{rng.uniform(1, 300):.6f} um^2"
    return values
