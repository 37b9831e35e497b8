"""Published results that the model was not given: each is a prediction, and each can fail."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from archsim.calibration import Calibration
from archsim.chip.cell import current_law, swing
from archsim.chip.converter import (
    activation_law,
    output_full_scale,
    output_levels,
    score_full_scale,
)
from archsim.chip.head import Head
from archsim.config.published import published
from archsim.errors import CorruptInputError
from archsim.files import data_folder
from archsim.hardware.load import Hardware
from archsim.retention import with_token_period
from archsim.simulation import holding
from archsim.validation.figures import Computed, reads

REFERENCE_VARIABLE = "ARCHSIM_REFERENCE_DATA"
"""Names the folder of the authors' data files, which are not shipped."""

GOLDEN = "64x64_single_arrays_final_output_pulse_notquant.npz"
GOLDEN_FEATURES = 64

ADAPTED = "reference-adapted"
CURVES, KNEE = "curves.json", "knee.json"
SETTLED = 0.1
"""Nats from where a curve of losses ends: that near, matching has done its work."""


def top_digital_power(calibration: Calibration) -> float:
    """mW of the digital blocks of a head in the phase in which they draw most.

    What lasts a head's whole stay (control, clock) is spread over it; what belongs to a phase over
    that phase's own time. Means over full-window tokens.
    """
    simulation = calibration.simulation
    schedule, digital = simulation.schedule, "digital"
    tick_ns = simulation.declaration.clock.ns
    came, left = holding(schedule)
    stay = float((left - came)[calibration.first :].mean()) * tick_ns
    always = 0.0
    phases: dict[str, float] = {}
    for posting in simulation.ledger:
        stage = posting.action.stage
        if posting.action.bucket != digital:
            continue
        spent = calibration.energy_pj(posting.action)
        if stage in schedule.start:
            lasts = (schedule.end[stage] - schedule.start[stage])[calibration.first :]
            phases[stage] = phases.get(stage, 0.0) + spent / (float(lasts.mean()) * tick_ns)
        else:
            always += spent / stay
    return always + max(phases.values(), default=0.0)  # pJ / ns = mW


def golden_codes(hardware: Hardware) -> Computed:
    """How many output codes of the authors' ten problems the blocks of `hardware` give.

    Through the blocks' own laws (cell current, readout, output conversion), with the older
    decay of these vectors in between. Raises CorruptInputError for a file that is no such data.
    """
    head = Head(with_token_period(hardware).config, GOLDEN_FEATURES)
    laws = (current_law, swing, score_full_scale, output_full_scale, output_levels)
    read = reads(hardware, (*laws, activation_law, *head.readout.work))
    path = Path(os.environ.get(REFERENCE_VARIABLE, "")) / GOLDEN
    if not os.environ.get(REFERENCE_VARIABLE) or not path.is_file():
        missing = f"data not present: {GOLDEN} in the folder that {REFERENCE_VARIABLE} names"
        return Computed(hardware, None, read, unresolved=missing)
    if hardware.config.levels.output is None:
        return Computed(hardware, None, read, unresolved="levels.output is null: no codes")
    try:
        with np.load(path, allow_pickle=False) as file:
            golden = {name: file[name].astype(np.float64) for name in ("Q", "K", "V", "output")}
    except (OSError, ValueError, KeyError):
        raise CorruptInputError(f"{path}: not the authors' golden vectors") from None
    cell, law = head.cell, head.laws
    quantiser = law.output.quantiser
    token = np.arange(golden["Q"].shape[1])
    fade = np.exp(-published("golden_decay").value * (token[:, None] - token)) * (
        token[:, None] >= token
    )
    keys, values = (cell.current(golden[name] - cell.mid_rail) for name in ("K", "V"))
    parts = (slice(*part) for part in law.readout.parts)
    charges = [fade * (golden["Q"][..., part] @ keys[..., part].swapaxes(1, 2)) for part in parts]
    pulses = law.readout.pulses(law.readout.scores(charges))
    found = (fade * pulses) @ values / law.output.full_scale
    same = quantiser.codes(found) == quantiser.codes(golden["output"])
    differ = int(same.size - np.count_nonzero(same))
    return Computed(
        hardware,
        float(np.count_nonzero(same)),
        read,
        (GOLDEN,),
        f"{differ} of {same.size:,} differ",
    )


def matching_passes(hardware: Hardware) -> Computed:
    """Passes of scaler matching until its loss is within `SETTLED` of where it ends.

    Ours is the curve that ``archsim adapt`` stored with the shipped adapted model, by the published
    statistic (voltages). `hardware` is the one it ran on.
    """
    ours = _stored(CURVES)["matching_voltage"]["loss"]
    theirs = published("matching_losses").values
    return Computed(
        hardware,
        float(passes(ours)),
        data=(f"traces/{ADAPTED}/{CURVES}",),
        published=float(passes(theirs)),
        unit="passes",
        note="ours is another, far smaller model on other text; stored by archsim adapt",
    )


def passes(losses: Sequence[float]) -> int:
    """The first pass after which every loss lies within `SETTLED` of the last one."""
    far = [place for place, loss in enumerate(losses) if abs(loss - losses[-1]) > SETTLED]
    return far[-1] + 1 if far else 0


def matching_overshoot(hardware: Hardware) -> Computed:
    """By what factor the first pass makes the loss worse, before matching brings it down."""
    ours = _stored(CURVES)["matching_voltage"]["loss"]
    theirs = published("matching_losses").values
    return Computed(
        hardware,
        ours[1] / ours[0],
        data=(f"traces/{ADAPTED}/{CURVES}",),
        published=theirs[1] / theirs[0],
        unit="x",
        note="loss after the first pass over the loss before; stored by archsim adapt",
    )


def knee_losses() -> list[float]:
    """Our losses at the published pairs of levels; full precision is 256 levels of both."""
    stored = {tuple(each["levels"]): float(each["loss"]) for each in _stored(KNEE)["losses"]}
    return [stored[tuple(n or 256 for n in pair)] for pair in published("quantisation_losses").at]


def knee_order(hardware: Hardware) -> Computed:
    """How many pairs of the published points of the quantisation knee stand in the same order."""
    theirs, ours = published("quantisation_losses").values, knee_losses()
    pairs = list(combinations(range(len(theirs)), 2))
    same = sum((theirs[a] < theirs[b]) == (ours[a] < ours[b]) for a, b in pairs)
    return Computed(
        hardware,
        float(same),
        data=(f"traces/{ADAPTED}/{KNEE}",),
        published=float(len(pairs)),
        unit="pairs",
        note="pairs of points in the published order; stored by archsim evaluate --knee",
    )


def knee_rise(hardware: Hardware) -> Computed:
    """Loss at the coarsest published point above that at full precision."""
    theirs, ours = published("quantisation_losses").values, knee_losses()
    return Computed(
        hardware,
        ours[-1] - ours[0],
        data=(f"traces/{ADAPTED}/{KNEE}",),
        published=theirs[-1] - theirs[0],
        unresolved="theirs was not trained for its quantisers, ours was: not like with like",
    )


def _stored(name: str) -> Any:
    path = data_folder("traces") / ADAPTED / name
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CorruptInputError(f"{path}: not a stored result; reinstall archsim") from None
