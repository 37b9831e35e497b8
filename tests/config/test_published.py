"""The file of published numbers: read strictly, faults with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim.config.published import (
    PublishedFigure,
    all_published,
    load_published,
    published,
    published_of,
)
from archsim.errors import ConfigError
from archsim.hardware.load import available_hardware, load_hardware

ONE = """figures:
  pace:
    what: steps of a march
    number: 2.5 ns
    source: text
    where: somewhere
"""


def read(tmp_path: Path, text: str) -> dict[str, PublishedFigure]:
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return load_published(path).figures


def test_a_number_keeps_its_unit(tmp_path: Path) -> None:
    figure = read(tmp_path, ONE)["pace"]
    assert (figure.value, figure.unit, figure.source) == (2.5, "ns", "text")


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("2.5 ns", "2.5 parsecs", 4, "unit 'parsecs' is not one of ns, pJ"),
        ("2.5 ns", "fast", 4, "cannot read 'fast' as a number with a unit"),
        ("source: text", "source: assumed", 5, "source"),
        ("source: text", "source: text\n    sauce: text", 6, "unknown key 'figures.pace.sauce'"),
        ("    where: somewhere\n", "", 2, "figures.pace.where is missing"),
        ("    number: 2.5 ns\n", "", 2, "give one of number, numbers and statement"),
        ("number: 2.5 ns", "number: 2.5 ns\n    statement: fast", 2, "give one of number"),
        ("number: 2.5 ns", "number: 2.5 ns\n    of: [pase]", 2, "no figure 'pase'; did you mean"),
        ("number: 2.5 ns", "number: 2.5 ns\n    of: [pace]", 2, "goes round in a circle"),
        ("number: 2.5 ns", "numbers: [1, 2]\n    at: [[4, 4]]", 2, "one pair of levels for each"),
        ("number: 2.5 ns", "numbers: [1 ns, 2 pJ]", 2, "all in one unit"),
    ],
)
def test_faults_have_their_line(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, ONE.replace(old, new))
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{tmp_path / 'own.yaml'}:{line}:"), text
    assert message in text


def test_what_is_arithmetic_of_another_is_met_by_the_same_parameters() -> None:
    met = all_published().met_by
    assert (
        met["energy_layer"]
        == met["energy_head"]
        == frozenset().union(
            *(met[f"energy_{part}"] for part in ("scores", "outputs", "digital", "dacs"))
        )
    )
    assert met["speedup_h100"] == frozenset()  # nobody gave its measurement


def test_parameters_named_are_parameters_of_a_hardware() -> None:
    known = set(load_hardware().provenance)
    for name, parameters in all_published().met_by.items():
        assert parameters <= known, name


def test_one_figure_by_its_name() -> None:
    assert (published("attention_latency").value, published("attention_latency").unit) == (65, "ns")
    assert {name for name, _ in published_of("rtx-4090")} == {
        "speedup_rtx_4090",
        "energy_ratio_rtx_4090",
    }
    with pytest.raises(ConfigError, match="no figure 'atention_latency'; did you mean 'attention"):
        published("atention_latency")
    with pytest.raises(ConfigError, match="accuracy of the adapted model: not a single number"):
        _ = published("accuracy").value


def test_it_is_no_hardware() -> None:
    assert "published" not in available_hardware()
    with pytest.raises(ConfigError, match="published: no such config"):
        load_hardware("published")
