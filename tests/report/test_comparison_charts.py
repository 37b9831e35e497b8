"""The pictures of a comparison: what they show, and that they can be drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from archsim.api import compare
from archsim.baseline import Request
from archsim.config.gpu import Cache, Precision, load_gpu
from archsim.config.hardware import load_hardware
from archsim.errors import MissingExtraError
from archsim.evaluation.comparison import GpuComparison, window_figures
from archsim.report import comparison_charts
from archsim.report.comparison_charts import (
    ACCELERATOR,
    L2_ROOF,
    MEMORY_ROOF,
    Point,
    ratio_points,
    roofline_chart,
    roofline_points,
    write_charts,
)
from archsim.result import Result

GPUS = [load_gpu("h100-sxm", measured=False), load_gpu("jetson-nano", measured=False)]


@pytest.fixture(scope="module")
def comparison(small_result: Result) -> GpuComparison:
    return compare(small_result, GPUS)


def drawn_roof(points: list[Point], name: str, kind: str, intensity: float) -> float:
    """The height of a drawn line at `intensity`, between its corners as the picture has it."""
    line = [p for p in points if (p["name"], p["kind"]) == (name, kind)]
    x, y = (np.log([p[key] for p in line]) for key in ("intensity", "rate"))
    return float(np.exp(np.interp(np.log(intensity), x, y)))


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("cache", ["warm", "cold"])
def test_no_point_lies_above_its_drawn_roof(
    comparison: GpuComparison, cache: Cache, precision: Precision
) -> None:
    """A warm point lies under the L2 roof, a cold one under the memory's."""
    request = Request(precision=precision, cache=cache)
    points = roofline_points(comparison.calibrated, GPUS, request)
    marks = [p for p in points if p["kind"].startswith("batch")]
    assert len(marks) == 2 * len(GPUS)
    for point in marks:
        kind = L2_ROOF if cache == "warm" else MEMORY_ROOF
        roof = drawn_roof(points, point["name"], kind, point["intensity"])
        assert 0 < point["rate"] <= roof * (1 + 1e-9)


def test_the_accelerator_is_a_point_without_a_roof(comparison: GpuComparison) -> None:
    points = roofline_points(comparison.calibrated, GPUS, Request())
    (token,) = [p for p in points if p["name"] == ACCELERATOR]
    assert token["kind"] == "one token"
    assert token["rate"] == pytest.approx(4 * 12 * 64 * 1024 / 65e-9 * 1e-12)
    assert token["intensity"] == pytest.approx(4 * 12 * 64 * 1024 / 2496)  # 2,496 bytes a token


def test_pictures_have_the_precision_and_cache_asked_for(comparison: GpuComparison) -> None:
    own = comparison.calibrated
    asked = Request(precision="bf16", cache="cold")
    assert {p["name"] for p in roofline_points(own, GPUS, asked)} == {ACCELERATOR, "H100 SXM"}
    (warm, cold) = (
        {
            (p["panel"], p["x"]): p["y"]
            for p in ratio_points(own, [], GPUS, request, "speedup")
            if (p["name"], p["source"]) == ("H100 SXM", "model")
        }
        for request in (Request(), asked)
    )
    assert warm.keys() == cold.keys()
    assert all(cold[at] >= warm[at] for at in warm)
    assert cold["batch, window 1,024", 4] > warm["batch, window 1,024", 4]
    title = roofline_chart(own, GPUS, asked).to_dict()["title"]
    assert title.endswith("GPUs modelled, bf16, cold cache")


def test_ratio_points_agree_with_the_table(comparison: GpuComparison) -> None:
    own = comparison.calibrated
    by_window = [window_figures(load_hardware(), window) for window in (128, 512)]
    points = ratio_points(own, by_window, GPUS, Request(), "speedup")
    at = {(p["panel"], p["x"], p["name"], p["source"]): p["y"] for p in points}
    measured = at["batch, window 1,024", 64, "H100 SXM", "measured"]
    assert measured == pytest.approx(80.8e-6 / 64 / 65e-9)
    assert at["window, batch 1", 128, "H100 SXM", "measured"] == pytest.approx(8.8e-6 / 65e-9)
    assert (
        len([p for p in points if p["source"] == "model"]) == 2 * 2 + 9 + 7
    )  # the Nano holds up to 64
    energies = ratio_points(own, by_window, GPUS, Request(), "energy_ratio")
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
