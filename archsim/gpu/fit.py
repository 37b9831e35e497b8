"""The parameters of the kernel model, fitted to half of what was measured on an H100.

Which half is a rule that was written down before the first fit (hwconfigs/gpus/measured/README.md):
rows form boards, and like the dark fields of a chessboard every other row is fitted. Times are
fitted first, then energies with the times as fitted, each by least squares of the relative error
over all of their parameters together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

from archsim.config.writing import quantity_text
from archsim.errors import ConfigError, MissingExtraError
from archsim.gpu.file import Gpu, KernelModel, Measurement, load_gpu
from archsim.gpu.roofline import DecodeAttention, Launch, RooflineEstimate, estimate

FITTED_GPU = "h100-sxm"

TIME_PARAMETERS = (
    "launch",
    "eager_launch",
    "memory_efficiency",
    "l2_efficiency",
    "arithmetic_efficiency",
    "unfused_efficiency",
)
ENERGY_PARAMETERS = ("residency_power", "byte_energy")
PARAMETERS = (*TIME_PARAMETERS, *ENERGY_PARAMETERS)
PARAMETER_UNITS = {
    "launch": "s",
    "eager_launch": "s",
    "residency_power": "W",
    "byte_energy": "J/byte",
}
"""Of those that are no share."""

FITTED_TOLERANCE = 5e-3
"""How far a shipped parameter may lie from the fit: it is written with three digits."""

DESCRIBED_KERNELS = {None, "cudnn", "math"}
"""Kernels that the model is of: the best fused one of 16 bit, and unfused operations. In fp32 also
``efficient``, the only fused one. Rows of slower kernels or of another library decide nothing."""

Board = Literal["bf16, warm", "bf16, cold", "fused, others", "unfused"]
"""Rows that differ in batch and one more thing, so that half of them can be told from the rest."""


def board_of(point: Measurement) -> Board | None:
    """The board that a point lies on; None for kernels that the fit takes no part of."""
    if point.protocol == "eager":
        return "unfused"
    if point.kernel == "math" or not described(point):
        return None
    if point.precision != "bf16":
        return "fused, others"
    return "bf16, warm" if point.cache == "warm" else "bf16, cold"


def described(point: Measurement) -> bool:
    """Whether the model is of the kernel that computed a point."""
    fp32 = point.precision == "fp32" and point.kernel == "efficient"
    return fp32 or point.kernel in DESCRIBED_KERNELS


def fitted_points(points: Sequence[Measurement]) -> list[Measurement]:
    """Every other of `points`, as on a chessboard.

    On a board the batches, the windows and the precisions are numbered in rising order; a point is
    fitted if its numbers have an even sum.
    """
    boards: dict[Board, list[Measurement]] = {}
    for point in points:
        board = board_of(point)
        if board is not None:
            boards.setdefault(board, []).append(point)
    chosen = []
    for rows in boards.values():
        batches = sorted({point.batch for point in rows})
        windows = sorted({point.window for point in rows})
        precisions = sorted({point.precision for point in rows})
        chosen += [
            point
            for point in rows
            if (
                batches.index(point.batch)
                + windows.index(point.window)
                + precisions.index(point.precision)
            )
            % 2
            == 0
        ]
    return chosen


def was_fitted(gpu: Gpu, point: Measurement) -> bool:
    """Whether the parameters that `gpu` is modelled with know a point of it.

    The shipped ones know half of the shipped points of the H100. A GPU with others is taken to have
    them from ``archsim baseline fit``, which takes the same half of its points.
    """
    if point.source != "user":
        return False
    model, shipped = _shipped_fit()
    if gpu.model == model:
        return point in shipped
    return point in fitted_points([each for each in gpu.measurements if each.source == "user"])


@cache
def _shipped_fit() -> tuple[KernelModel, tuple[Measurement, ...]]:
    gpu = load_gpu(FITTED_GPU)
    points = [point for point in gpu.measurements if point.source == "user"]
    return gpu.model, tuple(fitted_points(points))


def attention_of(point: Measurement) -> DecodeAttention:
    """The one layer of attention that was measured."""
    return DecodeAttention(
        1,
        point.heads,
        point.head_dim,
        point.window,
        point.batch,
        point.precision,
        point.kv_heads or 0,
    )


def launch_of(point: Measurement) -> Launch:
    """How a point ran, as `estimate` has it."""
    if point.protocol in {"eager", "paper"}:
        return "eager"
    return "unfused" if point.kernel == "math" else "graph"


def predicted(gpu: Gpu, point: Measurement) -> RooflineEstimate:
    """What the model of `gpu` says of a measured point."""
    return estimate(gpu, attention_of(point), launch_of(point), point.cache)


@dataclass(frozen=True)
class Fit:
    """Fitted parameters (SI units), and the points they were fitted to."""

    gpu: str
    parameters: dict[str, float]
    shipped: dict[str, float]
    points: int
    energies: int

    @property
    def drifted(self) -> list[str]:
        """Shipped parameters that are not what the fit gives."""
        return [
            name
            for name, value in self.parameters.items()
            if abs(self.shipped[name] - value) > FITTED_TOLERANCE * max(value, 1e-30)
        ]

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "drifted": self.drifted}


def with_parameters(gpu: Gpu, parameters: dict[str, float]) -> Gpu:
    """`gpu` with these parameters of its model."""
    return gpu.model_copy(update={"model": gpu.model.model_copy(update=parameters)})


def fit(gpu: Gpu, kept: frozenset[str] = frozenset()) -> Fit:
    """All eight parameters but those `kept`, from every other measured point of `gpu`.

    Those of energy stay as they are if none was measured. Raises ConfigError if there is no point
    to fit to, and MissingExtraError without scipy.
    """
    points = [point for point in fitted_points(gpu.measurements) if point.source == "user"]
    if not points:
        raise ConfigError(
            f"{gpu.name}: nothing was measured that the model could be fitted to; give --measured"
        )
    shipped = {name: getattr(gpu.model, name) for name in PARAMETERS}
    base = _fitted(gpu, [n for n in TIME_PARAMETERS if n not in kept], points, "time")
    measured = [point for point in points if point.step_energy is not None]
    if measured:
        names = [name for name in ENERGY_PARAMETERS if name not in kept]
        base = _fitted(base, names, measured, "energy")
    found = {name: float(getattr(base.model, name)) for name in PARAMETERS}
    return Fit(gpu.name, found, shipped, len(points), len(measured))


def _fitted(
    gpu: Gpu, names: Sequence[str], points: Iterable[Measurement], what: Literal["time", "energy"]
) -> Gpu:
    """`gpu` with the parameters `names` that give the least squares of the relative errors."""
    try:
        from scipy.optimize import least_squares
    except ImportError:
        raise MissingExtraError("fitting needs scipy: pip install 'archsim[sweep]'") from None
    import numpy as np

    highest = [1.0 if name.endswith("efficiency") else np.inf for name in names]
    start = np.array(
        [
            min(getattr(gpu.model, name), 0.99 * top)
            for name, top in zip(names, highest, strict=True)
        ]
    )
    wanted = list(points)

    def at(logarithms: Any) -> Gpu:
        values = np.minimum(np.exp(logarithms), highest)
        return with_parameters(gpu, dict(zip(names, map(float, values), strict=True)))

    def errors(logarithms: Any) -> list[float]:
        tried = at(logarithms)
        return [_error(tried, point, what) for point in wanted]

    found = least_squares(
        errors,
        np.log(np.maximum(start, 1e-15)),
        bounds=(-np.inf, np.log(highest)),
        x_scale=0.1,
    )
    return at(found.x)


def _error(gpu: Gpu, point: Measurement, what: Literal["time", "energy"]) -> float:
    said = predicted(gpu, point)
    if what == "time":
        return said.latency_s / point.step_latency - 1
    energy = point.step_energy
    assert energy is not None
    modelled = said.dynamic_energy_j if point.above_idle else said.energy_j
    return modelled / energy - 1


@dataclass(frozen=True)
class Form:
    """Another form of the model, fitted to the same points; errors of the points held out."""

    name: str
    parameters: dict[str, float]
    time_mean: float
    energy_mean: float
    time_worst: float
    energy_worst: float


FORMS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "plain maximum of the parts": {"overlap": 64.0},
    "their sum": {"overlap": 1.0},
    "their root of squares": {"overlap": 2.0},
    "one kernel only, never split": {"split": 1 << 30},
    "no tiles": {"tile": 1},
    "tiles of 128": {"tile": 128},
    "a single row, no fragment": {"fragment": 1},
    "L2 edge at one half": {"l2_edge": 0.5},
    "L2 edge at its size": {"l2_edge": 1.0},
    "a soft L2 edge": {"l2_order": 2.0},
    "no power of residency": {"residency_power": 1e-3},
}
"""What was tried: constants that are not fitted, changed; a parameter given here is not fitted."""


def tried_forms(gpu: Gpu) -> Iterator[Form]:
    """Each of `FORMS` fitted to the points of `gpu` that the model is fitted to."""
    points = [p for p in gpu.measurements if p.source == "user" and board_of(p) is not None]
    fitted = fitted_points(points)
    held = [point for point in points if point not in fitted]
    for name, change in FORMS.items():
        tried = with_parameters(gpu, change)
        found = with_parameters(tried, {**fit(tried, frozenset(change)).parameters, **change})
        times = [abs(_error(found, point, "time")) for point in held]
        energies = [abs(_error(found, p, "energy")) for p in held if p.step_energy is not None]
        yield Form(
            name,
            {key: getattr(found.model, key) for key in PARAMETERS},
            sum(times) / len(times),
            sum(energies) / len(energies),
            max(times),
            max(energies),
        )


def model_yaml(found: Fit) -> str:
    """The section ``model`` of a GPU file, with the fitted parameters and what is not fitted left.

    It may be put into a GPU file of one's own as it is.
    """
    note = f"archsim baseline fit, {found.points} measured points of {found.gpu}"
    lines = ["model:"]
    for name, value in found.parameters.items():
        unit = PARAMETER_UNITS.get(name)
        rounded = float(f"{value:.3g}")
        text = f"{rounded:g}" if unit is None else quantity_text(rounded, unit)
        lines.append(f'  {name}: {{value: {text}, source: calibrated, note: "{note}"}}')
    return "\n".join(lines) + "\n"
