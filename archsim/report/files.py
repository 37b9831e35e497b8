"""A result as files: JSON, CSV tables and the resolved config, the same bytes for the same run."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.accuracy.trace_loop import InLoop
from archsim.chip.action import Action, rests_on
from archsim.datapath.attention import Precision
from archsim.errors import ConfigError
from archsim.figures import columns
from archsim.files import atomic_path
from archsim.hardware.load import Hardware
from archsim.hardware.show import OPENING, show_config
from archsim.result import Result, grade
from archsim.timing.analysis import attention_latency, layer_latency, queueing
from archsim.traces.trace import Trace
from archsim.units import PICOJOULE, SQUARE_MICROMETRE, SQUARE_MILLIMETRE

Array = NDArray[np.float64]


STANDS_ON = ("grade", "rests_on")
TOKEN_COLUMNS = ("layer", "token", *columns("tokens.csv"))
ENERGY_COLUMNS = ("component", "action", "bucket", *columns("energy.csv"), *STANDS_ON)
AREA_COLUMNS = ("component", *columns("area.csv"), *STANDS_ON)
UTILISATION_COLUMNS = ("resource", *columns("utilisation.csv"))
"""Heads of the CSV files: what a row is of, then its figures (`archsim.figures`)."""

_OPENINGS = {
    "tokens.csv": ",".join(TOKEN_COLUMNS),
    "energy.csv": ",".join(ENERGY_COLUMNS),
    "area.csv": ",".join(AREA_COLUMNS),
    "utilisation.csv": ",".join(UTILISATION_COLUMNS),
    "config.yaml": OPENING,
    "result.json": '{\n  "schema_version"',
}
"""How each of our files begins: a file of the same name that begins otherwise is not ours."""


def default_folder(
    hardware: Hardware, trace: Trace, known: int, precision: Precision = "float64"
) -> Path:
    """``reports/<hardware>-<trace>-<hash>`` below the current folder.

    The hash is of everything that decides the result (`known`: tokens of the prompt), so that
    different runs do not share a folder.
    """
    decides = f"{hardware.sha256} {trace.sha256} {known} {precision}"
    short = hashlib.sha256(decides.encode()).hexdigest()[:8]
    return Path("reports") / f"{hardware.name}-{trace.name}-{short}"


def check_folder(folder: Path, force: bool = False) -> None:
    """Raise ConfigError if `folder` is a file, or a file in its way was not written by archsim.

    With `force` such a file in the way will be replaced.
    """
    try:
        taken = folder.exists() and not folder.is_dir()
    except OSError as error:
        raise ConfigError(f"{str(folder)[:80]}: cannot be a folder ({error.strerror})") from None
    if taken:
        raise ConfigError(f"{folder}: is not a folder")
    for name, opening in _OPENINGS.items():
        path = folder / name
        try:
            with path.open("rb") as stream:
                ours = stream.read(len(opening)) == opening.encode()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
        if not ours and not force:
            raise ConfigError(f"{path}: not written by archsim; use another folder or --force")


def whole_document(result: Result, loop: InLoop | None, wall: bool = True) -> dict[str, Any]:
    """`Result.document` with what the hardware costs the model of the trace, if known."""
    document = result.document(wall=wall)
    if loop is None:
        return document
    return document | {"function": document["function"] | {"in_loop": loop}}


def write_result(
    result: Result, folder: Path, force: bool = False, loop: InLoop | None = None
) -> list[Path]:
    """Write all files of a result into `folder`; returns their paths.

    ``result.json`` (without wall time), ``tokens.csv`` (one row a layer and token, ns and pJ;
    `start_ns` of the first head, `last_start_ns` of the last, whose wait `queue_ns` is),
    ``energy.csv`` (one row an action, pJ of the run), ``area.csv`` (one head), ``utilisation.csv``
    and ``config.yaml``, which loads again. Every file is whole before the first gets its name.

    Raises ConfigError as `check_folder` does, or if the folder cannot be written.
    """
    check_folder(folder, force)
    document = whole_document(result, loop, wall=False)
    texts = {
        "tokens.csv": csv_text(TOKEN_COLUMNS, _tokens(result)),
        "energy.csv": csv_text(ENERGY_COLUMNS, _energy(result)),
        "area.csv": csv_text(AREA_COLUMNS, _area(result)),
        "utilisation.csv": csv_text(UTILISATION_COLUMNS, _utilisation(result)),
        "config.yaml": show_config(result.simulation.hardware),
        "result.json": json.dumps(document, indent=2, allow_nan=False) + "\n",
    }
    with ExitStack() as stack:
        for name, text in texts.items():
            temporary = stack.enter_context(atomic_path(folder / name))
            temporary.write_bytes(text.encode())
    return [folder / name for name in texts]


def visit_energy_pj(result: Result) -> dict[Action, Array]:
    """pJ of every action, (tokens, layers, heads).

    What is posted once for the run (static, refresh) is divided equally over the tokens.
    """
    tokens = result.simulation.trace.tokens
    energies = {}
    for posting in result.simulation.ledger:
        rows, *rest = posting.energy.shape
        each = posting.energy * (PICOJOULE.per_si * rows / tokens)
        energies[posting.action] = np.broadcast_to(each, (tokens, *rest))
    return energies


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV table with its head; None is an empty field."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue()


def _tokens(result: Result) -> Iterable[Sequence[object]]:
    schedule = result.simulation.schedule
    per_ns = result.simulation.declaration.clock.per_ns
    energy = sum(visit_energy_pj(result).values(), np.zeros(())).sum(axis=2)
    values = [
        schedule.ready / per_ns,
        schedule.entered.min(axis=2) / per_ns,
        schedule.entered.max(axis=2) / per_ns,
        schedule.latched.max(axis=2) / per_ns,
        layer_latency(schedule) / per_ns,
        attention_latency(schedule) / per_ns,
        queueing(schedule) / per_ns,
        energy,
    ]
    table = np.stack(values, axis=-1)  # (tokens, layers, columns)
    for layer in range(table.shape[1]):
        for token, row in enumerate(table[:, layer].tolist()):
            yield (layer, token, *row)


def _energy(result: Result) -> Iterable[Sequence[object]]:
    hardware = result.simulation.hardware
    for posting in result.simulation.ledger:
        action = posting.action
        yield (
            action.component,
            action.name,
            action.bucket,
            posting.energy.size,
            posting.operations,
            PICOJOULE.of(posting.total),
            grade(hardware, action.laws),
            " ".join(rests_on(hardware.config, action.laws)),
        )


def _area(result: Result) -> Iterable[Sequence[object]]:
    hardware = result.simulation.hardware
    for block in result.simulation.head.footprints(result.simulation.trace.heads):
        yield (
            block.component,
            block.instances,
            SQUARE_MICROMETRE.of(block.area_each),
            SQUARE_MILLIMETRE.of(block.area),
            grade(hardware, block.laws),
            " ".join(rests_on(hardware.config, block.laws)),
        )


def _utilisation(result: Result) -> Iterable[Sequence[object]]:
    declaration = result.simulation.declaration
    for name, share in result.simulation.utilisation.items():
        resource = declaration.resource(name)
        yield name, resource.capacity, resource.heads, resource.units, share
