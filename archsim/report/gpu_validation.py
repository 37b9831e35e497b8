"""Terminal tables of ``archsim validate --gpu`` and ``archsim baseline fit``."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from archsim.gpu.file import Gpu
from archsim.gpu.fit import Fit, Form
from archsim.gpu.validation import GpuValidation, Prediction, Role, Summary
from archsim.report.formats import note, number

POINT_HEAD = (
    f"{'kernel':<12} {'':<4} {'batch':>5} {'window':>6} {'us':>7} {'model':>7} {'error':>7} "
    f"{'mJ':>6} {'model':>6} {'error':>7}"
)
SUMMARY_HEAD = f"{'Group':<20} {'role':<12} {'rows':>4} {'time':>11} {'energy':>11}  {'limit'}"
UNITS = {
    "launch": (1e6, "us"),
    "eager_launch": (1e6, "us"),
    "residency_power": (1.0, "W"),
    "byte_energy": (1e12, "pJ/byte"),
}
"""Scale and unit in which a parameter is shown; the others are shares."""


IN_VIEW: dict[Role, str] = {"held out": " (form chosen with it in view)"}


def gpu_table(validation: GpuValidation) -> Group:
    """Every measured point beside the model, what was fitted apart from what was not."""
    parts: list[RenderableType] = [
        Text("GPU model beside every measured point: 12 heads x 64, times and energies of a step")
    ]
    rows = validation.predictions
    for gpu, group, role in dict.fromkeys((p.gpu, p.group, p.role) for p in rows):
        found = [p for p in rows if (p.gpu, p.group, p.role) == (gpu, group, role)]
        parts += [Text(""), Text(f"{gpu}, {group}: {role}{IN_VIEW.get(role, '')}", style="bold")]
        parts.append(Text(POINT_HEAD, style="dim"))
        parts += [_point(each) for each in found]
    parts += [Text(""), Text(SUMMARY_HEAD, style="bold")]
    parts += [_summary(each) for each in validation.summaries]
    parts.append(
        note(
            "Absolute errors, mean/largest, in %. fitted: parameters were fitted to it; which half "
            "that is was laid down before. held out: same GPU, not fitted, but "
            "six constants of the form were chosen with all rows in view. two GPUs, one "
            "kernel: the time on one, from that on the H100 and the ratio that the model gives. "
            "authors: on other GPUs by the authors of the gain-cell paper, energy above idle; "
            "decides nothing. not modelled: slower kernels and another library; decides nothing."
        )
    )
    return Group(*parts)


def parameter_table(validation: GpuValidation) -> Group:
    """The eight fitted parameters."""
    lines = [Text(""), Text("Fitted parameters, all eight", style="bold")]
    lines += [
        Text(f"{name:<22} {_quantity(name, value):>13}")
        for name, value in validation.parameters.items()
    ]
    told = (
        "archsim baseline fit fits them again. Not fitted, but chosen with all rows in view: "
        "overlap, l2_edge, l2_order, tile, fragment, split. docs/baseline.md: the model."
    )
    return Group(*lines, note(told))


def fit_table(fit: Fit, gpu: Gpu, forms: tuple[Form, ...]) -> Group:
    """Fitted parameters beside those of the GPU file, and other forms fitted to the same points."""
    head = f"{'Parameter':<22} {'fitted':>13} {'file':>13}"
    parts: list[RenderableType] = [
        Text(f"{gpu.name}: {fit.points} measured points, {fit.energies} with energy"),
        Text(""),
        Text(head, style="bold"),
    ]
    for name, value in fit.parameters.items():
        style = "bold red" if name in fit.drifted else ""
        shipped = _quantity(name, fit.shipped[name])
        parts.append(Text(f"{name:<22} {_quantity(name, value):>13} {shipped:>13}", style=style))
    if forms:
        parts += [
            Text(""),
            Text(f"{'Form, not fitted: time, energy':<40} {'mean':>13} {'largest':>15}", "bold"),
        ]
        parts += [
            Text(
                f"{form.name:<40} {_percents(form.time_mean, form.energy_mean):>13} "
                f"{_percents(form.time_worst, form.energy_worst):>15}"
            )
            for form in forms
        ]
        parts.append(
            note(
                "Absolute errors of the points that were not fitted, in %. Each form is fitted "
                "anew to the same points."
            )
        )
    return Group(*parts)


def _point(point: Prediction) -> Text:
    energy = point.energy_error
    told = f"{'-':>6} {'-':>6} {'-':>7}"
    if energy is not None and point.measured_mj is not None and point.predicted_mj is not None:
        told = (
            f"{number(point.measured_mj, 3):>6} {number(point.predicted_mj, 3):>6} "
            f"{f'{100 * energy:+.1f} %':>7}"
        )
    return Text(
        f"{point.part or point.kernel:<12} {point.precision:<4} {point.batch:>5} "
        f"{point.window:>6,} {number(point.measured_us):>7} {number(point.predicted_us):>7} "
        f"{f'{100 * point.error:+.1f} %':>7} {told}"
    )


def _summary(summary: Summary) -> Text:
    limit = summary.limit
    limits = [
        f"{name} {100 * value:.0f}"
        for name, value in (("mean", limit.mean), ("any", limit.worst))
        if value is not None
    ]
    energy = _percents(summary.energy_mean, summary.energy_worst)
    return Text(
        f"{summary.group:<20} {summary.role:<12} {summary.rows:>4} "
        f"{_percents(summary.time_mean, summary.time_worst):>11} {energy:>11}  "
        f"{', '.join(limits) or '-'}",
        style="bold red" if summary.failures else "",
    )


def _percents(first: float | None, second: float | None) -> str:
    if first is None or second is None:
        return "-"
    return f"{100 * first:.1f}/{100 * second:.1f}"


def _quantity(name: str, value: float) -> str:
    scale, unit = UNITS.get(name, (1.0, ""))
    return f"{number(value * scale, 3)} {unit}".strip()
