"""Tokens that a model folder adds to its vocabulary, matched in a text before anything is split.

Old folders list them in ``added_tokens.json``, newer ones in ``tokenizer_config.json``
(``added_tokens_decoder``), the newest in ``tokenizer.json`` itself. Which file goes first and which
tokens count as special follows Hugging Face's `transformers` (``from_pretrained``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from archsim.errors import ConfigError, CorruptInputError, one_line
from archsim.traces.text_file import read_json_object

CONFIG_FILE, ADDED_FILE = "tokenizer_config.json", "added_tokens.json"
SPECIAL_FILE = "special_tokens_map.json"
MAX_BYTES = 16 << 20

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_NAMED = tuple(f"{kind}_token" for kind in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
_LISTED = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True)
class AddedToken:
    """A token as a file gives it; without an id it gets the vocabulary's next one."""

    content: str
    id: int | None
    flags: Mapping[str, bool]
    path: Path


def files_of_added_tokens(folder: Path) -> list[Path]:
    """The files of a folder that may add tokens, in alphabetical order."""
    names = (ADDED_FILE, SPECIAL_FILE, CONFIG_FILE)
    return [folder / name for name in names if (folder / name).is_file()]


def read_added_tokens(folder: Path) -> tuple[list[AddedToken], bool]:
    """The added tokens of a folder by id, those without one last, and ``add_prefix_space``.

    Raises CorruptInputError for files that are not what their name says.
    """
    config = _object(folder / CONFIG_FILE)
    decoder = config.get("added_tokens_decoder")
    special = dict.fromkeys(_special(config), folder / CONFIG_FILE)
    if decoder is not None:
        found = _from_decoder(folder / CONFIG_FILE, decoder)
    else:
        mapped = _special(_object(folder / SPECIAL_FILE))
        special |= dict.fromkeys(mapped, folder / SPECIAL_FILE)
        found = _from_ids(folder / ADDED_FILE, _object(folder / ADDED_FILE), special)
    known = {token.content for token in found}
    found.sort(key=lambda token: token.id or 0)
    flags = {"special": True, "normalized": False}
    found += [
        AddedToken(content, None, flags, path)
        for content, path in special.items()
        if content not in known
    ]
    return found, config.get("add_prefix_space") is True


def add_tokens(library: Any, tokens: list[AddedToken]) -> list[Path]:
    """Give `tokens` to a tokenizer of the library; returns the files that made a difference.

    Raises ConfigError if one cannot have the id that its file gives.
    """
    from tokenizers import AddedToken as LibraryToken

    paths = []
    there = {added.content for added in library.get_added_tokens_decoder().values()}
    for token in tokens:
        if token.content not in there:
            library.add_tokens([LibraryToken(token.content, **token.flags)])
            there.add(token.content)
            paths.append(token.path)
        found = library.token_to_id(token.content)
        if token.id is not None and found != token.id:
            raise ConfigError(
                f"{token.path}: {_shown(token.content)} has id {token.id}, after the ids of the "
                f"vocabulary and of the tokens before it comes {found}; give token ids with "
                "--tokens instead of text"
            )
    return sorted(set(paths))


def _object(path: Path) -> dict[str, Any]:
    return read_json_object(path, MAX_BYTES) if path.is_file() else {}


def _from_ids(path: Path, ids: Mapping[str, Any], special: Mapping[str, Path]) -> list[AddedToken]:
    """``added_tokens.json``: a token's text to its id."""
    found = []
    for content, number in ids.items():
        if type(number) is not int or number < 0 or not _is_text(content):
            raise CorruptInputError(
                f"{path}: {_shown(content)}: {_shown(number)} is not a token's id"
            )
        flags = {"special": content in special, "normalized": content not in special}
        found.append(AddedToken(content, number, flags, path))
    return found


def _from_decoder(path: Path, decoder: Any) -> list[AddedToken]:
    """``added_tokens_decoder`` of ``tokenizer_config.json``: an id to a token and its flags."""
    found = []
    for number, entry in decoder.items() if isinstance(decoder, dict) else [("", decoder)]:
        content = entry.get("content") if isinstance(entry, dict) else None
        if not (_is_text(content) and re.fullmatch(r"[0-9]{1,10}", number)):
            raise CorruptInputError(
                f"{path}: added_tokens_decoder: {_shown(number)}: {_shown(entry)} is not a token"
            )
        flags = {key: entry[key] for key in _FLAGS if isinstance(entry.get(key), bool)}
        found.append(AddedToken(content, int(number), flags, path))
    return found


def _special(values: Mapping[str, Any]) -> list[str]:
    """The special tokens of a file, in the order in which `transformers` adds them."""
    entries = [values.get(key) for key in _NAMED]
    for key in _LISTED:
        listed = values.get(key)
        entries += listed if isinstance(listed, list) else []
    texts = [entry.get("content") if isinstance(entry, dict) else entry for entry in entries]
    return [text for text in texts if _is_text(text)]


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether `value` is a text that can occur in one: not empty, no lone surrogate."""
    if not isinstance(value, str):
        return False
    return bool(value) and not any("\ud800" <= character <= "\udfff" for character in value)


def _shown(value: object) -> str:
    return one_line(repr(value), 60)
