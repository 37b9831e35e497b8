"""The parameters of the decode model: fitted to four measurements, judged on all the others.

The time is linear in `floor`, `step` and one over the efficiency, so the fit is one weighted linear
least squares over the relative errors of the four rows; there is nothing to tune. Where the step
comes is not fitted but chosen, with the whole table in view: the other choices are fitted as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from archsim.baseline.roofline import DecodeAttention, estimate
from archsim.config.gpu import Gpu, Measurement, TimingModel, load_gpu
from archsim.errors import InvariantError

SCHEMA_VERSION = 2

FITTED_GPU, FITTED_BATCHES, FITTED_WINDOWS = "h100-sxm", (1, 64), (128, 1024)
FITTED_TOLERANCE = 1e-3
"""How far a shipped parameter may lie from the fit: it is written with three or four digits."""

Role = Literal["fitted", "held out", "transfer", "paper"]
"""What a measurement is to the model.

fitted: a parameter was fitted to it. held out: same GPU, not fitted. transfer: another GPU, known
to the model by its data sheet alone. paper: the authors' setting, another software and precision.
"""

LIMITS: dict[Role, float] = {"held out": 0.15, "transfer": 0.20}
"""Highest mean absolute error that passes."""


Stepped = Callable[[Measurement], bool]
"""Whether the step is in the time of a measurement."""


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
class Alternative:
    """Another form or another assumption, its parameters fitted to the same four rows.

    `errors` are mean absolute errors; `worst` is the largest single error of a row not fitted.
    """

    name: str
    parameters: dict[str, float]
    errors: dict[Role, float]
    worst: float


@dataclass(frozen=True)
class GpuValidation:
    """Every measurement beside the model, the fit made again, and what else could have been."""

    predictions: tuple[Prediction, ...]
    shipped: dict[str, float]
    fitted: dict[str, float]
    alternatives: tuple[Alternative, ...]

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
            "alternatives": [asdict(alternative) for alternative in self.alternatives],
            "passes": not self.failures,
        }


def validate_gpu() -> GpuValidation:
    """Fit the decode model again and set it beside every published measurement (FACTS 4).

    Reads the shipped GPU files; measurements made by ``archsim baseline measure`` play no part.
    """
    h100, h200, *others = (
        load_gpu(name, measured=False)
        for name in (FITTED_GPU, "h200-sxm", "rtx-4090", "jetson-nano")
    )
    shipped = h100.timing
    predictions = (
        *_decode(h100, shipped, _fitted_role),
        *_decode(h200, shipped, lambda point: "transfer"),
        *(_paper(gpu, point) for gpu in others for point in gpu.measurements),
    )
    parameters = fit(h100, _from_tokens(shipped.step_tokens))
    return GpuValidation(
        predictions,
        {name: getattr(shipped, name) for name in parameters},
        parameters,
        tuple(_alternatives(h100, h200)),
    )


def _alternatives(h100: Gpu, h200: Gpu) -> Iterator[Alternative]:
    tokens = h100.timing.step_tokens
    forms: dict[str, Stepped] = {
        "step from 256 tokens of the batch on": _from_tokens(256),
        "step from 512 tokens of the batch on": _from_tokens(512),
        "step from a window of 1,024 on": lambda p: p.window >= 1024,
        "the same, at batch 1 only": lambda p: p.window >= 1024 and p.batch == 1,
        "no step": lambda p: False,
    }
    for name, stepped in forms.items():
        yield _alternative(name, h100, h200, stepped)
    slower = _with_half_the_l2_bandwidth(h100), _with_half_the_l2_bandwidth(h200)
    yield _alternative("half the L2 bandwidth", *slower, _from_tokens(tokens))


def _alternative(name: str, h100: Gpu, h200: Gpu, stepped: Stepped) -> Alternative:
    parameters = fit(h100, stepped)
    errors: dict[Role, list[float]] = {role: [] for role in LIMITS}
    for gpu in (h100, h200):
        for point in _decode_points(gpu):
            role = _fitted_role(point) if gpu is h100 else "transfer"
            predicted = (
                parameters["floor"]
                + parameters["step"] * stepped(point)
                + _ideal_time(gpu, point) / parameters["bandwidth_efficiency"]
            )
            if role in errors:
                errors[role].append(predicted / point.step_latency - 1)
    return Alternative(
        name,
        parameters,
        {role: sum(map(abs, found)) / len(found) for role, found in errors.items()},
        max((error for found in errors.values() for error in found), key=abs),
    )


def _with_half_the_l2_bandwidth(gpu: Gpu) -> Gpu:
    memory = gpu.memory.model_copy(update={"l2_bandwidth": gpu.memory.l2_bandwidth / 2})
    return gpu.model_copy(update={"memory": memory})


def _from_tokens(tokens: int) -> Stepped:
    return lambda point: point.batch * point.window >= tokens


def fit(gpu: Gpu, stepped: Stepped) -> dict[str, float]:
    """`floor`, `step` (s) and `bandwidth_efficiency` from the four rows of `gpu` for fitting.

    Least squares of the relative error: t = floor + step [stepped] + x / efficiency, where x is the
    time of the row's bytes at the full bandwidth of their level. A step that none of the rows has
    is 0. Raises InvariantError if the rows are not there.
    """
    import numpy as np

    points = [p for p in _decode_points(gpu) if _fitted_role(p) == "fitted"]
    if len(points) != len(FITTED_BATCHES) * len(FITTED_WINDOWS):
        raise InvariantError(f"{gpu.name}: {len(points)} measurements to fit to, not four")
    times = np.array([point.step_latency for point in points])
    rows = np.array([(1.0, float(stepped(p)), _ideal_time(gpu, p)) for p in points])
    floor, step, slowness = np.linalg.lstsq(rows / times[:, None], np.ones(len(times)), rcond=None)[
        0
    ]
    return {
        "floor": float(floor),
        "step": float(step),
        "bandwidth_efficiency": float(1 / slowness),
    }


def _ideal_time(gpu: Gpu, point: Measurement) -> float:
    """Time of the point's bytes, and of nothing else, at the full bandwidth of their level."""
    ideal = gpu.timing.model_copy(update={"floor": 0.0, "step": 0.0, "bandwidth_efficiency": 1.0})
    bare = gpu.model_copy(update={"timing": ideal})
    return estimate(bare, attention_of(point), cache=point.cache).latency_s


def attention_of(point: Measurement) -> DecodeAttention:
    """The one layer of attention that was measured."""
    return DecodeAttention(
        1, point.heads, point.head_dim, point.window, point.batch, point.precision
    )


def _decode_points(gpu: Gpu) -> list[Measurement]:
    """What was measured of fused kernels replayed from a graph, with a warm cache."""
    graph = ("latency", "throughput")
    return [p for p in gpu.measurements if p.protocol in graph and p.cache == "warm"]


def _fitted_role(point: Measurement) -> Role:
    """The role of a point of the GPU that is fitted to."""
    fitted = point.batch in FITTED_BATCHES and point.window in FITTED_WINDOWS
    return "fitted" if fitted else "held out"


def _mean_error(predictions: Sequence[Prediction], role: Role) -> float:
    errors = [abs(p.error) for p in predictions if p.role == role]
    return sum(errors) / len(errors)


def _decode(
    gpu: Gpu, timing: TimingModel, role_of: Callable[[Measurement], Role]
) -> Iterator[Prediction]:
    modelled = gpu.model_copy(update={"timing": timing})
    for point in _decode_points(gpu):
        predicted = estimate(modelled, attention_of(point), cache=point.cache).latency_s
        yield Prediction(
            gpu.name,
            role_of(point),
            point.precision,
            point.batch,
            point.window,
            point.step_latency * 1e6,
            predicted * 1e6,
        )


def _paper(gpu: Gpu, point: Measurement) -> Prediction:
    predicted = estimate(gpu, attention_of(point), "eager", point.cache)
    energy = point.step_energy
    modelled = predicted.dynamic_energy_j if point.above_idle else predicted.energy_j
    return Prediction(
        gpu.name,
        "paper",
        point.precision,
        point.batch,
        point.window,
        point.step_latency * 1e6,
        predicted.latency_s * 1e6,
        None if energy is None else energy * 1e3,
        modelled * 1e3,
    )
