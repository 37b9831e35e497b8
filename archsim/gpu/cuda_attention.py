"""Decode attention in PyTorch: its tensors, its kernels, and the check of what it computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from archsim.errors import InvariantError
from archsim.gpu.file import Precision
from archsim.gpu.plan import Kernel
from archsim.gpu.roofline import DecodeAttention

TOLERANCE = 0.02
"""Of the check: half precision on the GPU against single from the definition."""


def torch_type(precision: Precision) -> Any:
    """The torch dtype of a precision."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def tensors(step: DecodeAttention, device: str, seed: int = 0) -> tuple[Any, Any, Any]:
    """q (B, H, 1, d), K and V (B, G, S, d), normal random numbers."""
    import torch

    generator = torch.Generator(device=device).manual_seed(seed)

    def normal(heads: int, tokens: int) -> Any:
        shape = (step.batch, heads, tokens, step.head_dim)
        kind = torch_type(step.precision)
        return torch.randn(shape, generator=generator, device=device, dtype=kind)

    cache = (step.groups, step.window)
    return normal(step.heads, 1), normal(*cache), normal(*cache)


@contextmanager
def only(kernel: Kernel | None) -> Iterator[None]:
    """Inside it PyTorch's attention has that kernel and no other; None leaves it all of them.

    So a GPU without the kernel fails instead of passing for one that has it. Entered once around
    many calls: entering it costs a launch's time.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backends: dict[Kernel, Any] = {
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "math": SDPBackend.MATH,
    }
    chosen = list(backends.values()) if kernel is None else [backends[kernel]]
    with torch.inference_mode(), sdpa_kernel(chosen):
        yield


def attention(q: Any, k: Any, v: Any) -> Any:
    """One query a sequence against every token of the window: no mask, no ``is_causal``.

    ``is_causal`` with a single query would attend to token 0 only. Fewer K and V than q: grouped
    queries.
    """
    import torch

    grouped = k.shape[1] != q.shape[1]
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=grouped)


def check_output(output: Any, q: Any, k: Any, v: Any) -> None:
    """Raises InvariantError unless `output` is attention over every token, to a few per cent.

    Of the first sequence, computed again in fp32 from the definition.
    """
    import torch

    q, k, v = (tensor[0].float() for tensor in (q, k, v))
    k, v = (tensor.repeat_interleave(len(q) // len(tensor), dim=0) for tensor in (k, v))
    weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
    if not torch.allclose(output[0].float(), weights @ v, rtol=TOLERANCE, atol=TOLERANCE):
        raise InvariantError("the GPU's output is not attention over the whole window")
