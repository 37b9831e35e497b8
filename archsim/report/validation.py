"""Terminal tables of ``archsim validate``."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from archsim.hardware.calibration_workload import HEADS
from archsim.hardware.load import DEFAULT_HARDWARE
from archsim.report.formats import note, number
from archsim.units import NANOJOULE, PICOJOULE
from archsim.validation.bounds import Bounds
from archsim.validation.figures import Figure
from archsim.validation.published import Validation

_STYLES = {
    "predicted": "green", "calibrated": "cyan", "assumed": "yellow", "copied": "blue",
    "input": "blue", "user": "magenta", "unresolved": "dim",
}  # fmt: skip

MEANINGS = {
    "predicted": "nothing read was made to meet it",
    "calibrated": "a parameter was fitted to it, or to what it is the sum of",
    "assumed": "unpublished parameters were chosen so that it holds, or differ from that design",
    "copied": "a parameter is this number",
    "input": "arithmetic of published parameters",
    "user": "you set something that it reads",
    "unresolved": "missing, or not like with like; decides nothing",
}
"""What each status says, in the words of the table's note."""


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def validation_table(validation: Validation) -> Group:
    """Every figure: published, ours, error, status."""
    own = validation.hardware.name
    table = _table("Published figure", "unit", "published", f"{'here':>9}", "error")
    table.add_column("status", no_wrap=True)
    for figure in validation.figures:
        table.add_row(
            figure.name + ("" if figure.config == own else " *"),
            figure.unit,
            number(figure.published),
            "-" if figure.simulated is None else number(figure.simulated),
            _error(figure),
            Text(figure.status, style=_STYLES[figure.status]),
        )
    others = sorted({f.config for f in validation.figures} - {own})
    return Group(
        Text(f"hardware  {own}\nworkload  calibration: full window; Q, K, V uniform; no decay"),
        Text(""),
        table,
        note(_meanings(validation, others)),
        *_remarks(validation),
    )


def _meanings(validation: Validation, others: list[str]) -> str:
    """What the statuses in the table mean, and of what the rows are."""
    seen = {figure.status for figure in validation.figures}
    said = [f"{status}: {text}." for status, text in MEANINGS.items() if status in seen]
    if others:
        said.append(f"* of {', '.join(others)}.")
    if not validation.hardware.is_published:
        said.append(
            f"The figures are of {DEFAULT_HARDWARE}; for {validation.hardware.name} they decide "
            "nothing."
        )
    return " ".join(said)


def _remarks(validation: Validation) -> list[RenderableType]:
    """Tolerances of what could fail, why a row decides nothing, what a hardware has otherwise."""
    lines: list[RenderableType] = []
    told = [f for f in validation.figures if f.status in {"predicted", "unresolved"}]
    for each in told:
        passed = "" if each.tolerance is None else "passes" if each.passes else "FAILS"
        limit = "" if each.tolerance is None else f" within {100 * each.tolerance:g} % ({passed}):"
        why = each.tolerance_reason or each.note
        more = f". {each.note[:1].upper()}{each.note[1:]}" if each.tolerance_reason else ""
        lines.append(note(f"{each.name}:{limit} {why}{more}."))
    differing = dict.fromkeys(name for f in validation.figures for name in f.differs)
    if differing:
        lines.append(note(f"Other than in the published design: {', '.join(differing)}."))
    return [Text(""), *lines] if lines else []


def _error(figure: Figure) -> Text:
    error = figure.relative_error
    if error is None:
        return Text("-", style="dim")
    text = f"{100 * error:+.2f} %" if abs(error) >= 5e-5 else "0 %"
    return Text(text, style="" if figure.passes else "bold red")


def fits_table(validation: Validation) -> Group:
    """The fitted coefficients: what the config has, and what this run would fit."""
    table = _table("Fitted coefficient", "config", "refitted")
    table.add_column("to")
    for fit in validation.fits:
        table.add_row(
            fit.parameter,
            f"{number(fit.current)} {fit.unit}".strip(),
            Text(
                f"{number(fit.fitted)} {fit.unit}".strip(),
                style="" if fit.fitted > 0 else "bold red",
            ),
            fit.target,
        )
    text = "One for each published total; each must be positive."
    if not validation.hardware.is_published:
        text = f"What the totals of {DEFAULT_HARDWARE} would ask of it; decides nothing."
    return Group(Text(""), table, note(text))


def bounds_table(bounds: Bounds) -> Group:
    """Headline results with each assumed parameter at its low and its high."""
    table = _table("Assumed parameter", "low to high", "ns", "nJ", "mm^2")
    table.padding = (0, 1, 0, 0)
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
    table.columns[0].width = 34
    to_nj = PICOJOULE.to(NANOJOULE, 1.0)
    columns = (("attention_ns", 1.0, 3), ("energy_pj", to_nj, 3), ("area_mm2", 1.0, 2))

    def span(pair: tuple[float, float], scale: float, digits: int) -> str:
        return "-".join(number(value * scale, digits) for value in pair)

    for row in bounds.bounds:
        cells = []
        for name, scale, digits in columns:
            pair, nominal = getattr(row, name), getattr(bounds, name)
            same = pair == (nominal, nominal)
            cells.append(Text("=", style="dim") if same else Text(span(pair, scale, digits)))
        table.add_row(row.parameter, _range(row.low, row.high), *cells)
    table.add_section()
    nominal = (number(getattr(bounds, name) * scale, 4) for name, scale, _ in columns)
    table.add_row("nominal", "", *nominal, style="bold")
    spread = (span(bounds.spread(name), scale, digits) for name, scale, digits in columns)
    table.add_row("spread", "", *spread, style="bold")
    return Group(
        Text(""),
        table,
        note(
            "One assumed parameter at a time at its low and its high, fitted coefficients kept: "
            "attention latency, energy of one token in one head, area of a head. = is unchanged. "
            f"Of {bounds.heads} heads{_fewer(bounds.heads)}. "
            "The spread is of single changes, not of all together."
        ),
    )


def _fewer(heads: int) -> str:
    """Why the energy is not quite that of the table of figures."""
    return "" if heads == HEADS else ", so that the energy differs a little from the table above"


def _range(low: str, high: str) -> str:
    """``5-20 ns`` for ``5 ns`` and ``20 ns``."""
    a, _, unit_a = low.partition(" ")
    b, _, unit_b = high.partition(" ")
    return f"{a}-{b} {unit_a}".strip() if unit_a == unit_b else f"{low}-{high}"
