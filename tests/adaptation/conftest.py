"""A GPT-2 small enough to adapt within a test, a text for it, and hardware of its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.adaptation.adapt import adapt_model
from archsim.adaptation.recipe import Recipe
from archsim.adaptation.stages import AdaptationPlan
from archsim.hardware.load import Hardware, load_hardware
from tests.traces.tiny_gpt2 import write_tiny_gpt2

HEAD_DIM = 8
OVERRIDES = {"array.rows": HEAD_DIM, "array.columns": 16, "window": 48}
SIZES = {"n_embd": 16, "n_head": 2, "n_layer": 2, "n_positions": 64}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 layers x 2 heads x 8, 64 positions."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_gpt2(folder, seed=4, **SIZES)
    return folder


@pytest.fixture(scope="session")
def tiny_hardware() -> Hardware:
    """Three sub-tiles of 16 columns; the window is shorter than the model's context."""
    return load_hardware(overrides=OVERRIDES)


@pytest.fixture(scope="session")
def text() -> str:
    """Words in an order that is the same on every machine; about 4,000 characters."""
    rng = np.random.default_rng(5)
    words = ["truth", "single", "man", "fortune", "possession", "acknowledged", "good", "a", "in"]
    return " ".join(rng.choice(words, 700)) + "\n"


def recipe(steps: int, **changes: Any) -> Recipe:
    settings: dict[str, Any] = {"optimiser": "muon", "distillation": 0.5, "hidden": 1.0} | changes
    return Recipe(steps, windows=2, tokens=64, warm_up=2, **settings)


def plan(
    stages: str = "basis,direct,transfer,linear,match,tune,control", **changes: Any
) -> AdaptationPlan:
    recipes = {"transfer": recipe(4), "linear": recipe(6), "tune": recipe(3), "control": recipe(9)}
    return AdaptationPlan(tuple(stages.split(",")), recipes, calibration_windows=2, **changes)


@pytest.fixture(scope="session")
def adapted_folder(
    tiny_folder: Path, tiny_hardware: Hardware, text: str, tmp_path_factory: Any
) -> Path:
    output: Path = tmp_path_factory.mktemp("adapted") / "all"
    return adapt_model(tiny_folder, tiny_hardware, [text], output, plan())
