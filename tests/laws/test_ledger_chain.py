"""Law 10: the log can't be edited quietly. Whatever row is changed, taken away or moved, `runs verify` names it."""

from __future__ import annotations

import itertools
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from terminal import Terminal
from world import World

from opsctl.changes import find_kind
from opsctl.engine.ledger.ledger import open_ledger
from opsctl.engine.ledger.personal import hide
from opsctl.engine.ledger.verify import head, verify

KEYS = {"events": ("run", "number"), "log": ("number",), "runs": ("id",), "steps": ("run", "seq")}
EMAIL = "user7@example.com"


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the history is kept once it was made."""
    return tmp_path_factory.mktemp("history")


@pytest.fixture
def history(kept: Path, machine: Path, request: pytest.FixtureRequest) -> Path:
    """A ledger with a few runs in it, as one file; its seal was taken before the last of them."""
    home = machine / "state" / "opsctl"
    if not (kept / "ledger.db").exists():
        _make_history(request.getfixturevalue("world"))
        with closing(sqlite3.connect(home / "ledger.db")) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copytree(home, kept, dirs_exist_ok=True)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copytree(kept, home, dirs_exist_ok=True)
    return home / "ledger.db"


def _make_history(world: World) -> None:
    world.opsctl("service", "scale", "api", "3", "-y", "--reason", "more load", check=0)
    world.opsctl("service", "scale", "api", "3", "-y", check=0)
    world.opsctl("logout", "user", EMAIL, "-y", "--reason", f"asked by {EMAIL}", check=0)
    world.opsctl("runs", "seal", "--to", str(world.ledger.parent / "seal"), check=0)
    world.opsctl("secrets", "rotate", "mail-key", "--value-from", "generate", "-y", check=0)
    world.opsctl("runs", "verify", check=0)


def listed(opsctl: Terminal) -> list[dict[str, Any]]:
    """The runs, the newest first."""
    found: list[dict[str, Any]] = opsctl("-o", "json", "runs", "list", check=0).json
    return found


def rows(path: Path, table: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as db:
        found = db.execute(f"SELECT * FROM {table} ORDER BY {', '.join(KEYS[table])}")
        return [column[0] for column in found.description], found.fetchall()


class Edited:
    """A copy of the ledger that somebody edits with plain SQL; each edit is taken back after it was looked at."""

    def __init__(self, history: Path, folder: Path) -> None:
        shutil.copytree(history.parent, folder)
        self.ledger = open_ledger(folder / history.name, find_kind)
        self._db = self.ledger.store._db  # type: ignore[attr-defined]
        # The edits and the walk over them are one transaction, which is taken back.
        self.ledger.store.snapshot = nullcontext  # type: ignore[method-assign]

    def __call__(self, *statements: tuple[str, tuple[Any, ...]]) -> list[str]:
        """Edit it, and return what is then found wrong."""
        self._db.execute("BEGIN")
        try:
            for sql, values in statements:
                self._db.execute(sql, values)
            return verify(self.ledger)
        finally:
            self._db.execute("ROLLBACK")


@pytest.fixture
def edited(history: Path, tmp_path: Path) -> Iterator[Edited]:
    found = Edited(history, tmp_path / "edited")
    yield found
    found.ledger.shut()


def where(table: str) -> str:
    return " AND ".join(f"{key} = ?" for key in KEYS[table])


def keys(table: str, columns: list[str], row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(row[columns.index(key)] for key in KEYS[table])


def named(table: str, columns: list[str], row: tuple[Any, ...], wrong: list[str]) -> bool:
    """Whether what is found wrong names the row's run, or for the log its entry."""
    if table == "log":
        return any(f"entry {row[columns.index('number')]} " in line or "missing" in line or str(row[2]) in line for line in wrong)
    run = str(row[columns.index("id" if table == "runs" else "run")])
    return any(run in line for line in wrong)


def another(value: Any) -> Any:
    """Some other value of the same kind."""
    if value is None:
        return "something"
    if isinstance(value, int):
        return value + 1_000
    return f"{value}0" if not value.startswith("2") else value.replace("2", "3", 1)


@pytest.mark.parametrize("table", ["events", "log", "runs", "steps"])
def test_any_changed_value_shows(edited: Edited, history: Path, table: str) -> None:
    columns, found = rows(history, table)
    missed = []
    for row in found:
        for column, value in zip(columns, row, strict=True):
            sql = f"UPDATE {table} SET {column} = ? WHERE {where(table)}"
            wrong = edited((sql, (another(value), *keys(table, columns, row))))
            if not named(table, columns, row, wrong):
                missed.append(f"{column} of {keys(table, columns, row)}: {wrong}")
    assert missed == []


@pytest.mark.parametrize("table", ["events", "log", "runs", "steps"])
def test_any_missing_row_shows(edited: Edited, history: Path, table: str) -> None:
    columns, found = rows(history, table)
    # That the log's very last entry is gone, only a closing that was never logged and a sealed head can tell.
    missed = [keys(table, columns, r) for r in found if not edited((f"DELETE FROM {table} WHERE {where(table)}", keys(table, columns, r)))]
    assert missed == []


@pytest.mark.parametrize("table", ["events", "log"])
def test_rows_that_changed_places_show(edited: Edited, history: Path, table: str) -> None:
    columns, found = rows(history, table)
    place = columns.index("number")
    for one, other in itertools.pairwise(found):
        if table == "events" and one[0] != other[0]:
            continue
        move = f"UPDATE {table} SET number = ? WHERE number = ?" + (" AND run = ?" if table == "events" else "")
        run = (one[0],) if table == "events" else ()
        steps = [(-1, one[place]), (one[place], other[place]), (other[place], -1)]
        assert edited(*[(move, (*step, *run)) for step in steps]), f"{one[place]} and {other[place]} of {table}"


def test_an_event_put_in_shows(edited: Edited, history: Path) -> None:
    columns, found = rows(history, "events")
    last = max(found, key=lambda row: row[columns.index("number")])
    fake = tuple(last[n] + 1 if column == "number" else last[n] for n, column in enumerate(columns))
    assert edited((f"INSERT INTO events VALUES ({', '.join('?' * len(columns))})", fake))


def test_a_whole_run_taken_out_shows(edited: Edited, history: Path) -> None:
    _, found = rows(history, "runs")
    for run in (row[0] for row in found):
        gone = [(f"DELETE FROM {t} WHERE {c} = ?", (run,)) for t, c in (("runs", "id"), ("events", "run"), ("steps", "run"))]
        assert any(run in line for line in edited(*gone))


def test_a_cut_tail_shows_against_a_sealed_head(history: Path, opsctl: Terminal) -> None:
    """All of the newest run is taken away, log entries too: the chains are whole, and the seal is not in them."""
    seal = history.with_name("seal")
    opsctl("runs", "verify", "--seal", str(seal), check=0)
    newest = opsctl("-o", "json", "runs", "seal", check=0).json["head"]
    columns, found = rows(history, "runs")
    run = max(found, key=lambda row: row[columns.index("opened")])[0]
    with closing(sqlite3.connect(history)) as db, db:
        for table, column in (("runs", "id"), ("events", "run"), ("steps", "run"), ("log", "run")):
            db.execute(f"DELETE FROM {table} WHERE {column} = ?", (run,))
    opsctl("runs", "verify", check=0)
    opsctl("runs", "verify", "--seal", str(seal), check=0)
    seal.write_text(newest)
    cut = opsctl("runs", "verify", "--seal", str(seal), check=1)
    assert "entries were deleted from its end" in cut.err


@pytest.mark.parametrize("written", [b"", b"\n", b"\xff\xfe\x00", b"ab12", b"0" * 65, b"g" * 64, b"0" * 64 + b"\nmore"])
def test_what_is_no_seal_is_not_compared_in_silence(history: Path, opsctl: Terminal, written: bytes) -> None:
    seal = history.with_name("no-seal")
    seal.write_bytes(written)
    refused = opsctl("runs", "verify", "--seal", str(seal), check=2)
    assert "whole" not in refused.out
    assert "opsctl runs seal --to FILE" in refused.err
    assert "defect" not in refused.err


def test_verify_names_the_row_and_leaves_with_1(history: Path, opsctl: Terminal) -> None:
    run = listed(opsctl)[0]["run"]
    with closing(sqlite3.connect(history)) as db, db:
        db.execute("UPDATE events SET detail = '{}' WHERE run = ? AND number = 2", (run,))
    broken = opsctl("runs", "verify", check=1)
    assert f"run {run}: event 2" in broken.err
    assert "next:" in broken.err


def in_the_file(history: Path, text: str) -> list[Path]:
    return [path for path in history.parent.glob("ledger.db*") if text.encode() in path.read_bytes()]


def test_an_email_is_beside_the_chain_and_can_be_forgotten(history: Path, opsctl: Terminal) -> None:
    for table in ("events", "log", "runs", "steps"):
        assert EMAIL not in str(rows(history, table)[1]), table
    run = next(run for run in listed(opsctl) if run["command"].startswith("logout"))
    assert EMAIL in run["command"]
    assert opsctl("-o", "json", "runs", "purge", "--older-than", "0s", check=0).json["forgotten"] >= 1
    opsctl("runs", "verify", check=0)
    shown = opsctl("runs", "show", run["run"], check=0)
    assert EMAIL not in shown.out
    assert re.search(r"personal:[0-9a-f]{24}", shown.out)
    with closing(sqlite3.connect(history)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert in_the_file(history, EMAIL) == []


def test_what_concerned_somebody_forgotten_is_not_undone(world: World, opsctl: Terminal) -> None:
    run = opsctl("-o", "json", "bounces", "mark", "user20@example.com", "--hard", "--notification", "n-1", "-y", check=0).json["run"]
    opsctl("runs", "purge", "--older-than", "1h", check=0)
    assert "user20@example.com" in opsctl("runs", "show", run, check=0).out
    opsctl("runs", "purge", "--older-than", "0s", check=0)
    refused = opsctl("-o", "json", "runs", "undo", run, "-y", check=4)
    assert "was purged" in refused.err


def test_a_run_that_may_go_on_keeps_whom_it_concerns_until_it_is_given_up(world: World, history: Path, opsctl: Terminal) -> None:
    from killing import dying

    address = "user31@example.com"
    opsctl.start("logout", "user", address, "-y", before=dying(world.home / "passed", 2)).wait()
    run = listed(opsctl)[0]["run"]
    for table in ("locks", "steps", "events"):
        with closing(sqlite3.connect(history)) as db:
            assert address not in str(db.execute(f"SELECT * FROM {table}").fetchall()), table
    opsctl("runs", "purge", "--older-than", "0s", check=0)
    assert address in opsctl("runs", "show", run, check=0).out
    opsctl("runs", "resume", run, check=0)
    opsctl("runs", "purge", "--older-than", "0s", check=0)
    assert address not in opsctl("runs", "show", run, check=0).out


def test_an_address_that_is_used_anew_is_forgotten_anew(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    ledger = open_ledger(tmp_path / "ledger.db", find_kind, lambda: now)
    with ledger.store.transaction():
        ledger.pseudonyms.pseudonymize(EMAIL)
    now += timedelta(days=100)
    with ledger.store.transaction():
        hidden = ledger.pseudonyms.pseudonymize(EMAIL)
    assert ledger.purge(now - timedelta(days=90)) == 0
    assert ledger.pseudonyms.reveal(hidden) == EMAIL
    assert ledger.purge(now + timedelta(days=1)) == 1
    ledger.shut()


def test_runs_of_before_and_after_a_purge_chain(world: World, history: Path, opsctl: Terminal) -> None:
    opsctl("runs", "purge", "--older-than", "0s", check=0)
    opsctl("logout", "user", EMAIL, "-y", "--again", check=0)
    opsctl("runs", "verify", check=0)


def test_an_apostrophe_belongs_to_an_address_and_quotes_around_it_do_not() -> None:
    hidden, found = hide("bounces mark 'o'brien@example.com' --hard", b"k" * 32)
    assert list(found.values()) == ["o'brien@example.com"]
    assert re.fullmatch(r"bounces mark 'personal:[0-9a-f]{24}' --hard", hidden)


def test_the_head_of_an_empty_ledger_is_the_beginning(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "ledger.db", find_kind)
    assert verify(ledger) == []
    assert head(ledger) == "0" * 64
    ledger.shut()


def test_a_killed_writer_leaves_the_chain_whole(world: World, opsctl: Terminal) -> None:
    from killing import dying

    for number in (2, 5, 8):
        opsctl.start("service", "scale", "api", str(number), "-y", before=dying(world.home / "passed", number)).wait()
        opsctl("runs", "verify", check=0)
