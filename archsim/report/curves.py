"""Curves of an adaptation: the loss of every training step, and scaler matching pass by pass."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from archsim.config.published import published
from archsim.errors import ConfigError, CorruptInputError
from archsim.models.adapted import CURVES_FILE, AdaptedModel
from archsim.report.charts import chart_tools

if TYPE_CHECKING:
    from rich.console import RenderableType

TRAINING = ("transfer", "linear", "tune", "control")
SMOOTHED = 20


def read_curves(adapted: AdaptedModel) -> dict[str, Any]:
    """``curves.json`` of a result folder. Raises CorruptInputError if it is none."""
    path = adapted.folder / CURVES_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CorruptInputError(f"{path}: not the curves of an adaptation") from None
    if not isinstance(found, dict):
        raise CorruptInputError(f"{path}: not the curves of an adaptation")
    return found


def _matchings(curves: dict[str, Any]) -> list[dict[str, Any]]:
    """Scaler matching by the statistic that was chosen, then by the published one if apart."""
    return [curves[name] for name in ("matching", "matching_voltage") if name in curves]


def curves_table(adapted: AdaptedModel) -> RenderableType:
    """Every training stage in a few lines, and the passes of scaler matching."""
    from rich.console import Group
    from rich.table import Table

    curves = read_curves(adapted)
    stages = Table(box=None, pad_edge=False)
    for heading in ("stage", "steps", "first 20", "last 20"):
        stages.add_column(heading, justify="left" if heading == "stage" else "right")
    for name in TRAINING:
        values = [loss for _, loss in curves.get(name, [])]
        if values:
            head, tail = values[:SMOOTHED], values[-SMOOTHED:]
            stages.add_row(
                name,
                f"{len(values):,}",
                f"{sum(head) / len(head):.3f}",
                f"{sum(tail) / len(tail):.3f}",
            )
    note = (
        "  What each stage minimises, mean over steps: transfer the share of variance missed, the "
        "others nats a token over the training mixture, in part replaced by distillation."
    )
    parts: list[RenderableType] = [stages, note]
    stated = published("matching_losses").values
    for matching in _matchings(curves):
        passes = Table(box=None, pad_edge=False)
        for heading in ("matching, pass", "worst deviation", "loss", "published loss"):
            passes.add_column(heading, justify="right")
        for place, (off, loss) in enumerate(
            zip(matching["deviation"], matching["loss"], strict=True)
        ):
            beside = f"{stated[place]:.3f}" if place < len(stated) else ""
            passes.add_row(str(place), f"{off:.2e}", f"{loss:.3f}", beside)
        done = "converged" if matching["converged"] else "not converged"
        closing = (
            f"  Statistic: {matching.get('statistic', 'voltage')}; {done}; the linear model has "
            f"{matching['linear_loss']:.3f} on this batch. "
            f"Published: GPT-2 on OpenWebText, which stays at {stated[-1]:.3f}."
        )
        parts += ["", passes, closing]
    return Group(*parts)


def curves_chart(adapted: AdaptedModel) -> Any:
    """Training curves, and matching beside the published curve, each above where it ends.

    Raises MissingExtraError without Altair, ConfigError if nothing was trained or matched.
    """
    altair, _ = chart_tools()
    curves = read_curves(adapted)
    points = [
        {"stage": name, "step": step, "loss": loss}
        for name in TRAINING
        for step, loss in _smooth(curves.get(name, []))
    ]
    pictures = []
    if points:
        chart = altair.Chart(altair.Data(values=points)).mark_line()
        pictures.append(
            chart.encode(
                x=altair.X("step:Q", title="step"),
                y=altair.Y("loss:Q", title="training loss"),
                color=altair.Color("stage:N", sort=list(TRAINING), title=None),
            ).properties(width=360, height=240, title="Training, mean of 20 steps")
        )
    if _matchings(curves):
        lines = [
            (f"here, {found.get('statistic', 'voltage')}", found["loss"], found["linear_loss"])
            for found in _matchings(curves)
        ]
        stated = list(published("matching_losses").values)
        lines.append(("published", stated, stated[-1]))
        values = [
            {"curve": name, "pass": place, "loss": loss - end}
            for name, losses, end in lines
            for place, loss in enumerate(losses)
        ]
        chart = altair.Chart(altair.Data(values=values)).mark_line(point=True)
        pictures.append(
            chart.encode(
                x=altair.X("pass:Q", title="pass"),
                y=altair.Y(
                    "loss:Q", title="loss above the linear model (published: above its end)"
                ),
                color=altair.Color("curve:N", title=None),
            ).properties(width=360, height=240, title="Scaler matching from a = 1")
        )
    if not pictures:
        raise ConfigError(f"{adapted.folder}: nothing was trained or matched, so no curves")
    return altair.hconcat(*pictures).resolve_scale(color="independent")


def _smooth(curve: list[list[float]]) -> list[tuple[int, float]]:
    """Means of 20 steps at a time."""
    return [
        (int(curve[start][0]), sum(loss for _, loss in part) / len(part))
        for start in range(0, len(curve), SMOOTHED)
        if (part := curve[start : start + SMOOTHED])
    ]
