"""Attention of layers as the hardware computes it, with the activity that time and energy need.

Heads run in parallel threads; what one head computes is in `archsim.datapath.one_head`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from archsim.chip.activity import Activity
from archsim.chip.cell import CellLaw
from archsim.chip.laws import Laws
from archsim.datapath.activity import AttentionOutput, IdealError, Saturation
from archsim.datapath.ages import Ages
from archsim.datapath.fused import LARGE
from archsim.datapath.head_input import Retention
from archsim.datapath.one_head import HeadEngine, attend_head
from archsim.datapath.scalers import Array, Scalers, resolve_scalers
from archsim.errors import ConfigError
from archsim.machine.compiled import NotCompiledError, asked_for, worth_compiling
from archsim.machine.parallel import shared, side_by_side
from archsim.machine.workspace import Workspace

__all__ = [
    "AttentionOutput",
    "LayerInput",
    "Precision",
    "Scalers",
    "attend_layer",
    "attend_layers",
]

Real = NDArray[Any]

Precision = Literal["float64", "float32"]
"""Number format of the two products; everything written, counted and summed up is float64."""

WORTH_A_PROCESS = 1 << 14
"""Heads x tokens from which on another process saves more than starting it costs."""


@dataclass(frozen=True)
class LayerInput:
    """q, k, v (heads, tokens, head_dim) in any float format, finite; `ages` default to tokens."""

    q: Real
    k: Real
    v: Real
    scalers: Scalers | None = None
    ages: Ages | None = None

    def check(self, laws: Laws) -> None:
        """Raises ConfigError if the shapes do not fit each other or the arrays."""
        if self.q.ndim != 3 or self.q.shape != self.k.shape or self.q.shape != self.v.shape:
            refused = True
        else:
            refused = 0 in self.q.shape
        if refused:
            raise ConfigError(
                "q, k and v must have the same shape (heads, tokens, head_dim), none of them 0; "
                f"got {self.q.shape}, {self.k.shape}, {self.v.shape}"
            )
        laws.check_features(self.q.shape[2])
        if self.ages is not None:
            self.ages.check(self.q.shape[:2])


def attend_layer(
    q: Real,
    k: Real,
    v: Real,
    laws: Laws,
    scalers: Scalers | None = None,
    details: bool = False,
    *,
    precision: Precision = "float64",
    ages: Ages | None = None,
) -> AttentionOutput:
    """One layer's heads over a whole trace; see `attend_layers`."""
    layer = LayerInput(q, k, v, scalers, ages)
    return attend_layers([layer], laws, precision=precision, details=details)[0]


def attend_layers(
    layers: Sequence[LayerInput],
    laws: Laws,
    *,
    precision: Precision = "float64",
    details: bool = False,
    ideal: bool = False,
    law: CellLaw | None = None,
    retention: Retention | None = None,
    keep_y: bool = True,
    progress: Callable[[int], None] | None = None,
) -> list[AttentionOutput]:
    """Run layers that do not wait for each other, all their heads side by side.

    `precision` is that of the products. `ideal` compares y with *ideal* on the way, `details` keeps
    what is inside. `law` replaces the cell's current law and `retention` its fading by any other:
    what is no polynomial that fades exponentially is looked up cell by cell. Without `keep_y` the
    outputs' y is empty. `progress` is told which layer is being computed.

    Raises ConfigError if shapes do not fit each other or the arrays, for values or ages that make
    no sense, and for an unknown precision.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision {precision!r}: use {' or '.join(get_args(Precision))}")
    resolved = []
    for layer in layers:
        layer.check(laws)
        resolved.append(resolve_scalers(layer.scalers, len(layer.q), laws.mid_rail))
    work = sum(layer.q.shape[0] * layer.q.shape[1] for layer in layers)
    engine = HeadEngine(
        laws if law is None else replace(laws, cell=law),
        np.dtype(precision),
        worth_compiling(work >= LARGE),
        Workspace(),
        retention,
        details,
        ideal,
    )

    if engine.compiled:
        engine = _loaded(engine, layers[0], resolved[0])
    outputs = _outputs(layers, engine, keep_y)

    def one(place: tuple[int, int]) -> None:
        index, h = place
        layer = layers[index]
        ages = layer.ages
        if ages is None:
            ages = Ages.per_token(len(layer.q), layer.q.shape[1], laws.decay_per_token)
        pairs = {name: (float(a[h]), float(b[h])) for name, (a, b) in resolved[index].items()}
        found = attend_head(layer.q[h], layer.k[h], layer.v[h], engine, pairs, ages.head(h))
        _keep(outputs[index], h, found if keep_y else replace(found, y=np.empty(0)))

    places = [(index, h) for index, layer in enumerate(layers) for h in range(len(layer.q))]

    def heads_done(done: int) -> None:
        if progress is not None:
            progress(places[min(done, len(places)) - 1][0])

    side_by_side(one, places, work >= WORTH_A_PROCESS, heads_done)
    return outputs


def _loaded(
    engine: HeadEngine, layer: LayerInput, scalers: Mapping[str, tuple[Array, Array]]
) -> HeadEngine:
    """The engine with its machine code loaded, by two tokens of a head: before other processes
    start, which then have it too. Without, where it is not to be had and nobody asked for it.
    """
    q, k, v = (x[0, :2] for x in (layer.q, layer.k, layer.v))
    pairs = {name: (float(a[0]), float(b[0])) for name, (a, b) in scalers.items()}
    ages = Ages.per_token(1, len(q), engine.laws.decay_per_token).head(0)
    try:
        attend_head(q, k, v, replace(engine, ideal=False, details=False), pairs, ages)
    except NotCompiledError:
        if asked_for():
            raise
        return replace(engine, compiled=False)
    return engine


def _outputs(
    layers: Sequence[LayerInput], engine: HeadEngine, keep_y: bool
) -> list[AttentionOutput]:
    """The layers' outputs, still empty, where every process can write."""
    shapes: list[tuple[int, ...]] = []
    laws, digital = engine.laws, engine.laws.readout.conversion is not None
    activity, saturation, error = (len(fields(x)) for x in (Activity, Saturation, IdealError))
    saturation -= not digital  # of partial sums
    for layer in layers:
        heads, tokens, features = layer.q.shape
        shapes += [(heads, tokens, features) if keep_y else (heads, 0)]
        shapes += [(heads, tokens)] * activity + [(heads,)] * saturation
        if engine.ideal:
            shapes += [(heads,)] * error
        if engine.details:
            shapes += [(heads, tokens, tokens)] * 2
            shapes += [(heads, tokens, laws.ring.count, features)]
            shapes += [(heads, tokens, len(laws.readout.parts), tokens)] * digital
    arrays = iter(shared(shapes))
    return [
        AttentionOutput(
            next(arrays),
            Activity(*islice(arrays, activity)),
            Saturation(*islice(arrays, saturation)),
            IdealError(*islice(arrays, error)) if engine.ideal else None,
            *(islice(arrays, 3 + digital) if engine.details else ()),
        )
        for _ in layers
    ]


def _keep(
    kept: AttentionOutput | Activity | Saturation | IdealError, h: int, found: object
) -> None:
    """Copy what one head gave to its place in its layer's arrays."""
    for field in fields(kept):
        to, value = getattr(kept, field.name), getattr(found, field.name)
        if isinstance(to, np.ndarray):
            to[h] = value
        elif to is not None:
            _keep(to, h, value)
