"""Train the reference model: byte-level BPE tokenizer, then GPT-2, with checkpoints.

``python -m archsim.models.training train CORPUS -o RUN`` resumes from ``RUN/checkpoint.pt`` if
there is one; the same seed, thread count and torch version give the same weights, interrupted or
not. ``--export DIR`` writes the Hugging Face folder (fp16 safetensors) of the last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812 (torch's own idiom)

from archsim.files import atomic_path
from archsim.models.training import batches
from archsim.models.training.card import model_card
from archsim.models.training.corpus import HELD_OUT
from archsim.models.training.model import Gpt2, Shape

SEED = 20251
PEAK_RATE, FINAL_RATE, WARM_UP = 1.5e-3, 1.0e-4, 150
END_OF_TEXT = "<|endoftext|>"


def prepare_tokens(corpus: Path, run: Path, vocabulary: int) -> None:
    """Train the tokenizer on the training documents and encode every document into `run`."""
    from tokenizers import ByteLevelBPETokenizer

    run.mkdir(parents=True, exist_ok=True)
    documents = sorted((corpus / "train").glob("*.txt"))
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train(
        [str(path) for path in documents],
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        show_progress=False,
    )
    tokenizer.save_model(str(run))
    end = tokenizer.token_to_id(END_OF_TEXT)
    stream: list[int] = []
    for path in documents:
        stream += [end, *tokenizer.encode(path.read_text(encoding="utf-8")).ids]
    np.save(run / "train.npy", np.array(stream, np.uint16))
    for path in sorted((corpus / "heldout").glob("*.txt")):
        ids = tokenizer.encode(path.read_text(encoding="utf-8")).ids
        np.save(run / f"heldout-{path.stem}.npy", np.array(ids, np.uint16))


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then cosine from `PEAK_RATE` to `FINAL_RATE`."""
    if step < WARM_UP:
        return PEAK_RATE * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(1, steps - WARM_UP)
    return FINAL_RATE + (PEAK_RATE - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))


def token_losses(model: Gpt2, ids: NDArray[np.int64]) -> torch.Tensor:
    """Cross-entropy of every target, (batch, tokens), in fp32."""
    x = torch.from_numpy(ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(x[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), x[:, 1:].flatten(), reduction="none").view(
        x.shape[0], -1
    )


@torch.no_grad()
def probe(model: Gpt2, run: Path, sequences: int = 16) -> dict[str, float]:
    """Losses on held-out text, in nats a token: prose by document, copies, recall."""
    tokens, vocabulary = model.shape.n_positions, model.shape.vocab_size
    result = {}
    texts = {name: np.load(run / f"heldout-{name}.npy") for name in sorted(HELD_OUT)}
    for name, text in texts.items():
        rng = np.random.default_rng(1)
        short = min(tokens, len(text) - 2)
        ids = np.stack([batches.prose(rng, text, short).ids for _ in range(sequences)])
        result[f"prose_{name}"] = float(token_losses(model, ids).mean())
    text = texts["persuasion"]
    for name, share in (("repeat_real", 0.0), ("repeat_random", 1.0)):
        rng = np.random.default_rng(2)
        probes = [
            batches.repeat(rng, text, tokens, vocabulary, share, length=128)
            for _ in range(sequences)
        ]
        losses = token_losses(model, np.stack([p.ids for p in probes]))
        for which in ("first", "second"):
            picked = [losses[i, getattr(p, which)] for i, p in enumerate(probes)]
            result[f"{name}_{which}"] = float(torch.cat(picked).mean())
    rng = np.random.default_rng(3)
    probes = [batches.recall(rng, text, tokens, vocabulary, pairs=32) for _ in range(sequences)]
    losses = token_losses(model, np.stack([p.ids for p in probes]))
    result["recall"] = float(torch.cat([losses[i, p.second] for i, p in enumerate(probes)]).mean())
    return result


def parameter_groups(model: Gpt2) -> list[dict[str, object]]:
    """Weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [
        {"params": matrices, "weight_decay": 0.1},
        {"params": vectors, "weight_decay": 0.0},
    ]


def train(run: Path, steps: int, stop: int, size: int, threads: int, every: int) -> None:
    """Train to step `stop` of a schedule of `steps`.

    Logs to ``RUN/log.jsonl``; writes a checkpoint each `every` steps and at the end.
    """
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    model = Gpt2(Shape())
    optimiser = torch.optim.AdamW(parameter_groups(model), lr=PEAK_RATE, betas=(0.9, 0.95))
    checkpoint, start, seconds = run / "checkpoint.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        start, seconds = state["step"], state["seconds"]
    corpus = np.load(run / "train.npy", mmap_mode="r")
    shape = model.shape
    running: dict[str, float] = {}
    _log(run, {"step": start, "schedule": steps, "threads": threads})
    for step in range(start, stop):
        began = time.monotonic()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps)
        ids, weight, kinds = batches.batch(
            SEED, step, corpus, size, shape.n_positions, shape.vocab_size
        )
        losses = token_losses(model, ids)
        weights = torch.from_numpy(weight)
        loss = (losses * weights).sum() / weights.sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        seconds += time.monotonic() - began
        for i, kind in enumerate(kinds):
            value = float((losses[i].detach() * weights[i]).sum() / weights[i].sum())
            running[kind] = 0.98 * running.get(kind, value) + 0.02 * value
        done = step + 1
        if done % 20 == 0 or done == stop:
            tokens = done * size * shape.n_positions
            losses_seen = {kind: round(value, 4) for kind, value in running.items()}
            _log(run, {"step": done, "tokens": tokens, "seconds": round(seconds, 1), **losses_seen})
        if done % every == 0 or done == stop:
            probes = {name: round(value, 4) for name, value in probe(model, run).items()}
            _log(run, {"step": done, "probe": probes})
            state = {
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": done,
                "seconds": seconds,
            }
            with atomic_path(checkpoint) as temporary:
                torch.save(state, temporary)


def _log(run: Path, row: dict[str, object]) -> None:
    print(json.dumps(row), flush=True)
    with (run / "log.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


def export(run: Path, output: Path) -> None:
    """Write the last checkpoint as a Hugging Face GPT-2 folder, weights in fp16, with its card."""
    import shutil

    from safetensors.torch import save_file

    output.mkdir(parents=True, exist_ok=True)
    state = torch.load(run / "checkpoint.pt", weights_only=True)["model"]
    tensors = {f"transformer.{name}": t.half().contiguous() for name, t in state.items()}
    with atomic_path(output / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    config = json.dumps(Shape().hugging_face_config(), indent=2) + "\n"
    (output / "config.json").write_text(config, encoding="utf-8")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(run / name, output / name)
    (output / "README.md").write_text(model_card(run), encoding="utf-8")


def main(words: list[str]) -> None:
    """``train CORPUS -o RUN [--steps N] [--export DIR]``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("-o", "--run", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--stop-at", type=int, help="stop at this step of the --steps schedule")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpoint-every", type=int, default=200)
    parser.add_argument("--export", type=Path)
    arguments = parser.parse_args(words)
    if arguments.export:
        export(arguments.run, arguments.export)
        return
    if not (arguments.run / "train.npy").exists():
        prepare_tokens(arguments.corpus, arguments.run, Shape().vocab_size)
    train(
        arguments.run,
        arguments.steps,
        min(arguments.stop_at or arguments.steps, arguments.steps),
        arguments.batch,
        arguments.threads,
        arguments.checkpoint_every,
    )
