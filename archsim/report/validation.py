"""Terminal tables of ``archsim validate``."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from archsim.baseline.fit import LIMITS, GpuValidation
from archsim.config.hardware import DEFAULT_HARDWARE
from archsim.evaluation.published import Bounds, Figure, Validation
from archsim.report.tables import note, number

_STYLES = {"predicted": "green", "calibrated": "cyan", "assumed": "yellow", "unresolved": "dim"}


_ROLE_STYLES = {"fitted": "cyan", "held out": "green", "transfer": "green", "paper": "dim"}


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
    others = ", ".join(sorted({f.config for f in validation.figures} - {own}))
    foreign = (
        ""
        if validation.hardware.is_published
        else f" The figures are of {DEFAULT_HARDWARE}; for {own} they decide nothing."
    )
    return Group(
        Text(f"hardware  {own}\nworkload  calibration: full window; Q, K, V uniform; no decay"),
        Text(""),
        table,
        note(
            "calibrated: a parameter was fitted to this very figure. predicted: it follows from "
            "other inputs, some by plain arithmetic. assumed: "
            "unpublished parts chosen so that the sum holds. unresolved: the sources disagree; "
            "decides nothing." + (f" * of {others}." if others else "") + foreign
        ),
    )


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
    return Group(Text(""), table, note("One for each published total; each must be positive."))


def gpu_table(validation: GpuValidation) -> Group:
    """Every measured point of decode attention beside the model."""
    table = _table("Measured", "batch", "window", "us a step", "model", "error")
    table.add_column("role", no_wrap=True)
    for point in validation.predictions:
        table.add_row(
            f"{point.gpu}, {point.precision}",
            str(point.batch),
            f"{point.window:,}",
            number(point.measured_us),
            number(point.predicted_us),
            f"{100 * point.error:+.1f} %",
            Text(point.role, style=_ROLE_STYLES[point.role]),
        )
    energies = [
        f"{point.gpu} {number(point.measured_mj or 0)} mJ a step, model {100 * error:+.1f} %"
        for point in validation.predictions
        if (error := point.energy_error) is not None
    ]
    errors = [
        f"{role} {100 * validation.mean_error(role):.1f} % (limit {100 * limit:.0f} %)"
        for role, limit in LIMITS.items()
    ]
    return Group(
        Text("GPU model: decode attention of one layer, 12 heads x 64"),
        Text(""),
        table,
        Text(""),
        Text(f"Mean absolute error: {', '.join(errors)}", style="bold"),
        note(
            "fitted: the parameters below were fitted to it. held out: same GPU, not fitted. "
            "transfer: known by its data sheet alone. paper: the authors' setting, unfused "
            "operations assumed; decides nothing."
        ),
        note(f"Energy above idle, measured by the authors: {'; '.join(energies)}."),
    )


def gpu_fit_table(validation: GpuValidation) -> Group:
    """The three fitted parameters, and other forms fitted to the same rows."""
    table = _table("Fitted parameter", "file", "refitted")
    for name, value in validation.fitted.items():
        shipped = validation.shipped[name]
        scale, unit = (1.0, "") if name == "bandwidth_efficiency" else (1e6, " us")
        drifted = name in validation.drifted
        table.add_row(
            name,
            f"{number(shipped * scale)}{unit}",
            Text(f"{number(value * scale)}{unit}", style="bold red" if drifted else ""),
        )
    other = _table("Fitted to the same rows instead", *LIMITS, "worst", "efficiency")
    for form in validation.alternatives:
        errors = (f"{100 * form.errors[role]:.1f} %" for role in LIMITS)
        efficiency = number(form.parameters["bandwidth_efficiency"], 3)
        other.add_row(form.name, *errors, f"{100 * form.worst:+.1f} %", efficiency)
    return Group(
        Text(""),
        table,
        note("Three parameters for the four fitted rows."),
        Text(""),
        other,
        note(
            "Where the step comes (1,024 tokens of the batch) is not fitted: it is empirical, "
            "chosen with the whole table in view. Mean absolute errors, and the largest error of "
            "a row that was not fitted."
        ),
    )


def bounds_table(bounds: Bounds) -> Group:
    """Headline results with each assumed parameter at its low and its high."""
    table = _table("Assumed parameter", "low to high", "ns", "nJ", "mm^2")
    table.padding = (0, 1, 0, 0)
    table.columns[0].no_wrap, table.columns[0].width = False, 34
    columns = (("attention_ns", 1.0, 3), ("energy_pj", 1e-3, 3), ("area_mm2", 1.0, 2))

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
            "Of 2 heads, so that the energy differs a little from the table above. "
            "The spread is of single changes, not of all together."
        ),
    )


def _range(low: str, high: str) -> str:
    """``5-20 ns`` for ``5 ns`` and ``20 ns``."""
    a, _, unit_a = low.partition(" ")
    b, _, unit_b = high.partition(" ")
    return f"{a}-{b} {unit_a}".strip() if unit_a == unit_b else f"{low}-{high}"
