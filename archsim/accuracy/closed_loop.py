"""The closed loop: a GPT-2 whose attention is the hardware's, so each layer sees earlier errors."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from archsim.accuracy.probes import Probe, score
from archsim.accuracy.uncertainty import Estimate, estimate
from archsim.chip.head import Head
from archsim.config.voltages import VoltageRange
from archsim.datapath.attention import attend_layer
from archsim.datapath.ideal import ideal_attention
from archsim.errors import ConfigError, InvariantError
from archsim.function import functional_keys
from archsim.hardware.sections import HardwareConfig
from archsim.models.adapted import SCALERS_FILE, hardware_for, load_adapted
from archsim.models.gpt2 import Array, Attention, Gpt2
from archsim.retention import with_token_period
from archsim.traces.scalers import Scaler, rescaled

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

    `scalers`: (a, b) of shape (layers, heads) for q, k, v and output, made for cells of `voltages`
    (None: those of `config`). `ideal` takes the mathematics the hardware approximates instead
    (`archsim.datapath.ideal`).
    """

    config: HardwareConfig
    scalers: Mapping[str, Scaler]
    ideal: bool = False
    voltages: VoltageRange | None = None

    def __post_init__(self) -> None:
        check_retention(self.config)

    def reads(self, head_dim: int) -> set[str]:
        """Dotted keys of the config that decide what this computes."""
        keys = {*functional_keys(self.config, head_dim)}
        linear = self.ideal or self.config.cell.model == "linear"
        return keys if linear else keys - {"cell.linear_slope"}  # ideal's alone

    def __call__(self, layer: int, q: Array, k: Array, v: Array) -> Array:
        """y (windows x heads, tokens, head_dim)."""
        here = VoltageRange.of(self.config.cell)
        scalers = rescaled(self.scalers, self.voltages or here, here)
        heads = scalers["q"][0].shape[1]
        windows = len(q) // heads
        pairs = {
            name: (np.tile(a[layer], windows), np.tile(b[layer], windows))
            for name, (a, b) in scalers.items()
        }
        wide = q.astype(np.float64), k.astype(np.float64), v.astype(np.float64)
        laws = Head(self.config, q.shape[2]).laws
        if self.ideal:
            return ideal_attention(*wide, laws, pairs)
        return attend_layer(*wide, laws, pairs).y


@dataclass(frozen=True)
class Variant:
    """A row to be: a name, a model, and what computes its attention (None: its own softmax).

    `scalers`: where weights and scalers come from, in words.
    """

    name: str
    model: Gpt2
    attention: Attention | None = None
    scalers: str = ""

    @property
    def key(self) -> tuple[int, int]:
        """What is computed: rows of the same model and attention are computed once."""
        return id(self.model), id(self.attention)


@dataclass(frozen=True)
class Row:
    """What one variant costs: losses in nats a token, agreement and KL against the software.

    `token_losses` (windows, tokens) holds nan behind the end of shorter windows, `counted`
    (windows,) marks the windows that all means are of. `loss_error` and `above_error` are standard
    errors over windows, of the loss and of its distance from the software's (`above`).
    """

    name: str
    loss: float
    bits_per_char: float | None
    top1_agreement: float
    kl: float
    loss_by_position: dict[str, float]
    probes: dict[str, float]
    token_losses: NDArray[np.float64] = field(repr=False, compare=False)
    counted: NDArray[np.bool_] = field(repr=False, compare=False)
    loss_error: float | None = None
    above: float = 0.0
    above_error: float | None = None
    probe_hits: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(
        default_factory=dict, repr=False, compare=False
    )
    scalers: str = ""

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss)

    def probe_above(self, other: Row, probe: str) -> Estimate:
        """By how many points this row is above `other` on a probe; over sequences."""
        (hits, asked), (others, _) = self.probe_hits[probe], other.probe_hits[probe]
        return estimate(100 * (hits - others), asked)

    def probe_errors(self) -> dict[str, float | None]:
        """Standard error over sequences of the share of right answers, in points, a probe."""
        return {name: estimate(100 * h, n).error for name, (h, n) in self.probe_hits.items()}

    def document(self) -> dict[str, object]:
        return {
            "name": self.name,
            "scalers": self.scalers,
            "loss": self.loss,
            "loss_standard_error": self.loss_error,
            "above_software": self.above,
            "above_software_standard_error": self.above_error,
            "perplexity": self.perplexity,
            "bits_per_char": self.bits_per_char,
            "top1_agreement": self.top1_agreement,
            "kl": self.kl,
            "loss_by_position": self.loss_by_position,
            "probes": self.probes,
            "probes_standard_error": self.probe_errors(),
        }


def difference(
    losses: NDArray[np.float64], other: NDArray[np.float64], picked: NDArray[np.bool_]
) -> Estimate:
    """Mean of the one minus the other over `picked` windows, paired window by window.

    losses, other: (windows, tokens), nan behind the end of a window.
    """
    apart = losses[picked] - other[picked]
    return estimate(np.nansum(apart, axis=1), (~np.isnan(apart)).sum(axis=1))


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
    """What accumulates for one variant: per window of text, and per probe."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.losses = np.full(shape, np.nan)
        self.same, self.divergence = np.zeros(shape[0]), np.zeros(shape[0])
        self.probes: dict[str, float] = {}
        self.probe_hits: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}


def measure(
    reference: Variant,
    variants: Sequence[Variant],
    windows: NDArray[np.int64],
    probes: Sequence[Probe] = (),
    characters: int | None = None,
    progress: Progress | None = None,
    *,
    lengths: NDArray[np.int64] | None = None,
    counted: NDArray[np.bool_] | None = None,
) -> list[Row]:
    """Rows of `reference` (the software model) and of every variant.

    windows: token ids (windows, tokens + 1), of which the first `lengths` (windows,) targets exist
    (default: all); `counted` (windows,) marks those that means are of (default: all);
    `characters`: how many the counted targets spell. Variants that share model and attention are
    computed once.
    """
    report = progress or (lambda step, done, total: None)
    everything = [reference, *variants]
    tokens = windows.shape[1] - 1
    sums = {v.key: _Sums((len(windows), tokens)) for v in everything}
    once = {v.key: v for v in reversed(everything)}
    distinct = [v for v in everything if once[v.key] is v]
    whole = np.full(len(windows), tokens) if lengths is None else lengths
    jobs: list[tuple[str, NDArray[np.int64], NDArray[Any], Probe | None]]
    jobs = [("text", windows, whole, None)]
    jobs += [(p.name, p.ids, np.full(len(p.ids), p.ids.shape[1] - 1), p) for p in probes]
    size = max(1, LOGITS_AT_ONCE // (tokens * reference.model.config.vocab_size))
    total = sum(len(ids) for _, ids, _, _ in jobs) * len(distinct)
    done = 0
    for step, ids, ends, probe in jobs:
        found: dict[tuple[int, int], list[tuple[NDArray[np.float64], NDArray[np.bool_]]]] = {}
        for start in range(0, len(ids), size):
            rows = slice(start, start + size)
            longest = int(ends[rows].max())
            batch = ids[rows, : longest + 1]
            inputs, targets = batch[:, :-1], batch[:, 1:]
            there = np.arange(longest) < ends[rows, None]
            wanted: NDArray[np.float64] | None = None
            for variant in distinct:
                report(f"{step}: {variant.name}", done, total)
                logp = log_probabilities(variant.model.logits(inputs, variant.attention))
                if wanted is None:
                    wanted = logp
                losses = _target_losses(logp, targets)
                best = logp.argmax(axis=-1)
                if probe is None:
                    kept = sums[variant.key]
                    kept.losses[rows, :longest] = np.where(there, losses, np.nan)
                    kept.same[rows] = ((best == wanted.argmax(axis=-1)) & there).sum(axis=1)
                    divergence = (np.exp(wanted) * (wanted - logp)).sum(axis=-1)
                    kept.divergence[rows] = np.where(there, divergence, 0.0).sum(axis=1)
                else:
                    found.setdefault(variant.key, []).append((losses, best == targets))
                done += len(batch)
        if probe is not None:
            for key, parts in found.items():
                losses, hits = (np.concatenate(x) for x in zip(*parts, strict=True))
                sums[key].probes |= score(probe, losses, hits)
                sums[key].probe_hits[probe.name] = (
                    (hits & probe.asked).sum(axis=1).astype(np.float64),
                    probe.asked.sum(axis=1).astype(np.float64),
                )
    picked = np.ones(len(windows), bool) if counted is None else counted
    software = sums[reference.key].losses
    return [_row(v, sums[v.key], whole, picked, software, characters) for v in everything]


def _row(
    variant: Variant,
    sums: _Sums,
    lengths: NDArray[np.int64],
    counted: NDArray[np.bool_],
    software: NDArray[np.float64],
    characters: int | None,
) -> Row:
    losses = sums.losses[counted]  # (windows, tokens)
    if not np.isfinite(losses[~np.isnan(losses)]).all() or _holes(sums.losses, lengths):
        raise InvariantError(f"{variant.name}: the loss is not finite")
    targets = lengths[counted]
    loss = estimate(np.nansum(losses, axis=1), targets)
    above = difference(sums.losses, software, counted)
    bins = {}
    for low, high in itertools.pairwise(POSITION_EDGES):
        last = min(high, int(targets.max())) - 1
        if low <= last:
            bins[f"{low}-{last}"] = float(np.nanmean(losses[:, low : last + 1]))
    bits = None
    if characters:
        bits = float(np.nansum(losses)) / (math.log(2) * characters)
    return Row(
        variant.name,
        loss.mean,
        bits,
        float(sums.same[counted].sum()) / int(targets.sum()),
        float(sums.divergence[counted].sum()) / int(targets.sum()),
        bins,
        sums.probes,
        sums.losses,
        counted,
        loss.error,
        above.mean,
        above.error,
        sums.probe_hits,
        variant.scalers,
    )


def _holes(losses: NDArray[np.float64], lengths: NDArray[np.int64]) -> bool:
    """Whether a loss that should be there is not a number."""
    return bool((np.isnan(losses) & (np.arange(losses.shape[1]) < lengths[:, None])).any())


class ClosedLoop(TypedDict):
    """What `archsim.models.record.record` takes to record in closed loop."""

    attention: Attention
    scalers: Mapping[str, Scaler]
    attention_sha256: str
    voltages: VoltageRange


def closed_loop(folder: Path) -> ClosedLoop:
    """The attention of a result of ``archsim adapt``, on the hardware it was made for.

    Raises ConfigError or CorruptInputError as the readers of the folder do.
    """
    adapted = load_adapted(folder)
    hardware = hardware_for(folder)
    scalers_sha256 = adapted.manifest.files[SCALERS_FILE].sha256
    text = f"{hardware.sha256} {scalers_sha256}"
    return {
        "attention": AnalogLoop(with_token_period(hardware).config, adapted.scalers),
        "scalers": adapted.scalers,
        "attention_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "voltages": VoltageRange.of(hardware.config.cell),
    }
