"""The pictures of a comparison: what they show, and that they can be drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from archsim.api import compare
from archsim.config.gpu import load_gpu
from archsim.config.hardware import load_hardware
from archsim.errors import MissingExtraError
from archsim.evaluation.comparison import GpuComparison, window_figures
from archsim.report import comparison_charts
from archsim.report.comparison_charts import (
    ACCELERATOR,
    ratio_points,
    roofline_points,
    write_charts,
)
from archsim.result import Result

GPUS = [load_gpu("h100-sxm"), load_gpu("jetson-nano")]


@pytest.fixture(scope="module")
def comparison(small_result: Result) -> GpuComparison:
    return compare(small_result, GPUS)


def test_no_point_lies_above_its_roof(comparison: GpuComparison) -> None:
    own = comparison.calibrated
    points = roofline_points(own, GPUS)
    roofs = {
        ACCELERATOR: (
            own.boundary_bytes / own.attention_latency_s,
            own.attention.layer_flop / own.attention_latency_s,
        ),
        **{gpu.name: (gpu.memory.l2_bandwidth, gpu.peak.fp16) for gpu in GPUS},
    }
    for point in points:
        bandwidth, peak = roofs[point["name"]]
        roof = min(point["intensity"] * bandwidth, peak) * 1e-12
        assert 0 < point["rate"] <= roof * (1 + 1e-9)
    (token,) = [p for p in points if p["kind"] == "one token"]
    assert token["rate"] == pytest.approx(4 * 12 * 64 * 1024 / 65e-9 * 1e-12)
    assert token["intensity"] == pytest.approx(4 * 12 * 64 * 1024 / 2496)  # 2,496 bytes a token


def test_ratio_points_agree_with_the_table(comparison: GpuComparison) -> None:
    own = comparison.calibrated
    by_window = [window_figures(load_hardware(), window) for window in (128, 512)]
    points = ratio_points(own, by_window, GPUS, "speedup")
    at = {(p["panel"], p["x"], p["name"], p["source"]): p["y"] for p in points}
    measured = at["batch, window 1,024", 64, "H100 SXM", "measured"]
    assert measured == pytest.approx(80.8e-6 / 64 / 65e-9)
    assert at["window, batch 1", 128, "H100 SXM", "measured"] == pytest.approx(8.8e-6 / 65e-9)
    assert (
        len([p for p in points if p["source"] == "model"]) == 2 * 2 + 9 + 7
    )  # the Nano holds up to 64
    energies = ratio_points(own, by_window, GPUS, "energy_ratio")
    assert {p["source"] for p in energies} == {"model"}  # nobody measured the energy


def test_files_are_drawn_and_ask_for_nothing(
    comparison: GpuComparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison_charts, "WINDOWS", (128, 256))
    paths = write_charts(comparison, GPUS, tmp_path)
    assert sorted(path.name for path in paths) == sorted(p.name for p in tmp_path.iterdir())
    for name in ("roofline", "speedup", "energy"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        picture = ElementTree.parse(tmp_path / f"{name}.svg").getroot()
        texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
        assert {"H100 SXM", "Jetson Nano"} <= texts
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/svg+xml;base64,') == page.count("src=") == 3
    assert "344x" not in page  # no RTX 4090 was asked for
    assert "7,521x faster (throughput), 43,98" in page
    for word in ("<script", "@import", "http://", "https://", "url("):
        assert word not in page


def test_without_the_extra_it_is_one_line(
    comparison: GpuComparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'archsim\[report\]'"):
        write_charts(comparison, GPUS, tmp_path / "none")
    assert not (tmp_path / "none").exists()
