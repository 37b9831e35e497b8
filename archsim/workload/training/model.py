"""GPT-2 in torch, for training only: one file, parameter names as in Hugging Face's GPT-2.

The numpy forward pass that everything else uses is `archsim.workload.gpt2`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own idiom)


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
    uniform and stays so for long. `damping` divides it for the projections that end a block.
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
        self.c_proj = Projection(shape.n_embd, shape.n_embd, math.sqrt(2 * shape.n_layer))

    def forward(self, x: Tensor) -> Tensor:  # (batch, tokens, embedding)
        b, t, e = x.shape
        q, k, v = (
            part.view(b, t, self.heads, e // self.heads).transpose(1, 2)
            for part in self.c_attn(x).split(e, dim=2)
        )  # each (batch, heads, tokens, head_dim)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.c_proj(y.transpose(1, 2).reshape(b, t, e))
        return out


class Mlp(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.c_fc = Projection(shape.n_embd, 4 * shape.n_embd)
        self.c_proj = Projection(4 * shape.n_embd, shape.n_embd, math.sqrt(2 * shape.n_layer))

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

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


def sinusoids(positions: int, embedding: int) -> Tensor:
    """Starting point of the learned positions, (positions, embedding).

    From a random start the model had not learnt to look one token back, and so to copy, after 13 M
    tokens; sinusoids make "one token back" a rotation.
    """
    half = embedding // 2
    rates = torch.exp(torch.arange(half) * (-math.log(10000.0) / half))
    angles = torch.arange(positions)[:, None] * rates
    scale = math.sqrt(2 / embedding)
    return scale * torch.cat([angles.sin(), angles.cos()], dim=1)


class Gpt2(nn.Module):
    """Token ids (batch, tokens) to logits (batch, tokens, vocabulary); embeddings tied."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.wte = nn.Embedding(shape.vocab_size, shape.n_embd)
        self.wpe = nn.Embedding(shape.n_positions, shape.n_embd)
        nn.init.normal_(self.wte.weight, std=shape.n_embd**-0.5)
        with torch.no_grad():
            self.wpe.weight.copy_(sinusoids(shape.n_positions, shape.n_embd))
        self.h = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.ln_f = nn.LayerNorm(shape.n_embd)

    def forward(self, ids: Tensor, offset: int = 0) -> Tensor:
        positions = torch.arange(offset, offset + ids.shape[1], device=ids.device)
        x = self.wte(ids) + self.wpe(positions)  # (batch, tokens, embedding)
        for block in self.h:
            x = block(x)
        logits: Tensor = F.linear(self.ln_f(x), self.wte.weight)
        return logits
