"""What a model learns from: one stream of running text, or documents that stand alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.accuracy.material import rectangle
from archsim.errors import ConfigError
from archsim.models.texts import Words, as_text, refuse_held_out
from archsim.models.tokenizer import END_OF_TEXT, load_tokenizer
from archsim.models.training.batches import Documents

SHORTEST_DOCUMENT = 2


@dataclass(frozen=True, eq=False)
class Corpus:
    """Token ids: a stream (tokens,), or `Documents`; and the hash of what they were made from."""

    ids: NDArray[Any] | Documents
    sha256: str

    @property
    def opening(self) -> list[int]:
        """The stream, or the first document."""
        first = self.ids.document(0) if isinstance(self.ids, Documents) else self.ids
        return [int(i) for i in first]

    def calibration(self, length: int, count: int, seed: int) -> NDArray[np.int64]:
        """`count` windows of length + 1 tokens, or starts of documents of as many tokens in all.

        Evenly over the text for seed 0, else drawn. Documents are cut to one length.
        """
        if not isinstance(self.ids, Documents):
            return calibration_windows(self.ids, length, count, seed)
        places = np.arange(self.ids.count)
        if seed:
            places = np.random.default_rng(seed).permutation(places)
        else:  # a stride through all: the first few are spread as well
            places = places[np.argsort((places * 0.6180339887) % 1.0, kind="stable")]
        chosen: list[NDArray[np.int64]] = []
        for place in places:
            chosen.append(self.ids.document(int(place))[: length + 1])
            if sum(len(ids) - 1 for ids in chosen) >= count * length:
                break
        return rectangle(chosen)


def encode_corpus(
    folder: Path, words: Words, vocabulary: int, length: int, documents: bool = False
) -> Corpus:
    """Texts or token ids, checked; see `Corpus`.

    Without `documents` all texts are one stream, parted by the end-of-text token as GPT-2 was
    trained. Raises ConfigError for ids the model has not, too little text, or held-out text.
    """
    text = as_text(words, "text")
    spoken = [document for document in text.documents if isinstance(document, str)]
    if spoken:
        refuse_held_out(spoken, "adaptation")
        tokenizer = load_tokenizer(folder)
        end = tokenizer.encode(END_OF_TEXT)
    digest = hashlib.sha256()
    parts: list[list[int]] = []
    for document in text.documents:
        if isinstance(document, str):
            digest.update(hashlib.sha256(document.encode()).digest())
            parts.append(tokenizer.encode(document))
        else:
            ids = list(document)
            digest.update(hashlib.sha256(json.dumps(ids).encode()).digest())
            parts.append(ids)
    _check(parts, vocabulary, documents)
    if documents:
        digest.update(b"documents")
        needed = 2 * SHORTEST_DOCUMENT
        corpus: NDArray[Any] | Documents = Documents.of(parts)
        size = sum(map(len, parts))
    else:
        between = end if spoken and len(end) == 1 else []
        stream = [i for ids in parts for i in (*between, *ids)]
        needed, size = 2 * length + 2, len(stream)
        corpus = np.asarray(stream, np.uint16 if max(stream, default=0) < 1 << 16 else np.int64)
    if size < needed:
        raise ConfigError(f"text: {size} tokens; adaptation needs at least {needed}")
    return Corpus(corpus, digest.hexdigest())


def _check(parts: Sequence[Sequence[int]], vocabulary: int, documents: bool) -> None:
    for place, ids in enumerate(parts):
        if documents and len(ids) < SHORTEST_DOCUMENT:
            raise ConfigError(
                f"document {place}: {len(ids)} tokens have nothing to predict; at least "
                f"{SHORTEST_DOCUMENT}"
            )
        wrong = next((i for i in ids if not 0 <= i < vocabulary), None)
        if wrong is not None:
            raise ConfigError(
                f"text {place}: token id {wrong}: the model has ids 0 to {vocabulary - 1}"
            )


def calibration_windows(
    ids: NDArray[Any], positions: int, count: int, seed: int
) -> NDArray[np.int64]:
    """`count` windows of positions + 1 tokens; evenly over the text for seed 0, else drawn."""
    last = len(ids) - positions - 1
    count = min(count, (len(ids) - 1) // positions)
    if seed:
        starts = np.random.default_rng(seed).integers(0, last + 1, count)
    else:
        starts = np.linspace(0, last, count).round().astype(int)
    return np.stack([ids[s : s + positions + 1] for s in starts]).astype(np.int64)
