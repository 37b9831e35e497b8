"""The errors archsim raises. Each message is one line: what, where, and what to do."""

from __future__ import annotations


class ArchsimError(Exception):
    """Base of every error a user can meet; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(ArchsimError):
    """A config, an argument, or a pair of inputs that do not fit together (exit 2)."""

    exit_code = 2


class MissingExtraError(ArchsimError):
    """An optional package or a device that the request needs is not there (exit 3)."""

    exit_code = 3


class CorruptInputError(ArchsimError):
    """A file whose content is damaged, tampered with, or not finite (exit 4)."""

    exit_code = 4


class InvariantError(ArchsimError):
    """The simulator contradicted itself: a defect in archsim, not in the input (exit 1)."""


class ConformError(ArchsimError):
    """A variant does not do what its slot promises: a defect in the variant (exit 1)."""


def one_line(text: object, limit: int = 300) -> str:
    """`text` on one line, at most `limit` characters: foreign messages often span several."""
    flat = " ".join(str(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
