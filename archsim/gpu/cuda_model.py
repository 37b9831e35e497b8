"""A whole token of a decoder in plain PyTorch operations, for measuring; its weights are random.

One new token a sequence: every layer projects, writes K and V into a cache of the whole window,
attends to all of it, and runs its MLP. What each line launches is what `archsim.gpu.token`
counts.
"""

from __future__ import annotations

from typing import Any

from archsim.config.transformer import TransformerShape
from archsim.gpu.cuda_attention import attention, torch_type
from archsim.gpu.file import Part
from archsim.gpu.roofline import DecodeAttention

SPREAD = 0.02
"""Of random weights; as GPT-2's."""


class TokenModel:
    """Weights, caches and one step of a token; `step` gives batch, window and precision.

    Shapes: x (B, width), caches (B, G, S, d) a layer, weights (outputs, inputs).
    """

    def __init__(
        self, step: DecodeAttention, shape: TransformerShape, device: str, seed: int = 0
    ) -> None:
        import torch

        generator = torch.Generator(device=device).manual_seed(seed)

        def normal(*size: int, spread: float = 1.0) -> Any:
            kind = torch_type(step.precision)
            drawn = torch.randn(size, generator=generator, device=device, dtype=kind)
            return drawn * spread

        batch, heads, groups, width = step.batch, shape.heads, shape.kv_heads, shape.head_dim
        cache = (batch, groups, step.window, width)
        self.shape, self.batch = shape, batch
        self.x = normal(batch, shape.width)
        self.y = normal(batch, shape.width)
        self.q = [normal(batch, heads, 1, width) for _ in range(shape.layers)]
        self.k = [normal(*cache) for _ in range(shape.layers)]
        self.v = [normal(*cache) for _ in range(shape.layers)]
        self.norms = [
            (normal(shape.width), normal(shape.width)) for _ in range(2 * shape.layers + 1)
        ]
        self.layers = [
            [
                (normal(outputs, inputs, spread=SPREAD), normal(outputs, spread=SPREAD))
                for inputs, outputs in shape.matrices
            ]
            for _ in range(shape.layers)
        ]
        self.embedding = normal(shape.vocabulary, shape.width, spread=SPREAD)

    def run(self, part: Part) -> Any:
        """The logits (B, vocabulary), or of the attention alone its last layer's (B, H, 1, d)."""

        if part == "attention":
            for q, k, v in zip(self.q, self.k, self.v, strict=True):
                output = attention(q, k, v)
            return output
        x = self.x
        for layer in range(self.shape.layers):
            x = self._layer(x, layer, part)
        return self._final(x)

    def _layer(self, x: Any, layer: int, part: Part) -> Any:
        from torch.nn import functional

        shape, (projection, output, first, second) = self.shape, self.layers[layer]
        size = (shape.width,)
        features = functional.layer_norm(x, size, *self.norms[2 * layer])
        keys = shape.kv_heads * shape.head_dim
        projected: Any = functional.linear(features, *projection)
        q, k, v = projected.split((shape.width, keys, keys), -1)
        self.k[layer][:, :, -1] = k.view(self.batch, shape.kv_heads, shape.head_dim)
        self.v[layer][:, :, -1] = v.view(self.batch, shape.kv_heads, shape.head_dim)
        y = self.y
        if part == "whole":
            q = q.view(self.batch, shape.heads, 1, shape.head_dim)
            y = attention(q, self.k[layer], self.v[layer]).reshape(self.batch, shape.width)
        x = x + functional.linear(y, *output)
        features = functional.layer_norm(x, size, *self.norms[2 * layer + 1])
        hidden = functional.gelu(functional.linear(features, *first))
        return x + functional.linear(hidden, *second)

    def _final(self, x: Any) -> Any:
        from torch.nn import functional

        features = functional.layer_norm(x, (self.shape.width,), *self.norms[-1])
        return functional.linear(features, self.embedding)
