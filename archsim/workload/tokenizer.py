"""Byte-level BPE, as GPT-2 uses it, through the `tokenizers` library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archsim.errors import ConfigError, CorruptInputError, MissingExtraError, one_line
from archsim.files import sha256_of_file

TOKENIZER_FILE, VOCABULARY_FILE, MERGES_FILE = "tokenizer.json", "vocab.json", "merges.txt"
END_OF_TEXT = "<|endoftext|>"
MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True)
class Tokenizer:
    """Text to token ids and back; `sha256` identifies the files it was read from."""

    sha256: str
    _library: Any = field(repr=False, compare=False)

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`, nothing added at either end."""
        ids: list[int] = self._library.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; a character cut in half becomes U+FFFD."""
        text: str = self._library.decode(list(ids), skip_special_tokens=False)
        return text


def tokenizer_files(folder: str | Path) -> list[Path]:
    """The files a tokenizer would be read from, empty if the folder has none.

    ``tokenizer.json`` goes before ``vocab.json`` with ``merges.txt``.
    """
    folder = Path(folder)
    if (folder / TOKENIZER_FILE).is_file():
        return [folder / TOKENIZER_FILE]
    pair = [folder / MERGES_FILE, folder / VOCABULARY_FILE]
    return pair if all(path.is_file() for path in pair) else []


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The byte-level BPE tokenizer of a model folder.

    Raises ConfigError if there is none or it is of another kind, CorruptInputError if its files
    are damaged, MissingExtraError without the package `tokenizers`.
    """
    try:
        from tokenizers import pre_tokenizers
    except ImportError:
        raise MissingExtraError(
            "reading text needs the package tokenizers: pip install tokenizers, or give token ids"
        ) from None
    files = tokenizer_files(folder)
    if not files:
        raise ConfigError(
            f"{folder}: no {TOKENIZER_FILE} and no {VOCABULARY_FILE} with {MERGES_FILE}; "
            "give token ids with --tokens instead of text"
        )
    for path in files:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CorruptInputError(f"{path}: larger than 64 MiB; not the file of a tokenizer")
    try:
        library = _read(files)
    except Exception as error:  # the library raises bare Exception for any fault in its files
        raise CorruptInputError(f"{files[0]}: not a tokenizer ({one_line(error, 120)})") from None
    if type(library.model).__name__ != "BPE":
        raise ConfigError(f"{files[0]}: a {type(library.model).__name__} tokenizer, BPE is needed")
    absent = set(pre_tokenizers.ByteLevel.alphabet()) - library.get_vocab().keys()
    if absent:  # the library drops bytes it has no symbol for without a word
        raise ConfigError(
            f"{files[0]}: not byte-level, {len(absent)} of 256 byte symbols are missing; "
            "give token ids with --tokens instead of text"
        )
    return Tokenizer(_sha256(files), library)


def _read(files: list[Path]) -> Any:
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers

    if len(files) == 1:
        library = Library.from_file(str(files[0]))
        library.no_truncation()
        library.no_padding()
        return library
    merges, vocabulary = files
    library = Library(models.BPE.from_file(str(vocabulary), str(merges)))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    if library.token_to_id(END_OF_TEXT) is not None:
        library.add_special_tokens([END_OF_TEXT])  # one token in a text, not seven pieces
    return library


def _sha256(files: list[Path]) -> str:
    """The hash of one file, or of several files' names and hashes."""
    if len(files) == 1:
        return sha256_of_file(files[0])
    lines = "".join(f"{path.name} {sha256_of_file(path)}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()
