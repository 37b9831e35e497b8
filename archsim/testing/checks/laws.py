"""The laws of a head: frozen, hashed, the same in another process, and such that they can be."""

from __future__ import annotations

import math
import pickle
from dataclasses import is_dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.chip.cell import CellLaw, swing
from archsim.chip.laws import Laws, laws_of
from archsim.config.section import reads_recorded
from archsim.testing.cases import Trial
from archsim.testing.twin import one

Array = NDArray[np.float64]

LAWS, CELL, ACTIVATION = "laws", "cell current", "activation"


def check(trial: Trial) -> None:
    """Raises ConformError for laws that cannot be kept, sent or relied upon."""
    with trial.during(LAWS):
        config = trial.hardware.config
        laws, again = (laws_of(config, trial.trace.head_dim) for _ in range(2))
        for name, law in _parts(laws):
            _check_frozen(trial, name, law)
        if laws.sha256 != again.sha256:
            raise trial.fault(LAWS, "equal configs, but laws with different hashes")
        copy = pickle.loads(pickle.dumps(again))
        if copy.sha256 != laws.sha256:
            raise trial.fault(LAWS, "another hash after pickling, as worker processes do")
        with reads_recorded() as reads:  # a law that is asked for a number must not ask the config
            laws.cell.current(np.zeros(1))
            laws.readout.pulses(np.zeros(1))
        if reads:
            raise trial.fault(LAWS, "a law reads the config, which its hash does not know")
    with trial.during(CELL):
        mid_rail, supply = swing(config)
        _check_cell(trial, laws.cell, -mid_rail, supply - mid_rail)
    with trial.during(ACTIVATION):
        _check_activation(trial, laws)


def _parts(laws: Laws) -> list[tuple[str, object]]:
    return [
        ("the cell's law", laws.cell),
        ("the readout's law", laws.readout),
        ("the activation", laws.readout.activation),
        *([("the conversion", laws.readout.conversion)] if laws.readout.conversion else []),
    ]


def _check_frozen(trial: Trial, name: str, law: object) -> None:
    kind = type(law)
    frozen = is_dataclass(kind) and getattr(kind, "__dataclass_params__").frozen  # noqa: B009
    if not frozen:
        raise trial.fault(
            LAWS, f"{name}, {kind.__name__}, is no frozen dataclass of numbers and arrays"
        )


def _check_cell(trial: Trial, law: CellLaw, low: float, high: float) -> None:
    """Finite over the whole swing, of the shape of what it is given, cell by cell the same."""
    deviation = np.linspace(low, high, 1000).reshape(4, 250)
    given = deviation.copy()
    current = law.current(deviation)
    if not np.array_equal(given, deviation):
        raise trial.fault(CELL, "the law changes the deviations that it is given")
    if current.shape != deviation.shape:
        raise trial.fault(CELL, f"expected the shape {deviation.shape}, found {current.shape}")
    wrong = np.argwhere(~np.isfinite(current))
    if len(wrong):
        place = tuple(wrong[0])
        raise trial.fault(CELL, f"{current[place]} uA at a deviation of {deviation[place]:.4g} V")
    for n in (0, 77, 249):
        alone = float(law.current(one(float(deviation[2, n])))[0])
        if not math.isclose(alone, float(current[2, n]), rel_tol=1e-12, abs_tol=1e-12):
            raise trial.fault(CELL, "a cell's current depends on other cells")


def _check_activation(trial: Trial, laws: Laws) -> None:
    """0 at 0, between 0 and 1, never decreasing; also through the quantiser of pulses."""
    score = np.linspace(-3.0, 3.0, 601)
    activation = laws.readout.activation.pulses(score, np.empty_like(score))
    for what, widths in (("f", activation), ("P", laws.readout.pulses(score.copy()))):
        if widths.shape != score.shape or not np.isfinite(widths).all():
            raise trial.fault(ACTIVATION, f"{what} of {score.shape} scores is not so many numbers")
        if widths[300] != 0.0:
            raise trial.fault(ACTIVATION, f"{what}(0): expected 0, found {widths[300]:g}")
        outside = np.flatnonzero((widths < 0.0) | (widths > 1.0))
        if len(outside):
            x, width = score[outside[0]], widths[outside[0]]
            raise trial.fault(ACTIVATION, f"{what}({x:g}): expected 0 to 1, found {width:g}")
        falls = np.flatnonzero(np.diff(widths) < 0.0)
        if len(falls):
            n = int(falls[0])
            raise trial.fault(
                ACTIVATION,
                f"{what} decreases, from {widths[n]:g} at {score[n]:g} to {widths[n + 1]:g} at "
                f"{score[n + 1]:g}",
            )
    in_place = score.copy()
    laws.readout.activation.pulses(in_place, out=in_place)
    if not np.array_equal(in_place, activation):
        raise trial.fault(ACTIVATION, "in place, and into single precision, it must do the same")
