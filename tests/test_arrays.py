"""Arrays as callers have them: tensors, lists, formats that numpy lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import archsim
from archsim.arrays import real_array
from archsim.errors import ConfigError

VALUES = np.random.default_rng(3).normal(0, 1, (3, 2, 7, 5))


def tensor(values: np.ndarray, dtype: str = "float32", gradient: bool = False) -> Any:
    torch = pytest.importorskip("torch", reason="reads torch tensors")
    return torch.tensor(values, dtype=getattr(torch, dtype), requires_grad=gradient)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("gradient", [False, True])
def test_tensors_keep_their_format(dtype: str, gradient: bool) -> None:
    found = real_array(tensor(VALUES, dtype, gradient), "q")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, VALUES.astype(dtype))


def test_bfloat16_is_widened_exactly() -> None:
    x = tensor(VALUES, "bfloat16", gradient=True)
    found = real_array(x, "q")
    assert found.dtype == np.float32
    bits = np.float32(VALUES).view(np.uint32)
    rounded = bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000  # to nearest, ties to even
    np.testing.assert_array_equal(found, rounded.astype(np.uint32).view(np.float32))


def test_lists_integers_and_lists_of_tensors() -> None:
    np.testing.assert_array_equal(real_array(VALUES.tolist(), "q"), VALUES)
    listed = [[tensor(head, "bfloat16", gradient=True) for head in layer] for layer in VALUES[0:1]]
    assert real_array(listed, "q").shape == (1, 2, 7, 5)
    for whole in ([[1, 2], [3, 4]], np.eye(2, dtype=np.int8), np.eye(2, dtype=bool)):
        assert real_array(whole, "q").dtype == np.float64
    assert real_array(np.eye(2, dtype=np.longdouble), "q").dtype == np.float64


def sparse() -> Any:
    return tensor(np.eye(3)).to_sparse()


def without_data() -> Any:
    return tensor(np.eye(3)).to("meta")


@pytest.mark.parametrize(
    "bad",
    [
        "reference", None, {"q": 1}, [[1.0], [1.0, 2.0]], np.eye(2) * 1j, np.array(["a"]),
        np.ma.masked_less(np.eye(2), 1), object(), sparse, without_data,
    ],
)  # fmt: skip
def test_everything_else_is_one_line(bad: Any) -> None:
    value = bad() if callable(bad) else bad
    with pytest.raises(ConfigError, match=r"^k: .*is no array of real numbers") as raised:
        real_array(value, "k")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("given", [None, {"k": (0.5, 0.6), "output": (2.0, -1.0), "q": (1.0, 0.3)}])
def test_attend_and_a_trace_treat_arrays_alike(given: dict[str, Any] | None) -> None:
    """The trace's layers, scaled as it says, are what `attend` computes from the raw arrays."""
    q, k, v = (tensor(x[None], "bfloat16", gradient=True) for x in VALUES)
    trace = archsim.Trace.from_arrays(q, k, v, given)
    direct = archsim.attend(q[0], k[0], v[0], "gaincell-28nm", given)
    scalers = {name: (a[0], b[0]) for name, (a, b) in trace.scalers.items()}
    stored = archsim.attend(*trace.layer(0), archsim.load_hardware(), scalers)
    np.testing.assert_array_equal(direct.y, stored.y)
    assert np.ptp(direct.y) > 0


def test_scalers_and_ids_may_be_tensors() -> None:
    layers = VALUES[:, None]
    a = tensor(np.full((1, 2), 0.3), "float64", gradient=True)
    ids = tensor(np.arange(7), "int64")
    trace = archsim.Trace.from_arrays(*layers, {"q": (a, 0.5)}, token_ids=ids)
    assert (trace.scalers["q"][0] == 0.3).all()
    assert trace.token_ids.tolist() == list(range(7))
    y = archsim.attend(*VALUES, "gaincell-28nm", {"q": (a[0], 0.5)}).y
    np.testing.assert_array_equal(
        y, archsim.attend(*VALUES, archsim.load_hardware(), {"q": (0.3, 0.5)}).y
    )
    with pytest.raises(ConfigError, match=r"scalers\.q: .* is no array of real numbers"):
        archsim.attend(*VALUES, "gaincell-28nm", {"q": ("a", 0.5)})  # type: ignore[dict-item]
