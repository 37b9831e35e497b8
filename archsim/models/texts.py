"""Texts to measure a model on: those that ship, what each may be used for, and anybody's own.

``traces/unseen.json`` lists the shipped ones. No shipped model was trained on any. By their `use`:

* ``recipe``: training recipes were chosen on it, so a loss on it flatters them;
* ``choices``: sweeps and comparisons of routes look at it;
* ``held_out``: nothing is ever chosen by it, and what would do so refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from archsim.arguments import kind
from archsim.errors import ConfigError, CorruptInputError
from archsim.files import data_folder

LISTING = "unseen.json"

Use = Literal["recipe", "choices", "held_out", "own"]

MEANING: dict[Use, str] = {
    "recipe": "recipe chosen",
    "choices": "in sweeps",
    "held_out": "held out",
    "own": "",
}
"""What a table says of a text of each use; ``own`` is whatever the user brought."""

Document = str | Sequence[int]
"""Running text, or token ids: one sequence that stands alone."""

Words = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]
"""A text, documents, token ids, or documents of token ids."""


@dataclass(frozen=True)
class Text:
    """One or more documents under one name; nothing in one document is seen from another."""

    name: str
    documents: tuple[Document, ...]
    use: Use = "own"
    title: str = ""

    @property
    def is_running(self) -> bool:
        """Whether it is one document, long enough to be cut and to fill probes."""
        return len(self.documents) == 1


def as_text(words: Words, name: str) -> Text:
    """`words` in any of their forms as one text.

    Raises ConfigError for none of these forms.
    """
    if isinstance(words, str):
        return Text(name, (words,))
    forms = "give a text, a list of texts, token ids, or a list of those"
    if isinstance(words, bytes | Mapping) or not isinstance(words, Iterable):
        raise ConfigError(f"{name}: {forms}, not {kind(words)}")
    parts: list[Any] = list(words)
    if not parts:
        raise ConfigError(f"{name}: no document")
    if all(isinstance(part, str) for part in parts):
        return Text(name, tuple(parts))
    if all(_is_id(part) for part in parts):
        return Text(name, ([int(part) for part in parts],))
    try:
        documents = [[] if isinstance(part, str) else list(part) for part in parts]
    except TypeError:
        documents = []
    if not documents or not all(ids and all(_is_id(i) for i in ids) for ids in documents):
        raise ConfigError(f"{name}: {forms}")
    return Text(name, tuple([int(i) for i in ids] for ids in documents))


def _is_id(value: object) -> bool:
    import numbers

    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    title: str
    file: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")
    opens: str = Field(min_length=8)
    use: Literal["recipe", "choices", "held_out"]


class _Listing(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    texts: tuple[_Entry, ...] = Field(min_length=1)


def shipped_texts(uses: Sequence[Use] = ("recipe", "choices", "held_out")) -> list[Text]:
    """The shipped texts of these uses, in the order of the listing.

    Raises CorruptInputError if the listing or a text is not what it was.
    """
    folder = data_folder("traces")
    try:
        listing = _Listing.model_validate_json((folder / LISTING).read_bytes())
        files = {e.file: (folder / e.file).read_text(encoding="utf-8") for e in listing.texts}
    except (OSError, UnicodeDecodeError, ValidationError):
        raise CorruptInputError(f"{folder / LISTING}: damaged, or a text it lists") from None
    texts = []
    for entry in listing.texts:
        whole = files[entry.file]
        starts = sorted(whole.find(other.opens) for other in listing.texts if
                        other.file == entry.file)  # fmt: skip
        begin = whole.find(entry.opens)
        if begin < 0:
            raise CorruptInputError(f"{folder / entry.file}: no text opens {entry.opens!r}")
        end = next((start for start in starts if start > begin), len(whole))
        texts.append(Text(entry.name, (whole[begin:end],), entry.use, entry.title))
    return [text for text in texts if text.use in uses]


TELLING = 80
"""Characters a passage needs to tell a text from others."""


def refuse_held_out(words: Sequence[str], what: str) -> None:
    """Raises ConfigError if `words` hold a passage of the held-out text.

    `what`: what would be chosen by it, for the message.
    """
    for held_out in shipped_texts(("held_out",)):
        passages = [p for p in _passages(held_out) if len(p) >= TELLING]
        for text in words:
            spaced = re.sub(r"\s+", " ", text)
            if any(passage in spaced for passage in passages):
                raise ConfigError(
                    f"{what}: the text holds {held_out.title}, which is kept out of every choice "
                    "(traces/unseen.json); leave it out"
                )


def _passages(text: Text) -> Iterator[str]:
    for document in text.documents:
        assert isinstance(document, str)
        yield from (re.sub(r"\s+", " ", line).strip() for line in document.splitlines())
