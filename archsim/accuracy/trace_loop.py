"""A trace of an adapted model beside the software model it was made from."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from archsim.accuracy.closed_loop import AnalogLoop, Variant, measure
from archsim.hardware.load import Hardware
from archsim.models.adapted import load_adapted
from archsim.notes import adapted_to
from archsim.retention import with_token_period
from archsim.traces.trace import Trace

FEWEST_TOKENS = 2


class InLoop(TypedDict):
    """Losses in nats a token over the trace's own tokens; agreement with the software model."""

    software_loss: float
    hardware_loss: float
    top1_agreement: float
    kl: float
    tokens: int
    adapted_to_this_hardware: bool


def trace_in_loop(trace: Trace, hardware: Hardware) -> InLoop | None:
    """What `hardware` costs the model of a trace on the trace's tokens, in closed loop.

    None where the question has no answer: no adapted model stands beside the trace, it is not the
    one recorded, layers were cut off, tokens have no id, or ages come from the simulated clock.
    """
    folder = trace.adapted_folder
    cut, recorded = trace.content.cut, trace.content.model
    whole = cut is None or cut.stop_layer - cut.first_layer == trace.layers
    ids = trace.token_ids.astype(np.int64)
    if (
        folder is None
        or not whole
        or recorded is None
        or len(ids) < FEWEST_TOKENS
        or (ids < 0).any()
        or hardware.config.retention.model == "simulated"
    ):
        return None
    adapted = load_adapted(folder)
    weights = adapted.manifest.files["model.safetensors"].sha256
    if weights != recorded.weights_sha256 or adapted.model.config.n_layer != trace.layers:
        return None
    config = with_token_period(hardware).config
    loop = AnalogLoop(config, adapted.scalers, voltages=adapted.voltages)
    software, analog = measure(
        Variant("software", adapted.software),
        [Variant("hardware", adapted.model, loop)],
        ids[None],
    )
    return {
        "software_loss": software.loss,
        "hardware_loss": analog.loss,
        "top1_agreement": analog.top1_agreement,
        "kl": analog.kl,
        "tokens": len(ids) - 1,
        "adapted_to_this_hardware": adapted_to(folder, hardware, trace.head_dim).here,
    }
