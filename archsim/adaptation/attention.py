"""The hardware's attention in torch, differentiable: FACTS 2 with straight-through quantisers.

Forward it is `archsim.datapath.attend_layer` (in float64 the same codes, a test holds that).
Backward, quantisers pass gradients through; clamps pass them a little beyond their edges (half a
quantiser step), so that what sits just outside can come back in. The work is done sub-tile by
sub-tile, as in the arrays, so that no query is multiplied with sub-tiles written after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own idiom)

from archsim.accuracy.closed_loop import check_retention
from archsim.adaptation.recipe import Gradient
from archsim.chip.activations.hard_sigmoid import HardSigmoid
from archsim.chip.array import RingBuffer
from archsim.chip.cells.polynomial import PolynomialCurrent
from archsim.chip.head import Head
from archsim.chip.quantiser import Quantiser
from archsim.errors import ConfigError
from archsim.hardware.sections import HardwareConfig

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


def check_trainable(config: HardwareConfig, tokens: int, head_dim: int | None = None) -> None:
    """Raises ConfigError for a retention that this model does not have, or too fast for it, and
    for scores of `head_dim` features (None: as many as there are rows) that are digitised."""
    check_retention(config)
    laws = Head(config, head_dim).laws
    if laws.readout.conversion is not None or laws.readout.widths is not None:
        raise ConfigError(
            f"readout.model {config.readout.model}: digitised scores cannot be trained; "
            "--set readout.model=charge_to_pulse, or direct alone, which needs no training"
        )
    if not isinstance(laws.cell, PolynomialCurrent):
        raise ConfigError(
            f"cell.model {config.cell.model}: cannot be trained, which takes a polynomial; "
            "direct alone needs no training"
        )
    if not isinstance(laws.readout.activation, HardSigmoid):
        raise ConfigError(
            f"converter.law {config.converter.law}: cannot be trained, only hard_sigmoid; "
            "direct alone needs no training"
        )
    powers = len(laws.cell.terms) - 1
    if laws.decay_per_token * powers * tokens > LARGEST_EXPONENT:
        raise ConfigError(
            f"retention: a decay of {laws.decay_per_token:g} a token is too fast to train over "
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
        c = _polynomial(self.head).coefficients
        if self.gradient == "surrogate":
            linear = torch.full_like(deviation, self.head.linear_slope)
            return [linear, *(torch.zeros_like(deviation) for _ in c[2:])]
        return [p * float(c[p]) * deviation ** (p - 1) for p in range(1, len(c))]


def _polynomial(head: Head) -> PolynomialCurrent:
    """The cell's law: `check_trainable` lets no other in."""
    law = head.cell.law
    assert isinstance(law, PolynomialCurrent)
    return law


@dataclass(frozen=True)
class Filling:
    """Tokens `columns` stand in a sub-tile, and are in the window of queries `rows`."""

    columns: slice
    rows: slice


def fillings(tiles: RingBuffer, tokens: int) -> list[list[Filling]]:
    """What each sub-tile holds in turn, as its columns are written anew."""
    found: dict[int, list[Filling]] = {}
    for run in tiles.runs(0, tokens):
        rows = slice(run.first, min(tokens, run.stop - 1 + tiles.window))
        found.setdefault(run.sub_tile, []).append(Filling(slice(run.first, run.stop), rows))
    return list(found.values())


class _Cells:
    """Powers of stored deviations times their coefficients, with the column's part of the decay."""

    def __init__(self, volts: Tensor, model: AnalogAttention) -> None:
        cell = model.head.cell
        self.deviation = volts - cell.mid_rail
        coefficients = _polynomial(model.head).coefficients
        tokens, rate, powers = volts.shape[1], cell.decay_per_token, len(coefficients) - 1
        check_trainable(model.config, tokens)
        time = torch.arange(tokens, dtype=volts.dtype)
        exponent = rate * time[:, None] * torch.arange(1, powers + 1, dtype=volts.dtype)
        self.grow = torch.exp(exponent)  # (tokens, powers)
        self.fade = torch.exp(-exponent)
        terms = [float(coefficients[p]) * self.deviation**p for p in range(1, powers + 1)]
        stacked = torch.stack(terms, dim=2) * self.grow[:, :, None]  # (heads, tokens, powers, d)
        self.powers, self.constant = powers, float(coefficients[0])
        self.terms = stacked.flatten(2)  # (heads, tokens, powers x d)
        if model.products is not None:
            self.terms = self.terms.to(model.products)

    def widen(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """`x` (heads, rows, d) times the rows' part of the decay, once a power, side by side."""
        wide = x[:, :, None, :] * self.fade[rows, :, None].to(x.dtype)
        return wide.flatten(2).to(self.terms.dtype)

    def narrow(self, wide: Tensor, rows: slice = slice(None)) -> Tensor:
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


def _codes(x: Tensor, quantiser: Quantiser) -> Tensor:
    """The codes of `x` (which is overwritten); `x` itself without levels."""
    if quantiser.levels is None:
        return x
    span, steps = quantiser.high - quantiser.low, quantiser.levels - 1
    return x.clamp_(quantiser.low, quantiser.high).mul_(steps).div_(span).round_()


def _times(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, in the dtype of b."""
    return torch.bmm(a.to(b.dtype), b)


class _Attention(torch.autograd.Function):
    """FACTS 2.3 to 2.9 for (heads, tokens, head_dim); see `AnalogAttention`."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, model: AnalogAttention) -> Tensor:
        head, output = model.head, model.head.laws.output
        quantisers = (head.pulse_generator.quantiser, head.write_path.quantiser)
        pulses = quantise(q, quantisers[0])
        keys = _Cells(quantise(k, quantisers[1]), model)
        values = _Cells(quantise(v, quantisers[1]), model)
        queries = keys.widen(pulses)
        mid_rail = keys.constant * pulses.sum(dim=2, keepdim=True) if keys.constant else None
        total = torch.zeros_like(q)
        widths, currents = [], []
        for tile in fillings(head.sub_tiles, q.shape[1]):
            seen = slice(tile[0].rows.start, tile[-1].rows.stop)
            current = q.new_zeros(q.shape[0], seen.stop - seen.start, q.shape[2])
            for part in tile:
                score = _times(queries[:, part.rows], keys.terms[:, part.columns].mT)
                if mid_rail is not None:
                    score += mid_rail[:, part.rows].to(score.dtype)
                width = F.hardtanh_(score.div_(head.laws.readout.saturation), 0.0, 1.0)
                _hide(width, part, head.sub_tiles.window)
                widths.append(width)
                wide = _times(width, values.terms[:, part.columns])
                local = _within(part.rows, seen)
                current[:, local] += values.narrow(wide, part.rows)
                if values.constant:
                    on = width.sum(dim=2, keepdim=True, dtype=current.dtype)
                    current[:, local] += values.constant * on
            current /= output.full_scale
            currents.append(current.to(values.terms.dtype, copy=True))
            total[:, seen] += _codes(current, output.quantiser)
        if output.quantiser.levels is not None:
            total *= output.quantiser.high - output.quantiser.low
            total /= output.quantiser.levels - 1
        ctx.model, ctx.widths, ctx.currents = model, widths, currents
        ctx.keys, ctx.values, ctx.queries = keys, values, queries
        ctx.save_for_backward(*(_passes(x, z) for x, z in _scaled(q, k, v, quantisers)))
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = gradients
        model: AnalogAttention = ctx.model
        head = model.head
        keys, values, queries = ctx.keys, ctx.values, ctx.queries
        grad_queries, grad_keys, grad_values = (
            torch.zeros(cells.terms.shape, dtype=grad.dtype) for cells in (keys, keys, values)
        )
        grad_on = grad.new_zeros(*grad.shape[:2], 1)
        edge = _edge(head.laws.output.quantiser)
        incoming = (grad / head.laws.output.full_scale).to(values.terms.dtype)
        widths = iter(ctx.widths)
        tiles = fillings(head.sub_tiles, grad.shape[1])
        for tile, current in zip(tiles, ctx.currents, strict=True):
            seen = slice(tile[0].rows.start, tile[-1].rows.stop)
            inner = incoming[:, seen]
            if edge is not None:
                inner = _between(inner, current, -edge, edge)
            all_wide = values.widen(inner, seen)
            for part in tile:
                width, wide = next(widths), all_wide[:, _within(part.rows, seen)]
                grad_width = _times(wide, values.terms[:, part.columns].mT)
                if values.constant:
                    local = inner[:, _within(part.rows, seen)]
                    grad_width += values.constant * local.sum(2, keepdim=True)
                grad_values[:, part.columns] = torch.bmm(width.mT, wide)
                # HardSigmoid: nothing passes at a clamp, and hidden columns are at the lower one
                grad_score = _between(grad_width, width, 0.0, 1.0)
                grad_queries[:, part.rows] += _times(grad_score, keys.terms[:, part.columns])
                grad_keys[:, part.columns] = torch.bmm(grad_score.mT, queries[:, part.rows])
                if keys.constant:
                    grad_on[:, part.rows] += grad_score.sum(2, keepdim=True, dtype=grad.dtype)
        grad_q = keys.narrow(grad_queries)
        if keys.constant:
            grad_q += keys.constant * grad_on
        full = head.laws.readout.saturation
        results = (
            grad_q.div_(full),
            keys.gradient(grad_keys.div_(full), model),
            values.gradient(grad_values, model),
        )
        passes = ctx.saved_tensors
        return *(x if m is None else x * m for x, m in zip(results, passes, strict=True)), None


def _scaled(
    q: Tensor, k: Tensor, v: Tensor, quantisers: tuple[Quantiser, Quantiser]
) -> list[tuple[Tensor, Quantiser]]:
    return [(q, quantisers[0]), (k, quantisers[1]), (v, quantisers[1])]


def _within(rows: slice, seen: slice) -> slice:
    """`rows` counted from the first of `seen`."""
    return slice(rows.start - seen.start, rows.stop - seen.start)


def _hide(widths: Tensor, part: Filling, window: int) -> None:
    """Set to 0 where a token is not in a query's window: at most a triangle at either end."""
    columns = torch.arange(part.columns.start, part.columns.stop)
    for rows in (slice(0, len(columns)), slice(window, None)):  # not yet written; gone
        age = torch.arange(part.rows.start, part.rows.stop)[rows, None] - columns
        widths[:, rows].masked_fill_((age < 0) | (age >= window), 0.0)
