"""Token traces: q, k and v of every layer, head and token, and the scalers of every head.

A trace is a folder with two files:

* ``trace.safetensors``: ``layers.{l}.q``, ``.k``, ``.v`` (heads, tokens, head_dim), all float16,
  float32 or float64; ``scalers.q``, ``.k``, ``.v``, ``.output`` (layers, heads, 2) as (a, b);
  ``scalers.range`` float64 (2,), supply and mid-rail in V of the cells that the scalers were made
  for, left out where they are 0.9 and 0.45 V; ``tokens`` int32 (tokens,), -1 where a token has no
  id.
* ``manifest.json``: see `archsim.workload.manifest`.

q is the model's projection without the factor 1/sqrt(head_dim).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from archsim.config.loading import suggestion
from archsim.config.voltages import VoltageRange
from archsim.errors import ConfigError, CorruptInputError, one_line
from archsim.files import atomic_path, data_folder, sha256_of_file, write_text
from archsim.workload.manifest import (
    DATA_FILE,
    MANIFEST_FILE,
    NAME_PATTERN,
    Content,
    Cut,
    Dtype,
    Environment,
    FileRecord,
    Manifest,
    Shapes,
    read_manifest,
)
from archsim.workload.scalers import DEFAULT_RANGE, SCALED, Scaler, fit_scalers, rescaled
from archsim.workload.tensor_file import Limits, TensorFile, open_tensors
from archsim.workload.trace_checks import (
    check_finite,
    check_name,
    checked_ids,
    checked_scalers,
    grouped_queries,
    read_only,
    real_array,
)

ADAPTATION_FILE = "adaptation.json"
ADAPTED_TRACE = "trace"
"""Folder of the trace inside a result of ``archsim adapt``."""

RANGE_TENSOR = "scalers.range"

LIMITS = Limits(header_bytes=1 << 20, tensors=4096, data_bytes=16 << 30)

_DTYPES: Mapping[str, str] = {"F16": "float16", "F32": "float32", "F64": "float64"}


@dataclass(frozen=True, eq=False)
class Trace:
    """One recorded sequence. Arrays are read-only; build one with `from_arrays`.

    q, k, v: (layers, heads, tokens, head_dim) as stored; `layer` gives float64.
    scalers: for each of ``q``, ``k``, ``v``, ``output`` the pair (a, b), each (layers, heads), made
    for cells of `voltages`; `scalers_on` has them for others.
    token_ids: (tokens,) int32, -1 where a token has no id.
    """

    name: str
    q: NDArray[Any] = field(repr=False)
    k: NDArray[Any] = field(repr=False)
    v: NDArray[Any] = field(repr=False)
    scalers: Mapping[str, Scaler] = field(repr=False)
    token_ids: NDArray[np.int32] = field(repr=False)
    content: Content
    description: str = ""
    environment: Environment | None = None
    voltages: VoltageRange = DEFAULT_RANGE
    adapted_folder: Path | None = field(default=None, repr=False)
    """The result of ``archsim adapt`` that this trace was loaded from; None for any other."""

    file: FileRecord | None = field(default=None, repr=False, init=False)
    """The data file this was loaded from; what is made of a trace with ``replace`` has none."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scalers", MappingProxyType(dict(self.scalers)))

    @classmethod
    def from_arrays(
        cls,
        q: ArrayLike,
        k: ArrayLike,
        v: ArrayLike,
        scalers: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
        name: str = "arrays",
        *,
        token_ids: ArrayLike | None = None,
        description: str = "",
        content: Content | None = None,
        environment: Environment | None = None,
        voltages: VoltageRange = DEFAULT_RANGE,
    ) -> Trace:
        """A trace of arrays in memory, each (layers, heads, tokens, head_dim).

        float16, float32 and float64 are kept; other dtypes become float64. Without `scalers` they
        are fitted (`archsim.workload.scalers.fit_scalers`); `identity_scalers` fits arrays that
        are already in [0, 1] and in the cells' range. `voltages` is the range that the scalers are
        for. `content` is what a recorder knows of the origin.

        Raises ConfigError for shapes that do not fit, CorruptInputError for a value not finite.
        """
        arrays = {"q": real_array(q, "q"), "k": real_array(k, "k"), "v": real_array(v, "v")}
        shape = arrays["q"].shape
        if len(shape) != 4 or 0 in shape:
            raise ConfigError(f"q: shape {shape} is not (layers, heads, tokens, head_dim)")
        layers, heads, tokens, head_dim = shape
        for other in ("k", "v"):
            found = arrays[other].shape
            if len(found) == 4 and found[1] != heads:
                raise grouped_queries(other, heads, found[1])
            if found != shape:
                raise ConfigError(f"{other}: shape {found} differs from q's {shape}")
        dtype = np.result_type(*arrays.values())
        for tensor, array in arrays.items():
            arrays[tensor] = np.array(array, dtype, order="C")  # a copy nobody else can write
            for layer in range(layers):
                check_finite(arrays[tensor][layer], f"trace {name}: layer {layer}, {tensor}")
            arrays[tensor] = read_only(arrays[tensor])
        shapes = _shapes(layers, heads, tokens, head_dim)
        if content is None:
            content = Content(shapes=shapes, dtype=_dtype_name(dtype))
        elif (content.shapes, content.dtype) != (shapes, dtype.name):
            raise ConfigError(f"trace {name}: content does not describe these arrays")
        check_name(name)
        return cls(
            name=name,
            q=arrays["q"],
            k=arrays["k"],
            v=arrays["v"],
            scalers=fit_scalers(**arrays, voltages=voltages)
            if scalers is None
            else checked_scalers(scalers, (layers, heads), f"trace {name}"),
            token_ids=checked_ids(token_ids, tokens),
            content=content,
            description=description,
            environment=environment,
            voltages=voltages,
        )

    def scalers_on(self, voltages: VoltageRange) -> Mapping[str, Scaler]:
        """The scalers on cells of some range, rescaled where they were made for another."""
        return rescaled(self.scalers, self.voltages, voltages)

    @property
    def layers(self) -> int:
        return int(self.q.shape[0])

    @property
    def heads(self) -> int:
        return int(self.q.shape[1])

    @property
    def kv_heads(self) -> int:
        """Heads of k and v; equal to `heads` until grouped queries are simulated."""
        return int(self.k.shape[1])

    @property
    def tokens(self) -> int:
        return int(self.q.shape[2])

    @property
    def head_dim(self) -> int:
        return int(self.q.shape[3])

    def layer(
        self, index: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """q, k, v of one layer in float64, each (heads, tokens, head_dim), before the scalers.

        Raises ConfigError if there is no such layer.
        """
        if not 0 <= index < self.layers:
            raise ConfigError(f"layer {index}: trace {self.name} has layers 0 to {self.layers - 1}")
        q, k, v = (x[index].astype(np.float64) for x in (self.q, self.k, self.v))
        return q, k, v

    def select(self, tokens: int | None = None, layers: slice | None = None) -> Trace:
        """The first `tokens` tokens of a range of layers; scalers stay as they were fitted.

        Raises ConfigError if the trace does not hold as many tokens, or those layers.
        """
        count = self.tokens if tokens is None else tokens
        if not 1 <= count <= self.tokens:
            raise ConfigError(f"tokens {count}: trace {self.name} has 1 to {self.tokens} tokens")
        first, stop = self._layer_range(slice(None) if layers is None else layers)
        if (count, first, stop) == (self.tokens, 0, self.layers):
            return self
        shapes = self.content.shapes.model_copy(update={"layers": stop - first, "tokens": count})
        cut = Cut(
            content_sha256=self.content.sha256(), first_layer=first, stop_layer=stop, tokens=count
        )
        return replace(
            self,
            q=self.q[first:stop, :, :count],
            k=self.k[first:stop, :, :count],
            v=self.v[first:stop, :, :count],
            scalers={name: (a[first:stop], b[first:stop]) for name, (a, b) in self.scalers.items()},
            token_ids=self.token_ids[:count],
            content=self.content.model_copy(update={"shapes": shapes, "cut": cut}),
        )

    def _layer_range(self, layers: slice) -> tuple[int, int]:
        first = 0 if layers.start is None else layers.start
        stop = self.layers if layers.stop is None else layers.stop
        if layers.step not in (None, 1) or not 0 <= first < stop <= self.layers:
            raise ConfigError(
                f"layers {first}:{stop}: trace {self.name} has layers 0 to {self.layers - 1}; "
                "write first:stop with first < stop"
            )
        return int(first), int(stop)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the data file; for a trace made or cut in memory, of the file it would be."""
        return self.file.sha256 if self.file else hashlib.sha256(_serialise(self)).hexdigest()

    @property
    def manifest(self) -> Manifest:
        """The manifest of this trace as `save_trace` writes it."""
        record = self.file
        if record is None:
            data = _serialise(self)
            record = FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        return _manifest(self, record)


def default_trace_name() -> str:
    """The trace that commands use when none is named."""
    return "reference-adapted"


def load_trace(name_or_path: str | Path, verify: bool = True) -> Trace:
    """Load a trace: the name of a shipped one, else the path of a folder or of a file in it.

    A bare name is looked up among the shipped traces first; write ``./name`` for a folder.
    `verify` compares the data with the manifest's SHA-256; every other check is always made.

    Raises ConfigError if there is no such trace or it needs grouped queries, CorruptInputError
    with the place of the first fault if a file is damaged, tampered with or not finite.
    """
    folder = trace_folder(name_or_path)
    manifest = read_manifest(folder / MANIFEST_FILE)
    shapes = manifest.content.shapes
    if shapes.kv_heads != shapes.heads:
        raise grouped_queries(str(folder), shapes.heads, shapes.kv_heads)
    path, record = folder / DATA_FILE, manifest.files[DATA_FILE]
    data = open_tensors(path, LIMITS)
    _check_layout(data, manifest)
    size = path.stat().st_size
    if size != record.bytes or (verify and sha256_of_file(path) != record.sha256):
        raise CorruptInputError(
            f"{path}: SHA-256 or size differs from {MANIFEST_FILE}: tampered or damaged; "
            "copy or record the trace again"
        )
    arrays = {tensor: _read_layers(data, tensor, manifest) for tensor in ("q", "k", "v")}
    pairs = {name: data.read(f"scalers.{name}") for name in SCALED}
    trace = Trace(
        name=manifest.name,
        q=arrays["q"],
        k=arrays["k"],
        v=arrays["v"],
        scalers=checked_scalers(
            {name: (pair[..., 0], pair[..., 1]) for name, pair in pairs.items()},
            (shapes.layers, shapes.heads),
            str(path),
        ),
        token_ids=checked_ids(data.read("tokens"), shapes.tokens, str(path)),
        content=manifest.content,
        description=manifest.description,
        environment=manifest.environment,
        voltages=_read_voltages(data),
        adapted_folder=model_of(folder),
    )
    if verify:
        object.__setattr__(trace, "file", record)
    return trace


def _read_voltages(data: TensorFile) -> VoltageRange:
    if RANGE_TENSOR not in data.tensors:
        return DEFAULT_RANGE
    supply, mid_rail = (float(volts) for volts in data.read(RANGE_TENSOR))
    if not 0 < mid_rail < supply <= 1e3:
        raise CorruptInputError(
            f"{data.path}: {RANGE_TENSOR} is {supply}, {mid_rail}: not a supply and a mid-rail in V"
        )
    return VoltageRange(supply, mid_rail)


def model_of(folder: Path) -> Path | None:
    """The result of ``archsim adapt`` that a trace folder belongs to; None for any other."""
    model = folder.resolve().parent
    return model if (model / ADAPTATION_FILE).is_file() else None


def save_trace(trace: Trace, folder: str | Path, force: bool = False) -> Manifest:
    """Write a trace into `folder`, the data first and the manifest last, and return the manifest.

    Equal traces give equal bytes. Raises ConfigError if the folder holds a trace already (unless
    `force`) or cannot be written.
    """
    folder = Path(folder)
    refuse_existing(folder, force)
    data = _serialise(trace)
    manifest = _manifest(
        trace, FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    )
    with atomic_path(folder / DATA_FILE) as temporary:
        temporary.write_bytes(data)
    write_text(folder / MANIFEST_FILE, manifest.to_json())
    return manifest


def refuse_existing(folder: Path, force: bool = False) -> None:
    """Raise ConfigError if `folder` holds a trace already and `force` is not given."""
    for name in (MANIFEST_FILE, DATA_FILE):
        if not force and (folder / name).exists():
            raise ConfigError(f"{folder / name}: exists already; use --force to replace it")


def trace_folder(name_or_path: str | Path) -> Path:
    """The folder of a trace, found as `load_trace` says. Raises ConfigError if there is none."""
    if not str(name_or_path).strip():
        raise ConfigError("trace: an empty name; give a shipped name or a folder")
    path = Path(name_or_path)
    bare = isinstance(name_or_path, str) and re.fullmatch(NAME_PATTERN, name_or_path)
    if bare:
        shipped = data_folder("traces")
        for folder in (shipped / path, shipped / path / ADAPTED_TRACE):
            if (folder / MANIFEST_FILE).is_file():
                return folder
    if path.name in (MANIFEST_FILE, DATA_FILE) and path.is_file():
        return path.parent
    for folder in (path, path / ADAPTED_TRACE):
        if (folder / MANIFEST_FILE).is_file():
            return folder
    if path.is_dir():
        raise ConfigError(f"{path}: no {MANIFEST_FILE} in this folder; record a trace into it")
    if not bare:
        raise ConfigError(f"{one_line(path, 200)}: no such trace folder")
    known = sorted(
        {entry.parent.name for entry in shipped.glob(f"*/{MANIFEST_FILE}")}
        | {entry.parent.parent.name for entry in shipped.glob(f"*/{ADAPTED_TRACE}/{MANIFEST_FILE}")}
    )
    listed = f" (shipped: {', '.join(known)})" if known else ""
    raise ConfigError(f"no trace named {name_or_path!r}{suggestion(path.name, known)}{listed}")


def _manifest(trace: Trace, record: FileRecord) -> Manifest:
    try:
        return Manifest(
            name=trace.name,
            description=trace.description,
            content=trace.content,
            content_sha256=trace.content.sha256(),
            files={DATA_FILE: record},
            environment=trace.environment,
        )
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise ConfigError(f"trace {trace.name}: {where}: {one_line(fault['msg'], 160)}") from None


def _shapes(layers: int, heads: int, tokens: int, head_dim: int) -> Shapes:
    try:
        return Shapes(layers=layers, heads=heads, kv_heads=heads, tokens=tokens, head_dim=head_dim)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ConfigError(f"trace: {fault['loc'][0]}: {fault['msg']}") from None


def _dtype_name(dtype: np.dtype[Any]) -> Dtype:
    names: dict[str, Dtype] = {name: name for name in get_args(Dtype)}
    return names[dtype.name]


def _layout(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the data file."""
    layout: dict[str, tuple[int, ...]] = {
        f"layers.{layer}.{tensor}": (heads, shapes.tokens, shapes.head_dim)
        for layer in range(shapes.layers)
        for tensor, heads in (("q", shapes.heads), ("k", shapes.kv_heads), ("v", shapes.kv_heads))
    }
    layout |= {f"scalers.{name}": (shapes.layers, shapes.heads, 2) for name in SCALED}
    layout["tokens"] = (shapes.tokens,)
    return layout


def _check_layout(data: TensorFile, manifest: Manifest) -> None:
    """Compare the header of the data file with the manifest."""
    layout = _layout(manifest.content.shapes)
    if RANGE_TENSOR in data.tensors:
        layout[RANGE_TENSOR] = (2,)
    missing = sorted(layout.keys() - data.tensors.keys())
    unknown = sorted(data.tensors.keys() - layout.keys())
    if missing:
        raise CorruptInputError(f"{data.path}: tensor {missing[0]!r} is missing")
    if unknown:
        raise CorruptInputError(f"{data.path}: unknown tensor {one_line(unknown[0], 80)!r}")
    for name, shape in layout.items():
        found = data.tensors[name]
        if found.shape != shape:
            raise CorruptInputError(
                f"{data.path}: {name} has shape {found.shape}, {MANIFEST_FILE} says {shape}"
            )
        if name.startswith("layers."):
            accepted: tuple[str, ...] = (manifest.content.dtype,)
        else:
            accepted = ("I32",) if name == "tokens" else ("float32", "float64")
        if _DTYPES.get(found.dtype, found.dtype) not in accepted:
            raise CorruptInputError(
                f"{data.path}: {name} has dtype {found.dtype}, expected {' or '.join(accepted)}"
            )


def _read_layers(data: TensorFile, tensor: str, manifest: Manifest) -> NDArray[Any]:
    """One of q, k, v, (layers, heads, tokens, head_dim), checked to be finite."""
    shapes = manifest.content.shapes
    shape = (shapes.layers, shapes.heads, shapes.tokens, shapes.head_dim)
    result = np.empty(shape, manifest.content.dtype)
    for layer in range(shapes.layers):
        data.read(f"layers.{layer}.{tensor}", out=result[layer])
        check_finite(result[layer], f"{data.path}: layer {layer}, {tensor}")
    return read_only(result)


def _serialise(trace: Trace) -> bytes:
    """The bytes of ``trace.safetensors``; the library sorts tensors by dtype and name."""
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {
        f"layers.{layer}.{name}": np.ascontiguousarray(x[layer])
        for layer in range(trace.layers)
        for name, x in (("q", trace.q), ("k", trace.k), ("v", trace.v))
    }
    tensors |= {f"scalers.{name}": np.stack(pair, axis=-1) for name, pair in trace.scalers.items()}
    tensors["tokens"] = np.ascontiguousarray(trace.token_ids)
    if trace.voltages != DEFAULT_RANGE:
        tensors[RANGE_TENSOR] = np.array([trace.voltages.supply, trace.voltages.mid_rail])
    data: bytes = save(tensors)
    return data
