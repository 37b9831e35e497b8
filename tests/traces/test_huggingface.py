"""Model folders that are incomplete, damaged, hostile, or simply not GPT-2."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from archsim.errors import ArchsimError, ConfigError, CorruptInputError
from archsim.models.huggingface import checkpoint_sha256, load_gpt2
from archsim.models.tokenizer import load_tokenizer, tokenizer_files

from .tiny_gpt2 import CONFIG, TEXT, write_tiny_gpt2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_gpt2(tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))


def edit_tensors(folder: Path, edit: Callable[[dict[str, np.ndarray]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def shard(folder: Path, names: tuple[str, str] = ("a.safetensors", "b.safetensors")) -> None:
    """Split the checkpoint in two files and an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {name: names[i % 2] for i, name in enumerate(sorted(tensors))}
    for file in names:
        part = {name: x for name, x in tensors.items() if weight_map[name] == file}
        save_file(part, folder / file)
    write_index(folder, weight_map)


def write_index(folder: Path, weight_map: object) -> None:
    text = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(text)


def test_mask_buffers_and_a_tied_copy_are_ignored(folder: Path) -> None:
    expected = load_gpt2(folder).logits([1, 2, 3])

    def add(tensors: dict[str, np.ndarray]) -> None:
        tensors["transformer.h.0.attn.bias"] = np.ones((1, 1, 24, 24), np.uint8)
        tensors["transformer.h.1.attn.masked_bias"] = np.array(-1e4, np.float32)
        tensors["lm_head.weight"] = tensors["transformer.wte.weight"].copy()

    edit_tensors(folder, add)
    model = load_gpt2(folder)
    np.testing.assert_array_equal(model.logits([1, 2, 3]), expected)
    assert model.weights.lm_head is model.weights.wte  # held once


def test_tied_but_different_output_embedding_is_refused(folder: Path) -> None:
    edit_tensors(
        folder, lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"] + np.float32(1)})
    )
    with pytest.raises(ConfigError, match="tie_word_embeddings is true"):
        load_gpt2(folder)
    edit_config(folder, tie_word_embeddings=False)
    model = load_gpt2(folder)
    np.testing.assert_array_equal(model.weights.lm_head, model.weights.wte + np.float32(1))


def test_sharded_folder_equals_the_single_file(folder: Path) -> None:
    expected = load_gpt2(folder).logits([1, 2, 3])
    whole = checkpoint_sha256(folder)
    shard(folder)
    np.testing.assert_array_equal(load_gpt2(folder).logits([1, 2, 3]), expected)
    sharded = checkpoint_sha256(folder)
    assert sharded != whole
    edit = load_file(folder / "b.safetensors")
    name = next(iter(edit))
    save_file(edit | {name: edit[name] + np.float32(1)}, folder / "b.safetensors")
    assert checkpoint_sha256(folder) != sharded


@pytest.mark.parametrize(
    "name",
    ["../model/a.safetensors", "/etc/passwd", "..", "", "x\\..\\a.safetensors", "a.bin", 3, None],
)
def test_shards_stay_inside_the_folder(folder: Path, name: object) -> None:
    shard(folder)
    write_index(folder, {"wte.weight": name})
    with pytest.raises(CorruptInputError, match="is not the name of a shard in this folder"):
        load_gpt2(folder)


@pytest.mark.parametrize("weight_map", [None, [], {}, "a"])
def test_an_index_without_a_map_is_damage(folder: Path, weight_map: object) -> None:
    (folder / "model.safetensors").unlink()
    write_index(folder, weight_map)
    with pytest.raises(CorruptInputError, match="no weight_map"):
        load_gpt2(folder)


def test_a_missing_or_repeated_shard_is_named(folder: Path) -> None:
    shard(folder)
    shutil.copy(folder / "a.safetensors", folder / "b.safetensors")
    with pytest.raises(ConfigError, match="occurs twice"):
        load_gpt2(folder)
    (folder / "b.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"shard b\.safetensors of .* is missing"):
        load_gpt2(folder)


def test_a_pickle_is_refused_with_the_way_to_convert_it(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"a pickle.*not read; convert it.*save_pretrained"):
        load_gpt2(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ConfigError, match=r"no model\.safetensors in this folder"):
        load_gpt2(folder)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "llama"}, "model_type 'llama' is not 'gpt2'"),
        ({"model_type": None}, "model_type None is not 'gpt2'"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"n_embd": "16"}, "n_embd: '16' is not int"),
        ({"n_layer": True}, "n_layer: True is not int"),
        ({"n_layer": 2.0}, r"n_layer: 2\.0 is not int"),
        ({"n_inner": "x"}, "n_inner: 'x' is not int or NoneType"),
        ({"n_layer": 10**9}, "n_layer: 1000000000 is not between 1 and 1024"),
        ({"layer_norm_epsilon": -1}, r"config\.json: layer_norm_epsilon"),
        ({"activation_function": "swish"}, r"config\.json: activation_function 'swish'"),
        ({"n_layer": 3}, r"tensor h\.2\.attn\.c_attn\.weight is missing \(and 11 more\)"),
        ({"n_layer": 1}, r"'h\.1\..*' does not belong to the GPT-2 of config\.json \(and 11 more"),
        ({"vocab_size": 299}, r"wte\.weight has shape \(300, 16\), config\.json asks for \(299"),
        ({"tie_word_embeddings": False}, r"tensor lm_head\.weight is missing;"),
    ],
)
def test_configs_that_do_not_fit_are_refused(
    folder: Path, changes: dict[str, Any], match: str
) -> None:
    edit_config(folder, **changes)
    with pytest.raises(ConfigError, match=match):
        load_gpt2(folder)


def test_a_missing_size_is_named(folder: Path) -> None:
    config = {key: value for key, value in CONFIG.items() if key != "n_head"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="n_head is missing"):
        load_gpt2(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, "\udc00", "9" * 5000])
def test_damaged_config_is_corrupt(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CorruptInputError, match=r"config\.json: not"):
        load_gpt2(folder)


def test_missing_folder_and_config_are_config_errors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        load_gpt2(tmp_path / "absent")
    (folder / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json: cannot be read"):
        load_gpt2(folder)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_not_finite_are_named(folder: Path, bad: float) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors["transformer.h.1.mlp.c_fc.weight"][3, 4] = bad

    edit_tensors(folder, spoil)
    with pytest.raises(CorruptInputError, match=r"h\.1\.mlp\.c_fc\.weight\[3, 4\] is (nan|inf)"):
        load_gpt2(folder)


def test_other_tensors_and_dtypes_are_refused(folder: Path) -> None:
    original = (folder / "model.safetensors").read_bytes()
    edit_tensors(folder, lambda t: t.update({"h.0.crossattention.bias": np.zeros(1, np.float32)}))
    with pytest.raises(ConfigError, match=r"'h\.0\.crossattention\.bias' does not belong"):
        load_gpt2(folder)
    (folder / "model.safetensors").write_bytes(original)
    name = "transformer.ln_f.bias"
    edit_tensors(folder, lambda t: t.update({name: t[name].astype(np.int8)}))
    with pytest.raises(ConfigError, match=r"ln_f\.bias has dtype I8"):
        load_gpt2(folder)
    (folder / "model.safetensors").write_bytes(original)
    edit_tensors(folder, lambda t: t.update({"ln_f.bias": t[name].copy()}))
    with pytest.raises(ConfigError, match=r"'ln_f\.bias' occurs twice"):
        load_gpt2(folder)


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_truncated_weights_are_corrupt(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptInputError, match="truncated"):
        load_gpt2(folder)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    edits=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=3),
    file=st.sampled_from(["model.safetensors", "config.json", "vocab.json", "merges.txt"]),
)
def test_mutated_folders_raise_nothing_but_our_errors(
    folder: Path, edits: list[tuple[int, int]], file: str
) -> None:
    damaged = folder.parent / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(folder, damaged)
    data = bytearray((damaged / file).read_bytes())
    for place, value in edits:
        data[place % len(data)] = value
    (damaged / file).write_bytes(data)
    try:
        model = load_gpt2(damaged)
        tokenizer = load_tokenizer(damaged)
        tokenizer.encode(TEXT)
    except ArchsimError:
        return
    assert np.isfinite(model.weights.wte).all()


def test_tokenizer_goes_there_and_back(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    text = TEXT + "naïve 🙂 \x00\t<|endoftext|>"
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(tokenizer.encode(TEXT)) < len(TEXT)  # the merges were used
    assert ids[-1] == tokenizer.encode("<|endoftext|>")[0] == 0
    assert len(tokenizer.encode("<|endoftext|>")) == 1


def test_tokenizer_json_gives_the_same_ids_and_goes_first(folder: Path) -> None:
    pair = load_tokenizer(folder)
    pair._library.save(str(folder / "tokenizer.json"))
    assert [path.name for path in tokenizer_files(folder)] == ["tokenizer.json"]
    single = load_tokenizer(folder)
    assert single.encode(TEXT) == pair.encode(TEXT)
    assert single.sha256 != pair.sha256
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptInputError, match="not a tokenizer"):
        load_tokenizer(folder)


def test_tokenizer_hash_covers_both_files(folder: Path) -> None:
    before = load_tokenizer(folder).sha256
    merges = (folder / "merges.txt").read_text().splitlines()
    (folder / "merges.txt").write_text("\n".join(merges[:-1]) + "\n")
    assert load_tokenizer(folder).sha256 != before


def test_other_tokenizers_are_refused(folder: Path) -> None:
    from tokenizers import Tokenizer, models

    for name in ("vocab.json", "merges.txt"):
        path = folder / name
        saved = path.read_bytes()
        path.unlink()
        with pytest.raises(ConfigError, match="give token ids with --tokens"):
            load_tokenizer(folder)
        path.write_bytes(saved)
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(folder / "tokenizer.json"))
    with pytest.raises(ConfigError, match="a WordLevel tokenizer, BPE is needed"):
        load_tokenizer(folder)
    Tokenizer(models.BPE({"a": 0}, [])).save(str(folder / "tokenizer.json"))
    with pytest.raises(ConfigError, match="255 of 256 byte symbols are missing"):
        load_tokenizer(folder)
