"""GPT-2 in torch, for training only: one file, parameter names as in Hugging Face's GPT-2.

The numpy forward pass that everything else uses is `archsim.models.gpt2`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own idiom)

Kernel = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q, k, v) to y, each (batch, heads, tokens, head_dim); the causal mask is its business."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the model; the defaults are the shipped reference."""

    vocab_size: int = 4096
    n_positions: int = 1024
    n_embd: int = 256
    n_layer: int = 4
    n_head: int = 4

    def hugging_face_config(self) -> dict[str, object]:
        """The ``config.json`` that `transformers` and archsim read."""
        return {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": True,
            "bos_token_id": 0,
            "eos_token_id": 0,
            **asdict(self),
        }


class Projection(nn.Module):
    """``x @ weight + bias`` with weight (inputs, outputs), GPT-2's orientation.

    Started at 1/sqrt(inputs): GPT-2's 0.02 suits 768 inputs; with 256 attention starts all but
    uniform and stays so for long. `damping` divides it for the projections that end a block, which
    start small so that they do not drown what `plant_induction` sets.
    """

    def __init__(self, inputs: int, outputs: int, damping: float = 1.0) -> None:
        super().__init__()
        deviation = 1 / (damping * math.sqrt(inputs))
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * deviation)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:  # (batch, tokens, inputs)
        return x @ self.weight + self.bias  # (batch, tokens, outputs)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.n_head
        self.c_attn = Projection(shape.n_embd, 3 * shape.n_embd)
        self.c_proj = Projection(shape.n_embd, shape.n_embd, 5 * math.sqrt(2 * shape.n_layer))

    def forward(  # (batch, tokens, embedding)
        self, x: Tensor, layer: int = 0, kernel: Kernel | None = None
    ) -> Tensor:
        b, t, e = x.shape
        q, k, v = (
            part.view(b, t, self.heads, e // self.heads).transpose(1, 2)
            for part in self.c_attn(x).split(e, dim=2)
        )  # each (batch, heads, tokens, head_dim)
        if kernel is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = kernel(layer, q, k, v)
        out: Tensor = self.c_proj(y.transpose(1, 2).reshape(b, t, e))
        return out


class Mlp(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.c_fc = Projection(shape.n_embd, 4 * shape.n_embd)
        self.c_proj = Projection(4 * shape.n_embd, shape.n_embd, 5 * math.sqrt(2 * shape.n_layer))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))
        return out


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(shape.n_embd)
        self.attn = Attention(shape)
        self.ln_2 = nn.LayerNorm(shape.n_embd)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor, layer: int = 0, kernel: Kernel | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), layer, kernel)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


def positions_start(shape: Shape) -> Tensor:
    """Where the learned positions start, (positions, embedding): sinusoids in the first half.

    A quarter of the dimensions turn fast, so that one token back is a rotation that stands out; a
    quarter turn slowly, as in the first transformer.
    """
    quarter = shape.n_embd // 8
    fast = torch.linspace(0.2, 3.0, quarter)
    slow = torch.exp(torch.arange(quarter) * (-math.log(10000.0) / quarter))
    angles = torch.arange(shape.n_positions)[:, None] * torch.cat([fast, slow])
    table = torch.zeros(shape.n_positions, shape.n_embd)
    table[:, : 2 * quarter] = angles.sin()
    table[:, 2 * quarter : 4 * quarter] = angles.cos()
    return 2.0 * math.sqrt(2 / shape.n_embd) * table


def plant_induction(model: Gpt2) -> None:
    """Start three heads as a circuit that copies, and leave it to training what becomes of it.

    Found by gradient alone, "look for what followed this token before" takes far more text than a
    CPU reads in an hour: after 13 M tokens, a quarter of them repeats, nothing was copied. So head
    0 of layer 0 starts by looking one token back and noting that token; heads 0 and 1 of layer 1
    look for places that noted the current token and predict what stands there. Everything is
    trained from there on like any other weight.
    """
    shape = model.shape
    embedding, half, width = shape.n_embd, shape.n_embd // 2, shape.n_embd // shape.n_head
    quarter = embedding // 8

    def basis(rows: slice, columns: int) -> Tensor:  # orthonormal columns within some dimensions
        result = torch.zeros(embedding, columns)
        size = len(range(*rows.indices(embedding)))
        result[rows] = torch.linalg.qr(torch.randn(size, columns))[0]
        return result

    def part(head: int, which: int) -> slice:  # q, k, v are 0, 1, 2 of c_attn's outputs
        return slice(which * embedding + head * width, which * embedding + (head + 1) * width)

    noted, place = basis(slice(half, None), width), basis(slice(half, None), width)
    with torch.no_grad():
        first, second = (cast(Block, model.h[layer]).attn for layer in (0, 1))
        turn = torch.linspace(0.2, 3.0, quarter)
        query = torch.zeros(embedding, 2 * quarter)
        index = torch.arange(quarter)
        sine, cosine = index, 2 * quarter + index
        query[sine, index], query[cosine, index] = turn.cos(), -turn.sin()
        query[sine, quarter + index], query[cosine, quarter + index] = turn.sin(), turn.cos()
        key = torch.zeros(embedding, 2 * quarter)
        key[sine, index], key[cosine, quarter + index] = 1.0, 1.0
        first.c_attn.weight[:, part(0, 0)] = 1.5 * query
        first.c_attn.weight[:, part(0, 1)] = 1.5 * key
        first.c_attn.weight[:, part(0, 2)] = noted
        first.c_proj.weight[:width] = 0.2 * place.T
        copied = torch.linalg.qr(torch.randn(embedding, 2 * width))[0]
        for head in (0, 1):
            second.c_attn.weight[:, part(head, 0)] = 2.0 * noted
            second.c_attn.weight[:, part(head, 1)] = 2.0 * place
            what = copied[:, head * width : (head + 1) * width]
            second.c_attn.weight[:, part(head, 2)] = what
            second.c_proj.weight[head * width : (head + 1) * width] = 2.0 * what.T


class Gpt2(nn.Module):
    """Token ids (batch, tokens) to logits (batch, tokens, vocabulary); embeddings tied.

    `planted` starts it as training does; without, the weights are to be loaded.
    """

    def __init__(self, shape: Shape, planted: bool = True) -> None:
        super().__init__()
        self.shape = shape
        self.wte = nn.Embedding(shape.vocab_size, shape.n_embd)
        self.wpe = nn.Embedding(shape.n_positions, shape.n_embd)
        nn.init.normal_(self.wte.weight, std=shape.n_embd**-0.5)
        with torch.no_grad():
            self.wpe.weight.copy_(positions_start(shape))
        self.h = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.ln_f = nn.LayerNorm(shape.n_embd)
        if planted:
            plant_induction(self)

    def forward(self, ids: Tensor, offset: int = 0, kernel: Kernel | None = None) -> Tensor:
        """Logits; `kernel` replaces the softmax attention."""
        logits: Tensor = F.linear(self.states(ids, offset, kernel), self.wte.weight)
        return logits

    def states(self, ids: Tensor, offset: int = 0, kernel: Kernel | None = None) -> Tensor:
        """What the embeddings turn into logits: (batch, tokens, embedding)."""
        positions = torch.arange(offset, offset + ids.shape[1], device=ids.device)
        x = self.wte(ids) + self.wpe(positions)  # (batch, tokens, embedding)
        for layer, block in enumerate(self.h):
            x = block(x, layer, kernel)
        last: Tensor = self.ln_f(x)
        return last
