"""The sections of a hardware description, one a block of the chip (FACTS 1 to 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from archsim.config.clock import Clock, too_fine
from archsim.config.loading import Section
from archsim.config.quantity import Quantity, parse_quantity
from archsim.config.voltages import OptionalQuantity, SuppliedVoltage, resolve_shares
from archsim.hardware.digital import DigitalConfig

ONE_PICOSECOND, LONGEST_PHASE = 1e-12, 1e-3
Gap = Annotated[float, Quantity("s", ge=0, le=1e-2)]
Phase = Annotated[float, Quantity("s", ge=ONE_PICOSECOND, le=LONGEST_PHASE)]
Retention = Annotated[float, Quantity("s", ge=ONE_PICOSECOND, le=1e9)]
Hertz = Annotated[float, Quantity("Hz", ge=1e6, le=1e12)]
Volts = Annotated[float, Quantity("V", ge=1e-3, le=1e3)]
FollowingVolts = Annotated[float, SuppliedVoltage("V", ge=1e-3, le=1e3)]
KnownVolts = Annotated[float | None, OptionalQuantity("V", ge=1e-3, le=1e3)]
Amperes = Annotated[float, Quantity("A", ge=1e-12, le=1.0)]
Farads = Annotated[float, Quantity("F", ge=0, le=1e-6)]
Joules = Annotated[float, Quantity("J", ge=0, le=1e-3)]
SquareMetres = Annotated[float, Quantity("m^2", ge=0, le=1e-2)]
Watts = Annotated[float, Quantity("W", ge=0, le=1e3)]
Levels = Annotated[int, Field(ge=2, le=65536)] | None
Sharing = Annotated[int, Field(ge=1, le=4096)]
Arbitration = Literal["static", "fifo"]


def _seconds_or_auto(low: float, high: float, words: str) -> Callable[[object], float | str]:
    """Reads a time from `low` to `high` seconds, which `words` spell out, or ``auto``."""

    def read(value: object) -> float | str:
        if value == "auto":
            return "auto"
        if not isinstance(value, str):
            raise ValueError(f"give a time with a unit, like '15 ns', or auto (got {value!r})")
        seconds = parse_quantity(value, "s")
        if not low <= seconds <= high:
            raise ValueError(f"must be between {words}")
        return seconds

    return read


PhaseOrAuto = Annotated[
    float | Literal["auto"],
    BeforeValidator(_seconds_or_auto(ONE_PICOSECOND, LONGEST_PHASE, "1 ps and 1 ms")),
]
PeriodOrAuto = Annotated[
    float | Literal["auto"], BeforeValidator(_seconds_or_auto(0, 1e3, "0 and 1,000 s"))
]


class Polynomial(Section):
    """Cell current at `input_voltage`, in powers of the stored deviation from mid-rail."""

    constant: Annotated[float, Quantity("A", ge=-1, le=1)] = Field(description="C_0")
    linear: Annotated[float, Quantity("A/V", ge=-1, le=1)] = Field(description="C_1")
    quadratic: Annotated[float, Quantity("A/V^2", ge=-1, le=1)] = Field(description="C_2")
    cubic: Annotated[float, Quantity("A/V^3", ge=-1, le=1)] = Field(description="C_3")


class CellConfig(Section):
    """The gain cell: storage capacitor, write transistor, push-pull transconductor."""

    model: Literal["polynomial", "linear"] = "polynomial"
    polynomial: Polynomial
    linear_slope: Annotated[float, Quantity("A/V", ge=1e-12, le=1)] = Field(
        description="current per volt of the linear cell"
    )
    input_voltage: FollowingVolts = Field(description="amplitude of word-line pulses")
    supply: Volts = Field(description="stored voltages span 0 to this")
    mid_rail: FollowingVolts = Field(
        description="the stored voltage that means zero; cells decay to it"
    )
    effective_voltage: FollowingVolts = Field(description="read energy = this x |current| x pulse")
    fit_supply: KnownVolts = Field(
        default=None, description="supply at which the coefficients of this file hold"
    )
    fit_mid_rail: KnownVolts = Field(default=None, description="mid-rail at which they hold")
    fit_input_voltage: KnownVolts = Field(
        default=None, description="amplitude of word-line pulses at which they hold"
    )
    storage_capacitance: Farads
    area: SquareMetres

    def inactive(self) -> frozenset[str]:
        return frozenset({"polynomial"} if self.model == "linear" else ())

    @model_validator(mode="before")
    @classmethod
    def _follow_the_supply(cls, values: Any) -> Any:
        return resolve_shares(values)


class ArrayConfig(Section):
    """One gain-cell array: rows hold features, columns hold token slots."""

    rows: Annotated[int, Field(ge=1, le=4096)]
    columns: Annotated[int, Field(ge=1, le=4096)]
    write_during_read: bool = False


class MappingConfig(Section):
    """How vectors longer than an array has rows are put together from several arrays.

    ``charge``: bit lines joined into one converter add the partial sums up as charge; ``digital``:
    each array converts its own, they are added digitally, and the result is made a pulse again.
    """

    row_split: Literal["charge", "digital"] = "charge"
    partial_levels: Levels = Field(default=32, description="digital: of a signed partial sum")
    partial_saturation_current: Amperes = Field(
        default=80e-6,
        description="digital: summed current x pulse/T_max of one array at full scale",
    )
    add_time: Phase = Field(default=10e-9, description="digital: sign, latch, add, HardSigmoid")
    pulse_levels: Levels = Field(
        default=16, description="digital: of the pulses that drive the V arrays"
    )

    def inactive(self) -> frozenset[str]:
        used = frozenset(type(self).model_fields) - {"row_split"}
        return frozenset() if self.row_split == "digital" else used


class RetentionConfig(Section):
    """How stored deviations fade.

    ``per_token``: by a constant factor a token, as the paper trains; ``nominal``: with the time
    constant of the cell and a constant time a token; ``simulated``: with the age of each cell on
    the simulated clock; ``off``: not at all.
    """

    model: Literal["off", "per_token", "nominal", "simulated"] = "per_token"
    decay_per_token: Annotated[float, Field(ge=0, le=3)] = Field(
        description="per_token: a deviation fades by exp(-decay_per_token) a token"
    )
    tau: Retention = Field(description="nominal, simulated: fades by exp(-age / tau)")
    token_period: PeriodOrAuto = Field(
        default=0.8e-6,
        description="nominal: the age that a token adds; auto = a whole token of GPT-2 small, "
        "with what the digital section takes for the rest",
    )

    @property
    def takes_whole_token(self) -> bool:
        """Whether cells age by a whole token's time, which `archsim.retention` works out."""
        return self.model == "nominal" and self.token_period == "auto"

    def inactive(self) -> frozenset[str]:
        used = {
            "off": set[str](),
            "per_token": {"decay_per_token"},
            "nominal": {"tau", "token_period"},
            "simulated": {"tau"},
        }[self.model]
        return frozenset({"decay_per_token", "tau", "token_period"} - used)


class LevelsConfig(Section):
    """Quantiser levels; null switches a quantiser and its clamp off (an ideal converter)."""

    query: Levels
    key_value: Levels
    output: Levels


class WritePathConfig(Section):
    """DACs and write lines; one column a token."""

    pulse: Phase
    heads_per_driver: Sharing = 1
    arbitration: Arbitration = "static"
    energy_per_conversion: Joules
    area: SquareMetres = Field(description="of one DAC")

    def inactive(self) -> frozenset[str]:
        return frozenset({"arbitration"} if self.heads_per_driver == 1 else ())


class PulseGeneratorConfig(Section):
    """Query pulses on the word lines of the K arrays."""

    t_max: PhaseOrAuto = Field(description="longest pulse; auto = (levels - 1) clock periods")
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

    t_max: Phase
    buffers: Literal[1, 2] = 1
    score: ConverterStage
    output: ConverterStage


class CounterConfig(Section):
    """Counters that digitise the signed output pulses."""

    energy_per_count: Joules
    area: SquareMetres


class AccumulatorConfig(Section):
    """Sign, latch, and the adder tree over the sub-tiles."""

    time: Phase
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
    mapping: MappingConfig = Field(default_factory=MappingConfig)
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
    digital: DigitalConfig

    def inactive(self) -> frozenset[str]:
        outside = {"description"}
        if not self.retention.takes_whole_token:
            outside.add("digital")  # outside what is simulated
        return frozenset(outside)

    def splits_digitally(self, head_dim: int) -> bool:
        """Whether dot products of `head_dim` features are put together from digital partial sums.

        An array that holds them all has nothing to split, whatever `mapping.row_split` says.
        """
        return self.mapping.row_split == "digital" and head_dim > self.array.rows

    def _times(self) -> Iterator[tuple[str, float]]:
        """Times that the schedule counts, with the keys they are written under."""
        yield "write_path.pulse", self.write_path.pulse
        if isinstance(t_max := self.pulse_generator.t_max, float):
            yield "pulse_generator.t_max", t_max
        yield "converter.t_max", self.converter.t_max
        yield "accumulator.time", self.accumulator.time
        if self.mapping.row_split == "digital":
            yield "mapping.add_time", self.mapping.add_time
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
        elif fault := _uneven_step(t_max, levels, clock):
            raise ValueError(
                f"pulse_generator.t_max: {fault}; change controller.clock "
                "or levels.query, or set pulse_generator.t_max to auto"
            )
        levels, t_max = self.mapping.pulse_levels, self.converter.t_max
        if self.mapping.row_split == "digital" and (fault := _uneven_step(t_max, levels, clock)):
            raise ValueError(
                f"mapping.pulse_levels: {fault}; change it, controller.clock or converter.t_max"
            )
        return self


def _uneven_step(t_max: float, levels: int | None, clock: Clock) -> str:
    """What is wrong with the steps of pulses of so many levels; empty if they fit the clock."""
    if levels is None or clock.divides(t_max, levels - 1):
        return ""
    step = t_max / (levels - 1) * 1e9
    return (
        f"a pulse step of {step:.6g} ns ({levels} levels) is not a "
        f"whole number of clock edges of {clock.period_ns:.6g} ns"
    )
