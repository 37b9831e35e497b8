"""Rows of ``archsim compare`` as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from archsim.comparison.capacity import Capacity
from archsim.comparison.compare import ComparisonRow
from archsim.comparison.hardware import GpuComparison, WholeModelComparison
from archsim.comparison.transformer import ModelRow
from archsim.report.files import csv_text


def comparison_csv(comparison: GpuComparison | WholeModelComparison) -> str:
    """One line a row; the columns are the keys of ``--json``, nested ones joined by a dot."""
    if isinstance(comparison, WholeModelComparison):
        names = [field.name for field in fields(ModelRow)]
        return csv_text(names, ([getattr(r, n) for n in names] for r in comparison.rows))
    names = [field.name for field in fields(ComparisonRow) if field.name != "capacity"]
    nested = [field.name for field in fields(Capacity)]

    def lines() -> Iterator[list[object]]:
        for row in comparison.rows:
            capacity = row.capacity
            yield [getattr(row, name) for name in names] + [
                None if capacity is None else getattr(capacity, name) for name in nested
            ]

    return csv_text([*names, *(f"capacity.{name}" for name in nested)], lines())
