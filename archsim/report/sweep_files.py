"""A sweep as files: JSON, CSV or Parquet, and charts where Altair is installed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from archsim.errors import ConfigError, MissingExtraError
from archsim.files import atomic_path
from archsim.report.sweep import point_rows, sweep_document
from archsim.sweeps.exploration import Exploration
from archsim.sweeps.expression import Value


def default_folder(exploration: Exploration) -> Path:
    """``reports/sweep-<name>-<hash>`` below the current folder; the hash is of the sweep."""
    sweep = exploration.sweep
    how = "" if sweep.aggregate is None else f"-{sweep.aggregate}"
    return Path("reports") / f"sweep-{sweep.name}{how}-{sweep.sha256[:8]}"


def csv_text(rows: Sequence[dict[str, Value]]) -> str:
    """Rows of `point_rows` as CSV; what does not exist is empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def write_sweep(exploration: Exploration, folder: Path) -> tuple[list[Path], str]:
    """Write ``sweep.json``, ``points.csv`` and the charts; returns paths and a note if without.

    Raises ConfigError if the folder cannot be written.
    """
    contents: dict[str, bytes] = {
        "sweep.json": (
            json.dumps(sweep_document(exploration), indent=1, allow_nan=False) + "\n"
        ).encode(),
        "points.csv": csv_text(point_rows([exploration])).encode(),
    }
    missing = ""
    stamp = _stamp(contents["sweep.json"])
    names = _drawn(folder, stamp)
    if not names:
        try:
            from archsim.report.sweep_charts import charts

            drawn = charts(exploration)
            names = list(drawn)
            if drawn:
                drawn[PAGE] += f"<!-- {stamp} {' '.join(names)} -->\n".encode()
            contents |= drawn
        except MissingExtraError as error:
            missing = str(error)
    with ExitStack() as stack:
        for name, content in contents.items():
            stack.enter_context(atomic_path(folder / name)).write_bytes(content)
    return [folder / name for name in dict.fromkeys([*contents, *names])], missing


PAGE = "sweep.html"


def _stamp(document: bytes) -> str:
    """What charts are made from: the points, and the code that draws them."""
    digest = hashlib.sha256(document)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _drawn(folder: Path, stamp: str) -> list[str]:
    """Names of the charts that a folder has already, made from just this; none if one is gone."""
    try:
        last = (folder / PAGE).read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
    except (OSError, UnicodeDecodeError):
        return []
    words = last.split()
    if words[:2] != ["<!--", stamp] or words[-1] != "-->":
        return []
    names = words[2:-1]
    return names if all((folder / name).is_file() for name in names) else []


def export(explorations: Sequence[Exploration], path: Path) -> int:
    """Write every point of sweeps to one ``.csv`` or ``.parquet`` file; returns the rows.

    Raises ConfigError for another ending, MissingExtraError for Parquet without PyArrow.
    """
    rows = point_rows(explorations)
    if path.suffix == ".csv":
        with atomic_path(path) as temporary:
            temporary.write_text(csv_text(rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        _write_parquet(rows, path)
    else:
        raise ConfigError(f"{path}: export to a name that ends in .parquet or .csv")
    return len(rows)


def _write_parquet(rows: Sequence[dict[str, Value]], path: Path) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError(
            "export to Parquet needs PyArrow: pip install 'archsim[sweep]'; or export to .csv"
        ) from None
    columns: dict[str, list[Any]] = {}
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        kinds = {type(value) for value in values} - {type(None)}
        if kinds == {int, float}:
            values = [None if value is None else float(value) for value in values]
        elif len(kinds) > 1:  # an axis over numbers and words
            values = [None if value is None else str(value) for value in values]
        columns[name] = values
    table = pyarrow.table(columns)
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary)
