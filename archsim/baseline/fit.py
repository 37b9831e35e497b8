"""The parameters of the decode model: fitted to four measurements, judged on all the others.

The time is linear in `floor`, `step` and one over the efficiency, so the fit is one weighted linear
least squares over the relative errors of the four rows; there is nothing to tune.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from archsim.baseline.roofline import DecodeAttention, estimate
from archsim.config.gpu import Gpu, Measurement, TimingModel, load_gpu

SCHEMA_VERSION = 1

FITTED_GPU, FITTED_WINDOWS = "h100-sxm", (128, 1024)
FITTED_TOLERANCE = 1e-3
"""How far a shipped parameter may lie from the fit: it is written with three or four digits."""

Role = Literal["fitted", "held out", "transfer", "paper"]
"""What a measurement is to the model.

fitted: a parameter was fitted to it. held out: same GPU, not fitted. transfer: another GPU, known
to the model by its data sheet alone. paper: the authors' setting, another software and precision.
"""

LIMITS: dict[Role, float] = {"held out": 0.15, "transfer": 0.20}
"""Highest mean absolute error that passes."""


@dataclass(frozen=True)
class Prediction:
    """One measurement and what the model says of it; times in us of a step, energies in mJ."""

    gpu: str
    role: Role
    precision: str
    batch: int
    window: int
    measured_us: float
    predicted_us: float
    measured_mj: float | None = None
    predicted_mj: float | None = None

    @property
    def error(self) -> float:
        """(predicted - measured) / measured, of the time."""
        return self.predicted_us / self.measured_us - 1

    @property
    def energy_error(self) -> float | None:
        """The same of the energy; None if it was not measured."""
        if self.measured_mj is None or self.predicted_mj is None:
            return None
        return self.predicted_mj / self.measured_mj - 1


@dataclass(frozen=True)
class GpuValidation:
    """Every measurement beside the model, and the fit made again."""

    predictions: tuple[Prediction, ...]
    shipped: dict[str, float]
    fitted: dict[str, float]
    other_steps: dict[int, dict[Role, float]]
    """Mean absolute errors if the step came at another number of tokens, all else fitted anew."""

    def mean_error(self, role: Role) -> float:
        """Mean absolute error of the time over the measurements of a role."""
        return _mean_error(self.predictions, role)

    @property
    def drifted(self) -> list[str]:
        """Shipped parameters that are not what the fit gives."""
        return [
            name
            for name, value in self.fitted.items()
            if abs(self.shipped[name] / value - 1) > FITTED_TOLERANCE
        ]

    @property
    def failures(self) -> list[str]:
        """What is out of its limit, in words."""
        above = [
            f"{role}: mean absolute error {100 * self.mean_error(role):.1f} %, "
            f"limit {100 * limit:.0f} %"
            for role, limit in LIMITS.items()
            if self.mean_error(role) > limit
        ]
        return above + [f"{name} is not what the fit gives" for name in self.drifted]

    def document(self) -> dict[str, Any]:
        """What ``archsim validate --gpu --json`` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "predictions": [
                {**asdict(p), "error": p.error, "energy_error": p.energy_error}
                for p in self.predictions
            ],
            "mean_absolute_error": {role: self.mean_error(role) for role in (*LIMITS, "fitted")},
            "limits": LIMITS,
            "parameters": {
                name: {"shipped": self.shipped[name], "fitted": value}
                for name, value in self.fitted.items()
            },
            "other_steps": {str(tokens): errors for tokens, errors in self.other_steps.items()},
            "passes": not self.failures,
        }


def validate_gpu() -> GpuValidation:
    """Fit the decode model again and set it beside every published measurement (FACTS 4).

    Reads the shipped GPU files; measurements made by ``archsim baseline measure`` play no part.
    """
    h100, h200 = load_gpu(FITTED_GPU), load_gpu("h200-sxm")
    others = [load_gpu("rtx-4090"), load_gpu("jetson-nano")]
    shipped = h100.timing
    predictions = (
        *_decode(h100, shipped),
        *_decode(h200, shipped),
        *(_paper(gpu, point) for gpu in others for point in gpu.measurements if _published(point)),
    )
    parameters = fit(h100, shipped.step_tokens)
    other_steps: dict[int, dict[Role, float]] = {}
    for tokens in (256, 512):
        timing = shipped.model_copy(update={**fit(h100, tokens), "step_tokens": tokens})
        moved = [*_decode(h100, timing), *_decode(h200, timing)]
        other_steps[tokens] = {role: _mean_error(moved, role) for role in LIMITS}
    return GpuValidation(
        predictions, {name: getattr(shipped, name) for name in parameters}, parameters, other_steps
    )


def fit(gpu: Gpu, step_tokens: int) -> dict[str, float]:
    """`floor`, `step` (s) and `bandwidth_efficiency` from the rows of `gpu` that are for fitting.

    Least squares of the relative error: t = floor + step [B S >= step_tokens] + x / efficiency,
    where x is the time of the row's bytes at the full bandwidth of their level.
    """
    import numpy as np

    ideal = gpu.timing.model_copy(update={"floor": 0.0, "step": 0.0, "bandwidth_efficiency": 1.0})
    bare = gpu.model_copy(update={"timing": ideal})
    rows, measured = [], []
    for point in gpu.measurements:
        if _published(point) and point.window in FITTED_WINDOWS:
            stepped = point.batch * point.window >= step_tokens
            rows.append((1.0, float(stepped), estimate(bare, attention_of(point)).latency_s))
            measured.append(point.step_latency)
    times = np.array(measured)
    relative = np.array(rows) / times[:, None]
    floor, step, slowness = np.linalg.lstsq(relative, np.ones(len(times)), rcond=None)[0]
    return {
        "floor": float(floor),
        "step": float(step),
        "bandwidth_efficiency": float(1 / slowness),
    }


def attention_of(point: Measurement) -> DecodeAttention:
    """The one layer of attention that was measured."""
    return DecodeAttention(
        1, point.heads, point.head_dim, point.window, point.batch, point.precision
    )


def _published(point: Measurement) -> bool:
    return point.source != "user"


def _mean_error(predictions: Sequence[Prediction], role: Role) -> float:
    errors = [abs(p.error) for p in predictions if p.role == role]
    return sum(errors) / len(errors)


def _decode(gpu: Gpu, timing: TimingModel) -> Iterator[Prediction]:
    modelled = gpu.model_copy(update={"timing": timing})
    for point in gpu.measurements:
        if not _published(point):
            continue
        role: Role = "transfer"
        if gpu.name == load_gpu(FITTED_GPU).name:
            role = "fitted" if point.window in FITTED_WINDOWS else "held out"
        predicted = estimate(modelled, attention_of(point), cache=point.cache).latency_s
        yield Prediction(
            gpu.name,
            role,
            point.precision,
            point.batch,
            point.window,
            point.step_latency * 1e6,
            predicted * 1e6,
        )


def _paper(gpu: Gpu, point: Measurement) -> Prediction:
    predicted = estimate(gpu, attention_of(point), "eager", point.cache)
    energy, idle = point.step_energy, predicted.idle_energy_j if point.above_idle else 0.0
    return Prediction(
        gpu.name,
        "paper",
        point.precision,
        point.batch,
        point.window,
        point.step_latency * 1e6,
        predicted.latency_s * 1e6,
        None if energy is None else energy * 1e3,
        (predicted.energy_j - idle) * 1e3,
    )
