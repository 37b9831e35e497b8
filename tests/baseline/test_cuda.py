"""What of the CUDA backend runs on a CPU: the attention, its tensors, its check and the refusal."""

from __future__ import annotations

import sys

import pytest
import torch

from archsim.baseline.cuda import attention, check_output, open_device, tensors
from archsim.baseline.roofline import DecodeAttention
from archsim.errors import InvariantError, MissingExtraError

STEP = DecodeAttention(1, 3, 16, 40, 2, "fp32")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_tensors_hold_exactly_the_bytes_of_the_model(precision):
    step = DecodeAttention(1, 3, 16, 40, 2, precision)
    q, k, v = tensors(step, "cpu")
    assert q.shape == (2, 3, 1, 16)
    assert k.shape == v.shape == (2, 3, 40, 16)
    assert k.nbytes + v.nbytes == step.layer_cache_bytes
    assert q.nbytes + k.nbytes + v.nbytes + q.nbytes == step.layer_bytes  # y is like q
    assert torch.equal(tensors(step, "cpu")[1], k)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_token_is_attended_to(implementation, precision):
    step = DecodeAttention(1, 3, 16, 40, 2, precision)
    q, k, v = tensors(step, "cpu")
    output = attention(implementation, q, k, v)
    check_output(output, q, k, v)
    for token in (0, 20, 39):  # a change of any token's value changes the output
        changed = v.clone()
        changed[:, :, token] += 10
        assert not torch.allclose(attention(implementation, q, k, changed), output, atol=1e-2)


def test_the_mask_of_the_paper_does_not_pass():
    """is_causal with one query attends to token 0 alone: FACTS 4, and the reason for the check."""
    q, k, v = tensors(STEP, "cpu")
    output = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.allclose(output, v[:, :, :1], atol=1e-6)
    with pytest.raises(InvariantError, match="not attention over the whole window"):
        check_output(output, q, k, v)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so nothing to refuse")
def test_no_gpu_is_one_line():
    with pytest.raises(MissingExtraError, match="no CUDA GPU here") as caught:
        open_device()
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("package", ["torch", "pynvml"])
def test_a_missing_package_is_one_line(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, "pynvml" if package == "torch" else "torch", torch)
    with pytest.raises(MissingExtraError, match=r"pip install 'archsim\[gpu\]'"):
        open_device()
