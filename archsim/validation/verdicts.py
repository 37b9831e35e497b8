"""How a verdict on a claim of the paper follows from figures: `VERDICTS` in code."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import Literal

from archsim.config.published import published

TOLERANCE = 0.10
"""A figure that is worse than stated by no more than this share is as stated."""

Verdict = Literal["holds", "holds as stated only", "does not hold", "cannot be told"]

VERDICTS: dict[Verdict, str] = {
    "holds": "as stated or better, under the authors' protocol and under both fair ones",
    "holds as stated only": "as stated under the authors' protocol, but below it under a fair one",
    "does not hold": "worse than stated even under the authors' protocol",
    "cannot be told": "nobody measured it, it is of another window, the model's error leaves it "
    "open, or parameters were chosen or fitted so that this very figure holds",
}

Origin = Literal["simulated", "measured", "modelled", "published", "assumed"]


@dataclass(frozen=True)
class Finding:
    """One computed figure in the unit of its claim.

    `error` is how far a modelled one may be off, as a share; `signed_error` how far it is where
    that very point was measured, and `error_fitted` whether the model was fitted to the point.
    `detail` says how the figure came about.
    """

    value: float
    origin: Origin
    detail: str = ""
    error: float | None = None
    signed_error: float | None = None
    error_fitted: bool | None = None


@dataclass(frozen=True)
class Choices:
    """Parameters behind a figure: `chosen` or fitted so that the published design meets it, and
    those of them that a hardware of the user's has at values of its `own`."""

    chosen: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


def agrees(stated: float, value: float) -> bool:
    """As stated, on both sides: much better than stated is no agreement."""
    return abs(value - stated) <= stated * TOLERANCE


def own_verdict(stated: float, here: Finding, choices: Choices, window: int) -> tuple[Verdict, str]:
    """The verdict on a figure of the accelerator itself at its `window`; less is better. And why.

    More work in a longer window excuses a worse figure, less work in a shorter one a better one.
    """
    told = f"{here.value:.4g} here, {stated:.4g} stated"
    worse = here.value > stated * (1 + TOLERANCE)
    of = round(published("window").value)
    if window != of and worse == (window > of):
        return "cannot be told", f"{told}: at window {window:,}, stated at {of:,}"
    if worse:
        return "does not hold", told
    if not agrees(stated, here.value):
        return "holds", f"better than stated: {told}"
    if choices.chosen:
        return "cannot be told", "it agrees because parameters were chosen or fitted for it"
    if choices.own:
        return "cannot be told", f"it agrees by values of this hardware: {', '.join(choices.own)}"
    return "holds", "nothing was fitted to it"


def ratio_verdict(
    stated: float, authors: Finding | None, latency: Finding | None, throughput: Finding | None
) -> tuple[Verdict, str]:
    """The verdict on a ratio, more is better, by the rules of `VERDICTS`; and why."""
    least = stated * (1 - TOLERANCE)
    if authors is None:
        return "cannot be told", "no measurement under the authors' protocol"
    if authors.value < least:
        return "does not hold", f"{authors.value:,.0f}x under the authors' protocol"
    fair = {"latency": latency, "throughput": throughput}
    for name, cell in fair.items():
        if cell is not None and cell.value * (1 + (cell.error or 0.0)) < least:
            return "holds as stated only", f"fair {name} {cell.value:,.0f}x"
    if all(c is not None and c.value * (1 - (c.error or 0.0)) >= least for c in fair.values()):
        return "holds", "under every protocol"
    return "cannot be told", "the model's error leaves it open, or a fair figure is missing"


def accuracy_verdict(
    authors: Finding, here: Finding | None, whole: Finding | None
) -> tuple[Verdict, str]:
    """The verdict on losses beyond software's: comparable is a perplexity within `TOLERANCE`."""

    def comparable(cell: Finding) -> bool:
        return exp(cell.value) <= 1 + TOLERANCE

    if here is None or whole is None:
        return "cannot be told", "the model cannot be run on this hardware"
    if not comparable(authors) or not comparable(here):
        return "does not hold", f"{here.value:+.3g} nats a token here"
    if not comparable(whole):
        return "holds as stated only", f"{whole.value:+.3g} nats if cells age by a whole token"
    return "holds", "even if cells age by a whole token"
