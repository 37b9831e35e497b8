"""What a trace says about itself: ``manifest.json``.

`Content` holds everything that determines the numbers, and its hash identifies the trace across
machines. `Environment` only says where it was made. Two recordings of the same content may differ
by a rounding step in the data, never in the content hash.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from archsim.errors import ConfigError, CorruptInputError, one_line
from archsim.traces.text_file import read_bytes

SCHEMA_VERSION = 1
MANIFEST_FILE: Final = "manifest.json"
DATA_FILE: Final = "trace.safetensors"
MAX_MANIFEST_BYTES = 1 << 20
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Dtype = Literal["float16", "float32", "float64"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# no control characters: these strings reach terminals
Text = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Scalar = str | int | float | bool | None


class Record(BaseModel):
    """Unknown keys and numbers written as text are errors; instances never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Shapes(Record):
    """Sizes of a trace; the upper bounds keep a hostile manifest from asking for memory."""

    layers: int = Field(ge=1, le=1024)
    heads: int = Field(ge=1, le=1024)
    kv_heads: int = Field(ge=1, le=1024)
    tokens: int = Field(ge=1, le=1 << 22)
    head_dim: int = Field(ge=1, le=4096)


class ModelRecord(Record):
    """The checkpoint a trace was recorded from."""

    name: Text
    config: dict[Text, Scalar] = Field(max_length=100)
    weights_sha256: Sha256


class Cut(Record):
    """A trace that is part of another: layers first <= l < stop, and its first tokens."""

    content_sha256: Sha256
    first_layer: int = Field(ge=0)
    stop_layer: int = Field(ge=1)
    tokens: int = Field(ge=1)


class Content(Record):
    """Everything that determines the numbers of a trace; None where it does not apply."""

    shapes: Shapes
    dtype: Dtype
    model: ModelRecord | None = None
    tokenizer_sha256: Sha256 | None = None
    text_sha256: Sha256 | None = None
    token_ids_sha256: Sha256 | None = None
    skipped_tokens: int = Field(default=0, ge=0)
    seed: int | None = None
    cut: Cut | None = None
    attention_sha256: Sha256 | None = None
    """Scalers and hardware that computed the attention; None for the model's own."""

    def sha256(self) -> str:
        """SHA-256 of the content as canonical JSON: sorted keys, no spaces, ASCII."""
        values = self.model_dump(mode="json")
        if self.attention_sha256 is None:  # keeps the hash of traces from before there was one
            del values["attention_sha256"]
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def printable(text: str) -> str:
    """`text` as a manifest may hold it: file names can contain control characters."""
    return "".join(c for c in text if c.isprintable())[:2000]


class Environment(Record):
    """Where a trace was made; says nothing about its numbers."""

    archsim: Text
    numpy: Text
    python: Text
    platform: Text
    command: Text | None = None

    @classmethod
    def here(cls, command: str | None = None) -> Environment:
        """This process, and the command that made the trace."""
        import platform
        from importlib.metadata import PackageNotFoundError, version

        import numpy as np

        try:
            archsim = version("archsim")
        except PackageNotFoundError:  # run from a source tree that was never installed
            archsim = "unknown"
        return cls(
            archsim=archsim,
            numpy=np.__version__,
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.machine()}",
            command=None if command is None else printable(command),
        )


class FileRecord(Record):
    """Size and hash of one file beside the manifest."""

    bytes: int = Field(ge=0)
    sha256: Sha256


class Manifest(Record):
    """The content of ``manifest.json``."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    description: Text = ""
    content: Content
    content_sha256: Sha256
    files: dict[Literal["trace.safetensors"], FileRecord] = Field(min_length=1)
    environment: Environment | None = None

    @model_validator(mode="after")
    def _hash_agrees(self) -> Self:
        if self.content.sha256() != self.content_sha256:
            raise ValueError("content_sha256 does not match content: tampered or damaged")
        return self

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"


def read_manifest(path: Path) -> Manifest:
    """Read and check a ``manifest.json``.

    Raises ConfigError if it cannot be read or is of another schema version, CorruptInputError for
    anything that is not a manifest.
    """
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise CorruptInputError(f"{path}: larger than 1 MiB; a manifest is a small JSON file")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return Manifest.model_validate_json(read_bytes(path, MAX_MANIFEST_BYTES))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(one_line(part, 80) for part in fault["loc"])
        if where == "schema_version":
            raise ConfigError(
                f"{path}: schema_version {one_line(repr(fault['input']), 40)} is not "
                f"{SCHEMA_VERSION}; record the trace again with this archsim"
            ) from None
        reason = one_line(fault["msg"].removeprefix("Value error, "), 160)
        raise CorruptInputError(
            f"{path}: not a trace manifest ({f'{where}: ' if where else ''}{reason})"
        ) from None
