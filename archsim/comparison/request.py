"""What a user asks of the GPU side, and the measured points that answer it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from archsim.comparison.accelerator import AcceleratorFigures
from archsim.errors import ConfigError, one_line
from archsim.gpu.file import MOST_BATCH, Cache, Gpu, Measurement, Precision, Protocol
from archsim.gpu.fit import attention_of
from archsim.gpu.protocols import BATCHES, PAPER_STEP, ProtocolDescription, protocols


@dataclass(frozen=True)
class Request:
    """What a user asks of the GPU side; None leaves it to the protocol.

    Protocol ``paper`` has its own setting and ignores all but `protocols`; ``latency`` is of batch
    1. Raises ConfigError for what no protocol can do.
    """

    protocols: tuple[Protocol, ...] = ("paper", "latency", "throughput", "eager")
    batch: int | None = None
    precision: Precision | None = None
    cache: Cache = "warm"

    def __post_init__(self) -> None:
        known = [protocol.name for protocol in protocols()]
        unknown = [name for name in self.protocols if name not in known]
        if unknown or not self.protocols:
            raise ConfigError(f"protocol {unknown or 'none'}: use some of {', '.join(known)}")
        for key, formats in (("precision", get_args(Precision)), ("cache", get_args(Cache))):
            if (value := getattr(self, key)) is not None and value not in formats:
                raise ConfigError(f"{key} {one_line(repr(value), 40)}: use {' or '.join(formats)}")
        if self.batch is not None:
            if not 1 <= self.batch <= MOST_BATCH:
                raise ConfigError(f"batch {self.batch}: 1 to {MOST_BATCH:,}")
            if self.batch > 1 and not {"throughput", "eager"} & set(self.protocols):
                raise ConfigError(
                    f"batch {self.batch}: protocol latency is batch 1 and paper batch 64; "
                    "use throughput or eager"
                )
        asked = {"batch": self.batch, "precision": self.precision}
        given = [name for name, value in asked.items() if value is not None]
        if self.cache == "cold":
            given.append("cache cold")
        if set(self.protocols) == {"paper"} and given:
            raise ConfigError(f"{given[0]}: protocol paper has its own; use another protocol")


def batch_of(
    protocol: ProtocolDescription,
    request: Request,
    check: Callable[[int], None],
    step_time: Callable[[int], float],
) -> int:
    """The batch of a protocol's row: its own, the one asked for, or the best of `BATCHES`.

    `check` raises ConfigError for a batch that the GPU cannot hold. `step_time` gives the time of a
    step of a batch; the best has the least time a sequence, of those that the GPU holds. Raises
    ConfigError if there is none.
    """
    batch = protocol.batch if protocol.fixed_batch else request.batch or protocol.batch
    if batch is not None:
        check(batch)
        return batch

    def token_time(batch: int) -> float:
        return step_time(batch) / batch

    check(BATCHES[0])
    return min((batch for batch in BATCHES if _holds(check, batch)), key=token_time)


def _holds(check: Callable[[int], None], batch: int) -> bool:
    try:
        check(batch)
    except ConfigError:
        return False
    return True


def answering(
    gpu: Gpu, protocol: ProtocolDescription, request: Request, accelerator: AcceleratorFigures
) -> list[Measurement]:
    """The measured points that answer the request, the fastest first: of every series at most one.

    A series is what was measured together. A point needs the accelerator's heads, head_dim and
    window: a row at another window would set two different amounts of work side by side. Of the
    precisions the one asked for is taken, else the protocol's, else the first; of the kernels the
    fastest. Raises ConfigError if there are points, but none that fits.
    """
    points = [point for point in gpu.measurements if point.protocol == protocol.name]
    if protocol.name == "paper":
        points += as_in_the_paper(gpu)
    if not points:
        return []
    heads = [p for p in points if (p.heads, p.head_dim) == accelerator.shape[:2]]
    heads = [p for p in heads if p.kv_heads in {None, p.heads}]
    found = [p for p in heads if p.window == accelerator.window]
    if not heads or (not found and protocol.name == "paper"):
        first = points[0]
        raise ConfigError(other_shape((first.heads, first.head_dim, first.window), accelerator))
    if not found:
        windows = ", ".join(f"{window:,}" for window in sorted({p.window for p in heads}))
        raise ConfigError(f"measured at windows {windows}, not at {accelerator.window:,}")
    if protocol.name == "paper":
        return found
    series: dict[tuple[str, str], list[Measurement]] = {}
    for point in found:
        series.setdefault((point.series, point.source), []).append(point)
    chosen = [_of_series(each, protocol, request) for each in series.values()]
    answers = [point for point in chosen if point is not None]
    if not answers:
        raise ConfigError("not measured as asked for")
    return sorted(answers, key=lambda point: point.step_latency / point.batch)


def as_in_the_paper(gpu: Gpu) -> list[Measurement]:
    """What was measured of the authors' setting without the flaws of their protocol."""
    return [
        point
        for point in gpu.measurements
        if point.protocol == "eager"
        and point.cache == "warm"
        and attention_of(point) == replace(PAPER_STEP, kv_heads=point.kv_heads or 0)
    ]


def _of_series(
    points: Sequence[Measurement], protocol: ProtocolDescription, request: Request
) -> Measurement | None:
    found = [p for p in points if p.cache == request.cache]
    precisions = list(dict.fromkeys(p.precision for p in found))
    wanted = request.precision
    if wanted is None and precisions:
        own = protocol.precision
        wanted = own if own in precisions else precisions[0]
    batch = protocol.batch if protocol.fixed_batch else request.batch or protocol.batch
    found = [p for p in found if p.precision == wanted and batch in {None, p.batch}]
    return min(found, key=lambda p: p.step_latency / p.batch) if found else None


def other_shape(shape: tuple[int, int, int], accelerator: AcceleratorFigures) -> str:
    """Why there is no row: heads, head_dim and window of one side and of the other."""
    (heads, head_dim, window), own = shape, accelerator
    return (
        f"of {heads} heads x {head_dim}, window {window:,}; the accelerator has "
        f"{own.heads} x {own.head_dim}, window {own.window:,}"
    )
