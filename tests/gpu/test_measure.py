"""Measuring without a GPU: plan, statistics, file, and its way into ``compare``."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from fake_gpu import FakeDevice, FakeWork
from hypothesis import given
from hypothesis import strategies as st

from archsim.comparison.compare import compare
from archsim.comparison.request import Request
from archsim.comparison.transformer import TransformerShape
from archsim.errors import ConfigError, InvariantError
from archsim.gpu.file import available_gpus, load_gpu, load_measured, with_measured
from archsim.gpu.measure import device_bytes, matching_gpu, measure, percentile
from archsim.gpu.measured_file import measured_yaml
from archsim.gpu.plan import MeasurementPlan, Task, list_of
from archsim.gpu.roofline import DecodeAttention, estimate
from archsim.gpu.token import attention_alone, gpu_token

from .figures import PAPER

SMALL = MeasurementPlan(
    batches=(1, 64), windows=(128, 1024), precisions=("fp16",), replays=40, seconds=1
)


def test_every_point_of_the_plan_once_and_freed():
    device = FakeDevice()
    steps = []
    measured = measure(device, SMALL, lambda done, total: steps.append((done, total)))
    assert len(measured.points) == 1 * 2 * 2 * 2 * 2  # precision, how, windows, batches, caches
    assert len({p.task for p in measured.points}) == 16
    assert steps == [(done, 16) for done in range(16)]
    assert device.open == 0
    assert measured.left_out == ()


def test_latency_is_the_median_and_energy_the_counter_over_the_steps():
    device = FakeDevice()
    for point in measure(device, SMALL).points:
        launch = "eager" if point.task.implementation == "eager" else "graph"
        true = estimate(device.gpu, point.step, launch, point.task.cache).latency_s
        assert point.latency_s == pytest.approx(true)
        assert point.latency_p5_s == pytest.approx(0.955 * true)
        assert point.latency_p95_s == pytest.approx(1.045 * true)
        assert point.idle_power_w == 71.5
        if point.task.cache == "warm":
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
    assert device_bytes(Task(step, kernel="cudnn")) == step.layer_bytes
    assert device_bytes(Task(step, "eager", kernel="math")) == (
        step.layer_bytes + step.layer_cache_bytes / 2
    )
    half = replace(step, precision="bf16")
    unfused = half.layer_bytes + 3 * half.layer_cache_bytes
    assert device_bytes(Task(half, kernel="math")) == unfused
    model = TransformerShape("m", 2, 12, 64, 1000)
    token = Task(replace(half, layers=2), shape=model, part="whole")
    assert device_bytes(token) == 2 * model.weights + 2 * half.layer_bytes


def test_what_cannot_be_measured_is_left_out_with_its_reason():
    plan = replace(SMALL, precisions=("fp16", "bf16"), caches=("warm",))
    small = FakeDevice(memory=300e6, lacks=("bf16", "eager"))
    measured = measure(small, plan)
    assert {p.task.implementation for p in measured.points} == {"sdpa"}
    reasons = dict(reason.rsplit(": ", 1) for reason in measured.left_out)
    assert reasons["sdpa, bf16, batch 1, window 128, warm"] == "the device has no bf16"
    assert reasons["eager, fp16, batch 1, window 128, warm"] == "no such kernel"
    assert reasons["eager, fp16, batch 64, window 1024, warm"] == "needs 0.8 GB"
    assert len(measured.points) + len(measured.left_out) == len(plan.tasks())
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
    assert " ".join(text.split()).count("slowed: true") == len(measured.points)
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
        ({"kv_heads": 5}, "12 heads cannot share 5 kv_heads"),
        ({"minutes": 0.1}, "minutes: 0.5 to"),
        ({"minutes": float("nan")}, "minutes: 0.5 to"),
        ({"token_batches": (0,)}, "token_batches: give numbers"),
        ({"kernels": ()}, "kernels: give at least one"),
    ],
)
def test_impossible_plans_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        MeasurementPlan(**arguments)


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
        def prepare(self, step, implementation, kernel):
            self.open += 1
            return Broken(self, {"warm": 1e-6, "cold": 1e-6})

    device = Device()
    with pytest.raises(ConfigError, match=r"no point could be measured.*took no time"):
        measure(device, replace(SMALL, kernels=("cudnn",)))
    assert device.open == 0


class FailsAt(FakeDevice):
    """Raises an error instead of its third point."""

    def __init__(self, error):
        super().__init__()
        self.error, self.prepared = error, 0

    def prepare(self, step, implementation, kernel):
        self.prepared += 1
        if self.prepared == 3:
            raise self.error
        return super().prepare(step, implementation, kernel)


ONE_KERNEL = replace(SMALL, kernels=("cudnn",))


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error:\nout of memory"), InvariantError("not attention")]
)
def test_one_bad_point_does_not_lose_the_others(error):
    measured = measure(FailsAt(error), ONE_KERNEL)
    assert len(measured.points) == 15
    (reason,) = measured.left_out
    assert reason.endswith(" ".join(str(error).split()))
    assert not measured.interrupted


def test_an_interruption_keeps_what_was_measured():
    measured = measure(FailsAt(KeyboardInterrupt()), ONE_KERNEL)
    assert len(measured.points) == 2
    assert measured.interrupted
    assert measured.left_out == (
        "interrupted: 14 points from cudnn, fp16, batch 64, window 128, warm on",
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


def test_the_best_kernel_is_the_fastest_that_runs_and_is_named():
    plan = MeasurementPlan(
        batches=(1,), windows=(1024,), precisions=("bf16",), caches=("warm",), seconds=1
    )
    plan = replace(plan, implementations=("sdpa",))
    for lacks, best in (((), "cudnn"), (("cudnn",), "flash"), (("cudnn", "flash"), "efficient")):
        device = FakeDevice(lacks=lacks)
        (point,) = measure(device, plan).points
        assert point.kernel == best
        assert device.open == 0
        assert f"kernel: {best}" in measured_yaml(measure(device, plan), "h100-sxm", "2026-01-31")
    fused = FakeDevice(lacks=("cudnn", "flash", "efficient"))
    (point,) = measure(fused, plan).points
    assert point.kernel == "math"
    assert point.latency_s == pytest.approx(estimate(fused.gpu, point.step, "unfused").latency_s)
    with pytest.raises(ConfigError, match="no kernel runs: cudnn: no such kernel; flash: "):
        measure(FakeDevice(lacks=("cudnn", "flash", "efficient", "math")), plan)


def test_in_fp32_the_best_may_be_unfused():
    """By the model a lone fp32 sequence is faster unfused, from a graph, than by a fused kernel."""
    plan = MeasurementPlan(
        batches=(1,), windows=(1024,), precisions=("fp32",), caches=("warm",), seconds=1
    )
    (point,) = measure(FakeDevice(), replace(plan, implementations=("sdpa",))).points
    assert point.kernel == "math"


def test_a_kernel_of_ones_own_choice_is_the_only_one_tried():
    plan = replace(SMALL, kernels=("flash", "math"), implementations=("sdpa",), caches=("warm",))
    measured = measure(FakeDevice(), plan)
    assert [p.kernel for p in measured.points] == ["flash", "math"] * 4
    assert [p.task.label for p in measured.points][:2] == [
        "flash, fp16, batch 1, window 128, warm", "math, fp16, batch 1, window 128, warm",
    ]  # fmt: skip


def test_grouped_queries_are_measured_and_said(tmp_path):
    plan = replace(SMALL, kv_heads=3, caches=("warm",))
    measured = measure(FakeDevice(), plan)
    assert {p.step.groups for p in measured.points} == {3}
    path = tmp_path / "measured.yaml"
    path.write_text(measured_yaml(measured, "h100-sxm", "2026-01-31"), encoding="utf-8")
    assert {(p.heads, p.kv_heads) for p in load_measured(path).measurements} == {(12, 3)}
    assert "kv_heads" not in measured_yaml(measure(FakeDevice(), SMALL), "h100-sxm", "2026-01-31")


def test_a_whole_token_and_its_parts(tmp_path):
    device = FakeDevice()
    shape = TransformerShape("mine", 4, 8, 32, 1000, kv_heads=2, mlp=512)
    plan = MeasurementPlan(
        8, 32, scopes=("model",), model=shape, token_batches=(1, 8), token_windows=(256,), seconds=1
    )
    measured = measure(device, plan)
    assert device.open == 0
    assert [(p.task.part, p.step.batch) for p in measured.points] == [
        (part, batch) for batch in (1, 8) for part in ("whole", "rest", "attention")
    ]
    for point in measured.points:
        assert (point.step.layers, point.step.groups, point.step.precision) == (4, 2, "bf16")
        cost = gpu_token(device.gpu, "graph", point.step, shape)
        true = {
            "whole": cost.latency_s,
            "rest": cost.rest_s,
            "attention": attention_alone(device.gpu, "graph", point.step, shape)[0],
        }[point.task.part]
        assert point.latency_s == pytest.approx(true)
        assert point.energy_j == pytest.approx(300 * true)
        assert point.kernel is None
    path = tmp_path / "measured.yaml"
    path.write_text(measured_yaml(measured, "h100-sxm", "2026-01-31"), encoding="utf-8")
    file = load_measured(path)
    assert file.measurements == ()
    assert {token.shape.shape for token in file.tokens} == {shape}
    assert "one CUDA graph" in file.tokens[0].note
    assert measure(FakeDevice(lacks=("bf16",)), plan).points[0].step.precision == "fp16"
    failing = measure(FakeDevice(lacks=("token",)), replace(plan, scopes=("model", "attention")))
    assert {p.task.part for p in failing.points} == {None}
    assert failing.left_out[-1] == ("token, attention, bf16, batch 8, window 256: no such model")


def test_idle_power_is_told_with_and_without_a_context(tmp_path):
    path = tmp_path / "measured.yaml"
    text = measured_yaml(measure(FakeDevice(), SMALL), "h100-sxm", "2026-01-31")
    path.write_text(text, encoding="utf-8")
    idle = load_measured(path).idle
    assert (idle.context, idle.bare) == (71.5, 68.5)
    text = measured_yaml(measure(FakeDevice(counter=False), SMALL), "h100-sxm", "2026-01-31")
    assert "idle: {" not in text


BOTH = MeasurementPlan(scopes=("attention", "model"), seconds=1.5)


@pytest.mark.parametrize("minutes", [1, 2, 3, 6, 20])
def test_a_plan_of_minutes_fits_and_begins_with_the_headlines(minutes):
    gpu = load_gpu("h100-sxm", measured=False)
    plan = replace(BOTH, minutes=minutes)
    chosen, skipped = plan.tasks_that_fit(gpu)
    assert sum(plan.seconds_of(gpu, task) for task in chosen) <= 60 * minutes
    assert len(set(chosen)) == len(chosen)
    first = chosen[0]
    assert (first.step.batch, first.step.window, first.kernel) == (1, 1024, "best")
    assert {task.part for task in chosen} >= {None, "whole", "attention"}
    more, fewer = replace(plan, minutes=10 * minutes).tasks_that_fit(gpu)
    assert set(more) >= set(chosen)
    assert fewer <= skipped
    assert set(replace(plan, minutes=1000).tasks_that_fit(gpu)[0]) >= set(BOTH.tasks())


def test_six_minutes_cover_batch_window_and_both_scopes():
    measured = measure(FakeDevice(), replace(BOTH, minutes=6))
    attention = [p.step for p in measured.points if p.task.part is None]
    assert {step.batch for step in attention} == {1, 4, 16, 64, 256}
    assert {step.window for step in attention} == {128, 512, 1024, 2048, 4096, 8192}
    corners = {(1, 128), (1, 8192), (256, 128), (256, 8192)}
    assert corners <= {(step.batch, step.window) for step in attention}
    assert {p.task.part for p in measured.points} == {None, "whole", "rest", "attention"}
    assert {p.task.implementation for p in measured.points} == {"sdpa", "eager"}
    assert {p.task.cache for p in measured.points} == {"warm", "cold"}
    assert {p.kernel for p in measured.points} >= {"cudnn", "flash", "efficient", "math"}


def test_a_plan_obeys_what_else_is_asked_for():
    gpu = load_gpu("h100-sxm", measured=False)
    plan = MeasurementPlan(
        batches=(2, 32), windows=(256,), precisions=("fp16",), implementations=("sdpa",),
        caches=("warm",), kernels=("flash",), minutes=5,
    )  # fmt: skip
    chosen, _ = plan.tasks_that_fit(gpu, "fp16")
    assert {(t.step.batch, t.step.window) for t in chosen} == {(2, 256), (32, 256)}
    assert {(t.kernel, t.implementation, t.cache, t.step.precision) for t in chosen} == {
        ("flash", "sdpa", "warm", "fp16")
    }


def test_a_plan_ends_when_its_time_is_over():
    ticks = iter(range(0, 10_000, 20))  # a slow machine: 20 s a look at the clock
    measured = measure(FakeDevice(), replace(BOTH, minutes=6), clock=lambda: next(ticks))
    assert 0 < len(measured.points) < 30
    assert measured.left_out[-1].endswith("on: time is over")


@pytest.mark.parametrize("slower", [1, 3, 8])
def test_no_point_is_begun_that_would_overrun(slower):
    """On a device whose points take so many times what the model says."""
    plan, now, gpu = replace(BOTH, minutes=3), [0.0], load_gpu("h100-sxm", measured=False)

    class Slow(FakeDevice):
        def prepare(self, step, implementation, kernel):
            now[0] += slower * 1.2  # for each kernel tried
            return super().prepare(step, implementation, kernel)

        def prepare_token(self, step, shape, part):
            now[0] += slower * 3.0
            return super().prepare_token(step, shape, part)

    measured = measure(Slow(), plan, gpu=gpu, clock=lambda: now[0])
    assert measured.points
    assert now[0] <= 60 * plan.minutes


def test_no_room_for_all_points_is_said():
    measured = measure(FakeDevice(), replace(BOTH, minutes=1))
    assert measured.left_out[0].endswith("points: no room in 1 minutes")
