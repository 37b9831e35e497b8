"""Fields whose value may be the name of a file, and is its content from then on.

So a hardware holds the numbers, not a name: they are hashed, carried to workers, and written into
a result's config, which loads again wherever the file has gone since.
"""

from __future__ import annotations

import functools
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from archsim.config.document import Document
from archsim.config.section import field_of, leaf_paths
from archsim.config.variants import load_plugins, version
from archsim.errors import ConfigError, one_line

MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class FileContent:
    """Field type: ``Annotated[str, FileContent(...)]`` takes a file's name or its content.

    `is_content` tells one from the other, `read` brings content into the form that is kept, and
    raises ValueError with a one-line reason for what it cannot read. `what` is named in messages.
    """

    what: str
    is_content: Callable[[str], bool]
    read: Callable[[str], str]

    def content(self, value: object, folder: Path = Path()) -> str:
        """What a value holds; a name is beside `folder`. ValueError with a one-line reason."""
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"give the name of {self.what}")
        if self.is_content(value):
            return self.read(value)
        path = folder / value.strip()
        text = _read_text(path, self.what)
        try:
            return self.read(text)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        text = core_schema.str_schema()
        return core_schema.no_info_before_validator_function(self.content, text)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string"}


def _read_text(path: Path, what: str) -> str:
    """The text of a small regular file; a pipe or device, which may never end, is not opened."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ValueError(f"{path}: is a folder; give {what}")
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path}: is no regular file; give {what}")
        if found.st_size > MOST_BYTES:
            raise ValueError(f"{path}: larger than {MOST_BYTES >> 20} MiB; give {what}")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"{one_line(path, 120)}: no such file; give {what}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; give {what}") from None
    except OSError as error:
        shown = one_line(path, 120)
        raise ValueError(f"{shown}: cannot be read ({error.strerror}); give {what}") from None


def read_files(document: Document, model: type[BaseModel], folder: Path) -> None:
    """Put the content of every file that a document names, beside `folder`, in the name's place.

    Raises ConfigError with file:line where one cannot be read.
    """
    if not document.provenance.keys() <= _known(model, version())[0]:
        load_plugins()
    for key, kind in _known(model, version())[1].items():
        if key in document.provenance:
            *sections, name = key.split(".")
            values = document.values
            for section in sections:
                values = values[section]
            place = document.places[key]
            try:
                values[name] = kind.content(values[name], folder)
            except ValueError as error:
                at = "" if place == f"--set {key}" else f"{key}: "
                raise ConfigError(f"{place}: {at}{error}") from None


def names_file(model: type[BaseModel], key: str, value: object) -> bool:
    """Whether the value of a leaf is the name of a file, and not its content."""
    kind = _known(model, version())[1].get(key)
    return kind is not None and isinstance(value, str) and not kind.is_content(value)


@functools.lru_cache(maxsize=8)
def _known(model: type[BaseModel], variants: int) -> tuple[frozenset[str], dict[str, FileContent]]:
    """Every leaf of a model, and those that may name a file."""
    paths, files = frozenset(leaf_paths(model)), {}
    for path in paths:
        for item in field_of(model, path).metadata:
            if isinstance(item, FileContent):
                files[path] = item
    return paths, files
