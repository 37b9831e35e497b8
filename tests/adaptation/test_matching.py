"""Scaler matching: the published update, schedule and stop rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archsim.accuracy.direct_search import search_scalers
from archsim.accuracy.variants import with_cell
from archsim.adaptation.matching import match_scalers, moments, rate, start_scalers
from archsim.adaptation.recipe import Statistic
from archsim.chip.head import Head
from archsim.hardware.load import Hardware
from archsim.models.gpt2 import Gpt2
from archsim.models.huggingface import load_gpt2


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> Gpt2:
    return load_gpt2(tiny_folder)


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 300, (3, 65))


def heads(hardware: Hardware) -> tuple[Head, Head]:
    linear, polynomial = (with_cell(hardware, cell).config for cell in ("linear", "polynomial"))
    return Head(linear), Head(polynomial)


def test_the_schedule_is_the_published_one() -> None:
    assert [rate(0), rate(25), rate(50), rate(99)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_moments_are_those_of_every_scalers_output(
    model: Gpt2, ids: np.ndarray, tiny_hardware: Hardware
) -> None:
    """Of layer 0, where q, k and v do not depend on the hardware, by their definition."""
    head = heads(tiny_hardware)[0]
    scalers = search_scalers(model, head, ids[:, :-1], rounds=0).scalers
    found, _ = moments(model, head, scalers, ids)
    seen: dict[int, tuple[np.ndarray, ...]] = {}
    model.forward(ids[:, :-1], record=lambda layer, *x: seen.update({layer: x}))
    by_head = [x.reshape(3, 2, -1).swapaxes(0, 1) for x in seen[0]]
    for name, x in zip("qkv", by_head, strict=True):
        a, b = scalers[name]
        for h in range(2):
            scaled = a[0, h] * x[h].astype(np.float64) + b[0, h]
            assert found[name][0][0, h] == pytest.approx(scaled.mean(), abs=1e-6)
            assert found[name][1][0, h] == pytest.approx(scaled.std(), abs=1e-6)


def test_the_statistic_of_currents_is_what_the_cells_send(
    model: Gpt2, ids: np.ndarray, tiny_hardware: Hardware
) -> None:
    """Of the keys of layer 0: the cubic law of FACTS 2 between the rails, over 19.3 uA/V."""
    head = heads(tiny_hardware)[1]
    scalers = search_scalers(model, head, ids[:, :-1], rounds=0).scalers
    found, _ = moments(model, head, scalers, ids, "current")
    seen: dict[int, tuple[np.ndarray, ...]] = {}
    model.forward(ids[:, :-1], record=lambda layer, *x: seen.update({layer: x}))
    a, b = scalers["k"]
    for h in range(2):
        volts = a[0, h] * seen[0][1].reshape(3, 2, -1)[:, h].astype(np.float64) + b[0, h]
        y = volts.clip(0, 0.9) - 0.45
        sent = 0.52136361 + 13.61226063 * y - 2.62044562 * y**2 + 46.05483778 * y**3
        assert found["k"][0][0, h] == pytest.approx((sent / 19.3).mean(), abs=1e-6)
        assert found["k"][1][0, h] == pytest.approx((sent / 19.3).std(), abs=1e-6)


@pytest.mark.parametrize("statistic", ["voltage", "current"])
def test_it_converges_from_a_of_one(
    model: Gpt2, ids: np.ndarray, tiny_hardware: Hardware, statistic: Statistic
) -> None:
    linear, polynomial = heads(tiny_hardware)
    scalers = search_scalers(model, linear, ids[:, :-1], rounds=1).scalers
    target, _ = moments(model, linear, scalers, ids, statistic)
    found = match_scalers(model, polynomial, target, ids, statistic=statistic)
    assert found.converged
    assert len(found.losses) - 1 < 100
    assert found.deviations[0] > 0.01
    again, loss = moments(model, polynomial, found.scalers, ids, statistic)
    for name, parts in target.items():
        for wanted, got in zip(parts, again[name], strict=True):
            assert np.abs(wanted - got).max() <= 1e-4
    assert loss == found.losses[-1]


def test_the_first_pass_is_the_published_update(
    model: Gpt2, ids: np.ndarray, tiny_hardware: Hardware
) -> None:
    """alpha = 1: a becomes a std*/std, b becomes b + mean* - mean, where they are off."""
    linear, polynomial = heads(tiny_hardware)
    scalers = search_scalers(model, linear, ids[:, :-1], rounds=0).scalers
    target, _ = moments(model, linear, scalers, ids)
    start = start_scalers(polynomial, 2, 2)
    before, _ = moments(model, polynomial, start, ids)
    found = match_scalers(model, polynomial, target, ids, iterations=1)
    assert not found.converged
    for name, (a, b) in start.items():
        np.testing.assert_allclose(found.scalers[name][0], a * target[name][1] / before[name][1])
        np.testing.assert_allclose(found.scalers[name][1], b + target[name][0] - before[name][0])


def test_a_pass_changes_a_gain_by_a_factor_of_ten_at_most(
    model: Gpt2, ids: np.ndarray, tiny_hardware: Hardware
) -> None:
    """A head whose output all but vanishes would else never come back."""
    head = heads(tiny_hardware)[1]
    start = start_scalers(head, 2, 2)
    found, _ = moments(model, head, start, ids)
    target = {name: (mean, deviation * 1e9) for name, (mean, deviation) in found.items()}
    matched = match_scalers(model, head, target, ids, iterations=1)
    for name in ("q", "k", "v"):
        np.testing.assert_allclose(matched.scalers[name][0], 10 * start[name][0])
