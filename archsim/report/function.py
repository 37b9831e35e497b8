"""The table of what hardware does to the function: errors against *ideal*, and the model's loss."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from archsim.accuracy.trace_loop import InLoop
from archsim.figures import SATURATION_LABELS, figure
from archsim.parts import Errors, LayerErrors
from archsim.report.formats import note, percent, titled_table
from archsim.result import Result


def function(result: Result, loop: InLoop | None = None) -> Group:
    """Error against *ideal* and saturation, by layer; the software model beside it if known."""
    ratio, largest = figure("function.sqnr_db"), figure("function.max_abs_error")
    columns = [(name, 7) for name in SATURATION_LABELS.values()]
    table = titled_table(
        "Function",
        (f"{ratio.label} {ratio.unit.text}", 8),
        (largest.label, 10),
        *columns,
        name_width=7,
    )
    found = result.function
    for index, layer in enumerate(found.layers):
        table.add_row(f"layer {index}", *_function_cells(layer))
    if len(found.layers) > 1:
        table.add_row("all", *_function_cells(found), style="bold")
    beside: list[RenderableType] = [] if loop is None else [Text(""), _in_loop(loop)]
    partial = found.saturation.get("partial")
    alone = len(result.simulation.head.laws.readout.parts) == 1
    digitised = "bit lines" if alone else "partial sums"
    split = (
        ""
        if partial is None
        else f" Of the {digitised} that S is put together from, {percent(partial)}."
    )
    return Group(
        table,
        note(
            "Error of y against ideal: same scaled inputs, linear cells, no quantiser, no output "
            "clip, no decay. Then % of values beyond range: q, k, v after scaling; scores "
            f"S below 0 and above full scale; sub-tile outputs A.{split} "
            f"Analog products in {found.precision}."
        ),
        *beside,
    )


def _in_loop(loop: InLoop) -> Group:
    """What all layers together cost the model."""
    title = (
        "In the model's loop"
        if loop["adapted_to_this_hardware"]
        else "In a loop not adapted to this hardware"
    )
    table = titled_table(title, ("software", 9), ("here", 9), ("top-1 same", 10), ("KL", 7))
    table.add_row(
        "loss, nats a token",
        f"{loop['software_loss']:.3f}",
        f"{loop['hardware_loss']:.3f}",
        percent(loop["top1_agreement"]),
        f"{loop['kl']:.3f}",
    )
    return Group(
        table,
        note(
            f"Over the trace's own {loop['tokens']:,} targets, each layer fed what the hardware "
            "made of the layers before; the software model is the one that was adapted. More text, "
            "and where the loss comes from: archsim evaluate."
        ),
    )


def _function_cells(found: Errors | LayerErrors) -> list[str]:
    exact = "-" if found.max_abs_error else "exact"
    ratio = exact if found.sqnr_db is None else f"{found.sqnr_db:.1f}"
    rates = (percent(found.saturation[name]) for name in SATURATION_LABELS)
    return [ratio, f"{found.max_abs_error:.3g}", *rates]
