"""What computes the rest of a token: projections, MLP, LayerNorm.

Read by ``compare --scope model`` and wherever retention is set against a whole token. The paper
describes attention only, so nothing here is its; every value is assumed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from archsim.config.quantity import Quantity
from archsim.config.section import Section
from archsim.config.transformer import TransformerShape


class DigitalConfig(Section):
    """The engine beside the attention arrays, for one sequence.

    `weights` are ``streamed`` from memory for every token (a digital engine), or ``resident`` in it
    (analog weights): then nothing of the traffic counts.
    """

    weights: Literal["streamed", "resident"] = "streamed"
    rate: Annotated[float, Quantity("MAC/s", ge=1e3, le=1e21)] = Field(
        description="multiply-accumulates a second"
    )
    energy_per_mac: Annotated[float, Quantity("J", ge=0, le=1e-3)]
    weight_bits: Annotated[int, Field(ge=1, le=64)] = Field(description="bits of a weight")
    weight_bandwidth: Annotated[float, Quantity("byte/s", ge=1, le=1e18)]
    energy_per_weight_byte: Annotated[float, Quantity("J/byte", ge=0, le=1e-3)]

    def inactive(self) -> frozenset[str]:
        traffic = {"weight_bits", "weight_bandwidth", "energy_per_weight_byte"}
        return frozenset(traffic if self.weights == "resident" else ())

    def step_s(self, shape: TransformerShape, batch: int = 1) -> float:
        """Seconds of one step of `batch` sequences outside attention.

        The engine computes while it streams its weights, once a step: the longer of the two.
        """
        seconds = batch * shape.macs / self.rate
        if self.weights == "streamed":
            seconds = max(seconds, self.weight_bytes(shape) / self.weight_bandwidth)
        return seconds

    def weight_bytes(self, shape: TransformerShape) -> float:
        """Bytes of all weights that a token needs."""
        return shape.weights * self.weight_bits / 8
