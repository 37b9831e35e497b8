"""What attention on the hardware costs a model: the rows of ``archsim evaluate``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.accuracy.closed_loop import (
    AnalogLoop,
    Progress,
    Row,
    Variant,
    check_retention,
    difference,
    measure,
)
from archsim.accuracy.direct_search import search_scalers
from archsim.accuracy.material import Material, cut_material
from archsim.accuracy.probes import Probe, make_probes
from archsim.accuracy.uncertainty import Estimate, estimate
from archsim.chip.head import Head
from archsim.chip.laws import laws_of
from archsim.config.voltages import VoltageRange
from archsim.errors import ConfigError
from archsim.hardware.load import Hardware
from archsim.models.adapted import AdaptedModel, Stage, is_adapted, load_adapted
from archsim.models.gpt2 import Gpt2, Gpt2Config
from archsim.models.huggingface import load_gpt2, read_config
from archsim.models.texts import Text, Words, as_text
from archsim.notes import adapted_to, run_notes
from archsim.retention import Retention, retention_of, with_token_period
from archsim.traces.scalers import Scaler

SCHEMA_VERSION = 2

KNEE: dict[str, tuple[Any, ...]] = {
    "levels.query": (256, 16, 8, 4),
    "levels.key_value": (256, 16, 8, 4),
}
"""The quantisation knee, around the published one's axes (FACTS 5). 256 levels stand for full
precision: null would take away the clamp too, which an adapted model leans on."""

MadeFor = tuple[Gpt2, dict[str, Scaler], str]
"""Weights and scalers for some hardware, and where they come from, in words."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under evaluation: its software form, and what runs on a hardware.

    An adapted model brings weights and scalers for the linear and for the polynomial cell. Any
    other gets scalers by direct search on `calibration` ids (windows, tokens), anew for every
    hardware.
    """

    name: str
    software: Gpt2
    adapted: AdaptedModel | None = None
    calibration: NDArray[np.int64] | None = None
    progress: Progress | None = None
    _searches: dict[str, MadeFor] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Subject {self.name}, scalers {self.scalers_from}>"

    @property
    def voltages(self) -> VoltageRange | None:
        """For which cells the scalers were made; None for those of the hardware they run on."""
        return None if self.adapted is None else self.adapted.voltages

    def notes(self, hardware: Hardware) -> list[str]:
        """What was fitted for something else than `hardware`."""
        adapted = self.adapted
        if adapted is None:
            return list(hardware.notes)
        made_for = adapted_to(adapted.folder, hardware, adapted.model.config.head_dim)
        return run_notes(hardware, adapted.voltages, made_for)

    @property
    def scalers_from(self) -> str:
        if self.calibration is None:
            return "adapted"
        return (
            f"not adapted: direct search on {self.calibration.size} tokens of the text that are "
            "not measured"
        )

    def made_for(self, hardware: Hardware) -> MadeFor:
        """Weights and scalers for the cell of `hardware`, whatever else it changes.

        An adapted model's are those of its linear stage for the linear cell and the final ones for
        the polynomial cell; of one without a linear stage the final ones for both.
        """
        if self.adapted is not None:
            return self._stored(hardware.config.cell.model)
        key = laws_of(hardware.config, self.software.config.head_dim).sha256
        if key not in self._searches:
            self._searches[key] = self._searched(hardware)
        return self._searches[key]

    def _stored(self, cell: str) -> MadeFor:
        assert self.adapted is not None
        stage = self.adapted.stage("linear") if cell == "linear" else None
        if stage is None or stage.scalers is None:
            return self.adapted.model, self.adapted.scalers, "final"
        return stage.model, stage.scalers, "linear stage"

    def _searched(self, hardware: Hardware) -> MadeFor:
        assert self.calibration is not None
        head = Head(with_token_period(hardware).config, self.software.config.head_dim)
        found = search_scalers(self.software, head, self.calibration, progress=self.progress)
        return self.software, found.scalers, "searched"


@dataclass(frozen=True)
class ByText:
    """One row on one text: loss in nats a token, and its distance from other rows."""

    text: Text
    windows: int
    loss: Estimate
    above_software: Estimate
    above_control: Estimate | None

    def document(self) -> dict[str, Any]:
        control = self.above_control
        return {
            "text": self.text.name,
            "use": self.text.use,
            "windows": self.windows,
            "loss": self.loss.mean,
            "loss_standard_error": self.loss.error,
            "above_software": self.above_software.mean,
            "above_software_standard_error": self.above_software.error,
            "above_control": None if control is None else control.mean,
            "above_control_standard_error": None if control is None else control.error,
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Rows of one subject on one material and hardware."""

    subject: Subject
    material: Material
    hardware: Hardware
    rows: list[Row]
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    """Keys that were set or varied and that no row depends on."""

    def __repr__(self) -> str:
        last, windows = self.rows[-1], int(self.material.counted.sum())
        return (
            f"<Evaluation of {self.subject.name} on {self.hardware.name}: {last.name} "
            f"{last.loss:.3f} nats over {windows:,} windows>"
        )

    @property
    def control(self) -> Row | None:
        return next((row for row in self.rows if row.name == "control"), None)

    def by_text(self, row: Row) -> list[ByText]:
        """`row` on each text apart, the held-out one too, each with its standard errors."""
        software, control, found = self.rows[0], self.control, []
        for place, text in enumerate(self.material.texts):
            picked = self.material.text_of == place
            if not picked.any():
                continue
            losses = row.token_losses
            counts = self.material.lengths[picked]
            found.append(
                ByText(
                    text,
                    int(picked.sum()),
                    estimate(np.nansum(losses[picked], axis=1), counts),
                    difference(losses, software.token_losses, picked),
                    None if control is None else difference(losses, control.token_losses, picked),
                )
            )
        return found

    def above_control(self, row: Row) -> Estimate | None:
        """`row` minus the control over all counted windows."""
        if self.control is None:
            return None
        return difference(row.token_losses, self.control.token_losses, row.counted)

    @cached_property
    def retention(self) -> Retention:
        """The decay of the hardware's rows beside that of a whole token's time."""
        return retention_of(self.hardware)

    def document(self) -> dict[str, Any]:
        material = self.material
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.subject.name,
            "hardware": self.hardware.name,
            "hardware_sha256": self.hardware.sha256,
            "text": material.name,
            "windows": int(material.counted.sum()),
            "tokens": material.tokens,
            "held_out": [text.name for text in material.texts if text.use == "held_out"],
            "scalers": self.subject.scalers_from,
            "notes": list(self.notes),
            "unread_parameters": list(self.unread),
            "retention": self.retention.document(),
            "rows": [self._row_document(row) for row in self.rows],
        }

    def probes_above_control(self, row: Row) -> dict[str, Estimate]:
        """Points by which `row` is above the control on each probe; empty without a control."""
        if self.control is None:
            return {}
        return {probe: row.probe_above(self.control, probe) for probe in row.probe_hits}

    def _row_document(self, row: Row) -> dict[str, Any]:
        above, probes = self.above_control(row), self.probes_above_control(row)
        return {
            **row.document(),
            "above_control": None if above is None else above.mean,
            "above_control_standard_error": None if above is None else above.error,
            "probes_above_control": {name: e.mean for name, e in probes.items()},
            "probes_above_control_standard_error": {n: e.error for n, e in probes.items()},
            "by_text": [part.document() for part in self.by_text(row)],
        }


def load_subject(
    folder: Path, calibration: NDArray[np.int64], progress: Progress | None
) -> Subject:
    """A result of ``archsim adapt``, or any GPT-2 with scalers searched on `calibration` ids.

    Raises ConfigError or CorruptInputError as the readers of such folders do.
    """
    if is_adapted(folder):
        return adapted_subject(folder)
    name = folder.resolve().name
    return Subject(name, load_gpt2(folder), None, calibration, progress)


def adapted_subject(folder: Path) -> Subject:
    """A result of ``archsim adapt``. Raises ConfigError or CorruptInputError as its readers do."""
    adapted = load_adapted(folder)
    return Subject(folder.resolve().name, adapted.software, adapted)


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


def evaluate_model(
    folder: Path,
    hardware: Hardware,
    text: Words | Sequence[Text],
    text_name: str = "text",
    *,
    every_stage: bool = False,
    windows: int | None = None,
    length: int | None = None,
    probes: int = 4,
    progress: Progress | None = None,
) -> Evaluation:
    """The closed loop of a model folder on unseen text; see `ladder` and `stages` for the rows.

    `text`: in any form of `Words`, or several texts, each reported apart. `windows` of each text,
    of `length` tokens. `probes`: sequences of each probe, 0 for none.
    Raises ConfigError for what does not fit together, CorruptInputError for damaged files; all of
    it before the first long step.
    """
    config = _checked(folder, hardware)
    if every_stage and not is_adapted(folder):
        raise ConfigError(f"{folder}: not a result of archsim adapt: it has no stages")
    texts = _texts(text, text_name)
    material = cut_material(folder, texts, config, windows, length, not is_adapted(folder))
    made: Sequence[Probe] = []
    if probes:
        reach = min(hardware.config.window, material.windows.shape[1] - 1)
        if not len(material.ids):
            raise ConfigError("probes need running text, here are documents; use --probes 0")
        made = make_probes(material.ids, config.vocab_size, reach, probes)
    subject = load_subject(folder, material.calibration, progress)
    if every_stage:
        assert subject.adapted is not None
        variants = stages(subject.adapted, hardware)
    else:
        variants = ladder(subject, hardware)
    notes, given = subject.notes(hardware), hardware.overridden
    return _measured(subject, material, hardware, variants, made, progress, notes, given)


def evaluate_sweep(
    folder: Path,
    hardware: Hardware,
    axes: Mapping[str, Sequence[Any]],
    text: Words | Sequence[Text],
    text_name: str = "text",
    *,
    windows: int | None = None,
    length: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """The loss at every combination of `axes` (dotted config key to values).

    Every row is what `evaluate_model` gives as its row ``hardware`` on that hardware: with the
    weights and scalers made for its cell. Rows are named ``key=value, key=value``.
    Raises ConfigError as `evaluate_model` does, and for a held-out text.
    """
    texts = _texts(text, text_name)
    for each in texts:
        if each.use == "held_out":
            raise ConfigError(
                f"text {each.name}: is held out, no hardware is chosen by it; sweep over others"
            )
    points = []
    for values in itertools.product(*axes.values()):
        overrides = dict(zip(axes, values, strict=True))
        name = ", ".join(f"{key}={show_value(value)}" for key, value in overrides.items())
        points.append((name, hardware.changed(_functional(overrides))))
    for _, point in points:
        config = _checked(folder, point)
    material = cut_material(folder, texts, config, windows, length, not is_adapted(folder))
    subject = load_subject(folder, material.calibration, progress)
    variants = [configured(subject, point, name) for name, point in points]
    notes = dict.fromkeys(subject.notes(hardware))
    for name, point in points:
        notes |= {f"{name}: {line}": None for line in point.notes if line not in notes}
    given = [*axes, *hardware.overridden]
    return _measured(subject, material, hardware, variants, (), progress, list(notes), given)


def _measured(
    subject: Subject,
    material: Material,
    hardware: Hardware,
    variants: Sequence[Variant],
    probes: Sequence[Probe],
    progress: Progress | None,
    notes: Sequence[str],
    given: Iterable[str],
) -> Evaluation:
    rows = measure(
        Variant("software", subject.software),
        variants,
        material.windows,
        probes,
        material.characters,
        progress,
        lengths=material.lengths,
        counted=material.counted,
    )
    unread = _unread(given, hardware, variants)
    return Evaluation(subject, material, hardware, rows, tuple(notes), unread)


def _unread(
    given: Iterable[str], hardware: Hardware, variants: Sequence[Variant]
) -> tuple[str, ...]:
    """Which keys no variant depends on: they set how long it takes, or what it costs.

    Where cells age by a whole token's time, whatever decides that time is read.
    """
    if hardware.config.retention.takes_whole_token:
        return tuple(hardware.unused_overrides)
    read: set[str] = set()
    for variant in variants:
        if isinstance(variant.attention, AnalogLoop):
            read |= variant.attention.reads(variant.model.config.head_dim)
    return tuple(key for key in dict.fromkeys(given) if key not in read)


def show_value(value: Any) -> str:
    return "null" if value is None else str(value)


def _functional(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides that the clock law accepts: how long a pulse step lasts changes no value."""
    if overrides.get("levels.query") is None:
        return dict(overrides)
    return {"pulse_generator.t_max": "auto", **overrides}


def _texts(given: Words | Sequence[Text], name: str) -> list[Text]:
    several = isinstance(given, list | tuple) and len(given) > 0
    if several and all(isinstance(part, Text) for part in given):
        return list(given)  # type: ignore[arg-type]
    return [as_text(given, name)]  # type: ignore[arg-type]


def _checked(folder: Path, hardware: Hardware) -> Gpt2Config:
    """The model's config. Raises ConfigError where `hardware` cannot be in its loop."""
    config = read_config(folder)
    check_retention(hardware.config)
    Head(with_token_period(hardware).config, config.head_dim)
    return config
