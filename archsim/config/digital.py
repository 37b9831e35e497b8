"""What computes the rest of a token: projections, MLP, LayerNorm. Read by ``compare`` alone.

The paper describes attention only, so nothing here is its; every value is assumed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from archsim.config.loading import Section
from archsim.config.quantity import Quantity


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
