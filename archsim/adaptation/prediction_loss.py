"""Next-token loss and distillation, a few rows at a time.

A row of logits is as long as the vocabulary, and every pass over all of them leaves the caches. So
the loss and its gradient are computed together, in rows that fit, and no logits are kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own idiom)

ROWS = 128
"""Rows at a time: with a vocabulary of 4,096 in float32, 2 MiB."""


def prediction_loss(
    states: Tensor,
    embedding: Tensor,
    targets: Tensor,
    weight: Tensor,
    wanted: tuple[Tensor, Tensor] | None = None,
    distillation: float = 0.0,
) -> Tensor:
    """Mean next-token loss in nats, mixed with the divergence from a teacher's predictions.

    states (tokens, embedding) are what the `embedding` (vocabulary, embedding) turns into logits;
    targets and their `weight` (tokens,), which is normalised; `wanted` the teacher's states and
    embedding. With d = `distillation`: ``(1 - d) CE + d KL(teacher || model)``.
    """
    if wanted is None:
        wanted, distillation = (states.detach()[:0], embedding.detach()), 0.0
    loss: Tensor = _Loss.apply(  # type: ignore[no-untyped-call]
        states, embedding, targets, weight / weight.sum(), *wanted, distillation
    )
    return loss


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        embedding: Tensor,
        targets: Tensor,
        weight: Tensor,
        wanted_states: Tensor,
        wanted_embedding: Tensor,
        distillation: float,
    ) -> Tensor:
        products = (
            torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else embedding.dtype
        )
        tokens, exact = len(states), torch.promote_types(products, torch.float32)
        x, matrix = states.to(products), embedding.to(products)
        aim, aim_matrix = wanted_states.to(products), wanted_embedding.to(products)
        grad_states = torch.empty(states.shape, dtype=exact)
        grad_embedding = (
            torch.zeros(embedding.shape, dtype=exact) if ctx.needs_input_grad[1] else None
        )
        hard, soft = (1 - distillation) * weight.to(exact), distillation / tokens
        loss = torch.zeros((), dtype=exact)
        with torch.autocast("cpu", enabled=False):
            for start in range(0, tokens, ROWS):
                rows = slice(start, start + ROWS)
                target, share = targets[rows, None], hard[rows, None]
                log = F.log_softmax(F.linear(x[rows], matrix).to(exact), dim=-1)
                loss -= (log.gather(1, target) * share).sum()
                grad = log.exp().mul_(share + soft)
                if distillation:
                    aim_log = F.log_softmax(F.linear(aim[rows], aim_matrix).to(exact), dim=-1)
                    likely = aim_log.exp()
                    loss += soft * torch.dot(likely.flatten(), aim_log.sub_(log).flatten())
                    grad.sub_(likely, alpha=soft)
                grad.scatter_add_(1, target, -share)
                grad_logits = grad.to(products)
                grad_states[rows] = grad_logits @ matrix
                if grad_embedding is not None:
                    grad_embedding += grad_logits.T @ x[rows]
        ctx.save_for_backward(grad_states.to(states.dtype), grad_embedding)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = gradients
        states, embedding = ctx.saved_tensors
        return grad * states, None if embedding is None else grad * embedding, *[None] * 5
