"""The store: what it keeps, claims, merging, damage."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from archsim.errors import ConfigError, CorruptInputError
from archsim.notes import AdaptedTo, Difference
from archsim.sweeps.point import Outcome
from archsim.sweeps.store import Member, Store

OK = Outcome("a" * 64, "ok", {"energy_pj": 0.1 + 0.2, "sqnr_db": None, "bottleneck": "x"}, "", 1.5)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db") as store:
        store.save([OK, Outcome("b", "crashed", None, "killed")])
    with Store(tmp_path / "s.db") as store:
        assert store.known([OK.key, "b", "c"]) == {
            OK.key: OK,
            "b": Outcome("b", "crashed", None, "killed"),
        }
        store.save([Outcome(OK.key, "crashed"), Outcome("b", "ok", {"x": 1})])
        assert store.known([OK.key])[OK.key] == OK  # what lasts is never replaced
        assert store.known(["b"])["b"].status == "ok"
        store.check_integrity()


def test_what_a_model_was_adapted_to_is_kept_as_data(tmp_path: Path) -> None:
    differences = (
        Difference("levels.query", "16", "8"),
        Difference("window", "a; b there, c", "d"),
    )
    adapted = AdaptedTo("folder", "gaincell-28nm", "f" * 64, differences)
    point = replace(OK, adapted=adapted)
    with Store(tmp_path / "s.db") as store:
        store.save([point])
        found = store.known([OK.key])[OK.key]
    assert found == point
    assert found.results == OK.results  # no figure more
    assert found.with_loss(Outcome("l", "ok", {"loss": 1.0})).adapted == adapted


def test_a_point_is_claimed_by_one_living_driver(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db") as one, Store(tmp_path / "s.db") as two:
        assert one.claim(["a", "b"]) == {"a", "b"}
        assert one.claim(["a"]) == {"a"}
        assert two.claim(["a", "c"]) == {"c"}
        one.save([Outcome("a", "ok", {})])
        assert two.claim(["a"]) == set()  # done
    with Store(tmp_path / "s.db") as three:
        assert three.claim(["b", "c"]) == {"b", "c"}  # given back


def test_the_claim_of_a_dead_driver_counts_for_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db") as store:
        store._base.execute("INSERT INTO claims VALUES ('a', 4194304, '1', 'gone')")
        assert store.claim(["a"]) == {"a"}


def test_nothing_is_kept_of_a_transaction_that_fails(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db") as store:
        with pytest.raises(ValueError, match="JSON"):
            store.save([OK, Outcome("nan", "ok", {"x": float("nan")})])
        assert store.known([OK.key]) == {}


def test_merge(tmp_path: Path) -> None:
    with Store(tmp_path / "a.db") as a, Store(tmp_path / "b.db") as b:
        a.save([OK])
        b.save([OK, Outcome("b", "ok", {"x": 1})])
        b.add_members(
            b.begin("sha", "two", {"name": "two"}),
            [Member(-1, "b", {}), Member(0, "b", {"window": 3})],
        )
    with Store(tmp_path / "a.db") as a:
        assert a.merge(tmp_path / "b.db") == (1, 2)
        assert a.merge(tmp_path / "b.db") == (0, 2)
        (sweep,) = a.sweeps()
        assert [m.parameters for m in a.members(sweep.id)] == [{}, {"window": 3}]
    with Store(tmp_path / "c.db") as c:
        c.save([Outcome(OK.key, "ok", {"energy_pj": 7})])
        with pytest.raises(CorruptInputError, match="differs"):
            c.merge(tmp_path / "a.db")


def test_files_that_are_no_store(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("not a database at all, but long enough to be read as one" * 30)
    with pytest.raises(CorruptInputError):
        Store(text)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as base:
        base.execute("CREATE TABLE points (x)")
    with pytest.raises(ConfigError, match="no store of archsim"):
        Store(other)
    with pytest.raises(ConfigError, match="no such store"):
        Store(tmp_path / "none.db", create=False)
    with pytest.raises(ConfigError, match="cannot be"):
        Store(text / "below.db")


def test_a_store_opens_while_another_driver_is_opening_it(tmp_path: Path) -> None:
    """Whoever opens a store first switches it to WAL, for which SQLite itself waits for nobody."""
    path = tmp_path / "s.db"
    with Store(path):
        pass
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    assert other.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, other.execute, ("ROLLBACK",))
    timer.start()
    with Store(path) as store:
        store.check_integrity()
    timer.join()
    other.close()


def test_a_store_from_before_losses_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Store(path) as store:
        store.add_members(store.begin("a", "old", {}), [Member(0, "k", {"window": 4})])
    with sqlite3.connect(path) as base:
        base.execute("ALTER TABLE members DROP COLUMN loss")
        base.execute("PRAGMA user_version=1")
    base.close()
    with Store(path) as store:
        assert store.members(1) == [Member(0, "k", {"window": 4})]
        store.add_members(1, [Member(1, "m", {}, "loss")])
    with Store(path) as store:
        assert store.members(1)[1].loss == "loss"
