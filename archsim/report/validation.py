"""Terminal tables of ``archsim validate``."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from archsim.evaluation.published import Bounds, Figure, Validation

_STYLES = {"predicted": "green", "calibrated": "cyan", "assumed": "yellow", "unresolved": "dim"}


def validation_table(validation: Validation) -> Table:
    """Every figure: published, ours, error, status."""
    table = Table(
        title=f"Published figures beside {validation.hardware.name}",
        title_justify="left",
        caption=(
            "calibrated: a parameter was fitted to this very figure; predicted: none was; assumed: "
            "unpublished parts chosen so that the sum holds; unresolved: shown, decides nothing. "
            f"Rows of another config: {', '.join(_others(validation)) or 'none'}."
        ),
        caption_justify="left",
        pad_edge=False,
        width=80,
    )
    table.add_column("figure", max_width=27)
    table.add_column("unit")
    table.add_column("published", justify="right")
    table.add_column("simulated", justify="right")
    table.add_column("error", justify="right")
    table.add_column("status")
    for figure in validation.figures:
        star = "" if figure.config == validation.hardware.name else " *"
        table.add_row(
            figure.name + star,
            figure.unit,
            _number(figure.published),
            "-" if figure.simulated is None else _number(figure.simulated),
            _error(figure),
            Text(figure.status, style=_STYLES[figure.status]),
        )
    return table


def _others(validation: Validation) -> list[str]:
    names = {f.config for f in validation.figures} - {validation.hardware.name}
    return [f"* {name}" for name in sorted(names)]


def _number(value: float) -> str:
    if value != 0 and abs(value) < 0.1:
        return f"{value:.4f}"
    if float(value).is_integer() or abs(value) >= 10000:
        return f"{value:,.0f}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"


def _error(figure: Figure) -> Text:
    error = figure.relative_error
    if error is None:
        return Text("-", style="dim")
    text = "0 %" if error == 0 else f"{error:+.2%}".replace("%", " %")
    return Text(text, style="" if figure.passes else "bold red")


def fits_table(validation: Validation) -> Table:
    """The fitted coefficients: what the config has, and what this run would fit."""
    table = Table(
        title="Fitted coefficients (one for each published total)",
        title_justify="left",
        pad_edge=False,
        width=80,
    )
    table.add_column("parameter")
    table.add_column("config", justify="right")
    table.add_column("refitted", justify="right")
    table.add_column("to", max_width=24)
    for fit in validation.fits:
        style = "" if fit.fitted > 0 else "bold red"
        table.add_row(
            fit.parameter,
            f"{fit.current:.4g} {fit.unit}".strip(),
            Text(f"{fit.fitted:.4g} {fit.unit}".strip(), style=style),
            fit.target,
        )
    return table


def bounds_table(bounds: Bounds) -> Table:
    """Headline results with each assumed parameter at its low and its high."""
    spans = {
        name: " to ".join(f"{value:.4g}" for value in bounds.spread(name))
        for name in ("attention_ns", "energy_pj", "area_mm2")
    }
    table = Table(
        title="Headline results with one assumed parameter at its low / at its high",
        title_justify="left",
        caption=(
            f"Nominal {bounds.attention_ns:.4g} ns, {bounds.energy_pj:,.0f} pJ, "
            f"{bounds.area_mm2:.3g} mm^2. Spread: {spans['attention_ns']} ns, "
            f"{spans['energy_pj']} pJ, {spans['area_mm2']} mm^2. Fitted coefficients are kept."
        ),
        caption_justify="left",
        pad_edge=False,
        width=80,
    )
    table.add_column("parameter", max_width=33, overflow="fold")
    table.add_column("low, high")
    table.add_column("ns", justify="right")
    table.add_column("pJ", justify="right")
    table.add_column("mm^2", justify="right")
    nominal = (bounds.attention_ns, bounds.energy_pj, bounds.area_mm2)
    for row in bounds.bounds:
        cells = [
            "=" if pair == (base, base) else f"{pair[0]:.4g}, {pair[1]:.4g}"
            for pair, base in zip(
                (row.attention_ns, row.energy_pj, row.area_mm2), nominal, strict=True
            )
        ]
        table.add_row(row.parameter, f"{row.low}, {row.high}", *cells)
    return table
