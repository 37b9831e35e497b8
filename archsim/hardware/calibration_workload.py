"""The values of the calibration workload: a full window of uniform Q, K and V (FACTS 3)."""

from __future__ import annotations

import numpy as np

from archsim.config.transformer import GPT2_SMALL
from archsim.config.voltages import VoltageRange
from archsim.errors import ConfigError
from archsim.hardware.sections import HardwareConfig
from archsim.traces.trace import Trace

MAX_WINDOW = 16_384
LAYERS, HEADS, QUERIES, SEED = GPT2_SMALL.layers, GPT2_SMALL.heads, 256, 2025
"""GPT-2 small's layers and heads (FACTS 1); one layer is simulated."""


def calibration_trace(
    config: HardwareConfig, heads: int = HEADS, features: int | None = None
) -> Trace:
    """One layer of uniform values: a window to fill, then `QUERIES` tokens with it full.

    `features` of a head: as many as an array has rows unless given. Raises ConfigError for a
    window that would take too long to fill.
    """
    if config.window > MAX_WINDOW:
        raise ConfigError(
            f"window {config.window:,}: the calibration workload fills it; at most {MAX_WINDOW:,}"
        )
    rng = np.random.default_rng(SEED)
    shape = (1, heads, config.window - 1 + QUERIES, features or config.array.rows)
    ones, zeros = np.ones((1, heads)), np.zeros((1, heads))
    identity = (ones, zeros)
    return Trace.from_arrays(
        rng.uniform(0, 1, shape),
        rng.uniform(0, config.cell.supply, shape),
        rng.uniform(0, config.cell.supply, shape),
        scalers={"q": identity, "k": identity, "v": identity, "output": identity},
        name="calibration",
        voltages=VoltageRange.of(config.cell),
    )
