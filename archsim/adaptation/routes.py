"""``python -m archsim.adaptation.routes``: ways onto the hardware, side by side at equal steps.

Adapts one model several times from nothing and renews the table of ``docs/studies/routes.md``:
the published route, direct scaler search, layer-wise transfer, both, and the route archsim takes.
What the table means is written by hand around it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from archsim.accuracy.evaluate import evaluate_model
from archsim.adaptation.adapt import adapt_model, set_threads
from archsim.adaptation.recipe import Recipe, Statistic
from archsim.adaptation.stages import AdaptationPlan
from archsim.config.loading import parse_assignments
from archsim.files import renew_marked
from archsim.hardware.load import Hardware, load_hardware
from archsim.models.adapted import shipped_text
from archsim.models.record import read_text, read_texts
from archsim.models.texts import refuse_held_out

OPENING, CLOSING = "<!-- made by: python -m archsim.adaptation.routes -->", "<!-- end -->"


@dataclass(frozen=True)
class Route:
    """A plan, and how many steps of training it has in all."""

    name: str
    plan: AdaptationPlan
    steps: int


def routes(steps: int, seed: int) -> Iterator[Route]:
    """The routes, each with `steps` steps of training or none."""
    plain = Recipe(steps, seed=seed)
    distilled = replace(plain, rate=2.5e-3, final_rate=2.5e-4, scaler_rate=2.0, optimiser="muon")
    third = replace(distilled, steps=steps // 3)
    rest = replace(distilled, steps=steps - steps // 3, distillation=0.5, hidden=2.0)

    def plan(stages: str, statistic: Statistic = "current", **recipes: Recipe) -> AdaptationPlan:
        return AdaptationPlan(tuple(stages.split(",")), recipes, statistic=statistic, seed=seed)

    yield Route("published", plan("linear,match", "voltage", linear=plain), steps)
    yield Route("(a) direct search", plan("basis,direct"), 0)
    yield Route("(b) layer-wise transfer", plan("transfer", transfer=distilled), steps)
    yield Route("(a) + (b)", plan("basis,direct,transfer", transfer=distilled), steps)
    yield Route(
        "(a) + (b) + language, distilled",
        plan("basis,direct,transfer,linear,match", transfer=third, linear=rest),
        steps,
    )


def measure(
    route: Route, model: Path, hardware: Hardware, text: str, unseen: Path, windows: int
) -> tuple[float, float]:
    """(nats above the software model on the unseen text, minutes of processor time)."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / model.resolve().name
        began = time.process_time()
        adapt_model(model, hardware, [text], output, route.plan)
        minutes = (time.process_time() - began) / 60
        found = evaluate_model(
            output, hardware, read_text(unseen), unseen.name, windows=windows, probes=0
        )
    loss = {row.name: row.loss for row in found.rows}
    return loss["polynomial"] - loss["software"], minutes


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("traces/reference-model"))
    parser.add_argument("--text", type=Path, required=True, help="folder of .txt to learn from")
    parser.add_argument("--unseen", type=Path, default=shipped_text(), help="text to measure on")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=90)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--windows", type=int, default=4, help="of unseen text")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/studies/routes.md"))
    arguments = parser.parse_args(words)
    set_threads(arguments.threads)
    hardware = load_hardware(overrides=parse_assignments(arguments.set))
    text = "\n".join(read_texts([arguments.text]))
    refuse_held_out([read_text(arguments.unseen)], "comparison of routes")
    found: dict[str, list[tuple[float, float]]] = {}
    steps: dict[str, int] = {}
    for seed in range(arguments.seeds):
        for route in routes(arguments.steps, seed):
            result = measure(
                route, arguments.model, hardware, text, arguments.unseen, arguments.windows
            )
            found.setdefault(route.name, []).append(result)
            steps[route.name] = route.steps
            print(f"seed {seed}, {route.name}: {result[0]:+.3f} nats, {result[1]:.1f} min")
            renew_marked(arguments.output, OPENING, CLOSING, _table(found, steps))


def _table(found: dict[str, list[tuple[float, float]]], steps: dict[str, int]) -> str:
    lines = [
        "| route | steps | nats above software, by seed | mean | minutes of processor |",
        "|---|---|---|---|---|",
    ]
    for name, results in found.items():
        above = ", ".join(f"{loss:.3f}" for loss, _ in results)
        mean, minutes = np.mean(results, axis=0)
        lines.append(f"| {name} | {steps[name]} | {above} | {mean:.3f} | {minutes:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
