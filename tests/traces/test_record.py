"""Recording: what is captured, what identifies it, and which requests are refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from archsim.errors import ArchsimError, ConfigError, MissingExtraError
from archsim.models.huggingface import checkpoint_sha256, load_gpt2
from archsim.models.record import read_text, read_token_ids, record
from archsim.models.tokenizer import load_tokenizer
from archsim.traces.scalers import fit_scalers
from archsim.traces.trace import load_trace, save_trace

from .tiny_gpt2 import TEXT, write_tiny_gpt2


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_tiny_gpt2(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_records_what_the_model_computes(model: Path) -> None:
    ids = [5, 299, 0, 17, 17]
    trace = record(model, token_ids=ids, length=4)
    seen: list[Any] = []
    load_gpt2(model, np.float64).forward(ids[:4], record=lambda layer, *qkv: seen.append(qkv))
    for layer in range(2):
        for stored, computed in zip(
            (trace.q[layer], trace.k[layer], trace.v[layer]), seen[layer], strict=True
        ):
            np.testing.assert_array_equal(stored, computed.astype(np.float16))
    assert trace.token_ids.tolist() == ids[:4]
    fitted = fit_scalers(trace.q, trace.k, trace.v)
    for name in ("q", "k", "v", "output"):
        np.testing.assert_array_equal(trace.scalers[name], fitted[name])


def test_float32_keeps_every_bit(model: Path) -> None:
    trace = record(model, token_ids=[1, 2], dtype="float32")
    assert trace.q.dtype == np.float32
    assert trace.content.dtype == "float32"
    assert not np.array_equal(trace.q, trace.q.astype(np.float16))


def test_content_says_where_it_comes_from(model: Path) -> None:
    trace = record(model, text=TEXT, length=10, skip_tokens=3, name="austen", command="make it")
    content = trace.content
    assert content.model is not None
    assert content.model.name == "tiny"
    assert content.model.config["n_embd"] == 16
    assert content.model.weights_sha256 == checkpoint_sha256(model)
    assert content.tokenizer_sha256 == load_tokenizer(model).sha256
    assert content.text_sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
    assert content.skipped_tokens == 3
    assert trace.token_ids.tolist() == load_tokenizer(model).encode(TEXT)[3:13]
    assert trace.environment is not None
    assert trace.environment.command == "make it"
    by_ids = record(model, token_ids=[1, 2, 3])
    assert by_ids.content.text_sha256 is None
    assert by_ids.content.tokenizer_sha256 is None


def test_content_hash_follows_what_matters_only(model: Path) -> None:
    base = record(model, token_ids=[1, 2, 3]).content.sha256()
    assert record(model, token_ids=[1, 2, 3], name="x", command="y").content.sha256() == base
    assert record(model, token_ids=[1, 2, 4]).content.sha256() != base
    assert record(model, token_ids=[1, 2, 3], length=2).content.sha256() != base
    write_tiny_gpt2(model, seed=9)
    assert record(model, token_ids=[1, 2, 3]).content.sha256() != base


def test_same_checkpoint_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_trace(record(model, text=TEXT, length=20), tmp_path / name)
    for file in ("trace.safetensors", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert load_trace(tmp_path / "a").content.shapes.tokens == 20


def test_no_path_of_this_machine_is_written(model: Path, tmp_path: Path) -> None:
    save_trace(record(model, text=TEXT, length=5), tmp_path / "t")
    assert str(tmp_path) not in (tmp_path / "t" / "manifest.json").read_text()


def test_token_ids_need_no_tokenizer(model: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (model / name).unlink()
    assert record(model, token_ids=np.array([1, 2])).tokens == 2  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="give token ids"):
        record(model, text=TEXT)


def test_text_without_the_tokenizers_package(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"pip install .archsim\[text\]."):
        record(model, text=TEXT)
    assert record(model, token_ids=[1]).tokens == 1


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        ({}, "one of the two"),
        ({"text": TEXT, "token_ids": [1]}, "one of the two"),
        ({"token_ids": [1], "length": 0}, "length 0: must be at least 1"),
        ({"token_ids": [1], "length": -5}, "length -5"),
        ({"token_ids": [1, 2, 3], "length": 4}, "length 4: only 3 tokens there"),
        ({"token_ids": [1, 2, 3], "length": 2, "skip_tokens": 2}, r"only 1 tokens there \(3, 2"),
        ({"token_ids": [1, 2], "skip_tokens": 2}, "no token left: 2 tokens, 2 skipped"),
        ({"token_ids": [1, 2], "skip_tokens": -1}, "must not be negative"),
        ({"token_ids": []}, "no token left"),
        ({"text": ""}, "no token left"),
        ({"text": "\ud800"}, "lone surrogate"),
        ({"text": TEXT, "length": 500}, "length 500: only"),
        ({"token_ids": [1] * 25}, "length 25: the model has 24 positions"),
        ({"token_ids": [1, 300]}, "token id 300 at position 1"),
        ({"token_ids": [-1]}, "token id -1"),
        ({"token_ids": [1.5]}, "list of integers"),
        ({"token_ids": [1], "name": "a/b"}, "trace name 'a/b'"),
    ],
)
def test_requests_that_do_not_fit(model: Path, request_: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        record(model, **request_)


def test_a_bad_name_is_refused_before_the_model_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trace name"):
        record(tmp_path / "absent", token_ids=[1], name="a/b")


def scale_queries(model: Path, factor: float) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["transformer.h.1.attn.c_attn.weight"] *= np.float32(factor)
    save_file(tensors, model / "model.safetensors")


def test_values_too_large_for_float16_are_refused(model: Path) -> None:
    scale_queries(model, 1e6)
    with pytest.raises(ConfigError, match=r"q reaches .*e\+06, too large for float16; use float32"):
        record(model, token_ids=[1, 2])
    record(model, token_ids=[1, 2], dtype="float32")


def test_a_model_that_overflows_is_named(model: Path) -> None:
    scale_queries(model, 3e38)
    with pytest.raises(ConfigError, match=r"q reaches .* too large for float32"):
        record(model, token_ids=[1, 2], dtype="float32")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not JSON"),
        ("[1, 2", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[" + "9" * 5000 + "]", "not JSON"),
        ("3", "not a JSON list"),
        ('{"a": 1}', "not a JSON list"),
        ("[1, true]", "entry 1 is True"),
        ("[1.0]", r"entry 0 is 1\.0"),
        ("[NaN]", "entry 0 is nan"),
        ('["1"]', "entry 0 is '1'"),
        ("[[1]]", r"entry 0 is \[1\]"),
        ("[-1]", "entry 0 is -1"),
        ("[99999999999]", "entry 0 is 99999999999"),
    ],
)
def test_malformed_token_files(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "ids.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=match):
        read_token_ids(path)


@given(st.one_of(st.binary(max_size=60), st.recursive(st.integers(), st.lists).map(json.dumps)))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_token_file_gives_ids_or_our_error(tmp_path: Path, data: bytes | str) -> None:
    path = tmp_path / "ids.json"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    try:
        ids = read_token_ids(path)
    except ArchsimError:
        return
    assert all(0 <= x < 1 << 31 for x in ids)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for read in (read_text, read_token_ids):
        with pytest.raises(ConfigError, match="cannot be read"):
            read(tmp_path / "absent")
        with pytest.raises(ConfigError, match="cannot be read"):
            read(tmp_path)
    (tmp_path / "latin").write_bytes(b"na\xefve")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_text(tmp_path / "latin")
    monkeypatch.setattr("archsim.models.record.MAX_TOKENS_BYTES", 3)
    (tmp_path / "long").write_text("[1, 2]")
    with pytest.raises(ConfigError, match="larger than"):
        read_token_ids(tmp_path / "long")
