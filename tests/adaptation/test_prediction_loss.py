"""The loss in rows is torch's own loss, and so is its gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 (torch's own idiom)

from archsim.adaptation.prediction_loss import ROWS, prediction_loss


def plain(
    states: torch.Tensor,
    embedding: torch.Tensor,
    targets: torch.Tensor,
    weight: torch.Tensor,
    wanted: tuple[torch.Tensor, torch.Tensor],
    distillation: float,
) -> torch.Tensor:
    logits = F.linear(states, embedding)
    losses = F.cross_entropy(logits, targets, reduction="none")
    divergence = F.kl_div(
        F.log_softmax(logits, dim=-1),
        F.log_softmax(F.linear(*wanted), dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - distillation) * (losses * weight).sum() / weight.sum() + distillation * divergence


@pytest.mark.parametrize("distillation", [0.0, 0.3, 1.0])
def test_loss_and_gradients_are_those_of_torch(distillation: float) -> None:
    tokens, vocabulary, width = ROWS + 37, 50, 8
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    targets = torch.randint(vocabulary, (tokens,), generator=rng)
    weight = torch.rand(tokens, generator=rng, dtype=torch.float64)
    wanted = draw(tokens, width), draw(vocabulary, width)
    inputs = draw(tokens, width), draw(vocabulary, width)
    results = []
    for loss_of in (prediction_loss, plain):
        states, embedding = (x.clone().requires_grad_() for x in inputs)
        loss = loss_of(states, embedding, targets, weight, wanted, distillation)
        (2 * loss).backward()  # type: ignore[no-untyped-call]
        results.append((loss.detach(), states.grad, embedding.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_without_a_teacher_it_is_the_next_token_loss_and_frozen_embeddings_cost_nothing() -> None:
    states = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    embedding, targets = torch.randn(9, 4, dtype=torch.float64), torch.arange(5)
    loss = prediction_loss(states, embedding, targets, torch.ones(5, dtype=torch.float64))
    assert loss.grad_fn is not None
    assert loss.grad_fn.saved_tensors[1] is None  # type: ignore[attr-defined]
    expected = F.cross_entropy(F.linear(states, embedding), targets)
    torch.testing.assert_close(loss, expected)
