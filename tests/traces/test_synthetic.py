"""Synthetic traces: deterministic, of any shape, with the statistics that were measured."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.errors import ConfigError
from archsim.traces.synthetic import MEASURED, synthesise


def test_the_same_arguments_give_the_same_bytes() -> None:
    one, two = synthesise(2, 3, 50, seed=7), synthesise(2, 3, 50, seed=7)
    assert one.sha256 == two.sha256
    assert one.manifest == two.manifest
    assert synthesise(2, 3, 50, seed=8).sha256 != one.sha256


def test_a_layer_does_not_depend_on_how_many_there_are() -> None:
    few, many = synthesise(1, 2, 30, seed=1), synthesise(4, 2, 30, seed=1)
    assert np.array_equal(few.k[0], many.k[0])
    assert not np.array_equal(many.k[0], many.k[1])


def test_statistics_are_those_of_real_traces() -> None:
    trace = synthesise(2, 12, 1024)
    for name, measured in MEASURED.items():
        x = getattr(trace, name).astype(float)
        deviation = x.std((2, 3))
        assert deviation.min() > 0.8 * measured.lowest
        assert deviation.max() < 1.2 * measured.highest
        centred = (x - x.mean(2, keepdims=True)) / x.std(2, keepdims=True)
        # of the reference trace: 0.17, 0.28, 0.13
        expected = {"q": 0.17, "k": 0.28, "v": 0.13}[name]
        neighbours = np.mean(centred[:, :, 1:] * centred[:, :, :-1])
        assert neighbours == pytest.approx(expected, abs=0.03)
        share = (x.mean(2).std(2) / deviation).mean()
        assert share == pytest.approx(measured.offset, abs=0.08)


@pytest.mark.parametrize("shape", [(0, 1, 1, 1), (1, -1, 1, 1), (1, 1, 0, 1), (1, 1, 10**9, 64)])
def test_impossible_shapes_are_refused(shape: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match=r"at least 1|more than"):
        synthesise(*shape)
