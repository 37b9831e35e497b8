"""The calibration workload, and the few coefficients fitted on it (FACTS 3).

The paper gives one energy for each of four groups of blocks, at an operating point it does not
describe. Assumed here: a full window, Q uniform in [0, 1], K and V uniform over the cells' range (0
to 0.9 V in the published design) before quantising, no decay, averaged over 256 query tokens. One
coefficient a group is fitted so that the table holds there; everything else is a prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from archsim.chip.action import Action
from archsim.chip.converter import CONVERT_OUTPUT
from archsim.chip.head import Head
from archsim.chip.readouts.charge_to_pulse import CONVERT_SCORE
from archsim.chip.write_path import CONVERT_KEYS, CONVERT_VALUES
from archsim.config.published import published
from archsim.hardware.calibration_workload import HEADS, LAYERS, calibration_trace
from archsim.hardware.load import Hardware
from archsim.simulation import Simulation, simulate_trace
from archsim.timing.analysis import slowest_ns
from archsim.units import NANOSECOND, PICOJOULE, SQUARE_MILLIMETRE

PUBLISHED_BUCKETS = {
    "qk": "energy_scores",
    "sv": "energy_outputs",
    "digital": "energy_digital",
    "dac": "energy_dacs",
}
"""The published energy per token and head of each bucket, by its name in published.yaml."""


@dataclass(frozen=True)
class Fit:
    """One fitted coefficient: its config path, the value that meets the target, and its share."""

    parameter: str
    unit: str
    current: float
    fitted: float
    target: str


@dataclass(frozen=True)
class Calibration:
    """The run on the calibration workload, reduced to its full-window tokens."""

    simulation: Simulation
    first: int

    def energy_pj(self, *actions: Action) -> float:
        """pJ per token and head of some actions, full-window tokens only."""
        found = [p.energy[self.first :] for p in self.simulation.ledger if p.action in actions]
        return PICOJOULE.of(float(sum(energy.mean() for energy in found)))

    def buckets_pj(self) -> dict[str, float]:
        """pJ per token and head in the four published totals."""
        sums = dict.fromkeys(PUBLISHED_BUCKETS, 0.0)
        for posting in self.simulation.ledger:
            if posting.action.bucket in sums:
                sums[posting.action.bucket] += self.energy_pj(posting.action)
        return sums

    def gaps_ns(self, layers: int = LAYERS) -> float:
        """ns that a token of so many layers spends outside them: `controller.*_gap`."""
        declaration = self.simulation.declaration
        between = (layers - 1) * declaration.layer_gap + declaration.token_gap
        return between * declaration.clock.ns

    def static_seconds(self, layers: int = LAYERS) -> float:
        """How long a head leaks per token of so many layers, on one of which it works.

        While the token passes them one after another, and between them.
        """
        return NANOSECOND.si(layers * self.attention_ns + self.gaps_ns(layers))

    def static_pj(self, layers: int = LAYERS) -> float:
        """pJ that a head leaks per token of so many layers, and is refreshed with meanwhile."""
        return PICOJOULE.of(self.simulation.head.standing_power * self.static_seconds(layers))

    def total_pj(self, layers: int = LAYERS) -> float:
        """pJ per token and head, static power included."""
        return sum(self.buckets_pj().values()) + self.static_pj(layers)

    def area_mm2(self) -> float:
        """Area of one head."""
        blocks = self.simulation.head.footprints(self.simulation.trace.heads)
        return SQUARE_MILLIMETRE.of(sum(block.area for block in blocks))

    @property
    def attention_ns(self) -> float:
        """Latency of the layer in ns, from ready to latched, of the slowest full-window token."""
        return slowest_ns(self.simulation.declaration, self.simulation.schedule, self.first)

    def fits(self) -> list[Fit]:
        """The coefficients that would meet the published totals, from this run.

        A residual that is not positive means the other parameters cannot be right. A coefficient
        that costs this hardware nothing (another readout, say) has none.
        """
        head, config = self.simulation.head, self.simulation.hardware.config
        buckets = self.buckets_pj()
        totals = {bucket: published(name).value for bucket, name in PUBLISHED_BUCKETS.items()}
        head_mm2 = published("head_area").value
        area, cells = self.area_mm2(), SQUARE_MILLIMETRE.of(head.cells.area)
        scale = config.calibration

        def residual(
            section: str, joules: float, bucket: str, what: str, *actions: Action
        ) -> Iterator[Fit]:
            own, current = self.energy_pj(*actions), PICOJOULE.of(joules)
            if own:
                fitted = current * (totals[bucket] - (buckets[bucket] - own)) / own
                name, total = f"{section}.energy_per_conversion", f"{totals[bucket]:.0f} pJ"
                yield Fit(name, PICOJOULE.text, current, fitted, f"{total} of {what}")

        score, output = config.converter.score, config.converter.output
        qk, sv, dac = (s.energy_per_conversion for s in (score, output, config.write_path))
        return [
            *residual("converter.score", qk, "qk", "Q.K", CONVERT_SCORE),
            *residual("converter.output", sv, "sv", "phi(S).V", CONVERT_OUTPUT),
            *residual("write_path", dac, "dac", "DACs", CONVERT_KEYS, CONVERT_VALUES),
            Fit(
                "calibration.digital_energy",
                "",
                scale.digital_energy,
                scale.digital_energy * totals["digital"] / buckets["digital"],
                f"{totals['digital']:.0f} pJ of digital control and routing",
            ),
            Fit(
                "calibration.periphery_area",
                "",
                scale.periphery_area,
                scale.periphery_area * (head_mm2 - cells) / (area - cells),
                f"{head_mm2} mm^2 of a head",
            ),
        ]


def representative_heads(hardware: Hardware, fewest: int) -> int:
    """How many heads stand for `HEADS`: `fewest` if none shares a block with another, else all."""
    steady = hardware.changed({"retention.model": "off"})
    _, resources, _ = Head(steady.config).structure(HEADS)
    return HEADS if any(resource.heads > 1 for resource in resources) else fewest


def calibrate(hardware: Hardware, heads: int = HEADS, features: int | None = None) -> Calibration:
    """Run a hardware, decay off, on its calibration workload; see `calibration_trace`.

    Raises ConfigError for a window that would take too long to fill.
    """
    steady = hardware.changed({"retention.model": "off"})
    trace = calibration_trace(steady.config, heads, features)
    return Calibration(simulate_trace(trace, steady), steady.config.window - 1)
