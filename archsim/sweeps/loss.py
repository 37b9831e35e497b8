"""The loss of a model whose attention runs on a point's hardware: a figure beside a simulation's.

It is measured as ``archsim evaluate`` measures its row ``hardware``, and kept by what it depends
on: model, text, windows and the functional part of a config. Points that differ in timing or
energy alone share it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archsim.chip.laws import laws_of
from archsim.errors import ConfigError, CorruptInputError
from archsim.files import sha256_of_file
from archsim.hardware.load import Hardware
from archsim.retention import with_token_period

if TYPE_CHECKING:
    from archsim.accuracy.material import Material
    from archsim.accuracy.subject import Subject
    from archsim.sweeps.definition import Sweep


@dataclass(frozen=True)
class Loop:
    """A model folder, an unseen text and how many windows of it; hashes of what they hold."""

    model: str
    text: str
    windows: int
    model_sha256: str
    text_sha256: str
    head_dim: int

    def key_parts(self, hardware: Hardware) -> list[object]:
        """What a loss on some hardware depends on, apart from the code."""
        parts = [self.model_sha256, self.text_sha256, self.windows]
        config = with_token_period(hardware).config
        return ["loss", *parts, laws_of(config, self.head_dim).sha256]


def loop_of(sweep: Sweep) -> Loop:
    """What the losses of a sweep are measured on.

    Raises ConfigError, CorruptInputError or MissingExtraError if that cannot be read.
    """
    from archsim.models.adapted import shipped_text
    from archsim.models.huggingface import read_config

    model = loss_model(sweep)
    text = str(shipped_text()) if sweep.text is None else sweep.text
    if not Path(model).is_dir():
        raise ConfigError(f"model {model[:80]}: no such folder")
    material = _material(model, text, sweep.windows)
    have = len(material.windows)
    if have < sweep.windows:
        raise ConfigError(f"windows {sweep.windows}: the text {text[:80]} has only {have}")
    hashes = _model_sha256(model), sha256_of_file(Path(text))
    return Loop(model, text, sweep.windows, *hashes, read_config(Path(model)).head_dim)


def loss_model(sweep: Sweep) -> str:
    """The folder of the model whose loss a sweep measures.

    The one it names; else the one that its traces are of, if that is one that was adapted; else the
    shipped one. Raises ConfigError if there is no such trace.
    """
    from archsim.models.adapted import shipped_adapted, trace_model

    if sweep.model is not None:
        return sweep.model
    listed = {axis.key: axis.values or () for axis in sweep.axes}
    folders = {trace_model(str(name)) for name in listed.get("trace", (sweep.trace,))}
    only = folders.pop() if len(folders) == 1 else None
    return str(shipped_adapted() if only is None else only)


def measure_loss(loop: Loop, hardware: Hardware) -> float:
    """Closed-loop loss in nats a token.

    Raises ConfigError if model and hardware do not fit, CorruptInputError if a file is damaged or
    was changed since `loop` was made.
    """
    from archsim.accuracy.closed_loop import check_retention, measure
    from archsim.accuracy.variants import configured

    check_retention(hardware.config)
    if _hashes(loop.model, loop.text) != (loop.model_sha256, loop.text_sha256):
        raise CorruptInputError("model or text file changed while the sweep ran")
    material = _material(loop.model, loop.text, loop.windows)
    variant = configured(_subject(loop), hardware)
    return measure(variant, [], material.windows, lengths=material.lengths)[0].loss


@functools.lru_cache(maxsize=4)
def _hashes(model: str, text: str) -> tuple[str, str]:
    return _model_sha256(model), sha256_of_file(Path(text))


def _model_sha256(model: str) -> str:
    from archsim.models.adapted import is_adapted
    from archsim.models.huggingface import checkpoint_sha256
    from archsim.models.tokenizer import tokenizer_files
    from archsim.traces.folder import ADAPTATION_FILE

    folder = Path(model)
    if is_adapted(folder):  # it has the hash of every other file, compared when they are read
        return sha256_of_file(folder / ADAPTATION_FILE)
    files = [folder / "config.json", *tokenizer_files(folder)]
    hashes = [checkpoint_sha256(folder), *(sha256_of_file(path) for path in files)]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


@functools.lru_cache(maxsize=4)
def _material(model: str, text: str, windows: int) -> Material:
    from archsim.accuracy.material import cut_material
    from archsim.models.adapted import is_adapted
    from archsim.models.huggingface import read_config
    from archsim.models.record import read_text
    from archsim.models.texts import Text, refuse_held_out

    folder, path = Path(model), Path(text)
    words = read_text(path)
    refuse_held_out([words], "sweep")
    texts = [Text(path.name, (words,))]
    return cut_material(folder, texts, read_config(folder), windows, None, not is_adapted(folder))


@functools.lru_cache(maxsize=2)
def _of_model(model: str, text: str, windows: int) -> Subject:
    from archsim.accuracy.subject import load_subject

    return load_subject(Path(model), _material(model, text, windows).calibration, None)


def _subject(loop: Loop) -> Subject:
    return _of_model(loop.model, loop.text, loop.windows)
