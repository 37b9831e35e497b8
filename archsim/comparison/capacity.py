"""How many sequences each side holds, and what the same number of them costs.

A sequence keeps K and V of every layer: on a GPU in its memory, on the accelerator in one set of
arrays a layer. In decode a token is in one layer at a time, so of a sequence's sets one works.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from archsim.comparison.accelerator import AcceleratorFigures
from archsim.errors import ConfigError
from archsim.gpu.file import Gpu
from archsim.gpu.roofline import UNFUSED_COPIES, DecodeAttention, Launch
from archsim.units import SQUARE_MILLIMETRE


@dataclass(frozen=True)
class Capacity:
    """The same number of sequences on both sides, through all `layers` of a model's attention.

    A chip is the arrays of all layers for `sequences_per_chip` sequences, so the GPU's batch needs
    `chips` of them, which work at once; in each one layer works at a time. `speedup` is the GPU's
    step over the accelerator's time, of one layer. Power and rates count the gaps between layers
    and tokens, in which the chips do no more than leak. Rates are tokens that passed all layers.
    `gpu_most_sequences` is what fits the GPU's memory. The GPU's own figures are None where die
    area or energy is not known.
    """

    layers: int
    sequences_per_chip: int
    chips: int
    area_mm2: float
    power_w: float
    speedup: float
    tokens_per_s_per_mm2: float
    tokens_per_j: float
    gpu_most_sequences: int
    gpu_tokens_per_s_per_mm2: float | None
    gpu_tokens_per_j: float | None


def memory_bytes(step: DecodeAttention, launch: Launch = "graph", weights: float = 0.0) -> float:
    """Bytes of GPU memory for K and V of all layers, `weights`, and what one layer needs besides.

    That is q and y, and the copies of K and V that unfused operations make.
    """
    copies = UNFUSED_COPIES[step.precision] - 1 if launch == "eager" else 0.0
    besides = step.layer_bytes - step.layer_cache_bytes + copies * step.layer_cache_bytes
    return weights + step.layers * step.layer_cache_bytes + besides


def check_memory(
    gpu: Gpu, step: DecodeAttention, launch: Launch = "graph", weights: float = 0.0
) -> None:
    """Raises ConfigError if `gpu` cannot hold the batch of `step`."""
    needed = memory_bytes(step, launch, weights)
    if needed > gpu.memory.size:
        besides = "the weights and " if weights else ""
        raise ConfigError(
            f"batch {step.batch}: {besides}K and V of {step.layers} layers at window "
            f"{step.window:,} need {needed / 1e9:,.3g} GB; the GPU has {gpu.memory.size / 1e9:g} GB"
        )


def same_capacity(
    accelerator: AcceleratorFigures,
    gpu: Gpu,
    step: DecodeAttention,
    latency_s: float,
    energy_j: float | None,
) -> Capacity | None:
    """Both sides with the batch of `step`, one layer of which takes `latency_s` and `energy_j`.

    None if the GPU cannot hold that batch through all layers.
    """
    layers, batch = accelerator.layers, step.batch
    one = memory_bytes(replace(step, layers=layers, batch=1))
    most = int(gpu.memory.size // one)
    if batch > most:
        return None
    own, energy = accelerator.attention_latency_s, accelerator.energy_per_token_j
    area = layers * SQUARE_MILLIMETRE.of(accelerator.area_m2)
    die = None if gpu.die_area is None else SQUARE_MILLIMETRE.of(gpu.die_area)
    return Capacity(
        layers=layers,
        sequences_per_chip=1,
        chips=batch,
        area_mm2=batch * area,
        power_w=batch * layers * energy / accelerator.token_s,
        speedup=latency_s / own,
        tokens_per_s_per_mm2=1 / accelerator.token_s / area,
        tokens_per_j=1 / (layers * energy),
        gpu_most_sequences=most,
        gpu_tokens_per_s_per_mm2=None if die is None else batch / (layers * latency_s) / die,
        gpu_tokens_per_j=None if energy_j is None else batch / (layers * energy_j),
    )
