"""The data file of a trace, ``trace.safetensors``: its tensors, checked, read and written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archsim.config.voltages import VoltageRange
from archsim.errors import CorruptInputError, one_line
from archsim.traces.checks import check_finite, read_only
from archsim.traces.manifest import MANIFEST_FILE, Manifest, Shapes
from archsim.traces.scalers import DEFAULT_RANGE, SCALED
from archsim.traces.tensor_file import Limits, TensorFile

if TYPE_CHECKING:
    from archsim.traces.trace import Trace

RANGE_TENSOR = "scalers.range"

LIMITS = Limits(header_bytes=1 << 20, tensors=4096, data_bytes=16 << 30)

_DTYPES: Mapping[str, str] = {"F16": "float16", "F32": "float32", "F64": "float64"}


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


def check_layout(data: TensorFile, manifest: Manifest) -> None:
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


def read_layers(data: TensorFile, tensor: str, manifest: Manifest) -> NDArray[Any]:
    """One of q, k, v, (layers, heads, tokens, head_dim), checked to be finite."""
    shapes = manifest.content.shapes
    shape = (shapes.layers, shapes.heads, shapes.tokens, shapes.head_dim)
    result = np.empty(shape, manifest.content.dtype)
    for layer in range(shapes.layers):
        data.read(f"layers.{layer}.{tensor}", out=result[layer])
        check_finite(result[layer], f"{data.path}: layer {layer}, {tensor}")
    return read_only(result)


def read_voltages(data: TensorFile) -> VoltageRange:
    """The range that the scalers of a trace are for; of a file without it, `DEFAULT_RANGE`."""
    if RANGE_TENSOR not in data.tensors:
        return DEFAULT_RANGE
    supply, mid_rail = (float(volts) for volts in data.read(RANGE_TENSOR))
    if not 0 < mid_rail < supply <= 1e3:
        raise CorruptInputError(
            f"{data.path}: {RANGE_TENSOR} is {supply}, {mid_rail}: not a supply and a mid-rail in V"
        )
    return VoltageRange(supply, mid_rail)


def serialise(trace: Trace) -> bytes:
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
