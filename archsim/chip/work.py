"""What a run had the blocks of heads do, and what shapes alone imply that they must have done.

A block answers both: `spend` from the activity, which becomes its energy, and `implied` from
shapes, which `archsim.books` holds against it in every run. No activity is in `Shapes`, so that the
second stays an opinion of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from archsim.chip.action import Action, Bucket, Footprint
from archsim.chip.stage import Declared, Times

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

Spent = Iterator[tuple[Action, Array, Array]]
"""Each action with its energy in J and its elementary operations (conversions, pulses, counts)."""

Implied = Iterator[tuple[Action, float, float]]
"""Each action with the fewest and the most operations that there can be."""

Footprints = Iterator[Footprint]
"""One for each kind of thing that a block is made of."""


@dataclass(frozen=True)
class Work:
    """What heads did: arrays of (tokens, layers, heads).

    `activity` gives one of `archsim.datapath.activity.Activity` by name. `columns` hold a token, of
    `converting` the converters fire, and in `sub_tiles` everything else works. `busy` is for how
    many ticks a head was busy with a token; the whole run took `makespan` ticks. `times` are those
    of a phase.
    """

    activity: Callable[[str], Array]
    features: int
    columns: Array
    converting: Array
    sub_tiles: Array
    busy: Whole
    makespan: int
    times: Times

    @cached_property
    def conversions(self) -> Array:
        """Bit lines of V arrays that are converted, and as many additions."""
        return self.sub_tiles * self.features

    @cached_property
    def written(self) -> Array:
        """Features that every token has written."""
        return np.ones(self.columns.shape) * self.features


@dataclass(frozen=True)
class Shapes:
    """What trace and hardware say before anything is computed.

    `heads` of all layers, `visits` of them by tokens, `features` of a vector in `arrays` on top of
    each other. By token (tokens,): columns in the window (`seen`), columns whose converters fire,
    sub-tiles that work (`driven`), and query features that pulse, over all heads (`pulsed`).
    `least_cycles` is what all heads need one by one, `most_cycles` the whole run, which takes
    `makespan` ticks.
    """

    heads: int
    visits: int
    features: int
    arrays: int
    seen: Whole
    converting: Whole
    driven: Whole
    pulsed: Whole
    least_cycles: float
    most_cycles: float
    makespan: int

    @property
    def conversions(self) -> int:
        """Bit lines of V arrays that are converted."""
        return self.heads * int(self.driven.sum()) * self.features


class Block(Protocol):
    """A block of a head, as declaration, ledger, books and areas see it.

    `total` is the published total (FACTS 3) that it chiefly belongs to.
    """

    @property
    def total(self) -> Bucket: ...

    def stages(self, heads: int) -> Declared:
        """What it holds, and when, in a layer of so many `heads`."""

    def spend(self, work: Work) -> Spent:
        """What it did in a run, and what that cost."""

    def implied(self, shapes: Shapes) -> Implied:
        """How often it must have done that at least, and can have at most."""

    def footprints(self, heads: int) -> Footprints:
        """Its area in one of so many `heads` of a layer."""
