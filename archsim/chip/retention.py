"""How stored deviations fade."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from archsim.config.kinds import PeriodOrAuto, Retention
from archsim.config.loading import Section


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
