"""GPT-2 checkpoints in Hugging Face's folder layout: ``config.json`` and safetensors.

Only safetensors are read: ``pytorch_model.bin`` is a pickle, which can run code.

Other writers' checkpoints are read too: names that wrappers put parts into (``_orig_mod.`` of
torch.compile, ``module.`` of data-parallel training), projections stored (outputs, inputs) as
`torch.nn.Linear` does (nanoGPT), and models without biases, whose biases are exactly 0.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
from numpy.typing import DTypeLike

from archsim.errors import ConfigError, CorruptInputError, one_line
from archsim.files import sha256_of_file
from archsim.models.gpt2 import (
    Array,
    Block,
    Gpt2,
    Gpt2Config,
    Gpt2Weights,
    LayerNorm,
    Projection,
)
from archsim.traces.tensor_file import Limits, StoredTensor, TensorFile, open_tensors
from archsim.traces.text_file import read_json_object

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
INDEX_FILE, PICKLE_FILE = "model.safetensors.index.json", "pytorch_model.bin"

LIMITS = Limits(header_bytes=16 << 20, tensors=100_000, data_bytes=64 << 30)
MAX_JSON_BYTES = 16 << 20

# causal masks that old checkpoints store as buffers
_BUFFER = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
_WEIGHT_DTYPES = ("F16", "BF16", "F32", "F64")

_NORMS = ("ln_1", "ln_2", "ln_f")

_WRAPPERS = {"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What torch.compile, data-parallel training and checkpointing put into names, anywhere."""

_PROJECTION = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")


def load_gpt2(folder: str | Path, dtype: DTypeLike = np.float32) -> Gpt2:
    """The GPT-2 of a local folder, its weights converted to `dtype`.

    Raises ConfigError if a file is missing or is not GPT-2 as its config says, CorruptInputError
    if a file is damaged or a weight is not finite.
    """
    folder = Path(folder)
    config = read_config(folder)
    stored = _Checkpoint(folder, _weight_files(folder))
    expected = _expected_shapes(config)
    absent = stored.check(expected, tied=config.tie_word_embeddings)
    weights = {
        name: np.zeros(shape, dtype) if name in absent else stored.read(name, dtype)
        for name, shape in expected.items()
    }
    wte = weights["wte.weight"]
    lm_head = wte
    if "lm_head.weight" in stored.places:
        lm_head = stored.read("lm_head.weight", dtype)
        if config.tie_word_embeddings:
            if not np.array_equal(lm_head, wte):
                raise ConfigError(
                    f"{folder}: lm_head.weight differs from wte.weight but tie_word_embeddings is "
                    f"true; set it to false in {CONFIG_FILE} if they are separate"
                )
            lm_head = wte
    weights["lm_head.weight"] = lm_head
    return assemble(config, weights)


def assemble(config: Gpt2Config, tensors: Mapping[str, Array]) -> Gpt2:
    """The model of parameters under Hugging Face's names; without lm_head.weight it is tied."""
    wte = tensors["wte.weight"]
    return Gpt2(
        config,
        Gpt2Weights(
            wte=wte,
            wpe=tensors["wpe.weight"],
            blocks=[_block(tensors, f"h.{layer}") for layer in range(config.n_layer)],
            ln_f=LayerNorm(tensors["ln_f.weight"], tensors["ln_f.bias"]),
            lm_head=tensors.get("lm_head.weight", wte),
        ),
    )


def disassemble(model: Gpt2) -> dict[str, Array]:
    """The parameters under Hugging Face's names without prefix; the inverse of `assemble`."""
    weights = model.weights
    tensors = {"wte.weight": weights.wte, "wpe.weight": weights.wpe}
    for layer, block in enumerate(weights.blocks):
        for name, part in (
            ("ln_1", block.ln_1),
            ("attn.c_attn", block.c_attn),
            ("attn.c_proj", block.attn_c_proj),
            ("ln_2", block.ln_2),
            ("mlp.c_fc", block.c_fc),
            ("mlp.c_proj", block.mlp_c_proj),
        ):
            tensors[f"h.{layer}.{name}.weight"] = part.weight
            tensors[f"h.{layer}.{name}.bias"] = part.bias
    tensors |= {"ln_f.weight": weights.ln_f.weight, "ln_f.bias": weights.ln_f.bias}
    if weights.lm_head is not weights.wte:
        tensors["lm_head.weight"] = weights.lm_head
    return tensors


def read_config(folder: Path) -> Gpt2Config:
    """The model's ``config.json``.

    Raises ConfigError if it is missing, of another model type, or does not describe a GPT-2 that
    the forward pass implements.
    """
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; --model takes a Hugging Face GPT-2 folder")
    data = read_json_object(path, MAX_JSON_BYTES)
    if data.get("model_type") != "gpt2":
        raise ConfigError(
            f"{path}: model_type {one_line(repr(data.get('model_type')), 60)} is not 'gpt2', "
            "the only architecture that is read"
        )
    if data.get("add_cross_attention", False):
        raise ConfigError(f"{path}: add_cross_attention is not supported")
    hints = get_type_hints(Gpt2Config)
    values: dict[str, Any] = {}
    for item in fields(Gpt2Config):
        if item.name not in data:
            if item.default is MISSING:
                raise ConfigError(f"{path}: {item.name} is missing")
            continue
        value = data[item.name]
        kinds = get_args(hints[item.name]) or (hints[item.name],)
        if float in kinds and type(value) is int:
            value = float(value)
        if type(value) not in kinds:  # not isinstance: True is no size
            shown = one_line(repr(value), 60)
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise ConfigError(f"{path}: {item.name}: {shown} is not {wanted}")
        values[item.name] = value
    try:
        return Gpt2Config(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def checkpoint_sha256(folder: str | Path) -> str:
    """SHA-256 of the weights: of the one file, or of the shards' names and hashes."""
    files = _weight_files(Path(folder))
    if len(files) == 1:
        return sha256_of_file(files[0])
    lines = "".join(f"{path.name} {sha256_of_file(path)}\n" for path in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, one or as many as the index names."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    index = folder / INDEX_FILE
    if index.is_file():
        shards = read_json_object(index, MAX_JSON_BYTES).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CorruptInputError(f"{index}: no weight_map; the index is damaged")
        names = set()
        for name in shards.values():
            # a plain file name cannot leave the folder
            if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*\.safetensors", name):
                raise CorruptInputError(
                    f"{index}: {one_line(repr(name), 80)} is not the name of a shard in this folder"
                )
            names.add(name)
        missing = sorted(name for name in names if not (folder / name).is_file())
        if missing:
            raise ConfigError(f"{folder}: shard {missing[0]} of {INDEX_FILE} is missing")
        return [folder / name for name in sorted(names)]
    if (folder / PICKLE_FILE).is_file() or (folder / f"{PICKLE_FILE}.index.json").is_file():
        raise ConfigError(
            f"{folder}: only {PICKLE_FILE}, a pickle, which can run code and is not read; convert "
            'it to safetensors: python -c "from transformers import GPT2LMHeadModel as M; '
            "M.from_pretrained('FOLDER').save_pretrained('FOLDER')\""
        )
    raise ConfigError(f"{folder}: no {WEIGHTS_FILE} in this folder")


class _Checkpoint:
    """The tensors of all files under their plain names (see `_plain`)."""

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        self.folder = folder
        self.places: dict[str, tuple[TensorFile, str]] = {}
        self.transposed = False
        """Whether projections are stored (outputs, inputs)."""
        for path in files:
            file = open_tensors(path, LIMITS)
            for stored_name in file.tensors:
                name = _plain(stored_name)
                if name in self.places:
                    before = one_line(self.places[name][1], 80)
                    raise ConfigError(
                        f"{path}: tensor {one_line(name, 80)!r} occurs twice, as {before!r} and as "
                        f"{one_line(stored_name, 80)!r}"
                    )
                if not _BUFFER.fullmatch(name):
                    self.places[name] = (file, stored_name)

    def check(self, expected: dict[str, tuple[int, ...]], tied: bool) -> set[str]:
        """Compare names, shapes and dtypes with what the config asks for.

        Returns the biases that the checkpoint does without.
        """
        absent = self._absent_biases(expected)
        expected = {**expected, "lm_head.weight": expected["wte.weight"]}
        optional = absent | ({"lm_head.weight"} if tied else set())
        missing = [name for name in expected if name not in self.places and name not in optional]
        unknown = [name for name in self.places if name not in expected]
        if missing:
            raise ConfigError(
                f"{self.folder}: tensor {missing[0]} is missing"
                + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")
                + f"; weights and {CONFIG_FILE} do not belong together"
            )
        if unknown:
            raise ConfigError(
                f"{self.folder}: tensor {one_line(unknown[0], 80)!r} does not belong to the GPT-2 "
                f"of {CONFIG_FILE}" + (f" (and {len(unknown) - 1} more)" if unknown[1:] else "")
            )
        # an output projection is square: how it is stored shows at c_attn, which never is
        first = "h.0.attn.c_attn.weight"
        self.transposed = self._stored(first).shape == expected[first][::-1]
        for name in self.places:
            self._check_tensor(name, expected[name])
        return absent

    def _absent_biases(self, expected: Iterable[str]) -> set[str]:
        """The biases of all LayerNorms, or of all projections, where the checkpoint has not one."""
        absent: set[str] = set()
        for of_norms in (True, False):
            names = {
                name
                for name in expected
                if name.endswith(".bias") and (name.split(".")[-2] in _NORMS) is of_norms
            }
            if names.isdisjoint(self.places):
                absent |= names
        return absent

    def _check_tensor(self, name: str, expected: tuple[int, ...]) -> None:
        entry, path = self._stored(name), self.places[name][0].path
        asked = expected[::-1] if self._is_transposed(name) else expected
        if entry.shape != asked:
            how = "; projections are (outputs, inputs) here, as h.0.attn.c_attn.weight is"
            raise ConfigError(
                f"{path}: {name} has shape {entry.shape}, {CONFIG_FILE} asks for {asked}"
                + (how if asked != expected else "")
            )
        if entry.dtype not in _WEIGHT_DTYPES:
            raise ConfigError(
                f"{path}: {name} has dtype {entry.dtype}; weights must be "
                f"{', '.join(_WEIGHT_DTYPES)}"
            )

    def _stored(self, name: str) -> StoredTensor:
        file, stored_name = self.places[name]
        return file.tensors[stored_name]

    def _is_transposed(self, name: str) -> bool:
        return self.transposed and _PROJECTION.fullmatch(name) is not None

    def read(self, name: str, dtype: DTypeLike) -> Array:
        """One tensor in `dtype`, checked to be finite; projections are (inputs, outputs)."""
        file, stored_name = self.places[name]
        stored = file.read(stored_name)
        if not np.isfinite(stored).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(stored))[0])
            raise CorruptInputError(
                f"{file.path}: {name}{list(place)} is {float(stored[place])}, not finite"
            )
        if self._is_transposed(name):
            stored = np.ascontiguousarray(stored.T)
        return stored.astype(dtype, copy=False)


def _plain(stored_name: str) -> str:
    """Hugging Face's name without ``transformer.``, whatever wrappers put into it."""
    parts = [part for part in stored_name.split(".") if part not in _WRAPPERS]
    return ".".join(parts[1:] if parts[:1] == ["transformer"] else parts)


def _expected_shapes(config: Gpt2Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter except the output embedding."""
    e, i = config.n_embd, config.hidden
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (config.vocab_size, e),
        "wpe.weight": (config.n_positions, e),
        "ln_f.weight": (e,),
        "ln_f.bias": (e,),
    }
    for layer in range(config.n_layer):
        for name, inputs, outputs in (
            ("attn.c_attn", e, 3 * e),
            ("attn.c_proj", e, e),
            ("mlp.c_fc", e, i),
            ("mlp.c_proj", i, e),
        ):
            shapes[f"h.{layer}.{name}.weight"] = (inputs, outputs)
            shapes[f"h.{layer}.{name}.bias"] = (outputs,)
        for name in ("ln_1", "ln_2"):
            shapes[f"h.{layer}.{name}.weight"] = (e,)
            shapes[f"h.{layer}.{name}.bias"] = (e,)
    return shapes


def _block(weights: Mapping[str, Array], prefix: str) -> Block:
    def pair(name: str) -> tuple[Array, Array]:
        return weights[f"{prefix}.{name}.weight"], weights[f"{prefix}.{name}.bias"]

    return Block(
        ln_1=LayerNorm(*pair("ln_1")),
        c_attn=Projection(*pair("attn.c_attn")),
        attn_c_proj=Projection(*pair("attn.c_proj")),
        ln_2=LayerNorm(*pair("ln_2")),
        c_fc=Projection(*pair("mlp.c_fc")),
        mlp_c_proj=Projection(*pair("mlp.c_proj")),
    )
