"""Trace and hardware in, result out: where function, timing and the ledger meet.

The datapath computes outputs and activity; the activity sets durations and energies; the engine
turns durations into times; busy time closes the energy account. Every run checks its own books.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.books import Books, check
from archsim.chip.activity import Activity
from archsim.chip.head import Head
from archsim.chip.retention import decay_over
from archsim.chip.stage import Ticks
from archsim.chip.work import Work
from archsim.config.section import reads_recorded, unread_leaves
from archsim.config.voltages import VoltageRange
from archsim.datapath.ages import Ages, CellTimes
from archsim.datapath.attention import AttentionOutput, Precision, attend_layer
from archsim.errors import ConfigError, InvariantError
from archsim.function import Functions, run_function
from archsim.hardware.load import Hardware
from archsim.ledger import Ledger
from archsim.notes import AdaptedTo, adapted_to, run_notes
from archsim.retention import with_token_period
from archsim.timing.analysis import utilisation
from archsim.timing.declaration import Declaration, Schedule, declare
from archsim.timing.run import Detail, Engine, run
from archsim.traces.trace import Trace

Array = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""Called with the name of a step, how much of it is done, and how much there is."""


MOST_PASSES = 100
"""Far more than any design needed to settle; each costs a functional run."""


@dataclass(frozen=True)
class Simulation:
    """Everything one run found out; `archsim.result` condenses it."""

    hardware: Hardware
    trace: Trace
    head: Head
    prompt: int
    function: Functions
    precision: Precision
    function_passes: int
    declaration: Declaration
    schedule: Schedule
    why_engine: str
    utilisation: dict[str, float]
    ledger: Ledger
    unread: list[str]
    notes: list[str]
    adapted: AdaptedTo | None
    wall_s: float

    def __repr__(self) -> str:
        return f"<Simulation of {self.trace!r} on {self.hardware!r}>"

    def attended(self, layer: int, head: int, tokens: int) -> AttentionOutput:
        """What one head computed in the first `tokens` tokens, details kept.

        A run keeps how much its blocks did, not every pulse of every cell. These are they, at the
        run's own ages and precision.
        """
        part = slice(head, head + 1)
        here = VoltageRange.of(self.hardware.config.cell)
        scalers = {
            name: (a[layer, part], b[layer, part])
            for name, (a, b) in self.trace.scalers_on(here).items()
        }
        ages = None
        if (found := cell_ages(self.hardware, self.head, self.schedule)) is not None:
            of_layer = found[layer]
            ages = Ages(*(times.part(part, tokens) for times in (of_layer.keys, of_layer.values)))
        q, k, v = (x[part, :tokens] for x in self.trace.layer(layer))
        return attend_layer(
            q, k, v, self.head.laws, scalers, details=True, precision=self.precision, ages=ages
        )


def known_tokens(trace: Trace, order: str, prompt: int | None) -> int:
    """How many tokens are known from the start; raises ConfigError for what makes no sense."""
    if order not in {"generate", "prefill"}:
        raise ConfigError(f"order {order!r}: use generate or prefill")
    if prompt is not None and not 1 <= prompt <= trace.tokens:
        raise ConfigError(f"prompt {prompt}: the trace has 1 to {trace.tokens} tokens to give")
    if prompt is not None and order == "prefill":
        raise ConfigError("prompt says which tokens are prefill: leave out order prefill")
    return prompt if prompt is not None else (trace.tokens if order == "prefill" else 1)


def simulate_trace(
    trace: Trace,
    hardware: Hardware,
    *,
    order: str = "generate",
    prompt: int | None = None,
    engine: Engine = "auto",
    detail: Detail = "contested",
    precision: Precision = "float64",
    progress: Progress | None = None,
) -> Simulation:
    """Replay a trace.

    `order` "generate": a token starts when the one before has left the last layer; "prefill": all
    tokens are known. `prompt`: the first tokens are prefill, the rest generated. `engine` chooses
    how the schedule is computed, and `detail` how finely its events are cut, never what it is.
    `precision` is that of the analog products.

    Raises ConfigError if trace and hardware do not fit; InvariantError if the books do not balance.
    """
    began = time.perf_counter()
    known = known_tokens(trace, order, prompt)
    report = progress or (lambda step, done, total: None)

    with reads_recorded() as reads:
        adapted = None
        if trace.adapted_folder is not None:
            adapted = adapted_to(trace.adapted_folder, hardware, trace.head_dim)
        notes = run_notes(hardware, trace.voltages, adapted)
        aged = with_token_period(hardware)
        head = Head(aged.config, trace.head_dim)
        footprints = head.footprints(trace.heads)
        why = ""

        def timed(token: int) -> None:
            report("timing", token + 1, trace.tokens)

        def schedule_of(declaration: Declaration) -> Schedule:
            nonlocal why
            schedule, why = run(declaration, engine, detail, timed)
            return schedule

        def function_of(ages: list[Ages] | None) -> Functions:
            report("function", 0, trace.layers)
            return run_function(
                trace,
                head.laws,
                VoltageRange.of(aged.config.cell),
                precision=precision,
                ages=ages,
                progress=lambda layer: report("function", layer, trace.layers),
            )

        functions, declaration, schedule, passes = settle(
            trace, aged, head, known, schedule_of, function_of
        )
        ledger = Ledger()
        post_energy(ledger, head, functions, schedule)
    simulation = Simulation(
        hardware,
        trace,
        head,
        known,
        functions,
        precision,
        passes,
        declaration,
        schedule,
        why,
        utilisation(declaration, schedule),
        ledger,
        [*hardware.unused_overrides, *unread_parameters(hardware, aged, reads)],
        notes,
        adapted,
        time.perf_counter() - began,
    )
    books = Books(trace, hardware.config, head, declaration, schedule, ledger)
    check(books, sum(block.area for block in footprints))
    return simulation


def unread_parameters(hardware: Hardware, aged: Hardware, reads: set[tuple[int, str]]) -> list[str]:
    """Leaves of `aged`, the config that ran, which nothing read.

    Where `hardware` takes a token's time from its digital section, what was set of that one too.
    """
    unread = unread_leaves(aged.config, reads)
    if aged is not hardware:
        notes = {*unread_leaves(hardware.config, reads)}  # its voltages are read for notes
        unread = [key for key in unread if key in notes]
        digital = unread_leaves(hardware.config.digital, reads, "digital.")
        unread += [key for key in digital if key in hardware.overridden]
    return unread


def settle(
    trace: Trace,
    hardware: Hardware,
    head: Head,
    known: int,
    schedule_of: Callable[[Declaration], Schedule],
    function_of: Callable[[list[Ages] | None], Functions],
) -> tuple[Functions, Declaration, Schedule, int]:
    """Function and schedule that agree with each other, and how often the function was computed.

    With ``retention.model: simulated`` a cell's age comes from the clock, and the length of a phase
    from what cells still hold. Starting from phases of full length, function and schedule are
    computed in turn until no time changes. So it is where cells are refreshed: which token finds
    them so comes from the clock. What happens at an instant depends on what happened before it
    alone, so each pass settles at least the next one, and there is one solution.

    Raises InvariantError after `MOST_PASSES`.
    """
    simulated = hardware.config.retention.model == "simulated"
    aging = simulated or (head.refreshes and head.cell.decay_per_token > 0)
    functions: Functions = ()
    if not aging:
        functions = function_of(None)
        declaration = declare(head, [f.activity for f in functions], known)
        schedule = schedule_of(declaration)
        return functions, declaration.as_run(schedule), schedule, 1
    full = [Activity.busiest(trace.heads, trace.tokens)] * trace.layers
    schedule = schedule_of(declare(head, full, known))
    for passes in range(1, MOST_PASSES + 1):
        functions = function_of(cell_ages(hardware, head, schedule))
        declaration = declare(head, [f.activity for f in functions], known)
        before, schedule = schedule, schedule_of(declaration)
        if schedule.same_times(before):
            return functions, declaration.as_run(schedule), schedule, passes
    raise InvariantError(f"retention: times and function did not settle in {MOST_PASSES} passes")


def cell_ages(hardware: Hardware, head: Head, schedule: Schedule) -> list[Ages] | None:
    """When the cells of each layer are written, refreshed and read; None: counted in tokens alone.

    In ticks where ages come with the times (``retention.model: simulated``), else in tokens.
    """
    simulated = hardware.config.retention.model == "simulated"
    restored = None
    if simulated or head.cell.decay_per_token > 0:
        restored = head.refresh.restored(schedule.times)
    if not simulated and restored is None:
        return None
    tokens, layers, heads = schedule.entered.shape

    def of_layer(moments: Ticks, layer: int) -> Array:
        return np.ascontiguousarray(moments[:, layer].T, np.float64)

    ages = []
    for layer in range(layers):
        last = None if restored is None else of_layer(restored, layer)
        if simulated:
            rate = decay_over(hardware.config, head.controller.clock.seconds)
            times = [
                CellTimes(of_layer(read, layer), of_layer(written, layer), rate, last)
                for read, written in (
                    arrays.ages(schedule.times) for arrays in (head.key_arrays, head.value_arrays)
                )
            ]
            ages.append(Ages(*times))
        else:
            assert last is not None
            counted = np.broadcast_to(np.arange(tokens, dtype=np.float64), (heads, tokens))
            anew = np.diff(last, prepend=0.0) > 0  # the token that finds cells just refreshed
            since = np.maximum.accumulate(np.where(anew, counted, 0.0), axis=1)
            both = CellTimes(counted, counted, head.cell.decay_per_token, since)
            ages.append(Ages(both, both))
    return ages


def post_energy(ledger: Ledger, head: Head, functions: Functions, schedule: Schedule) -> None:
    """Every block's actions, from the activity and the busy time (FACTS 3)."""

    def by_layer(name: str) -> Array:  # (tokens, layers, heads)
        return np.stack([getattr(f.activity, name) for f in functions]).transpose(2, 0, 1)

    tiles, gated = head.sub_tiles, head.controller.gate_unwritten
    columns = by_layer("written_columns")
    everything = np.ones(columns.shape)
    work = Work(
        by_layer,
        tiles.features,
        columns,
        columns if gated else everything * tiles.slots,
        by_layer("written_sub_tiles") if gated else everything * tiles.count,
        busy_time(schedule),
        schedule.makespan,
        schedule.times,
    )
    for block in head.by_total:
        for action, energy, operations in block.spend(work):
            ledger.post(action, energy, float(operations.sum()))


def holding(schedule: Schedule) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ticks from when to when a head holds a token; an instant belongs to its earliest token."""
    start, end = schedule.entered, schedule.latched
    before = np.zeros_like(end)
    before[1:] = end[:-1]  # heads latch their tokens in order
    return np.maximum(start, before), end


def busy_time(schedule: Schedule) -> NDArray[np.int64]:
    """Ticks in which a head held a token, each instant charged to the earliest token it held."""
    start, end = holding(schedule)
    return end - start
