"""What a trace does on a hardware, apart from time: activity, saturation, error against *ideal*.

The functional result of a trace depends on a few parameters only; a change of clock, adders,
sharing or energy coefficients leaves it as it is. So results are kept, by a key of what they
depend on.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from archsim.chip.activity import Activity
from archsim.chip.laws import Laws, laws_of
from archsim.chip.retention import fading
from archsim.config.section import parameters_read
from archsim.config.voltages import VoltageRange
from archsim.datapath.ages import Ages
from archsim.datapath.attention import LayerInput, Precision, attend_layers
from archsim.errors import InvariantError
from archsim.hardware.sections import HardwareConfig
from archsim.traces.trace import Trace


@dataclass(frozen=True)
class LayerFunction:
    """One layer: what its blocks did, and how its output compares with *ideal*.

    `saturation` are shares of values beyond a range; `signal` and `error` sums of squares of
    ideal's output and of the difference.
    """

    activity: Activity
    saturation: dict[str, float]
    signal: float
    error: float
    max_abs_error: float

    @property
    def nbytes(self) -> int:
        return sum(getattr(self.activity, f.name).nbytes for f in fields(self.activity))


Functions = tuple[LayerFunction, ...]
"""One a layer."""


def functional_keys(config: HardwareConfig, head_dim: int) -> tuple[str, ...]:
    """Dotted keys of a config that decide the function of heads of some size: what laws read."""
    return parameters_read(config, lambda: (laws_of(config, head_dim), fading(config)))


def function_key(
    trace: Trace,
    laws: Laws,
    precision: Precision = "float64",
    ages: Sequence[Ages] | None = None,
) -> str:
    """Hash of all that the function depends on: equal keys, equal results."""
    digest = hashlib.sha256(json.dumps([trace.sha256, laws.sha256, precision]).encode())
    for layer in ages or ():
        for times in (layer.keys, layer.values):
            digest.update(repr(times.rate).encode())
            for moments in (times.read, times.written, times.restored):
                if moments is not None:
                    digest.update(np.ascontiguousarray(moments).tobytes())
    return digest.hexdigest()


class FunctionCache:
    """The last functional results of this process, at most `limit` bytes of them."""

    def __init__(self, limit: int = 256 << 20) -> None:
        self.limit = limit
        self._kept: OrderedDict[str, Functions] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.hits = self.misses = 0

    def get(self, key: str) -> Functions | None:
        """What was kept under a key."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self.misses += 1
            else:
                self.hits += 1
                self._kept.move_to_end(key)
            return found

    def put(self, key: str, layers: Functions) -> None:
        """Keep a result, dropping what was not asked for the longest time."""
        with self._lock:
            if key in self._kept:
                return
            for layer in layers:  # whoever changes a result would change later ones
                for field in fields(layer.activity):
                    getattr(layer.activity, field.name).setflags(write=False)
            self._kept[key] = layers
            self._bytes += sum(layer.nbytes for layer in layers)
            while self._bytes > self.limit and self._kept:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= sum(layer.nbytes for layer in dropped)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._bytes = self.hits = self.misses = 0


CACHE = FunctionCache()
"""The cache of this process."""


def run_function(
    trace: Trace,
    laws: Laws,
    voltages: VoltageRange,
    *,
    precision: Precision = "float64",
    ages: Sequence[Ages] | None = None,
    progress: Callable[[int], None] | None = None,
    cache: FunctionCache | None = CACHE,
) -> Functions:
    """Every layer of a trace through the datapath; `ages` one a layer, else by token.

    `voltages` that the cells span: scalers are made for a range.

    Raises ConfigError if trace and hardware do not fit, InvariantError if an output is not finite.
    """
    key = function_key(trace, laws, precision, ages) if cache is not None else ""
    if cache is not None and (found := cache.get(key)) is not None:
        return found
    inputs, found_scalers = [], trace.scalers_on(voltages)
    for layer in range(trace.layers):
        scalers = {name: (a[layer], b[layer]) for name, (a, b) in found_scalers.items()}
        inputs.append(
            LayerInput(
                trace.q[layer],
                trace.k[layer],
                trace.v[layer],
                scalers,
                None if ages is None else ages[layer],
            )
        )
    outputs = attend_layers(
        inputs, laws, precision=precision, ideal=True, keep_y=False, progress=progress
    )
    layers = []
    for index, output in enumerate(outputs):
        assert output.ideal is not None
        if not np.isfinite(output.ideal.error).all():  # a sum over every output
            raise InvariantError(f"layer {index}: an output is not finite")
        layers.append(
            LayerFunction(
                output.activity,
                {
                    f.name: float(np.mean(rates))
                    for f in fields(output.saturation)
                    if (rates := getattr(output.saturation, f.name)) is not None
                },
                float(output.ideal.signal.sum()),
                float(output.ideal.error.sum()),
                float(output.ideal.max_abs_error.max()),
            )
        )
    found = tuple(layers)
    if cache is not None:
        cache.put(key, found)
    return found
