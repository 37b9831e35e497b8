"""Sweeps carried out: equal to single runs, never twice, whatever dies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import dask
import distributed
import pytest

from archsim.api import simulate
from archsim.errors import ConfigError
from archsim.hardware.load import load_hardware
from archsim.sweeps import runner
from archsim.sweeps.axes import axis_from_text
from archsim.sweeps.cluster import Cluster
from archsim.sweeps.definition import Sweep, quick_sweep
from archsim.sweeps.driver import Queue, Stop, run_jobs
from archsim.sweeps.exploration import Exploration
from archsim.sweeps.figures import LOSS, PATHS, figure_names, figures
from archsim.sweeps.point import Job, Preparation, run_job
from archsim.sweeps.pool import Pool
from archsim.sweeps.runner import explore
from archsim.sweeps.shard import parse_shard
from archsim.sweeps.store import Store
from archsim.traces.trace import load_trace

from . import faults
from .faults import fickle, fragile, small_sweep

LIMIT_S = 4.0
"""Long enough for any point on a busy machine."""


def all_jobs(sweep: Sweep) -> list[Job]:
    preparation = Preparation(sweep)
    return [preparation.job(point) for point in runner.design(sweep)]


def log_lines(log: Path) -> list[tuple[str, str]]:
    return [tuple(line.split()) for line in log.read_text().splitlines()]  # type: ignore[misc]


def test_points_equal_single_simulations_to_the_last_bit(tiny_trace: Path, tmp_path: Path) -> None:
    axes = [
        axis_from_text("array.columns=16,64"),
        axis_from_text("hardware=gaincell-28nm,gaincell-osfet"),
        axis_from_text("order=generate,prefill"),
    ]
    sweep = quick_sweep(axes, trace=str(tiny_trace), fixed={"controller.phases": "early_end"})
    done = explore(sweep, tmp_path / "s.db", workers=2)
    assert done.complete
    trace = load_trace(tiny_trace)
    for point in done.points:
        hardware = load_hardware(
            str(point.parameters["hardware"]),
            {
                "array.columns": point.parameters["array.columns"],
                "controller.phases": "early_end",
            },
        )
        result = simulate(trace, hardware, order=str(point.parameters["order"]))
        document = result.document(wall=False)
        for name, path in PATHS.items():
            value = document
            for key in path.split("."):
                value = value[key]
            assert point.results is not None
            assert point.results[name] == value, name
        assert set(point.results) == {*figure_names()} - {LOSS}
    assert done.paper.results == figures(simulate(trace, load_hardware()))


def test_dot_products_split_over_arrays_of_any_height(tiny_trace: Path, tmp_path: Path) -> None:
    """``digital`` costs time, energy and area on fewer rows than the head's 64 features."""
    axes = [
        axis_from_text("array.rows=16,32,64"),
        axis_from_text("readout.model=charge_to_pulse,digital_sum"),
    ]
    done = explore(quick_sweep(axes, trace=str(tiny_trace)), tmp_path / "s.db", workers=2)
    assert [point.status for point in done.points] == ["ok"] * 6
    found = {tuple(point.parameters.values()): point.results for point in done.points}
    for key in ("attention_ns", "energy_pj", "area_mm2"):
        values = {place: results[key] for place, results in found.items() if results is not None}
        assert len({values[rows, "charge_to_pulse"] for rows in (16, 32, 64)}) == 1
        assert values[64, "digital_sum"] == values[64, "charge_to_pulse"]
        assert values[32, "digital_sum"] > values[32, "charge_to_pulse"]
        if key != "attention_ns":  # twice as many partial sums
            assert values[16, "digital_sum"] > values[32, "digital_sum"]


def test_the_same_point_is_never_run_twice(tiny_trace: Path, tmp_path: Path) -> None:
    store, ran = tmp_path / "s.db", []

    def counted(sweep_axes: list[str]) -> Exploration:
        sweep = quick_sweep([axis_from_text(a) for a in sweep_axes], trace=str(tiny_trace))
        ran.append(0)

        def report(tally: object, new: object) -> None:
            ran[-1] = tally.ran  # type: ignore[attr-defined]

        return explore(sweep, store, workers=1, report=report)

    first = counted(["window=8,16", "controller.clock=1 GHz,2 GHz"])
    again = counted(["window=8,16", "controller.clock=1 GHz,2 GHz"])
    wider = counted(["controller.clock=1000 MHz,2 GHz", "window=8,16,1024"])  # written otherwise
    # 4 points; nothing; two new: 1 GHz, 1024 is the published design with numbers set here
    assert ran == [4, 0, 2]
    assert first.points == again.points
    assert wider.points[0].results == first.points[0].results


def test_invalid_points_are_kept_with_their_reason(tiny_trace: Path, tmp_path: Path) -> None:
    sweep = quick_sweep(
        [axis_from_text("controller.clock=1 GHz,0.7 GHz"), axis_from_text("tokens=8,500")],
        trace=str(tiny_trace),
    )
    done = explore(sweep, tmp_path / "s.db", workers=1)
    assert [point.status for point in done.points] == ["ok", "invalid", "invalid", "invalid"]
    assert "whole number of clock edges" in done.points[2].reason
    assert "has 1 to 12 tokens" in done.points[1].reason


def test_workers_that_die_cost_their_own_point(tiny_trace: Path, tmp_path: Path) -> None:
    """3 ns always kills its worker, 5 ns once, 6 ns takes too long; all others are answered."""
    sweep = small_sweep(tiny_trace)
    jobs = all_jobs(sweep)
    with Store(tmp_path / "s.db") as store:
        answers = run_jobs(
            jobs, store, lambda _: Pool(2, LIMIT_S, partial(fragile, tmp_path)), workers=2
        )
        assert store.content().keys() == answers.keys() == {job.key for job in jobs}
    by_pulse: dict[object, set[str]] = {}
    for job in jobs:
        status = by_pulse.setdefault(job.parameters["write_path.pulse"], set())
        status.add(answers[job.key].status)
    crashed, late = by_pulse.pop("3 ns"), by_pulse.pop("6 ns")
    assert (crashed, late) == ({"crashed"}, {"timeout"})
    assert set().union(*by_pulse.values()) == {"ok"}
    reasons = {o.reason for o in answers.values() if o.status != "ok"}
    assert reasons == {"its worker ended with SIGKILL, twice", f"took longer than {LIMIT_S:g} s"}


def test_crashed_points_run_again_only_when_asked(
    tiny_trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = quick_sweep([axis_from_text("write_path.pulse=2 ns,3 ns")], trace=str(tiny_trace))
    monkeypatch.setattr(runner, "Pool", partial(Pool, run=partial(fragile, tmp_path)))
    assert explore(sweep, tmp_path / "s.db", workers=1).counts == {"ok": 1, "crashed": 1}
    monkeypatch.undo()
    assert explore(sweep, tmp_path / "s.db", workers=1).counts == {"ok": 1, "crashed": 1}
    assert explore(sweep, tmp_path / "s.db", workers=1, retry=True).counts == {"ok": 2}


def test_stopping_finishes_what_runs_and_goes_on_later(
    tiny_trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, stop = tmp_path / "log", Stop()
    log.touch()
    monkeypatch.setattr(runner, "Pool", partial(Pool, run=partial(faults.logged, log)))

    def report(tally: object, new: object) -> None:
        stop.asked = int(tally.done >= 5)  # type: ignore[attr-defined]

    sweep = small_sweep(tiny_trace)
    done = explore(sweep, tmp_path / "s.db", workers=2, report=report, stop=stop)
    assert done.counts["waiting"] > 0
    with Store(tmp_path / "s.db") as store:  # has the published design too, which is no point
        assert len(log_lines(log)) == len(store.content())  # all that began was kept
    whole = explore(sweep, tmp_path / "s.db", workers=2)
    assert whole.complete
    assert len(log_lines(log)) == len(done.points) + 1


def driver(store: Path, trace: Path, log: Path, commit: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, faults.__file__, store, trace, log, "1", str(commit)]
    here = str(Path(faults.__file__).parent)
    return subprocess.Popen(
        list(map(str, command)),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([here, *sys.path])},
        stderr=subprocess.PIPE,
    )


def test_a_driver_killed_ten_times_loses_nothing(tiny_trace: Path, tmp_path: Path) -> None:
    store, log = tmp_path / "s.db", tmp_path / "log"
    log.touch()
    rng = random.Random(5)
    for turn in range(11):
        between = turn % 2 == 0  # between a result and its commit, else at any moment
        last = turn == 10
        process = driver(store, tiny_trace, log, rng.randint(1, 3) if between and not last else 0)
        if not between:
            ran = len(log_lines(log))
            until = time.monotonic() + 60
            while len(log_lines(log)) <= ran and process.poll() is None:
                assert time.monotonic() < until
                time.sleep(0.01)
            time.sleep(rng.random() * 0.1)
            process.kill()
        _, error = process.communicate(timeout=120)
        assert process.returncode == (0 if last else -signal.SIGKILL), error.decode()
        with Store(store) as kept:
            kept.check_integrity()
    acknowledged: set[str] = set()
    for what, key in log_lines(log):
        assert what == "ack" or key not in acknowledged, "an acknowledged point was run again"
        acknowledged |= {key} if what == "ack" else set()
    done = explore(small_sweep(tiny_trace, faults.DRIVEN), store, only_stored=True)
    assert done.complete
    with Store(store) as kept:
        assert acknowledged <= kept.content().keys()
    whole = explore(small_sweep(tiny_trace, faults.DRIVEN), tmp_path / "whole.db", workers=2)
    assert whole == done


def test_two_sweeps_into_one_store_share_the_work(tiny_trace: Path, tmp_path: Path) -> None:
    store, log = tmp_path / "s.db", tmp_path / "log"
    log.touch()
    both = [driver(store, tiny_trace, log, 0) for _ in range(2)]
    for process in both:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error.decode()
    ran = [key for what, key in log_lines(log) if what == "run"]
    assert len(ran) == len(set(ran)) == faults.DRIVEN + 1  # and the published design
    with Store(store) as kept:
        kept.check_integrity()
        assert len(kept.content()) == faults.DRIVEN + 1


def test_shards_merge_to_the_whole(tiny_trace: Path, tmp_path: Path) -> None:
    sweep = small_sweep(tiny_trace, 9)
    for part in (1, 2, 3):
        shard = parse_shard(f"{part}/3")
        explore(sweep, tmp_path / f"{part}.db", workers=1, shard=shard)
    with Store(tmp_path / "all.db") as store:
        for part in (1, 2, 3):
            store.merge(tmp_path / f"{part}.db")
    merged = explore(sweep, tmp_path / "all.db", only_stored=True)
    assert merged.complete
    assert merged == explore(sweep, tmp_path / "whole.db", workers=1)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_shards_that_cannot_be(text: str) -> None:
    with pytest.raises(ConfigError, match="--shard"):
        parse_shard(text)


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_a_search_is_deterministic_and_goes_on(
    sampler: str, tiny_trace: Path, tmp_path: Path
) -> None:
    sweep = quick_sweep(
        [axis_from_text("window=1..16"), axis_from_text("write_path.pulse=1 ns..20 ns")],
        trace=str(tiny_trace), method="search", points=12, batch=4, sampler=sampler,
        constraints=(exploration_constraint("window > 2"),),
    )  # fmt: skip
    stop = Stop()

    def report(tally: object, new: object) -> None:
        stop.asked = int(len(new) > 0 and tally.ran > 2)  # type: ignore[attr-defined, arg-type]

    part = explore(sweep, tmp_path / "a.db", workers=2, report=report, stop=stop)
    assert len(part.points) < 12
    whole = explore(sweep, tmp_path / "a.db", workers=2)
    other = explore(sweep, tmp_path / "b.db", workers=1)
    assert len(whole.points) == 12
    assert whole == other


def exploration_constraint(text: str) -> object:
    from archsim.sweeps.axes import known_keys
    from archsim.sweeps.expression import parse_expression

    return parse_expression(text, known_keys())


def test_a_cluster_gives_the_same_store_and_survives_a_worker(
    tiny_trace: Path, tmp_path: Path
) -> None:
    """One point always kills its worker, one takes too long, one worker is killed from outside."""
    pulses = ",".join(f"{n} ns" for n in (1, 2, 3, 6, *range(10, 50)))
    sweep = quick_sweep([axis_from_text(f"write_path.pulse={pulses}")], trace=str(tiny_trace))
    jobs = all_jobs(sweep)
    killed: list[int] = []

    def cluster(_: int) -> Cluster:
        place = Cluster("local", 2, LIMIT_S, partial(fragile, tmp_path))

        def kill() -> None:
            time.sleep(0.5)
            killed.append(place.processes[0])
            os.kill(killed[0], signal.SIGKILL)

        threading.Thread(target=kill).start()
        return place

    with Store(tmp_path / "cluster.db") as store:
        run_jobs(jobs, store, cluster, workers=2)
        ours = store.content()
    assert killed
    with Store(tmp_path / "pool.db") as store:
        run_jobs(jobs, store, lambda _: Pool(2), workers=2)
        theirs = store.content()
    assert ours.keys() == theirs.keys()
    lost = {
        job.key: {"3 ns": "crashed", "6 ns": "timeout"}[str(pulse)]
        for job in jobs
        if (pulse := job.parameters["write_path.pulse"]) in {"3 ns", "6 ns"}
    }
    assert {key: found[0] for key, found in ours.items() if found[0] != "ok"} == lost
    assert all(ours[key] == theirs[key] for key in theirs.keys() - lost.keys())


def test_results_lost_with_their_worker_are_computed_again(
    tiny_trace: Path, tmp_path: Path
) -> None:
    """Nobody waits for that: it has the time limit of any run, and may lose its worker again.

    Dask itself would give up a worker that takes longer than its own limit to come back.
    """
    expected = {"1 ns": "ok", "3 ns": "crashed", "6 ns": "timeout"}
    axis = axis_from_text(f"write_path.pulse={','.join(expected)}")
    jobs = all_jobs(quick_sweep([axis], trace=str(tiny_trace)))
    found: dict[str, str] = {}
    with dask.config.set({"distributed.deploy.lost-worker-timeout": 0.5}):
        place = Cluster("local", 1, LIMIT_S, partial(fickle, tmp_path))
        until = time.monotonic() + 60
        try:
            for job in jobs:
                place.submit([job])
            while not all(future.done() for future in place._kept):
                assert time.monotonic() < until
                time.sleep(0.01)
            os.kill(place.processes[0], signal.SIGKILL)
            while place.running:
                assert time.monotonic() < until
                found.update({outcome.key: outcome.status for outcome in place.poll(0.2)})
        finally:
            place.close()
        assert dask.config.get("distributed.deploy.lost-worker-timeout") == 0.5
    assert found == {job.key: expected[str(job.parameters["write_path.pulse"])] for job in jobs}


def test_a_scheduler_that_goes_away_is_told(
    tiny_trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archsim.sweeps.cluster.CONNECT_S", 2.0)
    jobs = all_jobs(quick_sweep([axis_from_text("write_path.pulse=6 ns")], trace=str(tiny_trace)))
    with distributed.LocalCluster(n_workers=1, dashboard_address=None) as scheduler:
        place = Cluster(scheduler.scheduler_address, 1, None, partial(fragile, tmp_path))
        place.submit(jobs)
    until = time.monotonic() + 60

    def poll() -> None:
        while time.monotonic() < until:
            assert place.poll(0.2) == []

    try:
        with pytest.raises(ConfigError, match="the scheduler is gone"):
            poll()
    finally:
        place.close()


def test_no_scheduler_answers(tiny_trace: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no scheduler"):
        Cluster("not an address", 1)


def test_points_go_out_by_their_functional_result(tiny_trace: Path) -> None:
    sweep = quick_sweep(
        [axis_from_text("write_path.pulse=1 ns,2 ns,3 ns"), axis_from_text("window=4,8")],
        trace=str(tiny_trace),
    )
    queue = Queue(all_jobs(sweep))
    first = queue.take("", 2)
    second = queue.take("", 9)  # another worker begins the other group
    third = queue.take(first[0].group, 9)
    groups = [{job.group for job in batch} for batch in (first, second, third)]
    assert groups[0] == groups[2] != groups[1]
    assert (len(first), len(second), len(third), len(queue)) == (2, 3, 1, 0)


def test_a_changed_file_is_noticed(tiny_trace: Path) -> None:
    from dataclasses import replace

    preparation = Preparation(quick_sweep([axis_from_text("window=4")], trace=str(tiny_trace)))
    job = replace(preparation.job({"window": 4}), hardware="0" * 64)
    outcome = run_job(job)
    assert outcome.status == "failed"
    assert "changed while" in outcome.reason
