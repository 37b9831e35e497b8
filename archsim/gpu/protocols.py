"""How a GPU figure comes about: four named protocols, and what is known to be wrong with one."""

from __future__ import annotations

from dataclasses import dataclass

from archsim.gpu.file import Gpu, Precision, Protocol
from archsim.gpu.roofline import DecodeAttention, Launch

PAPER_STEP = DecodeAttention(1, heads=12, head_dim=64, window=1024, batch=64, precision="fp32")
"""The authors' GPU setting (FACTS 4)."""

BATCHES = tuple(1 << power for power in range(9))
"""1 to 256: where the best batch is looked for."""


@dataclass(frozen=True)
class ProtocolDescription:
    """What a protocol measures, in one sentence; `flaws` say what is wrong with it.

    `batch` None is the best of `BATCHES`. `batch` and `precision` are what a row has unless the
    user asks for something else, which ``paper`` and the batch of ``latency`` do not allow. A GPU
    without bf16 has fp16 in its place.
    """

    name: Protocol
    description: str
    batch: int | None
    precision: Precision
    launch: Launch
    flaws: tuple[str, ...] = ()

    @property
    def fixed_batch(self) -> bool:
        """Whether its batch cannot be asked for."""
        return self.name in {"paper", "latency"}

    def precision_on(self, gpu: Gpu, asked: Precision | None = None) -> Precision:
        """The precision of a row of `gpu`: the one asked for, or its own.

        Raises ConfigError if `gpu` does not compute in it.
        """
        wanted = asked or self.precision
        if asked is None and wanted == "bf16" and not gpu.peak.has(wanted):
            wanted = "fp16"
        gpu.peak.at(wanted)
        return wanted


PAPER_FLAWS = {
    "work": "is_causal=True with a single query attends to key 0 only, so the GPU computed "
    "something else",
    "timer": "the timer does not synchronise with the device",
    "time": "batch time divided by batch is a throughput; the accelerator's figure is a latency",
    "energy": "energy rests on one power sample a loop, minus idle power",
    "kernel": "fp32 without a fused kernel moves the cache twice in twice the bytes: not how "
    "decode runs in practice",
}
"""What is wrong with the authors' GPU measurement (FACTS 4), by what it concerns."""

_PROTOCOLS = (
    ProtocolDescription(
        "paper",
        "The paper's own GPU measurement: one layer, 12 heads x 64, window 1,024, batch 64, fp32, "
        "eager PyTorch, batch time divided by batch.",
        PAPER_STEP.batch,
        PAPER_STEP.precision,
        "eager",
        tuple(PAPER_FLAWS.values()),
    ),
    ProtocolDescription(
        "latency",
        "How long one sequence waits: batch 1; attention is one fused kernel a layer, replayed "
        "from a graph.",
        1,
        "bf16",
        "graph",
    ),
    ProtocolDescription(
        "throughput",
        "The step's time divided by the batch; attention is one fused kernel a layer, replayed "
        "from a graph.",
        None,
        "bf16",
        "graph",
    ),
    ProtocolDescription(
        "eager",
        "What an unoptimised user sees: PyTorch's unfused attention in its default precision, "
        "each operation launched by itself.",
        1,
        "fp32",
        "eager",
    ),
)


def protocols() -> tuple[ProtocolDescription, ...]:
    """The protocols of a comparison, in the order in which rows are reported."""
    return _PROTOCOLS
