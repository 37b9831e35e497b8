"""Which points a sweep has: the grid, random or Sobol draws, less what the constraints exclude."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from archsim.config.section import leaf_paths, leaves
from archsim.errors import ConfigError, MissingExtraError
from archsim.hardware.sections import HardwareConfig
from archsim.sweeps.axes import RUN_KEYS, config_value, si_value
from archsim.sweeps.definition import Sweep, base_hardware
from archsim.sweeps.expression import Value

Parameters = dict[str, Value]
"""A point: the axes' values as written, and the derived ones."""

CONFIRM, MOST = 100_000, 2_000_000
"""Points above which a sweep must be confirmed, and above which it is refused."""

DRAWS_PER_POINT = 1000
"""How many random draws may fail the constraints for one that meets them."""


class Space:
    """The points of a sweep: reads names in constraints, adds derived keys."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.excluded: dict[str, int] = {}
        self._needs_base = any(
            name not in RUN_KEYS
            for e in (*sweep.constraints, *sweep.derived.values())
            for name in e.names
        )

    @lru_cache(maxsize=64)  # noqa: B019 (lives as long as its sweep)
    def _base(self, hardware: str) -> dict[str, Value]:
        config = base_hardware(self.sweep, hardware).config
        absent: dict[str, Value] = dict.fromkeys(leaf_paths(HardwareConfig))
        return absent | dict(leaves(config))

    def complete(self, chosen: Parameters) -> Parameters | None:
        """The point of one value an axis, derived keys added; None if a constraint excludes it.

        Raises ConfigError if an expression cannot be evaluated, or derives an impossible value.
        """
        sweep = self.sweep
        if not sweep.constraints and not sweep.derived:
            return chosen
        names: dict[str, Value] = {key: getattr(sweep, key) for key in RUN_KEYS}
        names |= {key: chosen[key] for key in RUN_KEYS if key in chosen}
        if self._needs_base:
            names = {**self._base(str(names["hardware"])), **names}
        names |= {key: _si(key, value) for key, value in chosen.items() if key not in RUN_KEYS}
        point = dict(chosen)
        for key, expression in sweep.derived.items():
            point[key] = config_value(key, expression.value(names))
            names[key] = si_value(key, point[key])
        for constraint in sweep.constraints:
            if not constraint.holds(names):
                self.excluded[constraint.text] = self.excluded.get(constraint.text, 0) + 1
                return None
        return point

    def nothing_left(self, tried: int) -> ConfigError:
        """The error of constraints that contradict each other or the axes."""
        worst = max(self.excluded, key=lambda text: self.excluded[text])
        return ConfigError(
            f"constraints leave none of {tried:,} points; {worst!r} alone excludes "
            f"{self.excluded[worst]:,}"
        )


@lru_cache(maxsize=65536, typed=True)
def _si(key: str, value: Value) -> Value:
    return si_value(key, value)


def grid_size(sweep: Sweep) -> int:
    """Points of the full grid, constraints not counted."""
    return math.prod(len(axis.levels) for axis in sweep.axes)


def check_size(count: int, confirmed: bool) -> None:
    """Raises ConfigError for more points than anybody asks for by intention."""
    if count > MOST:
        raise ConfigError(
            f"{count:,} points are more than the {MOST:,} a sweep can have; "
            "take fewer values, or method random, sobol or search with points"
        )
    if count > CONFIRM and not confirmed:
        raise ConfigError(f"{count:,} points: confirm with --yes, or take fewer values")


def design(sweep: Sweep, confirmed: bool = False) -> list[Parameters]:
    """All points of a grid, random or sobol sweep, each once, in a fixed order.

    Raises ConfigError if the constraints leave none, or there are too many to run unasked.
    """
    space = Space(sweep)
    if sweep.method == "grid":
        size = grid_size(sweep)
        check_size(size, confirmed)
        found = [space.complete(chosen) for chosen in _grid(sweep)]
        points = [point for point in found if point is not None]
        if not points:
            raise space.nothing_left(size)
        return points
    check_size(sweep.points, confirmed)
    if sweep.method == "sobol":
        points = [p for p in sobol_rows(sweep, space) if p is not None]
        if not points:
            raise space.nothing_left(sum(space.excluded.values()))
        return _distinct(points)
    return _random(sweep, space)


def _grid(sweep: Sweep) -> Iterator[Parameters]:
    keys = [axis.key for axis in sweep.axes]
    for values in itertools.product(*(axis.levels for axis in sweep.axes)):
        yield dict(zip(keys, values, strict=True))


def at(sweep: Sweep, shares: NDArray[np.float64] | list[float]) -> Parameters:
    """The values of all axes at a place of the unit cube."""
    return {axis.key: axis.at(float(u)) for axis, u in zip(sweep.axes, shares, strict=True)}


def _distinct(points: list[Parameters]) -> list[Parameters]:
    return list({tuple(map(repr, point.values())): point for point in points}.values())


def _random(sweep: Sweep, space: Space) -> list[Parameters]:
    """Draws that meet the constraints, each point once; fewer where the space has no more."""
    rng = np.random.Generator(np.random.Philox(key=sweep.seed))
    points: dict[tuple[str, ...], Parameters] = {}
    misses = tried = 0
    while len(points) < sweep.points and misses < DRAWS_PER_POINT:
        tried += 1
        point = space.complete(at(sweep, rng.random(len(sweep.axes))))
        identity = None if point is None else tuple(map(repr, point.values()))
        if point is None or identity is None or identity in points:
            misses += 1
            continue
        points[identity], misses = point, 0
    if not points:
        raise space.nothing_left(tried)
    return list(points.values())


def sobol_base(sweep: Sweep) -> int:
    """Rows of each of the matrices A and B: a power of two, so that the sequence is balanced.

    Raises ConfigError if the points asked for are too few for any.
    """
    axes = len(sweep.axes)
    rows = sweep.points // (axes + 2)
    if rows < 2:
        raise ConfigError(
            f"sobol: points {sweep.points} are too few for {axes} axes: N x (axes + 2) are "
            f"drawn, N a power of two; give at least {2 * (axes + 2)}"
        )
    return 1 << (rows.bit_length() - 1)


def sobol_rows(sweep: Sweep, space: Space) -> list[Parameters | None]:
    """Saltelli's design: A, B, and A with one column of B for each axis; None where excluded.

    N (axes + 2) rows, the largest N that stays within ``points`` (Saltelli et al., Computer Physics
    Communications 181, 259-270, 2010). Raises MissingExtraError without SciPy.
    """
    try:
        from scipy.stats import qmc
    except ImportError:
        raise MissingExtraError("method sobol needs SciPy: pip install 'archsim[sweep]'") from None
    axes, count = len(sweep.axes), sobol_base(sweep)
    both = qmc.Sobol(2 * axes, scramble=True, rng=sweep.seed).random(count)
    a, b = both[:, :axes], both[:, axes:]
    rows = [*a, *b]
    for axis in range(axes):
        mixed = a.copy()
        mixed[:, axis] = b[:, axis]
        rows += [*mixed]
    return [space.complete(at(sweep, row)) for row in rows]


def overrides(parameters: Mapping[str, Value]) -> dict[str, Value]:
    """The part of a point that is config keys, as `Hardware.changed` takes them."""
    return {key: value for key, value in parameters.items() if key not in RUN_KEYS}
