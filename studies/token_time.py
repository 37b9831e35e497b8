"""How much of the published comparison survives once a token takes as long as the whole model does.

``python -m studies.token_time`` renews the tables of docs/studies/token-time.md:
token times from attention alone to a GPU whose attention was moved, what cells forget in each, what
the model loses by it, and what is left of speed and energy against a measured GPU.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from archsim.accuracy.tolerance import (
    FASTEST_DECAY,
    MeasuredLosses,
    Tolerances,
    measure_tolerances,
)
from archsim.calibration import calibrate
from archsim.comparison.compare import ComparisonRow, compare
from archsim.comparison.hardware import calibration_figures
from archsim.comparison.request import Request
from archsim.comparison.transformer import ModelRow, accelerator_token, compare_models
from archsim.config.transformer import GPT2_SMALL
from archsim.config.writing import quantity_text
from archsim.errors import ConfigError
from archsim.files import renew_marked
from archsim.gpu.file import Gpu, load_gpu
from archsim.hardware.load import Hardware, load_hardware
from archsim.models.adapted import shipped_adapted, shipped_text
from archsim.models.record import read_text
from archsim.retention import Fading

GPU = "h100-sxm"
BATCH = 64
SILENT = {"cell.polynomial.constant": "0 A"}
"""A cell without the current that a faded one still sends."""

OPENING = "<!-- made by: python -m studies.token_time -->"
CLOSING = "<!-- end -->"


@dataclass(frozen=True)
class Token:
    """One way to spend a token: the time (s) between two tokens of a sequence, its energy (J).

    A step makes `step_tokens`, one of each sequence. `energy_j` is of one token, None where the
    row is no whole token or the GPU's energy was not measured.
    """

    name: str
    period_s: float
    energy_j: float | None = None
    step_tokens: int = 1


@dataclass(frozen=True)
class Forgetting:
    """What cells of one kind do at a token's period, and the model's loss then."""

    fading: Fading
    loss: float


@dataclass(frozen=True)
class Study:
    """Everything that the page shows."""

    tokens: tuple[Token, ...]
    cells: dict[str, tuple[Forgetting, ...]]
    found: Tolerances
    attention: tuple[ComparisonRow, ...]
    gpu: ModelRow
    batched: ModelRow | None
    attention_s: float
    attention_j: float
    silent: tuple[float, float]
    """Losses without C_0: at the decay that the model was adapted to, at a streamed token's."""


def _measured(rows: tuple[ModelRow, ...], batch: int) -> list[ModelRow]:
    return [row for row in rows if row.source == "measured" and row.batch == batch]


def make_study(
    folder: Path, hardware: Hardware, text: str, name: str, windows: int, gpu: Gpu
) -> Study:
    """Simulate, compare and measure everything.

    Raises ConfigError for a GPU of which no whole token was measured, and as its parts do.
    """
    found = measure_tolerances(folder, hardware, text, name, windows=windows, progress=_line)
    figures = calibration_figures(calibrate(hardware, features=GPT2_SMALL.head_dim))
    digital = hardware.config.digital
    streamed = digital.model_copy(update={"weights": "streamed"})
    resident = digital.model_copy(update={"weights": "resident"})
    rows = compare_models(figures, streamed, [gpu], Request(("latency",))).rows
    single = _measured(rows, 1)
    if not single:
        raise ConfigError(
            f"{gpu.name}: no whole token was measured at window {hardware.config.window:,}; choose "
            "another GPU, or a hardware with another window"
        )
    asked = Request(("throughput",), batch=BATCH)
    many = _measured(compare_models(figures, streamed, [gpu], asked).rows, BATCH)
    at_once = accelerator_token(figures, streamed, GPT2_SMALL, BATCH)
    one, still = (accelerator_token(figures, each, GPT2_SMALL) for each in (streamed, resident))
    published = hardware.config.retention.decay_per_token * hardware.config.retention.tau
    moved = single[0].moved_energy_mj
    tokens = (
        Token("attention alone", one.attention_s),
        Token("as the published decay has it", published),
        Token("whole token, weights resident", still.latency_s, still.energy_j),
        Token("whole token, weights streamed", one.latency_s, one.energy_j),
        Token(
            f"{gpu.name} with its attention moved here",
            single[0].moved_latency_us * 1e-6,
            None if moved is None else moved * 1e-3,
        ),
        Token(
            f"step of {BATCH} sequences at one engine, weights streamed",
            at_once.latency_s,
            at_once.energy_j / BATCH,
            BATCH,
        ),
    )
    losses = MeasuredLosses(found.subject, hardware, found.material, _line, found.losses)
    silenced = hardware.changed(SILENT)
    silent = MeasuredLosses(found.subject, silenced, found.material, _line)
    window = hardware.config.window
    return Study(
        tokens,
        {
            cell.name: tuple(
                _forgetting_of(Fading(token.period_s / cell.tau, window), losses)
                for token in tokens
            )
            for cell in found.cells[1:]
        },
        found,
        compare(figures, [gpu], Request(("paper", "latency")), ["measured"]).rows,
        single[0],
        many[0] if many else None,
        one.attention_s,
        one.attention_j,
        (silent(found.trained), silent(one.latency_s / hardware.config.retention.tau)),
    )


def _forgetting_of(fading: Fading, losses: MeasuredLosses) -> Forgetting:
    return Forgetting(fading, losses(min(fading.decay_per_token, FASTEST_DECAY)))


def _line(step: str, done: int, total: int) -> None:
    print(f"{step} ({done + 1})", file=sys.stderr)


def page(study: Study) -> str:
    """The tables, and sentences whose every number is computed."""
    return "\n\n".join([_forgetting(study), _speed(study), _tolerance(study), _sentences(study)])


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:,.4g}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms" if seconds >= 0.1 else f"{seconds * 1e3:.3g} ms"


def _keeps(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "<0.1%"


def _forgetting(study: Study) -> str:
    kinds = list(study.cells)
    taus = {cell.name: cell.tau for cell in study.found.cells}
    heads = "".join(
        f" {kind} ({quantity_text(taus[kind], 's')}): window / tau | oldest keeps | loss |"
        for kind in kinds
    )
    lines = [
        f"| a token | us |{heads}",
        "|---|--:|" + "--:|" * 3 * len(kinds),
    ]
    for place, token in enumerate(study.tokens):
        cells = [study.cells[kind][place] for kind in kinds]
        each = "".join(
            f" {c.fading.over_window:.3g} | {_keeps(c.fading.oldest)} | {c.loss:.3f} |"
            for c in cells
        )
        lines.append(f"| {token.name} | {_us(token.period_s)} |{each}")
    return "**What cells forget, and what the model loses by it**\n\n" + "\n".join(lines)


def _speed(study: Study) -> str:
    name = study.gpu.gpu
    lines = [
        f"| against {name}, measured | {name} us | here us | faster | less energy |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in study.attention:
        own = row.per_token_latency_us / row.speedup
        energy = _times(row.energy_ratio)
        lines.append(
            f"| attention of one layer, protocol {row.protocol}, batch {row.batch}, "
            f"{row.kernel or 'eager'} | {row.per_token_latency_us:.4g} | {own:.4g} | "
            f"{_times(row.speedup)} | {energy} |"
        )
    gpu = study.gpu
    share = gpu.attention_energy_share
    attention_mj = None if gpu.energy_mj is None or share is None else gpu.energy_mj * share
    lines.append(
        f"| attention of all layers of that token | {gpu.attention_latency_us:.4g} | "
        f"{_us(study.attention_s)} | "
        f"{_times(gpu.attention_latency_us * 1e-6 / study.attention_s)} | "
        f"{_times(None if attention_mj is None else attention_mj * 1e-3 / study.attention_j)} |"
    )
    for token in study.tokens:
        whole = gpu if token.step_tokens == 1 else study.batched
        if token.energy_j is None or whole is None or whole.energy_mj is None:
            continue
        ratio = whole.latency_us * 1e-6 / token.period_s
        saved = whole.energy_mj * 1e-3 / whole.batch / token.energy_j
        lines.append(
            f"| {token.name} | {whole.latency_us:,.4g} | {_us(token.period_s)} | {_times(ratio)} | "
            f"{_times(saved)} |"
        )
    return "**What is left of the comparison**\n\n" + "\n".join(lines)


def _times(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.2f}x"


def _tolerance(study: Study) -> str:
    found = study.found
    heads = "".join(f" tau for +{each.rise:g} nats |" for each in found.tolerances)
    lines = [f"| a token | us |{heads}", "|---|--:|" + "--:|" * len(found.tolerances)]
    for token in study.tokens:
        taus = [
            "-" if each.decay is None else _ms(token.period_s / each.decay)
            for each in found.tolerances
        ]
        lines.append(f"| {token.name} | {_us(token.period_s)} | {' | '.join(taus)} |")
    return "**How long cells must hold**\n\n" + "\n".join(lines)


def _sentences(study: Study) -> str:
    found, tokens = study.found, study.tokens
    names = [token.name for token in tokens]
    streamed = names.index("whole token, weights streamed")
    kind = next(iter(study.cells))
    lost = study.cells[kind][streamed]
    length = found.material.windows.shape[1] - 1
    still, faded = study.silent
    rise = lost.loss - found.base
    text = (
        f"Losses in nats a token, of {found.subject.name} on {len(found.material.windows)} windows "
        f"of {length:,} tokens of {found.material.name}; {found.base:.3f} at {found.trained:.3g} a "
        f"token, {found.reference}. A window of {found.hardware.config.window:,} tokens is as long "
        f"as tau where window / tau is 1. With the weights streamed {kind} cells keep "
        f"{_keeps(lost.fading.oldest)} of the oldest token and the model loses {rise:.2f} nats; "
        f"without the current that a cell sends at mid-rail (C_0 = 0, nothing adapted to it) it "
        f"loses {faded - still:.2f}, from {still:.3f} to {faded:.3f}"
    )
    if faded - still < rise / 2:
        text += ": most of the harm is not what was forgotten, but what faded cells still say"
    return f"{text}."


def main(words: list[str] | None = None) -> None:
    """Renew what stands between the two marks of a Markdown page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/studies/token-time.md"))
    parser.add_argument("-c", "--config", default="gaincell-28nm")
    parser.add_argument("--gpu", default=GPU)
    parser.add_argument("--model", type=Path, default=shipped_adapted())
    parser.add_argument("--text", type=Path, default=shipped_text())
    parser.add_argument("--windows", type=int, default=2)
    given = parser.parse_args(words)
    study = make_study(
        given.model,
        load_hardware(given.config),
        read_text(given.text),
        given.text.name,
        given.windows,
        load_gpu(given.gpu),
    )
    renew_marked(given.output, OPENING, CLOSING, page(study))


if __name__ == "__main__":
    main()
