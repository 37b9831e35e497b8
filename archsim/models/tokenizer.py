"""Byte-level BPE, as GPT-2 uses it, through the `tokenizers` library."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archsim.errors import ConfigError, CorruptInputError, MissingExtraError, one_line
from archsim.files import sha256_of_file
from archsim.models.added_tokens import (
    CONFIG_FILE,
    add_tokens,
    files_of_added_tokens,
    read_added_tokens,
)
from archsim.traces.text_file import read_json_object, read_utf8

TOKENIZER_FILE, VOCABULARY_FILE, MERGES_FILE = "tokenizer.json", "vocab.json", "merges.txt"
_OWN_FILES = (TOKENIZER_FILE, VOCABULARY_FILE, MERGES_FILE)
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

    ``tokenizer.json`` goes before ``vocab.json`` with ``merges.txt``; then those that may add
    tokens (`archsim.models.added_tokens`).
    """
    folder = Path(folder)
    pair = [folder / MERGES_FILE, folder / VOCABULARY_FILE]
    if (folder / TOKENIZER_FILE).is_file():
        return [folder / TOKENIZER_FILE, *files_of_added_tokens(folder)]
    return [*pair, *files_of_added_tokens(folder)] if all(p.is_file() for p in pair) else []


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The byte-level BPE tokenizer of a model folder, with the tokens that the folder adds.

    Raises ConfigError if there is none, it is of another kind, or an added token cannot have its
    id; CorruptInputError if its files are damaged; MissingExtraError without the package
    `tokenizers`.
    """
    try:
        from tokenizers import pre_tokenizers
    except ImportError:
        raise MissingExtraError(
            "reading text needs the package tokenizers: pip install 'archsim[text]', or give "
            "token ids"
        ) from None
    folder = Path(folder)
    files = [path for path in tokenizer_files(folder) if path.name in _OWN_FILES]
    if not files:
        raise ConfigError(
            f"{folder}: no {TOKENIZER_FILE} and no {VOCABULARY_FILE} with {MERGES_FILE}; "
            "give token ids with --tokens instead of text"
        )
    added, prefix_space = read_added_tokens(folder)
    if len(files) == 1:
        library = _read_whole(files[0])
        prefix_space = False  # tokenizer.json says so itself
    else:
        merges, vocabulary = files
        library = _read_pair(merges, vocabulary, prefix_space)
    if type(library.model).__name__ != "BPE":
        raise ConfigError(f"{files[0]}: a {type(library.model).__name__} tokenizer, BPE is needed")
    absent = set(pre_tokenizers.ByteLevel.alphabet()) - library.get_vocab().keys()
    if absent:  # the library drops bytes it has no symbol for without a word
        raise ConfigError(
            f"{files[-1]}: not byte-level, {len(absent)} of 256 byte symbols are missing; "
            "give token ids with --tokens instead of text"
        )
    more = set(add_tokens(library, added))
    if prefix_space:
        more.add(folder / CONFIG_FILE)
    if library.token_to_id(END_OF_TEXT) is not None:
        library.add_special_tokens([END_OF_TEXT])  # one token in a text, not seven pieces
    return Tokenizer(_sha256(files + sorted(more)), library)


def _read_whole(path: Path) -> Any:
    """The library's tokenizer of a ``tokenizer.json``."""
    from tokenizers import Tokenizer as Library

    try:
        library = Library.from_str(_text(path))
    except Exception as error:  # the library raises bare Exception for any fault in its files
        raise CorruptInputError(f"{path}: not a tokenizer ({one_line(error, 120)})") from None
    library.no_truncation()
    library.no_padding()
    return library


def _read_pair(merges_path: Path, vocabulary_path: Path, prefix_space: bool) -> Any:
    """The library's tokenizer of ``merges.txt`` and ``vocab.json``."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers

    vocabulary = read_json_object(vocabulary_path, MAX_FILE_BYTES)
    for token, number in vocabulary.items():
        if type(number) is not int or not 0 <= number < 1 << 31:
            shown = one_line(repr(token), 60), one_line(repr(number), 40)
            raise CorruptInputError(f"{vocabulary_path}: {shown[0]}: {shown[1]} is not a token id")
    merges = _read_merges(merges_path, vocabulary)
    try:
        model = models.BPE(vocab=vocabulary, merges=merges)
    except Exception as error:
        reason = one_line(error, 120)
        raise CorruptInputError(f"{vocabulary_path}: not a vocabulary ({reason})") from None
    library = Library(model)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    library.decoder = decoders.ByteLevel()
    return library


def _read_merges(path: Path, vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    """The pairs of ``merges.txt`` in their order, each checked against the vocabulary."""
    merges = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        pair = line.removesuffix("\r").split(" ")
        if pair == [""] or pair[0].startswith("#version"):
            continue
        if len(pair) != 2 or not all(pair):
            raise CorruptInputError(f"{path}:{number}: a merge is two symbols with a space between")
        for symbol in (*pair, "".join(pair)):
            if symbol not in vocabulary:
                raise CorruptInputError(
                    f"{path}:{number}: {one_line(repr(symbol), 60)} is not in {VOCABULARY_FILE}"
                )
        merges.append((pair[0], pair[1]))
    return merges


def _text(path: Path) -> str:
    """A file of the tokenizer. Raises CorruptInputError if it is no text."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise CorruptInputError(f"{path}: larger than 64 MiB; not the file of a tokenizer")
    try:
        return read_utf8(path, MAX_FILE_BYTES)
    except ConfigError as error:
        raise CorruptInputError(str(error)) from None


def _sha256(files: list[Path]) -> str:
    """The hash of one file, or of several files' names and hashes."""
    if len(files) == 1:
        return sha256_of_file(files[0])
    lines = "".join(f"{path.name} {sha256_of_file(path)}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()
