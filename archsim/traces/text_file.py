"""Reading text from strangers: a limit of size, UTF-8, and what becomes of a byte order mark.

A byte order mark at the beginning says how a file is encoded and is no part of its text: it is
dropped, wherever text is read. Everything else is kept as it stands, ends of lines too (a CRLF is
two characters for a tokenizer).
"""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from archsim.errors import ConfigError, CorruptInputError

_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes, without a UTF-8 byte order mark.

    Raises ConfigError if it cannot be read or is larger.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(limit + 1)  # a device or pipe may have no end
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if len(raw) > limit:
        raise ConfigError(f"{path}: larger than {limit >> 20} MiB")
    return raw.removeprefix(codecs.BOM_UTF8)


def read_utf8(path: Path, limit: int) -> str:
    """The text of a UTF-8 file of at most `limit` bytes, without its byte order mark.

    Raises ConfigError if it cannot be read, is larger, or is not UTF-8.
    """
    raw = read_bytes(path, limit)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        mark = next((name for start, name in _OTHER_MARKS.items() if raw.startswith(start)), None)
        found = f"{mark} text; save it as UTF-8" if mark else f"not UTF-8 text (byte {error.start})"
        raise ConfigError(f"{path}: {found}") from None


def read_json_object(path: Path, limit: int) -> dict[str, Any]:
    """The JSON object of a file of at most `limit` bytes.

    Raises ConfigError if it cannot be read, CorruptInputError for anything else than an object.
    """
    try:
        if path.stat().st_size > limit:
            raise CorruptInputError(f"{path}: larger than {limit >> 20} MiB; not a model's file")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        data = json.loads(read_bytes(path, limit))
    except (ValueError, RecursionError):
        raise CorruptInputError(f"{path}: not valid JSON") from None
    if not isinstance(data, dict):
        raise CorruptInputError(f"{path}: not a JSON object")
    return data
