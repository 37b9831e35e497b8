"""The shipped checkpoint and trace belong together, and the model does use its context."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archsim.files import data_folder
from archsim.models.gpt2 import Gpt2
from archsim.models.huggingface import load_gpt2
from archsim.models.record import read_text, record
from archsim.traces.scalers import DEFAULT_RANGE, full_range, saturation
from archsim.traces.trace import Trace, load_trace, save_trace

MODEL, TRACE = data_folder("traces") / "reference-model", data_folder("traces") / "reference"


@pytest.fixture(scope="module")
def again() -> Trace:
    """The trace recorded anew from the shipped checkpoint and text."""
    return record(MODEL, text=read_text(TRACE / "text.txt"), length=1024, name="reference")


@pytest.fixture(scope="module")
def model() -> Gpt2:
    return load_gpt2(MODEL)


def test_reference_has_the_shape_the_readme_promises() -> None:
    trace = load_trace("reference")
    assert (trace.layers, trace.heads, trace.tokens, trace.head_dim) == (4, 4, 1024, 64)
    assert trace.q.dtype == np.float16


def test_recorded_again_within_two_fp16_steps(again: Trace) -> None:
    """On the machine that recorded it the bytes are the same; elsewhere nearly."""
    shipped = load_trace("reference")
    assert np.array_equal(again.token_ids, shipped.token_ids)
    for name in ("q", "k", "v"):
        old, new = getattr(shipped, name), getattr(again, name)
        step = np.spacing(np.maximum(np.abs(old), np.float16(0.01))).astype(np.float64)
        difference = np.abs(old.astype(np.float64) - new.astype(np.float64))
        assert (difference <= 2 * step).all(), name


def test_recording_twice_gives_the_same_bytes(again: Trace, tmp_path: Path) -> None:
    second = record(MODEL, text=read_text(TRACE / "text.txt"), length=1024, name="reference")
    for trace, folder in ((again, "a"), (second, "b")):
        save_trace(trace, tmp_path / folder)
    for file in ("trace.safetensors", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_scalers_keep_all_but_the_tails_in_range() -> None:
    trace = load_trace("reference")
    for name in ("q", "k", "v"):
        full = full_range(name, DEFAULT_RANGE)
        share = saturation(getattr(trace, name), trace.scalers[name], full)
        assert 0.001 < share < 0.05, name


def losses(model: Gpt2, ids: np.ndarray) -> np.ndarray:
    """Cross-entropy in nats of ids[1:], (tokens - 1,)."""
    logits = model.logits(ids[:-1]).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(ids) - 1), ids[1:]]


def test_a_repeated_segment_is_cheaper_the_second_time(model: Gpt2) -> None:
    """At least 1.5 nats a token on unseen text: the attention of this model does real work."""
    text = load_trace("reference").token_ids.astype(np.int64)
    first, second = [], []
    for start in range(0, 384, 128):
        segment, gap = text[start : start + 128], text[start + 512 : start + 640]
        loss = losses(model, np.concatenate([segment, gap, segment]))
        first.append(loss[:127].mean())
        second.append(loss[256:].mean())
    assert np.mean(first) - np.mean(second) >= 1.5


def test_it_has_learnt_english(model: Gpt2) -> None:
    """Far below guessing (8.32 nats) on a novel it never saw."""
    assert losses(model, load_trace("reference").token_ids.astype(np.int64)).mean() < 5.0
