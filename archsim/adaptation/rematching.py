"""``python -m archsim.adaptation.rematching``: how much matching depends on its calibration text.

Matches the linear stage of an adapted model anew on windows drawn by several seeds, by currents and
by voltages, and renews the second table of ``docs/studies/routes.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archsim.accuracy.closed_loop import AnalogLoop, Variant, measure
from archsim.accuracy.material import cut_material
from archsim.accuracy.variants import with_cell
from archsim.adaptation.corpus import encode_corpus
from archsim.adaptation.matching import match_scalers, moments
from archsim.adaptation.recipe import Statistic
from archsim.chip.head import Head
from archsim.config.loading import parse_assignments
from archsim.errors import ConfigError
from archsim.files import renew_marked
from archsim.hardware.load import Hardware, load_hardware
from archsim.models.adapted import Stage, load_adapted, shipped_adapted, shipped_text
from archsim.models.record import read_text, read_texts
from archsim.models.texts import Text, refuse_held_out

OPENING, CLOSING = "<!-- made by: python -m archsim.adaptation.rematching -->", "<!-- end -->"


def rematch(
    linear: Stage,
    hardware: Hardware,
    calibrations: list[NDArray[np.int64]],
    unseen: NDArray[np.int64],
) -> Iterator[tuple[Statistic, list[tuple[float, int]]]]:
    """By statistic: nats above the linear cell on `unseen`, and passes, of each calibration set."""
    if linear.scalers is None:
        raise ConfigError("stage linear has no scalers")
    cells = {cell: with_cell(hardware, cell).config for cell in ("linear", "polynomial")}
    heads = {cell: Head(config) for cell, config in cells.items()}
    before = Variant("linear", linear.model, AnalogLoop(cells["linear"], linear.scalers))
    statistics: tuple[Statistic, ...] = ("current", "voltage")
    for statistic in statistics:
        matched = []
        for ids in calibrations:
            target, _ = moments(linear.model, heads["linear"], linear.scalers, ids, statistic)
            matched.append(
                match_scalers(linear.model, heads["polynomial"], target, ids, statistic=statistic)
            )
        variants = [
            Variant(f"{n}", linear.model, AnalogLoop(cells["polynomial"], found.scalers))
            for n, found in enumerate(matched)
        ]
        rows = measure(before, variants, unseen)
        yield (
            statistic,
            [
                (row.loss - rows[0].loss, len(found.losses) - 1)
                for row, found in zip(rows[1:], matched, strict=True)
            ],
        )


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=shipped_adapted())
    parser.add_argument("--text", type=Path, required=True, help="folder of .txt to calibrate on")
    parser.add_argument("--unseen", type=Path, default=shipped_text(), help="text to measure on")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--windows", type=int, default=8, help="of unseen text")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/studies/routes.md"))
    arguments = parser.parse_args(words)
    if arguments.seeds < 1:
        parser.error("--seeds: must be at least 1")
    hardware = load_hardware(overrides=parse_assignments(arguments.set))
    adapted = load_adapted(arguments.model)
    linear = adapted.stage("linear")
    if linear is None:
        raise ConfigError(f"{arguments.model}: was adapted without a stage linear")
    config = adapted.model.config
    corpus = encode_corpus(
        arguments.model, read_texts([arguments.text]), config.vocab_size, config.n_positions
    )
    calibrations = [
        corpus.calibration(config.n_positions, 4, seed) for seed in range(arguments.seeds)
    ]
    written = read_text(arguments.unseen)
    refuse_held_out([written], "comparison of statistics")
    texts = [Text(arguments.unseen.name, (written,))]
    unseen = cut_material(arguments.model, texts, config, arguments.windows, None)
    lines = [
        "| statistic | nats above the linear cell, by seed | mean | passes |",
        "|---|---|---|---|",
    ]
    for statistic, results in rematch(linear, hardware, calibrations, unseen.windows):
        above = ", ".join(f"{loss:.3f}" for loss, _ in results)
        mean = np.mean([loss for loss, _ in results])
        passes = ", ".join(str(count) for _, count in results)
        lines.append(f"| {statistic} | {above} | {mean:.3f} | {passes} |")
    print("\n".join(lines))
    renew_marked(arguments.output, OPENING, CLOSING, "\n".join(lines))


if __name__ == "__main__":
    main()
