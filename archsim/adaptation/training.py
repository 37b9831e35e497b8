"""Gradient training of the hardware model, interrupted or not to the same result.

Two objectives share the loop, the optimiser and the batches:

* `Language`: next-token loss, optionally mixed with distillation from the software model;
* `Transfer`: every layer's attention reproduces the software attention's output from the software
  model's own hidden states, all layers at once and independent of each other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from archsim.adaptation.model import AnalogKernel
from archsim.adaptation.prediction_loss import prediction_loss
from archsim.adaptation.recipe import Recipe
from archsim.errors import ConfigError, CorruptInputError, one_line
from archsim.files import atomic_path
from archsim.models.training import batches
from archsim.models.training.model import Gpt2

Progress = Callable[[str, int, int], None]
Curve = list[tuple[int, float]]
"""(step, loss in nats or share of variance) of every step."""


@dataclass(frozen=True)
class Batch:
    """ids (windows, tokens + 1), and the weight of each target (windows, tokens).

    `there` (windows, tokens) marks tokens that exist, where sequences differ in length.
    """

    ids: Tensor
    weight: Tensor
    there: Tensor | None = None

    def existing(self, x: Tensor) -> Tensor:
        """`x` (windows, tokens, ...) of the tokens that exist, one after another."""
        return x.flatten(0, 1) if self.there is None else x[self.there]


class TrainingObjective(Protocol):
    """The loss of one batch; `kernel` None is the software model (the control)."""

    def __call__(self, model: Gpt2, kernel: AnalogKernel | None, batch: Batch) -> Tensor: ...


@dataclass(frozen=True)
class Language:
    """Next-token loss, and distance from the `teacher`: see `Recipe` for the weights."""

    teacher: Gpt2 | None = None
    distillation: float = 0.0
    hidden: float = 0.0

    def __call__(self, model: Gpt2, kernel: AnalogKernel | None, batch: Batch) -> Tensor:
        inputs, targets = batch.ids[:, :-1], batch.existing(batch.ids[:, 1:])
        weight, matrix = batch.existing(batch.weight), model.wte.weight
        if self.teacher is None or self.distillation == self.hidden == 0.0:
            states = batch.existing(model.states(inputs, kernel=kernel))
            return prediction_loss(states, matrix, targets, weight)
        with listening(_blocks(model)) as heard:
            states = batch.existing(model.states(inputs, kernel=kernel))
        with torch.no_grad(), listening(_blocks(self.teacher)) as wanted_heard:
            wanted = batch.existing(self.teacher.states(inputs)), self.teacher.wte.weight
        loss = prediction_loss(states, matrix, targets, weight, wanted, self.distillation)
        pairs = zip(heard, wanted_heard, strict=True)
        missed = [missed_share(found, aim, batch) for (_, found), (_, aim) in pairs]
        return loss + self.hidden * torch.stack(missed).mean()


@dataclass(frozen=True)
class Transfer:
    """Mean over layers of the missed share of the software attention's output."""

    teacher: Gpt2

    def __call__(self, model: Gpt2, kernel: AnalogKernel | None, batch: Batch) -> Tensor:
        with torch.no_grad(), listening(block.attn for block in _blocks(self.teacher)) as seen:
            self.teacher(batch.ids[:, :-1])
        missed = []
        for layer, (block, (x, wanted)) in enumerate(zip(_blocks(model), seen, strict=True)):
            missed.append(missed_share(block.attn(x, layer, kernel), wanted, batch))
        return torch.stack(missed).mean()


def missed_share(found: Tensor, wanted: Tensor, batch: Batch) -> Tensor:
    """Squared distance as a share of the variance of `wanted` (windows, tokens, embedding)."""
    found, wanted = found.float(), wanted.float()
    if batch.there is not None:
        found, wanted = batch.existing(found)[None], batch.existing(wanted)[None]
    if found.shape[0] * found.shape[1] < 2:  # one token alone does not vary
        return found.sum() * 0
    spread = (wanted - wanted.mean(dim=(0, 1))).square().mean()
    return (found - wanted).square().mean() / spread


@contextmanager
def listening(modules: Iterable[nn.Module]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collects (first input, output) of every call of the modules within the block."""
    heard: list[tuple[Tensor, Tensor]] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        heard.append((inputs[0], output))

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(keep).remove)
        yield heard


def _blocks(model: Gpt2) -> Iterable[Any]:
    return model.h


Stream = NDArray[Any] | batches.Documents
"""Running text (tokens,), or documents."""


def draw(recipe: Recipe, corpus: Stream, vocabulary: int, step: int) -> Batch:
    """The batch of a step, keyed by seed and step.

    Of running text the late mixture of the reference's training; documents alone, as they are.
    """
    place = batches.LATE_STEP + step
    if isinstance(corpus, batches.Documents):
        ids, exists = batches.document_batch(
            recipe.seed, place, corpus, recipe.windows, recipe.tokens
        )
        there = torch.from_numpy(exists)
        return Batch(torch.from_numpy(ids), there.float(), there)
    ids, weight, _ = batches.batch(
        recipe.seed, place, corpus, recipe.windows, recipe.tokens, vocabulary
    )
    return Batch(torch.from_numpy(ids), torch.from_numpy(weight))


Optimisers = dict[str, torch.optim.Optimizer]
"""By the name under which a checkpoint keeps their state."""


def optimisers(
    model: Gpt2, kernel: AnalogKernel | None, recipe: Recipe, trained: Callable[[str], bool]
) -> Optimisers:
    """Of what is `trained`; all else stops asking for a gradient.

    Weight decay on matrices only; scalers with their own rate.

    Muon's steps are scaled to the size of AdamW's, so that one rate serves both; embeddings are
    tables, not matrices, and stay with AdamW.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained(name))
    chosen = [(name, p) for name, p in model.named_parameters() if trained(name)]
    matrices = [p for name, p in chosen if p.ndim >= 2 and blocks_only(name)]
    tables = [p for name, p in chosen if p.ndim >= 2 and not blocks_only(name)]
    decay: dict[str, Any] = {"weight_decay": recipe.weight_decay, "scale": 1.0}
    groups = [{"params": [p for _, p in chosen if p.ndim < 2], "weight_decay": 0.0, "scale": 1.0}]
    found: Optimisers = {}
    if recipe.optimiser == "muon":
        found["muon"] = torch.optim.Muon(
            [{"params": matrices, **decay}], lr=recipe.rate, adjust_lr_fn="match_rms_adamw"
        )
        groups.append({"params": tables, **decay})
    else:
        groups.append({"params": matrices + tables, **decay})
    if kernel is not None:
        scalers = list(kernel.scalers.parameters())
        groups.append({"params": scalers, "weight_decay": 0.0, "scale": recipe.scaler_rate})
    groups = [group for group in groups if group["params"]]
    found["optimiser"] = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.95))
    return found


def attention_only(name: str) -> bool:
    """Whether a parameter belongs to an attention's projections."""
    return ".attn." in name


def blocks_only(name: str) -> bool:
    """Whether a parameter is no embedding."""
    return not name.startswith(("wte.", "wpe."))


def everything(name: str) -> bool:
    return True


TRAINED: dict[str, Callable[[str], bool]] = {
    "attention": attention_only,
    "blocks": blocks_only,
    "everything": everything,
}
"""What a stage may change, by name."""


class Checkpoint:
    """The state of an interrupted stage; `identity` says what the stage was."""

    def __init__(self, path: Path, identity: str) -> None:
        self.path, self.identity = path, identity

    def load(self) -> dict[str, Any] | None:
        """The state, or None if there is none yet.

        Raises ConfigError if it is of another stage, CorruptInputError if it is damaged.
        """
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, weights_only=True)
            identity = state["identity"]
        except Exception as error:  # torch raises what its zip, pickle and storage readers raise
            raise CorruptInputError(
                f"{self.path}: not a checkpoint, or damaged ({one_line(error, 80)}); delete it to "
                "start the stage anew"
            ) from None
        if identity != self.identity:
            raise ConfigError(
                f"{self.path}: belongs to another model, hardware, text or recipe; use another "
                "output folder, or delete it to start the stage anew"
            )
        found: dict[str, Any] = state
        return found

    def save(self, state: dict[str, Any]) -> None:
        with atomic_path(self.path) as temporary:
            torch.save({"identity": self.identity, **state}, temporary)


@dataclass(frozen=True)
class Trained:
    """The loss of every step, and the seconds that earlier sittings spent (nan: not known)."""

    curve: Curve
    seconds_before: float


def train(
    name: str,
    model: Gpt2,
    kernel: AnalogKernel | None,
    objective: TrainingObjective,
    recipe: Recipe,
    corpus: Stream,
    *,
    trained: Callable[[str], bool] = everything,
    checkpoint: Checkpoint | None = None,
    every: int = 100,
    progress: Progress | None = None,
) -> Trained:
    """Train `model` and the scalers of `kernel` in place.

    The same inputs and thread count give the same weights, resumed from `checkpoint` or not.
    """
    report = progress or (lambda step, done, total: None)
    found = optimisers(model, kernel, recipe, trained)
    curve: Curve = []
    before, began = 0.0, time.monotonic()
    parts: dict[str, Any] = {"model": model, **found}
    if kernel is not None:
        parts["scalers"] = kernel.scalers
    state = checkpoint.load() if checkpoint else None
    if state is not None:
        for key, part in parts.items():
            part.load_state_dict(state[key])
        curve = [(int(step), float(loss)) for step, loss in state["curve"]]
        before = float(state.get("seconds", math.nan))
    groups = [group for each in found.values() for group in each.param_groups]
    for step in range(len(curve), recipe.steps):
        report(name, step, recipe.steps)
        for group in groups:
            group["lr"] = recipe.learning_rate(step) * group["scale"]
        batch = draw(recipe, corpus, model.shape.vocab_size, step)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.bfloat16):
            loss = objective(model, kernel, batch)
        for each in found.values():
            each.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for group in groups:  # scalers apart: their gradients are sums over all
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
        for each in found.values():
            each.step()
        curve.append((step + 1, float(loss.detach())))
        del loss  # and with it what the attention kept for the backward pass
        done = step + 1
        if checkpoint and (done % every == 0 or done == recipe.steps):
            spent = before + time.monotonic() - began
            states = {k: p.state_dict() for k, p in parts.items()}
            checkpoint.save(states | {"curve": curve, "seconds": spent})
    model.requires_grad_(True)
    return Trained(curve, before)
