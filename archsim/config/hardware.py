"""The hardware description: one section a block of the chip (FACTS 1 to 3).

A `Hardware` is what `load_hardware` returns: the typed values, where each came from, and a hash.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from archsim.config.loading import (
    Document,
    Provenance,
    Section,
    apply_overrides,
    leaf_paths,
    read_document,
    validate_document,
)
from archsim.config.quantity import Quantity, parse_quantity, picoseconds
from archsim.errors import ConfigError
from archsim.files import data_folder

DEFAULT_HARDWARE = "gaincell-28nm"

Seconds = Annotated[float, Quantity("s", ge=0)]
PositiveSeconds = Annotated[float, Quantity("s", gt=0)]
Hertz = Annotated[float, Quantity("Hz", gt=0)]
Volts = Annotated[float, Quantity("V", gt=0)]
Amperes = Annotated[float, Quantity("A", gt=0)]
Farads = Annotated[float, Quantity("F", ge=0)]
Joules = Annotated[float, Quantity("J", ge=0)]
SquareMetres = Annotated[float, Quantity("m^2", ge=0)]
Watts = Annotated[float, Quantity("W", ge=0)]
Levels = Annotated[int, Field(ge=2, le=65536)] | None
Sharing = Annotated[int, Field(ge=1, le=4096)]
Arbitration = Literal["static", "fifo"]


def _seconds_or_auto(value: object) -> float | str:
    if value == "auto":
        return "auto"
    if not isinstance(value, str):
        raise ValueError(f"give a time with a unit, like '15 ns', or auto (got {value!r})")
    seconds = parse_quantity(value, "s")
    if seconds <= 0:
        raise ValueError("must be longer than 0")
    return seconds


SecondsOrAuto = Annotated[float | Literal["auto"], BeforeValidator(_seconds_or_auto)]


class Polynomial(Section):
    """Cell current at V_in = 0.9 V, in powers of the stored deviation from mid-rail."""

    constant: Annotated[float, Quantity("A")] = Field(description="C_0")
    linear: Annotated[float, Quantity("A/V")] = Field(description="C_1")
    quadratic: Annotated[float, Quantity("A/V^2")] = Field(description="C_2")
    cubic: Annotated[float, Quantity("A/V^3")] = Field(description="C_3")


class CellConfig(Section):
    """The gain cell: storage capacitor, write transistor, push-pull transconductor."""

    model: Literal["polynomial", "linear"] = "polynomial"
    polynomial: Polynomial
    linear_slope: Annotated[float, Quantity("A/V", gt=0)] = Field(
        description="current per volt of the linear cell"
    )
    input_voltage: Volts = Field(description="amplitude of word-line pulses")
    supply: Volts = Field(description="stored voltages span 0 to this")
    mid_rail: Volts = Field(description="the stored voltage that means zero; cells decay to it")
    effective_voltage: Volts = Field(description="read energy = this x |current| x pulse")
    storage_capacitance: Farads
    area: SquareMetres

    def inactive(self) -> frozenset[str]:
        return frozenset({"linear_slope"} if self.model == "polynomial" else {"polynomial"})


class ArrayConfig(Section):
    """One gain-cell array: rows hold features, columns hold token slots."""

    rows: Annotated[int, Field(ge=1, le=4096)]
    columns: Annotated[int, Field(ge=1, le=4096)]
    write_during_read: bool = False


class RetentionConfig(Section):
    """How stored deviations fade: by a constant factor a token, or not at all."""

    model: Literal["off", "per_token"] = "per_token"
    decay_per_token: Annotated[float, Field(ge=0, le=3)] = Field(
        description="lambda: a deviation fades by exp(-lambda) a token"
    )
    tau: PositiveSeconds = Field(description="time constant of the cell; not used by per_token")

    def inactive(self) -> frozenset[str]:
        return frozenset({"tau", "decay_per_token"} if self.model == "off" else {"tau"})


class LevelsConfig(Section):
    """Quantiser levels; null switches a quantiser and its clamp off (an ideal converter)."""

    query: Levels
    key_value: Levels
    output: Levels


class WritePathConfig(Section):
    """DACs and write lines; one column a token."""

    pulse: PositiveSeconds
    heads_per_driver: Sharing = 1
    arbitration: Arbitration = "static"
    energy_per_conversion: Joules
    area: SquareMetres = Field(description="of one DAC")

    def inactive(self) -> frozenset[str]:
        return frozenset({"arbitration"} if self.heads_per_driver == 1 else ())


class PulseGeneratorConfig(Section):
    """Query pulses on the word lines of the K arrays."""

    t_max: SecondsOrAuto = Field(description="longest pulse; auto = (levels - 1) clock periods")
    heads_per_generator: Sharing = 1
    arbitration: Arbitration = "static"
    energy_per_pulse: Joules
    word_line_capacitance: Farads
    area: SquareMetres = Field(description="of one word-line driver")

    def inactive(self) -> frozenset[str]:
        return frozenset({"arbitration"} if self.heads_per_generator == 1 else ())


class ConverterStage(Section):
    """One of the two kinds of charge-to-pulse converter."""

    saturation_current: Amperes = Field(description="summed current x pulse/T_max at full scale")
    energy_per_conversion: Joules
    area: SquareMetres


class ConverterConfig(Section):
    """Charge-to-pulse converters: `score` after K arrays, signed `output` after V arrays."""

    t_max: PositiveSeconds
    buffers: Literal[1, 2] = 1
    score: ConverterStage
    output: ConverterStage


class CounterConfig(Section):
    """Counters that digitise the signed output pulses."""

    energy_per_count: Joules
    area: SquareMetres


class AccumulatorConfig(Section):
    """Sign, latch, and the adder tree over the sub-tiles."""

    time: PositiveSeconds
    heads_per_adder: Sharing = 1
    arbitration: Arbitration = "static"
    energy_per_add: Joules
    area: SquareMetres = Field(description="of one adder")

    def inactive(self) -> frozenset[str]:
        return frozenset({"arbitration"} if self.heads_per_adder == 1 else ())


class ControllerConfig(Section):
    """The digital controller of a head, and time outside the accelerator."""

    clock: Hertz
    phases: Literal["worst_case", "early_end"] = "worst_case"
    pipelining: Literal["none", "stages"] = "none"
    heads_in_parallel: Sharing | None = Field(
        default=None, description="heads of a layer that may hold a token at once; null = all"
    )
    layer_gap: Seconds = Field(description="between layers, outside the accelerator")
    token_gap: Seconds = Field(description="between tokens in generate, outside the accelerator")
    gate_unwritten: bool = False
    energy_per_cycle: Joules
    clock_energy_per_cycle: Joules
    area: SquareMetres


class StaticConfig(Section):
    """Power drawn whatever happens."""

    power_per_head: Watts


class CalibrationConfig(Section):
    """Factors fitted to published totals; everything they multiply is assumed."""

    digital_energy: Annotated[float, Field(gt=0)]
    periphery_area: Annotated[float, Field(gt=0)]


class HardwareConfig(Section):
    """A gain-cell attention accelerator."""

    description: str = ""
    window: Annotated[int, Field(ge=1, le=1 << 20)]
    cell: CellConfig
    array: ArrayConfig
    retention: RetentionConfig
    levels: LevelsConfig
    write_path: WritePathConfig
    pulse_generator: PulseGeneratorConfig
    converter: ConverterConfig
    counter: CounterConfig
    accumulator: AccumulatorConfig
    controller: ControllerConfig
    static: StaticConfig
    calibration: CalibrationConfig

    def inactive(self) -> frozenset[str]:
        return frozenset({"description"})

    @model_validator(mode="after")
    def _clock_law(self) -> HardwareConfig:
        """A PWM step must be a whole number of clock edges (DESIGN, clock law)."""
        period = picoseconds(1 / self.controller.clock)
        if period < 1:
            raise ValueError("controller.clock: faster than one edge a picosecond")
        if self.cell.mid_rail >= self.cell.supply:
            raise ValueError("cell.mid_rail must lie below cell.supply")
        levels, t_max = self.levels.query, self.pulse_generator.t_max
        if t_max == "auto":
            if levels is None:
                raise ValueError("pulse_generator.t_max: auto needs levels.query to be a number")
        elif levels is not None and picoseconds(t_max) % ((levels - 1) * period):
            step = t_max / (levels - 1) * 1e9
            raise ValueError(
                f"pulse_generator.t_max: a pulse step of {step:.6g} ns ({levels} levels) is not a "
                f"whole number of clock edges of {period / 1000:.6g} ns; change controller.clock "
                "or levels.query, or set pulse_generator.t_max to auto"
            )
        return self


@dataclass(frozen=True, eq=False)
class Hardware:
    """A validated config with the source of every number."""

    name: str
    config: HardwareConfig
    provenance: Mapping[str, Provenance]
    document: Document

    def changed(self, overrides: Mapping[str, Any]) -> Hardware:
        """The same hardware with dotted keys set; raises ConfigError as `load_hardware` does."""
        return _validated(self.name, deepcopy(self.document), overrides)

    @cached_property
    def sha256(self) -> str:
        """Hash of the resolved values in SI units: the same hardware, however it was written."""
        text = json.dumps(self.config.model_dump(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def source(self, dotted: str) -> str:
        """The source of a leaf; ``user`` where none was given."""
        found = self.provenance.get(dotted)
        return found.source if found is not None else "assumed"


def available_hardware() -> list[str]:
    """Names of the shipped configs."""
    return sorted(path.stem for path in data_folder("hwconfigs").glob("*.yaml"))


def hardware_path(name_or_path: str | Path) -> Path:
    """The file of a shipped config's name or of a path.

    Raises ConfigError if there is neither.
    """
    text = str(name_or_path)
    path = Path(text)
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        if not path.is_file():
            raise ConfigError(f"{text}: no such config file")
        return path
    shipped = data_folder("hwconfigs") / f"{text}.yaml"
    if not shipped.is_file():
        known = available_hardware()
        close = difflib.get_close_matches(text, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"shipped: {', '.join(known)}"
        raise ConfigError(f"{text}: no such config; {hint}")
    return shipped


def load_hardware(
    name_or_path: str | Path = DEFAULT_HARDWARE, overrides: Mapping[str, Any] | None = None
) -> Hardware:
    """Load a shipped config by name, or a YAML file, with dotted-key `overrides` as in ``--set``.

    Raises ConfigError with file:line for anything that does not fit.
    """
    path = hardware_path(name_or_path)
    return _validated(path.stem, read_document(path), overrides or {})


def _validated(name: str, document: Document, overrides: Mapping[str, Any]) -> Hardware:
    apply_overrides(document, overrides, HardwareConfig)
    config = validate_document(document, HardwareConfig)
    known = set(leaf_paths(HardwareConfig))
    provenance = {key: value for key, value in document.provenance.items() if key in known}
    return Hardware(name, config, provenance, document)
