"""Reading safetensors files from strangers: limits first, then the library's checks, then data.

The `safetensors` library refuses gaps, overlaps, overflowing shapes and truncated files. It accepts
any number of tensors and any amount of data, and numpy cannot hold its bfloat16: both are handled
here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ConfigError, CorruptInputError, one_line

_READABLE = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}
"""safetensors name of a dtype to the numpy dtype its bytes are read as."""


@dataclass(frozen=True)
class Limits:
    """What a file may announce in its header before any data is read."""

    header_bytes: int
    tensors: int
    data_bytes: int


@dataclass(frozen=True)
class StoredTensor:
    """One header entry; `offset` counts bytes from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class TensorFile:
    """A checked safetensors file; its tensors are read one at a time."""

    path: Path
    tensors: Mapping[str, StoredTensor]

    def read(self, name: str, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The tensor `name` as a numpy array, bfloat16 widened to float32 (exact).

        `out`, contiguous and of its shape and stored dtype, is filled and returned. Raises
        CorruptInputError for a dtype that holds no weights and for a file that shrank.
        """
        entry = self.tensors[name]
        if entry.dtype not in _READABLE:
            raise CorruptInputError(
                f"{self.path}: tensor {one_line(name, 80)!r} has dtype {entry.dtype}, "
                f"readable are {', '.join(_READABLE)}"
            )
        raw = np.empty(entry.shape, _READABLE[entry.dtype]) if out is None else out
        assert (raw.shape, raw.dtype) == (entry.shape, np.dtype(_READABLE[entry.dtype]))
        try:
            with self.path.open("rb", buffering=0) as stream:
                stream.seek(entry.offset)
                left = raw.data.cast("B") if raw.size else memoryview(b"")
                while left and (got := stream.readinto(left)):
                    left = left[got:]
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read ({error.strerror})") from None
        if left:
            raise CorruptInputError(f"{self.path}: truncated while it was read; copy it again")
        if entry.dtype == "BF16":  # bfloat16 is the upper half of a float32
            return (raw.astype(np.uint32) << 16).view(np.float32)
        return raw


def open_tensors(path: Path, limits: Limits) -> TensorFile:
    """Check the header of a safetensors file, against `limits` first, and return its tensors.

    Raises ConfigError if the file is not there, CorruptInputError if it is damaged or too large.
    """
    header, start = _read_header(path, limits)
    header.pop("__metadata__", None)
    if len(header) > limits.tensors:
        raise CorruptInputError(
            f"{path}: header announces {len(header)} tensors, at most {limits.tensors} are accepted"
        )
    tensors, total = {}, 0
    for name, entry in header.items():
        tensors[name], size = _entry(path, name, entry, start)
        total += size
    if total > limits.data_bytes:
        raise CorruptInputError(
            f"{path}: header announces {total} bytes, at most {limits.data_bytes} are accepted"
        )
    _check_structure(path)
    return TensorFile(path, tensors)


def _read_header(path: Path, limits: Limits) -> tuple[dict[str, Any], int]:
    """The JSON header and the offset at which data starts."""
    try:
        with path.open("rb") as stream:
            prefix = stream.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length > path.stat().st_size - 8:
                raise CorruptInputError(f"{path}: truncated, or not a safetensors file")
            if length > limits.header_bytes:
                raise CorruptInputError(
                    f"{path}: header of {length} bytes, at most {limits.header_bytes} are accepted"
                )
            raw = stream.read(length)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        header = json.loads(raw, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        raise CorruptInputError(f"{path}: header is not valid JSON; the file is damaged") from None
    if not isinstance(header, dict):
        raise CorruptInputError(f"{path}: header is not a JSON object; the file is damaged")
    return header, 8 + length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key")
    return result


def _entry(path: Path, name: str, entry: object, start: int) -> tuple[StoredTensor, int]:
    """One header entry and its size in bytes; `start` is where data begins."""
    if isinstance(entry, dict):
        dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
        if (
            isinstance(dtype, str)
            and _is_sizes(shape)
            and _is_sizes(offsets)
            and len(offsets) == 2
            and offsets[0] <= offsets[1]
        ):
            return StoredTensor(dtype, tuple(shape), start + offsets[0]), offsets[1] - offsets[0]
    raise CorruptInputError(
        f"{path}: header entry {one_line(name, 80)!r} is malformed; the file is damaged"
    )


def _is_sizes(value: object) -> TypeGuard[list[int]]:
    """Whether `value` is a list of non-negative integers that fit 63 bits."""
    return isinstance(value, list) and all(type(x) is int and 0 <= x < 1 << 63 for x in value)


def _check_structure(path: Path) -> None:
    """Let the library check that shapes, offsets and the file's length agree, without gaps."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        reason = one_line(error, 120)
        raise CorruptInputError(f"{path}: damaged or truncated safetensors ({reason})") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None
