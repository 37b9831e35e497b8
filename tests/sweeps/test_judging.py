"""What a sweep judges by, and which designs compete."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from archsim.errors import ConfigError
from archsim.models.adapted import shipped_adapted
from archsim.report.sweep import point_rows, sweep_document, sweep_text
from archsim.sweeps.analysis import best, unread
from archsim.sweeps.axes import Axis, axis_from_text
from archsim.sweeps.contest import contests, judging
from archsim.sweeps.definition import Sweep, quick_sweep
from archsim.sweeps.driver import Tally
from archsim.sweeps.exploration import Exploration
from archsim.sweeps.figures import objectives
from archsim.sweeps.loss import loss_model
from archsim.sweeps.runner import explore
from archsim.sweeps.shard import parse_shard
from archsim.sweeps.sweep_file import load_sweep
from archsim.traces.synthetic import synthesise
from archsim.traces.trace import save_trace


def run(tmp_path: Path, *axes: str, **given: object) -> Exploration:
    given.setdefault("objectives", objectives(["latency", "energy", "area", "sqnr"]))
    sweep = quick_sweep([axis_from_text(text) for text in axes], **given)
    return explore(sweep, tmp_path / "s.db", workers=1)


def printed(exploration: Exploration) -> str:
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as capture:
        console.print(sweep_text(exploration, "s.db"))
    return capture.get()


@pytest.mark.parametrize(
    ("axis", "what"),
    [
        ("window=5,9", "window 5, 9"),
        ("cell.linear_slope=19 uA/V,25 uA/V", "score gain"),
        ("converter.score.saturation_current=60 uA,90 uA", "score gain"),
        ("converter.output.saturation_current=30 uA,50 uA", "value gain"),
    ],
)
def test_sqnr_ranks_nothing_where_the_design_decides_what_ideal_is(
    axis: str, what: str, tiny_trace: Path, tmp_path: Path
) -> None:
    done = run(tmp_path, axis, trace=str(tiny_trace))
    ranks = judging(done)
    assert [o.name for o in ranks.objectives] == ["latency", "energy", "area"]
    assert [o.name for o in ranks.left_out] == ["sqnr"]
    assert what in ranks.reason
    assert "judge accuracy by loss" in ranks.reason
    document = sweep_document(done)
    assert document["judged_by"] == ["latency", "energy", "area"]
    assert document["left_out"] == [{"objective": "sqnr", "reason": ranks.reason}]
    assert all(
        set(row["values"]) == {*document["judged_by"]} for row in document["fronts"][0]["rows"]
    )
    assert {row["left_out"] for row in point_rows([done])} == {ranks.reason}
    assert "Sqnr left out" in printed(done)
    with pytest.raises(ConfigError, match="--best sqnr: sqnr left out"):
        best(done, "sqnr")


def test_sqnr_ranks_where_ideal_is_one_function(tiny_trace: Path, tmp_path: Path) -> None:
    """Levels change no ideal, nor does a window that the trace of 12 tokens never fills."""
    done = run(tmp_path, "window=12,700", "levels.key_value=4,16", trace=str(tiny_trace))
    assert judging(done).left_out == ()
    (contest,) = contests(done)
    assert "sqnr" in [o.name for o in contest.objectives]
    assert contest.paper_ranks
    smaller = run(tmp_path, "levels.key_value=4,16", trace=str(tiny_trace), fixed={"window": 6})
    (contest,) = contests(smaller)  # one ideal, but not that of the published design
    assert judging(smaller).left_out == ()
    assert not contest.paper_ranks
    assert not contest.paper_beaten
    assert "its ideal attention is another" in printed(smaller)


def test_nothing_left_to_judge_by_is_refused_before_it_runs(
    tiny_trace: Path, tmp_path: Path
) -> None:
    given = {"trace": str(tiny_trace), "objectives": objectives(["sqnr"])}
    sweep = quick_sweep([axis_from_text("window=4,8")], **given)
    ran: list[object] = []
    with pytest.raises(ConfigError, match="nothing left to judge by"):
        explore(sweep, tmp_path / "s.db", workers=1, report=lambda tally, new: ran.append(new))
    assert ran == []
    axes = [axis_from_text("window=4..8"), axis_from_text("order=generate,prefill")]
    for axis, words in zip(axes, ("nothing left", "one workload"), strict=True):
        search = quick_sweep([axis], method="search", points=4, **given)
        with pytest.raises(ConfigError, match=words):
            explore(search, tmp_path / "s.db", workers=1)


def test_a_model_in_the_file_means_judging_by_loss(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: s\naxes: {window: [4, 8]}\nwindows: 2\n")
    assert [o.name for o in load_sweep(path).objectives] == ["latency", "energy", "area", "loss"]


@pytest.fixture
def traces(tmp_path: Path) -> list[Path]:
    """Two workloads, the second with fewer tokens: cheaper whatever the design."""
    folders = [tmp_path / "long", tmp_path / "short"]
    for folder, tokens in zip(folders, (20, 6), strict=True):
        save_trace(synthesise(1, 2, tokens, name=folder.name), folder)
    return folders


def test_workloads_do_not_compete_as_designs(traces: list[Path], tmp_path: Path) -> None:
    axis = f"trace={traces[0]},{traces[1]}"
    goals = objectives(["latency", "energy", "area"])
    done = run(tmp_path, axis, "write_path.heads_per_driver=1,2", objectives=goals)
    found = contests(done)
    assert [contest.workload for contest in found] == [{"trace": str(path)} for path in traces]
    assert [len(contest.candidates) for contest in found] == [2, 2]
    for contest, paper in zip(found, done.papers, strict=True):  # the published one, on the same
        assert contest.paper is not None
        assert contest.paper.values[1] == paper.figure("energy_pj")
        (same,) = contest.paper.points
        assert done.points[same].figure("energy_pj") == paper.figure("energy_pj")
        assert not contest.paper_beaten
    assert found[0].paper != found[1].paper
    winners = best(done, "energy")
    assert [winner.workload for winner in winners] == [contest.workload for contest in found]
    document = sweep_document(done)
    assert [front["workload"] for front in document["fronts"]] == [
        {"trace": str(p)} for p in traces
    ]
    text = printed(done)
    assert text.count("Pareto front, trace") == 2
    assert "beaten" not in text


@pytest.mark.parametrize("how", ["mean", "worst"])
def test_an_aggregate_is_one_contest_over_all_workloads(
    how: str, traces: list[Path], tmp_path: Path
) -> None:
    axis = f"trace={traces[0]},{traces[1]}"
    goals = objectives(["energy", "throughput"])
    given = {"objectives": goals, "aggregate": how}
    done = run(tmp_path, axis, "write_path.pulse=10 ns,20 ns", **given)
    (contest,) = contests(done)
    assert [one.points for one in contest.candidates] == [(0, 2), (1, 3)]
    for one in contest.candidates:
        points = [done.points[i] for i in one.points]
        energy = [float(str(p.figure("energy_pj"))) for p in points]
        rate = [float(str(p.figure("tokens_per_s"))) for p in points]
        expected = (sum(energy) / 2, sum(rate) / 2) if how == "mean" else (max(energy), min(rate))
        assert one.values == pytest.approx(expected)
    assert contest.paper is not None
    assert contest.paper.points == (0, 2)
    (winner,) = best(done, "energy")
    assert len(winner.points) == 2


def test_an_aggregate_over_one_workload_is_refused() -> None:
    with pytest.raises(ConfigError, match="no axis changes the workload"):
        quick_sweep([axis_from_text("window=4,8")], aggregate="mean")


def test_equal_results_are_one_row(tiny_trace: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "array.rows=16,32,64", "array.columns=32", trace=str(tiny_trace))
    (row,) = sweep_document(done)["fronts"][0]["rows"]
    assert row["points"] == [0, 1, 2]
    assert "rows 16, 32, 64; columns 32" in printed(done)


def test_keys_that_no_point_reads_are_told(tiny_trace: Path, tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "retention.tau=2 ms,3 ms",
        "write_path.arbitration=static,fifo",
        "write_path.heads_per_driver=1,2",
        trace=str(tiny_trace),
        fixed={"readout.add_time": "4 ns"},
    )
    assert unread(done) == {
        "retention.tau": (8, 8), "write_path.arbitration": (4, 8), "readout.add_time": (8, 8),
    }  # fmt: skip
    text = printed(done)
    assert "Not read by any point: retention.tau, readout.add_time" in text
    assert "Read by some points only: write_path.arbitration (4 of 8)" in text
    read = run(
        tmp_path, "retention.tau=2 ms,3 ms", trace=str(tiny_trace),
        fixed={"retention.model": "nominal"},
    )  # fmt: skip
    assert unread(read) == {}


def test_only_points_of_the_sweep_are_counted_and_reported(
    tiny_trace: Path, tmp_path: Path
) -> None:
    """The published design runs beside them: it has the lowest latency here, and is no point."""
    seen: list[tuple[int, int]] = []
    latencies: list[object] = []

    def report(tally: Tally, new: object) -> None:
        seen.append((tally.done, tally.total))
        latencies.extend(o.results["layer_ns"] for o in new)  # type: ignore[attr-defined]

    sweep = quick_sweep([axis_from_text("write_path.pulse=30 ns,40 ns")], trace=str(tiny_trace))
    explore(sweep, tmp_path / "s.db", workers=1, report=report)
    assert {total for _, total in seen} == {2}
    assert seen[-1] == (2, 2)
    assert len(latencies) == 2
    assert min(latencies) > 65  # type: ignore[type-var]


@pytest.mark.parametrize(("points", "of"), [(5, 3), (5, 4), (7, 2), (2, 3)])
def test_shards_are_even(points: int, of: int, tiny_trace: Path, tmp_path: Path) -> None:
    pulses = ",".join(f"{10 + i} ns" for i in range(points))
    sweep = quick_sweep([axis_from_text(f"write_path.pulse={pulses}")], trace=str(tiny_trace))
    counts, done = [], set()
    for part in range(1, of + 1):
        shard = parse_shard(f"{part}/{of}")
        found = explore(sweep, tmp_path / f"{part}.db", workers=1, shard=shard)
        ran = {i for i, point in enumerate(found.points) if point.status == "ok"}
        assert not ran & done
        done |= ran
        counts.append(len(ran))
    assert done == set(range(points))
    assert max(counts) - min(counts) <= 1


SOURCES = """
extends: gaincell-28nm
window: 8
controller:
  energy_per_cycle: {value: 12 pJ, source: SOURCE}
"""


def test_a_store_never_answers_with_the_sources_of_another_file(
    tiny_trace: Path, tmp_path: Path
) -> None:
    """The same numbers from elsewhere: other shares assumed, the same design."""
    file = tmp_path / "hw.yaml"
    found = []
    for source in ("assumed", "user", "text"):
        file.write_text(SOURCES.replace("SOURCE", source))
        sweep = Sweep(
            "s",
            (axis_from_text("write_path.pulse=12 ns,17 ns"),),
            objectives(["energy"]),
            hardware=str(file),
            trace=str(tiny_trace),
        )
        found.append(explore(sweep, tmp_path / "s.db", workers=1))
    first, *others = [[p.figure("energy_assumed") for p in each.points] for each in found]
    for other in others:
        assert all(a < b for a, b in zip(other, first, strict=True))  # type: ignore[operator]
    energies = {tuple(p.figure("energy_pj") for p in each.points) for each in found}
    assert len(energies) == 1


def test_sqnr_below_0_db_is_said_to_rank_little(tmp_path: Path) -> None:
    """Where the error exceeds the signal everywhere, more of it can look better."""
    done = run(tmp_path, "retention.decay_per_token=0,0.5,3")
    ratios = [point.results["sqnr_db"] for point in done.points if point.results is not None]
    low = replace(
        done,
        points=tuple(
            replace(point, results={**(point.results or {}), "sqnr_db": -0.5 - place})
            for place, point in enumerate(done.points)
        ),
    )
    assert len(ratios) == 3
    found = judging(low)
    assert "ranks little: at most -0.50 dB" in found.reason
    assert "anks little" in printed(low)
    assert "judge accuracy by loss" in found.reason
    high = replace(
        done,
        points=tuple(
            replace(point, results={**(point.results or {}), "sqnr_db": 3.0 - place})
            for place, point in enumerate(done.points)
        ),
    )
    assert judging(high).reason == ""


def test_a_sweep_measures_the_loss_of_its_own_traces_model(tmp_path: Path) -> None:
    shipped = shipped_adapted()
    assert Path(loss_model(quick_sweep([axis_from_text("window=8,16")]))).samefile(shipped)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "adaptation.json").write_text("{}")
    save_trace(synthesise(1, 2, 12, name="trace"), folder / "trace")
    sweep = quick_sweep(
        [axis_from_text("window=8,16")], trace=str(folder / "trace"), hardware="gaincell-28nm"
    )
    assert Path(loss_model(sweep)).samefile(folder)
    assert loss_model(replace(sweep, model="other")) == "other"
    both = replace(sweep, axes=(Axis("trace", (str(folder / "trace"), "reference")),))
    assert Path(loss_model(both)).samefile(shipped)


def test_points_that_differ_from_what_a_model_was_adapted_to_are_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "levels.key_value=2,4,8", "levels.output=8,32", tokens=4, layers=1)
    text = " ".join(printed(done).split())
    told = "5 of 6 points: Model reference-adapted was adapted to other hardware (gaincell-28nm)"
    assert f"{told} in levels.key_value, levels.output." in text
    assert "more such notes" not in text


def test_the_head_names_no_trace_or_hardware_that_no_point_runs(tmp_path: Path) -> None:
    save_trace(synthesise(1, 2, 12, name="one"), tmp_path / "one")
    save_trace(synthesise(1, 2, 9, name="two"), tmp_path / "two")
    traces = Axis("trace", (str(tmp_path / "one"), str(tmp_path / "two")))
    sweep = quick_sweep([traces], objectives=objectives(["energy"]), hardware="gaincell-28nm")
    text = " ".join(printed(explore(sweep, tmp_path / "s.db", workers=1)).split())
    assert "from gaincell-28nm, generate store" in text
    assert "reference-adapted" not in text
