"""Which points to measure on a GPU, in which order, and how long that takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from archsim.config.transformer import GPT2_SMALL, TransformerShape
from archsim.errors import ConfigError
from archsim.gpu.file import Cache, Gpu, Part, Precision
from archsim.gpu.roofline import DecodeAttention, estimate
from archsim.gpu.token import attention_alone, gpu_token

Implementation = Literal["sdpa", "eager"]
"""``sdpa``: PyTorch's ``scaled_dot_product_attention``, replayed from a CUDA graph. ``eager``: its
unfused operations, each launched by itself."""

Kernel = Literal["cudnn", "flash", "efficient", "math"]
"""What computes it: three fused kernels, and PyTorch's unfused operations."""

KernelChoice = Literal["best", "cudnn", "flash", "efficient", "math"]
"""One of them, or the fastest of all that run."""

Scope = Literal["attention", "model"]
"""One layer's attention, or a whole token and its parts."""

IMPLEMENTATIONS: tuple[Implementation, ...] = ("sdpa", "eager")
KERNELS: tuple[Kernel, ...] = ("cudnn", "flash", "efficient", "math")
CACHES: tuple[Cache, ...] = ("warm", "cold")
BATCHES = (1, 4, 16, 64, 256)
WINDOWS = (128, 512, 1024, 2048, 4096, 8192)
PRECISIONS: tuple[Precision, ...] = ("fp16", "bf16", "fp32")
PARTS: tuple[Part, ...] = ("whole", "rest", "attention")
TOKEN_BATCHES = (1, 8, 64)
TOKEN_WINDOWS = (128, 1024, 4096)

REPLAYS, ENERGY_SECONDS, SHORT_ENERGY_SECONDS = 200, 5.0, 1.5
CALLS = 10
"""Calls in one graph: around a single short one the events would also time its launch."""

HEADLINE_WINDOW, HEADLINE_BATCH = 1024, 64
START_S, PREPARE_S, PREPARE_CALLS, ASIDE_S = 8.0, 0.7, 250, 0.3
"""What a plan allows for: idle power; tensors, capture and warm-up of a point; the rest of it."""

MOST_MINUTES = 24 * 60


@dataclass(frozen=True)
class Task:
    """One point to measure: attention of one layer, or with `shape` a `part` of a whole token."""

    step: DecodeAttention
    implementation: Implementation = "sdpa"
    cache: Cache = "warm"
    kernel: KernelChoice = "best"
    shape: TransformerShape | None = None
    part: Part | None = None

    @property
    def label(self) -> str:
        """In a few words, for what is left out."""
        step = self.step
        shown = f"{step.precision}, batch {step.batch}, window {step.window}"
        if self.part is not None:
            return f"token, {self.part}, {shown}"
        how = self.implementation if self.kernel in {"best", "math"} else self.kernel
        if self.implementation == "sdpa" and self.kernel == "math":
            how = "math"
        return f"{how}, {shown}, {self.cache}"


@dataclass(frozen=True)
class MeasurementPlan:
    """Which points to measure and how long. Raises ConfigError for what cannot be measured.

    With `minutes` it is not the whole grid, but as many points as fit, the most informative first.
    """

    heads: int = 12
    head_dim: int = 64
    batches: tuple[int, ...] = BATCHES
    windows: tuple[int, ...] = WINDOWS
    precisions: tuple[Precision, ...] = PRECISIONS
    implementations: tuple[Implementation, ...] = IMPLEMENTATIONS
    caches: tuple[Cache, ...] = CACHES
    replays: int = REPLAYS
    seconds: float = ENERGY_SECONDS
    kv_heads: int = 0
    kernels: tuple[KernelChoice, ...] = ("best",)
    scopes: tuple[Scope, ...] = ("attention",)
    model: TransformerShape = GPT2_SMALL
    token_batches: tuple[int, ...] = TOKEN_BATCHES
    token_windows: tuple[int, ...] = TOKEN_WINDOWS
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.replays < 20:
            raise ConfigError("replays: at least 20, for percentiles")
        if not (math.isfinite(self.seconds) and 1 <= self.seconds <= 600):
            raise ConfigError("seconds: 1 to 600; the energy counter is read every 0.1 s or so")
        if self.minutes is not None and not 0.5 <= self.minutes <= MOST_MINUTES:
            raise ConfigError(f"minutes: 0.5 to {MOST_MINUTES:,}")
        for name in ("batches", "windows", "token_batches", "token_windows"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ConfigError(f"{name}: give numbers of at least 1")
        for name in ("precisions", "implementations", "caches", "kernels", "scopes"):
            if not getattr(self, name):
                raise ConfigError(f"{name}: give at least one")
        self._attention(1, 1, self.precisions[0])  # refuses a shape that cannot be

    def tasks(self, half: Precision = "bf16") -> list[Task]:
        """Every point of the grid, in the order measured; `half` is what a token computes in."""
        found: list[Task] = []
        if "attention" in self.scopes:
            found += self._grid()
        if "model" in self.scopes:
            found += [
                self._token(batch, window, half, part)
                for window, batch, part in product(self.token_windows, self.token_batches, PARTS)
            ]
        return found

    def tasks_that_fit(self, gpu: Gpu, half: Precision = "bf16") -> tuple[list[Task], int]:
        """The most informative points that `minutes` have room for, and how many are left out.

        How long a point takes is estimated by the model of `gpu`.
        """
        assert self.minutes is not None
        left = 60 * self.minutes - START_S
        chosen, skipped = [], 0
        for task in self._by_information(half):
            needed = self.seconds_of(gpu, task)
            if needed <= left:
                chosen.append(task)
                left -= needed
            else:
                skipped += 1
        return chosen, skipped

    def seconds_of(self, gpu: Gpu, task: Task) -> float:
        """About how long a point takes: its preparation for each kernel tried, times, energy."""
        steps = _seconds_of_steps(gpu, task)
        calls = 1 if task.part is not None or task.implementation == "eager" else CALLS
        tried = len(steps) > 1
        preparing = sum(PREPARE_S + PREPARE_CALLS * step for step in steps)
        preparing += tried * (PREPARE_S + PREPARE_CALLS * min(steps))
        energy = self.seconds if task.cache == "warm" else 0.0
        return preparing + 1.1 * self.replays * calls * min(steps) + energy + ASIDE_S

    def _grid(self) -> Iterator[Task]:
        for precision, implementation, window, batch, cache in product(
            self.precisions, self.implementations, self.windows, self.batches, self.caches
        ):
            step = self._attention(batch, window, precision)
            if implementation == "eager":
                yield Task(step, implementation, cache, "math")
            else:
                for kernel in self.kernels:
                    yield Task(step, implementation, cache, kernel)

    def _by_information(self, half: Precision) -> list[Task]:
        """Every point that `minutes` may measure, those first that tell most.

        The headlines (one sequence, a large batch, a token, the paper's setting), the corners of
        batch and window, every other point between them as on a chessboard, what depends on
        precision, cache and launch, the other half of the board, each kernel alone, and whatever is
        left of the grid.
        """
        batch = HEADLINE_BATCH if HEADLINE_BATCH in self.batches else self.batches[-1]
        window = HEADLINE_WINDOW if HEADLINE_WINDOW in self.windows else self.windows[0]
        one = self.batches[0]
        board = list(product(enumerate(self.windows), enumerate(self.batches)))
        corners = product((self.windows[0], self.windows[-1]), (one, self.batches[-1]))
        parity = [
            [(b, s) for (i, s), (j, b) in board if (i + j) % 2 == remainder] for remainder in (0, 1)
        ]
        fused = [(one, window), (batch, window), *((b, s) for s, b in corners)]
        headline_token = (
            self.token_batches[0],
            (HEADLINE_WINDOW if HEADLINE_WINDOW in self.token_windows else self.token_windows[0]),
        )
        wanted: list[Task] = [self._fused(*at, half) for at in fused[:2]]
        wanted += self._tokens([headline_token], half)
        wanted += self._eager(batch, window, "fp32")
        wanted += [self._fused(*at, half) for at in (*fused[2:], *parity[0])]
        wanted += self._tokens([(b, headline_token[1]) for b in self.token_batches[1:]], half)
        for precision in dict.fromkeys((half, *self.precisions)):
            wanted += self._eager(one, window, precision)
            wanted += [self._fused(b, window, precision) for b in (one, batch)]
        wanted += [replace(self._fused(*at, half), cache="cold") for at in fused[:2]]
        wanted += [self._fused(*at, half) for at in parity[1]]
        wanted += self._tokens([(headline_token[0], s) for s in self.token_windows], half)
        wanted += [
            replace(self._fused(*at, half), kernel=kernel) for at in fused[:2] for kernel in KERNELS
        ]
        wanted += self.tasks(half)
        return [task for task in dict.fromkeys(wanted) if self._asked_for(task)]

    def _asked_for(self, task: Task) -> bool:
        if task.part is not None:
            return "model" in self.scopes
        named = task.implementation == "eager" or task.kernel in self.kernels
        return (
            "attention" in self.scopes
            and task.implementation in self.implementations
            and task.cache in self.caches
            and task.step.precision in self.precisions
            and (named or "best" in self.kernels)
        )

    def _attention(self, batch: int, window: int, precision: Precision) -> DecodeAttention:
        return DecodeAttention(
            1, self.heads, self.head_dim, window, batch, precision, self.kv_heads
        )

    def _fused(self, batch: int, window: int, precision: Precision) -> Task:
        kernel = "best" if "best" in self.kernels else self.kernels[0]
        return Task(self._attention(batch, window, precision), kernel=kernel)

    def _eager(self, batch: int, window: int, precision: Precision) -> list[Task]:
        return [Task(self._attention(batch, window, precision), "eager", "warm", "math")]

    def _token(self, batch: int, window: int, half: Precision, part: Part) -> Task:
        shape = self.model
        step = DecodeAttention(
            shape.layers, shape.heads, shape.head_dim, window, batch, half, shape.kv_heads
        )
        return Task(step, shape=shape, part=part)

    def _tokens(self, at: list[tuple[int, int]], half: Precision) -> list[Task]:
        return [self._token(batch, window, half, part) for batch, window in at for part in PARTS]


def _seconds_of_steps(gpu: Gpu, task: Task) -> list[float]:
    """About how long a step takes by each kernel that a point tries (one, unless it is the best).

    The model knows the best fused kernel; the others are taken to be as slow again.
    """
    step = task.step
    step = step if gpu.peak.has(step.precision) else replace(step, precision="fp16")
    if task.shape is not None:
        if task.part == "attention":
            return [attention_alone(gpu, "graph", step, task.shape)[0]]
        cost = gpu_token(gpu, "graph", step, task.shape)
        return [cost.latency_s if task.part == "whole" else cost.rest_s]
    if task.implementation == "eager":
        return [estimate(gpu, step, "eager", task.cache).latency_s]
    fused = estimate(gpu, step, "graph", task.cache).latency_s
    unfused = estimate(gpu, step, "unfused", task.cache).latency_s
    by_kernel = {"cudnn": fused, "flash": 2 * fused, "efficient": 2 * fused, "math": unfused}
    return list(by_kernel.values()) if task.kernel == "best" else [by_kernel[task.kernel]]


def list_of(text: str, what: str) -> tuple[int, ...]:
    """The numbers of "1,4,16"; raises ConfigError for anything else."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ConfigError(f"{what} {text[:40]!r}: give whole numbers, like 1,4,16") from None
