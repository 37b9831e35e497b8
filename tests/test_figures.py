"""Every figure of a run stands once in `archsim.figures`: its unit, its label, how to read it."""

from __future__ import annotations

import csv
import fnmatch
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archsim import units
from archsim.api import simulate
from archsim.chip.action import BUCKETS
from archsim.figures import (
    BUCKET_LABELS,
    FIGURES,
    SHAPE,
    TEXTS,
    Combined,
    Figure,
    columns,
    figure,
    named,
)
from archsim.hardware.load import load_hardware
from archsim.report.files import write_result
from archsim.result import Result
from archsim.sweeps.figures import NAMED, PATHS, better_end, figure_names, objective, unit_of_figure
from archsim.traces.trace import Trace
from archsim.units import MILLIWATT, NANOJOULE, PICOJOULE, TERA_OPERATIONS, Unit


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a document that holds no others, by its dotted path."""
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in inner:
            yield from leaves(each, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def listed(path: str) -> Figure | None:
    try:
        return figure(path)
    except KeyError:
        return None


@pytest.fixture(scope="module")
def documents(small_trace: Trace, small_result: Result) -> list[dict[str, Any]]:
    """Documents that between them have every section: a prompt, a split, a leak, an early end."""
    static = load_hardware(overrides={"static.power_per_head": "1 mW"})
    split = load_hardware(overrides={"mapping.row_split": "digital", "array.rows": 32})
    few = small_trace.select(tokens=8)
    return [
        small_result.document(),
        simulate(few, static, prompt=4).document(),
        simulate(few, split, order="prefill").document(),
        simulate(few, load_hardware(overrides={"retention.model": "simulated"})).document(),
    ]


def test_every_key_of_a_result_is_a_figure_or_words(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        for path, value in leaves(document):
            words = any(fnmatch.fnmatchcase(path, each) for each in TEXTS) or path in SHAPE
            assert words != (listed(path) is not None), path
            if path not in SHAPE and isinstance(value, int | float):
                assert listed(path) is not None, f"{path}: a number that is no figure"


def test_every_figure_stands_in_a_result(documents: list[dict[str, Any]]) -> None:
    """No figure is listed that nothing has; of a loop only traces with a model have one."""
    found = {path for document in documents for path, _ in leaves(document)}
    for each in FIGURES:
        if each.path and "/" not in each.path and ".in_loop." not in each.path:
            assert fnmatch.filter(found, each.path), each.path


def test_units_stand_in_keys(documents: list[dict[str, Any]]) -> None:
    for each in FIGURES:
        key = each.path or each.name
        if each.unit.text and each.unit.text not in {"tokens", "nats"}:
            assert each.unit.suffix in key, key


def test_labels_units_and_names_are_unique() -> None:
    labels = [each.label for each in FIGURES]
    assert sorted(labels) == sorted(set(labels))
    paths = [each.path for each in FIGURES if each.path]
    assert sorted(paths) == sorted(set(paths))
    names = [each.name for each in FIGURES if each.name]
    assert sorted(names) == sorted(set(names)) == sorted(named())
    texts = [each.text for each in vars(units).values() if isinstance(each, Unit)]
    assert sorted(texts) == sorted(set(texts))


def test_buckets_are_those_of_the_chip() -> None:
    assert tuple(BUCKET_LABELS) == BUCKETS


def test_files_have_the_columns_that_are_listed(small_result: Result, tmp_path: Path) -> None:
    for path in write_result(small_result, tmp_path):
        if path.suffix == ".csv":
            with path.open(encoding="utf-8") as stream:
                head = next(csv.reader(stream))
            assert [each for each in head if each in columns(path.name)] == [*columns(path.name)]
            others = {"layer", "token", "component", "action", "bucket", "grade", "rests_on"}
            assert set(head) - {*columns(path.name)} <= others | {"resource"}


def test_objectives_are_listed_figures() -> None:
    assert set(figure_names()) - {"sqnr_reference", "unread_parameters", "notes"} == set(named())
    for name, of in NAMED.items():
        better = {"lower": "minimise", "higher": "maximise"}[named()[of].better]
        assert objective(name).direction == better_end(of) == better
    assert better_end("attention_ns") is None  # a reader of a sweep must say which end
    assert unit_of_figure("tokens_per_s_per_mm2") == "tokens/s/mm^2"
    assert unit_of_figure("latency_assumed") == unit_of_figure("an expression in ns") == ""
    for each in FIGURES:
        if isinstance(each, Combined):
            assert {*each.of} <= set(PATHS)


def test_the_values_are_read_by_key_and_by_name(small_result: Result) -> None:
    latency = small_result.latency
    assert latency["layer_ns"]["mean"] == latency.layer_ns.mean
    assert dict(latency.layer_ns) == latency.document()["layer_ns"]
    assert latency.layer_ns == dict(latency.layer_ns)
    assert [*small_result.throughput] == [*small_result.document()["throughput"]]
    with pytest.raises(KeyError):
        latency["document"]  # a method, no figure
    with pytest.raises(AttributeError):
        latency.total_ns = 1.0  # type: ignore[misc]


def test_units_convert() -> None:
    assert PICOJOULE.of(2e-12) == 2.0
    assert PICOJOULE.si(2.0) == 2e-12
    assert TERA_OPERATIONS.of(3e12) == 3.0
    assert PICOJOULE.to(NANOJOULE, 1500.0) == 1.5
    assert (MILLIWATT.per_si, MILLIWATT.suffix, Unit("mm^2", -6).suffix) == (1000.0, "mw", "mm2")
