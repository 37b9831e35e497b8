"""Axes of a design space: a list of values, or a range, over a config key or a part of the run."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from archsim.config.quantity import Quantity, parse_quantity, split_quantity
from archsim.config.section import field_of, leaf_paths, suggestion
from archsim.config.variants import load_plugins, version
from archsim.config.voltages import SuppliedVoltage, supply_share
from archsim.errors import ConfigError, one_line
from archsim.hardware.former_keys import FORMER_KEYS
from archsim.hardware.sections import HardwareConfig
from archsim.sweeps.expression import Value

RUN_KEYS: dict[str, Any] = {
    "hardware": Annotated[str, Field(min_length=1)],
    "trace": Annotated[str, Field(min_length=1)],
    "order": Literal["generate", "prefill"],
    "prompt": Annotated[int, Field(ge=1)] | None,
    "tokens": Annotated[int, Field(ge=1)] | None,
}
"""What an axis can vary beside the config: hardware file, trace, how much of it, its order."""

WORKLOAD_KEYS = tuple(key for key in RUN_KEYS if key != "hardware")
"""Those of them that change what is run: designs compare on one workload, or over all of them."""

DIGITS = 6
"""Significant digits of a value between the ends of a range."""

MAX_VALUES = 100_000


def workload_of(parameters: Mapping[str, Value]) -> dict[str, Value]:
    """The part of a point that says what is run, not on what."""
    return {key: value for key, value in parameters.items() if key in WORKLOAD_KEYS}


def known_keys() -> list[str]:
    """Every key that an axis can vary and an expression can read."""
    return _known_keys(version())


@functools.lru_cache(maxsize=8)
def _known_keys(variants: int) -> list[str]:
    return [*RUN_KEYS, *(key for key in leaf_paths(HardwareConfig) if key != "description")]


@functools.lru_cache(maxsize=1024)
def _adapter(key: str, variants: int) -> TypeAdapter[Any]:
    strict = ConfigDict(strict=True, allow_inf_nan=False)
    if key in RUN_KEYS:
        return TypeAdapter(RUN_KEYS[key], config=strict)
    info = field_of(HardwareConfig, key)
    kind: Any = Annotated[info.annotation, info]
    return TypeAdapter(kind, config=strict)


def check_key(key: str) -> None:
    """Raises ConfigError for a key that nothing has, with the nearest known one."""
    if key not in known_keys() and key not in FORMER_KEYS:
        load_plugins()
    if key not in known_keys() and key not in FORMER_KEYS:
        raise ConfigError(f"unknown axis {key!r}{suggestion(key, known_keys())}")


def si_value(key: str, value: object) -> Value:
    """A value of a key as the config holds it: SI units, enumerations as text.

    A share of the supply stays text. Raises ConfigError for what the key can never be; what depends
    on other keys is not checked.
    """
    if supply_share(value) is not None and _may_follow(key):
        return str(value)
    try:
        checked: Value = _adapter(key, version()).validate_python(value)
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        shown = "" if repr(value) in message else f" (got {one_line(value, 40)!r})"
        raise ConfigError(f"{key}: {one_line(message, 160)}{shown}") from None
    return checked


def _may_follow(key: str) -> bool:
    """Whether a key may be a share of the supply."""
    return key not in RUN_KEYS and any(
        isinstance(part, SuppliedVoltage) for part in field_of(HardwareConfig, key).metadata
    )


def config_value(key: str, value: Value) -> Value:
    """What to write into a config so that `key` gets a value in SI units."""
    if isinstance(value, float) and math.isfinite(value):
        unit = unit_of(key)
        if unit is not None:
            return f"{value:.12g} {unit}"
        if value.is_integer() and not _accepts(key, value):
            return int(value)
    return value


def unit_of(key: str) -> str | None:
    """The SI unit of a config key; None for a plain number or a word."""
    if key in RUN_KEYS:
        return None
    info = field_of(HardwareConfig, key)
    for part in info.metadata:
        if isinstance(part, Quantity):
            return part.unit
    kinds = get_args(info.annotation)
    return "s" if float in kinds and Literal["auto"] in kinds else None


def _accepts(key: str, value: object) -> bool:
    try:
        si_value(key, value)
    except ConfigError:
        return False
    return True


@dataclass(frozen=True)
class Axis:
    """One direction of the design space.

    Either `values`, as written in a config, or a continuous range `low` to `high` in `unit`, whole
    numbers only where `integer`, evenly spaced in their logarithm where `log`.
    """

    key: str
    values: tuple[Value, ...] | None = None
    low: float = 0.0
    high: float = 0.0
    unit: str = ""
    log: bool = False
    integer: bool = False
    former: str = field(default="", compare=False)
    """The key as it was written, where that was the name of the version before."""

    def at(self, share: float) -> Value:
        """The value at `share` (0 to 1) of the way; lists are cut into equal parts."""
        if self.values is not None:
            return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
        if self.integer and not self.log:
            count = int(self.high) - int(self.low) + 1
            return int(self.low) + min(int(share * count), count - 1)
        return _written(self, _between(self.low, self.high, share, self.log))

    @property
    def levels(self) -> tuple[Value, ...]:
        """All values, for a grid; raises ConfigError if a range does not say how many."""
        if self.values is None:
            raise ConfigError(
                f"axis {self.key}: a grid needs 'points: N' or 'step: ...' in a range; "
                "or use method random, sobol or search"
            )
        return self.values


def _between(low: float, high: float, share: float, log: bool) -> float:
    if log:
        return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    return low + share * (high - low)


def _written(axis: Axis, number: float) -> Value:
    if axis.integer:
        return round(number)
    if axis.unit:
        return f"{number:.{DIGITS}g} {axis.unit}"
    return float(f"{number:.{DIGITS}g}")


def list_axis(key: str, values: object) -> Axis:
    """An axis over listed values; raises ConfigError if there are none, or one is repeated."""
    check_key(key)
    former, key, values = _current(key, values)
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(f"axis {key}: an empty axis; list the values it takes")
    if len(values) > MAX_VALUES:
        raise ConfigError(f"axis {key}: more than {MAX_VALUES:,} values; use a range")
    seen: list[Value] = []
    for value in values:
        checked = si_value(key, value)
        if any(type(checked) is type(other) and checked == other for other in seen):
            raise ConfigError(f"axis {key}: {value!r} is listed twice")
        seen.append(checked)
    return Axis(key, tuple(values), former=former)


def _current(key: str, values: object) -> tuple[str, str, object]:
    """The former name, if it was that, the key and its values as they are called now."""
    new = FORMER_KEYS.get(key)
    if new is None:
        return "", key, values
    if isinstance(values, list | tuple):
        values = [new.value(each) for each in values]
    return key, new.key, values


def range_axis(
    key: str,
    low: object,
    high: object,
    points: object = None,
    step: object = None,
    scale: object = "linear",
) -> Axis:
    """An axis from `low` to `high`, both included where the spacing allows.

    With `points` or `step` a list of values, without a continuous range. Raises ConfigError for
    ends that do not fit the key or each other.
    """
    check_key(key)
    former, key, _ = _current(key, None)
    if scale not in {"linear", "log"}:
        raise ConfigError(f"axis {key}: scale {one_line(scale, 40)!r}: use linear or log")
    log = scale == "log"
    for end in (low, high):
        si_value(key, end)
    (first, unit), (last, other) = _number(key, low), _number(key, high)
    if unit != other:
        last *= parse_quantity(f"1 {other}", _base(key)) / parse_quantity(f"1 {unit}", _base(key))
    if last <= first:
        raise ConfigError(f"axis {key}: from {low} to {high} does not go up")
    if log and first <= 0:
        raise ConfigError(f"axis {key}: a log range starts above 0")
    integer = not unit and not _accepts(key, math.floor(first) + 0.5)
    axis = Axis(key, None, first, last, unit, log, integer, former)
    if points is None and step is None:
        return axis
    if points is not None and step is not None:
        raise ConfigError(f"axis {key}: give points or step, not both")
    if points is not None:
        if isinstance(points, bool) or not isinstance(points, int) or points < 2:
            raise ConfigError(f"axis {key}: points: a whole number, 2 or more (got {points!r})")
        _check_count(key, points)
        numbers = [_between(first, last, i / (points - 1), log) for i in range(points)]
    else:
        if log:
            raise ConfigError(f"axis {key}: step is for linear ranges; a log range takes points")
        width, width_unit = _number(key, step)
        if width_unit != unit and width_unit:
            try:
                width *= parse_quantity(f"1 {width_unit}", _base(key))
            except ValueError as error:
                raise ConfigError(f"axis {key}: step {one_line(step, 40)}: {error}") from None
            width /= parse_quantity(f"1 {unit}", _base(key))
        if not 0 < width < math.inf:
            raise ConfigError(f"axis {key}: step must be above 0")
        count = (last - first) / width
        _check_count(key, count)
        numbers = [first + width * i for i in range(int(count + 1e-9) + 1)]
    values = tuple(dict.fromkeys(_written(axis, number) for number in numbers))
    return Axis(key, values, first, last, unit, log, integer, former)


def _check_count(key: str, count: float) -> None:
    if count > MAX_VALUES:
        raise ConfigError(f"axis {key}: more than {MAX_VALUES:,} values")


def _base(key: str) -> str:
    unit = unit_of(key)
    assert unit is not None  # only a key with a unit has ends with units
    return unit


def _number(key: str, value: object) -> tuple[float, str]:
    """A number and its unit as written ('' for a plain number)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value), ""
    if isinstance(value, str) and unit_of(key) is not None:
        try:
            return split_quantity(value)
        except ValueError:
            pass
    raise ConfigError(f"axis {key}: a range goes between numbers (got {one_line(value, 40)!r})")


_RANGE_KEYS = {"from", "to", "points", "step", "scale"}


def axis_from_file(key: str, given: object) -> Axis:
    """An axis of a sweep file: a list, one value, or ``{from, to, points | step, scale}``.

    Raises ConfigError for anything else.
    """
    check_key(key)
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - _RANGE_KEYS)
        if unknown:
            raise ConfigError(
                f"axis {key}: unknown key {unknown[0]!r}{suggestion(unknown[0], [*_RANGE_KEYS])}"
            )
        if "from" not in given or "to" not in given:
            raise ConfigError(f"axis {key}: a range needs both from and to")
        return range_axis(
            key,
            given["from"],
            given["to"],
            given.get("points"),
            given.get("step"),
            given.get("scale", "linear"),
        )
    if given is None:
        raise ConfigError(f"axis {key}: an empty axis; list the values it takes")
    return list_axis(key, given if isinstance(given, list) else [given])


_TEXT_RANGE = re.compile(r"(?P<low>[^:]+?)\.\.(?P<high>[^:]+)(?::(?P<points>\d+))?(?P<log>:log)?")


def axis_from_text(text: str) -> Axis:
    """``KEY=A,B,C`` or ``KEY=LOW..HIGH:N`` or ``KEY=LOW..HIGH:N:log`` of the quick form.

    Raises ConfigError for anything else.
    """
    from archsim.config.loading import parse_assignment

    key, separator, raw = text.partition("=")
    key, raw = key.strip(), raw.strip()
    if not separator or not key:
        raise ConfigError(f"--vary {one_line(text, 60)!r}: write key=32,64,128 or key=1GHz..2GHz:4")
    check_key(key)
    if not raw:
        raise ConfigError(f"--vary {key}: an empty axis; list the values it takes")

    def value(part: str) -> Any:
        return parse_assignment(f"{key}={part.strip()}")[1]

    found = _TEXT_RANGE.fullmatch(raw)
    if found is not None:
        points = int(found["points"]) if found["points"] else None
        scale = "log" if found["log"] else "linear"
        return range_axis(key, value(found["low"]), value(found["high"]), points, None, scale)
    return list_axis(key, [value(part) for part in raw.split(",") if part.strip()])
