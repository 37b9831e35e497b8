"""What public functions are given, checked: a mistake is one line, never another error."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsIndex, cast

from archsim.errors import ConfigError, one_line


def as_path(value: object, what: str, instead: str = "a path") -> str | Path:
    """`value` if it can name a file; `instead` is what to give.

    Raises ConfigError, as all of these do, which calls the argument `what`.
    """
    if isinstance(value, os.PathLike) and not isinstance(value, Path):
        value = os.fspath(value)
    if isinstance(value, str | Path):
        try:
            if b"\0" not in os.fsencode(value):
                return value
        except UnicodeEncodeError:
            pass
        raise ConfigError(f"{what}: {one_line(ascii(str(value)), 60)} cannot name a file")
    raise ConfigError(f"{what}: give {instead}, not {kind(value)}")


def as_whole(value: object, what: str) -> int:
    """`value` as an int if it is a whole number, of numpy too; True is none."""
    try:
        if not isinstance(value, bool):
            return operator.index(cast(SupportsIndex, value))
    except TypeError:
        pass
    raise ConfigError(f"{what}: {one_line(repr(value), 60)} is not a whole number")


def as_text(value: object, what: str) -> str:
    """`value` if it is a str."""
    if isinstance(value, str):
        return value
    raise ConfigError(f"{what}: {one_line(repr(value), 60)} is not a text")


def as_mapping(value: object, what: str, example: str) -> Mapping[str, Any]:
    """`value` if it is a mapping of texts to anything; `example` shows one."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{what}: give a mapping like {example}, not {one_line(repr(value), 60)}")
    return value


def kind(value: object) -> str:
    """The type of a value, to be named in a message."""
    return one_line(type(value).__qualname__, 60)
