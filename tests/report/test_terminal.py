"""Tables at any width: what wraps, what becomes a list, and that no value is ever cut."""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from archsim.report.terminal import show, terminal_width


def printed(
    renderable: RenderableType, width: object, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        show(renderable)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("given_width", "expected"),
    [("0", 80), ("", 80), ("x", 80), ("-5", 80), ("1", 40), ("39", 40), ("57", 57), ("200", 200)],
)
def test_the_width_is_always_usable(
    given_width: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", given_width)
    assert terminal_width() == expected
    monkeypatch.setattr(sys, "stdout", None)  # closed
    assert terminal_width() == expected
    monkeypatch.delenv("COLUMNS")
    assert terminal_width() == 80


def numbers(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("first", no_wrap=False)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def test_a_wide_table_wraps_names_before_it_becomes_a_list(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = numbers("energy, pJ", "area\nmm^2")
    table.add_row("a name of several words", "15,384,615", "0.25")
    table.add_row("two", "", Text("7"), style="bold")
    assert len(printed(table, 80, capsys)) == 4
    assert printed(table, 40, capsys) == [
        "                                    area",
        "first                   energy, pJ  mm^2",
        "a name of several       15,384,615  0.25",
        "words",
        "two                                    7",
    ]
    table.add_column("another column", no_wrap=True)
    assert printed(table, 40, capsys) == [
        "first",
        "a name of several words",
        "    energy, pJ: 15,384,615",
        "    area, mm^2: 0.25",
        "two",
        "    area, mm^2: 7",
    ]


def test_a_table_of_numbers_first_lists_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(box=None)
    for name in ("energy", "latency", "tokens/s/mm^2"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("1.5", "65.25", "123,456,789")
    table.add_row("2.5", "66.25", "987,654,321")
    assert printed(table, 40, capsys)[:1] == [" energy  latency  tokens/s/mm^2"]
    table.add_column("design, in words", no_wrap=True)
    assert printed(table, 40, capsys) == [
        "energy: 1.5", "latency: 65.25", "tokens/s/mm^2: 123,456,789", "",
        "energy: 2.5", "latency: 66.25", "tokens/s/mm^2: 987,654,321",
    ]  # fmt: skip


def test_tables_side_by_side_come_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    grid = Table.grid(padding=(0, 4))
    for _ in range(2):
        grid.add_column()
    inner = []
    for name in ("left", "right"):
        table = numbers("value")
        table.add_row(name, "123,456,789,012")
        inner.append(table)
    grid.add_row(*inner)
    assert len(printed(grid, 80, capsys)) == 2
    lines = printed(grid, 40, capsys)
    assert [line.split() for line in lines] == [
        ["first", "value"], ["left", "123,456,789,012"],
        ["first", "value"], ["right", "123,456,789,012"],
    ]  # fmt: skip


WORDS = st.text("abcdefgh0123456789,.%-", min_size=1, max_size=14)
CELLS = st.lists(WORDS, max_size=4).map(" ".join)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_word_is_ever_cut(capsys: pytest.CaptureFixture[str], data: st.DataObject) -> None:
    columns = data.draw(st.integers(1, 7))
    headed = data.draw(st.booleans())
    table = Table(box=None, pad_edge=False) if headed else Table.grid(padding=(0, 2))
    heads = [data.draw(CELLS) if headed else "" for _ in range(columns)]
    for head in heads:
        table.add_column(
            head,
            no_wrap=data.draw(st.booleans()),
            justify=data.draw(st.sampled_from(["left", "right"])),
            min_width=data.draw(st.sampled_from([None, 9])),
        )
    row = st.lists(CELLS, min_size=columns, max_size=columns)
    cells = data.draw(st.lists(row, min_size=1, max_size=3))
    for texts in cells:
        table.add_row(*texts)
    width = data.draw(st.integers(40, 120))
    lines = printed(Group(table), width, capsys)
    found = sorted(word for line in lines for word in line.replace(":", " ").split())
    assert max(map(len, lines), default=0) <= width
    for texts in cells:
        for word in " ".join(texts).split():
            assert word in found
