"""``archsim adapt``: the stages of the initialization algorithm, and the folder they end in."""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from archsim.accuracy.closed_loop import check_retention, closed_loop
from archsim.accuracy.variants import CELLS, with_cell
from archsim.adaptation.corpus import encode_corpus
from archsim.adaptation.stages import (
    TITLES,
    TRAINING,
    AdaptationPlan,
    Progress,
    StageRunner,
    State,
    fingerprint,
)
from archsim.chip.head import Head
from archsim.errors import ConfigError, MissingExtraError
from archsim.files import check_writable, write_text
from archsim.hardware.load import Hardware
from archsim.hardware.show import show_config
from archsim.models.adapted import (
    CURVES_FILE,
    HARDWARE_FILE,
    SCALERS_FILE,
    STAGES_FOLDER,
    AdaptationManifest,
    StageRecord,
    file_record,
    is_adapted,
    write_adaptation,
    write_scalers,
    write_weights,
)
from archsim.models.gpt2 import Gpt2Config
from archsim.models.huggingface import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    checkpoint_sha256,
    disassemble,
    load_gpt2,
    read_config,
)
from archsim.models.record import record
from archsim.models.texts import Words
from archsim.models.tokenizer import load_tokenizer, tokenizer_files
from archsim.models.training.batches import SHORTEST_WINDOW
from archsim.retention import with_token_period
from archsim.traces.checks import check_name
from archsim.traces.folder import ADAPTATION_FILE, ADAPTED_TRACE
from archsim.traces.manifest import Environment, FileRecord, printable
from archsim.traces.trace import save_trace


def adapt_model(
    folder: Path,
    hardware: Hardware,
    texts: Words,
    output: Path,
    plan: AdaptationPlan,
    *,
    documents: bool = False,
    length: int | None = None,
    trace_text: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Bring the GPT-2 of `folder` onto `hardware`, learning from `texts`; returns `output`.

    `texts`: texts or token ids, one stream; with `documents` each stands alone in a window of its
    own. `length`: tokens a window at most (default: all positions of the model).
    The start of `trace_text` (default: of the first text) becomes the trace in the folder. If
    `output` stands beside `folder`, the software model is not copied into it.
    Run again after an interruption, it goes on from the checkpoints in `output` to the same result.
    Raises ConfigError for what does not fit or an `output` that is in use, CorruptInputError for
    damaged files, MissingExtraError where a stage trains and torch is missing; all of them before
    the first long step.
    """
    report = progress or (lambda step, done, total: None)
    _check_output(folder, output, force)
    _check_plan(plan)
    if is_adapted(folder):
        raise ConfigError(f"{folder}: is adapted already; start from the model it was made from")
    config = read_config(folder)
    shortest = 2 if documents or not set(plan.stages) & set(TRAINING) else SHORTEST_WINDOW
    positions = _check_length(length, config.n_positions, shortest)
    _check_fit(folder, hardware, config, plan, positions)
    recipes = {n: replace(r, tokens=min(r.tokens, positions)) for n, r in plan.recipes.items()}
    plan = replace(plan, recipes=recipes)
    report("reading text", 0, 0)
    corpus = encode_corpus(folder, texts, config.vocab_size, positions, documents)
    traced = corpus.opening[: plan.trace_tokens]
    if trace_text is not None:
        traced = load_tokenizer(folder).encode(trace_text)[: plan.trace_tokens]
    if not traced:
        raise ConfigError("trace text: is empty")
    calibration = corpus.calibration(positions, plan.calibration_windows, plan.seed)
    base = load_gpt2(folder)
    ids, text_sha256 = corpus.ids, corpus.sha256
    base_sha256 = checkpoint_sha256(folder)
    drawn: list[object] = [plan.seed] if plan.seed else []
    drawn += [] if length is None else ["length", positions]
    history = fingerprint(
        base_sha256, hardware.sha256, text_sha256, plan.dtype, plan.trained, *drawn
    )
    state = State(base, {}, history)
    _make(output / "checkpoints")
    run = StageRunner(
        hardware, plan, ids, calibration, base, output / "checkpoints", report, history
    )
    for name in plan.stages:
        began = time.monotonic()
        before = len(state.stages)
        run.seconds_before = 0.0
        getattr(run, name)(state)
        spent = run.seconds_before + time.monotonic() - began
        minutes = None if math.isnan(spent) else round(spent / 60, 2)
        for place in range(before, len(state.stages)):
            entry, model, scalers = state.stages[place]
            state.stages[place] = (entry.model_copy(update={"minutes": minutes}), model, scalers)
    report("writing", 0, 0)
    _write(folder, hardware, output, plan, state, base_sha256, text_sha256)
    _write_trace(output, traced, own_text=trace_text is not None)
    shutil.rmtree(output / "checkpoints")
    return output


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made ({error.strerror})") from None


def _need_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "training needs torch: pip install 'archsim[train]'; stages basis and direct do not"
        ) from None


def set_threads(threads: int) -> None:
    """How many threads training uses; the result depends on it in the last digits.

    Raises ConfigError for fewer than 1, MissingExtraError without torch.
    """
    if threads < 1:
        raise ConfigError(f"threads {threads}: must be at least 1")
    _need_torch()
    import torch

    torch.set_num_threads(threads)


def _check_output(folder: Path, output: Path, force: bool) -> None:
    """Everything about `output` that could be refused at the end."""
    if (output / ADAPTATION_FILE).exists() and not force:
        raise ConfigError(f"{output}: holds an adapted model already; use --force to replace it")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output}: is not a folder")
    if output.resolve() == folder.resolve():
        raise ConfigError(f"{output}: the result needs a folder of its own")
    check_name(printable(output.resolve().name))  # it names the trace in the folder
    check_writable(output / ADAPTATION_FILE)


def _check_plan(plan: AdaptationPlan) -> None:
    if not plan.reaches_hardware:
        raise ConfigError("no stage puts the model on the hardware: add direct, transfer or linear")
    training = [name for name in plan.stages if name in TRAINING]
    if not training:
        return
    _need_torch()
    import torch

    muon = any(plan.recipes[name].optimiser == "muon" for name in training)
    if muon and not hasattr(torch.optim, "Muon"):
        raise MissingExtraError(
            f"torch {torch.__version__} has no Muon: pip install 'archsim[train]', or --optimiser "
            "adamw"
        )


def _check_length(length: int | None, positions: int, shortest: int) -> int:
    if length is not None and not shortest <= length <= positions:
        raise ConfigError(f"length {length}: takes {shortest} to {positions} tokens here")
    return positions if length is None else length


def _check_fit(
    folder: Path, hardware: Hardware, config: Gpt2Config, plan: AdaptationPlan, tokens: int
) -> None:
    """That model and hardware fit each other in all stages of the plan."""
    check_retention(hardware.config)
    for cell in CELLS:
        Head(with_cell(hardware, cell).config, config.head_dim)
    if set(plan.stages) & set(TRAINING):
        from archsim.adaptation.attention import check_trainable
        from archsim.adaptation.model import torch_shape

        check_trainable(with_token_period(hardware).config, tokens, config.head_dim)
        torch_shape(config, folder)


def _write(
    folder: Path,
    hardware: Hardware,
    output: Path,
    plan: AdaptationPlan,
    state: State,
    base_sha256: str,
    text_sha256: str,
) -> None:
    """Everything but the trace; the manifest last."""
    (output / ADAPTATION_FILE).unlink(missing_ok=True)
    files: dict[str, FileRecord] = {}

    def listed(name: str) -> None:
        files[name] = file_record(output / name)

    final = disassemble(state.model)
    write_weights(output / WEIGHTS_FILE, state.model, plan.dtype)
    listed(WEIGHTS_FILE)
    write_scalers(output / SCALERS_FILE, state.scalers)
    listed(SCALERS_FILE)
    for path in [folder / CONFIG_FILE, *tokenizer_files(folder)]:
        shutil.copyfile(path, output / path.name)
        listed(path.name)
    software = StageRecord(name="software", title=TITLES["software"], attention="software")
    beside = folder.resolve().parent == output.resolve().parent
    base = None if beside else load_gpt2(folder)
    records = []
    written: dict[int, str | None] = {id(state.model): None}
    for entry, model, scalers in [(software, base, None), *state.stages]:
        place = f"{STAGES_FOLDER}/{entry.name}"
        if model is not None and id(model) not in written:
            name = f"{place}/{WEIGHTS_FILE}"
            there = write_weights(output / name, model, plan.dtype, apart_from=final)
            written[id(model)] = name if there else None
            if there:
                listed(name)
        update: dict[str, Any] = {"weights": None if model is None else written[id(model)]}
        if scalers:
            update["scalers"] = f"{place}/{SCALERS_FILE}"
            write_scalers(output / update["scalers"], scalers)
            listed(update["scalers"])
        records.append(entry.model_copy(update=update))
    write_text(output / CURVES_FILE, json.dumps(state.curves, indent=1) + "\n")
    listed(CURVES_FILE)
    write_text(output / HARDWARE_FILE, show_config(hardware))
    listed(HARDWARE_FILE)
    write_adaptation(
        output,
        AdaptationManifest(
            base_name=printable(folder.resolve().name),
            base_sha256=base_sha256,
            base_beside=beside,
            hardware=hardware.name,
            hardware_sha256=hardware.sha256,
            text_sha256=text_sha256,
            stages=tuple(records),
            files=files,
            environment=Environment.here(),
        ),
    )


def _write_trace(output: Path, ids: list[int], own_text: bool) -> None:
    """A trace of the adapted model in closed loop, for ``simulate -t``."""
    whose = "a text of its own" if own_text else "the text it was adapted on"
    trace = record(
        output,
        token_ids=ids[: read_config(output).n_positions],
        name=printable(output.resolve().name),
        **closed_loop(output),
        description=f"the start of {whose}, in closed loop",
    )
    save_trace(trace, output / ADAPTED_TRACE, force=True)
