"""Traces of arrays that another program computed: npz, npy and safetensors files.

What is read: ``q``, ``k``, ``v``, each (layers, heads, tokens, head_dim), or (heads, tokens,
head_dim) for one layer; or a layer at a time, ``layers.0.q`` and so on. Beside them, where they are
known, ``tokens`` (tokens,) and ``scalers.q``, ``.k``, ``.v``, ``.output`` (layers, heads, 2) as
(a, b). See docs/traces.md.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.arrays import number_array
from archsim.errors import ConfigError, CorruptInputError, one_line
from archsim.traces.data import LIMITS
from archsim.traces.manifest import Environment
from archsim.traces.scalers import SCALED
from archsim.traces.tensor_file import open_tensors
from archsim.traces.trace import Trace

PARTS = ("q", "k", "v")
_LAYER = re.compile(r"layers\.(0|[1-9][0-9]{0,3})\.([qkv])")
_NAMES = {*PARTS, "tokens", *(f"scalers.{name}" for name in SCALED)}

Arrays = dict[str, NDArray[Any]]


def import_trace(
    path: Path,
    name: str,
    *,
    fit: bool = False,
    token_ids: Sequence[int] | None = None,
    description: str = "",
    command: str | None = None,
) -> Trace:
    """The trace of the arrays in a file, or of a folder with ``q.npy``, ``k.npy`` and ``v.npy``.

    Scalers are the file's; `fit` fits them instead, and without either they are the defaults of
    `Trace.from_arrays`. `token_ids` go before the file's ``tokens``.

    Raises ConfigError for arrays that are missing, unknown or do not fit each other,
    CorruptInputError for a damaged file or a value not finite.
    """
    arrays = read_arrays(path)
    scalers = _scalers(arrays, path)
    if fit and scalers:
        raise ConfigError(f"{path}: holds scalers; leave out --fit-scalers, or the scalers")
    q, k, v = (_part(arrays, part, path) for part in PARTS)
    try:
        return Trace.from_arrays(
            q,
            k,
            v,
            scalers="fit" if fit else scalers,
            name=name,
            token_ids=arrays.get("tokens") if token_ids is None else token_ids,
            description=description,
            environment=Environment.here(command),
        )
    except (ConfigError, CorruptInputError) as error:
        raise type(error)(f"{path}: {error}") from None


def read_arrays(path: Path) -> Arrays:
    """Every array of a file by its name. Raises ConfigError for a name that means nothing here."""
    if path.is_dir():
        arrays = _read_folder(path)
    elif path.suffix == ".safetensors":
        file = open_tensors(path, LIMITS)
        arrays = {name: file.read(name) for name in file.tensors}
    elif path.suffix in {".npz", ".npy"}:
        arrays = _read_numpy(path)
    else:
        raise ConfigError(
            f"{path}: give a .npz, .npy or .safetensors file, or a folder of q.npy, k.npy, v.npy"
        )
    for name in arrays:
        if name not in _NAMES and not _LAYER.fullmatch(name):
            raise ConfigError(
                f"{path}: array {one_line(repr(name), 60)} is not one of "
                f"{', '.join(sorted(_NAMES))} or layers.N.q, .k, .v"
            )
    return arrays


def _read_folder(path: Path) -> Arrays:
    arrays: Arrays = {}
    for file in sorted(path.glob("*.npy")):
        arrays |= {file.stem: _load(file)}
    if not arrays:
        raise ConfigError(f"{path}: no .npy file in this folder")
    return arrays


def _read_numpy(path: Path) -> Arrays:
    found = _load(path)
    if isinstance(found, Mapping):
        return dict(found)
    if found.ndim not in (4, 5) or len(found) != 3:
        raise ConfigError(
            f"{path}: shape {found.shape}; one .npy file holds q, k and v as (3, layers, heads, "
            "tokens, head_dim)"
        )
    return dict(zip(PARTS, found, strict=True))


def _load(path: Path) -> Any:
    """An array, or a mapping of arrays; never anything pickled."""
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            return found
        with found:
            return {name: found[name] for name in found.files}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = "Python objects are not read" if "pickle" in str(error) else one_line(error, 100)
        raise CorruptInputError(f"{path}: not an array file ({reason})") from None


def _part(arrays: Arrays, part: str, path: Path) -> NDArray[Any]:
    """One of q, k, v as (layers, heads, tokens, head_dim)."""
    layers = {int(m[1]): name for name in arrays if (m := _LAYER.fullmatch(name)) and m[2] == part}
    if (part in arrays) == bool(layers):
        what = f"both {part} and layers.N.{part}" if layers else f"no array {part}"
        raise ConfigError(f"{path}: {what}; give q, k and v, or layers.N.q, .k and .v")
    if not layers:
        whole = number_array(arrays[part], f"{path}: {part}")
        return whole[None] if whole.ndim == 3 else whole
    if sorted(layers) != list(range(len(layers))):
        missing = min(set(range(max(layers))) - set(layers))
        raise ConfigError(f"{path}: layers.{missing}.{part} is missing")
    parts = [
        number_array(arrays[layers[layer]], f"{path}: {layers[layer]}") for layer in sorted(layers)
    ]
    for layer, array in enumerate(parts):
        if array.ndim != 3 or array.shape != parts[0].shape:
            raise ConfigError(
                f"{path}: {layers[layer]} has shape {array.shape}; every layer is "
                "(heads, tokens, head_dim)"
            )
    return np.stack(parts)


def _scalers(arrays: Arrays, path: Path) -> dict[str, tuple[NDArray[Any], NDArray[Any]]] | None:
    """The file's pairs (a, b), each (layers, heads); None where it has none."""
    scalers = {}
    for name in SCALED:
        pair = arrays.get(f"scalers.{name}")
        if pair is not None:
            if pair.ndim != 3 or pair.shape[2] != 2:
                raise ConfigError(
                    f"{path}: scalers.{name} has shape {pair.shape}; it is (layers, heads, 2)"
                )
            scalers[name] = (pair[..., 0], pair[..., 1])
    return scalers or None
