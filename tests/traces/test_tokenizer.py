"""Tokenizers as folders of all ages hold them, beside Hugging Face's own reading of them."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.errors import ConfigError, CorruptInputError
from archsim.models.record import read_text, record
from archsim.models.tokenizer import load_tokenizer, tokenizer_files
from archsim.traces.text_file import read_utf8

from .tiny_gpt2 import CONFIG, TEXT, write_tiny_gpt2, write_tokenizer

CASES = Path(os.environ.get("ARCHSIM_REFERENCE_DATA", "absent")).parent / "cases"
VOCABULARY = 263
"""Ids of the tiny tokenizer: 256 bytes, one special token, six merges."""
PIECES = ["<|user|>", "<|bot|>", "<|endoftext|>", "[PAD]", "<|use", "r|>", "truth", " a", "\r\n"]
PIECES += ["  ", "naïve 🙂", "\x00\t", "<|user|><|bot|>", "\ufeff", "don't"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path)
    assert len(json.loads((tmp_path / "vocab.json").read_bytes())) == VOCABULARY
    config = {k: CONFIG[k] for k in ("n_embd", "n_head", "n_layer", "n_positions", "vocab_size")}
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    return tmp_path


def add(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def random_texts(seed: int, count: int = 60) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(PIECES, rng.integers(1, 9))) for _ in range(count)]


def theirs(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers", reason="compares with transformers")
    return transformers.GPT2Tokenizer.from_pretrained(str(folder))


def old_folder(folder: Path) -> None:
    add(folder, "added_tokens.json", {"<|bot|>": VOCABULARY + 1, "<|user|>": VOCABULARY})


def special_map(folder: Path) -> None:
    old_folder(folder)
    add(folder, "special_tokens_map.json", {"pad_token": "[PAD]", "eos_token": "<|bot|>"})


def newer_folder(folder: Path) -> None:
    user = {"content": "<|user|>", "lstrip": True, "rstrip": True, "special": True}
    decoder = {str(VOCABULARY): user | {"normalized": False, "single_word": False}}
    add(folder, "tokenizer_config.json", {"added_tokens_decoder": decoder, "pad_token": "[PAD]"})
    add(folder, "added_tokens.json", {"<|bot|>": VOCABULARY + 7})  # not read beside the above


def prefix_space(folder: Path) -> None:
    add(folder, "tokenizer_config.json", {"add_prefix_space": True})


def plain(folder: Path) -> None:
    """Nothing added."""


@pytest.mark.parametrize("kind", [plain, old_folder, special_map, newer_folder, prefix_space])
def test_ids_equal_those_of_transformers(folder: Path, kind: Any) -> None:
    kind(folder)
    ours, reference = load_tokenizer(folder), theirs(folder)
    for text in [TEXT, *random_texts(len(kind.__name__))]:
        assert ours.encode(text) == reference(text).input_ids, text
        assert ours.decode(ours.encode(text)).replace(" ", "") == text.replace(" ", "") or (
            kind is newer_folder  # a token that strips is not put back
        )


def test_a_shared_old_folder_equals_transformers() -> None:
    if not (CASES / "old-tokenizer").is_dir():
        pytest.skip("the shared cases are not here")
    ours, reference = load_tokenizer(CASES / "old-tokenizer"), theirs(CASES / "old-tokenizer")
    chat = read_text(CASES / "chat.txt")
    assert ours.encode(chat)[0] == 257
    for text in [chat, *random_texts(5)]:
        assert ours.encode(text) == reference(text).input_ids


def test_a_tokenizer_json_keeps_its_added_tokens_and_gets_those_beside_it(folder: Path) -> None:
    from tokenizers import AddedToken

    library = load_tokenizer(folder)._library
    library.add_tokens([AddedToken("<|user|>", normalized=False)])
    library.save(str(folder / "tokenizer.json"))
    alone = load_tokenizer(folder)
    assert alone.encode("a<|user|>b")[1] == VOCABULARY
    add(folder, "added_tokens.json", {"<|user|>": VOCABULARY})
    same = load_tokenizer(folder)
    assert same.sha256 == alone.sha256  # a file that adds nothing is no part of the tokenizer
    old_folder(folder)
    both = load_tokenizer(folder)
    assert both.encode("<|user|><|bot|>") == [VOCABULARY, VOCABULARY + 1]
    assert both.sha256 != alone.sha256


def test_added_tokens_are_part_of_the_hash_and_of_the_files(folder: Path) -> None:
    before = load_tokenizer(folder)
    old_folder(folder)
    assert load_tokenizer(folder).sha256 != before.sha256
    names = [path.name for path in tokenizer_files(folder)]
    assert names == ["merges.txt", "vocab.json", "added_tokens.json"]


def test_an_id_that_a_token_cannot_have_is_refused(folder: Path) -> None:
    add(folder, "added_tokens.json", {"<|user|>": VOCABULARY + 3})
    with pytest.raises(ConfigError, match=r"added_tokens\.json: '<\|user\|>' has id 266.*263"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("added_tokens.json", [], "not a JSON object"),
        ("added_tokens.json", {"a": "b"}, "'a': 'b' is not a token's id"),
        ("added_tokens.json", {"": 263}, "'': 263 is not"),
        ("added_tokens.json", {"x": True}, "True is not"),
        ("tokenizer_config.json", {"added_tokens_decoder": []}, "added_tokens_decoder"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "y"}}}, "'x'"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"300": "y"}}, "'y' is not a token"),
        ("vocab.json", {"a": -1}, "'a': -1 is not a token id"),
    ],
)
def test_damaged_files_are_named(folder: Path, name: str, content: Any, match: str) -> None:
    add(folder, name, content)
    with pytest.raises(CorruptInputError, match=rf"{name}: .*{match}"):
        load_tokenizer(folder)


def test_marks_and_line_ends_of_other_systems_are_read(folder: Path) -> None:
    expected = load_tokenizer(folder).encode(TEXT)
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    for path in (vocabulary, merges):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_tokenizer(folder).encode(TEXT) == expected


def test_the_file_at_fault_is_blamed(folder: Path) -> None:
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    saved = vocabulary.read_bytes(), merges.read_bytes()
    vocabulary.write_bytes(saved[0][:-9])
    with pytest.raises(CorruptInputError, match=r"vocab\.json: not valid JSON"):
        load_tokenizer(folder)
    vocabulary.write_bytes(saved[0])
    merges.write_bytes(saved[1] + b"one two three\n")
    lines = saved[1].count(b"\n") + 1
    with pytest.raises(CorruptInputError, match=rf"merges\.txt:{lines}: a merge is two symbols"):
        load_tokenizer(folder)
    merges.write_bytes(b"#version: 0.2\nq q\n")
    with pytest.raises(CorruptInputError, match=r"merges\.txt:2: 'qq' is not in vocab\.json"):
        load_tokenizer(folder)


def test_text_is_read_exactly_but_for_the_mark(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\xef\xbb\xbf\n")
    assert read_text(path) == "one\r\ntwo\r\ufeff\n"
    write_tiny_gpt2(tmp_path / "model")
    trace = record(tmp_path / "model", read_text(path))
    assert trace.content.text_sha256 == sha256("one\r\ntwo\r\ufeff\n".encode()).hexdigest()
    path.write_bytes("one".encode("utf-16"))
    with pytest.raises(ConfigError, match=r"UTF-16 text; save it as UTF-8"):
        read_text(path)
    path.write_bytes(b"ab\xff")
    with pytest.raises(ConfigError, match=r"not UTF-8 text \(byte 2\)"):
        read_utf8(path, 100)
