"""How old cells are when they are read, and what that leaves of them (FACTS 2.4).

A cell's age is the start of its read minus the end of its write. Keys and values have their own
times, because their arrays are written and read in different phases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ConfigError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CellTimes:
    """When the keys, or the values, of tokens are written and read.

    `read` starts of the reads and `written` ends of the writes, (heads, tokens), or (tokens,) of
    one head, in any one unit; `rate` is 1 / tau in the inverse of that unit: a deviation fades by
    ``exp(-rate x age)``. `restored`, of the same shape: when the cells that a token reads were last
    refreshed; None where they never are.
    """

    read: Array
    written: Array
    rate: float
    restored: Array | None = None

    def head(self, index: int) -> CellTimes:
        """The times of one head."""
        restored = None if self.restored is None else self.restored[index]
        return CellTimes(self.read[index], self.written[index], self.rate, restored)

    def part(self, heads: slice, tokens: int) -> CellTimes:
        """The times of some heads in the first `tokens` tokens."""
        read, written = self.read[heads, :tokens], self.written[heads, :tokens]
        restored = None if self.restored is None else self.restored[heads, :tokens]
        return CellTimes(read, written, self.rate, restored)

    def check(self, name: str, shape: tuple[int, int]) -> None:
        """Raises ConfigError unless every token is read after it and all before it are written."""
        given = [("read", self.read), ("written", self.written)]
        if self.restored is not None:
            given.append(("restored", self.restored))
        for what, times in given:
            if times.shape != shape or not np.isfinite(times).all():
                raise ConfigError(f"ages.{name}.{what}: must be finite, of shape {shape}")
        if (np.diff(self.written) < 0).any() or (self.read < self.written).any():
            raise ConfigError(f"ages.{name}: a token is written before an earlier one, or read")
        if not (np.isfinite(self.rate) and self.rate >= 0):
            raise ConfigError(f"ages.{name}: rate {self.rate} is not a number of at least 0")

    def growth(self, first: int, stop: int, origin: int) -> Array:
        """``exp(rate (written - origin))`` of tokens [first, stop): the columns' part of a decay.

        `origin` is the token at whose write it is 1.
        """
        growth: Array = np.exp(self.rate * (self.written[first:stop] - self.written[origin]))
        return growth

    def fade(self, first: int, stop: int, origin: int) -> Array:
        """``exp(-rate (read - origin))`` of tokens [first, stop): the rows' part of a decay.

        Rows that are read before `origin` is written do not see it; theirs is 1.
        """
        since = np.maximum(self.read[first:stop] - self.written[origin], 0.0)
        left: Array = np.exp(-self.rate * since)
        return left

    def age(self, rows: slice, columns: slice) -> Array:
        """Ages (rows, columns); 0 where a column is written only after the read."""
        since = self.written[columns]
        if self.restored is not None:
            since = np.maximum(since, self.restored[rows, None])
        age: Array = np.maximum(self.read[rows, None] - since, 0.0)
        return age

    def oldest(self, window: int) -> float:
        """The greatest age at which a cell is read."""
        behind = min(window, self.read.shape[-1]) - 1
        ages = self.read[..., behind:] - self.written[..., : self.written.shape[-1] - behind]
        return float(
            max(ages.max(), (self.read[..., :behind] - self.written[..., :1]).max(initial=0))
        )

    def stretches(self, first: int, stop: int, limit: float) -> list[tuple[int, int]]:
        """Tokens [first, stop) cut so that within each part rate x (written - written) <= limit."""
        if self.rate == 0.0:
            return [(first, stop)]
        parts = []
        while first < stop:
            last = self.written[first] + limit / self.rate
            until = first + int(np.searchsorted(self.written[first:stop], last, "right"))
            parts.append((first, until))
            first = until
        return parts


@dataclass(frozen=True)
class Ages:
    """The times of one layer's keys and values."""

    keys: CellTimes
    values: CellTimes

    @classmethod
    def per_token(cls, heads: int, tokens: int, rate: float) -> Ages:
        """Age in tokens since the write, 0 for the token just written; `rate` a token."""
        counted = np.broadcast_to(np.arange(tokens, dtype=np.float64), (heads, tokens))
        times = CellTimes(counted, counted, rate)
        return cls(times, times)

    def head(self, index: int) -> Ages:
        """The ages in one head."""
        return Ages(self.keys.head(index), self.values.head(index))

    def check(self, shape: tuple[int, int]) -> None:
        """Raises ConfigError for times that make no sense; see `CellTimes.check`."""
        self.keys.check("keys", shape)
        self.values.check("values", shape)
