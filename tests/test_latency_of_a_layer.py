"""One latency of a layer in every figure, the most loaded instance, and power that is not made up.

Against judges of their own: starts and ends of the finest engine, power summed instant by instant.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.calibration import calibrate
from archsim.cli import application
from archsim.comparison.capacity import same_capacity
from archsim.comparison.hardware import calibration_figures, trace_figures
from archsim.comparison.transformer import (
    GPT2_SMALL,
    accelerator_token,
    gpu_token,
    moved_attention,
)
from archsim.gpu.file import load_gpu
from archsim.gpu.roofline import DecodeAttention
from archsim.hardware.load import Hardware, load_hardware
from archsim.result import Result
from archsim.simulation import simulate_trace
from archsim.sweeps.figures import figures
from archsim.traces.trace import Trace, load_trace

TWO = DecodeAttention(1, 12, 64, 16, batch=2)
"""Two sequences."""


def uniform(
    tokens: int, heads: int = 2, layers: int = 2, head_dim: int = 8, seed: int = 1, low: float = 0.0
) -> Trace:
    """Uniform values within the range, as they are."""
    rng = np.random.default_rng(seed)
    shape = (layers, heads, tokens, head_dim)
    same = (np.ones((layers, heads)), np.zeros((layers, heads)))
    return Trace.from_arrays(
        rng.uniform(low, 1, shape),
        rng.uniform(0, 0.9, shape),
        rng.uniform(0, 0.9, shape),
        scalers=dict.fromkeys(("q", "k", "v", "output"), same),
        name="uniform",
    )


def hardware(**overrides: Any) -> Hardware:
    """The default with ``section__key`` overrides."""
    return load_hardware().changed({k.replace("__", "."): v for k, v in overrides.items()})


SHARING = st.fixed_dictionaries(
    {
        "write_path__heads_per_driver": st.integers(1, 5),
        "write_path__arbitration": st.sampled_from(["static", "fifo"]),
        "pulse_generator__heads_per_generator": st.integers(1, 5),
        "pulse_generator__arbitration": st.sampled_from(["static", "fifo"]),
        "accumulator__heads_per_adder": st.integers(1, 5),
        "accumulator__arbitration": st.sampled_from(["static", "fifo"]),
        "controller__heads_in_parallel": st.sampled_from([None, 1, 2, 4]),
        "controller__phases": st.sampled_from(["worst_case", "early_end"]),
        "controller__pipelining": st.sampled_from(["none", "stages"]),
        "controller__layer_gap": st.sampled_from(["0 ns", "7 ns"]),
        "array__write_during_read": st.booleans(),
        "converter__buffers": st.sampled_from([1, 2]),
        "window": st.sampled_from([8, 64]),
    }
)


@settings(max_examples=20, deadline=None)
@given(SHARING, st.integers(1, 5), st.sampled_from(["generate", "prefill"]), st.integers(0, 99))
def test_every_figure_takes_a_layer_from_ready_to_its_last_latch(
    overrides: dict[str, Any], heads: int, order: str, seed: int
) -> None:
    """Whatever is shared; and no instance is needed for longer than tokens are apart."""
    given = {k: v for k, v in overrides.items() if v is not None}
    if "controller__heads_in_parallel" in given:
        given["controller__pipelining"] = "none"
    changed = hardware(**given)
    trace = uniform(12, heads=heads, seed=seed)
    found = Result(simulate_trace(trace, changed, order=order))
    events = simulate_trace(trace, changed, order=order, engine="simpy", detail="full").schedule
    took = [
        [events.end["accumulate"][t, layer].max() - events.ready[t, layer] for layer in range(2)]
        for t in range(12)
    ]
    mean = float(np.mean(took)) * 1e-3
    assert found.latency["layer_ns"]["mean"] == pytest.approx(mean, rel=1e-12)
    assert found.latency["layer_ns"]["max"] == pytest.approx(np.max(took) * 1e-3, rel=1e-12)
    assert trace_figures(found).attention_latency_s == pytest.approx(mean * 1e-9, rel=1e-12)
    assert figures(found)["layer_ns"] == pytest.approx(mean, rel=1e-12)
    assert found.held_longest["utilisation"] <= 1 + 1e-12
    assert all(share <= 1 + 1e-12 for share in found.simulation.utilisation.values())


@pytest.mark.parametrize(
    ("overrides", "layer_ns"),
    [
        ({}, 65.0),
        ({"controller__heads_in_parallel": 1}, 780.0),
        ({"controller__heads_in_parallel": 5}, 195.0),
        ({"write_path__heads_per_driver": 12}, 175.0),
        ({"write_path__heads_per_driver": 4}, 95.0),
        ({"accumulator__heads_per_adder": 3}, 85.0),
    ],
)
def test_waiting_for_a_shared_block_is_part_of_the_comparison(
    overrides: dict[str, Any], layer_ns: float
) -> None:
    """12 heads of 65 ns: serial ones take 780, one set of DACs 11 writes more than 65."""
    found = calibration_figures(calibrate(hardware(window=16, **overrides)))
    assert found.attention_latency_s == pytest.approx(layer_ns * 1e-9, rel=1e-12)
    held = same_capacity(found, load_gpu("h100-sxm"), TWO, 1e-5, 1e-3)
    assert held is not None
    assert held.speedup == pytest.approx(1e4 / layer_ns)
    watts = 2 * found.energy_per_token_j / (layer_ns * 1e-9)  # of two chips
    assert held.power_w == pytest.approx(watts)
    per_area = 1e9 / (12 * layer_ns) / (12 * found.area_m2 * 1e6)
    assert held.tokens_per_s_per_mm2 == pytest.approx(per_area)


def test_compare_says_what_a_layer_of_serial_heads_takes(tmp_path: Path) -> None:
    config = tmp_path / "serial.yaml"
    config.write_text("extends: gaincell-28nm\ncontroller: {heads_in_parallel: 1}\n", "utf-8")
    words = ["compare", "-c", str(config), "--gpu", "h100-sxm", "--protocol", "latency", "--json"]
    done = CliRunner().invoke(application, words)
    assert done.exit_code == 0, done.output
    rows = [row for row in json.loads(done.stdout)["rows"] if row["source"] == "measured"]
    assert rows
    for row in rows:
        assert row["speedup"] == pytest.approx(row["per_token_latency_us"] / (12 * 65e-3))


def test_a_gap_between_layers_is_idle_time_of_the_chip() -> None:
    """Power falls with it, the energy of a token rises by what leaks in it."""
    static = {"static__power_per_head": "1 mW", "window": 16}
    gap = hardware(controller__layer_gap="100 ns", controller__token_gap="40 ns", **static)
    for found, alone, layers in (
        (
            calibration_figures(calibrate(gap)),
            calibration_figures(calibrate(hardware(**static))),
            12,
        ),
        (
            trace_figures(Result(simulate_trace(uniform(9, layers=3), gap))),
            trace_figures(Result(simulate_trace(uniform(9, layers=3), hardware(**static)))),
            3,
        ),
    ):
        idle_s = (layers - 1) * 100e-9 + 40e-9
        token_s = layers * 65e-9 + idle_s
        assert found.token_s == pytest.approx(token_s)
        leaked = found.heads * 1e-3 * (layers * 65e-9 + idle_s)
        if found.workload == "calibration":
            assert found.static_energy_j == pytest.approx(leaked)
        else:  # of nine tokens the last is not followed by a gap
            assert found.static_energy_j == pytest.approx(leaked - found.heads * 1e-3 * 40e-9 / 9)
        step = DecodeAttention(1, found.heads, found.head_dim, 16)
        held, before = (
            same_capacity(each, load_gpu("h100-sxm"), step, 1e-5, None) for each in (found, alone)
        )
        assert held is not None
        assert before is not None
        assert held.power_w == pytest.approx(layers * found.energy_per_token_j / token_s)
        assert held.power_w < before.power_w
        assert held.tokens_per_j < before.tokens_per_j


@pytest.mark.parametrize("milliwatts", [1.0, 0.37])
def test_a_head_leaks_all_the_time_in_every_command(milliwatts: float) -> None:
    """Static power over a whole token: of 12 layers it works in one, the digital part in none."""
    changed = hardware(window=16, static__power_per_head=f"{milliwatts} mW")
    watts = milliwatts * 1e-3
    calibrated = calibrate(changed)
    assert calibrated.static_pj() == pytest.approx(watts * 12 * 65e-9 * 1e12)
    figures = calibration_figures(calibrated)
    assert figures.static_energy_j == pytest.approx(12 * watts * 12 * 65e-9)
    run = Result(simulate_trace(uniform(20, layers=5, heads=3), changed))
    pj = run.energy_per_token_per_head_pj["static"]
    assert pj == pytest.approx(watts * 5 * 65e-9 * 1e12)
    assert trace_figures(run).static_energy_j == pytest.approx(3 * pj * 1e-12)
    digital = changed.config.digital
    whole = accelerator_token(figures, digital, GPT2_SMALL, 3)
    quiet = accelerator_token(
        calibration_figures(calibrate(hardware(window=16))), digital, GPT2_SMALL, 3
    )
    leaked = 3 * 144 * watts * whole.latency_s
    assert whole.attention_j - quiet.attention_j == pytest.approx(leaked)


def test_moved_attention_leaks_for_the_whole_token_of_the_gpu() -> None:
    gpu, step = load_gpu("h100-sxm"), replace(TWO, layers=12, precision="bf16")
    cost = gpu_token(gpu, "graph", step, GPT2_SMALL)
    found = []
    for power in ("0 W", "2 mW"):
        changed = hardware(window=16, static__power_per_head=power)
        figures = calibration_figures(calibrate(changed))
        own = accelerator_token(figures, changed.config.digital, GPT2_SMALL, 2)
        found.append(moved_attention(gpu, cost, own, figures, 12, 2))
    quiet, leaking = found
    assert leaking.latency_s == quiet.latency_s > own.attention_s
    leaked = 2 * 144 * 2e-3 * leaking.latency_s
    assert leaking.energy_j - quiet.energy_j == pytest.approx(leaked)


@pytest.mark.parametrize(("shared", "held"), [(9, 90.0), (12, 120.0), (5, 50.0)])
def test_the_bottleneck_is_the_most_loaded_instance(shared: int, held: float) -> None:
    """Of 12 heads the first adder serves 9, the second 3: the first one sets the pace."""
    changed = hardware(
        controller__pipelining="stages", accumulator__heads_per_adder=shared, window=16
    )
    found = Result(simulate_trace(uniform(40, heads=12, layers=1), changed, order="prefill"))
    assert found.bottleneck["limited_by"] == "adder tree"
    assert found.bottleneck["held_ns"] == found.bottleneck["interval_ns"] == held


def test_utilisation_of_the_bottleneck_is_at_most_whole(tmp_path: Path) -> None:
    """It was 125 % of this run."""
    changed = hardware(controller__pipelining="stages", controller__phases="early_end", window=64)
    shape = ["--layers", "1", "--heads", "2", "--tokens", "2", "--head-dim", "1", "--seed", "3"]
    words = ["trace", "synth", *shape, "-o", str(tmp_path / "t")]
    assert CliRunner().invoke(application, words).exit_code == 0
    found = Result(simulate_trace(load_trace(tmp_path / "t"), changed, order="prefill"))
    assert 0 < found.held_longest["utilisation"] <= 1


@pytest.mark.parametrize(("pulse", "interval"), [("10 ns", 25.0), ("40 ns", 55.0), ("4 ns", 19.0)])
def test_a_write_that_waits_for_a_read_limits_the_rate_though_it_takes_no_array(
    pulse: str, interval: float
) -> None:
    """A slot that is overwritten waits for its last read: write and read follow each other."""
    changed = hardware(
        controller__pipelining="stages",
        converter__buffers=2,
        array__write_during_read=True,
        write_path__pulse=pulse,
        window=8,
    )
    long = Result(simulate_trace(uniform(400), changed, order="prefill"))
    assert long.bottleneck["limited_by"] == "K arrays"
    assert long.bottleneck["held_ns"] == pytest.approx(interval, rel=0.01)
    assert long.bottleneck["utilisation"] == pytest.approx(1)


@pytest.mark.parametrize("buffers", [1, 2])
@pytest.mark.parametrize("phases", ["worst_case", "early_end"])
def test_peak_power_is_the_highest_sum_at_any_instant(buffers: int, phases: str) -> None:
    """A head's clock runs once, however many tokens are in it."""
    changed = hardware(
        controller__pipelining="stages", converter__buffers=buffers, controller__phases=phases
    )
    found = simulate_trace(uniform(20, heads=1, layers=1, head_dim=64), changed, order="prefill")
    schedule = found.schedule
    instants = np.arange(0, schedule.makespan, 250) + 125
    power = np.zeros(len(instants))
    for posting in found.ledger:
        stage = posting.action.stage
        if posting.action.bucket == "static" or stage == "head":
            continue
        for t in range(20):
            start, end = (times[stage][t, 0, 0] for times in (schedule.start, schedule.end))
            if end > start:
                inside = (instants > start) & (instants < end)
                power[inside] += posting.energy[t, 0, 0] / ((end - start) * 1e-12)
    control = found.head.controller
    cycle = float(control.control_energy(np.array(1.0)) + control.clock_energy(np.array(1.0)))
    held = np.zeros(len(instants), bool)
    for t in range(20):
        start, end = schedule.start["write_key"][t, 0, 0], schedule.end["accumulate"][t, 0, 0]
        held |= (instants > start) & (instants < end)
    power += held * cycle / (control.clock.period * control.clock.seconds)
    peak = Result(found).throughput["peak_power_mw"]
    assert peak == pytest.approx(power.max() * 1e3, rel=1e-9)


@pytest.mark.parametrize(("order", "said"), [("prefill", True), ("generate", False)])
def test_the_headline_of_a_prompt_says_that_waiting_counts(
    order: str, said: bool, small_trace_folder: Path
) -> None:
    words = ["simulate", "-t", str(small_trace_folder), "--order", order]
    done = CliRunner(env={"COLUMNS": "100"}).invoke(application, words)
    assert done.exit_code == 0, done.output
    assert ("its wait in the prompt counted" in done.stdout) == said


def test_array_use_counts_columns_and_rows_that_work() -> None:
    """5 of 32 features' rows; a window of 4 in sub-tiles of 4, from 1 token to the window full."""
    changed = hardware(window=8, array__columns=4, array__rows=32)
    found = Result(simulate_trace(uniform(10, head_dim=5), changed))
    columns = (sum(range(1, 9)) + 8 * 2) / (10 * 8)
    assert found.array_use["columns"] == pytest.approx(columns)
    assert found.array_use["rows"] == pytest.approx(5 / 32)
    assert found.array_use["cells"] == pytest.approx(columns * 5 / 32)
