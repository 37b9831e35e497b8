"""Torch, the numpy closed loop and `attend` are one hardware; gradients are what they claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archsim
from archsim.accuracy.closed_loop import AnalogLoop
from archsim.accuracy.direct_search import search_scalers
from archsim.adaptation.attention import AnalogAttention, quantise
from archsim.adaptation.model import AnalogKernel, Scalers, trainable
from archsim.chip.head import Head
from archsim.errors import ConfigError
from archsim.hardware.load import Hardware, load_hardware
from archsim.models.huggingface import load_gpt2
from tests.adaptation.conftest import OVERRIDES

VARIANTS: list[dict[str, Any]] = [
    {},
    {"cell.model": "linear"},
    {"window": 17},
    {"window": 64, "retention.decay_per_token": 0.05},
    {"retention.model": "off", "levels.output": None},
    {"levels.query": None, "levels.key_value": None, "levels.output": None},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_one_model_in_torch_and_numpy_down_to_the_codes(
    tiny_folder: Path, changes: dict[str, Any]
) -> None:
    """The closed loop of two layers: same codes everywhere, same logits to rounding."""
    hardware = load_hardware(overrides=OVERRIDES | changes)
    head = Head(hardware.config)
    reference = load_gpt2(tiny_folder, np.float64)
    ids = np.random.default_rng(0).integers(0, 300, (2, 64))
    scalers = search_scalers(reference, head, ids, rounds=0).scalers
    loop = AnalogLoop(hardware.config, scalers)
    codes: dict[str, list[np.ndarray]] = {"attend": [], "torch": []}

    def through_attend(layer: int, q: Any, k: Any, v: Any) -> Any:
        pairs = {n: (np.tile(a[layer], 2), np.tile(b[layer], 2)) for n, (a, b) in scalers.items()}
        output = archsim.attend(q, k, v, hardware, pairs, details=True)
        assert output.codes is not None
        codes["attend"].append(output.codes.sum(axis=2))
        np.testing.assert_array_equal(output.y, loop(layer, q, k, v))
        return output.y

    expected = reference.logits(ids, through_attend)
    model = trainable(reference, tiny_folder, torch.float64)
    analog = AnalogAttention(hardware.config)
    kernel = AnalogKernel(analog, Scalers(scalers, torch.float64))
    steps = head.laws.output.quantiser.levels

    def through_torch(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
        scaled = [
            kernel.scalers.apply_to(n, layer, x) for n, x in zip("qkv", (q, k, v), strict=True)
        ]
        total = analog(*scaled).detach().numpy().reshape(-1, 64, 8)
        codes["torch"].append(total if steps is None else total * (steps - 1) / 2)
        return kernel(layer, q, k, v)

    found = model(torch.from_numpy(ids), kernel=through_torch).detach().numpy()
    for torch_codes, attend_codes in zip(codes["torch"], codes["attend"], strict=True):
        if steps is None:
            np.testing.assert_allclose(torch_codes, attend_codes, rtol=0, atol=1e-9)
        else:
            np.testing.assert_array_equal(np.rint(torch_codes), attend_codes)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)
    assert any(np.any(c != 0) for c in codes["attend"]), "all outputs 0 would prove nothing"


def test_quantiser_is_the_components_one(tiny_hardware: Hardware) -> None:
    quantiser = Head(tiny_hardware.config).write_path.quantiser
    x = np.linspace(-0.2, 1.1, 1301)
    expected = quantiser.values(quantiser.codes(x))
    np.testing.assert_array_equal(quantise(torch.from_numpy(x), quantiser).numpy(), expected)


def smooth(gradient: Any) -> tuple[AnalogAttention, list[torch.Tensor]]:
    """Nothing quantised or clipped, so that the backward pass can be compared with differences."""
    nothing = {"levels.query": None, "levels.key_value": None, "levels.output": None}
    scores = {"converter.score.saturation_current": "1 A", "window": 9}
    hardware = load_hardware(overrides=OVERRIDES | nothing | scores)
    rng = torch.Generator().manual_seed(1)
    # currents all positive and small, so that the HardSigmoid is nowhere at its edges
    q, k, v = (torch.rand(1, 20, 8, generator=rng, dtype=torch.float64) for _ in range(3))
    inputs = [x * 0.4 + 0.5 for x in (q, k, v)]
    return AnalogAttention(hardware.config, gradient), [x.requires_grad_() for x in inputs]


def test_true_gradient_is_the_derivative() -> None:
    attention, inputs = smooth("true")
    scale = 1e6  # a score of 1 A saturates: outputs are tiny, gradcheck wants numbers of size 1

    def function(*x: torch.Tensor) -> torch.Tensor:
        return attention(*x) * scale

    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-5, rtol=1e-4)


def test_surrogate_gradient_has_the_linear_cells_slope() -> None:
    """On v it is the true one with every dI/dV replaced by the slope of the linear cell."""
    surrogate, inputs = smooth("surrogate")
    surrogate(*inputs).sum().backward()
    found = inputs[2].grad
    true, again = smooth("true")
    true(*again).sum().backward()
    head = Head(true.config)
    cell = head.cell
    y = again[2].detach().numpy() - cell.mid_rail
    c = cell.law.coefficients
    slope = c[1] + 2 * c[2] * y + 3 * c[3] * y**2
    assert found is not None
    assert again[2].grad is not None
    # powers decay a little differently, hence the tolerance
    expected = again[2].grad.numpy() * head.linear_slope / slope
    np.testing.assert_allclose(found.numpy(), expected, rtol=5e-3)


def straight_through(x: torch.Tensor, quantiser: Any, margin: float) -> torch.Tensor:
    """The quantised value; the gradient of x within the range, `margin` of it wider."""
    inside = (x > quantiser.low - margin) & (x < quantiser.high + margin)
    return quantise(x, quantiser).detach() + torch.where(inside, x - x.detach(), 0.0)


@pytest.mark.parametrize("window", [20, 9])
def test_gradients_pass_clamps_only_where_they_should(window: int) -> None:
    """Every clamp at work, against torch's own differentiation of the plain formulas."""
    currents = {"converter.score.saturation_current": "6 uA"}
    currents |= {"converter.output.saturation_current": "9 uA", "retention.model": "off"}
    hardware = load_hardware(overrides=OVERRIDES | currents | {"window": window})
    attention = AnalogAttention(hardware.config, "true")
    head, tokens = attention.head, 40
    rng = torch.Generator().manual_seed(3)
    inputs = [torch.randn(2, tokens, 8, generator=rng, dtype=torch.float64) for _ in range(3)]
    inputs = [
        x * scale + middle
        for x, scale, middle in zip(inputs, (1, 0.5, 0.5), (0.5, 0.45, 0.45), strict=True)
    ]
    weight = torch.randn(2, tokens, 8, generator=rng, dtype=torch.float64)

    def half(quantiser: Any) -> float:
        return 0.5 * (quantiser.high - quantiser.low) / (quantiser.levels - 1)

    def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        pulse, write = head.pulse_generator.quantiser, head.write_path.quantiser
        pulses = straight_through(q, pulse, half(pulse))
        keys, values = (
            sum(
                float(c) * (straight_through(x, write, half(write)) - head.cell.mid_rail) ** p
                for p, c in enumerate(head.cell.law.coefficients)
            )
            for x in (k, v)
        )
        age = torch.arange(tokens)[:, None] - torch.arange(tokens)
        seen = (age >= 0) & (age < window)
        widths = (pulses @ keys.mT / head.laws.readout.saturation).clamp(0, 1) * seen
        tile = torch.tensor([head.sub_tiles.sub_tile(token) for token in range(tokens)])
        output = head.laws.output
        total = torch.zeros_like(q)
        for number in range(head.sub_tiles.count):
            current = (widths * (tile == number)) @ values / output.full_scale
            total = total + straight_through(current, output.quantiser, half(output.quantiser))
        return total

    gradients = []
    for function in (attention, plain):
        leaves = [x.clone().requires_grad_() for x in inputs]
        result = function(*leaves)
        (result * weight).sum().backward()
        gradients.append([result.detach(), *(x.grad for x in leaves)])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    assert all((gradients[0][n] == 0).any() for n in (1, 2, 3)), "no clamp was at work"


def test_a_retention_it_cannot_train_is_refused() -> None:
    fast = load_hardware(overrides=OVERRIDES | {"retention.decay_per_token": 3})
    x = torch.zeros(1, 64, 8)
    with pytest.raises(ConfigError, match="too fast to train over 64 tokens; direct"):
        AnalogAttention(fast.config)(x, x, x)
