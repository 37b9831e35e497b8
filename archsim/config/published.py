"""Published figures: what the paper and its authors' code state, from ``hwconfigs/published.yaml``.

The one home of every number that archsim sets beside its own. ``published("attention_latency")`` is
one figure by its name (`value` 65.0, `unit` "ns", `what`, `source`, `where`); `all_published` has
all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from archsim.config.document import read_document
from archsim.config.loading import validate_document
from archsim.config.quantity import split_quantity
from archsim.config.section import Section, suggestion
from archsim.errors import ConfigError, one_line
from archsim.files import data_folder

PUBLISHED_FILE = "published.yaml"
"""Name of the file among the shipped hardware configs."""

PublishedSource = Literal["text", "code", "summary", "derived"]

Unit = Literal[
    "", "ns", "pJ", "nJ", "mW", "mm^2", "tokens", "cells", "codes", "V", "uA", "pC", "x", "nats"
]
"""Units of published figures, as they are shown; ``x`` is a ratio."""

Levels = tuple[int | None, int | None]
"""Of inputs, and of stored keys and values; None is no quantiser."""


@dataclass(frozen=True)
class Amount:
    """A number as it was published, and its unit."""

    value: float
    unit: Unit


def _amount(given: object) -> Amount:
    """``65 ns`` as an `Amount`; a plain number has no unit."""
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise ValueError("give a number, with its unit if it has one")
    value, unit = split_quantity(given) if isinstance(given, str) else (given, "")
    known: tuple[Unit, ...] = get_args(Unit)
    if unit not in known:
        raise ValueError(f"unit {unit!r} is not one of {', '.join(filter(None, known))}")
    return Amount(float(value), known[known.index(unit)])


AmountText = Annotated[Amount, BeforeValidator(_amount)]


class PublishedFigure(Section):
    """One published figure: a `number`, several `numbers`, or a `statement` in words.

    `what` is meant, and `where` it stands. `of`: figures that it is plain arithmetic of. `met_by`:
    parameters of a hardware that were chosen or fitted so that it holds. `unresolved`: why nothing
    can be said of it. `gpu`: the GPU file that a `ratio` to the accelerator is about. `at`: levels
    of inputs and of stored keys and values, one pair for each of `numbers`.
    """

    what: str = Field(min_length=1)
    number: AmountText | None = None
    numbers: tuple[AmountText, ...] = Field(default=(), strict=False)
    at: tuple[Levels, ...] = Field(default=(), strict=False)
    statement: str = ""
    source: PublishedSource
    where: str = Field(min_length=1)
    of: tuple[str, ...] = Field(default=(), strict=False)
    met_by: tuple[str, ...] = Field(default=(), strict=False)
    unresolved: str = ""
    gpu: str | None = None
    ratio: Literal["time", "energy"] | None = None

    @field_validator("at", mode="before")
    @classmethod
    def _pairs(cls, given: Any) -> Any:
        return [tuple(each) if isinstance(each, list) else each for each in given]

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = (self.number is not None, bool(self.numbers), bool(self.statement))
        if sum(given) != 1:
            raise ValueError("give one of number, numbers and statement")
        if self.at and len(self.at) != len(self.numbers):
            raise ValueError("at: one pair of levels for each of numbers")
        if len({each.unit for each in self.numbers}) > 1:
            raise ValueError("numbers: all in one unit")
        if (self.gpu is None) != (self.ratio is None):
            raise ValueError("gpu and ratio: give both or neither")
        return self

    @property
    def value(self) -> float:
        """The number in its unit. Raises ConfigError where the figure is no single number."""
        if self.number is None:
            raise ConfigError(f"published: {self.what}: not a single number")
        return self.number.value

    @property
    def values(self) -> tuple[float, ...]:
        """All its numbers, in `unit`."""
        return tuple(each.value for each in self.numbers) or (self.value,)

    @property
    def unit(self) -> Unit:
        """Of its numbers; empty where they have none, or it is a statement."""
        given = self.numbers if self.number is None else (self.number,)
        return given[0].unit if given else ""


class Published(Section):
    """All published figures by name."""

    figures: dict[str, PublishedFigure]

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        for name, figure in self.figures.items():
            for other in figure.of:
                if other not in self.figures:
                    raise ValueError(
                        f"figures.{name}: of: no figure {other!r}"
                        f"{suggestion(other, list(self.figures))}"
                    )
            if name in self._behind(name):
                raise ValueError(f"figures.{name}: of: goes round in a circle")
        return self

    def _behind(self, name: str) -> set[str]:
        """Every figure that `name` is arithmetic of, through all of them."""
        found: set[str] = set()
        waiting = list(self.figures[name].of)
        while waiting:
            other = waiting.pop()
            if other not in found:
                found.add(other)
                waiting += self.figures[other].of
        return found

    @cached_property
    def met_by(self) -> dict[str, frozenset[str]]:
        """Parameters that make each figure hold: its own and those of what it is arithmetic of."""
        return {
            name: frozenset(
                parameter
                for each in (name, *sorted(self._behind(name)))
                for parameter in self.figures[each].met_by
            )
            for name in self.figures
        }


def load_published(path: Path) -> Published:
    """The published figures of a file; raises ConfigError with file:line for anything faulty."""
    return validate_document(read_document(path), Published)


@cache
def all_published() -> Published:
    """The figures that archsim ships; read once in a process."""
    return load_published(data_folder("hwconfigs") / PUBLISHED_FILE)


def published(name: str) -> PublishedFigure:
    """The published figure of a name ("attention_latency").

    Raises ConfigError for a name that there is not, with the nearest one.
    """
    figures = all_published().figures
    if name not in figures:
        raise ConfigError(
            f"published: no figure {one_line(name, 60)!r}{suggestion(name, list(figures))}"
        )
    return figures[name]


def published_of(gpu: str) -> Iterator[tuple[str, PublishedFigure]]:
    """Name and figure of what is published about a shipped GPU ("rtx-4090")."""
    for name, figure in all_published().figures.items():
        if figure.gpu == gpu:
            yield name, figure
