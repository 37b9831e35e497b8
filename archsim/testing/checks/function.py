"""What a head computes: against the digital twin, the mathematics, and by every engine."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from archsim.chip.activity import Activity
from archsim.chip.laws import Laws
from archsim.chip.quantiser import Quantiser
from archsim.chip.readouts.law import ReadoutLaw
from archsim.config.voltages import VoltageRange
from archsim.datapath.activity import AttentionOutput
from archsim.datapath.ages import Ages
from archsim.datapath.attention import attend_layer
from archsim.datapath.fused import unknown
from archsim.datapath.one_head import HeadEngine, attend_head
from archsim.machine.compiled import NotCompiledError, available
from archsim.machine.workspace import Workspace
from archsim.simulation import cell_ages
from archsim.testing.cases import LAYERS, Run
from archsim.testing.twin import JUMP, NEAR, Twin, attend

Array = NDArray[np.float64]

LAYER = LAYERS - 1
"""The layer that is computed in all ways."""

TWIN, MATHEMATICS, ENGINES = "digital twin", "mathematics", "function engines"


@dataclass(frozen=True)
class _Head:
    """One head's input, as the run had it."""

    q: Array
    k: Array
    v: Array
    scalers: dict[str, tuple[float, float]]
    ages: Ages


def _layer_ages(run: Run) -> Ages | None:
    """The ages of the layer that is looked at; None where they are counted in tokens alone."""
    found = cell_ages(run.trial.hardware, run.simulation.head, run.simulation.schedule)
    return None if found is None else found[LAYER]


def _inputs(run: Run) -> list[_Head]:
    trace, laws, ages = run.trial.trace, run.simulation.head.laws, _layer_ages(run)
    if ages is None:
        ages = Ages.per_token(trace.heads, trace.tokens, laws.decay_per_token)
    scalers = trace.scalers_on(VoltageRange.of(run.trial.hardware.config.cell))
    q, k, v = trace.layer(LAYER)
    return [
        _Head(
            q[h],
            k[h],
            v[h],
            {n: (float(a[LAYER, h]), float(b[LAYER, h])) for n, (a, b) in scalers.items()},
            ages.head(h),
        )
        for h in range(trace.heads)
    ]


def check(run: Run) -> dict[str, str]:
    """What was found out, by the name of the check; raises ConformError."""
    inputs = _inputs(run)
    with run.trial.during(TWIN):
        twins = [_twin(each, run.simulation.head.laws) for each in inputs]
        certain = _held_against_twin(run, inputs, twins)
    found = {TWIN: f"equal{_apart(certain, len(twins) * len(twins[0].y))}"}
    with run.trial.during(ENGINES):
        found[ENGINES] = _engines(run, inputs, twins)
    return found


def _apart(certain: int, tokens: int) -> str:
    """How many tokens could not be compared."""
    return f"; {tokens - certain} of {tokens} tokens on a step of a law" if certain < tokens else ""


def _twin(head: _Head, laws: Laws) -> Twin:
    return attend(head.q, head.k, head.v, laws, head.scalers, head.ages)


def _held_against_twin(run: Run, inputs: list[_Head], twins: list[Twin]) -> int:
    """Every head of a layer against its twin; how many tokens were certain."""
    trace, laws = run.trial.trace, run.simulation.head.laws
    pairs = {
        n: (
            np.array([head.scalers[n][0] for head in inputs]),
            np.array([head.scalers[n][1] for head in inputs]),
        )
        for n in inputs[0].scalers
    }
    q, k, v = trace.layer(LAYER)
    layer = attend_layer(q, k, v, laws, pairs, details=True, ages=_layer_ages(run))
    certain = 0
    for h, twin in enumerate(twins):
        sure = ~twin.doubtful
        certain += int(np.count_nonzero(sure))
        for name in ("scores", "pulse_widths", "codes", "partials", "y"):
            if (found := getattr(layer, name)) is not None:
                _equal(run, TWIN, f"{name} of head {h}", getattr(twin, name), found[h], sure)
        for field in fields(Activity):
            expected, found = (getattr(a, field.name) for a in (twin.activity, layer.activity))
            _equal(run, TWIN, f"activity {field.name} of head {h}", expected, found[h], sure)
            simulated = getattr(run.simulation.function[LAYER].activity, field.name)
            what = f"activity {field.name} of head {h} as simulated"
            _equal(run, TWIN, what, found[h], simulated[h], sure)
    if certain == 0:
        raise run.trial.fault(TWIN, "every token has a value on a step of a law")
    return certain


def _equal(
    run: Run, check: str, what: str, expected: Array, found: Array, sure: NDArray[np.bool_]
) -> None:
    """Raises ConformError with the first token (the arrays' first axis) at which two differ."""
    scale = max(float(np.abs(expected).max(initial=0.0)), 1.0)
    close = np.isclose(found, expected, rtol=1e-9, atol=1e-9 * scale)  # NaN is not
    wrong = np.argwhere(~close & sure.reshape(-1, *[1] * (expected.ndim - 1)))
    if len(wrong):
        place = tuple(wrong[0])
        values = f"expected {expected[place]:.9g}, found {found[place]:.9g}"
        index = "" if len(place) == 1 else f" [{', '.join(str(n) for n in place[1:])}]"
        raise run.trial.fault(check, f"{what}, token {place[0]}{index}: {values}")


def _engines(run: Run, inputs: list[_Head], twins: list[Twin]) -> str:
    """Every engine of the datapath: the same, or a reason why it does not run."""
    laws = run.simulation.head.laws
    reason = unknown(laws) if available() else "numba is not installed"
    for h, (head, twin) in enumerate(zip(inputs, twins, strict=True)):
        sure = ~twin.doubtful
        plain = _attend(head, laws)
        _same(run, f"cell by cell, head {h}", plain, _attend(head, laws, direct=True), sure)
        single = _attend(head, laws, dtype="float32")
        if not np.isfinite(single.y).all():
            raise run.trial.fault(ENGINES, f"float32, head {h}: y is not finite")
        try:
            fused = _attend(head, laws, compiled=True) if available() else plain
        except NotCompiledError as error:
            reason = str(error)
            continue
        _same(run, f"compiled, head {h}", plain, fused, np.ones(len(sure), np.bool_), exact=True)
    return "equal" if reason is None else f"equal; compiled loops not used: {reason}"


def _attend(
    head: _Head, laws: Laws, compiled: bool = False, direct: bool = False, dtype: str = "float64"
) -> AttentionOutput:
    retention = None
    if direct and head.ages.keys.rate == head.ages.values.rate:
        rate = head.ages.keys.rate

        def retention(age: Array) -> Array:
            left: Array = np.exp(-rate * age)
            return left

    engine = HeadEngine(laws, np.dtype(dtype), compiled, Workspace(), retention, False, False)
    return attend_head(head.q, head.k, head.v, engine, head.scalers, head.ages)


def _same(
    run: Run,
    engine: str,
    plain: AttentionOutput,
    other: AttentionOutput,
    sure: NDArray[np.bool_],
    exact: bool = False,
) -> None:
    pairs = [("y", plain.y, other.y)]
    pairs += [
        (f"activity {f.name}", getattr(plain.activity, f.name), getattr(other.activity, f.name))
        for f in fields(Activity)
    ]
    for name, expected, found in pairs:
        _equal(run, ENGINES, f"{name}, {engine}", expected, found, sure)
        if exact and not np.array_equal(expected, found):
            raise run.trial.fault(ENGINES, f"{name}, {engine}: not the same bits as numpy")


def check_mathematics(run: Run) -> dict[str, str]:
    """With ideal quantisers and no decay a head computes
    ``y = a sum_j f(sum_n q_n I(k_jn) / S_sat) I(v_j) / A_sat + b`` over its window.
    """
    with run.trial.during(MATHEMATICS):
        laws = run.simulation.head.laws
        if type(laws.readout) is not ReadoutLaw:
            return {MATHEMATICS: f"not known of a {type(laws.readout).__name__}"}
        exact = replace(laws, readout=_without_steps(laws.readout))
        for h, head in enumerate(_inputs(run)):
            expected, sure = _formula(head, exact)
            found = _attend(head, exact).y
            _equal(run, MATHEMATICS, f"y of head {h}", expected, found, sure)
    return {MATHEMATICS: "equal"}


def _without_steps(readout: ReadoutLaw) -> ReadoutLaw:
    """The readout with ideal quantisers."""
    conversion = readout.conversion
    if conversion is not None:
        ideal = Quantiser(None, conversion.quantiser.low, conversion.quantiser.high)
        conversion = replace(conversion, quantiser=ideal, edges=15.0)
    return replace(readout, conversion=conversion, widths=None)


def _formula(head: _Head, laws: Laws) -> tuple[Array, NDArray[np.bool_]]:
    """The mathematics of one head, (tokens, features); where no score lies on a step."""
    q, k, v = (
        head.scalers[n][0] * x + head.scalers[n][1]
        for n, x in (("q", head.q), ("k", head.k), ("v", head.v))
    )
    token = np.arange(len(q))
    seen = (token <= token[:, None]) & (token > token[:, None] - laws.ring.window)
    score = q @ laws.cell.current(k - laws.mid_rail).T / laws.readout.saturation
    activation = laws.readout.activation
    widths, low, high = (
        activation.pulses(score + off, np.empty_like(score)) * seen for off in (0.0, -NEAR, NEAR)
    )
    sure = (np.abs(high - low) <= JUMP).all(axis=1)
    a, b = head.scalers["output"]
    y = a * (widths @ laws.cell.current(v - laws.mid_rail)) / laws.output.full_scale + b
    return y, sure
