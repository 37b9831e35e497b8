"""How a stage is trained: kept apart from torch, so that the command line can read it fast."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

Gradient = Literal["true", "surrogate"]
"""Derivative of a cell's current by its stored voltage, in the backward pass: the polynomial's own,
or the constant slope of the linear cell."""


Statistic = Literal["voltage", "current"]
"""What scaler matching brings back for k and v: the published one, or their cells' currents."""


Optimiser = Literal["adamw", "muon"]
"""Of the matrices: AdamW, or steps made orthogonal (Muon); all else is AdamW's."""


@dataclass(frozen=True)
class Recipe:
    """How a stage is trained.

    `windows` x `tokens` tokens a step; `optimiser` with linear warm-up, then cosine from `rate` to
    `final_rate`; scalers learn at `scaler_rate` times the rate. `distillation` is the weight of the
    divergence from the software model's predictions in the loss (0: none, 1: nothing else);
    `hidden` weighs, on top, the share of variance by which hidden states after each layer miss the
    software model's.
    """

    steps: int
    windows: int = 4
    tokens: int = 1024
    rate: float = 6e-4
    final_rate: float = 6e-5
    warm_up: int = 20
    optimiser: Optimiser = "adamw"
    scaler_rate: float = 0.3
    weight_decay: float = 0.1
    distillation: float = 0.0
    hidden: float = 0.0
    gradient: Gradient = "surrogate"
    bfloat16: bool = True
    seed: int = 20252

    def learning_rate(self, step: int) -> float:
        if step < self.warm_up:
            return self.rate * (step + 1) / self.warm_up
        progress = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        swing = 0.5 * (1 + math.cos(math.pi * progress))
        return self.final_rate + (self.rate - self.final_rate) * swing

    def settings(self) -> dict[str, str | int | float | bool | None]:
        """For a manifest, and for what a checkpoint must match."""
        return asdict(self)
