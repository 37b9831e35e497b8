"""Scaler matching: from the linear to the polynomial cell without back-propagation (FACTS 5).

The mean and standard deviation of every scaler's output, recorded in the linear model, are brought
back in the polynomial one by changing nothing but the scalers, all layers together in each pass.

Published is the statistic of *voltages*: ``a x + b`` of q, k, v and output. But equal voltages are
not equal currents: the polynomial cell sends 0.52 uA at mid-rail, which adds a constant to every
score and moves the HardSigmoid's threshold where no statistic of voltages sees it. So the statistic
of *currents* takes for k and v what their cells send, in volts of the linear cell: the current of
the clamped voltage over the linear slope. (Not of the quantised one: on a small batch its mean
moves in steps larger than the tolerance.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.accuracy.closed_loop import log_probabilities
from archsim.adaptation.recipe import Statistic
from archsim.chip.head import Head
from archsim.datapath.attention import attend_layer
from archsim.models.gpt2 import Array as Floats
from archsim.models.gpt2 import Gpt2
from archsim.traces.scalers import SCALED, Scaler, default_scalers

Array = NDArray[np.float64]
Progress = Callable[[str, int, int], None]

TOLERANCE = 1e-4
ITERATIONS = 100
FIRST_RATE, LAST_RATE, FALLING = 1.0, 0.1, 50
"""The published schedule: alpha falls linearly over the first 50 iterations, then stays."""

LARGEST_STEP = 10.0
"""Most that a pass changes a gain by, as a factor either way. Not published: a head whose output
all but vanishes in an early pass would else get a gain of 1e16, and need 50 passes to come back."""

Moments = dict[str, tuple[Array, Array]]
"""For q, k, v and output: mean and standard deviation of the statistic, each (layers, heads)."""


@dataclass(frozen=True)
class Matched:
    """Scalers, and what each pass found before its update: worst deviation, loss of the batch."""

    scalers: dict[str, Scaler]
    deviations: list[float]
    losses: list[float]
    converged: bool


def start_scalers(head: Head, layers: int, heads: int) -> dict[str, Scaler]:
    """a = 1 and the offsets of FACTS 2.2, on the cells of `head`."""
    return default_scalers(layers, heads, head.cell.mid_rail)


def moments(
    model: Gpt2,
    head: Head,
    scalers: Mapping[str, Scaler],
    ids: NDArray[np.int64],
    statistic: Statistic = "voltage",
) -> tuple[Moments, float]:
    """Moments after every scaler, and the loss; ids (windows, tokens + 1).

    Voltages are taken before the clamps, currents after them.
    """
    config = model.config
    shape = (config.n_layer, config.n_head)
    found: Moments = {name: (np.empty(shape), np.empty(shape)) for name in SCALED}
    windows = len(ids)

    def keep(name: str, layer: int, x: Array) -> None:  # x (windows x heads, tokens, head_dim)
        by_head = x.reshape(windows, config.n_head, -1).swapaxes(0, 1).reshape(config.n_head, -1)
        found[name][0][layer] = by_head.mean(axis=1)
        found[name][1][layer] = by_head.std(axis=1)

    def attention(layer: int, q: Floats, k: Floats, v: Floats) -> Floats:
        pairs = {
            name: (np.tile(a[layer], windows), np.tile(b[layer], windows))
            for name, (a, b) in scalers.items()
        }
        inputs = q.astype(np.float64), k.astype(np.float64), v.astype(np.float64)
        for name, x in zip("qkv", inputs, strict=True):
            a, b = (part[:, None, None] for part in pairs[name])
            scaled = a * x + b
            sent = statistic == "current" and name in "kv"
            keep(name, layer, _sent(head, scaled) if sent else scaled)
        y = attend_layer(*inputs, head.laws, pairs).y
        keep("output", layer, y)
        return y

    logp = log_probabilities(model.logits(ids[:, :-1], attention))
    loss = -float(np.take_along_axis(logp, ids[:, 1:, None], -1).mean())
    return found, loss


def _sent(head: Head, volts: Array) -> Array:
    """The current of cells written with `volts`, in volts of the linear cell's deviation."""
    quantiser, cell = head.write_path.quantiser, head.cell
    clamped = volts.clip(quantiser.low, quantiser.high) if quantiser.levels else volts
    return cell.current(clamped - cell.mid_rail) / head.linear_slope


def rate(iteration: int) -> float:
    """alpha of a pass, counted from 0."""
    return FIRST_RATE + (LAST_RATE - FIRST_RATE) * min(iteration / FALLING, 1.0)


def match_scalers(
    model: Gpt2,
    head: Head,
    target: Moments,
    ids: NDArray[np.int64],
    start: Mapping[str, Scaler] | None = None,
    *,
    statistic: Statistic = "voltage",
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
) -> Matched:
    """Scalers for `model` on `head` whose moments are `target`, by the published iteration.

    `target` must be of the same `statistic`. From a = 1 and the default offsets unless `start` is
    given; on one fixed batch of ids (windows, tokens + 1).
    """
    report = progress or (lambda step, done, total: None)
    given = start or start_scalers(head, model.config.n_layer, model.config.n_head)
    scalers = {name: (a.copy(), b.copy()) for name, (a, b) in given.items()}
    deviations: list[float] = []
    losses: list[float] = []
    for iteration in range(iterations + 1):
        report("scaler matching", iteration, iterations)
        found, loss = moments(model, head, scalers, ids, statistic)
        losses.append(loss)
        off = [np.abs(x - y) for n in SCALED for x, y in zip(found[n], target[n], strict=True)]
        deviations.append(float(np.max(off)))
        if deviations[-1] <= tolerance or iteration == iterations:
            break
        alpha = rate(iteration)
        for name in SCALED:
            (mean, deviation), (mean_wanted, deviation_wanted) = found[name], target[name]
            a, b = scalers[name]
            ratio = deviation_wanted / np.where(deviation > 0, deviation, deviation_wanted)
            ratio = ratio.clip(1 / LARGEST_STEP, LARGEST_STEP)
            gain = alpha * a * ratio + (1 - alpha) * a
            offset = alpha * (b + mean_wanted - mean) + (1 - alpha) * b
            scalers[name] = (
                np.where(np.abs(deviation - deviation_wanted) > tolerance, gain, a),
                np.where(np.abs(mean - mean_wanted) > tolerance, offset, b),
            )
    return Matched(scalers, deviations, losses, deviations[-1] <= tolerance)
