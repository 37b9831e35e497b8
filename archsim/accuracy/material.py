"""What a model is measured on: windows of texts and documents, and apart from them, calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ConfigError
from archsim.models.gpt2 import Gpt2Config
from archsim.models.texts import Document, Text
from archsim.models.tokenizer import Tokenizer, load_tokenizer

Ids = NDArray[np.int64]

CALIBRATION_WINDOWS = 2
"""Windows that scalers are searched on where the model brings none: never measured on."""

SHORTEST = 2
"""Tokens of a document with something to predict."""


@dataclass(frozen=True, eq=False)
class Material:
    """Texts as windows of token ids, and what scalers may be searched on.

    `windows` (windows, tokens + 1), padded with 0 behind the `lengths` (windows,) targets of each;
    `text_of` (windows,) is the index in `texts`. `counted` (windows,) marks those that means are
    of: all but held-out text. `calibration` (windows, tokens), empty unless asked for, comes from
    documents or windows of no held-out text, and none of it is in `windows`.
    `ids` is the measured running text, for probes; empty if there is none.
    """

    name: str
    texts: tuple[Text, ...]
    windows: Ids
    lengths: Ids
    text_of: Ids
    counted: NDArray[np.bool_]
    calibration: Ids
    ids: Ids
    characters: int | None

    @property
    def tokens(self) -> int:
        """Targets that means are of."""
        return int(self.lengths[self.counted].sum())

    @property
    def unit(self) -> str:
        """What stands alone in a standard error."""
        return "window" if all(text.is_running for text in self.texts) else "document or window"


def cut_material(
    folder: Path,
    texts: Sequence[Text],
    config: Gpt2Config,
    count: int | None,
    length: int | None,
    calibrate: bool = False,
) -> Material:
    """Windows of `length` tokens (default: all positions of the model), `count` of each text.

    They lie evenly over a text. A document shorter than `length` is a window of its own; the tail
    of a longer one, too short for a window, is left out. With `calibrate`, the first windows are
    for the scaler search alone.

    Raises ConfigError for a length the model has not, ids it does not know, a document of fewer
    than two tokens, or texts too short to measure on.
    """
    tokens = config.n_positions if length is None else length
    if not SHORTEST <= tokens <= config.n_positions:
        raise ConfigError(
            f"length {tokens}: the model takes {SHORTEST} to {config.n_positions} tokens"
        )
    if count is not None and count < 1:
        raise ConfigError(f"windows {count}: must be at least 1")
    reader = _Reader(folder, config)
    encoded = [[reader.ids(text, document) for document in text.documents] for text in texts]
    cut = [[w for ids in documents for w in _cut(ids, tokens)] for documents in encoded]
    aside = [0] * len(texts)
    calibration = np.empty((0, 0), np.int64)
    if calibrate:
        aside, calibration = _set_aside(texts, cut, tokens)
    picked = [_evenly(windows[skip:], count) for windows, skip in zip(cut, aside, strict=True)]
    flat = [window for windows in picked for window in windows]
    text_of = np.repeat(np.arange(len(texts)), [len(windows) for windows in picked])
    held_out = np.array([text.use == "held_out" for text in texts])
    counted = ~held_out[text_of] if not held_out.all() else np.ones(len(flat), bool)
    running = [
        documents[0][skip * tokens :]
        for text, documents, skip in zip(texts, encoded, aside, strict=True)
        if text.is_running and (text.use != "held_out" or held_out.all())
    ]
    return Material(
        ", ".join(text.name for text in texts),
        tuple(texts),
        _padded(flat),
        np.array([len(window) - 1 for window in flat]),
        text_of,
        counted,
        calibration,
        np.concatenate(running) if running else np.empty(0, np.int64),
        reader.characters(w for w, yes in zip(flat, counted, strict=True) if yes),
    )


class _Reader:
    """Documents to ids, checked against the model; the tokenizer is read if there is text."""

    def __init__(self, folder: Path, config: Gpt2Config) -> None:
        self.folder, self.vocabulary = folder, config.vocab_size
        self._tokenizer: Tokenizer | None = None

    def ids(self, text: Text, document: Document) -> Ids:
        spoken = isinstance(document, str)
        if spoken and self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.folder)
        if isinstance(document, str):
            assert self._tokenizer is not None
            ids = np.asarray(self._tokenizer.encode(document), np.int64)
        else:
            ids = np.asarray(document, np.int64)
        if len(ids) < SHORTEST:
            raise ConfigError(
                f"text {text.name}: a document of {len(ids)} tokens has nothing to predict; "
                f"at least {SHORTEST}"
            )
        if ids.min() < 0 or ids.max() >= self.vocabulary:
            wrong = int(ids.max() if ids.max() >= self.vocabulary else ids.min())
            if spoken:
                raise ConfigError(
                    f"{self.folder}: the tokenizer has ids up to {wrong}, the model only "
                    f"{self.vocabulary}; they do not belong together"
                )
            raise ConfigError(
                f"text {text.name}: token id {wrong}: the model has ids 0 to {self.vocabulary - 1}"
            )
        return ids

    def characters(self, windows: Iterable[Ids]) -> int | None:
        """What the targets of windows spell; None for ids without a tokenizer."""
        if self._tokenizer is None:
            return None
        return sum(len(self._tokenizer.decode(w[1:].tolist())) for w in windows)


def _cut(ids: Ids, tokens: int) -> list[Ids]:
    whole = (len(ids) - 1) // tokens
    if whole == 0:
        return [ids]
    return [ids[i * tokens : (i + 1) * tokens + 1] for i in range(whole)]


def _evenly(windows: list[Ids], count: int | None) -> list[Ids]:
    if not windows:
        return []
    places = np.linspace(0, len(windows) - 1, min(len(windows), count or len(windows)))
    return [windows[i] for i in places.round().astype(int)]


def _set_aside(texts: Sequence[Text], cut: list[list[Ids]], tokens: int) -> tuple[list[int], Ids]:
    """How many windows of each text are for calibration: the first; and what is searched on."""
    usable = [
        (place, window)
        for place, (text, windows) in enumerate(zip(texts, cut, strict=True))
        if text.use != "held_out"
        for window in windows
    ]
    if len(usable) < 2:
        raise ConfigError(
            f"text {', '.join(t.name for t in texts)}: one window of up to {tokens} tokens; a "
            "model that was not adapted needs two, one to search scalers on and one to measure; "
            "give a longer text or a smaller length"
        )
    aside = [0] * len(texts)
    chosen: list[Ids] = []
    for place, window in usable[: len(usable) // 2]:
        if sum(len(w) - 1 for w in chosen) >= CALIBRATION_WINDOWS * tokens:
            break
        aside[place] += 1
        chosen.append(window)
    return aside, rectangle(chosen)[:, :-1]


def rectangle(documents: Sequence[Ids]) -> Ids:
    """Starts of documents at the one length that keeps most tokens (documents, length)."""
    lengths = sorted((len(ids) for ids in documents), reverse=True)
    kept = [(place + 1) * length for place, length in enumerate(lengths)]
    length = lengths[int(np.argmax(kept))]
    return np.stack([ids[:length] for ids in documents if len(ids) >= length]).astype(np.int64)


def _padded(windows: Sequence[Ids]) -> Ids:
    result = np.zeros((len(windows), max(len(window) for window in windows)), np.int64)
    for row, window in zip(result, windows, strict=True):
        row[: len(window)] = window
    return result
