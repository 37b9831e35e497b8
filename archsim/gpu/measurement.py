"""What was measured on a GPU: one row a point, and the file that ``baseline measure`` writes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from archsim.config.document import Source
from archsim.config.quantity import Quantity
from archsim.config.section import Section
from archsim.config.transformer import TransformerShape
from archsim.errors import ConfigError

Precision = Literal["fp32", "fp16", "bf16"]
"""Number format of q, K, V and the output; sums are taken in fp32."""

Protocol = Literal["paper", "latency", "throughput", "eager"]
"""How a GPU figure came about; `archsim.gpu.protocols` describes each."""

Cache = Literal["warm", "cold"]
"""Whether K and V may still be in L2 from the step before, or come from memory."""

Kind = Literal["latency", "throughput"]
"""What a time per token means: the wait of one sequence, or the time of a batch over its size."""

Part = Literal["whole", "attention", "rest"]
"""Of a token of a whole model: all of it, its attention alone, or all but attention."""

MOST_BATCH = 65_536

Seconds = Annotated[float, Quantity("s", ge=1e-12, le=1e3)]
Joules = Annotated[float, Quantity("J", ge=1e-15, le=1e6)]
Watts = Annotated[float, Quantity("W", ge=1e-3, le=1e6)]
Hertz = Annotated[float, Quantity("Hz", ge=1e3, le=1e12)]


class MeasuredStep(Section):
    """What every row says: time and energy of one step of a batch, and where they come from.

    `latency` is in s, `energy` in J. `latency_p5` and `latency_p95` are percentiles over replays,
    `idle_power` (W) is what the GPU drew while nothing ran, ``sm_clock_*`` are the clocks of its
    multiprocessors before and after the point, in Hz. `slowed`: the clock fell meanwhile. `series`
    is the file it was read from: what was measured together, on the day `date`.
    """

    precision: Precision
    batch: int = Field(ge=1, le=MOST_BATCH)
    window: int = Field(ge=1)
    latency: Seconds
    latency_p5: Seconds | None = None
    latency_p95: Seconds | None = None
    energy: Joules | None = None
    idle_power: Watts | None = None
    sm_clock_before: Hertz | None = None
    sm_clock_after: Hertz | None = None
    slowed: bool = False
    source: Source
    note: str = Field(min_length=1)
    series: str = ""
    date: str | None = None

    @model_validator(mode="after")
    def _percentiles_are_in_order(self) -> Self:
        known = (self.latency_p5, self.latency, self.latency_p95)
        ordered = [value for value in known if value is not None]
        if ordered != sorted(ordered):
            raise ValueError("latency_p5, latency and latency_p95 must not fall")
        return self

    @property
    def step_latency(self) -> float:
        """Time of one step of the whole batch, in s."""
        return self.latency

    @property
    def step_energy(self) -> float | None:
        """Energy of one step of the whole batch, in J; None if it was not measured."""
        return self.energy


class Measurement(MeasuredStep):
    """One measurement of the attention of one layer, one new token a sequence.

    `latency` and `energy` are for one `step` of the whole batch, or already divided by the batch
    (`token`). `cache` says whether K and V may be in L2 from the step before (``warm``). `kernel`
    is what computed it: PyTorch's ``cudnn``, ``flash``, ``efficient`` or ``math`` (unfused), or
    another library. `kv_heads` are fewer than `heads` with grouped queries. `above_idle`: `energy`
    is without the power drawn while nothing runs.
    """

    protocol: Protocol
    kind: Kind
    cache: Cache = "warm"
    kernel: str | None = Field(default=None, min_length=1, max_length=24)
    heads: int = Field(ge=1)
    kv_heads: int | None = Field(default=None, ge=1)
    head_dim: int = Field(ge=1)
    above_idle: bool = False
    per: Literal["step", "token"] = "step"

    @model_validator(mode="after")
    def _kind_fits(self) -> Self:
        if self.kind == "latency" and self.batch != 1:
            raise ValueError("a latency is of one sequence: batch 1, or kind: throughput")
        if self.protocol in {"latency", "throughput"} and self.protocol != self.kind:
            raise ValueError(f"protocol {self.protocol} needs kind: {self.protocol}")
        if self.batch == 1 and self.kind != "latency" and self.protocol != "throughput":
            raise ValueError("batch 1 needs kind: latency")
        return self

    @model_validator(mode="after")
    def _heads_share_evenly(self) -> Self:
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} kv_heads")
        return self

    @property
    def step_latency(self) -> float:
        """Time of one step of the whole batch, in s."""
        return self.latency if self.per == "step" else self.latency * self.batch

    @property
    def step_energy(self) -> float | None:
        """Energy of one step of the whole batch, in J; None if it was not measured."""
        if self.energy is None or self.per == "step":
            return self.energy
        return self.energy * self.batch


class TokenMeasurement(MeasuredStep):
    """One measurement of a `part` of a token of a whole model, for every sequence of the batch.

    Plain operations of PyTorch, replayed from one graph. `shape` is the model's; a file says it
    once for all its rows.
    """

    part: Part
    shape: MeasuredModel | None = None


class MeasuredModel(Section):
    """The shape of the model that a file's tokens are of, as `TransformerShape` has it."""

    name: str = Field(min_length=1)
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        try:
            self.shape  # noqa: B018
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def shape(self) -> TransformerShape:
        """The same as a shape."""
        return TransformerShape(**self.model_dump())


class IdlePower(Section):
    """Power (W) while nothing runs: with a CUDA context open, and before there was one."""

    context: Watts | None = None
    bare: Watts | None = None


class MeasuredFile(Section):
    """What ``archsim baseline measure`` writes: which GPU file it is of, how and where measured.

    `model` is the shape that all `tokens` are of.
    """

    gpu: str = Field(min_length=1)
    method: dict[str, str | int | float]
    device: dict[str, str | int | float]
    idle: IdlePower = IdlePower()
    model: MeasuredModel | None = None
    measurements: tuple[Measurement, ...] = Field(default=(), strict=False)
    tokens: tuple[TokenMeasurement, ...] = Field(default=(), strict=False)
    left_out: tuple[str, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _measured_by_the_user(self) -> Self:
        for point in self.measurements:
            if point.source != "user" or point.protocol == "paper":
                raise ValueError("a measured file has source: user, and no protocol paper")
        if any(token.source != "user" for token in self.tokens):
            raise ValueError("a measured file has source: user")
        return self

    @model_validator(mode="after")
    def _says_what_its_tokens_are_of(self) -> Self:
        if self.tokens and self.model is None:
            raise ValueError("tokens need the model that they are of")
        if not (self.measurements or self.tokens):
            raise ValueError("a measured file has measurements or tokens")
        return self

    def of_series(self, series: str) -> MeasuredFile:
        """The same rows, each with `series`, the date and, of tokens, the shape of the model."""
        date = self.method.get("date")
        told = {"series": series, "date": None if date is None else str(date)}
        points = [point.model_copy(update=told) for point in self.measurements]
        tokens = [token.model_copy(update={**told, "shape": self.model}) for token in self.tokens]
        return self.model_copy(update={"measurements": tuple(points), "tokens": tuple(tokens)})
