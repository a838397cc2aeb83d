"""A ledger of every earlier release is brought to the present schema, and still tells the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from opsctl import fingerprints
from opsctl.changes import find_kind
from opsctl.engine.ledger.codec import UnknownChange
from opsctl.engine.ledger.ledger import Ledger, open_ledger
from opsctl.engine.ledger.migrations import MIGRATIONS
from opsctl.engine.ledger.verify import examine
from opsctl.errors import LedgerFailed

VERSIONS = Path(__file__).parent / "versions"
EDITS = {
    "an event": "UPDATE events SET detail = '{}' WHERE number = 1",
    "a step": "UPDATE steps SET count = count + 1",
    "a row": "UPDATE runs SET row = replace(row, 'scale', 'scald')",
    "a wish": "UPDATE runs SET wish = NULL WHERE wish IS NOT NULL",
}


def restored(folder: Path, version: int, *edits: str) -> Path:
    """A ledger's file as a release of that version left it."""
    path = folder / "ledger.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript((VERSIONS / f"version-{version}.sql").read_text())
        for edit in edits:
            db.execute(edit)
        db.commit()
        assert db.execute("PRAGMA user_version").fetchone() == (version,)
    path.chmod(0o600)
    return path


def opened(path: Path) -> Ledger:
    return open_ledger(path, find_kind)


def test_there_is_a_file_of_every_earlier_version() -> None:
    assert {path.stem for path in VERSIONS.iterdir()} == {f"version-{number}" for number in range(len(MIGRATIONS))}


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
def test_a_ledger_of_an_earlier_version_tells_the_same_and_verifies(tmp_path: Path, version: int) -> None:
    path = restored(tmp_path, version)
    with closing(sqlite3.connect(path)) as db:
        runs = {str(run) for (run,) in db.execute("SELECT id FROM runs")}
        before = db.execute("SELECT run, seq, kind, target, change, state, evidence FROM steps ORDER BY run, seq").fetchall()
        log = db.execute("SELECT count(*) FROM log").fetchone()[0]
    ledger = opened(path)
    found = examine(ledger)
    assert (found.wrong, found.runs, found.unkeyed) == ([], len(runs), log)
    assert found.keyed_since is not None
    every = [run for parent in ledger.runs() for run in (parent, *ledger.children(parent.id))]
    assert {run.id for run in every} == runs
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT run, seq, kind, target, change, state, evidence FROM steps ORDER BY run, seq").fetchall() == before
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert db.execute("SELECT name FROM sqlite_master WHERE name = 'meta'").fetchall() == []
    for run in runs:
        assert not any(isinstance(step.change, UnknownChange) for step in ledger.steps(run))
        ledger.require_usable(run)
    ledger.event(sorted(runs)[0], "anything", {})
    ledger.shut()
    assert examine(opened(path)).wrong == []


def test_the_fingerprints_of_an_earlier_version_still_compare(tmp_path: Path) -> None:
    assert fingerprints.of(opened(restored(tmp_path, 2)).key("sandbox"), b"value") == "f9e958-95de2912bac4"


def test_a_personal_text_of_an_earlier_version_is_still_known(tmp_path: Path) -> None:
    ledger = opened(restored(tmp_path, 2))
    assert [run.command for run in ledger.runs_of_command("sandbox", "logout user user7@example.com")] == ["logout user user7@example.com"]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_edit_shows_before_the_migration_and_after_it(tmp_path: Path, edit: str, when: str) -> None:
    path = restored(tmp_path, 2, *([EDITS[edit]] if when == "before" else []))
    ledger = opened(path)
    if when == "after":
        assert examine(ledger).wrong == []
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(EDITS[edit])
    assert examine(ledger).wrong != []


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    opened(path).shut()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = path.read_bytes()
    with pytest.raises(LedgerFailed, match=f"version {len(MIGRATIONS) + 1}.*up to {len(MIGRATIONS)}") as caught:
        opened(path)
    assert "opsctl --version" in caught.value.next
    assert path.read_bytes() == before


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = restored(tmp_path, 2)

    def failing(db: sqlite3.Connection, keyring: object) -> None:
        db.execute("DROP TABLE personal")
        db.execute("DROP TABLE no_such_table")

    monkeypatch.setattr("opsctl.engine.ledger.file.MIGRATIONS", (*MIGRATIONS[:2], failing))
    with pytest.raises(LedgerFailed, match="no such table"):
        opened(path)
    monkeypatch.undo()
    assert examine(opened(path)).wrong == []
