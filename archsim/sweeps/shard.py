"""A part of a sweep's points, the same on every machine, for batch queues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archsim.arguments import as_text
from archsim.errors import ConfigError
from archsim.sweeps.store import Member


@dataclass(frozen=True)
class Shard:
    """One of `of` parts of a sweep that differ by one point at most: the same on every machine."""

    index: int
    of: int

    def part(self, keys: Sequence[str]) -> set[str]:
        """Which of some keys, all different and in the sweep's order, are of this part."""
        first, end = (len(keys) * number // self.of for number in (self.index - 1, self.index))
        return set(keys[first:end])

    def of_members(self, members: Sequence[Member]) -> set[str]:
        """Keys of the points, of the published designs beside them, and of the losses to run."""
        points = dict.fromkeys(m.key for m in members if m.position >= 0)
        beside = dict.fromkeys(m.key for m in members if m.key not in points)
        losses = dict.fromkeys(m.loss for m in members if m.loss)
        return set[str]().union(*(self.part([*each]) for each in (points, beside, losses)))


def as_shard(given: Shard | str) -> Shard:
    """`given`, read if it is a text like ``1/8``. Raises ConfigError as `parse_shard` does."""
    return given if isinstance(given, Shard) else parse_shard(as_text(given, "shard"))


def parse_shard(text: str) -> Shard:
    """``i/n``, i from 1 to n; raises ConfigError for anything else."""
    index, _, of = text.partition("/")
    if not (index.isascii() and index.isdigit() and of.isascii() and of.isdigit()):
        raise ConfigError(f"--shard {text[:40]!r}: write i/n, like 1/8")
    shard = Shard(int(index), int(of))
    if not 1 <= shard.index <= shard.of <= 100_000:
        raise ConfigError(f"--shard {text[:40]}: i goes from 1 to n")
    return shard
