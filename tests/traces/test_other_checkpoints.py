"""GPT-2 as other programs store it: wrapped names, Linear weights, no biases."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from archsim.errors import ConfigError
from archsim.models.gpt2 import Gpt2
from archsim.models.huggingface import load_gpt2
from archsim.models.record import record

from .tiny_gpt2 import CONFIG, write_tiny_gpt2

Tensors = dict[str, np.ndarray]
IDS = [7, 1, 250, 12]
PROJECTION = re.compile(r".*(c_attn|c_proj|c_fc)\.weight")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_gpt2(tmp_path / "model", prefix="")
    return tmp_path / "model"


def rewrite(folder: Path, edit: Callable[[Tensors], Tensors]) -> None:
    path = folder / "model.safetensors"
    save_file(edit(load_file(path)), path)


def transposed(tensors: Tensors) -> Tensors:
    return {
        name: np.ascontiguousarray(x.T) if PROJECTION.fullmatch(name) else x
        for name, x in tensors.items()
    }


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod.transformer."]
)
def test_names_of_wrappers_are_read(folder: Path, prefix: str) -> None:
    expected = load_gpt2(folder).logits(IDS)
    rewrite(folder, lambda t: {prefix + name: x for name, x in t.items()})
    np.testing.assert_array_equal(load_gpt2(folder).logits(IDS), expected)


def test_a_wrapper_inside_a_name_is_read_and_two_of_one_name_are_not(folder: Path) -> None:
    expected = load_gpt2(folder).logits(IDS)
    rewrite(folder, lambda t: {n.replace("h.1.", "h.1._orig_mod."): x for n, x in t.items()})
    np.testing.assert_array_equal(load_gpt2(folder).logits(IDS), expected)
    rewrite(folder, lambda t: t | {"module.ln_f.bias": t["ln_f.bias"] + 1})
    with pytest.raises(ConfigError, match=r"occurs twice, as '.*ln_f\.bias' and as '.*ln_f\.bias'"):
        load_gpt2(folder)


@pytest.mark.parametrize("changes", [{}, {"n_inner": 16}])  # the second: every MLP weight square
def test_linear_weights_are_told_by_their_shape(tmp_path: Path, changes: dict[str, int]) -> None:
    folder = tmp_path / "model"
    write_tiny_gpt2(folder, seed=3, **changes)
    expected = load_gpt2(folder).logits(IDS)
    rewrite(folder, transposed)
    model = load_gpt2(folder)
    np.testing.assert_array_equal(model.logits(IDS), expected)
    assert model.weights.blocks[1].c_fc.weight.flags.c_contiguous


def test_a_mixture_of_both_layouts_is_refused(folder: Path) -> None:
    def mix(tensors: Tensors) -> Tensors:
        return transposed(tensors) | {"h.1.mlp.c_fc.weight": tensors["h.1.mlp.c_fc.weight"]}

    rewrite(folder, mix)
    with pytest.raises(
        ConfigError, match=r"h\.1\.mlp\.c_fc\.weight has shape \(16, 64\).*asks for \(64, 16\); "
    ):
        load_gpt2(folder)


def without_biases(tensors: Tensors, keep: str = "") -> Tensors:
    kept = re.compile(keep) if keep else None
    return {
        name: x
        for name, x in tensors.items()
        if not name.endswith(".bias") or (kept and kept.search(name))
    }


def zeros_for(tensors: Tensors, keep: str = "") -> Tensors:
    kept = without_biases(tensors, keep)
    return {name: x if name in kept else np.zeros_like(x) for name, x in tensors.items()}


@pytest.mark.parametrize("keep", ["", "ln_", "c_"])
def test_a_model_without_biases_is_one_whose_biases_are_zero(folder: Path, keep: str) -> None:
    saved = load_file(folder / "model.safetensors")
    rewrite(folder, lambda t: zeros_for(t, keep))
    expected = load_gpt2(folder).logits(IDS)
    save_file(without_biases(saved, keep), folder / "model.safetensors")
    np.testing.assert_array_equal(load_gpt2(folder).logits(IDS), expected)


def test_some_biases_of_a_kind_are_not_enough(folder: Path) -> None:
    rewrite(folder, lambda t: without_biases(t, r"h\.0\.mlp\.c_fc"))
    with pytest.raises(ConfigError, match=r"tensor h\.0\.attn\.c_attn\.bias is missing"):
        load_gpt2(folder)


def test_nanogpt_as_it_is_saved(folder: Path) -> None:
    """bias=False, compiled, torch.nn.Linear, mask buffers: the model that nanoGPT computes."""

    def nanogpt(tensors: Tensors) -> Tensors:
        stored = {f"_orig_mod.transformer.{n}": x for n, x in transposed(tensors).items()}
        stored = without_biases(stored)
        stored["_orig_mod.transformer.h.0.attn.bias"] = np.ones((1, 1, 24, 24), np.float32)
        stored["_orig_mod.lm_head.weight"] = tensors["wte.weight"].copy()
        return stored

    rewrite(folder, nanogpt)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"bias": False, "dropout": 0.0}))
    model = load_gpt2(folder)
    tensors = load_file(folder / "model.safetensors")
    np.testing.assert_allclose(model.logits(IDS), nanogpt_logits(model, tensors), atol=5e-6)
    assert record(folder, token_ids=IDS).tokens == len(IDS)


def nanogpt_logits(model: Gpt2, stored: Tensors) -> np.ndarray:
    """The forward pass of nanoGPT, written out on the tensors as they are stored."""
    t = {n.removeprefix("_orig_mod.transformer."): x.astype(np.float64) for n, x in stored.items()}
    heads, e = model.config.n_head, model.config.n_embd

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        spread = np.sqrt(x.var(-1, keepdims=True) + model.config.layer_norm_epsilon)
        return (x - x.mean(-1, keepdims=True)) / spread * t[f"{name}.weight"]

    x = t["wte.weight"][IDS] + t["wpe.weight"][: len(IDS)]
    for layer in range(model.config.n_layer):
        h = f"h.{layer}"
        qkv = norm(x, f"{h}.ln_1") @ t[f"{h}.attn.c_attn.weight"].T
        q, k, v = (part.reshape(len(IDS), heads, -1) for part in np.split(qkv, 3, axis=1))
        y = np.empty((len(IDS), e))
        for i in range(len(IDS)):
            for head in range(heads):
                scores = k[: i + 1, head] @ q[i, head] / np.sqrt(e // heads)
                weights = np.exp(scores - scores.max())
                width = slice(head * e // heads, (head + 1) * e // heads)
                y[i, width] = weights @ v[: i + 1, head] / weights.sum()
        x = x + y @ t[f"{h}.attn.c_proj.weight"].T
        z = norm(x, f"{h}.ln_2") @ t[f"{h}.mlp.c_fc.weight"].T
        gelu = 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
        x = x + gelu @ t[f"{h}.mlp.c_proj.weight"].T
    logits: np.ndarray = norm(x, "ln_f") @ t["wte.weight"].T
    return logits
