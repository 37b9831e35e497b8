"""The calibration workload, and the few coefficients fitted on it (FACTS 3).

The paper gives one energy for each of four groups of blocks, at an operating point it does not
describe. Assumed here: a full window, Q uniform in [0, 1], K and V uniform in [0, 0.9] V before
quantising, no decay, averaged over 256 query tokens. One coefficient a group is fitted so that the
table holds there; everything else is a prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archsim.components.action import Action
from archsim.components.converter import CONVERT_OUTPUT, CONVERT_SCORE
from archsim.components.head import Head
from archsim.components.write_path import CONVERT_KEYS, CONVERT_VALUES
from archsim.config.hardware import Hardware
from archsim.config.published import published
from archsim.errors import ConfigError
from archsim.simulation import Simulation, simulate_trace
from archsim.timing.analysis import layer_latency
from archsim.timing.model import structure
from archsim.workload.trace import Trace

MAX_WINDOW = 16_384
LAYERS, HEADS, QUERIES, SEED = 12, 12, 256, 2025
"""GPT-2 small's layers and heads (FACTS 1); one layer is simulated."""

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
        return float(sum(energy.mean() for energy in found) * 1e12)

    def buckets_pj(self) -> dict[str, float]:
        """pJ per token and head in the four published totals."""
        sums = dict.fromkeys(PUBLISHED_BUCKETS, 0.0)
        for posting in self.simulation.ledger:
            if posting.action.bucket in sums:
                sums[posting.action.bucket] += self.energy_pj(posting.action)
        return sums

    @property
    def static_seconds(self) -> float:
        """How long a head leaks per token: while it works, and while the other layers do.

        A token passes `LAYERS` layers one after another; what else it needs takes no time here.
        """
        return LAYERS * self.attention_ns * 1e-9

    def static_pj(self) -> float:
        """pJ that a head leaks per token."""
        return self.simulation.head.controller.static_power * self.static_seconds * 1e12

    def total_pj(self) -> float:
        """pJ per token and head, static power included."""
        return sum(self.buckets_pj().values()) + self.static_pj()

    def area_mm2(self) -> float:
        """Area of one head."""
        blocks = self.simulation.head.footprints(self.simulation.trace.heads)
        return sum(block.area for block in blocks) * 1e6

    @property
    def attention_ns(self) -> float:
        """Latency of the layer in ns, from ready to latched, of the slowest full-window token."""
        took = layer_latency(self.simulation.schedule)
        return float(took[self.first :].max() * 1e-3)

    def fits(self) -> list[Fit]:
        """The coefficients that would meet the published totals, from this run.

        A residual that is not positive means the other parameters cannot be right.
        """
        head, config = self.simulation.head, self.simulation.hardware.config
        buckets = self.buckets_pj()
        totals = {bucket: published(name).value for bucket, name in PUBLISHED_BUCKETS.items()}
        head_mm2 = published("head_area").value

        def residual(bucket: str, current: float, *actions: Action) -> float:
            own = self.energy_pj(*actions)
            return current * (totals[bucket] - (buckets[bucket] - own)) / own

        score, output = config.converter.score, config.converter.output
        area, cells = self.area_mm2(), head.sub_tiles.footprint().area * 1e6
        scale = config.calibration
        pico = 1e12
        dac = config.write_path.energy_per_conversion * pico
        return [
            Fit(
                "converter.score.energy_per_conversion",
                "pJ",
                score.energy_per_conversion * pico,
                residual("qk", score.energy_per_conversion * pico, CONVERT_SCORE),
                f"{totals['qk']:.0f} pJ of Q.K",
            ),
            Fit(
                "converter.output.energy_per_conversion",
                "pJ",
                output.energy_per_conversion * pico,
                residual("sv", output.energy_per_conversion * pico, CONVERT_OUTPUT),
                f"{totals['sv']:.0f} pJ of phi(S).V",
            ),
            Fit(
                "write_path.energy_per_conversion",
                "pJ",
                dac,
                residual("dac", dac, CONVERT_KEYS, CONVERT_VALUES),
                f"{totals['dac']:.0f} pJ of DACs",
            ),
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


def calibration_trace(hardware: Hardware, heads: int = HEADS) -> Trace:
    """One layer of uniform values: a window to fill, then `QUERIES` tokens with it full."""
    config = hardware.config
    rng = np.random.default_rng(SEED)
    shape = (1, heads, config.window - 1 + QUERIES, config.array.rows)
    ones, zeros = np.ones((1, heads)), np.zeros((1, heads))
    identity = (ones, zeros)
    return Trace.from_arrays(
        rng.uniform(0, 1, shape),
        rng.uniform(0, config.cell.supply, shape),
        rng.uniform(0, config.cell.supply, shape),
        scalers={"q": identity, "k": identity, "v": identity, "output": identity},
        name="calibration",
    )


def representative_heads(hardware: Hardware, fewest: int) -> int:
    """How many heads stand for `HEADS`: `fewest` if none shares a block with another, else all."""
    _, resources = structure(Head(hardware.config), HEADS)
    return HEADS if any(resource.heads > 1 for resource in resources) else fewest


def calibrate(hardware: Hardware, heads: int = HEADS) -> Calibration:
    """Run a hardware, decay off, on its calibration workload.

    Raises ConfigError for a window that would take too long to fill.
    """
    if hardware.config.window > MAX_WINDOW:
        raise ConfigError(
            f"window {hardware.config.window:,}: the calibration workload fills it; "
            f"at most {MAX_WINDOW:,}"
        )
    steady = hardware.changed({"retention.model": "off"})
    trace = calibration_trace(steady, heads)
    return Calibration(simulate_trace(trace, steady), steady.config.window - 1)
