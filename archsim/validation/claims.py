"""The paper's sentences as claims: what each is worth, by stated rules on computed figures.

Every number stated comes from ``hwconfigs/published.yaml``. Beside it stand what archsim gets, the
ratio under the authors' own GPU protocol as measured, a fair latency and a fair throughput, and
what is left of it in a whole token. `VERDICTS` says how a verdict follows from these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from archsim.accuracy.closed_loop import AnalogLoop, Variant, measure
from archsim.calibration import Calibration, calibrate
from archsim.comparison.accelerator import AcceleratorFigures
from archsim.comparison.compare import ComparisonRow, compare
from archsim.comparison.hardware import calibration_figures
from archsim.comparison.request import Request, other_shape
from archsim.comparison.transformer import GPT2_SMALL, ModelRow, accelerator_token, compare_models
from archsim.config.published import PublishedFigure, all_published, published
from archsim.errors import ConfigError
from archsim.gpu.file import Gpu, load_gpu
from archsim.gpu.protocols import PAPER_FLAWS, PAPER_STEP
from archsim.hardware.load import Hardware, load_hardware
from archsim.result import Result
from archsim.validation.figures import leaf
from archsim.validation.verdicts import (
    TOLERANCE,
    VERDICTS,
    Choices,
    Finding,
    Origin,
    Verdict,
    accuracy_verdict,
    agrees,
    own_verdict,
    ratio_verdict,
)

SCHEMA_VERSION = 2

PAPER_SHAPE = (PAPER_STEP.heads, PAPER_STEP.head_dim, PAPER_STEP.window)

_ORIGIN: dict[str, Origin] = {"measured": "measured", "model": "modelled"}


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper. Findings are None where there is nothing to say.

    `stated` is None for a statement in words; its findings are then the loss, in nats a token,
    beyond that of the same model in software. `here`: simulated, or of a ratio the modelled GPU
    over the simulated accelerator under the authors' protocol. `authors`: measured under that
    protocol. `latency`, `throughput`: fair, batch 1 and the authors' batch, fused kernels.
    `token`: a whole token of GPT-2 small: of a ratio what the GPU gains if its attention moves
    here; of a time or energy the accelerator's, everything in it shared out over the layers
    (and heads). `assumed`: share of the accelerator's figure that rests on assumed parameters.
    """

    name: str
    label: str
    stated: float | None
    unit: str
    what: str
    here: Finding | None
    authors: Finding | None
    latency: Finding | None
    throughput: Finding | None
    token: Finding | None
    assumed: float | None
    flaw: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Claims:
    """Every claim, judged for one hardware."""

    hardware: Hardware
    claims: tuple[Claim, ...]

    def __repr__(self) -> str:
        held = sum(claim.verdict == "holds" for claim in self.claims)
        return f"<Claims for {self.hardware.name}: {held} of {len(self.claims)} hold>"

    def document(self) -> dict[str, Any]:
        """What ``archsim claims --json`` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "hardware": {"name": self.hardware.name, "config_sha256": self.hardware.sha256},
            "tolerance": TOLERANCE,
            "verdicts": dict(VERDICTS),
            "claims": [asdict(claim) for claim in self.claims],
        }


def judge_claims(hardware: Hardware) -> Claims:
    """Run the calibration workload on `hardware` and judge every claim of the paper for it.

    Raises ConfigError as `calibrate` does.
    """
    calibration = calibrate(hardware)
    figures = calibration_figures(calibration)
    foundation = Result(calibration.simulation).foundation.document()
    token = _own_token(figures, hardware)
    claims = _own(calibration, figures, foundation, token)
    for name, figure in all_published().figures.items():
        if figure.gpu is not None:
            kind = "energy" if "energy" in name else "latency"
            assumed = foundation[kind]["assumed"]
            claims.append(_ratio(name, figure, figures, hardware, assumed))
    return Claims(hardware, (*claims, _accuracy(hardware, token)))


def _own_token(figures: AcceleratorFigures, hardware: Hardware) -> tuple[float, float] | None:
    """Time (s) and energy (J) of a whole token here; None for heads that are not GPT-2 small's."""
    try:
        cost = accelerator_token(figures, hardware.config.digital, GPT2_SMALL)
    except ConfigError:
        return None
    return cost.latency_s, cost.energy_j


def _own(
    calibration: Calibration,
    figures: AcceleratorFigures,
    foundation: dict[str, dict[str, float]],
    token: tuple[float, float] | None,
) -> list[Claim]:
    """Latency, energy and area, on the calibration workload."""
    time, energy = token or (None, None)
    hardware = calibration.simulation.hardware
    design = _published_design(hardware)
    layers, visits = GPT2_SMALL.layers, GPT2_SMALL.layers * GPT2_SMALL.heads
    latency = Finding(calibration.attention_ns, "simulated", "one layer, ready to latched")
    rows: list[tuple[str, str, str, float, Finding | None, float | None]] = [
        ("attention_latency", "attention latency", "latency", calibration.attention_ns, latency,
         None if time is None else time * 1e9 / layers),
        ("energy_head_stated", "energy of a head", "energy", calibration.total_pj() * 1e-3, None,
         None if energy is None else energy * 1e9 / visits),
        ("head_area", "area of a head", "area", figures.area_m2 * 1e6 / figures.heads, None, None),
    ]  # fmt: skip
    found = []
    for name, label, total, value, fair, whole in rows:
        figure = published(name)
        here = Finding(value, "simulated", "calibration workload, full window")
        fitted = _choices(name, hardware, design)
        verdict, reason = own_verdict(figure.value, here, fitted, figures.window)
        found.append(
            Claim(
                name, label, figure.value, figure.unit, figure.what, here, None, fair, None,
                None if whole is None
                else Finding(whole, "assumed", "everything in a token, shared out; engine assumed"),
                foundation[total]["assumed"],
                _fitted_flaw(figure.value, here, fitted), verdict, reason,
            )
        )  # fmt: skip
    return found


def _published_design(hardware: Hardware) -> Hardware:
    """The published design; `hardware` itself where it has its values of what was chosen."""
    behind = frozenset().union(*all_published().met_by.values())
    same = hardware.is_published and not behind.intersection(hardware.overridden)
    return hardware if same else load_hardware()


def _choices(name: str, hardware: Hardware, design: Hardware) -> Choices:
    known = sorted(all_published().met_by[name])
    own = tuple(key for key in known if leaf(hardware, key) != leaf(design, key))
    return Choices(tuple(key for key in known if key not in own), own)


def _fitted_flaw(stated: float, here: Finding, choices: Choices) -> str:
    """What is wrong with an agreement; nothing where there is none to explain."""
    if not choices.chosen or not agrees(stated, here.value):
        return ""
    return f"chosen or fitted so that it holds: {', '.join(choices.chosen)}"


def _ratio(
    name: str,
    figure: PublishedFigure,
    figures: AcceleratorFigures,
    hardware: Hardware,
    assumed: float,
) -> Claim:
    """A GPU's time or energy over the accelerator's."""
    assert figure.gpu is not None
    gpu, energy = load_gpu(figure.gpu), "energy" in name
    request = Request(("paper", "latency", "throughput"), batch=PAPER_STEP.batch)
    rows = compare(figures, [gpu], request).rows

    def first(protocol: str, sources: Sequence[str]) -> Finding | None:
        for source in sources:
            for row in rows:
                if (row.protocol, row.source) == (protocol, source):
                    cell = _ratio_cell(row, energy, protocol == "paper" and _by_authors(gpu))
                    if cell is not None:
                        return cell
        return None

    here, authors = first("paper", ["model"]), first("paper", ["measured"])
    latency = first("latency", ["measured", "model"])
    throughput = first("throughput", ["measured", "model"])
    verdict, reason = ratio_verdict(figure.value, authors, latency, throughput)
    if authors is None and figures.shape != PAPER_SHAPE:
        reason = f"the authors' protocol is {other_shape(PAPER_SHAPE, figures)}"
    stated_alone = "" if _by_authors(gpu) else figure.where
    flaws = [stated_alone, PAPER_FLAWS["energy" if energy else "time"]]
    return Claim(
        name,
        f"{gpu.name}: {'energy' if energy else 'time'}",
        figure.value,
        figure.unit,
        figure.what,
        here,
        authors,
        latency,
        throughput,
        _moved(gpu, figures, hardware, energy),
        assumed,
        "; ".join(flaw for flaw in flaws if flaw),
        verdict,
        reason,
    )


def _by_authors(gpu: Gpu) -> bool:
    """Whether the authors published their measurement of it."""
    return any(point.protocol == "paper" for point in gpu.measurements)


def _ratio_cell(row: ComparisonRow, energy: bool, by_authors: bool) -> Finding | None:
    value = row.energy_ratio if energy else row.speedup
    if value is None:
        return None
    how = f"batch {row.batch}, {row.precision}, {row.kind}"
    if row.kernel is not None:
        how += f", {row.kernel}"
    if row.above_idle and energy:
        how += ", above idle power"
    if row.source == "measured":
        how += ", by the authors" if by_authors else f", {row.date}" if row.date else ""
        return Finding(value, "measured", how)
    errors = (
        (row.energy_error, row.expected_energy_error)
        if energy
        else (row.latency_error, row.expected_latency_error)
    )
    known, expected = errors
    if known is None:
        return Finding(value, "modelled", how, expected)
    return Finding(value, "modelled", how, abs(known), known, row.error_fitted)


def _moved(
    gpu: Gpu, figures: AcceleratorFigures, hardware: Hardware, energy: bool
) -> Finding | None:
    """What a token of GPT-2 small gains on `gpu`, batch 1, if its attention moves here."""
    try:
        found = compare_models(figures, hardware.config.digital, [gpu], Request(("latency",)))
    except ConfigError:
        return None
    for row in found.rows:
        gain = _gain(row, energy)
        if gain is not None:
            share = f"attention {100 * row.attention_latency_share:.1f} % of it"
            how = (
                f"token {_ORIGIN[row.source]}, {share}, link assumed; at most "
                f"{row.attention_only_bound:.2f}x in time"
            )
            return Finding(gain, "assumed", how)
    return None


def _gain(row: ModelRow, energy: bool) -> float | None:
    if not energy:
        return row.attention_only_speedup
    if row.energy_mj is None or row.moved_energy_mj is None:
        return None
    return row.energy_mj / row.moved_energy_mj


def _accuracy(hardware: Hardware, token: tuple[float, float] | None) -> Claim:
    """What attention here costs the shipped adapted model, and at a whole token's age."""
    figure = published("accuracy")
    stated = published("loss_adapted").value - published("loss_gpt2").value
    authors = Finding(
        stated,
        "published",
        f"{published('loss_adapted').value} against {published('loss_gpt2').value} nats on "
        "OpenWebText, as the authors trained",
    )
    here, whole, flaw = _losses(hardware, None if token is None else token[0])
    verdict, reason = accuracy_verdict(authors, here, whole)
    return Claim(
        "accuracy", figure.statement, None, "nats", figure.what, here, authors, None, None, whole,
        None, flaw, verdict, reason,
    )  # fmt: skip


def _losses(
    hardware: Hardware, token_s: float | None
) -> tuple[Finding | None, Finding | None, str]:
    """Extra loss of the shipped model as configured and at a token's true age; and the flaw."""
    import numpy as np

    from archsim.models.adapted import adapted_hardware, load_adapted, shipped_adapted
    from archsim.traces.folder import default_trace_name
    from archsim.traces.trace import load_trace

    retention = hardware.config.retention
    aged = hardware
    if token_s is None or retention.model == "simulated":
        return None, None, "the model's loop does not run on it"
    if retention.model != "off":
        period = {"retention.model": "nominal", "retention.token_period": f"{token_s * 1e6!r} us"}
        aged = hardware.changed(period)
    folder = shipped_adapted()
    adapted = load_adapted(folder)
    ids = load_trace(default_trace_name()).token_ids.astype(np.int64)[None]
    variants = [
        Variant(name, adapted.model, AnalogLoop(each.config, adapted.scalers))
        for name, each in (("configured", hardware), ("whole token", aged))
    ]
    software, *rows = measure(Variant("software", adapted.software), variants, ids)
    shape = adapted.model.config
    model = f"a model of {shape.n_layer} layers x {shape.n_head} heads, not GPT-2"
    ageing = f"cells age by {token_s * 1e6:.1f} us a token"
    details = (model, f"the same, {'cells hold for ever' if retention.model == 'off' else ageing}")
    origins: tuple[Origin, ...] = ("simulated", "assumed")  # how long a token takes is assumed
    here, whole = (
        Finding(
            row.loss - software.loss,
            origin,
            f"{detail}: {row.loss:.3f} against {software.loss:.3f} nats",
        )
        for row, origin, detail in zip(rows, origins, details, strict=True)
    )
    made_for = hardware
    if adapted.manifest.hardware_sha256 != hardware.sha256:
        made_for = load_hardware(adapted_hardware(folder))
    learnt = made_for.config.retention
    if learnt.model != "per_token":
        return here, whole, f"archsim runs {model}"
    stretch = f"{learnt.decay_per_token * learnt.tau * 1e6:.2g} us"
    return here, whole, f"trained as if a token took {stretch}; archsim runs {model}"
