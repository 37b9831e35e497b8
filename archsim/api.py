"""The public functions; `archsim` re-exports them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike

from archsim.arguments import as_path, as_text, as_whole, kind
from archsim.arrays import real_array
from archsim.chip.laws import laws_of
from archsim.datapath.attention import AttentionOutput, Precision, attend_layer
from archsim.errors import ConfigError, one_line
from archsim.hardware.load import Hardware, as_hardware
from archsim.result import Result
from archsim.retention import with_token_period
from archsim.simulation import Progress, simulate_trace
from archsim.timing.run import Detail, Engine
from archsim.traces.scalers import GivenScalers
from archsim.traces.trace import Trace, as_trace

if TYPE_CHECKING:
    from archsim.accuracy.evaluation import Evaluation
    from archsim.accuracy.trace_loop import InLoop
    from archsim.adaptation.stages import AdaptationPlan
    from archsim.comparison.hardware import GpuComparison, Shape, WholeModelComparison
    from archsim.comparison.request import Request
    from archsim.gpu.file import Cache, GivenGpus, Protocol
    from archsim.gpu.file import Precision as GpuPrecision
    from archsim.models.texts import Words
    from archsim.report.explain import Explanation
    from archsim.sweeps.definition import Sweep
    from archsim.sweeps.driver import Report, Stop
    from archsim.sweeps.exploration import Exploration
    from archsim.sweeps.shard import Shard
    from archsim.validation.claims import Claims
    from archsim.validation.published import Validation


def attend(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    hardware: Hardware | str | Path,
    scalers: GivenScalers | None = None,
    *,
    details: bool = False,
    precision: Precision = "float64",
) -> AttentionOutput:
    """Attention of one layer as the hardware computes it (FACTS 2).

    q, k, v: (heads, tokens, head_dim), as projected, no 1/sqrt(d); `archsim.arrays.real_array` says
    what is read. `scalers`: (a, b) of shape (heads,) for any of "q", "k", "v", "output"; a x + b is
    applied before the quantisers, and to the sum over sub-tiles. What is not given has the default
    that `Trace.from_arrays` has. `.y` has the shape of q; with `details` also `.scores` (uA) and
    `.pulse_widths` (fraction of T_max), (heads, tokens, tokens), and `.codes` (heads, tokens,
    sub-tiles, head_dim). `precision` is that of the two products.

    Raises ConfigError for shapes that do not fit, values that are not finite, or an unknown
    precision.
    """
    hardware = as_hardware(hardware)
    q, k, v = (
        real_array(value, name).astype(np.float64)
        for name, value in zip("qkv", (q, k, v), strict=True)
    )
    return attend_layer(
        q,
        k,
        v,
        laws_of(
            with_token_period(hardware).config,
            q.shape[2] if q.ndim == 3 and q.shape[2] else None,
        ),
        scalers,
        details,
        precision=precision,
    )


def simulate(
    trace: Trace | str | Path,
    hardware: Hardware | str | Path,
    *,
    order: str = "generate",
    prompt: int | None = None,
    engine: Engine = "auto",
    detail: Detail = "contested",
    precision: Precision = "float64",
    progress: Progress | None = None,
) -> Result:
    """Replay a token trace on the hardware, cycle by cycle; either may be a name or a path.

    `order` is ``generate`` or ``prefill``; `prompt` makes the first tokens prefill and generates
    the rest. `engine` is ``auto``, ``simpy`` (events) or ``fast`` (a recurrence): the same times.
    `detail` ``full`` makes an event of every phase of every sub-tile: slow, and the same times.
    `precision` is that of the analog products, ``float64`` or ``float32``: the latter is faster
    with numpy alone and may move a pulse by a picosecond. Shorten a trace with
    ``trace.select(tokens=..., layers=...)``.

    Raises ConfigError if trace and hardware do not fit each other.
    """
    return Result(
        simulate_trace(
            as_trace(trace),
            as_hardware(hardware),
            order=as_text(order, "order"),
            prompt=_whole(prompt, "prompt"),
            engine=engine,
            detail=detail,
            precision=cast("Precision", as_text(precision, "precision")),
            progress=progress,
        )
    )


def explain(result: Result, token: int, layer: int = 0, head: int = 0) -> Explanation:
    """The phases of one token in one head of a run: times in ns, pulses, energies in pJ.

    What ``archsim simulate --explain TOKEN --explain-head L:H`` prints; indices from 0 within the
    run, `.document()` all of it as JSON. Raises ConfigError if the run has no such token, layer or
    head.
    """
    from archsim.report.explain import explain as explained

    place = (as_whole(token, "token"), as_whole(layer, "layer"), as_whole(head, "head"))
    return explained(_as_result(result), *place)


def in_loop(result: Result) -> InLoop | None:
    """What the hardware costs the model of a run's trace on the trace's tokens, in closed loop.

    Losses in nats a token, as ``archsim simulate`` prints them and keeps them as ``in_loop``. None
    for a trace of no adapted model, of other weights, of a part of the layers, or without token
    ids, and where cells age by the simulated clock.
    """
    from archsim.accuracy.trace_loop import trace_in_loop

    simulation = _as_result(result).simulation
    return trace_in_loop(simulation.trace, simulation.hardware)


def _as_result(given: object) -> Result:
    if not isinstance(given, Result):
        raise ConfigError(f"result: give what archsim.simulate returned, not {kind(given)}")
    return given


def compare(
    design: Result | Hardware | str | Path,
    gpus: GivenGpus,
    *,
    shape: Shape = "paper",
    protocols: Iterable[Protocol] | None = None,
    batch: int | None = None,
    window: int | None = None,
    precision: GpuPrecision | None = None,
    cache: Cache = "warm",
) -> GpuComparison:
    """Attention of an accelerator beside GPUs, of one layer and in one shape on both sides.

    `design` is what `simulate` returned, or a hardware; `gpus` are one or several, by name, path or
    object.

    `shape` ``paper`` is 12 heads x 64 at the hardware's window, on the calibration workload;
    ``trace`` that of the trace that a simulated `design` ran. Protocol ``paper`` is of the first in
    any case. `batch`, `precision` and `cache` are of the GPU; None leaves them to the protocol.
    `window` compares a full window of that size on both sides. Raises ConfigError for what no
    protocol can do, and for the shape of a trace that was not simulated.
    """
    from archsim.comparison.hardware import compare_with_gpus
    from archsim.gpu.file import as_gpus

    if not isinstance(design, Result | Hardware | str | Path):
        raise ConfigError(
            f"design: give a hardware, or a result of archsim.simulate, not {kind(design)}"
        )
    result = design if isinstance(design, Result) else None
    hardware = design.simulation.hardware if isinstance(design, Result) else as_hardware(design)
    if shape not in {"paper", "trace"}:
        raise ConfigError(f"shape {one_line(repr(shape), 60)}: paper or trace")
    if shape == "trace" and result is None:
        raise ConfigError("shape trace: give the result of a simulation, not the hardware alone")
    request = _request(protocols, batch, precision, cache)
    traced = result if shape == "trace" else None
    return compare_with_gpus(hardware, as_gpus(gpus), request, _whole(window, "window"), traced)


def compare_model(
    hardware: Hardware | str | Path,
    gpus: GivenGpus,
    *,
    protocols: Iterable[Protocol] | None = None,
    batch: int | None = None,
    window: int | None = None,
    precision: GpuPrecision | None = None,
) -> WholeModelComparison:
    """A whole token of GPT-2 small beside GPUs; the rest of it as `hardware`'s `digital` says.

    Raises ConfigError as `compare` does, and for protocol ``paper`` alone.
    """
    from archsim.comparison.hardware import compare_whole_model
    from archsim.gpu.file import as_gpus

    request = _request(protocols, batch, precision, "warm")
    window = _whole(window, "window")
    return compare_whole_model(as_hardware(hardware), as_gpus(gpus), request, window)


def _request(
    protocols: Iterable[Protocol] | None,
    batch: int | None,
    precision: GpuPrecision | None,
    cache: Cache,
) -> Request:
    from archsim.comparison.request import Request
    from archsim.gpu.protocols import protocols as known

    given: object = [p.name for p in known()] if protocols is None else protocols
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, Iterable):
        raise ConfigError(f"protocols: give a list of names, not {one_line(repr(given), 60)}")
    names = [cast("Protocol", as_text(name, "protocol")) for name in given]
    return Request(tuple(names), _whole(batch, "batch"), precision, cache)


def _whole(value: int | None, what: str) -> int | None:
    return None if value is None else as_whole(value, what)


def sweep(
    space: Sweep | str | Path,
    store: str | Path | None = None,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    shard: Shard | str | None = None,
    retry: bool = False,
    confirmed: bool = False,
    only_stored: bool = False,
    report: Report | None = None,
    stop: Stop | None = None,
) -> Exploration:
    """Run every point of a design space that `store` does not have, and return all of them.

    `space`: a Sweep, the name of a shipped one, or a YAML file. `store`: an SQLite file (default:
    reports/sweeps.db). `workers`: processes on this machine (default: one a processor). `cluster`:
    address of a Dask scheduler, or ``local`` to start one here. `shard`: only a part of the points,
    like ``1/8``. `retry`: run points again that crashed, failed or took too long. `confirmed`:
    allow more than 100,000 points. `only_stored`: run nothing. `report` is called with a tally and
    the outcomes that are new; `stop` set from it ends the sweep early.

    Raises ConfigError for a sweep that cannot be run, MissingExtraError for a method or cluster
    whose package is missing, CorruptInputError for a damaged trace or store.
    """
    from archsim.sweeps.runner import DEFAULT_STORE, explore
    from archsim.sweeps.shard import as_shard

    return explore(
        space,
        DEFAULT_STORE if store is None else as_path(store, "store"),
        workers=workers,
        cluster=cluster,
        shard=None if shard is None else as_shard(shard),
        retry=retry,
        confirmed=confirmed,
        only_stored=only_stored,
        report=report,
        stop=stop,
    )


def judge_claims(hardware: Hardware | str | Path) -> Claims:
    """What the paper claims, each with what archsim gets for `hardware` and a verdict.

    `.claims` has one entry a claim, `.document()` all of it as JSON. Raises ConfigError for a
    window that the calibration workload cannot fill.
    """
    from archsim.validation.claims import judge_claims as judged

    return judged(as_hardware(hardware))


def validate(hardware: Hardware | str | Path) -> Validation:
    """Every published figure beside ours, on the calibration workload (FACTS 3)."""
    from archsim.validation.published import validate_hardware

    return validate_hardware(as_hardware(hardware))


def evaluate(
    model: str | Path,
    hardware: Hardware | str | Path,
    text: Words,
    *,
    every_stage: bool = False,
    windows: int | None = None,
    length: int | None = None,
    probes: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """A model's losses, agreement and probes with the hardware's attention inside (closed loop).

    `model`: a GPT-2 folder, or a result of `adapt`, of which `every_stage` shows all stages. `text`
    should be unseen: a text, token ids, or a list of texts or of lists of ids. In a list each is a
    document with a window of its own, never run into another. `windows`: how many (default: all),
    of `length` tokens (default: all positions of the model); a shorter document is one window.
    `probes`: sequences of each probe (default: 4, none for documents).
    `.rows` has one entry a kind of attention, `.document()` all of it as JSON.

    Raises ConfigError if model, text and hardware do not fit, CorruptInputError for damaged files.
    """
    from archsim.accuracy.evaluate import evaluate_model
    from archsim.models.adapted import model_folder

    return evaluate_model(
        model_folder(model),
        as_hardware(hardware),
        text,
        every_stage=every_stage,
        windows=_whole(windows, "windows"),
        length=_whole(length, "length"),
        probes=(4 if isinstance(text, str) else 0) if probes is None else probes,
        progress=progress,
    )


def adapt(
    model: str | Path,
    hardware: Hardware | str | Path,
    texts: Words,
    output: str | Path,
    plan: AdaptationPlan,
    *,
    documents: bool = False,
    length: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Bring the GPT-2 of a folder onto the hardware (FACTS 5); returns the result folder.

    `texts`: a text, texts, token ids, or lists of ids to learn from: one stream; with `documents`
    each of the list stands alone. `length`: tokens a window (default: all positions of the model).

    `plan` (`archsim.AdaptationPlan`) says which stages run and how.
    Raises ConfigError, CorruptInputError, and MissingExtraError where a stage trains without torch.
    """
    from archsim.adaptation.adapt import adapt_model
    from archsim.models.adapted import model_folder

    return adapt_model(
        model_folder(model),
        as_hardware(hardware),
        texts,
        Path(output),
        plan,
        documents=documents,
        length=_whole(length, "length"),
        force=force,
        progress=progress,
    )
