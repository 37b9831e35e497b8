"""Sequences that cannot be predicted without attention: what a small model's perplexity hides.

* ``copy``: segments that come twice, at four distances up to the window, with unseen prose between;
  of random tokens (nothing but attention helps) and of real text.
* ``recall``: pairs of random tokens, asked again in another order after a gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ConfigError
from archsim.models.training import batches

Ids = NDArray[np.int64]

SLOTS = 16
PLACES = {14: 0, 8: 1, 4: 2, 2: 3}
"""Distance between the two copies to the slot of the first, both in sixteenths of the reach."""

SHORTEST = 128
PAIRS = 32


@dataclass(frozen=True)
class Probe:
    """Sequences of ids (sequences, tokens + 1) and the targets that count.

    `asked` and `first` (sequences, tokens) mark, among the targets ids[1:], those to be copied or
    recalled and those of the first copy; `distance` (sequences, tokens) is the distance back.
    """

    name: str
    ids: Ids
    asked: NDArray[np.bool_]
    first: NDArray[np.bool_]
    distance: NDArray[np.int64]


def make_probes(
    text: Ids, vocabulary: int, reach: int, sequences: int, seed: int = 3
) -> list[Probe]:
    """Probes over `reach` tokens, `sequences` of each kind, filled with windows of `text`.

    Raises ConfigError if the reach or the text is too short for them.
    """
    reach -= reach % SLOTS
    if reach < SHORTEST:
        raise ConfigError(
            f"probes need a window and a model of at least {SHORTEST} tokens; use --probes 0"
        )
    if len(text) < reach + 2:
        raise ConfigError(
            f"probes need a text of at least {reach + 2} tokens, here are {len(text)}; "
            "use a longer text or --probes 0"
        )
    return [
        *(
            _copy(text, vocabulary, reach, sequences, np.random.default_rng((seed, place)), name)
            for place, name in enumerate(("copy_random", "copy_text"))
        ),
        _recall(text, vocabulary, reach, sequences, np.random.default_rng((seed, 2))),
    ]


def _copy(
    text: Ids, vocabulary: int, reach: int, sequences: int, rng: np.random.Generator, name: str
) -> Probe:
    length = reach // SLOTS
    shape = (sequences, reach)
    ids = np.empty((sequences, reach + 1), np.int64)
    asked, first = np.zeros(shape, bool), np.zeros(shape, bool)
    distance = np.zeros(shape, np.int64)
    for row in range(sequences):
        ids[row] = batches.prose(rng, _stored(text), reach).ids
        for apart, slot in PLACES.items():
            start, again = slot * length, (slot + apart) * length
            if name == "copy_random":
                segment = rng.integers(1, vocabulary, length)
            else:
                segment = batches.prose(rng, _stored(text), length).ids[:length]
            ids[row, start : start + length] = segment
            ids[row, again : again + length] = segment
            # target i predicts ids[i + 1]; the first token of a copy does not follow from it
            asked[row, again : again + length - 1] = True
            first[row, start : start + length - 1] = True
            distance[row, again : again + length - 1] = again - start
    return Probe(name, ids, asked, first, distance)


def _recall(
    text: Ids, vocabulary: int, reach: int, sequences: int, rng: np.random.Generator
) -> Probe:
    shape = (sequences, reach)
    ids = np.empty((sequences, reach + 1), np.int64)
    asked = np.zeros(shape, bool)
    pairs = min(PAIRS, reach // 8, (vocabulary - 1) // 2)
    for row in range(sequences):
        made = batches.recall(rng, _stored(text), reach, vocabulary, pairs)
        ids[row], asked[row, made.second] = made.ids, True
    nothing = np.zeros(shape, bool)
    return Probe("recall", ids, asked, nothing, np.zeros(shape, np.int64))


def _stored(text: Ids) -> NDArray[np.uint16]:
    """`batches` only slices and converts: any integers do."""
    return text  # type: ignore[return-value]


def score(probe: Probe, losses: NDArray[np.float64], hits: NDArray[np.bool_]) -> dict[str, float]:
    """Accuracies in %, and losses in nats, from the losses and hits of every target.

    ``copy_random_448`` is the accuracy at a distance of 448 tokens; ``copy_text_loss`` the loss on
    the second copy and ``copy_text_gain`` by how much it is below the first.
    """
    result = {probe.name: 100 * float(hits[probe.asked].mean())}
    for distance in sorted(set(probe.distance[probe.asked].tolist()) - {0}):
        picked = probe.asked & (probe.distance == distance)
        result[f"{probe.name}_{distance}"] = 100 * float(hits[picked].mean())
    result[f"{probe.name}_loss"] = float(losses[probe.asked].mean())
    if probe.name == "copy_text":
        result["copy_text_gain"] = float(losses[probe.first].mean() - losses[probe.asked].mean())
    return result
