"""Recording a trace: run the reference model over a text and keep q, k and v of every layer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.config.voltages import VoltageRange
from archsim.errors import ConfigError, CorruptInputError, one_line
from archsim.models.gpt2 import Array, Attention, Gpt2
from archsim.models.huggingface import checkpoint_sha256, load_gpt2
from archsim.models.tokenizer import load_tokenizer
from archsim.traces.checks import check_name
from archsim.traces.manifest import Content, Dtype, Environment, ModelRecord, Shapes, printable
from archsim.traces.scalers import DEFAULT_RANGE, Scaler
from archsim.traces.text_file import read_bytes, read_utf8
from archsim.traces.trace import Trace

MAX_TEXT_BYTES = 256 << 20
MAX_TOKENS_BYTES = 64 << 20


def record(
    model_folder: str | Path,
    text: str | None = None,
    token_ids: Sequence[int] | None = None,
    length: int | None = None,
    *,
    name: str = "recording",
    skip_tokens: int = 0,
    dtype: Dtype = "float16",
    description: str = "",
    command: str | None = None,
    attention: Attention | None = None,
    scalers: Mapping[str, Scaler] | None = None,
    attention_sha256: str | None = None,
    voltages: VoltageRange = DEFAULT_RANGE,
    progress: Callable[[str, int, int], None] | None = None,
) -> Trace:
    """The trace of `length` tokens of `text` or of `token_ids`, after the first `skip_tokens`.

    Without `length` the rest of the tokens is taken. Scalers are fitted to the recorded q, k, v
    unless given, for cells of `voltages`. `attention` replaces the model's softmax attention (the
    closed loop: what the hardware would be given), and `attention_sha256` then says which
    attention that was.
    The same checkpoint and text give the same bytes on one machine and differ by at most two
    float16 steps on another, where matrix products may round differently.

    Raises ConfigError if the model cannot be read or the tokens do not fit it, CorruptInputError
    if a file is damaged, MissingExtraError if text is given without the package `tokenizers`.
    """
    if (text is None) == (token_ids is None):
        raise ConfigError("give a text or token ids, one of the two")
    if length is not None and length < 1:
        raise ConfigError(f"length {length}: must be at least 1 token")
    if skip_tokens < 0:
        raise ConfigError(f"skipped tokens {skip_tokens}: must not be negative")
    check_name(name)  # before the model runs
    # float64: what is left of machine and library after rounding to fp16 is next to nothing
    model = load_gpt2(model_folder, np.float64)
    text_sha256 = tokenizer_sha256 = None
    if text is not None:
        token_ids, text_sha256, tokenizer_sha256 = _encoded(text, model_folder)
    assert token_ids is not None
    ids = _window(token_ids, skip_tokens, length, model.config.n_positions)
    captured = capture(model, ids, attention, progress)
    arrays = {part: _stored(x, dtype, part) for part, x in captured.items()}
    stored_ids = np.asarray(ids, np.int32)
    content = Content(
        shapes=_shapes(model, len(ids)),
        dtype=dtype,
        model=_model_record(model, Path(model_folder)),
        tokenizer_sha256=tokenizer_sha256,
        text_sha256=text_sha256,
        token_ids_sha256=hashlib.sha256(stored_ids.astype("<i4").tobytes()).hexdigest(),
        skipped_tokens=skip_tokens,
        attention_sha256=attention_sha256,
    )
    return Trace.from_arrays(
        arrays["q"],
        arrays["k"],
        arrays["v"],
        "fit" if scalers is None else scalers,
        name=name,
        token_ids=stored_ids,
        description=description,
        content=content,
        environment=Environment.here(command),
        voltages=voltages,
    )


def _encoded(text: str, model_folder: str | Path) -> tuple[list[int], str, str]:
    """Token ids of a text, and the SHA-256 of the text and of the tokenizer."""
    try:
        text_sha256 = hashlib.sha256(text.encode("utf-8")).hexdigest()
    except UnicodeEncodeError:
        raise ConfigError("text: not valid Unicode (a lone surrogate)") from None
    tokenizer = load_tokenizer(model_folder)
    return tokenizer.encode(text), text_sha256, tokenizer.sha256


def _shapes(model: Gpt2, tokens: int) -> Shapes:
    config = model.config
    return Shapes(
        layers=config.n_layer,
        heads=config.n_head,
        kv_heads=config.n_head,
        tokens=tokens,
        head_dim=config.head_dim,
    )


def _model_record(model: Gpt2, folder: Path) -> ModelRecord:
    return ModelRecord(
        name=printable(folder.resolve().name),
        config=asdict(model.config),
        weights_sha256=checkpoint_sha256(folder),
    )


def capture(
    model: Gpt2,
    ids: Sequence[int],
    attention: Attention | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Array]:
    """q, k and v of every layer, each (layers, heads, tokens, head_dim), in the model's dtype.

    Raises ConfigError for ids that do not fit the model.
    """
    config = model.config
    shape = (config.n_layer, config.n_head, len(ids), config.head_dim)
    arrays = {part: np.empty(shape, model.weights.wte.dtype) for part in ("q", "k", "v")}

    def keep(layer: int, q: Array, k: Array, v: Array) -> None:
        if progress is not None:
            progress("recording layers", layer, config.n_layer)
        arrays["q"][layer], arrays["k"][layer], arrays["v"][layer] = q, k, v

    # weights may be finite and their products not: reported below, with the place
    with np.errstate(over="ignore", invalid="ignore"):
        model.forward(ids, record=keep, attention=attention)
    return dict(arrays)


def read_text(path: Path) -> str:
    """A UTF-8 text file of at most 256 MiB, exactly, but for a byte order mark at its beginning.

    Raises ConfigError if it cannot be read or is not UTF-8.
    """
    return read_utf8(path, MAX_TEXT_BYTES)


def read_texts(paths: Iterable[Path]) -> list[str]:
    """Text files, and all .txt of folders in the order of their names.

    Raises ConfigError for a folder without any, and as `read_text` does.
    """
    return [read_text(path) for path in text_files(paths)]


def text_files(paths: Iterable[Path]) -> list[Path]:
    """The files themselves, and all .txt of folders. Raises ConfigError for a folder without."""
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.txt")) if path.is_dir() else [path]
        if not found:
            raise ConfigError(f"{path}: no .txt file in this folder")
        files += found
    return files


def read_token_ids(path: Path) -> list[int]:
    """A JSON list of token ids, at most 64 MiB. Raises ConfigError for anything else."""
    return _checked_ids(_json_list(path), f"{path}: entry")


def read_token_documents(path: Path) -> list[list[int]]:
    """Documents of token ids: a JSON list of ids is one, a list of such lists several.

    Raises ConfigError for anything else, and for more than 64 MiB.
    """
    found = _json_list(path)
    if not found or not isinstance(found[0], list):
        return [_checked_ids(found, f"{path}: entry")]
    documents = []
    for place, ids in enumerate(found):
        if not isinstance(ids, list):
            raise ConfigError(f"{path}: document {place} is no list of token ids")
        documents.append(_checked_ids(ids, f"{path}: document {place}, entry"))
    return documents


def _json_list(path: Path) -> list[Any]:
    raw = read_bytes(path, MAX_TOKENS_BYTES)
    try:
        ids = json.loads(raw)
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}: not JSON; write token ids as [15496, 11, 995]") from None
    if not isinstance(ids, list):
        raise ConfigError(f"{path}: not a JSON list; write token ids as [15496, 11, 995]")
    return ids


def _checked_ids(ids: list[Any], where: str) -> list[int]:
    for place, value in enumerate(ids):
        if type(value) is not int or not 0 <= value < 1 << 31:
            shown = one_line(repr(value), 60)
            raise ConfigError(f"{where} {place} is {shown}, not a token id (0, 1, 2, ...)")
    return ids


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text that are not empty. Raises ConfigError if there is none."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    found = [line for line in lines if line]
    if not found:
        raise ConfigError(f"{path}: no line with text")
    return found


def _window(ids: Sequence[int], skip: int, length: int | None, positions: int) -> list[int]:
    """The ids to run, checked against what there is and what the model holds."""
    available = len(ids) - skip
    if available < 1:
        raise ConfigError(f"no token left: {len(ids)} tokens, {skip} skipped")
    wanted = available if length is None else length
    if wanted > available:
        raise ConfigError(
            f"length {wanted}: only {available} tokens there ({len(ids)}, {skip} skipped)"
        )
    if wanted > positions:
        raise ConfigError(f"length {wanted}: the model has {positions} positions")
    return list(ids[skip : skip + wanted])


def _stored(x: Array, dtype: Dtype, part: str) -> NDArray[Any]:
    """`x` in the trace's dtype; a value too large for it is an error, never an infinity."""
    if not np.isfinite(x).all():
        layer = int(np.argwhere(~np.isfinite(x))[0][0])
        raise CorruptInputError(f"the model's {part} of layer {layer} is not finite")
    largest = float(np.abs(x).max())
    if largest > float(np.finfo(dtype).max):
        hint = "; use float32" if dtype == "float16" else ""
        raise ConfigError(f"{part} reaches {largest:.3g}, too large for {dtype}{hint}")
    return x.astype(dtype)
