"""A GPT-2 in torch whose attention is the hardware's, with trainable scalers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from archsim.adaptation.attention import AnalogAttention
from archsim.errors import ConfigError
from archsim.models.gpt2 import Gpt2 as ReferenceGpt2
from archsim.models.gpt2 import Gpt2Config
from archsim.models.huggingface import disassemble
from archsim.models.training.model import Gpt2, Shape
from archsim.traces.scalers import SCALED, Scaler

_FIXED = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "tie_word_embeddings": (True,),
}
"""What `archsim.models.training.model` implements of a GPT-2 config."""


def torch_shape(config: Gpt2Config, where: str | Path) -> Shape:
    """The sizes of a GPT-2 that can be trained here.

    Raises ConfigError for a variant that only the numpy forward pass implements.
    """
    for name, accepted in _FIXED.items():
        if getattr(config, name) not in accepted:
            raise ConfigError(
                f"{where}: {name} {getattr(config, name)!r} cannot be trained; "
                "direct scaler search and scaler matching need no training"
            )
    if config.hidden != 4 * config.n_embd:
        raise ConfigError(f"{where}: n_inner {config.hidden} is not 4 x n_embd: cannot be trained")
    return Shape(
        config.vocab_size, config.n_positions, config.n_embd, config.n_layer, config.n_head
    )


def trainable(reference: ReferenceGpt2, where: str | Path, dtype: torch.dtype) -> Gpt2:
    """The torch model with the weights of the numpy one."""
    model = Gpt2(torch_shape(reference.config, where), planted=False).to(dtype)
    state = {name: torch.tensor(x, dtype=dtype) for name, x in disassemble(reference).items()}
    model.load_state_dict(state)
    return model


class Scalers(nn.Module):
    """Gains and offsets of q, k, v and output, each (layers, heads), as parameters."""

    def __init__(self, scalers: Mapping[str, Scaler], dtype: torch.dtype) -> None:
        super().__init__()
        self.gain, self.offset = nn.ParameterDict(), nn.ParameterDict()
        for name in SCALED:
            a, b = (torch.tensor(x, dtype=dtype) for x in scalers[name])
            self.gain[name], self.offset[name] = nn.Parameter(a), nn.Parameter(b)

    def apply_to(self, name: str, layer: int, x: Tensor) -> Tensor:
        """``a x + b`` of one layer, x (batch, heads, tokens, head_dim) (FACTS 2.2 and 2.9)."""
        scaled: Tensor = (
            x * self.gain[name][layer, :, None, None] + self.offset[name][layer, :, None, None]
        )
        return scaled

    def arrays(self) -> dict[str, Scaler]:
        """As float64 numpy arrays."""

        def array(x: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
            return x.detach().numpy().astype(np.float64)

        return {name: (array(self.gain[name]), array(self.offset[name])) for name in SCALED}


class AnalogKernel(nn.Module):
    """Attention of every layer on the hardware: scalers, arrays, output scaler."""

    def __init__(self, attention: AnalogAttention, scalers: Scalers) -> None:
        super().__init__()
        self.attention, self.scalers = attention, scalers

    def forward(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scaled = (
            self.scalers.apply_to(name, layer, x) for name, x in (("q", q), ("k", k), ("v", v))
        )
        with torch.autocast("cpu", enabled=False):
            summed = self.attention(*scaled)
        return self.scalers.apply_to("output", layer, summed)
