"""Token traces: q, k and v of every layer, head and token, and the scalers of every head.

A trace is a folder with two files:

* ``trace.safetensors``: ``layers.{l}.q``, ``.k``, ``.v`` (heads, tokens, head_dim), all float16,
  float32 or float64; ``scalers.q``, ``.k``, ``.v``, ``.output`` (layers, heads, 2) as (a, b);
  ``scalers.range`` float64 (2,), supply and mid-rail in V of the cells that the scalers were made
  for, left out where they are 0.9 and 0.45 V; ``tokens`` int32 (tokens,), -1 where a token has no
  id.
* ``manifest.json``: see `archsim.traces.manifest`.

q is the model's projection without the factor 1/sqrt(head_dim).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from archsim.arguments import as_path, as_whole, kind
from archsim.arrays import real_array
from archsim.config.voltages import VoltageRange
from archsim.errors import ConfigError, CorruptInputError, one_line
from archsim.files import atomic_path, sha256_of_file, write_text
from archsim.traces.checks import (
    check_finite,
    check_name,
    checked_ids,
    checked_scalers,
    grouped_queries,
    read_only,
)
from archsim.traces.data import (
    LIMITS,
    check_layout,
    read_layers,
    read_voltages,
    serialise,
)
from archsim.traces.folder import GIVEN, model_of, refuse_existing, trace_folder
from archsim.traces.manifest import (
    DATA_FILE,
    MANIFEST_FILE,
    Content,
    Cut,
    Dtype,
    Environment,
    FileRecord,
    Manifest,
    Shapes,
    read_manifest,
)
from archsim.traces.scalers import (
    DEFAULT_RANGE,
    SCALED,
    GivenScalers,
    Scaler,
    default_scalers,
    fit_scalers,
    rescaled,
)
from archsim.traces.tensor_file import open_tensors


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

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"scalers": dict(self.scalers)}  # a proxy cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in ("q", "k", "v", "token_ids"):  # copies and pickles forget the flag
            state[name] = read_only(state[name])
        pairs = {name: (read_only(a), read_only(b)) for name, (a, b) in state["scalers"].items()}
        self.__dict__.update(state | {"scalers": MappingProxyType(pairs)})

    @classmethod
    def from_arrays(
        cls,
        q: ArrayLike,
        k: ArrayLike,
        v: ArrayLike,
        scalers: GivenScalers | Literal["fit"] | None = None,
        name: str = "arrays",
        *,
        token_ids: ArrayLike | None = None,
        description: str = "",
        content: Content | None = None,
        environment: Environment | None = None,
        voltages: VoltageRange = DEFAULT_RANGE,
    ) -> Trace:
        """A trace of arrays in memory, each (layers, heads, tokens, head_dim).

        float16, float32 and float64 are kept; `archsim.arrays.real_array` says what else is read.
        `scalers`: pairs (a, b), numbers or (layers, heads), for any of "q", "k", "v", "output";
        a x + b comes before the quantisers. What is not given is FACTS 2.2's default, as in
        `archsim.attend`: a = 1, and b = 0 for q and output, the mid-rail of `voltages` for k and v.
        ``"fit"`` brings every head's mean and spread into range
        (`archsim.traces.scalers.fit_scalers`), as a recording does. `voltages` is the range that
        the scalers are for. `content` is what a recorder knows of the origin.

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
            scalers=_scalers(scalers, arrays, voltages, f"trace {name}"),
            token_ids=checked_ids(token_ids, tokens),
            content=content,
            description=description,
            environment=environment,
            voltages=voltages,
        )

    def __repr__(self) -> str:
        shape = f"{self.layers} layers x {self.heads} heads x {self.tokens:,} tokens"
        return f"<Trace {self.name}, {shape} x {self.head_dim}>"

    def scalers_on(self, voltages: VoltageRange) -> Mapping[str, Scaler]:
        """The scalers on cells of some range, rescaled where they were made for another."""
        return rescaled(self.scalers, self.voltages, voltages)

    @classmethod
    def load(cls, name_or_path: str | Path, verify: bool = True) -> Trace:
        """The trace of a folder, or a shipped one; see `load_trace`."""
        return load_trace(name_or_path, verify)

    def save(self, folder: str | Path, force: bool = False) -> Manifest:
        """Write this trace into `folder`, see `save_trace`; loading it gives an equal one."""
        return save_trace(self, folder, force)

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
        if not 0 <= as_whole(index, "layer") < self.layers:
            raise ConfigError(f"layer {index}: trace {self.name} has layers 0 to {self.layers - 1}")
        q, k, v = (x[index].astype(np.float64) for x in (self.q, self.k, self.v))
        return q, k, v

    def select(self, tokens: int | None = None, layers: slice | None = None) -> Trace:
        """The first `tokens` tokens of a range of layers; scalers stay as they were fitted.

        Raises ConfigError if the trace does not hold as many tokens, or those layers.
        """
        count = self.tokens if tokens is None else as_whole(tokens, "tokens")
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
        if not isinstance(layers, slice):
            raise ConfigError(f"layers: give a slice, slice(0, 2), not {kind(layers)}")
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
        return self.file.sha256 if self.file else hashlib.sha256(serialise(self)).hexdigest()

    @property
    def manifest(self) -> Manifest:
        """The manifest of this trace as `save_trace` writes it."""
        record = self.file
        if record is None:
            data = serialise(self)
            record = FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        return _manifest(self, record)


def _scalers(
    given: GivenScalers | Literal["fit"] | None,
    arrays: Mapping[str, NDArray[Any]],
    voltages: VoltageRange,
    where: str,
) -> dict[str, Scaler]:
    """The scalers of a new trace, as `Trace.from_arrays` says."""
    if given == "fit":
        return fit_scalers(**arrays, voltages=voltages)
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(
            f"{where}: scalers: give a mapping of q, k, v, output to pairs (a, b), or 'fit', "
            f"not {one_line(repr(given), 60)}"
        )
    shape = (arrays["q"].shape[0], arrays["q"].shape[1])
    defaults = default_scalers(*shape, voltages.mid_rail)
    return checked_scalers({**defaults, **(given or {})}, shape, where)


def load_trace(name_or_path: str | Path, verify: bool = True) -> Trace:
    """Load a trace: the name of a shipped one, else the path of a folder or of a file in it.

    A bare name is looked up among the shipped traces first; write ``./name`` for a folder.
    `verify` compares the data with the manifest's SHA-256; every other check is always made.

    Raises ConfigError if there is no such trace or it needs grouped queries, CorruptInputError
    with the place of the first fault if a file is damaged, tampered with or not finite.
    """
    folder = trace_folder(as_path(name_or_path, "trace", GIVEN))
    manifest = read_manifest(folder / MANIFEST_FILE)
    shapes = manifest.content.shapes
    if shapes.kv_heads != shapes.heads:
        raise grouped_queries(str(folder), shapes.heads, shapes.kv_heads)
    path, record = folder / DATA_FILE, manifest.files[DATA_FILE]
    data = open_tensors(path, LIMITS)
    check_layout(data, manifest)
    size = path.stat().st_size
    if size != record.bytes or (verify and sha256_of_file(path) != record.sha256):
        raise CorruptInputError(
            f"{path}: SHA-256 or size differs from {MANIFEST_FILE}: tampered or damaged; "
            "copy or record the trace again"
        )
    arrays = {tensor: read_layers(data, tensor, manifest) for tensor in ("q", "k", "v")}
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
        voltages=read_voltages(data),
        adapted_folder=model_of(folder),
    )
    if verify:
        object.__setattr__(trace, "file", record)
    return trace


def as_trace(given: Trace | str | Path) -> Trace:
    """`given`, loaded if it is a name or a path. Raises ConfigError as `load_trace` does."""
    return given if isinstance(given, Trace) else load_trace(given)


def save_trace(trace: Trace, folder: str | Path, force: bool = False) -> Manifest:
    """Write a trace into `folder`, the data first and the manifest last, and return the manifest.

    Equal traces give equal bytes. Raises ConfigError if the folder holds a trace already (unless
    `force`) or cannot be written.
    """
    folder = Path(as_path(folder, "folder"))
    refuse_existing(folder, force)
    data = serialise(trace)
    manifest = _manifest(
        trace, FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    )
    with atomic_path(folder / DATA_FILE) as temporary:
        temporary.write_bytes(data)
    write_text(folder / MANIFEST_FILE, manifest.to_json())
    return manifest


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
