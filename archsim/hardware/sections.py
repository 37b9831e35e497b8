"""The sections of a hardware description, one a block of the chip (FACTS 1 to 3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from archsim.chip.accumulator import AccumulatorConfig, CounterConfig
from archsim.chip.array import ArrayConfig
from archsim.chip.cell import CellConfig
from archsim.chip.controller import ControllerConfig, StaticConfig
from archsim.chip.converter import ConverterConfig
from archsim.chip.pulse_generator import PulseGeneratorConfig
from archsim.chip.quantiser import LevelsConfig
from archsim.chip.readouts import ReadoutConfig
from archsim.chip.refresh import RefreshConfig
from archsim.chip.retention import RetentionConfig
from archsim.chip.write_path import WritePathConfig
from archsim.config.clock import Clock, too_fine, uneven_step
from archsim.config.section import Section, values_of
from archsim.config.variant_section import VariantSection
from archsim.hardware.digital import DigitalConfig


class CalibrationConfig(Section):
    """Factors fitted to published totals; everything they multiply is assumed."""

    digital_energy: Annotated[float, Field(gt=0, le=1e3)]
    periphery_area: Annotated[float, Field(gt=0, le=1e3)]


class HardwareConfig(Section):
    """A gain-cell attention accelerator."""

    description: str = ""
    window: Annotated[int, Field(ge=1, le=1 << 20)]
    cell: CellConfig
    array: ArrayConfig
    readout: ReadoutConfig = Field(default_factory=ReadoutConfig)
    retention: RetentionConfig
    refresh: RefreshConfig = Field(default_factory=RefreshConfig)
    levels: LevelsConfig
    write_path: WritePathConfig
    pulse_generator: PulseGeneratorConfig
    converter: ConverterConfig
    counter: CounterConfig
    accumulator: AccumulatorConfig
    controller: ControllerConfig
    static: StaticConfig
    calibration: CalibrationConfig
    digital: DigitalConfig

    def inactive(self) -> frozenset[str]:
        outside = {"description"}
        if not self.retention.takes_whole_token:
            outside.add("digital")  # outside what is simulated
        return frozenset(outside)

    def _times(self) -> Iterator[tuple[str, float]]:
        """Times that the schedule counts, with the keys they are written under."""
        yield "write_path.pulse", self.write_path.pulse
        if isinstance(t_max := self.pulse_generator.t_max, float):
            yield "pulse_generator.t_max", t_max
        yield "converter.t_max", self.converter.t_max
        yield "accumulator.time", self.accumulator.time
        for chosen in self.chosen():
            if (times := getattr(chosen, "times", None)) is not None:
                yield from times(self)
        yield "controller.layer_gap", self.controller.layer_gap
        yield "controller.token_gap", self.controller.token_gap

    @model_validator(mode="after")
    def _clock_law(self) -> HardwareConfig:
        """A PWM step must be a whole number of clock edges (DESIGN, clock law)."""
        controller = self.controller
        clock = Clock.of(controller.clock)
        for name, seconds in self._times():
            if too_fine(seconds):
                raise ValueError(
                    f"{name}: {seconds * 1e12:.6g} ps: times are kept to the picosecond, which "
                    "would move this one by more than 0.1 %"
                )
        if controller.heads_in_parallel is not None and controller.pipelining == "stages":
            raise ValueError("controller.heads_in_parallel needs controller.pipelining none")
        if self.cell.mid_rail >= self.cell.supply:
            raise ValueError("cell.mid_rail must lie below cell.supply")
        levels, t_max = self.levels.query, self.pulse_generator.t_max
        if t_max == "auto":
            if levels is None:
                raise ValueError("pulse_generator.t_max: auto needs levels.query to be a number")
        elif fault := uneven_step(t_max, levels, clock):
            raise ValueError(
                f"pulse_generator.t_max: {fault}; change controller.clock "
                "or levels.query, or set pulse_generator.t_max to auto"
            )
        for chosen in self.chosen():
            if (check := getattr(chosen, "check", None)) is not None:
                check(self)
        return self

    def variant_notes(self) -> Iterator[str]:
        """What the chosen variants assume that no figure shows: one line each."""
        for chosen in self.chosen():
            if (notes := getattr(chosen, "notes", None)) is not None:
                yield from notes(self)

    def chosen(self) -> Iterator[type]:
        """The classes of the variants that this hardware is built of."""
        for section in values_of(self).values():
            if isinstance(section, VariantSection):
                yield section.chosen.cls
