"""``archsim validate --bounds``: the calibration workload with each assumption at its ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from archsim.bounds import assumed_ranges, energy_bounds
from archsim.calibration import Calibration, calibrate, representative_heads
from archsim.chip.action import Action, Law, rests_on
from archsim.chip.controller import STATIC, clock_period
from archsim.chip.head import WAITING, WORK
from archsim.hardware.load import Hardware
from archsim.units import PICOJOULE

FEWEST_HEADS = 2
"""Of each run for bounds, if no heads share a block: fewer than the table's own run has, so its
energy scatters by 1 %."""


@dataclass(frozen=True)
class Bound:
    """Headline results with one assumed parameter at its low and its high."""

    parameter: str
    low: str
    high: str
    attention_ns: tuple[float, float]
    energy_pj: tuple[float, float]
    area_mm2: tuple[float, float]


@dataclass(frozen=True)
class Bounds:
    """One-at-a-time sensitivity to everything assumed that has bounds in the YAML.

    `heads` of a layer were run.
    """

    attention_ns: float
    energy_pj: float
    area_mm2: float
    heads: int
    bounds: list[Bound]

    def spread(self, name: str) -> tuple[float, float]:
        """Lowest and highest value of a headline result over all rows."""
        values = [v for b in self.bounds for v in getattr(b, name)] + [getattr(self, name)]
        return min(values), max(values)

    def document(self) -> dict[str, Any]:
        """What ``--json`` adds."""
        names = ("attention_ns", "energy_pj", "area_mm2")
        return {
            "heads": self.heads,
            "nominal": {name: getattr(self, name) for name in names},
            "spread": {name: list(self.spread(name)) for name in names},
            "rows": [asdict(b) for b in self.bounds],
        }


def assumed_bounds(
    hardware: Hardware, progress: Callable[[int, int], None] | None = None
) -> Bounds:
    """The calibration workload with each bounded assumption at its low and its high.

    Fitted coefficients stay as they are: the spread is what the assumption alone is worth. What
    only says what a unit of an action costs needs no run (`archsim.bounds`); the rest is run again.
    """
    heads = representative_heads(hardware, FEWEST_HEADS)
    nominal = calibrate(hardware, heads)
    steady = nominal.simulation.hardware  # as the calibration workload runs: no cell fades
    costs = energy_bounds(steady, _units(nominal)).parameters
    elsewhere = set(rests_on(steady.config, _laws_besides_costs(nominal)))
    ranged = assumed_ranges(steady)
    rows = []
    for done, (parameter, (low, high)) in enumerate(ranged.items()):
        if progress is not None:
            progress(done, len(ranged))
        if parameter in costs and parameter not in elsewhere:
            latency, energy = (nominal.attention_ns,) * 2, costs[parameter]
            area = (nominal.area_mm2(),) * 2
        else:
            at_low, at_high = (
                calibrate(hardware.changed({parameter: end}), heads) for end in (low, high)
            )
            latency = at_low.attention_ns, at_high.attention_ns
            energy = at_low.total_pj(), at_high.total_pj()
            area = at_low.area_mm2(), at_high.area_mm2()
        rows.append(Bound(parameter, str(low), str(high), latency, energy, area))
    return Bounds(nominal.attention_ns, nominal.total_pj(), nominal.area_mm2(), heads, rows)


def _units(run: Calibration) -> dict[Action, float]:
    """How much of each action a token costs a head, static power by its seconds."""
    config = run.simulation.hardware.config
    found = {
        posting.action: PICOJOULE.si(run.energy_pj(posting.action)) / cost
        for posting in run.simulation.ledger
        if posting.action is not STATIC and (cost := posting.action.cost(config))
    }
    return {**found, STATIC: run.static_seconds()}


def _laws_besides_costs(run: Calibration) -> Iterator[Law]:
    """Everything that a headline result is computed by, but what a unit of an action costs."""
    simulation = run.simulation
    yield from (*WORK, *WAITING)
    yield from simulation.head.readout.work
    for posting in simulation.ledger:
        yield from posting.action.also
    for stage in simulation.declaration.stages:
        yield from stage.laws
    for block in simulation.head.footprints(simulation.trace.heads):
        yield from block.laws
    yield clock_period  # how many cycles a busy time has
