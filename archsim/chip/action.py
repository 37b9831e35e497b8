"""What a block can do that costs energy, what a block occupies, and which parameters that reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from archsim.config.section import parameters_read

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig

Bucket = Literal["qk", "sv", "digital", "dac", "static", "refresh"]
"""The four published energy totals (FACTS 3), and two lines that are shown even when zero."""

BUCKETS: tuple[Bucket, ...] = get_args(Bucket)

Discipline = Literal["static", "fifo"]
"""In which order heads that share a block are served: program order, or as they come."""

Law = Callable[["HardwareConfig"], object]
"""A formula of a block over the config. The block itself computes by it, so that the parameters it
reads, recorded when somebody asks, are those that a result rests on."""


def rests_on(config: HardwareConfig, laws: Iterable[Law]) -> tuple[str, ...]:
    """Dotted parameters that `laws` read in this config, in the order of the config."""
    return parameters_read(config, lambda: [law(config) for law in laws])


@dataclass(frozen=True)
class Action:
    """One kind of event: who does it, in which stage, to which total it counts.

    `cost` is what one unit of it costs, in J (of static power: W), to which the energy is
    proportional; `also` are other laws that its energy comes from. Together they are what a result
    can say it stands on.
    """

    component: str
    name: str
    bucket: Bucket
    stage: str
    cost: Callable[[HardwareConfig], float]
    also: tuple[Law, ...] = ()

    @property
    def laws(self) -> tuple[Law, ...]:
        """Everything that its energy is computed by."""
        return (self.cost, *self.also)

    @property
    def label(self) -> str:
        return f"{self.component}: {self.name}"


@dataclass(frozen=True)
class Footprint:
    """Area of one kind of block: instances a head x area each (m^2), which `laws` give.

    A block that heads share counts to each of them in parts, so `instances` need not be whole.
    `periphery`: it is none of the cells, and so carries the fitted factor of all periphery.
    """

    component: str
    instances: float
    area_each: float
    laws: tuple[Law, ...]
    periphery: bool = True

    @property
    def area(self) -> float:
        return self.instances * self.area_each
