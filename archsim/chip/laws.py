"""All that the function of a head depends on, frozen.

The datapath sees these and nothing else: what it cannot see it cannot depend on. So their hash is
the key under which results are kept.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from archsim.chip.array import RingBuffer, SubTiles
from archsim.chip.cell import CellLaw, current_law, linear_slope, swing
from archsim.chip.conversion import Conversion
from archsim.chip.converter import output_conversion
from archsim.chip.pulse_generator import query_levels
from archsim.chip.quantiser import Quantiser
from archsim.chip.readouts.law import ReadoutLaw, readout_of
from archsim.chip.retention import decay_per_token
from archsim.chip.write_path import stored_levels
from archsim.errors import ConfigError

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig


@dataclass(frozen=True)
class IdealLaw:
    """All that ideal attention reads of a hardware: two laws that are equal are one function.

    `score_gain`, `value_gain`: current of a linear cell a volt over the full scale of its
    converter, 1/V. `mid_rail` in V. `window` in tokens.
    """

    window: int
    mid_rail: float
    score_gain: float
    value_gain: float

    def on(self, tokens: int) -> IdealLaw:
        """The law as a run of so many tokens can tell it from others: it never fills more slots."""
        return replace(self, window=min(self.window, tokens))

    @property
    def text(self) -> str:
        """Each number to its last digit: the same text, the same function."""
        return (
            f"window {self.window}; mid-rail {self.mid_rail!r} V; score gain "
            f"{self.score_gain!r}/V; value gain {self.value_gain!r}/V"
        )


@dataclass(frozen=True)
class Laws:
    """Of one head: from q, k, v, scaled, to y (FACTS 2).

    `features` of a vector. `query` and `stored` quantise pulse widths / T_max and voltages in V, of
    which `mid_rail` means zero. A deviation fades by ``exp(-decay_per_token)`` a token where ages
    do not come with the times. `output` converts the bit lines of V arrays.
    """

    ring: RingBuffer
    features: int
    query: Quantiser
    stored: Quantiser
    mid_rail: float
    cell: CellLaw
    decay_per_token: float
    readout: ReadoutLaw
    output: Conversion
    ideal: IdealLaw

    def check_features(self, head_dim: int) -> None:
        """Raises ConfigError unless the head was made for vectors of this length."""
        if head_dim != self.features:
            raise ConfigError(
                f"head_dim {head_dim} of the input does not fit a head made for {self.features}"
            )

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of every number in it: equal hashes, equal functions.

        Raises ConfigError for a law of a variant that is no frozen dataclass of numbers.
        """
        return hashlib.sha256(json.dumps(_plain(self, "laws")).encode()).hexdigest()


def laws_of(config: HardwareConfig, head_dim: int | None = None) -> Laws:
    """The laws of a head for vectors of `head_dim` features; None: as many as an array has rows."""
    sub_tiles = SubTiles.of(config, head_dim)
    readout = readout_of(config, sub_tiles).law(config, sub_tiles)
    output, slope = output_conversion(config), linear_slope(config)
    mid_rail, _ = swing(config)
    return Laws(
        RingBuffer(sub_tiles.window, sub_tiles.columns),
        sub_tiles.features,
        query_levels(config),
        stored_levels(config),
        mid_rail,
        current_law(config),
        decay_per_token(config),
        readout,
        output,
        IdealLaw(
            sub_tiles.window,
            mid_rail,
            slope / readout.saturation,
            slope / output.full_scale,
        ),
    )


def _plain(value: Any, place: str) -> Any:
    """A law as lists, texts and numbers, each to its last digit."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, tuple | list):
        return [_plain(each, place) for each in value]
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if is_dataclass(value) and not isinstance(value, type):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        parts = {f.name: _plain(getattr(value, f.name), f"{place}.{f.name}") for f in fields(value)}
        return [kind, parts]
    raise ConfigError(
        f"{place}: {type(value).__name__} is no law; use a frozen dataclass of numbers and arrays"
    )
