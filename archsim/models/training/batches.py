"""Training and probe sequences.

A small model trained on prose alone barely uses its context, and would then flatter any attention
hardware. So part of every batch *needs* attention:

* ``prose``: a window of the corpus.
* ``repeat``: a segment (real text, or random tokens) that comes again after a gap of prose.
* ``cycle``: one segment over and over: nearly every target can be copied.
* ``recall``: key-value pairs of random tokens, a gap, then the same pairs in another order.

Every sequence carries a weight per target: random tokens nobody could predict count nothing.
All draws are keyed by (seed, step), so a resumed run sees the same batches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KINDS = ("prose", "repeat", "cycle", "recall")
SHARES = (0.60, 0.20, 0.10, 0.10)
LATE_SHARES = (0.40, 0.40, 0.10, 0.10)
"""From `LATE_STEP` on: prose is learnt faster than copying it, and copying is what is wanted."""

LATE_STEP = 1600
RANDOM_SHARE, LATE_RANDOM_SHARE = 0.4, 0.2
"""Share of repeated segments that are random tokens; the others are real text."""


@dataclass(frozen=True)
class Sequence:
    """`ids` (tokens + 1,), `weight` (tokens,) of target ids[1:], and the second copy's targets."""

    ids: NDArray[np.int64]
    weight: NDArray[np.float32]
    first: slice
    second: slice


@dataclass(frozen=True, eq=False)
class Documents:
    """Sequences that stand alone: `ids` (all tokens,), document i at starts[i] to starts[i + 1]."""

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Iterable[Iterable[int]]) -> Documents:
        """Documents of token ids."""
        arrays = [np.fromiter(part, np.int64) for part in parts]
        return cls(np.concatenate(arrays), np.cumsum([0, *map(len, arrays)]))

    @property
    def count(self) -> int:
        return len(self.starts) - 1

    def document(self, place: int) -> NDArray[np.int64]:
        """The ids of one document."""
        return self.ids[self.starts[place] : self.starts[place + 1]]


def document_batch(
    seed: int, step: int, corpus: Documents, size: int, tokens: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """A step's documents: ids (size, longest + 1), padded with 0, and which targets exist.

    Drawn by their length, each from its start, or a window of `tokens` + 1 of a longer one. No
    sequence holds tokens of two documents.
    """
    rng = np.random.default_rng((seed, step))
    places = np.searchsorted(corpus.starts, rng.integers(0, len(corpus.ids), size), "right") - 1
    drawn = []
    for place in places:
        ids = corpus.document(int(place))
        start = int(rng.integers(0, max(len(ids) - tokens, 1)))
        drawn.append(ids[start : start + tokens + 1])
    longest = max(map(len, drawn))
    result, there = np.zeros((size, longest), np.int64), np.zeros((size, longest - 1), bool)
    for row, ids in enumerate(drawn):
        result[row, : len(ids)], there[row, : len(ids) - 1] = ids, True
    return result, there


SHORTEST_WINDOW = 8
"""Tokens of a window of running text that all kinds of sequences fit into."""


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> int:
    """A whole number, its logarithm uniform from `low` (at most `high`) to `high`."""
    return int(np.exp(rng.uniform(np.log(min(low, high)), np.log(high))))


def prose(rng: np.random.Generator, corpus: NDArray[np.uint16], tokens: int) -> Sequence:
    """A window of running text."""
    start = int(rng.integers(0, len(corpus) - tokens - 1))
    ids = corpus[start : start + tokens + 1].astype(np.int64)
    return Sequence(ids, np.ones(tokens, np.float32), slice(0, 0), slice(0, 0))


def repeat(
    rng: np.random.Generator,
    corpus: NDArray[np.uint16],
    tokens: int,
    vocabulary: int,
    random_share: float = RANDOM_SHARE,
    length: int | None = None,
) -> Sequence:
    """Prose with one segment that occurs twice; `length` fixes the segment's length."""
    base = prose(rng, corpus, tokens)
    ids, weight = base.ids.copy(), base.weight.copy()
    if length is None:
        length = _log_uniform(rng, 16, tokens * 0.4)
    first = int(rng.integers(0, tokens + 1 - 2 * length))
    second = int(rng.integers(first + length, tokens + 2 - length))
    if rng.random() < random_share:
        segment = rng.integers(1, vocabulary, length)
        weight[max(first - 1, 0) : first + length - 1] = 0.0
        weight[second - 1] = 0.0
    else:
        segment = prose(rng, corpus, length).ids[:length]
    ids[first : first + length] = segment
    ids[second : second + length] = segment
    # target index i predicts ids[i + 1]; the first token of a copy is not predictable from it
    return Sequence(
        ids, weight, slice(first, first + length - 1), slice(second, second + length - 1)
    )


def cycle(
    rng: np.random.Generator, corpus: NDArray[np.uint16], tokens: int, vocabulary: int
) -> Sequence:
    """A segment of random tokens or real text, repeated to the end of the sequence."""
    length = _log_uniform(rng, 8, tokens // 4)
    if rng.random() < 0.5:
        segment = rng.integers(1, vocabulary, length)
        first_weight = 0.0
    else:
        segment = prose(rng, corpus, length).ids[:length]
        first_weight = 1.0
    ids = np.tile(segment, tokens // length + 2)[: tokens + 1].astype(np.int64)
    weight = np.ones(tokens, np.float32)
    weight[: length - 1] = first_weight
    return Sequence(ids, weight, slice(0, length - 1), slice(length - 1, tokens))


def recall(
    rng: np.random.Generator,
    corpus: NDArray[np.uint16],
    tokens: int,
    vocabulary: int,
    pairs: int | None = None,
) -> Sequence:
    """Key-value pairs of random tokens, a gap of prose, then the pairs again, shuffled.

    Only the recalled values and the prose count.
    """
    base = prose(rng, corpus, tokens)
    ids, weight = base.ids.copy(), base.weight.copy()
    if pairs is None:
        most = min(tokens // 8, (vocabulary - 1) // 2)
        pairs = _log_uniform(rng, 4, most)
    drawn = rng.choice(np.arange(1, vocabulary), 2 * pairs, replace=False).reshape(pairs, 2)
    first = int(rng.integers(0, tokens + 2 - 4 * pairs))
    second = int(rng.integers(first + 2 * pairs, tokens + 2 - 2 * pairs))
    ids[first : first + 2 * pairs] = drawn.ravel()
    ids[second : second + 2 * pairs] = rng.permutation(drawn).ravel()
    weight[max(first - 1, 0) : first + 2 * pairs - 1] = 0.0
    weight[second - 1 : second + 2 * pairs - 1] = 0.0
    values = slice(second, second + 2 * pairs, 2)  # targets that follow a key
    weight[values] = 1.0
    return Sequence(ids, weight, slice(first, first + 2 * pairs, 2), values)


def batch(
    seed: int,
    step: int,
    corpus: NDArray[np.uint16],
    size: int,
    tokens: int,
    vocabulary: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32], list[str]]:
    """The batch of one step: ids (size, tokens + 1), weights (size, tokens), kinds."""
    rng = np.random.default_rng((seed, step))
    late = step >= LATE_STEP
    shares = LATE_SHARES if late else SHARES
    kinds = [str(kind) for kind in rng.choice(KINDS, size, p=shares)]
    sequences = []
    for kind in kinds:
        if kind == "prose":
            sequences.append(prose(rng, corpus, tokens))
        elif kind == "repeat":
            random_share = LATE_RANDOM_SHARE if late else RANDOM_SHARE
            sequences.append(repeat(rng, corpus, tokens, vocabulary, random_share))
        elif kind == "cycle":
            sequences.append(cycle(rng, corpus, tokens, vocabulary))
        else:
            sequences.append(recall(rng, corpus, tokens, vocabulary))
    return np.stack([s.ids for s in sequences]), np.stack([s.weight for s in sequences]), kinds
