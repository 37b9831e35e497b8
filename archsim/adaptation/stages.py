"""The stages of the initialization algorithm (FACTS 5), each from one state to the next."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archsim.accuracy.direct_search import search_scalers
from archsim.accuracy.variants import with_cell
from archsim.adaptation.matching import Matched, match_scalers, moments
from archsim.adaptation.preparation import prepare
from archsim.adaptation.recipe import Recipe, Statistic
from archsim.chip.head import Head
from archsim.errors import ConfigError
from archsim.hardware.load import Hardware
from archsim.models.adapted import (
    Attention,
    StageRecord,
)
from archsim.models.gpt2 import Gpt2
from archsim.models.huggingface import (
    assemble,
)
from archsim.traces.manifest import Scalar
from archsim.traces.scalers import Scaler

if TYPE_CHECKING:
    from archsim.adaptation.training import Curve, Stream

Progress = Callable[[str, int, int], None]
Scalers = dict[str, Scaler]

STAGES = ("basis", "direct", "transfer", "linear", "match", "tune", "control")
"""In the order in which they run."""

TRAINING = ("transfer", "linear", "tune", "control")

TITLES = {
    "software": "the software model, softmax attention",
    "control": "the software model trained as long on the same batches",
    "direct": "scalers by direct search, no training",
    "transfer": "linear cell after layer-wise transfer",
    "transfer_polynomial": "polynomial cell after layer-wise transfer",
    "linear": "linear cell after the linear stage",
    "unadapted": "polynomial cell, the linear stage's scalers",
    "matched": "polynomial cell after scaler matching",
    "matched_voltage": "polynomial cell after matching voltages, as published",
    "tuned": "polynomial cell after fine-tuning",
}


@dataclass(frozen=True)
class AdaptationPlan:
    """Which stages run, and how; `recipes` for the stages that train.

    `dtype` is how weights are stored, and what the next stage starts from; `seed` decides the basis
    and where in the text the calibration windows lie (batches are drawn by the recipes' seeds).
    """

    stages: tuple[str, ...]
    recipes: Mapping[str, Recipe]
    calibration_windows: int = 4
    statistic: Statistic = "current"
    dtype: str = "float32"
    trained: str = "everything"
    trace_tokens: int = 1024
    seed: int = 0

    def __repr__(self) -> str:
        return f"<AdaptationPlan {','.join(self.stages)}, seed {self.seed}>"

    def __post_init__(self) -> None:
        unknown = [name for name in self.stages if name not in STAGES]
        if unknown:
            raise ConfigError(f"stage {unknown[0]!r}: use {', '.join(STAGES)}")
        if not self.stages:
            raise ConfigError(f"no stage: use {', '.join(STAGES)}")
        if list(self.stages) != sorted(set(self.stages), key=STAGES.index):
            raise ConfigError(
                f"stages {','.join(self.stages)}: each at most once, in the order "
                f"{','.join(STAGES)}"
            )
        if "match" in self.stages and "linear" not in self.stages:
            raise ConfigError("stage match needs stage linear, whose statistics it matches")

    @property
    def reaches_hardware(self) -> bool:
        """Whether a stage puts the model on the hardware."""
        return bool(set(self.stages) - {"basis", "control"})

    @property
    def cell(self) -> str:
        """The cell law the first stages see: the linear one if there is a linear stage."""
        return "linear" if "linear" in self.stages else "polynomial"


@dataclass
class State:
    """What a stage hands to the next; `history` is a fingerprint of how it came about."""

    model: Gpt2
    scalers: Scalers
    history: str
    stages: list[tuple[StageRecord, Gpt2, Scalers | None]] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict)


class StageRunner:
    """The stages; each takes the state and leaves its result in it."""

    def __init__(
        self,
        hardware: Hardware,
        plan: AdaptationPlan,
        ids: Stream,
        calibration: NDArray[np.int64],
        base: Gpt2,
        checkpoints: Path,
        report: Progress,
        origin: str,
    ) -> None:
        self.hardware, self.plan, self.ids, self.calibration = hardware, plan, ids, calibration
        self.base, self.checkpoints, self.report = base, checkpoints, report
        self.origin = origin
        self.seconds_before = 0.0
        """What earlier sittings spent on the stage that runs; nan where that is not known."""

    def head(self, cell: str) -> Head:
        return Head(with_cell(self.hardware, cell).config, self.base.config.head_dim)

    def keep(
        self, state: State, name: str, attention: str, steps: int = 0, recipe: Recipe | None = None
    ) -> None:
        settings: dict[str, Scalar] = {} if recipe is None else recipe.settings()
        entry = StageRecord(
            name=name,
            title=TITLES[name],
            attention=_row_attention(attention),
            steps=steps,
            settings=settings,
        )
        state.stages.append((entry, state.model, dict(state.scalers)))

    def control(self, state: State) -> None:
        recipe = self.plan.recipes["control"]
        origin = State(self.base, {}, self.origin)
        model, _, curve = self._train("control", self.base, None, "software", recipe, origin)
        entry = StageRecord(
            name="control",
            title=TITLES["control"],
            attention="software",
            steps=recipe.steps,
            settings=recipe.settings(),
        )
        state.stages.append((entry, model, None))
        state.curves["control"] = curve

    def basis(self, state: State) -> None:
        self.report("basis", 0, 1)
        state.model = prepare(state.model, self.calibration[:, :-1], self.plan.seed)
        state.history = fingerprint(state.history, "basis")

    def direct(self, state: State) -> None:
        found = search_scalers(
            state.model,
            self.head(self.plan.cell),
            self.calibration[:, :-1],
            open_loop=True,
            progress=self.report,
        )
        state.scalers = found.scalers
        state.curves["direct"] = {
            "missed_share_start": found.start_error.tolist(),
            "missed_share": found.error.tolist(),
        }
        state.history = fingerprint(state.history, "direct", self.plan.calibration_windows)
        if "linear" not in self.plan.stages:
            self.keep(state, "direct", "polynomial")

    def start(self, state: State) -> None:
        """Scalers by moments and least squares where no search was asked for."""
        if not state.scalers:
            state.scalers = search_scalers(
                state.model,
                self.head(self.plan.cell),
                self.calibration[:2, :-1],
                rounds=0,
                open_loop=True,
                progress=self.report,
            ).scalers

    def transfer(self, state: State) -> None:
        self.start(state)
        recipe = self.plan.recipes["transfer"]
        state.model, state.scalers, curve = self._train(
            "transfer", state.model, state.scalers, self.plan.cell, recipe, state
        )
        state.curves["transfer"] = curve
        name = "transfer" if self.plan.cell == "linear" else "transfer_polynomial"
        self.keep(state, name, self.plan.cell, recipe.steps, recipe)

    def linear(self, state: State) -> None:
        self.start(state)
        recipe = self.plan.recipes["linear"]
        state.model, state.scalers, curve = self._train(
            "linear", state.model, state.scalers, "linear", recipe, state
        )
        state.curves["linear"] = curve
        self.keep(state, "linear", "linear", recipe.steps, recipe)
        self.keep(state, "unadapted", "polynomial")

    def match(self, state: State) -> None:
        """By the plan's statistic; by the published one too, to show beside it."""
        linear, chosen = dict(state.scalers), self.plan.statistic
        if chosen != "voltage":
            self._match(state, linear, "voltage", "matched_voltage", "matching_voltage")
        self._match(state, linear, chosen, "matched", "matching")
        state.history = fingerprint(state.history, "match", chosen)

    def _match(
        self, state: State, linear: Scalers, statistic: Statistic, stage: str, curve: str
    ) -> None:
        target, loss = moments(
            state.model, self.head("linear"), linear, self.calibration, statistic
        )
        found: Matched = match_scalers(
            state.model,
            self.head("polynomial"),
            target,
            self.calibration,
            statistic=statistic,
            progress=self.report,
        )
        state.scalers = found.scalers
        state.curves[curve] = {
            "statistic": statistic,
            "deviation": found.deviations,
            "loss": found.losses,
            "linear_loss": loss,
            "converged": found.converged,
        }
        self.keep(state, stage, "polynomial", len(found.losses) - 1)

    def tune(self, state: State) -> None:
        self.start(state)
        recipe = self.plan.recipes["tune"]
        state.model, state.scalers, curve = self._train(
            "tune", state.model, state.scalers, "polynomial", recipe, state
        )
        state.curves["tune"] = curve
        self.keep(state, "tuned", "polynomial", recipe.steps, recipe)

    def _train(
        self,
        name: str,
        model: Gpt2,
        scalers: Scalers | None,
        cell: str,
        recipe: Recipe,
        state: State,
    ) -> tuple[Gpt2, Scalers, Curve]:
        import torch

        from archsim.adaptation.attention import AnalogAttention
        from archsim.adaptation.model import AnalogKernel, trainable
        from archsim.adaptation.model import Scalers as Trainable
        from archsim.adaptation.training import (
            TRAINED,
            Checkpoint,
            Language,
            Transfer,
            train,
        )

        torch.manual_seed(recipe.seed)
        where = self.checkpoints.parent
        student = trainable(model, where, torch.float32)
        teacher = trainable(self.base, where, torch.float32)
        kernel = None
        if scalers is not None:
            config = with_cell(self.hardware, cell).config
            products = torch.bfloat16 if recipe.bfloat16 else None
            attention = AnalogAttention(config, recipe.gradient, products)
            kernel = AnalogKernel(attention, Trainable(scalers, torch.float32))
        language = Language(teacher, recipe.distillation, recipe.hidden)
        history = fingerprint(state.history, name, recipe.settings(), torch.get_num_threads())
        trained = train(
            name,
            student,
            kernel,
            Transfer(teacher) if name == "transfer" else language,
            recipe,
            self.ids,
            trained=TRAINED["attention" if name == "transfer" else self.plan.trained],
            checkpoint=Checkpoint(self.checkpoints / f"{name}.pt", history),
            progress=self.report,
        )
        self.seconds_before += trained.seconds_before
        if name != "control":
            state.history = history
        tensors = {k: v.detach().numpy() for k, v in student.state_dict().items()}
        tuned = assemble(model.config, _as_stored(tensors, self.plan.dtype))
        found = kernel.scalers.arrays() if kernel is not None else {}
        return tuned, found, trained.curve


def _as_stored(tensors: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Tensors rounded to the storage type: a stage starts from what the folder will hold."""
    return {name: x.astype(dtype).astype(np.float32) for name, x in tensors.items()}


def _row_attention(cell: str) -> Attention:
    return {"software": "software", "linear": "linear"}.get(cell, "polynomial")  # type: ignore[return-value]


def fingerprint(*parts: Any) -> str:
    """A hash of everything that decided a state so far."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
