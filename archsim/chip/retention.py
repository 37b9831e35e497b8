"""How stored deviations fade (FACTS 2.4)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from archsim.config.kinds import PeriodOrAuto, Retention
from archsim.config.loading import Section
from archsim.config.transformer import GPT2_SMALL
from archsim.errors import InvariantError

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig


class RetentionConfig(Section):
    """How stored deviations fade.

    ``per_token``: by a constant factor a token, as the paper trains; ``nominal``: with the time
    constant of the cell and a constant time a token; ``simulated``: with the age of each cell on
    the simulated clock; ``off``: not at all.
    """

    model: Literal["off", "per_token", "nominal", "simulated"] = "per_token"
    decay_per_token: Annotated[float, Field(ge=0, le=3)] = Field(
        description="per_token: a deviation fades by exp(-decay_per_token) a token"
    )
    tau: Retention = Field(description="nominal, simulated: fades by exp(-age / tau)")
    token_period: PeriodOrAuto = Field(
        default=0.8e-6,
        description="nominal: the age that a token adds; auto = a whole token of GPT-2 small, "
        "with what the digital section takes for the rest",
    )

    @property
    def takes_whole_token(self) -> bool:
        """Whether cells age by a whole token's time, which `archsim.retention` works out."""
        return self.model == "nominal" and self.token_period == "auto"

    def inactive(self) -> frozenset[str]:
        used = {
            "off": set[str](),
            "per_token": {"decay_per_token"},
            "nominal": {"tau", "token_period"},
            "simulated": {"tau"},
        }[self.model]
        return frozenset({"decay_per_token", "tau", "token_period"} - used)


def decay_per_token(config: HardwareConfig) -> float:
    """What a token's time costs a deviation; with ``simulated`` ages come with the times."""
    retention = config.retention
    model = retention.model
    if model == "per_token":
        return retention.decay_per_token
    if model == "nominal":
        if retention.token_period == "auto":  # `archsim.retention` works it out, from this
            return math.nan * config.digital.step_s(GPT2_SMALL) / retention.tau
        return retention.token_period / retention.tau
    return 0.0


def decay_over(config: HardwareConfig, seconds: float) -> float:
    """Decay of a deviation over a time, of ages that come with the times (``simulated``)."""
    return seconds / config.retention.tau


def fading(config: HardwareConfig) -> float:
    """What takes a stored deviation away: that of a second or of a token, as configured."""
    if config.retention.model == "simulated":
        return decay_over(config, 1.0)
    return decay_per_token(config)


def known_decay(config: HardwareConfig) -> float:
    """`decay_per_token`, once a token's time is known.

    Raises InvariantError where ``retention.token_period: auto`` was not worked out before.
    """
    decay = decay_per_token(config)
    if math.isnan(decay):
        raise InvariantError(
            "retention.token_period auto reached a cell: use archsim.retention.with_token_period"
        )
    return decay
