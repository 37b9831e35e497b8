"""What attention on the hardware costs a model, measured on unseen text."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from archsim.accuracy.closed_loop import (
    AnalogLoop,
    Progress,
    Variant,
    check_retention,
    measure,
)
from archsim.accuracy.evaluation import Evaluation
from archsim.accuracy.material import Material, cut_material
from archsim.accuracy.probes import Probe, make_probes
from archsim.accuracy.subject import Subject, load_subject
from archsim.accuracy.variants import configured, ladder, stages
from archsim.chip.head import Head
from archsim.errors import ConfigError
from archsim.hardware.load import Hardware
from archsim.models.adapted import is_adapted
from archsim.models.gpt2 import Gpt2Config
from archsim.models.huggingface import read_config
from archsim.models.texts import Text, Words, as_text
from archsim.retention import with_token_period

KNEE: dict[str, tuple[Any, ...]] = {
    "levels.query": (256, 16, 8, 4),
    "levels.key_value": (256, 16, 8, 4),
}
"""The quantisation knee, around the published one's axes (FACTS 5). 256 levels stand for full
precision: null would take away the clamp too, which an adapted model leans on."""


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
        if not subject.adapted.has_stages:
            raise ConfigError(
                f"{folder}: its stages are not here: an installed archsim leaves them out; give "
                "the folder as archsim adapt wrote it"
            )
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
