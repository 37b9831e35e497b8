"""One published figure beside ours, and what their agreement is worth.

What it is worth, the status, follows from which parameters the computation of ours read, from the
sources of these parameters, and from what ``hwconfigs/published.yaml`` says of the figure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from archsim.chip.action import Law, rests_on
from archsim.config.published import all_published, published
from archsim.config.section import value_at
from archsim.hardware.load import Hardware

Status = Literal["predicted", "calibrated", "assumed", "copied", "input", "user", "unresolved"]
"""What a figure's agreement is worth.

predicted: nothing that was read was made to meet it, and something besides published parameters
was read: it can fail. calibrated: a parameter was fitted to this number, or to what it is the
arithmetic of. assumed: unpublished parameters were chosen so that it holds, or stand where the
published design has others. copied: a parameter is this number. input: arithmetic of published
parameters. user: the user's hardware has another value of something that was read. unresolved: the
published number or ours is missing, or the two cannot be set side by side; decides nothing.
"""

WORKLOAD = ("retention.model",)
"""Parameters that the calibration workload sets itself, whatever the hardware says."""


@dataclass(frozen=True)
class Computed:
    """Our value of a figure, in the unit of the published one, and what it was computed from.

    `reads` are parameters of `hardware`, `data` files of measurements or of earlier runs.
    `published` and `unit` replace the figure's own where several numbers are condensed to one.
    `unresolved` says why there is nothing to compare.
    """

    hardware: Hardware
    value: float | None
    reads: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    note: str = ""
    published: float | None = None
    unit: str | None = None
    unresolved: str = ""


@dataclass(frozen=True)
class Tolerance:
    """Relative error that passes, and why it is that much."""

    value: float
    reason: str


@dataclass(frozen=True)
class Figure:
    """One published figure and ours; `tolerance` None decides nothing.

    `figure` is its name in published.yaml, `name` what tables call it; `differs` are the parameters
    read that the published design has otherwise.
    """

    figure: str
    name: str
    unit: str
    published: float
    simulated: float | None
    status: Status
    tolerance: float | None
    tolerance_reason: str
    config: str
    note: str
    reads: tuple[str, ...]
    data: tuple[str, ...]
    differs: tuple[str, ...]

    @property
    def relative_error(self) -> float | None:
        """(ours - published) / published."""
        if self.simulated is None:
            return None
        return (self.simulated - self.published) / self.published

    @property
    def passes(self) -> bool:
        """Within tolerance, or without one."""
        if self.tolerance is None:
            return True
        error = self.relative_error
        return error is not None and abs(error) <= self.tolerance


def figure(
    key: str, name: str, computed: Computed, tolerance: Tolerance, *, reference: Hardware
) -> Figure:
    """The row of a published figure; `reference` is the shipped design that it is of."""
    known, differs = published(key), differing(computed, reference)
    unresolved = computed.unresolved or known.unresolved
    status = status_of(key, computed, differs) if not unresolved else "unresolved"
    decides = status != "unresolved"
    note = "; ".join(filter(None, (unresolved, computed.note)))
    if (
        differs and not unresolved
    ):  # what is said of the published design does not hold for this one
        note = f"differs from the published design: {', '.join(differs)}"
    return Figure(
        key,
        name,
        known.unit if computed.unit is None else computed.unit,
        known.value if computed.published is None else computed.published,
        computed.value,
        status,
        tolerance.value if decides else None,
        tolerance.reason if decides else "",
        computed.hardware.name,
        note,
        computed.reads,
        computed.data,
        differs,
    )


def status_of(key: str, computed: Computed, differs: tuple[str, ...]) -> Status:
    """What the agreement of a computed value with the published figure `key` is worth."""
    sources = {name: computed.hardware.source(name) for name in computed.reads}
    if differs:
        others = {sources[name] for name in differs}
        return "user" if "user" in others else ("assumed" if "assumed" in others else "input")
    made_to_meet = all_published().met_by[key] & set(computed.reads)
    if made_to_meet:
        of = {sources[name] for name in made_to_meet}
        return next((s for s in ("calibrated", "assumed") if s in of), "copied")
    if computed.data or {"assumed", "calibrated"} & set(sources.values()):
        return "predicted"
    return "input"


def differing(computed: Computed, reference: Hardware) -> tuple[str, ...]:
    """Parameters that were read and have another value than in the published design."""
    return tuple(
        name for name in computed.reads if leaf(computed.hardware, name) != leaf(reference, name)
    )


def leaf(hardware: Hardware, dotted: str) -> Any:
    """The value of one parameter, without counting as a read."""
    return value_at(hardware.config, dotted)


def reads(hardware: Hardware, laws: Iterable[Law]) -> tuple[str, ...]:
    """Parameters that `laws` read where the workload lets no cell fade."""
    steady = hardware.changed({"retention.model": "off"})
    return tuple(name for name in rests_on(steady.config, laws) if name not in WORKLOAD)
