"""What assumed parameters are worth: a result with each at its low and its high.

Energy is linear in what one unit of an action costs, so its range needs no second run: how often an
action happens, and for how long, stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from archsim.chip.action import Action, rests_on
from archsim.config.section import inactive_leaves, with_leaf
from archsim.hardware.load import Hardware
from archsim.hardware.sections import HardwareConfig
from archsim.units import PICOJOULE


def assumed_ranges(hardware: Hardware) -> dict[str, tuple[object, object]]:
    """Assumed parameters in use that have bounds: low and high as the config says them."""
    unused = set(inactive_leaves(hardware.config))
    return {
        parameter: (found.low, found.high)
        for parameter, found in hardware.provenance.items()
        if found.source == "assumed"
        and found.low is not None
        and found.high is not None
        and parameter not in unused
    }


@dataclass(frozen=True)
class EnergyBounds:
    """Energy in pJ with assumed costs at their bounds: one at a time, and all at once.

    `parameters` are those costs, each with its range.
    """

    nominal: float
    one_at_a_time: tuple[float, float]
    all_together: tuple[float, float]
    parameters: dict[str, tuple[float, float]]

    def document(self) -> dict[str, Any]:
        """As JSON holds it, energies in pJ."""
        return {
            "nominal_pj": self.nominal,
            "one_at_a_time_pj": list(self.one_at_a_time),
            "all_together_pj": list(self.all_together),
            "parameters_pj": {name: list(ends) for name, ends in self.parameters.items()},
        }


def energy_bounds(hardware: Hardware, units: Mapping[Action, float]) -> EnergyBounds:
    """The range of an energy that is the sum of so many `units` of each action.

    Raises ConfigError for a bound that is no value of its parameter.
    """
    config = hardware.config

    def energy(variant: HardwareConfig) -> float:
        return PICOJOULE.of(sum(action.cost(variant) * count for action, count in units.items()))

    nominal = energy(config)
    read = set(rests_on(config, [action.cost for action in units]))
    low_config = high_config = config
    parameters: dict[str, tuple[float, float]] = {}
    for parameter in assumed_ranges(hardware):
        if parameter in read:
            low, high = hardware.bounds(parameter)
            parameters[parameter] = (
                energy(with_leaf(config, parameter, low)),
                energy(with_leaf(config, parameter, high)),
            )
            low_config = with_leaf(low_config, parameter, low)
            high_config = with_leaf(high_config, parameter, high)
    return EnergyBounds(
        nominal,
        _span(nominal, parameters.values()),
        _span(nominal, [(energy(low_config), energy(high_config))]),
        parameters,
    )


def _span(nominal: float, pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    values = [nominal, *(value for pair in pairs for value in pair)]
    return min(values), max(values)
