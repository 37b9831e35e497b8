"""``archsim claims``: the paper's sentences and what each is worth, as text and as Markdown."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from archsim.report.comparison import indented
from archsim.report.formats import note, number, percent
from archsim.validation.claims import Claim, Claims
from archsim.validation.verdicts import TOLERANCE, VERDICTS, Finding, Verdict

LABEL_WIDTH, CELL_WIDTH, SHARE_WIDTH = 19, 8, 6
COLUMNS = (
    ("", "stated"),
    ("", "archsim"),
    ("as the", "authors"),
    ("fair", "latency"),
    ("fair", "batch"),
    ("whole", "token"),
)
STYLES: dict[Verdict, str] = {
    "holds": "green",
    "holds as stated only": "yellow",
    "does not hold": "red",
    "cannot be told": "dim",
}

LEGEND = (
    "archsim: simulated; of a ratio, the modelled GPU over the simulated accelerator under the "
    "authors' protocol. as the authors: measured under that protocol (batch 64, fp32, eager; "
    "energy above idle); of accuracy, what they publish. fair latency, fair batch: batch 1, and "
    "throughput at batch 64; 16 bit, fused kernels, idle power included. whole token: what a token "
    "of GPT-2 small gains on that GPU at batch 1 if its attention moves here; of latency and "
    "energy, everything in a token here, shared out over layers and heads. assumed: share of the "
    "accelerator's figure that rests on assumptions. ~: the GPU is modelled; (+3.5 %): so far off "
    "a point that was measured, fitted: one that the model was fitted to; ±: to expect where "
    "nothing was measured. *: rests on an assumed engine or link. Accuracy: nats a token more than "
    "the same model "
    "in software."
)


def claims_text(found: Claims) -> Group:
    """The table, two lines a claim: figures, then verdict, reason and flaw."""
    heads = [
        f"{'':{LABEL_WIDTH}} "
        + " ".join(f"{top:>{CELL_WIDTH}}" for top, _ in COLUMNS)
        + f" {'as-':>{SHARE_WIDTH}}",
        f"{'Claim':<{LABEL_WIDTH}} "
        + " ".join(f"{bottom:>{CELL_WIDTH}}" for _, bottom in COLUMNS)
        + f" {'sumed':>{SHARE_WIDTH}}",
    ]
    parts: list[RenderableType] = [
        Text(f"What the paper claims, and what it is worth: {found.hardware.name}", style="bold"),
        Text(""),
        *(Text(head, style="bold") for head in heads),
    ]
    for claim in found.claims:
        share = "-" if claim.assumed is None else percent(claim.assumed)
        cells = [_stated(claim), *(_cell(claim, cell) for cell in _cells(claim))]
        parts.append(
            Text(
                f"{claim.label:<{LABEL_WIDTH}} "
                + " ".join(f"{cell:>{CELL_WIDTH}}" for cell in cells)
                + f" {share:>{SHARE_WIDTH}}"
            )
        )
        parts.append(
            indented(
                f"{claim.verdict.upper()}: {claim.reason}. Flaw: {claim.flaw or 'none known'}."
                f"{_model_words(claim.here)}",
                style=STYLES[claim.verdict],
            )
        )
    parts += [Text(""), note(LEGEND), note(rules())]
    return Group(*parts)


def _model_words(here: Finding | None) -> str:
    """How far the model is off under the authors' protocol."""
    if here is None or here.signed_error is None:
        return ""
    off = _signed(here.signed_error)
    if here.error_fitted:
        return f" Model: {off} at the measured point, to which it was fitted."
    return f" Model: {off} off the measured point."


def rules() -> str:
    """How a verdict follows from the figures, in words."""
    told = "; ".join(f"{name}: {meaning}" for name, meaning in VERDICTS.items())
    return (
        f"Verdicts, by rule: {told}. A figure counts as stated if it is worse by no more than "
        f"{100 * TOLERANCE:.0f} %, a modelled one as below only if it is with its error added."
    )


def claims_markdown(found: Claims) -> str:
    """The page ``docs/claims.md``: the table, then every claim with where its figures are from."""
    head = ("claim", "stated", "archsim", "as the authors", "fair latency", "fair batch",
            "whole token", "assumed", "verdict")  # fmt: skip
    lines = [
        "# What the paper claims, and what it is worth",
        "",
        "Written by `archsim claims --markdown docs/claims.md`; every figure is computed, for "
        f"`{found.hardware.name}`.",
        "GPUs, protocols and their flaws: [baseline.md](baseline.md). The accelerator: "
        "[model.md](model.md).",
        "",
        _line(head),
        _line(["---"] * len(head)),
    ]
    for claim in found.claims:
        share = "-" if claim.assumed is None else percent(claim.assumed)
        cells = [_cell(claim, cell, wide=True) for cell in _cells(claim)]
        lines.append(_line([claim.label, _stated(claim), *cells, share, f"**{claim.verdict}**"]))
    lines += ["", LEGEND.replace("*:", "\\*:"), "", rules(), ""]
    for claim in found.claims:
        stated = _stated(claim)
        lines += [
            f"## {claim.label}: {claim.verdict}",
            "",
            f"*{claim.what}*" + ("" if stated == "-" else f", stated as {stated}") + ". "
            f"{claim.reason[0].upper()}{claim.reason[1:]}.",
            "",
        ]
        if claim.flaw:
            lines.append(f"- flaw: {claim.flaw}")
        names = ("archsim", "as the authors", "fair latency", "fair batch", "whole token")
        lines += [
            f"- {name}: {_cell(claim, cell, wide=True)} ({cell.origin}), {cell.detail}"
            for name, cell in zip(names, _cells(claim), strict=True)
            if cell is not None
        ]
        lines.append("")
    return "\n".join(lines)


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(claim: Claim) -> tuple[Finding | None, ...]:
    return claim.here, claim.authors, claim.latency, claim.throughput, claim.token


def _error(cell: Finding) -> str:
    """How far the model is off the measured point, or may be where nobody measured it."""
    assert cell.error is not None
    if cell.signed_error is None:
        return f"±{number(100 * cell.error, 2)} %"
    return f"({_signed(cell.signed_error)}{', fitted' if cell.error_fitted else ''})"


def _signed(share: float) -> str:
    return f"{'+' if share >= 0 else '-'}{number(100 * abs(share), 2)} %"


def _stated(claim: Claim) -> str:
    if claim.stated is None:
        return "-"
    gap = "" if claim.unit == "x" else " "
    return f"{claim.stated:,g}{gap}{claim.unit}"


def _cell(claim: Claim, cell: Finding | None, wide: bool = False) -> str:
    """A figure to the width of its column; `wide` has its unit and error as well."""
    if cell is None:
        return "-"
    value = cell.value
    if claim.stated is None:
        text = f"{value:+.3f}"
    elif claim.unit == "x":
        text = f"{value:,.0f}x" if value >= 10 else f"{value:.2f}x"
    else:
        text = number(value)
    mark = "~" if cell.origin == "modelled" else ""
    mark_after = "*" if cell.origin == "assumed" else ""
    if not wide:
        if len(mark + text + mark_after) > CELL_WIDTH:
            text = f"{value:.1e}"
        return f"{mark}{text}{mark_after}"
    unit = "" if claim.unit == "x" else f" {claim.unit}"
    error = f" {_error(cell)}" if cell.error is not None else ""
    escaped = mark_after.replace("*", "\\*")
    return f"{mark}{text}{unit}{escaped}{error}"
