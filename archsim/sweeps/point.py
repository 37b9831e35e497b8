"""One point made concrete: a key that names its content, and the run that answers it."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from archsim.chip.laws import laws_of
from archsim.config.section import leaves
from archsim.errors import ArchsimError, ConfigError, CorruptInputError, one_line
from archsim.function import function_key
from archsim.hardware.load import DEFAULT_HARDWARE, Hardware, hardware_path, load_hardware
from archsim.notes import AdaptedTo
from archsim.retention import with_token_period
from archsim.simulation import known_tokens
from archsim.sweeps.axes import WORKLOAD_KEYS, workload_of
from archsim.sweeps.code import code_sha256
from archsim.sweeps.definition import Sweep, base_hardware
from archsim.sweeps.design import Parameters, overrides
from archsim.sweeps.expression import Value
from archsim.sweeps.figures import LOSS, Figures, simulated_figures
from archsim.sweeps.loss import Loop, loop_of, measure_loss
from archsim.sweeps.parts import (
    Part,
    make_known,
    parts_of,
    parts_on,
    registered_parts,
    sources_of,
)
from archsim.traces.trace import Trace, load_trace

Status = Literal["ok", "invalid", "failed", "crashed", "timeout"]
"""`invalid`: validation refused it; `failed`: an error of ours; the others lost their worker."""

LASTING: tuple[Status, ...] = ("ok", "invalid")
"""What running again would give again."""


@functools.cache
def model_version() -> str:
    """A hash of the code that decides a result: results of other code are not reused."""
    return code_sha256("archsim.sweeps.figures")


@functools.cache
def loss_version() -> str:
    """The same of a loss."""
    return code_sha256("archsim.sweeps.loss")


def sources_sha256(hardware: Hardware) -> str:
    """Hash of where the numbers of a hardware come from, which results say beside what they are."""
    sources = {key: hardware.source(key) for key, _ in leaves(hardware.config)}
    return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()


DESIGN_DIGITS = 40
"""How many digits of a key name the design and its workload; the rest name the sources."""


def same_design(key: str, other: str) -> bool:
    """Whether two points are one design on one workload, wherever their numbers come from."""
    return key[:DESIGN_DIGITS] == other[:DESIGN_DIGITS]


@dataclass(frozen=True)
class Workload:
    """A trace by name or path, how much of it, and in which order its tokens come."""

    trace: str
    tokens: int | None = None
    layers: int | None = None
    order: str = "generate"
    prompt: int | None = None


@dataclass(frozen=True)
class Job:
    """What a worker needs to run a point; `hardware` None where validation refused it.

    `base` and `fixed` load the hardware that `changes` change; `hardware`, `sources` and `trace`
    are the hashes that it must come to. `group` is equal where the functional result is;
    `reference` says what an SQNR compares with. `loss`: key of the point's loss, where that is
    wanted; with a `loop` the job is to measure such a loss. `parts`: variants from outside.
    """

    key: str
    parameters: Parameters
    base: str
    fixed: dict[str, Value]
    changes: dict[str, Value]
    workload: Workload
    hardware: str | None
    trace: str
    group: str
    reason: str = ""
    sources: str = ""
    reference: str = ""
    loss: str = ""
    loop: Loop | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a point; `adapted`: for which hardware the model of its trace was made."""

    key: str
    status: Status
    results: Figures | None = None
    reason: str = ""
    wall_s: float = 0.0
    adapted: AdaptedTo | None = None

    def with_loss(self, loss: Outcome) -> Outcome:
        """A point's own outcome and that of its loss as one; without either it has no results."""
        if self.results is None:
            return self
        if loss.results is None:
            return replace(self, status=loss.status, results=None, reason=f"loss: {loss.reason}")
        return replace(self, results=self.results | loss.results)


@functools.lru_cache(maxsize=4)
def _whole_trace(name: str) -> Trace:
    return load_trace(name)


@functools.lru_cache(maxsize=8)
def open_trace(name: str, tokens: int | None, layers: int | None) -> Trace:
    """A trace, opened once a process; raises ConfigError if it has not so many tokens or layers."""
    trace = _whole_trace(name)
    return trace.select(tokens, None if layers is None else slice(0, layers))


@functools.lru_cache(maxsize=8)
def _base(name: str, fixed: str) -> Hardware:
    return load_hardware(name, json.loads(fixed))


def _hardware_of(name: str, fixed: Mapping[str, Any], changes: Mapping[str, Any]) -> Hardware:
    """A point's hardware; its base need not be one by itself, if the changes make it whole."""
    try:
        base = _base(name, json.dumps(fixed))
    except ConfigError:
        if not changes:
            raise
        return load_hardware(name, {**fixed, **changes})
    return base.changed(changes)


def _content_key(parts: list[object], version: str | None = None) -> str:
    parts = [*parts, model_version() if version is None else version]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Preparation:
    """Turns points of a sweep into jobs; hardware and traces are read once."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.loop = loop_of(sweep) if sweep.measures_loss else None
        self._sources = functools.cache(sources_of)  # files are read once a sweep
        _base.cache_clear()  # files may have changed since another sweep of this process
        _whole_trace.cache_clear()
        open_trace.cache_clear()

    def _hardware(self, name: str) -> Hardware:
        return base_hardware(self.sweep, name)

    def contents(self) -> list[str]:
        """Hashes of every file the sweep names.

        Raises ConfigError or CorruptInputError if one cannot be read.
        """
        sweep = self.sweep
        listed = {axis.key: axis.values or () for axis in sweep.axes}
        hardware = listed.get("hardware", (sweep.hardware,))
        traces = listed.get("trace", (sweep.trace,))
        files = [self._hardware(str(name)) for name in hardware]
        return [
            *(file.sha256 for file in files),
            *(sources_sha256(file) for file in files),
            *(_whole_trace(str(name)).sha256 for name in traces),
            *((self.loop.model_sha256, self.loop.text_sha256) if self.loop else ()),
            *sources_of(parts_on(listed.items())),
            *sources_of(part for file in files for part in parts_of(file.config)),
        ]

    def job(self, parameters: Parameters) -> Job:
        """The job of one point; a point that validation refuses has no hardware but a reason."""
        sweep = self.sweep
        name = str(parameters.get("hardware", sweep.hardware))
        return self._job(parameters, name, dict(sweep.fixed))

    def _job(self, parameters: Parameters, name: str, fixed: dict[str, Value]) -> Job:
        sweep = self.sweep
        given = {key: parameters.get(key, getattr(sweep, key)) for key in WORKLOAD_KEYS}
        workload = Workload(layers=sweep.layers, **given)
        changes = overrides(parameters)
        base = str(hardware_path(name).resolve()) if Path(name).suffix else name
        hardware: Hardware | None = None
        trace: Trace | None = None
        reason = ""
        try:
            hardware = _hardware_of(name, fixed, changes)
            aged = with_token_period(hardware)
            trace = open_trace(workload.trace, workload.tokens, workload.layers)
            known = known_tokens(trace, workload.order, workload.prompt)
            laws = laws_of(aged.config, trace.head_dim)
            reference = laws.ideal.on(trace.tokens).text
        except ConfigError as error:
            reason = one_line(str(error).removeprefix("--set "))
        if hardware is None or trace is None or reason:
            refused = ["invalid", base, fixed, changes, vars(workload), reason]
            key = _content_key([*refused, *self._sources(registered_parts())])
            return Job(key, parameters, base, fixed, changes, workload, None, "", "", reason)
        sources, parts = sources_sha256(hardware), parts_of(hardware.config)
        made_of: list[object] = [*self._sources(parts)]
        key = _content_key([aged.sha256, trace.sha256, known, *made_of])
        loop = self.loop
        loss = [] if loop is None else [*loop.key_parts(hardware), *made_of]
        return Job(
            key=key[:DESIGN_DIGITS] + _content_key([key, sources])[DESIGN_DIGITS:],
            parameters=parameters,
            base=base,
            fixed=fixed,
            changes=changes,
            workload=workload,
            hardware=hardware.sha256,
            trace=trace.sha256,
            group=function_key(trace, laws),
            sources=sources,
            loss="" if loop is None else _content_key(loss, loss_version()),
            reference=reference,
            parts=parts,
        )

    def loss_jobs(self, jobs: Sequence[Job]) -> list[Job]:
        """The losses that points need, each once."""
        needed = {job.loss: job for job in jobs if job.loss}
        return [
            replace(job, key=key, loss="", group="loss", loop=self.loop)
            for key, job in needed.items()
        ]

    def papers(self, jobs: Sequence[Job]) -> list[Job]:
        """The published design, unchanged, on every workload that points have."""
        workloads = [workload_of(job.parameters) for job in jobs] or [{}]
        distinct = {repr(sorted(each.items())): each for each in workloads}
        return [self._job(each, DEFAULT_HARDWARE, {}) for each in distinct.values()]


def run_job(job: Job) -> Outcome:
    """Run one point in this process. Never raises: an error is the outcome."""
    began = time.perf_counter()

    def outcome(
        status: Status,
        results: Figures | None = None,
        reason: str = "",
        adapted: AdaptedTo | None = None,
    ) -> Outcome:
        took = time.perf_counter() - began
        return Outcome(job.key, status, results, reason, took, adapted)

    if job.hardware is None:
        return outcome("invalid", reason=job.reason)
    try:
        make_known(job.parts)
        hardware = _hardware_of(job.base, job.fixed, job.changes)
        if job.loop is not None:
            loss = measure_loss(job.loop, hardware)
            if not math.isfinite(loss):
                return outcome("failed", reason=f"the loss is {loss}")
            return outcome("ok", {LOSS: loss})
        work = job.workload
        trace = open_trace(work.trace, work.tokens, work.layers)
        now = hardware.sha256, sources_sha256(hardware), trace.sha256
        if now != (job.hardware, job.sources, job.trace):
            raise CorruptInputError("hardware or trace file changed while the sweep ran")
        found, adapted = simulated_figures(trace, hardware, order=work.order, prompt=work.prompt)
        return outcome("ok", found, adapted=adapted)
    except ConfigError as error:
        return outcome("invalid", reason=one_line(error))
    except ArchsimError as error:
        return outcome("failed", reason=one_line(error))
    except MemoryError:
        return outcome("failed", reason="out of memory")
    except Exception as error:  # a defect of ours costs a point, not the sweep
        return outcome("failed", reason=f"{type(error).__name__}: {one_line(error)}")
