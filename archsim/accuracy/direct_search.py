"""Direct scaler search: no linear stage, no back-propagation, minutes on a laptop.

Layer by layer, with the layers before already on the hardware, each head's scalers are chosen so
that its output is nearest to the software attention's on a calibration batch. The output scaler is
a least-squares fit in closed form; the gains and offsets of q, k and v follow from Newton steps
along one coordinate at a time, on the hardware's own transfer function, all heads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from archsim.chip.head import Head
from archsim.config.voltages import share_of
from archsim.datapath.attention import attend_layer
from archsim.models.gpt2 import Array as Floats
from archsim.models.gpt2 import Gpt2
from archsim.traces.scalers import SCALED, Scaler

Array = NDArray[np.float64]

SPREADS = ((0.2, Fraction(2, 9)), (0.3, Fraction(1, 3)), (0.45, Fraction(1, 2)))
"""Standard deviations of q (in T_max) and k (shares of the supply) after scaling that are tried
first. Wide ones clip more, but a score has to reach tens of uA for its pulse to move the output by
a count."""

VALUE_SPREAD = Fraction(5, 18)
"""Standard deviation of v (share of the supply) where the search starts."""

THRESHOLDS = (Fraction(0), Fraction(-1, 15), Fraction(-1, 30), Fraction(1, 30))
"""Shifts of the offset of k (shares of the supply) that are tried first: they move all scores of a
query."""

COORDINATES = ("k.b", "q.a", "k.a", "v.a", "q.b", "v.b")
"""Gains are searched in their logarithm. The first is the threshold of the HardSigmoid."""

GAIN_STEP, QUERY_STEP, VOLTAGE_STEP = 0.4, 0.05, Fraction(1, 18)
"""First steps: of a gain's logarithm, of the offset of q (in T_max), of k and v (of the supply)."""

ROUNDS = 4

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DirectResult:
    """Scalers, and per layer and head the share of the output's variance they miss."""

    scalers: dict[str, Scaler]
    error: Array
    start_error: Array


def search_scalers(
    model: Gpt2,
    head: Head,
    ids: NDArray[np.int64],
    *,
    rounds: int = ROUNDS,
    open_loop: bool = False,
    progress: Progress | None = None,
) -> DirectResult:
    """Scalers for `model` on hardware `head`, from calibration ids (windows, tokens).

    The target is the output of the model's own softmax attention. Layers are fitted on what the
    hardware made of the layers before, or, in `open_loop`, on what the software model gives them.
    """
    report = progress or (lambda step, done, total: None)
    config = model.config
    shape = (config.n_layer, config.n_head)
    targets: list[Floats] = []

    def softmax(layer: int, q: Floats, k: Floats, v: Floats) -> Floats:
        y = model.softmax_attention(layer, q, k, v)
        targets.append(y)
        return y

    model.forward(ids, attention=softmax)
    found = {name: (np.empty(shape), np.empty(shape)) for name in SCALED}
    error, start_error = np.empty(shape), np.empty(shape)

    def fit(layer: int, q: Floats, k: Floats, v: Floats) -> Floats:
        report("scaler search", layer, config.n_layer)
        fitted = _LayerSearch(head, config.n_head, (q, k, v), targets[layer]).run(rounds)
        for name in SCALED:
            for part, value in zip(found[name], fitted.scalers[name], strict=True):
                part[layer] = value
        error[layer], start_error[layer] = fitted.error, fitted.start_error
        return targets[layer] if open_loop else fitted.y

    model.forward(ids, attention=fit)
    return DirectResult({n: (a, b) for n, (a, b) in found.items()}, error, start_error)


@dataclass(frozen=True)
class _Fitted:
    scalers: dict[str, tuple[Array, Array]]
    error: Array
    start_error: Array
    y: Array


class _LayerSearch:
    """One layer: q, k, v and target (windows x heads, tokens, head_dim)."""

    def __init__(
        self, head: Head, heads: int, qkv: tuple[Floats, Floats, Floats], target: Floats
    ) -> None:
        self.head, self.heads = head, heads
        q, k, v = qkv
        self.qkv = q.astype(np.float64), k.astype(np.float64), v.astype(np.float64)
        self.windows = len(target) // heads
        self.target = self._by_head(target.astype(np.float64))
        self.variance = ((self.target - self.target.mean(1, keepdims=True)) ** 2).sum(axis=1)

    def _by_head(self, x: Array) -> Array:  # (windows x heads, tokens, d) -> (heads, all)
        return x.reshape(self.windows, self.heads, -1).swapaxes(0, 1).reshape(self.heads, -1)

    def _volts(self, share: Fraction) -> float:
        return share_of(self.head.cell.supply, share)

    def start(
        self, spreads: tuple[float, Fraction], threshold: Fraction = Fraction(0)
    ) -> dict[str, Array]:
        """Gains that give q and k their spreads, offsets that centre them; see `THRESHOLDS`.

        The middle is half of T_max, and mid-rail.
        """
        place = {}
        spread, key_spread = spreads
        wanted = {"q": spread, "k": self._volts(key_spread), "v": self._volts(VALUE_SPREAD)}
        mid_rail = self.head.cell.mid_rail
        middle = {"q": 0.5, "k": mid_rail, "v": mid_rail}
        for name, x in zip("qkv", self.qkv, strict=True):
            flat = self._by_head(x)
            deviation = flat.std(axis=1)
            gain = wanted[name] / np.where(deviation > 0, deviation, wanted[name])
            place[f"{name}.a"] = np.log(gain)
            place[f"{name}.b"] = middle[name] - gain * flat.mean(axis=1)
        place["k.b"] = place["k.b"] + self._volts(threshold)
        return place

    def step(self, coordinate: str) -> float:
        """The first step along a coordinate."""
        if coordinate.endswith(".a"):
            return GAIN_STEP
        return QUERY_STEP if coordinate == "q.b" else self._volts(VOLTAGE_STEP)

    def evaluate(
        self, place: dict[str, Array]
    ) -> tuple[Array, dict[str, tuple[Array, Array]], Array]:
        """Missed share of the variance per head, all scalers, and y as given in."""
        scalers = {n: (np.exp(place[f"{n}.a"]), place[f"{n}.b"]) for n in "qkv"}
        tiled = {
            n: (np.tile(a, self.windows), np.tile(b, self.windows)) for n, (a, b) in scalers.items()
        }
        summed = attend_layer(*self.qkv, self.head.laws, tiled).y
        flat = self._by_head(summed)
        mean, target_mean = flat.mean(axis=1), self.target.mean(axis=1)
        centred = flat - mean[:, None]
        power = (centred**2).sum(axis=1)
        gain = (centred * self.target).sum(axis=1) / np.where(power > 0, power, 1.0)
        offset = target_mean - gain * mean
        missed = ((gain[:, None] * flat + offset[:, None] - self.target) ** 2).sum(axis=1)
        scalers["output"] = (gain, offset)
        y = summed * np.tile(gain, self.windows)[:, None, None]
        y += np.tile(offset, self.windows)[:, None, None]
        return missed / self.variance, scalers, y

    def run(self, rounds: int) -> _Fitted:
        place = self.start(SPREADS[0])
        start_error = best = self.evaluate(place)[0]
        for spreads in SPREADS:
            for threshold in THRESHOLDS:
                other = self.start(spreads, threshold)
                error = self.evaluate(other)[0]
                place = {key: np.where(error < best, other[key], x) for key, x in place.items()}
                best = np.minimum(error, best)
        for turn in range(rounds):
            for coordinate in COORDINATES:
                step = self.step(coordinate) * 0.6**turn
                here = place[coordinate]
                tried = {0.0: best}
                for direction in (-step, step):
                    tried[direction] = self.evaluate(place | {coordinate: here + direction})[0]
                low, high = tried[-step], tried[step]
                curvature = low - 2 * best + high
                newton = 0.5 * (low - high) / np.where(curvature > 0, curvature, 1.0) * step
                newton = np.where(curvature > 0, np.clip(newton, -2 * step, 2 * step), 0.0)
                candidates = np.stack(
                    [np.zeros_like(here), -step + 0 * here, step + 0 * here, newton]
                )
                errors = np.stack(
                    [best, low, high, self.evaluate(place | {coordinate: here + newton})[0]]
                )
                chosen = errors.argmin(axis=0)
                each = np.arange(self.heads)
                place = place | {coordinate: here + candidates[chosen, each]}
                best = errors[chosen, each]
        best, scalers, y = self.evaluate(place)
        return _Fitted(scalers, best, start_error, y)
