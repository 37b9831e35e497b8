"""YAML and JSON files as other systems' editors write them: a byte order mark, CRLF."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from archsim.errors import ConfigError
from archsim.files import data_folder
from archsim.gpu.file import load_gpu
from archsim.hardware.load import load_hardware
from archsim.models.record import read_token_ids
from archsim.sweeps.sweep_file import load_sweep
from archsim.traces.trace import Trace, load_trace, save_trace


def marked(source: Path, target: Path) -> Path:
    target.write_bytes(b"\xef\xbb\xbf" + source.read_bytes().replace(b"\n", b"\r\n"))
    return target


def test_configs_gpus_and_sweeps(tmp_path: Path) -> None:
    shipped = data_folder("hwconfigs")
    hardware = marked(shipped / "gaincell-28nm.yaml", tmp_path / "gaincell-28nm.yaml")
    assert load_hardware(hardware).sha256 == load_hardware().sha256
    gpu = marked(shipped / "gpus" / "rtx-4090.yaml", tmp_path / "rtx-4090.yaml")
    shipped_gpu = load_gpu("rtx-4090").model_copy(update={"claim": None})
    assert load_gpu(gpu) == shipped_gpu  # what is published is of the shipped one
    shutil.copy(shipped / "sweeps" / "sharing.yaml", tmp_path / "plain.yaml")
    sweep = marked(tmp_path / "plain.yaml", tmp_path / "sharing.yaml")
    assert load_sweep(sweep).sha256 == load_sweep(tmp_path / "plain.yaml").sha256
    hardware.write_bytes("window: 64\n".encode("utf-16"))
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load_hardware(hardware)


def test_token_ids_and_a_trace_manifest(tmp_path: Path, small_trace: Trace) -> None:
    (tmp_path / "plain.json").write_text("[3,\n1]")
    assert read_token_ids(marked(tmp_path / "plain.json", tmp_path / "ids.json")) == [3, 1]
    save_trace(small_trace, tmp_path / "trace")
    manifest = tmp_path / "trace" / "manifest.json"
    marked(manifest, manifest)
    assert load_trace(tmp_path / "trace").sha256 == small_trace.sha256
