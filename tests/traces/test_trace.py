"""Traces: round trip, byte determinism, selection, and every kind of damage."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from archsim.errors import ArchsimError, ConfigError, CorruptInputError
from archsim.traces import trace as trace_module
from archsim.traces.folder import default_trace_name
from archsim.traces.manifest import MAX_MANIFEST_BYTES, Content, Manifest
from archsim.traces.scalers import (
    DEFAULT_RANGE,
    fit_scalers,
    full_range,
    identity_scalers,
    saturation,
)
from archsim.traces.tensor_file import Limits
from archsim.traces.trace import Trace, load_trace, save_trace

SHAPE = (2, 3, 5, 4)


def make_trace(dtype: str = "float16", seed: int = 1) -> Trace:
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(1.0, 2.0, SHAPE).astype(dtype) for _ in range(3))
    return Trace.from_arrays(
        q, k, v, "fit", name="small", token_ids=np.arange(5), description="a test"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_trace(make_trace(), tmp_path / "small")
    return tmp_path / "small"


def tensors_of(trace: Trace) -> dict[str, np.ndarray]:
    """The tensors of a trace file, spelled out independently of the writer."""
    tensors = {"tokens": np.array(trace.token_ids)}
    for name in ("q", "k", "v", "output"):
        tensors[f"scalers.{name}"] = np.stack(trace.scalers[name], -1)
    for layer in range(trace.layers):
        for name in ("q", "k", "v"):
            tensors[f"layers.{layer}.{name}"] = np.array(getattr(trace, name)[layer])
    return tensors


def replace_data(folder: Path, data: bytes) -> None:
    """Put `data` into the folder with a manifest that agrees with it."""
    (folder / "trace.safetensors").write_bytes(data)
    edit_manifest(
        folder,
        files={
            "trace.safetensors": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        },
    )


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) | changes
    if "content" in changes and "content_sha256" not in changes:
        manifest["content_sha256"] = Content.model_validate_json(
            json.dumps(manifest["content"])
        ).sha256()
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_round_trip_keeps_every_bit(tmp_path: Path, dtype: str) -> None:
    trace = make_trace(dtype)
    manifest = save_trace(trace, tmp_path / "t")
    loaded = load_trace(tmp_path / "t")
    for name in ("q", "k", "v"):
        assert getattr(loaded, name).dtype == dtype
        np.testing.assert_array_equal(getattr(loaded, name), getattr(trace, name))
    for name in ("q", "k", "v", "output"):
        for stored, made in zip(loaded.scalers[name], trace.scalers[name], strict=True):
            assert stored.dtype == np.float64
            np.testing.assert_array_equal(stored, made)
    np.testing.assert_array_equal(loaded.token_ids, np.arange(5))
    assert loaded.name == "small"
    assert loaded.manifest == manifest
    assert loaded.sha256 == trace.sha256 == manifest.files["trace.safetensors"].sha256
    assert (loaded.layers, loaded.heads, loaded.tokens, loaded.head_dim) == SHAPE


def test_the_file_is_plain_safetensors_with_the_documented_names(folder: Path) -> None:
    from safetensors.numpy import load_file

    stored = load_file(folder / "trace.safetensors")
    expected = tensors_of(make_trace())
    assert stored.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(stored[name], value, err_msg=name)
        assert stored[name].dtype == value.dtype
    assert stored["layers.1.q"].shape == (3, 5, 4)
    assert stored["scalers.k"].shape == (2, 3, 2)
    assert stored["tokens"].dtype == np.int32


def test_equal_traces_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_trace(make_trace(), tmp_path / name)
    for file in ("trace.safetensors", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    save_trace(make_trace(seed=2), tmp_path / "c")
    assert load_trace(tmp_path / "c").sha256 != load_trace(tmp_path / "a").sha256


def test_layer_is_float64_and_arrays_cannot_be_written() -> None:
    trace = make_trace()
    q, k, v = trace.layer(1)
    assert {x.dtype for x in (q, k, v)} == {np.dtype(np.float64)}
    np.testing.assert_array_equal(k, trace.k[1].astype(np.float64))
    with pytest.raises(ValueError, match="read-only"):
        trace.q[0, 0, 0, 0] = 1.0
    for index in (-1, 2):
        with pytest.raises(ConfigError, match="layers 0 to 1"):
            trace.layer(index)


def test_select_shortens_and_says_so() -> None:
    trace = make_trace()
    part = trace.select(tokens=2, layers=slice(1, 2))
    np.testing.assert_array_equal(part.q, trace.q[1:2, :, :2])
    np.testing.assert_array_equal(part.v, trace.v[1:2, :, :2])
    np.testing.assert_array_equal(part.scalers["k"][0], trace.scalers["k"][0][1:2])
    assert part.token_ids.tolist() == [0, 1]
    assert (part.content.shapes.layers, part.content.shapes.tokens) == (1, 2)
    assert part.content.cut is not None
    assert part.content.cut.content_sha256 == trace.content.sha256()
    assert part.sha256 != trace.sha256
    assert trace.select() is trace
    assert trace.select(tokens=5, layers=slice(0, 2)) is trace


def test_a_selection_can_be_saved(tmp_path: Path) -> None:
    part = make_trace().select(tokens=3)
    save_trace(part, tmp_path / "p")
    loaded = load_trace(tmp_path / "p")
    assert loaded.sha256 == part.sha256
    assert loaded.tokens == 3
    assert loaded.select(tokens=2).sha256 == part.select(tokens=2).sha256 != loaded.sha256


@pytest.mark.parametrize("tokens", [0, -1, 6])
def test_select_refuses_tokens_it_does_not_have(tokens: int) -> None:
    with pytest.raises(ConfigError, match="has 1 to 5 tokens"):
        make_trace().select(tokens=tokens)


@pytest.mark.parametrize(
    "layers", [slice(0, 3), slice(2, 2), slice(1, 0), slice(-1, None), slice(0, 2, 2), slice(5, 6)]
)
def test_select_refuses_layers_it_does_not_have(layers: slice) -> None:
    with pytest.raises(ConfigError, match="has layers 0 to 1"):
        make_trace().select(layers=layers)


def test_from_arrays_refuses_what_does_not_fit() -> None:
    good = np.zeros(SHAPE)
    with pytest.raises(ConfigError, match="is not \\(layers, heads, tokens, head_dim\\)"):
        Trace.from_arrays(good[0], good, good)
    with pytest.raises(ConfigError, match=r"is not \(layers"):
        Trace.from_arrays(good[:, :, :0], good, good)
    with pytest.raises(ConfigError, match="differs from q"):
        Trace.from_arrays(good, good[:, :, :3], good)
    with pytest.raises(ConfigError, match="1 key-value heads for 3 query heads"):
        Trace.from_arrays(good, good[:, :1], good[:, :1])
    with pytest.raises(ConfigError, match=r"^k: .*dtype complex128"):
        Trace.from_arrays(good, good.astype(complex), good)
    with pytest.raises(ConfigError, match="trace name"):
        Trace.from_arrays(good, good, good, name="../up")
    with pytest.raises(ConfigError, match="must be 5 integers"):
        Trace.from_arrays(good, good, good, token_ids=[1, 2])
    with pytest.raises(ConfigError, match="must be \\(layers, heads\\)"):
        Trace.from_arrays(good, good, good, {x: (np.ones(7), 0.0) for x in "qkv"})
    with pytest.raises(ConfigError, match=r"must be q, k, v and output, not \['k', 'output', 'p'"):
        Trace.from_arrays(good, good, good, {"p": (1.0, 0.0)})
    with pytest.raises(ConfigError, match=r"scalers\.k: give a pair"):
        Trace.from_arrays(good, good, good, {"k": 1.0})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"scalers: give a mapping of q, k, v, output.*'fitted'"):
        Trace.from_arrays(good, good, good, "fitted")  # type: ignore[arg-type]
    bad = good.copy()
    bad[1, 2, 3, 0] = np.inf
    with pytest.raises(CorruptInputError, match="layer 1, v, head 2, token 3, feature 0 is inf"):
        Trace.from_arrays(good, good, bad)


def test_a_trace_does_not_change_with_the_arrays_it_was_made_of() -> None:
    q = np.zeros(SHAPE)
    trace = Trace.from_arrays(q, q, q)
    q[:] = 1.0
    assert not trace.q.any()


def test_from_arrays_takes_integers_and_given_scalers() -> None:
    ones = np.ones(SHAPE, int)
    trace = Trace.from_arrays(ones, ones, ones, identity_scalers(2, 3))
    assert trace.q.dtype == np.float64
    assert trace.token_ids.tolist() == [-1] * 5
    np.testing.assert_array_equal(trace.scalers["k"][0], np.ones((2, 3)))


def test_without_scalers_nothing_is_fitted() -> None:
    rng = np.random.default_rng(5)
    q, k, v = rng.normal(4.0, 3.0, (3, 2, 3, 7, 4))
    plain = Trace.from_arrays(q, k, v)
    for name, offset in (("q", 0.0), ("k", 0.45), ("v", 0.45), ("output", 0.0)):
        a, b = plain.scalers[name]
        np.testing.assert_array_equal(a, np.ones((2, 3)))
        np.testing.assert_array_equal(b, np.full((2, 3), offset))
    some = Trace.from_arrays(q, k, v, {"k": (np.full((2, 3), 0.1), -0.2)})
    assert (some.scalers["k"][1] == -0.2).all()
    assert (some.scalers["v"][1] == 0.45).all()
    fitted = Trace.from_arrays(q, k, v, "fit")
    np.testing.assert_array_equal(fitted.scalers["q"], fit_scalers(q, k, v)["q"])


def test_fitted_scalers_bring_mean_and_spread_into_range() -> None:
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.1, 30, (2, 3, 1, 1))
    q, k, v = (rng.normal(rng.uniform(-9, 9, (2, 3, 1, 1)), spread, (2, 3, 400, 64)) for _ in "qkv")
    scalers = fit_scalers(q, k, v)
    for name, x in {"q": q, "k": k, "v": v}.items():
        a, b = scalers[name]
        scaled = a[..., None, None] * x + b[..., None, None]
        span = full_range(name, DEFAULT_RANGE)
        np.testing.assert_allclose(scaled.mean((2, 3)), span / 2, atol=1e-5)
        np.testing.assert_allclose(scaled.std((2, 3)), span / 4.5, rtol=1e-6)
        assert 0.020 < saturation(x, scalers[name], span) < 0.029  # 2 (1 - Phi(2.25))
        np.testing.assert_array_equal(a, a.astype(np.float32))
        np.testing.assert_array_equal(b, b.astype(np.float32))
    np.testing.assert_array_equal(scalers["output"][0], np.ones((2, 3)))
    np.testing.assert_array_equal(scalers["output"][1], np.zeros((2, 3)))


@pytest.mark.parametrize("value", [0.0, 7.0, -1e4])
def test_a_head_without_spread_is_only_centred(value: float) -> None:
    x = np.full(SHAPE, value)
    a, b = fit_scalers(x, x, x)["k"]
    np.testing.assert_array_equal(a, 1.0)
    np.testing.assert_allclose(a * value + b, 0.45, atol=1e-3)


def test_rounding_noise_is_not_amplified() -> None:
    x = 7.0 + 1e-9 * np.random.default_rng(0).normal(size=SHAPE)
    np.testing.assert_array_equal(fit_scalers(x, x, x)["q"][0], 1.0)


def test_overwriting_needs_force(folder: Path) -> None:
    before = (folder / "trace.safetensors").read_bytes()
    other = make_trace(seed=5)
    with pytest.raises(ConfigError, match="exists already; use --force"):
        save_trace(other, folder)
    assert (folder / "trace.safetensors").read_bytes() == before
    save_trace(other, folder, force=True)
    assert load_trace(folder).sha256 == other.sha256
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "trace.safetensors"]


def test_saving_onto_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be written"):
        save_trace(make_trace(), tmp_path / "file")


def test_a_shipped_name_a_folder_and_its_files_are_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archsim.traces.folder.data_folder", lambda name: folder.parent)
    expected = load_trace(folder).sha256
    for way in ("small", str(folder), folder / "manifest.json", str(folder / "trace.safetensors")):
        assert load_trace(way).sha256 == expected
    with pytest.raises(ConfigError, match="no trace named 'smal'; did you mean 'small'"):
        load_trace("smal")
    with pytest.raises(ConfigError, match="no such trace folder"):
        load_trace(folder / "absent")
    with pytest.raises(ConfigError, match=r"no manifest\.json in this folder"):
        load_trace(folder.parent)
    assert default_trace_name() == "reference-adapted"


def test_a_flipped_bit_is_found(folder: Path) -> None:
    path = folder / "trace.safetensors"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptInputError, match="tampered or damaged"):
        load_trace(folder)
    changed = load_trace(folder, verify=False)  # asked not to look
    assert changed.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("keep", [0, 7, 8, 100, 1000, -1])
def test_a_truncated_file_is_found(folder: Path, keep: int) -> None:
    data = (folder / "trace.safetensors").read_bytes()[:keep]
    replace_data(folder, data)  # even if the manifest agrees
    for verify in (True, False):
        with pytest.raises(CorruptInputError, match="truncated"):
            load_trace(folder, verify)


def test_trailing_bytes_are_found(folder: Path) -> None:
    replace_data(folder, (folder / "trace.safetensors").read_bytes() + b"\0")
    with pytest.raises(CorruptInputError, match="damaged"):
        load_trace(folder)


def test_the_size_is_compared_even_without_the_hash(folder: Path) -> None:
    edit_manifest(folder, files={"trace.safetensors": {"bytes": 7, "sha256": "0" * 64}})
    with pytest.raises(CorruptInputError, match="tampered or damaged"):
        load_trace(folder, verify=False)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_not_finite_is_named(folder: Path, bad: float) -> None:
    tensors = tensors_of(make_trace())
    tensors["layers.1.k"][2, 4, 3] = bad
    replace_data(folder, save(tensors))
    for verify in (True, False):
        with pytest.raises(CorruptInputError, match="layer 1, k, head 2, token 4, feature 3 is"):
            load_trace(folder, verify)


def test_scalers_and_ids_are_checked(folder: Path) -> None:
    tensors = tensors_of(make_trace())
    tensors["scalers.v"][1, 2, 0] = np.nan
    replace_data(folder, save(tensors))
    with pytest.raises(CorruptInputError, match=r"scalers\.v: layer 1, head 2 is not finite"):
        load_trace(folder)
    tensors = tensors_of(make_trace())
    tensors["tokens"][3] = -2
    replace_data(folder, save(tensors))
    with pytest.raises(CorruptInputError, match="token ids"):
        load_trace(folder)


def test_float32_scalers_are_accepted(folder: Path) -> None:
    tensors = tensors_of(make_trace())
    for name in ("q", "k", "v", "output"):
        tensors[f"scalers.{name}"] = tensors[f"scalers.{name}"].astype(np.float32)
    replace_data(folder, save(tensors))
    np.testing.assert_array_equal(load_trace(folder).scalers["q"][0], make_trace().scalers["q"][0])


def test_layout_that_differs_from_the_manifest_is_refused(folder: Path) -> None:
    trace = make_trace()

    def refused(match: str, **changes: np.ndarray | None) -> None:
        tensors = {**tensors_of(trace), **{k.replace("__", "."): v for k, v in changes.items()}}
        replace_data(folder, save({k: v for k, v in tensors.items() if v is not None}))
        with pytest.raises(CorruptInputError, match=match):
            load_trace(folder)

    refused(r"'layers\.1\.q' is missing", layers__1__q=None)
    refused(r"unknown tensor 'layers\.2\.q'", layers__2__q=np.zeros((3, 5, 4), np.float16))
    refused(r"unknown tensor '\.\./x'", **{"../x": np.zeros(1, np.float16)})
    refused(r"layers\.0\.v has shape \(3, 4, 4\)", layers__0__v=np.zeros((3, 4, 4), np.float16))
    refused(r"layers\.0\.v has dtype F32", layers__0__v=np.zeros((3, 5, 4), np.float32))
    refused(r"tokens has dtype I64", tokens=np.arange(5))
    refused(r"scalers\.q has dtype F16", scalers__q=np.ones((2, 3, 2), np.float16))


def test_limits_are_checked_before_data_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "trace.safetensors"
    (header,) = struct.unpack("<Q", path.read_bytes()[:8])
    for limits, match in (
        (Limits(header - 1, 99, 1 << 20), "header of"),
        (Limits(header, 10, 1 << 20), "announces 11 tensors, at most 10"),
        (Limits(header, 99, 100), "bytes, at most 100"),
    ):
        monkeypatch.setattr(trace_module, "LIMITS", limits)
        with pytest.raises(CorruptInputError, match=match):
            load_trace(folder)
    monkeypatch.setattr(trace_module, "LIMITS", Limits(header, 11, 10_000))
    load_trace(folder)


def test_a_header_length_of_2_to_the_40_is_refused(folder: Path) -> None:
    replace_data(folder, struct.pack("<Q", 1 << 40) + b"{}")
    with pytest.raises(CorruptInputError, match="truncated"):
        load_trace(folder)


def entry(shape: str, offsets: str = "[0, 4]") -> bytes:
    text = f'{{"tokens": {{"dtype": "I32", "shape": {shape}, "data_offsets": {offsets}}}}}'
    return text.encode()


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (b"[]", "not a JSON object"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (entry("[" + "9" * 5000 + "]"), "not valid JSON"),
        (entry("[0]", "[0, 0]").replace(b"}}", b"}, " + entry("[0]", "[0, 0]")[1:]), "not valid"),
        (b'{"tokens": 1}', "'tokens' is malformed"),
        (entry("[-1]"), "'tokens' is malformed"),
        (entry("[true]"), "'tokens' is malformed"),
        (entry("[1e9]"), "'tokens' is malformed"),
        (entry("[99999999999999999999]"), "'tokens' is malformed"),
        (entry("4"), "'tokens' is malformed"),
        (entry("[4]", "[4, 0]"), "'tokens' is malformed"),
        (entry("[4]", "[0]"), "'tokens' is malformed"),
        (entry("[4]", "[0, 16]"), "damaged or truncated"),
    ],
)
def test_malformed_headers_are_refused(folder: Path, header: bytes, match: str) -> None:
    replace_data(folder, struct.pack("<Q", len(header)) + header)
    with pytest.raises(CorruptInputError, match=match):
        load_trace(folder)


def test_overlapping_tensors_are_refused(folder: Path) -> None:
    data = (folder / "trace.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["layers.0.q"]["data_offsets"] = header["layers.0.k"]["data_offsets"]
    text = json.dumps(header).encode()
    replace_data(folder, struct.pack("<Q", len(text)) + text + data[8 + length :])
    with pytest.raises(CorruptInputError, match="damaged"):
        load_trace(folder)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not a trace manifest"),
        ("{}", "name: Field required"),
        ("[]", "not a trace manifest"),
        ("[" * 50_000, "not a trace manifest"),
        ("null", "not a trace manifest"),
        ('"' + "x" * MAX_MANIFEST_BYTES + '"', "larger than 1 MiB"),
    ],
)
def test_malformed_manifests_are_refused(folder: Path, text: str, match: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(CorruptInputError, match=match):
        load_trace(folder)


def test_manifest_fields_are_strict(folder: Path) -> None:
    good = (folder / "manifest.json").read_text()
    content = json.loads(good)["content"]
    shapes = content["shapes"]
    for changes, match in (
        ({"extra": 1}, "extra: Extra inputs"),
        ({"name": "a b"}, "name: "),
        ({"description": "\u001b[31mred"}, "description: "),
        ({"files": {}}, "files: "),
        ({"files": {"../../x": {"bytes": 1, "sha256": "0" * 64}}}, "files"),
        ({"content_sha256": "0" * 64}, "tampered"),
        ({"content": {**content, "seed": 3}, "content_sha256": content_hash(good)}, "tampered"),
        ({"content": {**content, "dtype": "int8"}, "content_sha256": "0" * 64}, "dtype"),
        ({"content": {**content, "shapes": {**shapes, "tokens": "5"}}, "content_sha256": ""}, "to"),
        ({"content": {**content, "shapes": {**shapes, "tokens": 4}}}, "has shape"),
    ):
        (folder / "manifest.json").write_text(good)
        edit_manifest(folder, **changes)
        with pytest.raises(CorruptInputError, match=match):
            load_trace(folder)


def content_hash(manifest: str) -> str:
    value: str = json.loads(manifest)["content_sha256"]
    return value


def test_grouped_queries_and_other_versions_are_refused_as_config(folder: Path) -> None:
    good = (folder / "manifest.json").read_text()
    content = json.loads(good)["content"]
    edit_manifest(folder, content={**content, "shapes": {**content["shapes"], "kv_heads": 1}})
    with pytest.raises(ConfigError, match="1 key-value heads for 3 query heads"):
        load_trace(folder)
    (folder / "manifest.json").write_text(good)
    edit_manifest(folder, schema_version=2)
    with pytest.raises(ConfigError, match="schema_version 2 is not 1"):
        load_trace(folder)


def test_missing_files_are_config_errors(folder: Path) -> None:
    (folder / "trace.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"trace\.safetensors: cannot be read"):
        load_trace(folder)


def test_content_hash_ignores_where_it_was_made() -> None:
    manifest = make_trace().manifest
    data = json.loads(manifest.to_json())
    data["environment"] = {"archsim": "9", "numpy": "9", "python": "9", "platform": "elsewhere"}
    other = Manifest.model_validate_json(json.dumps(data))
    assert other.content_sha256 == manifest.content_sha256


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    edits=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), min_size=1, max_size=4),
    file=st.sampled_from(["trace.safetensors", "manifest.json"]),
    verify=st.booleans(),
)
def test_mutated_files_raise_nothing_but_our_errors(
    folder: Path, edits: list[tuple[int, int]], file: str, verify: bool
) -> None:
    damaged = folder.parent / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(folder, damaged)
    data = bytearray((damaged / file).read_bytes())
    for place, value in edits:
        data[place % len(data)] = value
    if bytes(data) == (folder / file).read_bytes():
        return
    (damaged / file).write_bytes(data)
    if file == "trace.safetensors":
        with pytest.raises(CorruptInputError):
            load_trace(damaged)  # any change is found
        replace_data(damaged, bytes(data))  # and structural damage even with a matching hash
    try:
        loaded = load_trace(damaged, verify)
    except ArchsimError:
        return
    assert np.isfinite(loaded.q).all()
