"""The accelerator as a comparison sees it: a few figures of one layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from archsim.errors import InvariantError
from archsim.gpu.roofline import DecodeAttention

Workload = Literal["calibration", "window", "window, heads of the trace", "trace"]
"""What the accelerator runs: 12 heads and uniform values at the hardware's window, or at the one
asked for; the same with the heads of the user's trace; or that trace."""


@dataclass(frozen=True)
class AcceleratorFigures:
    """What the comparison needs to know of the accelerator.

    `attention_latency_s`: one token, one layer, from ready to the last head having latched, in s.
    `energy_per_token_j`: the same token, one layer, all heads together, in J. `static_energy_j` of
    it is what the layer's heads leak, at `static_power_w`, while the token passes the attention of
    all layers and, for `gaps_s`, what lies between: a head leaks whether it works or not.
    `area_m2`: the arrays of one layer, all heads, which hold one sequence. `boundary_bytes`: what
    enters and leaves them a token. `layers` is the number of layers of the model that a token
    passes, each with its own arrays (the trace's; 12, GPT-2 small, for the calibration workload).
    `window` is the number of tokens attended to.
    `protocol_note` says how the figures came about. Raises InvariantError if time, energy or area
    is not positive and finite.
    """

    name: str
    workload: Workload
    attention_latency_s: float
    energy_per_token_j: float
    area_m2: float
    boundary_bytes: float
    layers: int
    heads: int
    head_dim: int
    window: int
    protocol_note: str
    static_energy_j: float = 0.0
    static_power_w: float = 0.0
    gaps_s: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Heads, head_dim and window."""
        return (self.heads, self.head_dim, self.window)

    @property
    def token_s(self) -> float:
        """Seconds from one token to the next: all layers one after another, and the gaps."""
        return self.layers * self.attention_latency_s + self.gaps_s

    @property
    def attention(self) -> DecodeAttention:
        """The attention of one layer for one token, as a GPU would compute it."""
        return DecodeAttention(1, self.heads, self.head_dim, self.window)

    def __post_init__(self) -> None:
        for name in ("attention_latency_s", "energy_per_token_j", "area_m2"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvariantError(f"{self.name}: {name} is {value}, not positive and finite")
