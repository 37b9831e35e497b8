"""The parts of a result: typed records whose fields are named as the JSON document names them.

Each is a mapping too, so that ``result.latency["layer_ns"]["mean"]`` and
``result.latency.layer_ns.mean`` are one value. Units are in the names of fields; what each means
stands in `archsim.figures`. Plain dictionaries are open sets: components, resources, causes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any


class Part(Mapping[str, Any]):
    """A record that can be read by key, in the order of its fields."""

    def __getitem__(self, key: str) -> Any:
        if key not in iter(self):
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in fields(self))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(fields(self))  # type: ignore[arg-type]

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {name: _plain(value) for name, value in self.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return value.document()
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


@dataclass(frozen=True, eq=False)
class Spread(Part):
    """Statistics of a figure over tokens (and layers)."""

    mean: float
    p50: float
    p99: float
    max: float


@dataclass(frozen=True, eq=False)
class Latency(Part):
    """Times by scope: a layer, a head from its write on, a token in all layers, the run."""

    layer_ns: Spread
    attention_ns: Spread
    token_ns: Spread
    queue_ns: Spread
    total_ns: float


@dataclass(frozen=True, eq=False)
class Generation(Part):
    """The first token after the prompt, and each token generated; None where there is none."""

    prompt_tokens: int
    generated_tokens: int
    time_to_first_token_ns: float
    time_per_token_ns: float | None


@dataclass(frozen=True, eq=False)
class Area(Part):
    """`components` and `per_head` are one head's; `chip` has every head of every layer; mm^2."""

    per_head: float
    chip: float
    components: dict[str, float]


@dataclass(frozen=True, eq=False)
class ArrayUse(Part):
    """Shares of the arrays' columns, rows and cells that do useful work."""

    columns: float
    rows: float
    cells: float


@dataclass(frozen=True, eq=False)
class Throughput(Part):
    """Rates and power over the whole run."""

    tokens_per_s: float
    initiation_interval_ns: float
    tops: float
    tops_per_w: float
    average_power_mw: float
    peak_power_mw: float
    power_density_mw_per_mm2: float


@dataclass(frozen=True, eq=False)
class Held(Part):
    """The resource whose most loaded instance a token holds longest.

    `interval_ns` is the time between two tokens that come to it, `held_ns` for how much of it they
    hold it, `utilisation` the ratio, at most 1.
    """

    resource: str
    held_ns: float
    interval_ns: float
    utilisation: float


@dataclass(frozen=True, eq=False)
class Bottleneck(Held):
    """That resource, what bounds the rate, and waits over heads and tokens by their cause."""

    limited_by: str
    stall_ns: dict[str, float]


@dataclass(frozen=True, eq=False)
class LayerErrors(Part):
    """Error of a layer's y against *ideal*, and shares of values beyond a range."""

    sqnr_db: float | None
    max_abs_error: float
    saturation: dict[str, float]


@dataclass(frozen=True, eq=False)
class Errors(Part):
    """The same of all layers, `passes` the times that the function was computed."""

    precision: str
    passes: int
    sqnr_db: float | None
    max_abs_error: float
    saturation: dict[str, float]
    layers: tuple[LayerErrors, ...]


@dataclass(frozen=True, eq=False)
class Shares(Part):
    """Shares of a total by the weakest source that they rest on."""

    published: float
    calibrated: float
    assumed: float
    user: float


@dataclass(frozen=True, eq=False)
class Foundation(Part):
    """What each total rests on."""

    latency: Shares
    energy: Shares
    area: Shares


@dataclass(frozen=True, eq=False)
class Crossing(Part):
    """Bytes a token that cross the boundary, all layers and heads."""

    q_bytes: int
    k_bytes: int
    v_bytes: int
    y_bytes: int
