"""The small hardwares and the trace that variants are tried on, and what a trial knows."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from archsim.chip.head import Head
from archsim.config.variants import Variant
from archsim.errors import ConformError, one_line
from archsim.hardware.load import Hardware
from archsim.retention import with_token_period
from archsim.simulation import Simulation
from archsim.traces.trace import Trace

FEATURES, TOKENS, LAYERS, HEADS = 12, 13, 2, 3


@dataclass(frozen=True)
class Case:
    """A hardware by what it has unlike the others, and how its tokens come."""

    name: str
    overrides: Mapping[str, object] = field(default_factory=dict)
    order: str = "generate"
    prompt: int | None = None


SMALL: Mapping[str, object] = {"window": 10, "array.rows": FEATURES, "array.columns": 4}
"""Three sub-tiles, the last not full; tokens go once round and begin again."""

PLAIN = Case("one array")
IDEAL = Case(
    "no effects",
    {
        "levels.query": None,
        "levels.key_value": None,
        "levels.output": None,
        "retention.decay_per_token": 0.0,
        "array.rows": 5,
    },
)
"""Nothing quantised, clipped or faded: what remains is the mathematics."""

CASES = (
    PLAIN,
    Case("stacked arrays, phases end early", {"array.rows": 5, "controller.phases": "early_end"}),
    Case("unwritten columns gated", {"array.rows": 5, "controller.gate_unwritten": True}),
    Case(
        "two buffers, prefill in stages",
        {
            "array.rows": 5,
            "array.write_during_read": True,
            "controller.layer_buffer": 2,
            "controller.pipelining": "stages",
            "converter.buffers": 2,
        },
        order="prefill",
    ),
    Case(
        "shared blocks, first come first served",
        {
            "accumulator.heads_per_adder": 2,
            "controller.phases": "early_end",
            "controller.pipelining": "stages",
            "pulse_generator.heads_per_generator": 3,
            "write_path.arbitration": "fifo",
            "write_path.heads_per_driver": 2,
        },
        prompt=5,
    ),
    Case("two heads at a time", {"controller.heads_in_parallel": 2, "array.rows": 5}),
    Case(
        "ages by the clock",
        {
            "array.rows": 5,
            "controller.phases": "early_end",
            "retention.model": "simulated",
            "retention.tau": "2 us",
        },
    ),
    IDEAL,
)


@functools.cache
def small_trace() -> Trace:
    """A seeded trace that reaches every end of every range, also beyond it.

    Keys that point one way, the other way, and both; a query of zeros.
    """
    rng = np.random.default_rng(16)
    shape = (LAYERS, HEADS, TOKENS, FEATURES)
    q = rng.uniform(-0.1, 1.1, shape)
    q[:, :, 3] = 0.0
    sign = rng.choice([-1.0, 1.0], shape)
    sign[:, :, ::3], sign[:, :, 1::3] = 1.0, -1.0
    k = sign * rng.uniform(0.1, 0.5, shape)
    v = rng.normal(0.0, 0.25, shape)
    scalers = {"output": (1.5, 0.1)}
    return Trace.from_arrays(q, k, v, scalers, name="conformity")


@dataclass(frozen=True)
class Trial:
    """A variant in a hardware: what its checks look at."""

    variant: Variant
    case: Case
    hardware: Hardware
    trace: Trace

    @property
    def head(self) -> Head:
        """The blocks, made anew."""
        return Head(with_token_period(self.hardware).config, self.trace.head_dim)

    def fault(self, check: str, text: str) -> ConformError:
        """The error that says what `check` found."""
        place = f"{self.variant.slot.key} {self.variant.name}"
        return ConformError(f"{place}: {check}, on '{self.case.name}': {text}")

    @contextmanager
    def during(self, check: str) -> Iterator[None]:
        """Whatever is raised inside is a fault that `check` found."""
        try:
            yield
        except ConformError:
            raise
        except Exception as error:  # of the variant, whatever it may be
            kind = "" if type(error).__module__ == "archsim.errors" else f"{type(error).__name__}: "
            raise self.fault(check, kind + one_line(error)) from error


@dataclass(frozen=True)
class Run:
    """A trial that was simulated."""

    trial: Trial
    simulation: Simulation

    @property
    def used(self) -> bool:
        """Whether the hardware is built with the variant: another may stand in for it."""
        head, cls = self.simulation.head, self.trial.variant.cls
        slot = self.trial.variant.slot.name
        block = {"readout": head.readout, "refresh": head.refresh}.get(slot)
        return block is None or isinstance(block, cls)
