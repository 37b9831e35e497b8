"""``archsim trace import``: arrays of other programs, and everything that is no such file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from archsim.cli.trace import command
from archsim.errors import ArchsimError, ConfigError, CorruptInputError
from archsim.traces.importing import import_trace
from archsim.traces.trace import Trace, load_trace

SHAPE = (3, 2, 6, 4)


def arrays(seed: int = 0, dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {part: rng.normal(0.4, 0.3, SHAPE).astype(dtype) for part in "qkv"}


def write(folder: Path, kind: str, found: dict[str, np.ndarray]) -> Path:
    if kind == "npz":
        np.savez_compressed(folder / "x.npz", **found)  # type: ignore[arg-type]
    elif kind == "safetensors":
        save_file(found, folder / "x.safetensors")
    elif kind == "npy":
        np.save(folder / "x.npy", np.stack([found[part] for part in "qkv"]))
    else:
        (folder / "x.d").mkdir()
        for name, array in found.items():
            np.save(folder / "x.d" / f"{name}.npy", array)
    return next(folder.glob("x.*"))


@pytest.mark.parametrize("kind", ["npz", "safetensors", "npy", "folder"])
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_every_kind_of_file_gives_the_same_trace(tmp_path: Path, kind: str, dtype: str) -> None:
    found = arrays(dtype=dtype)
    trace = import_trace(write(tmp_path, kind, found), "given")
    assert trace.sha256 == Trace.from_arrays(**found).sha256
    fitted = import_trace(next(tmp_path.glob("x.*")), "given", fit=True, token_ids=[1] * 6)
    expected = Trace.from_arrays(**found, scalers="fit", token_ids=[1] * 6)
    assert fitted.sha256 == expected.sha256


@pytest.mark.parametrize("kind", ["npz", "safetensors", "folder"])
def test_ids_scalers_and_single_layers_are_read(tmp_path: Path, kind: str) -> None:
    found = arrays(3)
    layers = {f"layers.{i}.{part}": x[i] for part, x in found.items() for i in range(3)}
    scalers = np.random.default_rng(1).normal(1, 0.1, (3, 2, 2))
    layers |= {"tokens": np.arange(6), "scalers.k": scalers}
    trace = import_trace(write(tmp_path, kind, layers), "given")
    np.testing.assert_array_equal(trace.v, found["v"])
    assert trace.token_ids.tolist() == list(range(6))
    np.testing.assert_array_equal(trace.scalers["k"][1], scalers[..., 1])
    assert (trace.scalers["v"][1] == 0.45).all()
    with pytest.raises(ConfigError, match="holds scalers; leave out --fit-scalers"):
        import_trace(next(tmp_path.glob("x.*")), "given", fit=True)


def test_one_layer_may_come_without_its_axis(tmp_path: Path) -> None:
    found = {part: x[0] for part, x in arrays().items()}
    assert import_trace(write(tmp_path, "npz", found), "given").q.shape == (1, *SHAPE[1:])
    np.save(tmp_path / "y.npy", np.stack(list(found.values())))
    assert import_trace(tmp_path / "y.npy", "given").layers == 1


def test_bfloat16_of_torch_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="writes a file with torch")
    from safetensors.torch import save_file as save_tensors

    found = {part: torch.tensor(x).bfloat16() for part, x in arrays().items()}
    save_tensors(found, str(tmp_path / "x.safetensors"))
    trace = import_trace(tmp_path / "x.safetensors", "given")
    assert trace.q.dtype == np.float32
    np.testing.assert_array_equal(trace.k, found["k"].float().numpy())


def without(part: str) -> dict[str, Any]:
    return {name: x for name, x in arrays().items() if name != part}


@pytest.mark.parametrize(
    ("found", "match"),
    [
        (without("k"), "no array k; give q, k and v"),
        (arrays() | {"queries": np.ones(3)}, "array 'queries' is not one of k, q, scalers"),
        (arrays() | {"layers.0.q": np.ones((2, 6, 4))}, r"both q and layers\.N\.q"),
        (arrays() | {"k": np.ones((3, 1, 6, 4))}, "1 key-value heads for 2 query heads"),
        (arrays() | {"v": np.ones((3, 2, 5, 4))}, "v: shape .* differs from q's"),
        (arrays() | {"v": np.full(SHAPE, np.nan)}, "layer 0, v, head 0, token 0"),
        (arrays() | {"tokens": np.arange(5)}, "must be 6 integers"),
        (arrays() | {"scalers.q": np.ones((3, 2))}, r"it is \(layers, heads, 2\)"),
        (arrays() | {"q": np.full(SHAPE, 1j)}, "is no array of real numbers"),
        ({f"layers.{i}.{p}": np.ones((2, 6, 4)) for i in (0, 2) for p in "qkv"}, r"layers\.1\.q"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line_with_the_file(
    tmp_path: Path, found: dict[str, Any], match: str
) -> None:
    with pytest.raises(ArchsimError, match=rf"x\.npz.*{match}") as raised:
        import_trace(write(tmp_path, "npz", found), "given")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".safetensors"])
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00\xff\xff", b"x" * 99])
def test_damaged_files_are_corrupt(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data)
    with pytest.raises(CorruptInputError, match=r"x\."):
        import_trace(path, "given")


def test_python_objects_and_other_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(CorruptInputError, match="Python objects are not read"):
        import_trace(tmp_path / "x.npy", "given")
    np.save(tmp_path / "x.npy", np.ones((2, 3)))
    with pytest.raises(ConfigError, match=r"one \.npy file holds q, k and v as"):
        import_trace(tmp_path / "x.npy", "given")
    with pytest.raises(ConfigError, match=r"give a \.npz, \.npy or \.safetensors file"):
        import_trace(tmp_path / "x.pt", "given")
    with pytest.raises(ConfigError, match="cannot be read"):
        import_trace(tmp_path / "absent.npz", "given")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no \.npy file in this folder"):
        import_trace(tmp_path / "empty", "given")


def test_the_command_writes_a_trace_and_says_what_saturates(tmp_path: Path) -> None:
    path = write(tmp_path, "npz", {part: 9 * x for part, x in arrays().items()})
    (tmp_path / "ids.json").write_text("[5, 4, 3, 2, 1, 0]")
    target = str(tmp_path / "mine")
    words = ["import", str(path), "-o", target]
    printed = CliRunner().invoke(command, words, catch_exceptions=False).output
    assert "3 layers x 2 heads x 6 tokens x 4, float32" in printed
    assert "every gain is 1; --fit-scalers" in printed
    words += ["--fit-scalers", "--tokens", str(tmp_path / "ids.json"), "--force", "--json"]
    summary = json.loads(CliRunner().invoke(command, words, catch_exceptions=False).output)
    assert summary["tensors"]["q"]["saturated"] < 0.1
    trace = load_trace(target)
    assert trace.name == "mine"
    assert trace.token_ids.tolist() == [5, 4, 3, 2, 1, 0]
    assert trace.environment is not None
    assert trace.environment.command == (
        "archsim trace import x.npz --tokens ids.json --fit-scalers"
    )
    with pytest.raises(ConfigError, match="exists already"):
        CliRunner().invoke(command, words[:4], catch_exceptions=False)
