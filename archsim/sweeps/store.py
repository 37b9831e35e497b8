"""Results of points in one SQLite file: keyed by content, written with WAL and full sync.

What `save` has returned from survives any kill. Sweeps share results: a point that any of them ran
is never run again. Several drivers on one machine may use one store at once: a point in work is
claimed, and a claim whose driver died counts for nothing.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from archsim.errors import ConfigError, CorruptInputError, one_line
from archsim.notes import AdaptedTo, Difference
from archsim.sweeps.design import Parameters
from archsim.sweeps.point import LASTING, Outcome, Status, model_version

FORMAT = 2
APPLICATION_ID = 0x61726373  # "arcs"
BUSY_S = 120.0

_SCHEMA = """
CREATE TABLE points (
    key TEXT PRIMARY KEY, status TEXT NOT NULL, results TEXT, reason TEXT NOT NULL,
    model TEXT NOT NULL, wall_s REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE claims (
    key TEXT PRIMARY KEY, process INTEGER NOT NULL, born TEXT NOT NULL,
    owner TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE sweeps (
    id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
    definition TEXT NOT NULL, used REAL NOT NULL
);
CREATE TABLE members (
    sweep INTEGER NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL, parameters TEXT NOT NULL,
    loss TEXT NOT NULL DEFAULT '', PRIMARY KEY (sweep, position)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Member:
    """A point of one sweep: its place, its content key and its parameters.

    `loss`: key of its loss, where the sweep measures that.
    """

    position: int
    key: str
    parameters: Parameters
    loss: str = ""


@dataclass(frozen=True)
class StoredSweep:
    """A sweep that was begun in a store."""

    id: int
    sha256: str
    name: str
    definition: dict[str, Any]


def _birth(process: int) -> str | None:
    """When a process was started, in the system's own count; None if there is none such."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
        return text.rpartition(")")[2].split()[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:  # no /proc on this system: alive or not is all that can be known
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "alive"
    return "alive"


class Store:
    """An open store; use it as a context."""

    def __init__(self, path: str | Path, create: bool = True) -> None:
        """Open or create a store.

        Raises ConfigError if it is not there or cannot be written, CorruptInputError if the file
        is damaged or is something else.
        """
        self.path = Path(path)
        if not self.path.is_file():
            if not create:
                raise ConfigError(f"{self.path}: no such store")
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"{self.path}: cannot be made ({error.strerror})") from None
        self._born, self._owner = _birth(os.getpid()) or "", uuid.uuid4().hex
        try:
            self._base = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
        except sqlite3.Error as error:
            raise ConfigError(f"{self.path}: cannot be opened ({one_line(error, 120)})") from None
        try:
            with self._faults():
                self._write_ahead()
                self._base.execute("PRAGMA synchronous=FULL")
                with self._transaction():
                    self._check_format()
        except BaseException:
            self._base.close()
            raise

    def _write_ahead(self) -> None:
        """Switch the file to WAL. SQLite waits for no other writer there: two that switch at once
        might wait for each other.
        """
        until = time.monotonic() + BUSY_S
        while True:
            try:
                self._base.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # and its kinds
                if not busy or time.monotonic() > until:
                    raise
            time.sleep(0.01)

    def _check_format(self) -> None:
        (application,) = self._base.execute("PRAGMA application_id").fetchone()
        (version,) = self._base.execute("PRAGMA user_version").fetchone()
        (tables,) = self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables == 0 and application == 0:
            for statement in _SCHEMA.split(";"):
                if statement.strip():
                    self._base.execute(statement)
            self._base.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self._base.execute(f"PRAGMA user_version={FORMAT}")
        elif application != APPLICATION_ID:
            raise ConfigError(f"{self.path}: a SQLite file, but no store of archsim sweep")
        elif version == 1:  # before there were losses
            self._base.execute("ALTER TABLE members ADD COLUMN loss TEXT NOT NULL DEFAULT ''")
            self._base.execute(f"PRAGMA user_version={FORMAT}")
        elif version != FORMAT:
            raise ConfigError(f"{self.path}: store format {version}, this archsim has {FORMAT}")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; claims made through this store are given back."""
        try:
            with self._faults():
                self._base.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))
        finally:
            self._base.close()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            text = one_line(error, 120)
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in text:
                raise ConfigError(f"{self.path}: {text}") from None
            raise CorruptInputError(f"{self.path}: not a store, or damaged ({text})") from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._commit()

    def _commit(self) -> None:
        """The moment a result is acknowledged; tests kill the driver around it."""
        self._base.execute("COMMIT")

    def known(self, keys: Iterable[str]) -> dict[str, Outcome]:
        """What the store has of some keys."""
        found = {}
        wanted = list(dict.fromkeys(keys))
        with self._faults():
            for first in range(0, len(wanted), 500):
                part = wanted[first : first + 500]
                marks = ",".join("?" * len(part))
                rows = self._base.execute(
                    "SELECT key, status, results, reason, wall_s FROM points "
                    f"WHERE key IN ({marks})",
                    part,
                )
                found.update({row[0]: _outcome(row) for row in rows})
        return found

    def save(self, outcomes: Sequence[Outcome]) -> None:
        """Keep results: all of them or, if the process dies before this returns, none.

        What is there and lasts is never replaced.
        """
        if not outcomes:
            return
        lasting = ",".join(f"'{status}'" for status in LASTING)
        with self._faults(), self._transaction():
            for o in outcomes:
                results = None if o.results is None else _results(o)
                self._base.execute(
                    "INSERT INTO points VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                    "status = excluded.status, results = excluded.results, "
                    "reason = excluded.reason, model = excluded.model, wall_s = excluded.wall_s "
                    f"WHERE points.status NOT IN ({lasting})",
                    (o.key, o.status, results, o.reason, model_version(), o.wall_s),
                )
            self._base.executemany("DELETE FROM claims WHERE key = ?", [(o.key,) for o in outcomes])

    def claim(self, keys: Sequence[str]) -> set[str]:
        """Reserve points for this process; returns those that no living driver has.

        A key whose result came in meanwhile is not returned either, unless it does not last.
        """
        mine = os.getpid(), self._born, self._owner
        got = set()
        with self._faults(), self._transaction():
            for key in keys:
                row = self._base.execute(
                    "SELECT process, born, owner FROM claims WHERE key = ?", (key,)
                ).fetchone()
                if row is not None and row != mine and _birth(row[0]) == row[1]:
                    continue
                done = self._base.execute(
                    "SELECT status FROM points WHERE key = ?", (key,)
                ).fetchone()
                if done is not None and done[0] in LASTING:
                    continue
                self._base.execute(
                    "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?)", (key, *mine)
                )
                got.add(key)
        return got

    def begin(self, sha256: str, name: str, definition: dict[str, Any]) -> int:
        """Note that a sweep is run; returns its id, the old one if it was begun before."""
        with self._faults(), self._transaction():
            self._base.execute(
                "INSERT INTO sweeps (sha256, name, definition, used) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (sha256) DO UPDATE SET name = excluded.name, "
                "definition = excluded.definition, used = excluded.used",
                (sha256, name, _json(definition), time.time()),
            )
            row = self._base.execute("SELECT id FROM sweeps WHERE sha256 = ?", (sha256,)).fetchone()
        return int(row[0])

    def add_members(self, sweep: int, members: Sequence[Member]) -> None:
        """Note which points a sweep has."""
        with self._faults(), self._transaction():
            self._base.executemany(
                "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?)",
                [(sweep, m.position, m.key, _json(m.parameters), m.loss) for m in members],
            )

    def members(self, sweep: int) -> list[Member]:
        """The points of a sweep in order."""
        with self._faults():
            rows = self._base.execute(
                "SELECT position, key, parameters, loss FROM members WHERE sweep = ? "
                "ORDER BY position",
                (sweep,),
            ).fetchall()
        return [Member(position, key, json.loads(text), loss) for position, key, text, loss in rows]

    def sweeps(self) -> list[StoredSweep]:
        """All sweeps of the store, the one used last at the end."""
        with self._faults():
            rows = self._base.execute(
                "SELECT id, sha256, name, definition FROM sweeps ORDER BY used, id"
            ).fetchall()
        return [StoredSweep(i, sha, name, json.loads(text)) for i, sha, name, text in rows]

    def content(self) -> dict[str, tuple[Status, str | None, str]]:
        """Every point without how long it took: what two runs of a sweep must agree on."""
        with self._faults():
            rows = self._base.execute("SELECT key, status, results, reason FROM points").fetchall()
        return {key: (status, results, reason) for key, status, results, reason in rows}

    def check_integrity(self) -> None:
        """Raises CorruptInputError if SQLite finds the file damaged."""
        with self._faults():
            found = self._base.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            raise CorruptInputError(f"{self.path}: damaged ({one_line(found, 120)})")

    def merge(self, other: Path) -> tuple[int, int]:
        """Take over points and sweeps of another store; returns (new points, points there).

        Raises CorruptInputError if that store is damaged, or has another lasting result for a
        point, which only a changed file or a broken machine can cause.
        """
        with Store(other, create=False) as source:
            source.check_integrity()
            theirs = [
                _outcome(row)
                for row in source._base.execute(
                    "SELECT key, status, results, reason, wall_s FROM points ORDER BY key"
                )
            ]
            sweeps = [(stored, source.members(stored.id)) for stored in source.sweeps()]
            models = dict(source._base.execute("SELECT key, model FROM points").fetchall())
        mine = self.known(o.key for o in theirs)
        for outcome in theirs:
            have = mine.get(outcome.key)
            if have is not None and have.status == outcome.status == "ok":
                same = have.results == outcome.results
                if not same:
                    raise CorruptInputError(
                        f"{other}: point {outcome.key[:12]} differs from the one in {self.path}"
                    )
        before = self._count()
        self.save(theirs)
        with self._faults(), self._transaction():
            self._base.executemany(
                "UPDATE points SET model = ? WHERE key = ?",
                [(model, key) for key, model in models.items() if key not in mine],
            )
        for stored, members in sweeps:
            self.add_members(self.begin(stored.sha256, stored.name, stored.definition), members)
        return self._count() - before, len(theirs)

    def _count(self) -> int:
        with self._faults():
            return int(self._base.execute("SELECT count(*) FROM points").fetchone()[0])


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=False, separators=(",", ":"), allow_nan=False)


ADAPTED = "adapted_to"
"""Key among the figures of a row for what its model was adapted to, where that is known."""


def _results(outcome: Outcome) -> str:
    """Figures of a point as its row has them."""
    kept: dict[str, Any] = dict(outcome.results or {})
    if outcome.adapted is not None:
        kept[ADAPTED] = asdict(outcome.adapted)
    return _json(kept)


def _outcome(row: tuple[Any, ...]) -> Outcome:
    key, status, text, reason, wall_s = row
    results = None if text is None else json.loads(text)
    kept = None if results is None else results.pop(ADAPTED, None)
    adapted = None
    if kept is not None:
        differences = tuple(Difference(**each) for each in kept["differences"])
        adapted = AdaptedTo(**{**kept, "differences": differences})
    return Outcome(key, status, results, reason, wall_s, adapted)
