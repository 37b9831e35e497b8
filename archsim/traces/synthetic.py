"""Synthetic traces of any shape, with the statistics of real ones.

For studies of size and speed, where no model of the shape is at hand: GPT-2 small is 12 layers x 12
heads x 1,024 tokens. What a token means to another is not imitated, so function errors on such a
trace say little; timing and the activity behind energy are close to real.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ConfigError
from archsim.traces.manifest import Content, Environment, Shapes
from archsim.traces.trace import Trace

MAX_VALUES = 1 << 31


@dataclass(frozen=True)
class Statistics:
    """What was measured on the reference trace, for one of q, k, v.

    `lowest` and `highest` bound a head's standard deviation; `offset` is the spread of the means of
    its features and `unevenness` that of their deviations, both relative; `slow` is the share of
    variance that lasts for long, `next_token` the correlation of the rest from token to token.
    """

    lowest: float
    highest: float
    offset: float
    unevenness: float
    slow: float
    next_token: float


MEASURED = {
    "q": Statistics(0.73, 1.65, 0.49, 0.16, 0.09, 0.12),
    "k": Statistics(0.69, 1.73, 0.42, 0.18, 0.25, 0.13),
    "v": Statistics(0.47, 0.89, 0.23, 0.13, 0.04, 0.10),
}
SLOW_STEP = 0.995
"""Correlation of the slow part from token to token: it lasts a few hundred tokens."""


def synthesise(
    layers: int, heads: int, tokens: int, head_dim: int = 64, seed: int = 0, name: str = "synthetic"
) -> Trace:
    """A float16 trace of the given shape; the same arguments give the same bytes.

    Draws are keyed by (seed, layer), so a layer does not depend on how many there are.

    Raises ConfigError for a shape that is empty or too large for memory, or a negative seed.
    """
    shape = {"layers": layers, "heads": heads, "tokens": tokens, "head_dim": head_dim}
    for key, size in shape.items():
        if size < 1:
            raise ConfigError(f"{key} {size}: must be at least 1")
    if not 0 <= seed < 2**64:
        raise ConfigError(f"seed {seed}: must be from 0 to 2^64 - 1")
    if layers * heads * tokens * head_dim > MAX_VALUES:
        raise ConfigError("this trace would hold more than 2^31 values in each of q, k and v")
    parts = {n: np.empty((layers, heads, tokens, head_dim), np.float16) for n in MEASURED}
    for layer in range(layers):
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, layer], np.uint64)))
        for n, measured in MEASURED.items():
            parts[n][layer] = _layer(rng, measured, heads, tokens, head_dim)
    content = Content(
        shapes=Shapes(**shape, kv_heads=heads),
        dtype="float16",
        seed=seed,
    )
    return Trace.from_arrays(
        parts["q"],
        parts["k"],
        parts["v"],
        "fit",
        name=name,
        description="synthetic values with the statistics of the reference trace",
        content=content,
        environment=Environment.here(),
    )


def _layer(
    rng: np.random.Generator, s: Statistics, heads: int, tokens: int, features: int
) -> NDArray[np.float64]:
    """One layer of one of q, k, v: (heads, tokens, features)."""
    deviation = np.exp(rng.uniform(np.log(s.lowest), np.log(s.highest), (heads, 1, 1)))
    mean = s.offset * rng.standard_normal((heads, 1, features))
    uneven = np.exp(s.unevenness * rng.standard_normal((heads, 1, features)))
    slow = _correlated(rng, SLOW_STEP, heads, tokens, features)
    fast = _correlated(rng, s.next_token, heads, tokens, features)
    moving = np.sqrt(s.slow) * slow + np.sqrt(1 - s.slow) * fast
    values: NDArray[np.float64] = deviation * (mean + np.sqrt(1 - s.offset**2) * uneven * moving)
    return values


def _correlated(
    rng: np.random.Generator, step: float, heads: int, tokens: int, features: int
) -> NDArray[np.float64]:
    """Unit-variance noise with correlation `step` from token to token."""
    noise = rng.standard_normal((tokens, heads, features))
    noise[1:] *= np.sqrt(1 - step**2)
    for token in range(1, tokens):
        noise[token] += step * noise[token - 1]
    return noise.transpose(1, 0, 2)
