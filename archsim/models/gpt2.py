"""GPT-2 in numpy: the software reference that traces are recorded from.

Architecture and parameter names after Radford et al., *Language Models are Unsupervised Multitask
Learners* (2019), as stored by Hugging Face: learned positions, LayerNorm before each branch, causal
softmax attention, GELU, output embedding tied to the input's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ConfigError

Array = NDArray[np.floating]

Attention = Callable[[int, Array, Array, Array], Array]
"""(layer, q, k, v) to y; q, k, v and y are (heads, tokens, head_dim), q without 1/sqrt(head_dim).

The causal mask is the callable's own business.
"""

Record = Callable[[int, Array, Array, Array], None]
"""Called once a layer with (layer, q, k, v), shaped as for `Attention`."""

MAX_SIZE, MAX_LAYERS = 1 << 24, 1024


@dataclass(frozen=True)
class Gpt2Config:
    """The fields of a Hugging Face ``config.json`` that the forward pass depends on.

    Raises ConfigError for sizes that do not fit together and an activation not implemented.
    """

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            limit = MAX_LAYERS if item.name == "n_layer" else MAX_SIZE
            if type(value) is int and not 1 <= value <= limit:
                raise ConfigError(f"{item.name}: {value} is not between 1 and {limit}")
        if self.n_embd % self.n_head:
            raise ConfigError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")
        if self.activation_function not in ACTIVATIONS:
            raise ConfigError(
                f"activation_function {self.activation_function!r} is not one of "
                f"{', '.join(ACTIVATIONS)}"
            )
        if not 0.0 < self.layer_norm_epsilon < 1.0:
            raise ConfigError(f"layer_norm_epsilon {self.layer_norm_epsilon} is not in (0, 1)")

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    @property
    def hidden(self) -> int:
        """Width of the MLP."""
        return self.n_inner or 4 * self.n_embd


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """Normalises the last axis; weight and bias (embedding,)."""

    weight: Array
    bias: Array

    def __call__(self, x: Array, epsilon: float) -> Array:  # (tokens, embedding)
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)  # (tokens, 1)
        result: Array = centred / np.sqrt(variance + epsilon) * self.weight + self.bias
        return result


@dataclass(frozen=True, eq=False)
class Projection:
    """``x @ weight + bias``; weight (inputs, outputs), bias (outputs,)."""

    weight: Array
    bias: Array

    def __call__(self, x: Array) -> Array:  # (tokens, inputs) -> (tokens, outputs)
        result: Array = x @ self.weight + self.bias
        return result


@dataclass(frozen=True, eq=False)
class Block:
    """The parameters of one layer; E is the embedding, I the MLP's width."""

    ln_1: LayerNorm
    c_attn: Projection  # (E, 3E): q, k and v side by side
    attn_c_proj: Projection  # (E, E)
    ln_2: LayerNorm
    c_fc: Projection  # (E, I)
    mlp_c_proj: Projection  # (I, E)


@dataclass(frozen=True, eq=False)
class Gpt2Weights:
    """All parameters, in one floating-point type."""

    wte: Array  # (vocabulary, E)
    wpe: Array  # (positions, E)
    blocks: Sequence[Block]
    ln_f: LayerNorm
    lm_head: Array  # (vocabulary, E); the same array as wte where the two are tied


class Gpt2:
    """The model; computes in the type of its weights (float32 as loaded)."""

    def __init__(self, config: Gpt2Config, weights: Gpt2Weights) -> None:
        self.config = config
        self.weights = weights

    def logits(
        self, ids: Sequence[int] | NDArray[Any], attention: Attention | None = None
    ) -> Array:
        """Next-token logits (..., tokens, vocabulary) for ids (..., tokens); see `forward`."""
        return self.forward(ids, attention=attention) @ self.weights.lm_head.T

    def forward(
        self,
        ids: Sequence[int] | NDArray[Any],
        record: Record | None = None,
        attention: Attention | None = None,
    ) -> Array:
        """Hidden states after the last LayerNorm, (..., tokens, embedding), for ids (..., tokens).

        ids may be one sequence or a batch (batch, tokens); the heads of a batch stand side by side:
        q, k and v are then (batch x heads, tokens, head_dim).
        `record` sees q, k, v of every layer; `attention` replaces the softmax attention.
        Raises ConfigError for no token, more than n_positions, or an id outside the vocabulary.
        """
        tokens = self._checked(ids)  # (..., T)
        config, weights = self.config, self.weights
        attention = attention or self.softmax_attention
        epsilon = config.layer_norm_epsilon
        activation = ACTIVATIONS[config.activation_function]
        x = weights.wte[tokens] + weights.wpe[: tokens.shape[-1]]  # (..., T, E)
        for layer, block in enumerate(weights.blocks):
            qkv = block.c_attn(block.ln_1(x, epsilon))  # (..., T, 3E)
            q, k, v = (self._split_heads(part) for part in np.split(qkv, 3, axis=-1))  # (H, T, D)
            if record is not None:
                record(layer, q, k, v)
            y = attention(layer, q, k, v)  # (H, T, D)
            joined = self._join_heads(y, x.shape).astype(x.dtype, copy=False)
            x = x + block.attn_c_proj(joined)  # (..., T, E)
            hidden = activation(block.c_fc(block.ln_2(x, epsilon)))  # (..., T, I)
            x = x + block.mlp_c_proj(hidden)  # (..., T, E)
        return weights.ln_f(x, epsilon)

    def softmax_attention(self, layer: int, q: Array, k: Array, v: Array) -> Array:
        """Causal softmax attention; q, k, v and the result are (heads, tokens, head_dim)."""
        scores = (q @ k.transpose(0, 2, 1)) * self.score_scale(layer)  # (H, T, T): query i, key j
        future = np.triu(np.ones(scores.shape[1:], bool), 1)  # (T, T): j > i
        scores[:, future] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores, out=scores)
        weights /= weights.sum(axis=-1, keepdims=True)
        y: Array = weights @ v  # (H, T, D)
        return y

    def score_scale(self, layer: int) -> float:
        """What softmax attention multiplies q.k with."""
        scale = 1.0
        if self.config.scale_attn_weights:
            scale /= math.sqrt(self.config.head_dim)
        if self.config.scale_attn_by_inverse_layer_idx:
            scale /= layer + 1
        return scale

    def _split_heads(self, x: Array) -> Array:  # (..., T, E) -> (... x H, T, D)
        tokens, heads, width = x.shape[-2], self.config.n_head, self.config.head_dim
        split = x.reshape(-1, tokens, heads, width).transpose(0, 2, 1, 3)
        return split.reshape(-1, tokens, width)

    def _join_heads(self, y: Array, shape: tuple[int, ...]) -> Array:  # (... x H, T, D) -> shape
        heads, width = self.config.n_head, self.config.head_dim
        split = y.reshape(-1, heads, shape[-2], width).transpose(0, 2, 1, 3)
        return split.reshape(shape)

    def _checked(self, ids: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
        tokens = np.asarray(ids)
        if tokens.ndim not in (1, 2) or tokens.size == 0 or tokens.dtype.kind not in "iu":
            raise ConfigError("token ids: need at least one, as a list of integers")
        if tokens.shape[-1] > self.config.n_positions:
            raise ConfigError(
                f"{tokens.shape[-1]} tokens: the model has {self.config.n_positions} positions; "
                "use a shorter length"
            )
        outside = np.argwhere((tokens < 0) | (tokens >= self.config.vocab_size))
        if outside.size:
            place = tuple(outside[0])
            raise ConfigError(
                f"token id {int(tokens[place])} at position {int(place[-1])}: the model's "
                f"vocabulary has ids 0 to {self.config.vocab_size - 1}; "
                "text and model may not belong together"
            )
        return tokens.astype(np.int64)


def gelu_tanh(x: Array) -> Array:
    """GELU by tanh, the form GPT-2 was trained with (Hendrycks and Gimpel, arXiv 1606.08415)."""
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)
    result: Array = 0.5 * x * (1.0 + np.tanh(inner))
    return result


def gelu_exact(x: Array) -> Array:
    """GELU by the error function, which numpy lacks and `math` has for one number at a time."""
    erf = np.fromiter(map(math.erf, (x / math.sqrt(2.0)).flat), x.dtype, x.size).reshape(x.shape)
    result: Array = 0.5 * x * (1.0 + erf)
    return result


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu": gelu_exact,
}
"""Hugging Face's names of the activations to their functions."""
