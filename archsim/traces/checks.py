"""What the arrays of a trace must satisfy, whether they come from a file or from memory."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.arguments import as_text
from archsim.arrays import number_array, real_array
from archsim.errors import ConfigError, CorruptInputError, one_line
from archsim.traces.manifest import NAME_PATTERN
from archsim.traces.scalers import SCALED, GivenScalers, Scaler


def check_name(name: str) -> None:
    """Raise ConfigError unless `name` can name a folder anywhere."""
    if not re.fullmatch(NAME_PATTERN, as_text(name, "trace name")):
        raise ConfigError(
            f"trace name {one_line(name, 80)!r}: use letters, digits, '.', '_', '-' (up to 64)"
        )


def check_finite(x: NDArray[Any], where: str) -> None:
    """Raise CorruptInputError at the first value of x (heads, tokens, head_dim) not finite."""
    if x.dtype == np.float16:  # the same question of the exponents, asked several times faster
        exponents = x.view(np.uint16) & 0x7C00
        if exponents.max(initial=0) < 0x7C00:
            return
    finite = np.isfinite(x)
    if not finite.all():
        head, token, feature = (int(i) for i in np.argwhere(~finite)[0])
        raise CorruptInputError(
            f"{where}, head {head}, token {token}, feature {feature} is "
            f"{float(x[head, token, feature])}, not finite"
        )


def checked_scalers(scalers: GivenScalers, shape: tuple[int, int], where: str) -> dict[str, Scaler]:
    """The four scalers as float64 (layers, heads); the output's may be left out, it is (1, 0)."""
    unknown = sorted(scalers.keys() - set(SCALED))
    missing = [name for name in ("q", "k", "v") if name not in scalers]
    if unknown or missing:
        raise ConfigError(f"{where}: scalers must be q, k, v and output, not {sorted(scalers)}")
    result = {}
    for name in SCALED:
        given = scalers.get(name, (1.0, 0.0))
        try:
            a, b = given
        except (TypeError, ValueError):
            raise ConfigError(f"{where}: scalers.{name}: give a pair (a, b)") from None
        pair = [real_array(x, f"{where}: scalers.{name}").astype(np.float64) for x in (a, b)]
        if any(x.shape not in ((), shape) for x in pair):
            raise ConfigError(f"{where}: scalers.{name}: a and b must be (layers, heads) = {shape}")
        for x in pair:
            if not np.isfinite(x).all():
                place = [int(i) for i in np.argwhere(~np.isfinite(np.broadcast_to(x, shape)))[0]]
                raise CorruptInputError(
                    f"{where}: scalers.{name}: layer {place[0]}, head {place[1]} is not finite"
                )
        stored = [read_only(np.broadcast_to(x, shape).copy()) for x in pair]
        result[name] = (stored[0], stored[1])
    return result


def checked_ids(
    token_ids: ArrayLike | None, tokens: int, where: str = "token_ids"
) -> NDArray[np.int32]:
    """Token ids (tokens,) as int32, all -1 (none) where `token_ids` is None."""
    if token_ids is None:
        return read_only(np.full(tokens, -1, np.int32))
    ids = number_array(token_ids, where)
    if ids.shape != (tokens,) or ids.dtype.kind not in "iu":
        raise ConfigError(f"{where}: must be {tokens} integers, one a token")
    if ids.size and (int(ids.min()) < -1 or int(ids.max()) > np.iinfo(np.int32).max):
        raise CorruptInputError(f"{where}: token ids must be -1 (none) or 0 to 2^31 - 1")
    return read_only(ids.astype(np.int32))


def read_only(x: NDArray[Any]) -> NDArray[Any]:
    """A view of `x` that cannot be written."""
    view = x.view()
    view.setflags(write=False)
    return view


def grouped_queries(where: str, heads: int, kv_heads: int) -> ConfigError:
    """The refusal of k and v with fewer heads than q."""
    return ConfigError(
        f"{where}: {kv_heads} key-value heads for {heads} query heads: grouped queries are not "
        "simulated yet; use a model with as many of both"
    )
