"""The closed loop: a GPT-2 whose attention is the hardware's, so each layer sees earlier errors."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from archsim.components.head import Head
from archsim.config.hardware import HardwareConfig, load_hardware
from archsim.datapath.attention import attend_layer
from archsim.datapath.ideal import ideal_attention
from archsim.errors import ConfigError, InvariantError
from archsim.evaluation.probes import Probe, score
from archsim.function import functional_keys
from archsim.workload.adapted import SCALERS_FILE, adapted_hardware, load_adapted
from archsim.workload.gpt2 import Array, Attention, Gpt2
from archsim.workload.scalers import Scaler

Progress = Callable[[str, int, int], None]

LOGITS_AT_ONCE = 1 << 24
"""How many logits a batch of windows may have: bounds memory for large vocabularies."""

POSITION_EDGES = (0, 32, 128, 256, 512, 1024, 2048, 4096)


def check_retention(config: HardwareConfig) -> None:
    """Raises ConfigError for ages that only a simulation of the clock knows."""
    if config.retention.model == "simulated":
        raise ConfigError(
            "retention.model simulated: its ages come from archsim simulate; in a model's loop use "
            "nominal, per_token or off"
        )


@dataclass(frozen=True)
class AnalogLoop:
    """Attention of every layer on hardware of `config`, for `Gpt2.forward`.

    `scalers`: (a, b) of shape (layers, heads) for q, k, v and output. `ideal` takes the mathematics
    the hardware approximates instead (`archsim.datapath.ideal`).
    """

    config: HardwareConfig
    scalers: Mapping[str, Scaler]
    ideal: bool = False

    def __post_init__(self) -> None:
        check_retention(self.config)

    def reads(self, head_dim: int) -> set[str]:
        """Dotted keys of the config that decide what this computes."""
        keys = functional_keys(self.config, head_dim)
        linear = self.ideal or self.config.cell.model == "linear"
        return keys if linear else keys - {"cell.linear_slope"}  # ideal's alone

    def __call__(self, layer: int, q: Array, k: Array, v: Array) -> Array:
        """y (windows x heads, tokens, head_dim)."""
        heads = self.scalers["q"][0].shape[1]
        windows = len(q) // heads
        pairs = {
            name: (np.tile(a[layer], windows), np.tile(b[layer], windows))
            for name, (a, b) in self.scalers.items()
        }
        wide = q.astype(np.float64), k.astype(np.float64), v.astype(np.float64)
        head = Head(self.config, q.shape[2])
        if self.ideal:
            return ideal_attention(*wide, head, pairs)
        return attend_layer(*wide, head, pairs).y


@dataclass(frozen=True)
class Variant:
    """A row to be: a name, a model, and what computes its attention (None: its own softmax)."""

    name: str
    model: Gpt2
    attention: Attention | None = None


@dataclass(frozen=True)
class Row:
    """What one variant costs: losses in nats a token, agreement and KL against the software."""

    name: str
    loss: float
    bits_per_char: float | None
    top1_agreement: float
    kl: float
    loss_by_position: dict[str, float]
    probes: dict[str, float]
    token_losses: NDArray[np.float64] = field(repr=False, compare=False)

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss)

    def document(self) -> dict[str, object]:
        return {
            "name": self.name,
            "loss": self.loss,
            "perplexity": self.perplexity,
            "bits_per_char": self.bits_per_char,
            "top1_agreement": self.top1_agreement,
            "kl": self.kl,
            "loss_by_position": self.loss_by_position,
            "probes": self.probes,
        }


def log_probabilities(logits: Array) -> NDArray[np.float64]:
    """Logarithms of the softmax over the last axis, in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def _target_losses(logp: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    losses: NDArray[np.float64] = -np.take_along_axis(logp, targets[..., None], -1)[..., 0]
    return losses


class _Sums:
    """What accumulates for one variant over batches of windows."""

    def __init__(self) -> None:
        self.losses: list[NDArray[np.float64]] = []
        self.agreement: list[float] = []
        self.kl: list[float] = []
        self.probes: dict[str, float] = {}


def measure(
    reference: Variant,
    variants: Sequence[Variant],
    windows: NDArray[np.int64],
    probes: Sequence[Probe] = (),
    characters: int | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Rows of `reference` (the software model) and of every variant.

    windows: token ids (windows, tokens + 1); `characters`: how many the targets spell. Variants
    that are the same object under another name are computed once.
    """
    report = progress or (lambda step, done, total: None)
    everything = [reference, *variants]
    sums = {id(v): _Sums() for v in everything}
    vocabulary = reference.model.config.vocab_size
    jobs = [("text", windows, None), *((p.name, p.ids, p) for p in probes)]
    size = max(1, LOGITS_AT_ONCE // ((windows.shape[1] - 1) * vocabulary))
    total = sum(len(ids) for _, ids, _ in jobs) * len(everything)
    done = 0
    for step, ids, probe in jobs:
        found: dict[int, list[tuple[NDArray[np.float64], NDArray[np.bool_]]]] = {}
        for start in range(0, len(ids), size):
            batch = ids[start : start + size]
            inputs, targets = batch[:, :-1], batch[:, 1:]
            wanted: NDArray[np.float64] | None = None
            for variant in everything:
                report(f"{step}: {variant.name}", done, total)
                logp = log_probabilities(variant.model.logits(inputs, variant.attention))
                if wanted is None:
                    wanted = logp
                losses = _target_losses(logp, targets)
                best = logp.argmax(axis=-1)
                if probe is None:
                    same = best == wanted.argmax(axis=-1)
                    sums[id(variant)].losses.append(losses)
                    sums[id(variant)].agreement.append(float(same.mean()) * len(batch))
                    divergence = (np.exp(wanted) * (wanted - logp)).sum(axis=-1)
                    sums[id(variant)].kl.append(float(divergence.mean()) * len(batch))
                found.setdefault(id(variant), []).append((losses, best == targets))
                done += len(batch)
        if probe is not None:
            for key, parts in found.items():
                losses, hits = (np.concatenate(x) for x in zip(*parts, strict=True))
                sums[key].probes |= score(probe, losses, hits)
    return [_row(v.name, sums[id(v)], len(windows), characters) for v in everything]


def _row(name: str, sums: _Sums, windows: int, characters: int | None) -> Row:
    losses = np.concatenate(sums.losses)  # (windows, tokens)
    loss = float(losses.mean())
    if not math.isfinite(loss):
        raise InvariantError(f"{name}: the loss is not finite")
    tokens = losses.shape[1]
    bins = {}
    for low, high in itertools.pairwise(POSITION_EDGES):
        if low < tokens:
            last = min(high, tokens) - 1
            bins[f"{low}-{last}"] = float(losses[:, low : last + 1].mean())
    bits = None
    if characters:
        bits = float(losses.sum()) / (math.log(2) * characters)
    return Row(
        name,
        loss,
        bits,
        sum(sums.agreement) / windows,
        sum(sums.kl) / windows,
        bins,
        sums.probes,
        losses,
    )


class ClosedLoop(TypedDict):
    """What `archsim.workload.record.record` takes to record in closed loop."""

    attention: Attention
    scalers: Mapping[str, Scaler]
    attention_sha256: str


def closed_loop(folder: Path) -> ClosedLoop:
    """The attention of a result of ``archsim adapt``, on the hardware it was made for.

    Raises ConfigError or CorruptInputError as the readers of the folder do.
    """
    adapted = load_adapted(folder)
    hardware = load_hardware(adapted_hardware(folder))
    scalers_sha256 = adapted.manifest.files[SCALERS_FILE].sha256
    text = f"{hardware.sha256} {scalers_sha256}"
    return {
        "attention": AnalogLoop(hardware.config, adapted.scalers),
        "scalers": adapted.scalers,
        "attention_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
