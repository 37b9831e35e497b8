"""The digital controller: the clock, when a phase may end, and what a busy cycle costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.chip.action import Action, Bucket, Footprint
from archsim.chip.stage import ENTRY, EXIT, WRITE_KEY, After, Declared, Hold, Resource, Wait
from archsim.chip.work import Footprints, Implied, Shapes, Spent, Work
from archsim.config.clock import Clock
from archsim.config.kinds import Gap, Hertz, Joules, Sharing, SquareMetres, Watts
from archsim.config.loading import Section

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Array = NDArray[np.float64]
Ticks = NDArray[np.int64]


class ControllerConfig(Section):
    """The digital controller of a head, and time outside the accelerator."""

    clock: Hertz
    phases: Literal["worst_case", "early_end"] = "worst_case"
    pipelining: Literal["none", "stages"] = "none"
    heads_in_parallel: Sharing | None = Field(
        default=None, description="heads of a layer that may hold a token at once; null = all"
    )
    layer_buffer: Annotated[int, Field(ge=1, le=1 << 20)] | None = Field(
        default=None, description="tokens that fit between two layers; null = any number"
    )
    layer_gap: Gap = Field(description="between layers, outside the accelerator")
    token_gap: Gap = Field(description="between tokens in generate, outside the accelerator")
    gate_unwritten: bool = False
    energy_per_cycle: Joules
    clock_energy_per_cycle: Joules
    area: SquareMetres


class StaticConfig(Section):
    """Power drawn whatever happens."""

    power_per_head: Watts


def control_energy_per_cycle(config: HardwareConfig) -> float:
    """J of the control logic in one busy cycle."""
    return config.calibration.digital_energy * config.controller.energy_per_cycle


def clock_energy_per_cycle(config: HardwareConfig) -> float:
    """J of the clock tree in one busy cycle."""
    return config.calibration.digital_energy * config.controller.clock_energy_per_cycle


def static_power(config: HardwareConfig) -> float:
    """W that a head draws whatever it does."""
    return config.static.power_per_head


def controller_area(config: HardwareConfig) -> float:
    """m^2 of a head's controller."""
    return config.controller.area


def clock_period(config: HardwareConfig) -> float:
    """s of one clock period."""
    return 1 / config.controller.clock


def ends_early(config: HardwareConfig) -> bool:
    """Whether a phase ends with its longest pulse."""
    return config.controller.phases == "early_end"


def phase_law(config: HardwareConfig) -> tuple[bool, float | None]:
    """Whether a phase ends with its longest pulse, and then on which edges (s)."""
    return (True, clock_period(config)) if ends_early(config) else (False, None)


def order(config: HardwareConfig) -> tuple[str, int | None, int | None, float, float]:
    """Pipelining, heads at once, tokens of the layer buffer; s between layers, between tokens."""
    section = config.controller
    gaps = section.layer_gap, section.token_gap
    return section.pipelining, section.heads_in_parallel, section.layer_buffer, *gaps


def gates_unwritten(config: HardwareConfig) -> bool:
    """Whether what holds no token stays silent."""
    return config.controller.gate_unwritten


CONTROL = Action("controller", "busy cycles", "digital", "head", control_energy_per_cycle)
CLOCK = Action("clock", "busy cycles", "digital", "head", clock_energy_per_cycle)
STATIC = Action("static power", "leak", "static", "head", static_power)


class Controller:
    """Clock edges, phase ends, and time spent outside the accelerator."""

    total: Bucket = "digital"

    def __init__(self, config: HardwareConfig) -> None:
        self.clock = Clock.of(config.controller.clock)
        self.early_end = ends_early(config)
        self.pipelining, self.heads_in_parallel, self.layer_buffer, *gaps = order(config)
        self.layer_gap, self.token_gap = (self.clock.ticks(gap) for gap in gaps)
        self.gate_unwritten = gates_unwritten(config)
        self._energy_per_cycle = control_energy_per_cycle(config)
        self._clock_energy_per_cycle = clock_energy_per_cycle(config)
        self._area = controller_area(config)
        self.static_power = static_power(config)

    def phase(self, longest: Array, t_max_ticks: int) -> Ticks:
        """Duration in ticks of an analog phase whose longest pulse is `longest` x T_max.

        ``worst_case``: T_max, whatever the pulses. ``early_end``: the longest pulse, rounded up to
        a clock edge; 0 if there is none.
        """
        if not self.early_end:
            return np.full(longest.shape, t_max_ticks, np.int64)
        pulse = np.rint(longest * t_max_ticks).astype(np.int64)
        period = self.clock.period
        return -(-pulse // period) * period

    def cycles(self, busy: Ticks) -> Array:
        """Clock cycles in busy ticks, counting a started one."""
        return (-(-busy // self.clock.period)).astype(np.float64)

    def control_energy(self, cycles: Array) -> Array:
        """J of the control logic in that many busy cycles."""
        return self._energy_per_cycle * cycles

    def clock_energy(self, cycles: Array) -> Array:
        """J of the clock tree in that many busy cycles."""
        return self._clock_energy_per_cycle * cycles

    def spend(self, work: Work) -> Spent:
        """Cycles while a head is busy; static power from the start of the run to its end."""
        cycles = self.cycles(work.busy)
        yield CONTROL, self.control_energy(cycles), cycles
        yield CLOCK, self.clock_energy(cycles), cycles
        run = np.full((1, *work.columns.shape[1:]), work.makespan * self.clock.seconds)
        yield STATIC, self.static_power * run, np.ones(run.shape)

    def implied(self, shapes: Shapes) -> Implied:
        """A head is busy at least as long as its slowest token would be alone; a started cycle
        counts, once a token."""
        for action in (CONTROL, CLOCK):
            yield action, shapes.least_cycles, shapes.most_cycles + shapes.visits
        yield STATIC, shapes.heads, shapes.heads

    def stages(self, heads: int) -> Declared:
        """A token's place in the head, and the buffer to the next layer."""
        if self.pipelining == "none":
            yield Resource("token in flight")
            yield Hold("token in flight", ENTRY, EXIT)
        if self.heads_in_parallel is not None and self.heads_in_parallel < heads:
            yield Resource("heads in parallel", self.heads_in_parallel, heads)
            yield Hold("heads in parallel", ENTRY, EXIT)
        if self.layer_buffer is not None:
            # the latched output goes into a buffer that the next layer empties by writing the token
            emptied = After(WRITE_KEY, "start", lag=self.layer_buffer, next_layer=True)
            yield Wait(EXIT, emptied)

    def footprints(self, heads: int) -> Footprints:
        yield Footprint("controller", 1, self._area, (controller_area,))
