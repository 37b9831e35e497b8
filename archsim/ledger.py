"""Who spent what: every component posts the energy of its actions here, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from archsim.chip.action import BUCKETS, Action
from archsim.errors import InvariantError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Posting:
    """All events of one action: energy in J of each, (tokens, layers, heads).

    `operations` is how many elementary operations (conversions, pulses, counts) they stand for.
    """

    action: Action
    energy: Array
    operations: float

    @cached_property
    def total(self) -> float:
        return float(self.energy.sum())


class Ledger:
    """Postings in order, and sums over them."""

    def __init__(self) -> None:
        self._postings: dict[Action, Posting] = {}

    def post(self, action: Action, energy: Array, operations: float) -> None:
        """Record an action's events.

        Raises InvariantError if an energy is negative or not finite, or the action posted already.
        """
        if action in self._postings:
            raise InvariantError(f"{action.label}: posted twice")
        if not (energy.min(initial=0.0) >= 0 and energy.max(initial=0.0) < np.inf):  # nor NaN
            raise InvariantError(f"{action.label}: an energy is negative or not finite")
        self._postings[action] = Posting(action, energy, operations)

    def __iter__(self) -> Iterator[Posting]:
        return iter(self._postings.values())

    @property
    def events(self) -> int:
        """Number of postings of single events, whatever engine ran."""
        return sum(posting.energy.size for posting in self)

    def sum_by(self, key: Callable[[Posting], str]) -> dict[str, float]:
        """Energy in J grouped by a text of each posting."""
        sums: dict[str, float] = {}
        for posting in self:
            sums[key(posting)] = sums.get(key(posting), 0.0) + posting.total
        return sums

    def by_bucket(self) -> dict[str, float]:
        """Energy in J of every published total, zeros included."""
        return dict.fromkeys(BUCKETS, 0.0) | self.sum_by(lambda p: p.action.bucket)

    def by_component(self) -> dict[str, float]:
        """Energy in J of every component."""
        return self.sum_by(lambda p: p.action.component)

    def check_balance(self) -> float:
        """Total energy in J, after checking that components = events = buckets.

        Raises InvariantError if they differ by more than rounding.
        """
        events = float(sum(posting.energy.sum(axis=0).sum() for posting in self))
        components = sum(self.by_component().values())
        buckets = sum(self.by_bucket().values())
        tolerance = 1e-9 * max(events, 1e-30)
        if abs(components - events) > tolerance or abs(buckets - events) > tolerance:
            raise InvariantError(
                f"ledger does not balance: events {events} J, components {components} J, "
                f"buckets {buckets} J"
            )
        return buckets
