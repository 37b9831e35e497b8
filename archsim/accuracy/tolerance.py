"""How slow a token may be, and how long cells must hold, by the loss of a model in closed loop.

A loss depends on the decay a token alone, whatever token time and tau it is the quotient of. So it
is measured at a few decays, and each token time or tau follows from one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsim.accuracy.closed_loop import AnalogLoop, Variant, measure
from archsim.accuracy.material import Material, cut_material
from archsim.accuracy.subject import Subject, load_subject
from archsim.errors import ConfigError
from archsim.hardware.load import DEFAULT_HARDWARE, Hardware, load_hardware
from archsim.models.adapted import adapted_hardware, is_adapted
from archsim.models.huggingface import read_config
from archsim.models.texts import as_text
from archsim.retention import Retention, retention_of
from archsim.units import MICROSECOND, MILLISECOND

SCHEMA_VERSION = 1
RISES = (0.01, 0.03, 0.1)
"""Rises of the loss in nats a token that are asked for, above that at `Tolerances.trained`."""

CELLS = {"silicon": "gaincell-28nm", "oxide": "gaincell-osfet"}
"""Shipped configs whose tau stands for a kind of cell."""

CLOSE = 1.2
"""How far apart the last decay that holds and the first that does not may be: a factor."""

FASTEST_DECAY = 3.0
HALVINGS = 24

Losses = Callable[[float], float]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class LossTolerance:
    """The decay a token at which the loss has risen by `rise` nats.

    It lies between `holds`, the largest decay measured below it, and `exceeds`, the next one
    measured, which is not; `decay` is between them by the logarithm. `exceeds` and `decay` are None
    where no decay that can be set lost so much.
    """

    rise: float
    holds: float
    exceeds: float | None
    decay: float | None


@dataclass(frozen=True)
class CellTime:
    """Cells with some tau: slowest token (s) at each tolerance, and what a whole token costs."""

    name: str
    source: str
    tau: float
    slowest: tuple[float | None, ...]
    whole_decay: float | None
    whole_loss: float | None


@dataclass(frozen=True)
class Tolerances:
    """What ``archsim retention`` answers."""

    hardware: Hardware
    subject: Subject
    material: Material
    positions: int
    retention: Retention
    trained: float
    """The decay a token that the model was adapted to (the default hardware's, if it was not):
    rises are above the loss there."""
    losses: Mapping[float, float]
    """Every loss measured, by the decay a token."""
    used: float | None
    """Loss at the hardware's own decay; None where its ages come from the simulated clock."""
    tolerances: tuple[LossTolerance, ...]
    cells: tuple[CellTime, ...]

    @property
    def reference(self) -> str:
        """Whose decay `trained` is, in words."""
        if self.subject.adapted is None:
            return f"the decay of {DEFAULT_HARDWARE}"
        return "the decay that the model was adapted to"

    @property
    def base(self) -> float:
        """The loss that rises are above."""
        return self.losses[self.trained]

    @property
    def fills(self) -> bool:
        """Whether a window of text is as long as the hardware's: else it never fills."""
        return bool(self.material.windows.shape[1] > self.hardware.config.window)

    def needed_tau(self, tolerance: LossTolerance) -> float | None:
        """Seconds that cells must hold at the hardware's own whole token; None where unknown."""
        token = self.retention.token
        if token is None or tolerance.decay is None:
            return None
        return token.total_s / tolerance.decay

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        tau = self.retention.tau
        return {
            "schema_version": SCHEMA_VERSION,
            "hardware": self.hardware.name,
            "hardware_sha256": self.hardware.sha256,
            "model": self.subject.name,
            "text": self.material.name,
            "windows": len(self.material.windows),
            "length": self.material.windows.shape[1] - 1,
            "window_fills": self.fills,
            "retention": self.retention.document(),
            "loss_used": self.used,
            "against": {
                "what": self.reference,
                "decay_per_token": self.trained,
                "loss": self.base,
            },
            "tolerances": [
                {
                    "rise_nats": found.rise,
                    "decay_per_token": found.decay,
                    "decay_holds": found.holds,
                    "decay_exceeds": found.exceeds,
                    "slowest_token_us": _scaled(found.decay, MICROSECOND.of(tau)),
                    "slowest_token_holds_us": MICROSECOND.of(found.holds * tau),
                    "slowest_token_exceeds_us": _scaled(found.exceeds, MICROSECOND.of(tau)),
                    "tau_needed_ms": _scaled(self.needed_tau(found), MILLISECOND.per_si),
                }
                for found in self.tolerances
            ],
            "cells": [
                {
                    "name": cell.name,
                    "hardware": cell.source,
                    "tau_ms": MILLISECOND.of(cell.tau),
                    "slowest_token_us": [_scaled(seconds, 1e6) for seconds in cell.slowest],
                    "whole_token_decay": cell.whole_decay,
                    "whole_token_loss": cell.whole_loss,
                }
                for cell in self.cells
            ],
            "measured": [
                {"decay_per_token": decay, "loss": loss}
                for decay, loss in sorted(self.losses.items())
            ],
        }


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def find_tolerances(
    loss_at: Losses, trained: float, window: int, rises: Sequence[float]
) -> list[LossTolerance]:
    """The first decays above `trained` at which the loss has risen by each of `rises`.

    Decays are tried in steps of a factor of 2, from a quarter of 1 / window or from `trained`, then
    between two steps until they are `CLOSE`. A rise between two steps that falls again is not seen.
    """
    base = loss_at(trained)

    def rise(decay: float) -> float:
        return loss_at(decay) - base

    grid = [min(max(0.25 / window, trained), FASTEST_DECAY)]
    while rise(grid[0]) >= min(rises) and grid[0] > trained and len(grid) <= HALVINGS:
        grid.insert(0, max(grid[0] / 2, trained))
    while rise(grid[-1]) < max(rises) and grid[-1] < FASTEST_DECAY:
        grid.append(min(2 * grid[-1], FASTEST_DECAY))
    return [_tolerance(rise, grid, each) for each in rises]


def _tolerance(rise: Losses, grid: Sequence[float], wanted: float) -> LossTolerance:
    if rise(grid[0]) >= wanted:  # even the slowest decay tried is too fast
        return LossTolerance(wanted, 0.0, grid[0], None)
    above = next((place for place, decay in enumerate(grid) if rise(decay) >= wanted), None)
    if above is None:
        return LossTolerance(wanted, grid[-1], None, None)
    low, high = grid[above - 1], grid[above]
    while high / low > CLOSE:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if rise(middle) >= wanted else (middle, high)
    share = (wanted - rise(low)) / (rise(high) - rise(low))
    return LossTolerance(wanted, low, high, low * (high / low) ** share)


def measure_tolerances(
    folder: Path,
    hardware: Hardware,
    text: str,
    text_name: str,
    *,
    windows: int = 2,
    length: int | None = None,
    rises: Sequence[float] = RISES,
    progress: Progress | None = None,
) -> Tolerances:
    """Every answer of ``archsim retention`` for the model of a folder on unseen text.

    Raises ConfigError for what does not fit together, or a `length` that leaves part of the window
    empty for good; CorruptInputError for damaged files.
    """
    config = read_config(folder)
    reach = min(hardware.config.window, config.n_positions)
    if length is not None and length < reach:
        raise ConfigError(
            f"length {length}: leaves the window of {hardware.config.window:,} partly filled, so "
            f"that cells seem to hold for longer; give at least {reach:,}"
        )
    texts = [as_text(text, text_name)]
    material = cut_material(folder, texts, config, windows, length, not is_adapted(folder))
    subject = load_subject(folder, material.calibration, progress)
    loss_at = MeasuredLosses(subject, hardware, material, progress)
    adapted_to = retention_of(load_hardware(adapted_hardware(folder))).used
    trained = 0.0 if adapted_to is None else adapted_to.decay_per_token
    found = find_tolerances(loss_at, trained, hardware.config.window, rises)
    retention = retention_of(hardware)
    used = None if retention.used is None else loss_at(retention.used.decay_per_token)
    cells = [
        _cell_time(name, source, found, retention, loss_at)
        for name, source in (("this hardware", hardware), *_shipped())
    ]
    return Tolerances(
        hardware,
        subject,
        material,
        config.n_positions,
        retention,
        trained,
        loss_at.losses,
        used,
        tuple(found),
        tuple(cells),
    )


def _shipped() -> list[tuple[str, Hardware]]:
    return [(name, load_hardware(config)) for name, config in CELLS.items()]


def _cell_time(
    name: str,
    source: Hardware,
    tolerances: Sequence[LossTolerance],
    retention: Retention,
    loss_at: Losses,
) -> CellTime:
    tau = source.config.retention.tau
    slowest = tuple(_scaled(found.decay, tau) for found in tolerances)
    decay = None if retention.token is None else retention.token.total_s / tau
    loss = None if decay is None else loss_at(min(decay, FASTEST_DECAY))
    return CellTime(name, source.name, tau, slowest, decay, loss)


class MeasuredLosses:
    """Closed-loop losses by decay a token, each measured once."""

    def __init__(
        self,
        subject: Subject,
        hardware: Hardware,
        material: Material,
        progress: Progress | None,
        known: Mapping[float, float] | None = None,
    ) -> None:
        self.losses = dict(known or {})
        self._subject, self._hardware, self._material = subject, hardware, material
        self._report = progress or (lambda step, done, total: None)

    def __call__(self, decay: float) -> float:
        if decay not in self.losses:
            done = len(self.losses)
            self._report(f"loss at {decay:.3g} a token", done, max(EXPECTED, done + 1))
            keys = {"retention.model": "per_token", "retention.decay_per_token": decay}
            model, scalers, words = self._subject.made_for(self._hardware)
            config = self._hardware.changed(keys).config
            loop = AnalogLoop(config, scalers, voltages=self._subject.voltages)
            found = measure(
                Variant("hardware", model, loop, words),
                [],
                self._material.windows,
                lengths=self._material.lengths,
                counted=self._material.counted,
            )
            self.losses[decay] = found[0].loss
        return self.losses[decay]


EXPECTED = 14
"""Losses that the shipped model takes: what a bar of progress is drawn to."""
