"""What a block can do that costs energy, and what a block occupies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Bucket = Literal["qk", "sv", "digital", "dac", "static", "refresh"]
"""The four published energy totals (FACTS 3), and two lines that are shown even when zero."""

BUCKETS: tuple[Bucket, ...] = get_args(Bucket)


@dataclass(frozen=True)
class Action:
    """One kind of event: who does it, in which stage, to which total it counts.

    `rests_on` names the config parameters its energy is computed from, so that a result can say
    how much of it stands on assumed numbers.
    """

    component: str
    name: str
    bucket: Bucket
    stage: str
    rests_on: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.component}: {self.name}"


@dataclass(frozen=True)
class Footprint:
    """Area of one kind of block: instances a head x area each (m^2).

    A block that heads share counts to each of them in parts, so `instances` need not be whole.
    """

    component: str
    instances: float
    area_each: float
    rests_on: tuple[str, ...]

    @property
    def area(self) -> float:
        return self.instances * self.area_each


def shared_instances(each: int, sharing: int, heads: int) -> float:
    """Instances a head of a block with `each` parts, one block for `sharing` of `heads` heads."""
    groups = -(-heads // min(sharing, heads))
    return each * groups / heads
