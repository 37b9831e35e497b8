"""Which forms of attention a model is measured with: the rows of ``archsim evaluate``."""

from __future__ import annotations

from archsim.accuracy.closed_loop import (
    AnalogLoop,
    Variant,
)
from archsim.accuracy.subject import Subject
from archsim.config.voltages import VoltageRange
from archsim.hardware.load import Hardware
from archsim.models.adapted import AdaptedModel, Stage
from archsim.retention import with_token_period


def with_cell(hardware: Hardware, cell: str) -> Hardware:
    """The same hardware, its token's time included, with another cell law."""
    return with_token_period(hardware).changed({"cell.model": cell})


def ladder(subject: Subject, hardware: Hardware) -> list[Variant]:
    """The control if there is one, then linear cells without and with clamps and levels,
    polynomial ones, and the hardware as configured."""
    linear = with_cell(hardware, "linear")
    unclipped = configured(subject, linear, "linear_unclipped", unclipped=True)
    rows = [configured(subject, with_cell(hardware, cell), cell) for cell in CELLS]
    last = configured(subject, hardware, "hardware")
    same = hardware.config.cell.model  # computed once: it is this very hardware
    attention = next(row.attention for row in rows if row.name == same)
    return [
        *_control(subject),
        unclipped,
        *rows,
        Variant(last.name, last.model, attention, last.scalers),
    ]


CELLS = ("linear", "polynomial")


def configured(
    subject: Subject, hardware: Hardware, name: str = "hardware", unclipped: bool = False
) -> Variant:
    """The hardware as configured, with the weights and scalers made for its cell."""
    model, scalers, words = subject.made_for(hardware)
    config = with_token_period(hardware).config
    loop = AnalogLoop(config, scalers, unclipped, subject.voltages)
    return Variant(name, model, loop, words)


def _control(subject: Subject) -> list[Variant]:
    stage = None if subject.adapted is None else subject.adapted.stage("control")
    return [] if stage is None else [Variant("control", stage.model)]


def stages(adapted: AdaptedModel, hardware: Hardware) -> list[Variant]:
    """One variant a stage of an adaptation but the software: the control, then in order."""
    variants = []
    for record in sorted(adapted.manifest.stages, key=lambda record: record.name != "control"):
        if record.name == "software":
            continue
        stage = adapted.stage(record.name)
        assert stage is not None
        loop = _stage_attention(stage, hardware, adapted.voltages)
        variants.append(Variant(record.name, stage.model, loop, "" if loop is None else "its own"))
    return variants


def _stage_attention(stage: Stage, hardware: Hardware, voltages: VoltageRange) -> AnalogLoop | None:
    if stage.scalers is None:
        return None
    config = with_cell(hardware, stage.record.attention).config
    return AnalogLoop(config, stage.scalers, voltages=voltages)
