"""The kernel model beside every measured point: what was fitted, what was not, and by how much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from archsim.gpu.file import (
    Gpu,
    Measurement,
    TokenMeasurement,
    available_gpus,
    load_gpu,
)
from archsim.gpu.fit import (
    FITTED_GPU,
    PARAMETERS,
    attention_of,
    board_of,
    described,
    fitted_points,
    predicted,
)
from archsim.gpu.roofline import DecodeAttention
from archsim.gpu.token import attention_alone, gpu_token
from archsim.units import MICROSECOND, MILLIJOULE

SCHEMA_VERSION = 3

Role = Literal["fitted", "held out", "transfer", "authors", "not modelled"]
"""What a measured point is to the model.

fitted: parameters were fitted to it. held out: same GPU, not fitted. transfer: another GPU, known
by its data sheet alone. authors: measured by the authors of the gain-cell paper, on other GPUs. not
modelled: a kernel slower than the best, or another library; decides nothing.
"""

TOKEN, BY_GRAPH, TRANSFER, AUTHORS, OTHER = (
    "whole token",
    "unfused, by graph",
    "two GPUs, one kernel",
    "the authors' points",
    "other kernels",
)


@dataclass(frozen=True)
class Limit:
    """Highest errors that pass, of time and energy alike; None where nothing is asked."""

    mean: float | None = None
    worst: float | None = None


LIMITS: dict[str, Limit] = {
    "bf16, warm": Limit(mean=0.08, worst=0.25),
    "bf16, cold": Limit(worst=0.20),
    "fused, others": Limit(worst=0.20),
    "unfused": Limit(worst=0.20),
    BY_GRAPH: Limit(worst=0.20),
    TOKEN: Limit(worst=0.15),
    TRANSFER: Limit(mean=0.10),
}
"""Of points that were not fitted, by their group."""


@dataclass(frozen=True)
class Prediction:
    """One measurement and what the model says of it; times in us of a step, energies in mJ.

    `part` is that of a whole token. In the group of another GPU's library, the prediction is the
    H100's measured time times the ratio that the model gives.
    """

    gpu: str
    role: Role
    group: str
    kernel: str
    precision: str
    cache: str
    batch: int
    window: int
    part: str | None
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
class Summary:
    """Absolute errors of the points of a group that have one role: mean and largest."""

    role: Role
    group: str
    rows: int
    time_mean: float
    time_worst: float
    energy_mean: float | None
    energy_worst: float | None

    @property
    def limit(self) -> Limit:
        """What it must keep; nothing if it was fitted or decides nothing."""
        judged = self.role in {"held out", "transfer"}
        return LIMITS.get(self.group, Limit()) if judged else Limit()

    @property
    def failures(self) -> list[str]:
        """What is out of its limit, in words."""
        found = []
        for what, value, limit in (
            ("mean error of time", self.time_mean, self.limit.mean),
            ("mean error of energy", self.energy_mean, self.limit.mean),
            ("largest error of time", self.time_worst, self.limit.worst),
            ("largest error of energy", self.energy_worst, self.limit.worst),
        ):
            if value is not None and limit is not None and value > limit:
                found.append(
                    f"{self.group}, {self.role}: {what} {100 * value:.1f} %, limit "
                    f"{100 * limit:.0f} %"
                )
        return found


@dataclass(frozen=True)
class GpuValidation:
    """Every measurement beside the model, and the parameters that the model has."""

    predictions: tuple[Prediction, ...]
    parameters: dict[str, float]

    @property
    def summaries(self) -> tuple[Summary, ...]:
        """Errors by group and role, in the order of the predictions."""
        found: dict[tuple[str, Role], list[Prediction]] = {}
        for each in self.predictions:
            found.setdefault((each.group, each.role), []).append(each)
        return tuple(_summary(role, group, rows) for (group, role), rows in found.items())

    @property
    def failures(self) -> list[str]:
        """What is out of its limit, in words."""
        return [text for summary in self.summaries for text in summary.failures]

    def document(self) -> dict[str, Any]:
        """What ``archsim validate --gpu --json`` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "predictions": [
                {**asdict(p), "error": p.error, "energy_error": p.energy_error}
                for p in self.predictions
            ],
            "summaries": [{**asdict(each), "limit": asdict(each.limit)} for each in self.summaries],
            "parameters": self.parameters,
            "passes": not self.failures,
        }


def validate_gpu() -> GpuValidation:
    """Set the kernel model beside every measurement of the shipped GPU files (FACTS 4)."""
    fitted = load_gpu(FITTED_GPU)
    others = [load_gpu(name) for name in available_gpus() if name != FITTED_GPU]
    predictions = [*_measured_points(fitted), *_tokens(fitted)]
    for gpu in others:
        predictions += _transfers(fitted, gpu)
        predictions += _authors(gpu)
    predictions += _not_modelled(fitted)
    return GpuValidation(
        tuple(predictions), {name: getattr(fitted.model, name) for name in PARAMETERS}
    )


def _means(points: Sequence[Prediction]) -> tuple[float, float | None]:
    energies = [abs(p.energy_error) for p in points if p.energy_error is not None]
    time = sum(abs(p.error) for p in points) / len(points)
    return time, sum(energies) / len(energies) if energies else None


def _summary(role: Role, group: str, rows: Sequence[Prediction]) -> Summary:
    energies = [abs(p.energy_error) for p in rows if p.energy_error is not None]
    mean, energy = _means(rows)
    worst = max(abs(p.error) for p in rows)
    return Summary(role, group, len(rows), mean, worst, energy, max(energies, default=None))


def _point(gpu: Gpu, point: Measurement, role: Role, group: str) -> Prediction:
    said, energy = predicted(gpu, point), point.step_energy
    modelled = said.dynamic_energy_j if point.above_idle else said.energy_j
    return Prediction(
        gpu.name,
        role,
        group,
        point.kernel or "-",
        point.precision,
        point.cache,
        point.batch,
        point.window,
        None,
        MICROSECOND.of(point.step_latency),
        MICROSECOND.of(said.latency_s),
        None if energy is None else MILLIJOULE.of(energy),
        None if energy is None else MILLIJOULE.of(modelled),
    )


def _measured_points(gpu: Gpu) -> Iterator[Prediction]:
    """What was measured by ``baseline measure``, by kernels that the model is of."""
    points = [point for point in gpu.measurements if point.source == "user"]
    fitted = fitted_points(points)
    for point in points:
        if described(point):
            role: Role = "fitted" if point in fitted else "held out"
            yield _point(gpu, point, role, board_of(point) or BY_GRAPH)


def _tokens(gpu: Gpu) -> Iterator[Prediction]:
    for token in gpu.tokens:
        if token.shape is not None:
            yield _token(gpu, token)


def _token(gpu: Gpu, token: TokenMeasurement) -> Prediction:
    assert token.shape is not None
    shape = token.shape.shape
    step = DecodeAttention(
        shape.layers, shape.heads, shape.head_dim, token.window, token.batch, token.precision
    )
    cost = gpu_token(gpu, "graph", step, shape)
    said = {
        "whole": (cost.latency_s, cost.energy_j),
        "rest": (cost.rest_s, cost.rest_j),
        "attention": attention_alone(gpu, "graph", step, shape),
    }[token.part]
    return Prediction(
        gpu.name,
        "held out",
        TOKEN,
        "PyTorch",
        token.precision,
        "-",
        token.batch,
        token.window,
        token.part,
        MICROSECOND.of(token.latency),
        MICROSECOND.of(said[0]),
        None if token.energy is None else MILLIJOULE.of(token.energy),
        None if token.energy is None else MILLIJOULE.of(said[1]),
    )


def _transfers(fitted: Gpu, gpu: Gpu) -> Iterator[Prediction]:
    """Points that one other library measured on both GPUs: does the model give their ratio?"""
    for point in gpu.measurements:
        if described(point) or point.protocol == "paper":
            continue
        for twin in fitted.measurements:
            if twin.kernel == point.kernel and attention_of(twin) == attention_of(point):
                ratio = predicted(gpu, point).latency_s / predicted(fitted, twin).latency_s
                row = _point(gpu, point, "transfer", TRANSFER)
                yield replace(row, predicted_us=MICROSECOND.of(twin.step_latency * ratio))


def _authors(gpu: Gpu) -> Iterator[Prediction]:
    for point in gpu.measurements:
        if point.protocol == "paper":
            yield _point(gpu, point, "authors", AUTHORS)


def _not_modelled(gpu: Gpu) -> Iterator[Prediction]:
    for point in gpu.measurements:
        if not described(point):
            yield _point(gpu, point, "not modelled", OTHER)
