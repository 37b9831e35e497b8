"""Measuring without a GPU: plan, statistics, file, and its way into ``compare``."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from fake_gpu import FakeDevice, FakeWork
from hypothesis import given
from hypothesis import strategies as st

from archsim.baseline import Request, compare
from archsim.baseline.measure import (
    Plan,
    device_bytes,
    list_of,
    matching_gpu,
    measure,
    measured_yaml,
    percentile,
)
from archsim.baseline.roofline import DecodeAttention, estimate
from archsim.config.gpu import available_gpus, load_gpu, load_measured, with_measured
from archsim.errors import ConfigError, InvariantError

from .figures import PAPER

SMALL = Plan(batches=(1, 64), windows=(128, 1024), precisions=("fp16",), replays=40, seconds=1)


def test_every_point_of_the_plan_once_and_freed():
    device = FakeDevice()
    steps = []
    measured = measure(device, SMALL, lambda done, total: steps.append((done, total)))
    assert len(measured.points) == 1 * 2 * 2 * 2 * 2  # precision, how, windows, batches, caches
    assert len({(p.step, p.implementation, p.cache) for p in measured.points}) == 16
    assert steps == [(done, 16) for done in range(16)]
    assert device.open == 0
    assert measured.left_out == ()


def test_latency_is_the_median_and_energy_the_counter_over_the_steps():
    device = FakeDevice()
    for point in measure(device, SMALL).points:
        launch = "eager" if point.implementation == "eager" else "graph"
        true = estimate(device.gpu, point.step, launch, point.cache).latency_s
        assert point.latency_s == pytest.approx(true)
        assert point.latency_p5_s == pytest.approx(0.955 * true)
        assert point.latency_p95_s == pytest.approx(1.045 * true)
        assert point.idle_power_w == 71.5
        if point.cache == "warm":
            assert point.energy_j == pytest.approx(300 * true)
        else:
            assert point.energy_j is None  # the flush would count


@given(st.lists(st.floats(1e-9, 1e3), min_size=1), st.floats(0, 1))
def test_percentile_is_numpys(values, share):
    assert percentile(values, share) == pytest.approx(np.quantile(values, share))


def test_percentile_of_nothing():
    with pytest.raises(InvariantError):
        percentile([], 0.5)


def test_memory_a_point_needs():
    step = DecodeAttention(1, 12, 64, 1024, 64, "fp32")
    assert device_bytes(step, "sdpa") == step.layer_bytes
    assert device_bytes(step, "eager") == step.layer_bytes + step.layer_cache_bytes / 2
    half = replace(step, precision="bf16")
    assert device_bytes(half, "eager") == half.layer_bytes + 3 * half.layer_cache_bytes


def test_what_cannot_be_measured_is_left_out_with_its_reason():
    plan = replace(SMALL, precisions=("fp16", "bf16"), caches=("warm",))
    small = FakeDevice(memory=300e6, lacks=("bf16", "eager"))
    measured = measure(small, plan)
    assert {p.implementation for p in measured.points} == {"sdpa"}
    reasons = dict(reason.rsplit(": ", 1) for reason in measured.left_out)
    assert reasons["sdpa, bf16, batch 1, window 128, warm"] == "the device has no bf16"
    assert reasons["eager, fp16, batch 1, window 128, warm"] == "no such kernel"
    assert reasons["eager, fp16, batch 64, window 1024, warm"] == "needs 0.8 GB"
    assert len(measured.points) + len(measured.left_out) == len(list(plan.points()))
    with pytest.raises(ConfigError, match="no point could be measured: sdpa, fp16"):
        measure(FakeDevice(memory=1), SMALL)


def test_the_file_is_read_back_by_compare(tmp_path):
    """Time and energy of a measured point become rows, beside NVIDIA's and the model's."""
    device = FakeDevice()
    measured = measure(device, SMALL)
    path = tmp_path / "measured.yaml"
    path.write_text(measured_yaml(measured, "h100-sxm", "2026-01-31"), encoding="utf-8")
    file = load_measured(path)
    assert file.gpu == "h100-sxm"
    assert len(file.measurements) == len(measured.points)
    assert file.device["torch"] == "0.0-fake"
    assert file.method["replays"] == 40
    assert {p.sm_clock_before for p in file.measurements} == {1.98e9}
    gpu = with_measured(load_gpu("h100-sxm", measured=False), "h100-sxm", [file])
    ours = [
        row
        for row in compare(PAPER, [gpu], Request(("latency", "throughput", "eager"))).rows
        if "archsim baseline measure" in row.note
    ]
    assert [(r.protocol, r.batch, r.precision, r.cache) for r in ours] == [
        ("latency", 1, "fp16", "warm"),
        ("throughput", 64, "fp16", "warm"),
        ("eager", 1, "fp16", "warm"),
    ]
    for row in ours:
        step = DecodeAttention(1, 12, 64, 1024, row.batch, "fp16")
        launch = "eager" if row.protocol == "eager" else "graph"
        assert row.latency_us == pytest.approx(
            estimate(gpu, step, launch).latency_s * 1e6, rel=1e-4
        )
        assert row.energy_mj == pytest.approx(0.3 * row.latency_us, rel=1e-3)  # 300 W
        assert row.source == "measured"
    nvidia = [r for r in compare(PAPER, [gpu]).rows if "AIConfigurator" in r.note]
    assert len(nvidia) == 2
    cold = compare(PAPER, [gpu], Request(("latency",), cache="cold")).rows
    assert [r.latency_us for r in cold if r.source == "measured"] > [ours[0].latency_us]
    assert with_measured(load_gpu("h200-sxm", measured=False), "h200-sxm", [file]) == load_gpu(
        "h200-sxm", measured=False
    )


def test_the_same_measurement_gives_the_same_bytes():
    texts = [
        measured_yaml(measure(FakeDevice(), SMALL), "h100-sxm", "2026-01-31") for _ in range(2)
    ]
    assert texts[0] == texts[1]


def test_a_falling_clock_is_told():
    measured = measure(FakeDevice(clocks=(1.98e9, 1.2e9)), SMALL)
    assert all(point.slowed for point in measured.points)
    text = measured_yaml(measured, "h100-sxm", "2026-01-31")
    assert text.count("slowed: true") == len(measured.points)
    assert "slowed" not in measured_yaml(measure(FakeDevice(), SMALL), "h100-sxm", "2026-01-31")
    assert not any(p.slowed for p in measure(FakeDevice(clocks=(None, None)), SMALL).points)


def test_without_an_energy_counter_there_is_no_energy(tmp_path):
    path = tmp_path / "measured.yaml"
    measured = measure(FakeDevice(counter=False), SMALL)
    path.write_text(measured_yaml(measured, "h100-sxm", "2026-01-31"), encoding="utf-8")
    assert {p.energy for p in load_measured(path).measurements} == {None}


def test_device_names():
    assert matching_gpu("NVIDIA H100 80GB HBM3") == "h100-sxm"
    for name in ("NVIDIA H100 PCIe", "NVIDIA GeForce RTX 3090", ""):
        with pytest.raises(ConfigError, match="give one with --gpu"):
            matching_gpu(name)
    known = [load_gpu(name).device for name in available_gpus()]
    assert all(a != b for a, b in pairwise(sorted(filter(None, known))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"replays": 5}, "replays: at least 20"),
        ({"seconds": 0.01}, "seconds: 1 to 600"),
        ({"seconds": float("nan")}, "seconds: 1 to 600"),
        ({"batches": ()}, "batches: give numbers"),
        ({"windows": (0,)}, "windows: give numbers"),
        ({"heads": 0}, "heads must be at least 1"),
    ],
)
def test_impossible_plans_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Plan(**arguments)


def test_lists():
    assert list_of("1,4,1,16", "--batch") == (1, 4, 16)
    for text in ("", "1,,2", "a"):
        with pytest.raises(ConfigError, match="--batch"):
            list_of(text, "--batch")


def test_a_time_that_makes_no_sense_is_refused():
    class Broken(FakeWork):
        def replay_times(self, count, flush):
            return [0.0] * count

    class Device(FakeDevice):
        def prepare(self, step, implementation):
            self.open += 1
            return Broken(self, step, implementation)

    device = Device()
    with pytest.raises(ConfigError, match=r"no point could be measured.*took no time"):
        measure(device, SMALL)
    assert device.open == 0


class FailsAt(FakeDevice):
    """Raises an error instead of its third point."""

    def __init__(self, error):
        super().__init__()
        self.error, self.prepared = error, 0

    def prepare(self, step, implementation):
        self.prepared += 1
        if self.prepared == 3:
            raise self.error
        return super().prepare(step, implementation)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error:\nout of memory"), InvariantError("not attention")]
)
def test_one_bad_point_does_not_lose_the_others(error):
    measured = measure(FailsAt(error), SMALL)
    assert len(measured.points) == 15
    (reason,) = measured.left_out
    assert reason.endswith(" ".join(str(error).split()))
    assert not measured.interrupted


def test_an_interruption_keeps_what_was_measured():
    measured = measure(FailsAt(KeyboardInterrupt()), SMALL)
    assert len(measured.points) == 2
    assert measured.interrupted
    assert measured.left_out == (
        "interrupted: 14 points from sdpa, fp16, batch 64, window 128, warm on",
    )


def test_a_slowed_point_stays_in_its_series_and_two_files_are_two_series(tmp_path):
    """The best batch is of the whole file, whether or not a clock fell; each file has its row."""
    gpu = load_gpu("h100-sxm", measured=False)
    paths = []
    for name in ("a", "b"):
        measured = measure(FakeDevice(), SMALL)
        slow = tuple(
            replace(p, clock_after_hz=1e9) if p.step.batch == 1 else p for p in measured.points
        )
        path = tmp_path / f"{name}.yaml"
        text = measured_yaml(replace(measured, points=slow), "h100-sxm", "2026-01-31")
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    gpu = with_measured(gpu, "h100-sxm", [load_measured(path) for path in paths])
    found = compare(PAPER, [gpu], Request(("latency", "throughput"))).rows
    ours = [row for row in found if "archsim baseline measure" in row.note]
    assert [row.protocol for row in ours] == ["latency"] * 2 + ["throughput"] * 2
    assert all(row.note.endswith("; the clock fell meanwhile") == (row.batch == 1) for row in ours)
