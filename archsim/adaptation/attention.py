"""The hardware's attention in torch, differentiable: FACTS 2 with straight-through quantisers.

Forward it is `archsim.datapath.attend_layer` (in float64 the same codes, a test holds that).
Backward, quantisers pass gradients through; clamps pass them a little beyond their edges (half a
quantiser step), so that what sits just outside can come back in. The work is done in panels of
query rows, so that nothing of size (tokens, tokens) is touched above the diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own idiom)

from archsim.adaptation.recipe import Gradient
from archsim.components.array import Run
from archsim.components.head import Head
from archsim.components.quantiser import Quantiser
from archsim.config.hardware import HardwareConfig
from archsim.errors import ConfigError
from archsim.evaluation.closed_loop import check_retention

PANEL = 128

LARGEST_EXPONENT = 60.0
"""Factors of decay stay within float32 up to here."""


def quantise(x: Tensor, quantiser: Quantiser) -> Tensor:
    """`Quantiser.values(codes(x))` in torch, in the same order of operations."""
    if quantiser.levels is None:
        return x
    span, steps = quantiser.high - quantiser.low, quantiser.levels - 1
    codes = torch.round((x.clamp(quantiser.low, quantiser.high) * steps) / span)
    return codes * span / steps


def _passes(x: Tensor, quantiser: Quantiser) -> Tensor | None:
    """Where gradients pass a quantiser: its range, half a step wider; None: everywhere."""
    if quantiser.levels is None:
        return None
    half = 0.5 * (quantiser.high - quantiser.low) / (quantiser.levels - 1)
    return (x >= quantiser.low - half) & (x <= quantiser.high + half)


def check_trainable(config: HardwareConfig, tokens: int) -> None:
    """Raises ConfigError for a retention that this model does not have, or too fast for it."""
    check_retention(config)
    cell = Head(config).cell
    powers = len(cell.coefficients) - 1
    if cell.decay_per_token * powers * tokens > LARGEST_EXPONENT:
        raise ConfigError(
            f"retention: a decay of {cell.decay_per_token:g} a token is too fast to train over "
            f"{tokens} tokens; direct needs no training"
        )


@dataclass(frozen=True)
class AnalogAttention:
    """Attention of one layer's heads on hardware of `config`.

    `gradient` chooses the cell's derivative; `products` is the dtype of matrix products (bfloat16
    is several times faster on CPUs that have it, and costs training nothing).

    Raises ConfigError for a retention this differentiable model does not have.
    """

    config: HardwareConfig
    gradient: Gradient = "surrogate"
    products: torch.dtype | None = None
    head: Head = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_retention(self.config)
        object.__setattr__(self, "head", Head(self.config))

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Sum over sub-tiles of the counters' values, before the output scaler (FACTS 2.9).

        q, k, v: (..., tokens, head_dim), already scaled into pulse widths and volts.
        """
        shape = q.shape
        flat = [x.reshape(-1, *shape[-2:]) for x in (q, k, v)]
        total: Tensor = _Attention.apply(*flat, self)  # type: ignore[no-untyped-call]
        return total.view(shape)

    def slopes(self, deviation: Tensor) -> Sequence[Tensor]:
        """d(C_p y^p)/dy for p = 1..P as the backward pass uses them."""
        c = self.head.cell.coefficients
        if self.gradient == "surrogate":
            linear = torch.full_like(deviation, self.head.cell.linear_slope)
            return [linear, *(torch.zeros_like(deviation) for _ in c[2:])]
        return [p * float(c[p]) * deviation ** (p - 1) for p in range(1, len(c))]


def panels(tokens: int, window: int) -> list[tuple[int, int, int]]:
    """(first column, first row, stop row) of every panel."""
    starts = range(0, tokens, PANEL)
    return [(max(0, s - window + 1), s, min(s + PANEL, tokens)) for s in starts]


class _Cells:
    """Powers of stored deviations times their coefficients, with the column's part of the decay."""

    def __init__(self, volts: Tensor, model: AnalogAttention) -> None:
        cell = model.head.cell
        self.deviation = volts - cell.mid_rail
        tokens, rate, powers = volts.shape[1], cell.decay_per_token, len(cell.coefficients) - 1
        check_trainable(model.config, tokens)
        time = torch.arange(tokens, dtype=volts.dtype)
        exponent = rate * time[:, None] * torch.arange(1, powers + 1, dtype=volts.dtype)
        self.grow = torch.exp(exponent)  # (tokens, powers)
        self.fade = torch.exp(-exponent)
        terms = [float(cell.coefficients[p]) * self.deviation**p for p in range(1, powers + 1)]
        stacked = torch.stack(terms, dim=2) * self.grow[:, :, None]  # (heads, tokens, powers, d)
        self.powers, self.constant = powers, float(cell.coefficients[0])
        self.terms = stacked.flatten(2)  # (heads, tokens, powers x d)
        if model.products is not None:
            self.terms = self.terms.to(model.products)

    def widen(self, x: Tensor, rows: slice) -> Tensor:
        """`x` (heads, rows, d) times the rows' part of the decay, once a power, side by side."""
        wide = x[:, :, None, :] * self.fade[rows, :, None].to(x.dtype)
        return wide.flatten(2).to(self.terms.dtype)

    def narrow(self, wide: Tensor, rows: slice) -> Tensor:
        """The sum over powers of (heads, rows, powers x d) times the rows' part of the decay."""
        if self.powers == 1:
            return wide * self.fade[rows]
        parts = wide.view(*wide.shape[:2], self.powers, -1) * self.fade[rows, :, None]
        total: Tensor = parts.sum(dim=2)
        return total

    def gradient(self, wide: Tensor, model: AnalogAttention) -> Tensor:
        """By the chain rule from the terms (heads, tokens, powers x d) to the stored volts."""
        parts = wide.view(*wide.shape[:2], self.powers, -1) * self.grow[:, :, None]
        slopes = model.slopes(self.deviation)
        total = torch.zeros_like(self.deviation)
        for p, slope in enumerate(slopes):
            total += parts[:, :, p] * slope
        return total


def _between(gradient: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """`gradient` where low < x < high, else 0, in one pass."""
    passed: Tensor = torch.ops.aten.hardtanh_backward(gradient, x, low, high)
    return passed


def _edge(quantiser: Quantiser) -> float | None:
    """How far from 0 gradients pass a symmetric quantiser: half a step beyond; None: everywhere."""
    if quantiser.levels is None:
        return None
    return quantiser.high * (1 + 1 / (quantiser.levels - 1))


def _sum_of_codes(x: Tensor, quantiser: Quantiser) -> Tensor:
    """`quantise` of `x` (which is overwritten) summed over its first axis."""
    if quantiser.levels is None:
        return x.sum(dim=0)
    span, steps = quantiser.high - quantiser.low, quantiser.levels - 1
    codes = x.clamp_(quantiser.low, quantiser.high).mul_(steps).div_(span).round_()
    return codes.sum(dim=0) * span / steps


def _times(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, in the dtype of b."""
    return torch.bmm(a.to(b.dtype), b)


class _Attention(torch.autograd.Function):
    """FACTS 2.3 to 2.9 for (heads, tokens, head_dim); see `AnalogAttention`."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, model: AnalogAttention) -> Tensor:
        head, tiles = model.head, model.head.sub_tiles
        quantisers = (head.pulse_generator.quantiser, head.write_path.quantiser)
        pulses = quantise(q, quantisers[0])
        keys = _Cells(quantise(k, quantisers[1]), model)
        values = _Cells(quantise(v, quantisers[1]), model)
        total = torch.zeros_like(q)
        scores, clipped = [], []
        for first, start, stop in panels(q.shape[1], tiles.window):
            rows, columns = slice(start, stop), slice(first, stop)
            wide = keys.widen(pulses[:, rows], rows)
            score = _times(wide, keys.terms[:, columns].mT)
            if keys.constant:
                score += keys.constant * pulses[:, rows].sum(dim=2, keepdim=True).to(score.dtype)
            score.masked_fill_(hidden(start, stop, first, tiles.window), -torch.inf)
            widths = F.hardtanh_(score / head.score_converter.saturation, 0.0, 1.0)
            runs = tiles.runs(first, stop)
            normal = sub_tile_currents(widths, values, runs, rows, first)
            normal /= head.output_converter.saturation
            clipped.append(normal.to(values.terms.dtype, copy=True))
            total[:, rows] = _sum_of_codes(normal, head.output_converter.quantiser)
            scores.append(score)
        ctx.model, ctx.scores, ctx.clipped = model, scores, clipped
        ctx.keys, ctx.values = keys, values
        ctx.save_for_backward(pulses, *(_passes(x, z) for x, z in _scaled(q, k, v, quantisers)))
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = gradients
        model: AnalogAttention = ctx.model
        head, tiles = model.head, model.head.sub_tiles
        pulses, *masks = ctx.saved_tensors
        keys, values = ctx.keys, ctx.values
        grad_q, grad_keys, grad_values = (
            torch.zeros_like(pulses),
            torch.zeros(keys.terms.shape, dtype=grad.dtype),
            torch.zeros(values.terms.shape, dtype=grad.dtype),
        )
        full, edge = head.score_converter.saturation, _edge(head.output_converter.quantiser)
        for panel, (first, start, stop) in enumerate(panels(grad.shape[1], tiles.window)):
            rows, columns = slice(start, stop), slice(first, stop)
            score, normal = ctx.scores[panel], ctx.clipped[panel]
            widths = F.hardtanh_(score / full, 0.0, 1.0)
            incoming = (grad[:, rows] / head.output_converter.saturation).to(normal.dtype)
            grad_widths = torch.empty_like(score)
            runs = tiles.runs(first, stop)
            used = used_sub_tiles(runs)
            by_tile: dict[int, tuple[Tensor, Tensor | None]] = {}
            for run in runs:
                if run.sub_tile not in by_tile:
                    inner = incoming
                    if edge is not None:
                        inner = _between(incoming, normal[used.index(run.sub_tile)], -edge, edge)
                    constant = (
                        values.constant * inner.sum(2, keepdim=True) if values.constant else None
                    )
                    by_tile[run.sub_tile] = values.widen(inner, rows), constant
                wide, constant = by_tile[run.sub_tile]
                local = slice(run.first - first, run.stop - first)
                tokens = slice(run.first, run.stop)
                part = _times(wide, values.terms[:, tokens].mT)
                grad_widths[:, :, local] = part if constant is None else part.add_(constant)
                grad_values[:, tokens] += torch.bmm(widths[:, :, local].mT, wide)
            # HardSigmoid: nothing passes from hidden columns (-inf) or beyond the clamp
            grad_score = _between(grad_widths, score, 0.0, full)
            grad_q[:, rows] += keys.narrow(_times(grad_score, keys.terms[:, columns]), rows)
            if keys.constant:
                grad_q[:, rows] += keys.constant * grad_score.sum(dim=2, keepdim=True)
            wide = keys.widen(pulses[:, rows], rows)
            grad_keys[:, columns] += torch.bmm(grad_score.mT, wide)
        grad_q /= full
        grad_keys /= full
        results = (
            grad_q,
            keys.gradient(grad_keys, model),
            values.gradient(grad_values, model),
        )
        return *(x if m is None else x * m for x, m in zip(results, masks, strict=True)), None


def _scaled(
    q: Tensor, k: Tensor, v: Tensor, quantisers: tuple[Quantiser, Quantiser]
) -> list[tuple[Tensor, Quantiser]]:
    return [(q, quantisers[0]), (k, quantisers[1]), (v, quantisers[1])]


def hidden(start: int, stop: int, first: int, window: int) -> Tensor:
    """Where token j of [first, stop) is not in the window of token i of [start, stop)."""
    age = torch.arange(start, stop)[:, None] - torch.arange(first, stop)
    return (age < 0) | (age >= window)


def used_sub_tiles(runs: Sequence[Run]) -> list[int]:
    return sorted({run.sub_tile for run in runs})


def sub_tile_currents(
    widths: Tensor, values: _Cells, runs: Sequence[Run], rows: slice, first: int
) -> Tensor:
    """Currents of the V arrays in uA, (sub-tiles used, heads, rows, d) (FACTS 2.7)."""
    used = used_sub_tiles(runs)
    currents: dict[int, Tensor] = {}
    for run in runs:
        local = widths[:, :, run.first - first : run.stop - first]
        wide = _times(local, values.terms[:, run.first : run.stop])
        current = values.narrow(wide, rows)
        if values.constant:
            current += values.constant * local.sum(dim=2, keepdim=True)
        known = currents.get(run.sub_tile)
        currents[run.sub_tile] = current if known is None else known + current
    return torch.stack([currents[tile] for tile in used])
