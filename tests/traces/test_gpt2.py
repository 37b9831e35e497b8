"""The numpy forward pass against Hugging Face's, and its own properties."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.errors import ConfigError
from archsim.models.gpt2 import Gpt2, Gpt2Config
from archsim.models.huggingface import load_gpt2

from .tiny_gpt2 import CONFIG, write_tiny_gpt2

IDS = np.random.default_rng(5).integers(0, CONFIG["vocab_size"], 20)


@pytest.fixture
def tiny(tmp_path: Path) -> Gpt2:
    write_tiny_gpt2(tmp_path / "tiny")
    return load_gpt2(tmp_path / "tiny")


def reference(folder: Path, save: dict[str, Any], prefix: bool = True, **changes: Any) -> Any:
    """A random torch GPT-2, saved into `folder` by save_pretrained, and its logits of IDS."""
    torch = pytest.importorskip("torch", reason="the reference model needs torch")
    transformers = pytest.importorskip("transformers", reason="the reference is transformers'")
    torch.manual_seed(3)
    sizes = {key: value for key, value in CONFIG.items() if key != "model_type"}
    config = transformers.GPT2Config(
        **(sizes | {"bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.3} | changes)
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if (
                name.endswith("bias") or "ln_" in name
            ):  # initialised to 0 and 1, which tests nothing
                parameter.add_(torch.randn(parameter.shape) * 0.3)
        logits = model(torch.from_numpy(IDS)[None]).logits[0].numpy()
    (model if prefix else model.transformer).save_pretrained(folder, **save)
    return logits


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation_function": "gelu_pytorch_tanh"},
        {"activation_function": "gelu"},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"layer_norm_epsilon": 0.1},
        {"n_inner": 24},
        {"tie_word_embeddings": False},
        {"n_head": 1},
    ],
    ids=str,
)
def test_logits_equal_transformers(tmp_path: Path, changes: dict[str, Any]) -> None:
    expected = reference(tmp_path, {}, **changes)
    assert np.abs(expected).max() > 1.0
    np.testing.assert_allclose(load_gpt2(tmp_path).logits(IDS), expected, rtol=0, atol=1e-4)


def test_every_config_field_matters(tmp_path: Path) -> None:
    """Guards the test above: a field that was ignored would pass it if it changed nothing."""
    reference(tmp_path, {})
    config = json.loads((tmp_path / "config.json").read_text())
    base = load_gpt2(tmp_path).logits(IDS)
    for field, value in (
        ("activation_function", "gelu"),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("layer_norm_epsilon", 0.1),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | {field: value}))
        assert np.abs(load_gpt2(tmp_path).logits(IDS) - base).max() > 2e-4, field


def test_sharded_checkpoint_equals_transformers(tmp_path: Path) -> None:
    expected = reference(tmp_path, {"max_shard_size": "10KB"})
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    np.testing.assert_allclose(load_gpt2(tmp_path).logits(IDS), expected, rtol=0, atol=1e-4)


def test_names_without_prefix_equal_transformers(tmp_path: Path) -> None:
    expected = reference(tmp_path, {}, prefix=False)
    np.testing.assert_allclose(load_gpt2(tmp_path).logits(IDS), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("dtype", "step"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_half_precision_weights_are_widened_exactly(
    tmp_path: Path, dtype: str, step: float
) -> None:
    torch = pytest.importorskip("torch", reason="writes the half-precision checkpoint")
    from safetensors.torch import load_file, save_file

    full = write_tiny_gpt2(tmp_path)
    path = tmp_path / "model.safetensors"
    half = {name: x.to(getattr(torch, dtype)) for name, x in load_file(path).items()}
    save_file(half, path)
    model = load_gpt2(tmp_path)
    np.testing.assert_array_equal(model.weights.wte, half["transformer.wte.weight"].float().numpy())
    assert model.weights.wte.dtype == np.float32
    np.testing.assert_allclose(model.weights.wte, full["wte.weight"], rtol=step, atol=1e-7)


def test_record_sees_q_k_v_without_the_scale(tiny: Gpt2) -> None:
    seen: dict[int, tuple[Any, ...]] = {}
    tiny.forward(IDS, record=lambda layer, *qkv: seen.update({layer: qkv}))
    assert sorted(seen) == [0, 1]
    assert {x.shape for x in seen[0]} == {(4, 20, 4)}
    # layer 0 by hand, in float64: LayerNorm of the embeddings, then one matrix product
    w = tiny.weights
    x = (w.wte[IDS] + w.wpe[:20]).astype(np.float64)
    block = w.blocks[0]
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    qkv = (x * block.ln_1.weight + block.ln_1.bias) @ block.c_attn.weight + block.c_attn.bias
    for part in range(3):
        for head in range(4):
            columns = slice(16 * part + 4 * head, 16 * part + 4 * head + 4)
            np.testing.assert_allclose(seen[0][part][head], qkv[:, columns], atol=1e-5)


def test_attention_can_be_replaced(tiny: Gpt2) -> None:
    base = tiny.logits(IDS)
    np.testing.assert_array_equal(tiny.logits(IDS, attention=tiny.softmax_attention), base)
    layers = []

    def nothing(layer: int, q: Any, k: Any, v: Any) -> Any:
        layers.append(layer)
        return np.zeros(v.shape)  # float64, as an analog datapath returns it

    replaced = tiny.logits(IDS, attention=nothing)
    assert layers == [0, 1]
    assert replaced.dtype == np.float32
    assert np.abs(replaced - base).max() > 1e-2


def test_no_token_sees_the_future(tiny: Gpt2) -> None:
    changed = IDS.copy()
    changed[12] = (changed[12] + 1) % CONFIG["vocab_size"]
    before, after = tiny.logits(IDS), tiny.logits(changed)
    np.testing.assert_array_equal(before[:12], after[:12])
    assert (np.abs(before[12:] - after[12:]).max(axis=1) > 1e-4).all()


def test_same_ids_give_the_same_bits(tiny: Gpt2) -> None:
    np.testing.assert_array_equal(tiny.logits(IDS), tiny.logits(list(IDS)))


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        ([], "at least one"),
        ([[[1, 2]]], "at least one"),
        ([1.5], "at least one"),
        ([1 << 70], "at least one"),
        ([0] * 25, "25 tokens: the model has 24 positions"),
        ([0, 300], "token id 300 at position 1"),
        ([-1], "token id -1 at position 0"),
    ],
)
def test_ids_that_do_not_fit_are_refused(tiny: Gpt2, ids: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        tiny.logits(ids)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"n_head": 3}, "n_embd 16 is not a multiple of n_head 3"),
        ({"n_layer": 0}, "n_layer: 0 is not between"),
        ({"activation_function": "relu"}, "activation_function 'relu' is not one of gelu_new"),
        ({"layer_norm_epsilon": 0.0}, "layer_norm_epsilon"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon"),
    ],
)
def test_config_is_checked(changes: dict[str, Any], match: str) -> None:
    sizes = {key: value for key, value in CONFIG.items() if key != "model_type"}
    with pytest.raises(ConfigError, match=match):
        Gpt2Config(**(sizes | changes))


def test_a_batch_gives_what_its_sequences_give(tiny: Gpt2) -> None:
    ids = np.random.default_rng(2).integers(0, 300, (3, 20))
    together = tiny.logits(ids)
    assert together.shape == (3, 20, 300)
    for row, logits in zip(ids, together, strict=True):
        np.testing.assert_allclose(logits, tiny.logits(row), rtol=0, atol=1e-5)
