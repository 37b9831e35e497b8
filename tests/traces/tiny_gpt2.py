"""A random GPT-2 folder of a few kilobytes, made without torch, for the tests that need a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

TEXT = "It is a truth universally acknowledged, that a single man in possession of a good fortune, "

CONFIG: dict[str, Any] = {
    "model_type": "gpt2",
    "vocab_size": 300,
    "n_positions": 24,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 4,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
}


def random_tensors(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Parameters in Hugging Face's names and shapes, without the prefix."""
    rng = np.random.default_rng(seed)
    e, vocabulary, positions = config["n_embd"], config["vocab_size"], config["n_positions"]
    inner = config.get("n_inner") or 4 * e

    def normal(*shape: int, mean: float = 0.0) -> np.ndarray:
        return rng.normal(mean, 0.2, shape).astype(np.float32)

    tensors = {"wte.weight": normal(vocabulary, e), "wpe.weight": normal(positions, e)}
    norms = ["ln_f"]
    for layer in range(config["n_layer"]):
        h = f"h.{layer}"
        norms += [f"{h}.ln_1", f"{h}.ln_2"]
        for name, inputs, outputs in (
            (f"{h}.attn.c_attn", e, 3 * e),
            (f"{h}.attn.c_proj", e, e),
            (f"{h}.mlp.c_fc", e, inner),
            (f"{h}.mlp.c_proj", inner, e),
        ):
            tensors[f"{name}.weight"] = normal(inputs, outputs)
            tensors[f"{name}.bias"] = normal(outputs)
    for name in norms:
        tensors[f"{name}.weight"] = normal(e, mean=1.0)
        tensors[f"{name}.bias"] = normal(e)
    return tensors


def write_tokenizer(folder: Path) -> None:
    """vocab.json and merges.txt: the 256 bytes and a few merges."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        [TEXT],
        vocab_size=CONFIG["vocab_size"],
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.save_model(str(folder))


def write_tiny_gpt2(
    folder: Path, seed: int = 0, prefix: str = "transformer.", **changes: Any
) -> dict[str, np.ndarray]:
    """Write the folder, `changes` in its config.json, and return the tensors without prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG | changes
    (folder / "config.json").write_text(json.dumps(config))
    tensors = random_tensors(config, seed)
    save_file({prefix + name: x for name, x in tensors.items()}, folder / "model.safetensors")
    write_tokenizer(folder)
    return tensors
