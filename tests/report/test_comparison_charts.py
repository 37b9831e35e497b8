"""The pictures of a comparison: what they show, and that they can be drawn."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from archsim.api import compare
from archsim.comparison.hardware import GpuComparison, window_figures
from archsim.comparison.request import Request
from archsim.errors import MissingExtraError
from archsim.gpu.file import Cache, Precision, load_gpu
from archsim.hardware.load import load_hardware
from archsim.report import comparison_charts
from archsim.report.charts import INK, PAPER, SERIES
from archsim.report.comparison_charts import (
    ACCELERATOR,
    EDGE,
    L2_ROOF,
    MEMORY_ROOF,
    STATED,
    ChartPoint,
    colours,
    ratio_chart,
    ratio_points,
    roofline_chart,
    roofline_points,
    write_charts,
)
from archsim.result import Result

from .colour_vision import contrast, least_difference

GPUS = [load_gpu("h100-sxm", measured=False), load_gpu("jetson-nano", measured=False)]


@pytest.fixture(scope="module")
def comparison(small_result: Result) -> GpuComparison:
    return compare(small_result, GPUS)


def drawn_roof(points: list[ChartPoint], name: str, kind: str, intensity: float) -> float:
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
    edges = [p for p in ratio_points(own, [], GPUS, asked, "speedup") if p["source"] == EDGE]
    assert edges == []  # nothing is left in L2
    title = roofline_chart(own, GPUS, asked).to_dict()["title"]
    assert title[-1] == "GPUs modelled, bf16, cold cache"


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
    assert {p["source"] for p in energies} == {"model", STATED, EDGE}  # nobody measured it


def test_what_the_paper_states_is_drawn_at_its_own_batch(comparison: GpuComparison) -> None:
    for ratio, claimed in (("speedup", 100), ("energy_ratio", 70_000)):
        points = ratio_points(comparison.calibrated, [], GPUS, Request(), ratio)
        (mark,) = [p for p in points if (p["name"], p["source"]) == ("H100 SXM", STATED)]
        assert (mark["panel"], mark["x"], mark["y"]) == ("batch, window 1,024", 64, claimed)
        assert "the paper states" in mark["text"]
    other = window_figures(load_hardware(), 512)  # of that window the paper says nothing
    assert STATED not in {p["source"] for p in ratio_points(other, [], GPUS, Request(), "speedup")}


def test_the_edge_of_l2_lies_on_the_line_where_k_and_v_fill_it(comparison: GpuComparison) -> None:
    """An H100: 0.7 of 50 MB over 3.1 MB a sequence, so between batch 8 and 16."""
    points = ratio_points(comparison.calibrated, [], GPUS, Request(), "speedup")
    (mark,) = [p for p in points if (p["name"], p["source"]) == ("H100 SXM", EDGE)]
    assert mark["x"] == pytest.approx(0.7 * 50e6 / (2 * 12 * 1024 * 64 * 2))
    line = {p["x"]: p["y"] for p in points if (p["name"], p["source"]) == ("H100 SXM", "model")}
    assert min(line[8], line[16]) < mark["y"] < max(line[8], line[16])


def test_a_gpu_has_one_colour_on_every_chart_and_the_accelerator_is_drawn(
    comparison: GpuComparison,
) -> None:
    own, request = comparison.calibrated, Request()
    drawn = [
        roofline_chart(own, GPUS, request).to_dict(),
        *(ratio_chart(own, [], GPUS, request, r).to_dict() for r in ("speedup", "energy_ratio")),
    ]
    for chart in drawn:
        found = set(colour_scales(chart))
        assert found == {tuple(colours(GPUS).items())}
        assert ACCELERATOR in json.dumps(chart)
    many = [GPUS[0].model_copy(update={"name": f"GPU {place}"}) for place in range(len(SERIES))]
    assert len(set(colours(many).values())) == len(SERIES) + 1


def test_lines_and_labels_that_coincide_are_told_apart(comparison: GpuComparison) -> None:
    gpus = [load_gpu(name) for name in ("a100-80gb", "h100-sxm", "h200-sxm")]
    drawn = ratio_chart(comparison.calibrated, [], gpus, Request(), "speedup").to_dict()
    layers = [layer for panel in drawn["vconcat"] for layer in panel["layer"]]
    (dashes,) = [x["encoding"]["strokeDash"] for x in layers if "strokeDash" in x["encoding"]]
    assert dashes["scale"]["domain"] == [gpu.name for gpu in gpus]
    assert len({tuple(pattern) for pattern in dashes["scale"]["range"]}) == len(gpus)
    labels = [x["mark"]["dy"] for x in layers if x["encoding"].get("text") == {"value": "L2"}]
    assert len(labels) == len(set(labels)) == len(gpus)


def colour_scales(chart: object) -> Iterator[tuple[tuple[str, str], ...]]:
    """Name and colour of every colour scale in a specification."""
    if isinstance(chart, dict):
        scale = chart.get("color", {})
        if isinstance(scale, dict) and "scale" in scale:
            yield tuple(zip(scale["scale"]["domain"], scale["scale"]["range"], strict=True))
        for value in chart.values():
            yield from colour_scales(value)
    elif isinstance(chart, list):
        for value in chart:
            yield from colour_scales(value)


@pytest.mark.parametrize("dark", [0, 1])
def test_colours_are_told_apart_by_every_eye(dark: int) -> None:
    """Any two by 16 of CIE 2000 at least, and each by a contrast of 3 from its page."""
    shown = [INK[dark], *(pair[dark] for pair in SERIES)]
    assert least_difference(shown) >= 16
    assert min(contrast(colour, PAPER[dark]) for colour in shown) >= 3
    # red and green of the same lightness, and blue and green, are not
    assert least_difference(["#c05050", "#7a7a30"]) < 16
    assert contrast("#ffff00", PAPER[0]) < 3


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
        titles = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}title")]
        assert any("H100 SXM, " in str(title) for title in titles)  # under the pointer
        assert ACCELERATOR in " ".join(str(text) for text in texts)
        assert float(picture.attrib["width"]) <= 400 - 2 * 16  # a phone's page has margins
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert page.count("<svg ") == 3
    assert "url(#" not in page  # drawings in one document would share such names
    assert "prefers-color-scheme: dark" in page
    for light, dark in SERIES[:2]:
        assert f'svg [stroke="{light}"] {{ stroke: {dark}; }}' in page
    assert "344x" not in page  # no RTX 4090 was asked for
    assert "7,521x faster (throughput), 43,98" in page
    table = [re.findall("<td>(.*?)</td>", line) for line in page.splitlines()]
    table = [cells for cells in table if cells]
    assert {len(cells) for cells in table} == {13} == {page.count("<th>")}
    assert ["Jetson Nano", "paper", "stated by the paper"] in [cells[:3] for cells in table]
    own = [cells for cells in table if cells[2] == "archsim"]
    assert [cells[1] for cells in own] == ["paper", "latency", "throughput", "eager"]
    assert all(cells[9:11] == ["0.065", "7.38e-05"] for cells in own)
    errors = {(cells[0], cells[1]): cells[-1] for cells in table if cells[2] == "model"}
    assert errors["H100 SXM", "latency"] == "~4/5"  # its measured points were left out here
    assert errors["Jetson Nano", "latency"] == "~86/16"
    for word in ("<script", "@import", "https://", "url(h", "src="):
        assert word not in page


def test_without_the_extra_it_is_one_line(
    comparison: GpuComparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'archsim\[report\]'"):
        write_charts(comparison, GPUS, tmp_path / "none")
    assert not (tmp_path / "none").exists()
