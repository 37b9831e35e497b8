"""What attention on the hardware costs a model: the rows of ``archsim evaluate``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.components.head import Head
from archsim.config.hardware import Hardware
from archsim.errors import ConfigError
from archsim.evaluation.closed_loop import AnalogLoop, Progress, Row, Variant, measure
from archsim.evaluation.direct_search import search_scalers
from archsim.evaluation.probes import make_probes
from archsim.workload.adapted import AdaptedModel, Stage, is_adapted, load_adapted
from archsim.workload.gpt2 import Gpt2
from archsim.workload.huggingface import load_gpt2
from archsim.workload.scalers import Scaler
from archsim.workload.tokenizer import load_tokenizer

SCHEMA_VERSION = 1
CALIBRATION_WINDOWS = 2

KNEE: dict[str, tuple[Any, ...]] = {
    "levels.query": (256, 16, 8, 4),
    "levels.key_value": (256, 16, 8, 4),
}
"""The quantisation knee, around the published one's axes (FACTS 5). 256 levels stand for full
precision: null would take away the clamp too, which an adapted model leans on."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under evaluation: its software form, and what runs on the hardware.

    `linear` and `polynomial` are (weights, scalers) made for either cell law; `scalers_from` says
    in words where the scalers come from.
    """

    name: str
    software: Gpt2
    linear: tuple[Gpt2, dict[str, Scaler]]
    polynomial: tuple[Gpt2, dict[str, Scaler]]
    scalers_from: str
    adapted: AdaptedModel | None = None


@dataclass(frozen=True, eq=False)
class Material:
    """Unseen text as windows of token ids (windows, tokens + 1), and all of its ids."""

    name: str
    windows: NDArray[np.int64]
    ids: NDArray[np.int64]
    characters: int | None

    @property
    def tokens(self) -> int:
        return int(self.windows[:, 1:].size)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Rows of one subject on one material and hardware."""

    subject: Subject
    material: Material
    hardware: Hardware
    rows: list[Row]
    unread: tuple[str, ...] = ()
    """Keys that were set or varied and that no row depends on."""

    def document(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.subject.name,
            "hardware": self.hardware.name,
            "hardware_sha256": self.hardware.sha256,
            "text": self.material.name,
            "windows": len(self.material.windows),
            "tokens": self.material.tokens,
            "scalers": self.subject.scalers_from,
            "unread_parameters": list(self.unread),
            "rows": [row.document() for row in self.rows],
        }


def cut_windows(
    folder: Path, text: str, name: str, config: Any, count: int | None, length: int | None
) -> Material:
    """Windows of `length` tokens (default: all positions of the model), evenly over the text.

    Raises ConfigError if the text is shorter than one window.
    """
    tokens = config.n_positions if length is None else length
    if not 2 <= tokens <= config.n_positions:
        raise ConfigError(f"length {tokens}: the model takes 2 to {config.n_positions} tokens")
    if count is not None and count < 1:
        raise ConfigError(f"windows {count}: must be at least 1")
    tokenizer = load_tokenizer(folder)
    ids = np.asarray(tokenizer.encode(text), np.int64)
    available = (len(ids) - 1) // tokens
    if available < 1:
        raise ConfigError(
            f"text {name}: {len(ids)} tokens, one window takes {tokens + 1}; give a longer text or "
            "a smaller --length"
        )
    if ids.max() >= config.vocab_size:
        raise ConfigError(
            f"{folder}: the tokenizer has ids up to {int(ids.max())}, the model only "
            f"{config.vocab_size}; they do not belong together"
        )
    picked = np.linspace(0, available - 1, min(available, count or available)).round().astype(int)
    windows = np.stack([ids[i * tokens : (i + 1) * tokens + 1] for i in picked])
    characters = sum(len(tokenizer.decode(w[1:].tolist())) for w in windows)
    return Material(name, windows, ids, characters)


def load_subject(
    folder: Path, hardware: Hardware, calibration: NDArray[np.int64], progress: Progress | None
) -> Subject:
    """A result of ``archsim adapt``, or any GPT-2 with scalers searched on `calibration` ids.

    Raises ConfigError or CorruptInputError as the readers of such folders do.
    """
    if not is_adapted(folder):
        model = load_gpt2(folder)
        found = {
            cell: search_scalers(
                model,
                Head(with_cell(hardware, cell).config, model.config.head_dim),
                calibration,
                progress=progress,
            ).scalers
            for cell in ("linear", "polynomial")
        }
        return Subject(
            folder.resolve().name,
            model,
            (model, found["linear"]),
            (model, found["polynomial"]),
            f"direct search on the first {calibration.size} tokens of the text (not adapted)",
        )
    return adapted_subject(folder)


def adapted_subject(folder: Path) -> Subject:
    """A result of ``archsim adapt``. Raises ConfigError or CorruptInputError as its readers do."""
    adapted = load_adapted(folder)
    stage = adapted.stage("linear")
    final = (adapted.model, adapted.scalers)
    linear = final if stage is None or stage.scalers is None else (stage.model, stage.scalers)
    name = folder.resolve().name
    return Subject(name, adapted.software, linear, final, "adapted", adapted)


def with_cell(hardware: Hardware, cell: str) -> Hardware:
    return hardware.changed({"cell.model": cell})


def ladder(subject: Subject, hardware: Hardware) -> list[Variant]:
    """Ideal, linear, polynomial and the hardware as configured; see `Subject` for the weights."""
    linear_model, linear_scalers = subject.linear
    final_model, final_scalers = subject.polynomial

    def loop(cell: str, scalers: dict[str, Scaler], ideal: bool = False) -> AnalogLoop:
        return AnalogLoop(with_cell(hardware, cell).config, scalers, ideal)

    return [
        Variant("ideal", linear_model, loop("linear", linear_scalers, ideal=True)),
        Variant("linear", linear_model, loop("linear", linear_scalers)),
        Variant("polynomial", final_model, loop("polynomial", final_scalers)),
        configured(subject, hardware),
    ]


def configured(subject: Subject, hardware: Hardware) -> Variant:
    """The hardware as configured, with the weights made for its cell."""
    model, scalers = (
        subject.linear if hardware.config.cell.model == "linear" else subject.polynomial
    )
    loop = AnalogLoop(hardware.config, scalers)
    return Variant("hardware", model, loop)


def stages(adapted: AdaptedModel, hardware: Hardware) -> list[Variant]:
    """One variant a stage of an adaptation but the software: the control, then in order."""
    variants = []
    for record in sorted(adapted.manifest.stages, key=lambda record: record.name != "control"):
        if record.name == "software":
            continue
        stage = adapted.stage(record.name)
        assert stage is not None
        variants.append(Variant(record.name, stage.model, _stage_attention(stage, hardware)))
    return variants


def _stage_attention(stage: Stage, hardware: Hardware) -> AnalogLoop | None:
    if stage.scalers is None:
        return None
    return AnalogLoop(with_cell(hardware, stage.record.attention).config, stage.scalers)


def evaluate_model(
    folder: Path,
    hardware: Hardware,
    text: str,
    text_name: str,
    *,
    every_stage: bool = False,
    windows: int | None = None,
    length: int | None = None,
    probes: int = 4,
    progress: Progress | None = None,
) -> Evaluation:
    """The closed loop of a model folder on unseen text; see `ladder` and `stages` for the rows.

    `probes`: sequences of each probe, 0 for none.
    Raises ConfigError for what does not fit together, CorruptInputError for damaged files.
    """
    material, subject = _prepare(folder, hardware, text, text_name, windows, length, progress)
    made = []
    if probes:
        reach = min(hardware.config.window, material.windows.shape[1] - 1)
        made = make_probes(material.ids, subject.software.config.vocab_size, reach, probes)
    if every_stage:
        if subject.adapted is None:
            raise ConfigError(f"{folder}: not a result of archsim adapt: it has no stages")
        variants = stages(subject.adapted, hardware)
    else:
        variants = ladder(subject, hardware)
    software = Variant("software", subject.software)
    rows = measure(
        software, variants, material.windows, made, material.characters, progress=progress
    )
    return Evaluation(subject, material, hardware, rows, _unread(hardware.overridden, variants))


def evaluate_sweep(
    folder: Path,
    hardware: Hardware,
    axes: Mapping[str, Sequence[Any]],
    text: str,
    text_name: str,
    *,
    windows: int | None = None,
    length: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """The loss at every combination of `axes` (dotted config key to values), scalers unchanged.

    Rows are named ``key=value, key=value``. Raises ConfigError as `evaluate_model` does.
    """
    material, subject = _prepare(folder, hardware, text, text_name, windows, length, progress)
    model, scalers = subject.polynomial
    variants = []
    for values in itertools.product(*axes.values()):
        overrides = dict(zip(axes, values, strict=True))
        name = ", ".join(f"{key}={show_value(value)}" for key, value in overrides.items())
        config = hardware.changed(_functional(overrides)).config
        variants.append(Variant(name, model, AnalogLoop(config, scalers)))
    rows = measure(
        Variant("software", subject.software), variants, material.windows, (), None, progress
    )
    unread = _unread([*axes, *hardware.overridden], variants)
    return Evaluation(subject, material, hardware, rows, unread)


def _unread(given: Iterable[str], variants: Sequence[Variant]) -> tuple[str, ...]:
    """Which keys no variant depends on: they set how long it takes, or what it costs."""
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


def _prepare(
    folder: Path,
    hardware: Hardware,
    text: str,
    text_name: str,
    windows: int | None,
    length: int | None,
    progress: Progress | None,
) -> tuple[Material, Subject]:
    from archsim.workload.huggingface import read_config

    config = read_config(folder)
    material = cut_windows(folder, text, text_name, config, windows, length)
    subject = load_subject(folder, hardware, material.windows[:CALIBRATION_WINDOWS, :-1], progress)
    return material, subject
