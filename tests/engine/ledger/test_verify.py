"""What `runs verify` finds beyond single values: a request taken away, another person's address, a chain that was made anew."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from opsctl.changes import find_kind
from opsctl.engine.ledger.chain import START, plain_link
from opsctl.engine.ledger.keys import PREFIX
from opsctl.engine.ledger.ledger import Ledger, open_ledger
from opsctl.engine.ledger.rows import Run
from opsctl.engine.ledger.store import EventRow, LogRow
from opsctl.engine.ledger.verify import examine, head
from opsctl.engine.options import Options
from opsctl.testing.rig import Rig, Set

EMAIL = "ana@example.com"


def edited(path: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for sql, values in statements:
            db.execute(sql, values)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Three runs: one that ended, one that was interrupted and cancelled, and one on a person."""
    made = Rig(tmp_path)
    made.run(Set(name="a"))
    run = made.engine.new_run("set b", Options())
    made.ledger.open(run, [])
    made.ledger.request_stop(run.id, "cancel")
    made.run(Set(name=EMAIL), command=f"set {EMAIL}")
    return made


def path_of(ledger: Ledger) -> Path:
    found: Path = ledger.store.path  # type: ignore[attr-defined]
    return found


def cancelled(ledger: Ledger) -> Run:
    return next(run for run in ledger.runs() if run.wish == "cancel")


def test_what_is_whole_verifies(rig: Rig) -> None:
    found = examine(rig.ledger, head(rig.ledger))
    assert (found.wrong, found.runs, found.unkeyed) == ([], 3, 0)


@pytest.mark.parametrize("wish", [None, "pause"])
def test_another_request_than_was_made_shows(rig: Rig, wish: str | None) -> None:
    run = cancelled(rig.ledger)
    edited(path_of(rig.ledger), ("UPDATE runs SET wish = ? WHERE id = ?", (wish, run.id)))
    assert any(run.id in line for line in examine(rig.ledger).wrong)


def test_a_request_that_is_taken_away_with_its_event_shows(rig: Rig) -> None:
    """The run's state is put back as it was before somebody cancelled it, with hashes that once held."""
    run = cancelled(rig.ledger)
    first, _ = rig.ledger.store.events(run.id)
    edited(
        path_of(rig.ledger),
        ("DELETE FROM events WHERE run = ? AND number = 1", (run.id,)),
        ("UPDATE runs SET wish = NULL, head = ?, events = 1 WHERE id = ?", (first.hash, run.id)),
    )
    assert any(f"run {run.id}: its last events are missing" in line for line in examine(rig.ledger).wrong)


def test_another_persons_address_shows(rig: Rig) -> None:
    edited(path_of(rig.ledger), ("UPDATE personal SET text = 'eve@example.com' WHERE text = ?", (EMAIL,)))
    assert any("was changed" in line for line in examine(rig.ledger).wrong)


def test_an_event_hashed_anew_without_the_key_shows(rig: Rig) -> None:
    run = rig.ledger.runs()[-1]
    previous, events = START, rig.ledger.store.events(run.id)
    for event in events:
        event = event._replace(detail=event.detail.replace("applied", "skipped"))
        made = plain_link(previous, event[:6])
        edited(path_of(rig.ledger), (f"REPLACE INTO events VALUES ({', '.join('?' * len(EventRow._fields))})", event._replace(hash=made)))
        previous = made
    edited(path_of(rig.ledger), ("UPDATE runs SET head = ? WHERE id = ?", (previous, run.id)))
    assert any(run.id in line for line in examine(rig.ledger).wrong)


def test_a_log_made_anew_without_the_key_shows(rig: Rig) -> None:
    previous = START
    for line in list(rig.ledger.store.all_log()):
        made = plain_link(previous, line[:5])
        edited(path_of(rig.ledger), (f"REPLACE INTO log VALUES ({', '.join('?' * len(LogRow._fields))})", line._replace(hash=made)))
        previous = made
    assert any("none of its entries has a key" in line for line in examine(rig.ledger).wrong)


def test_what_a_lost_key_made_cannot_be_verified_and_the_work_goes_on(rig: Rig) -> None:
    folder = rig.ledger.keyring.folder
    lost = rig.ledger.keyring.current.id
    (folder / f"{PREFIX}{lost}.json").unlink()
    after = Rig(folder, rig.world)
    assert after.run(Set(name="c")).result == "changed"
    assert any(f"the key {lost} is missing" in line for line in examine(after.ledger).wrong)


def test_a_former_key_still_verifies(rig: Rig) -> None:
    rig.ledger.keyring.make()
    after = Rig(rig.ledger.keyring.folder, rig.world)
    after.run(Set(name="c"))
    assert examine(after.ledger).wrong == []


def test_the_ledger_holds_no_key(rig: Rig) -> None:
    path = path_of(rig.ledger)
    key = rig.ledger.keyring.current
    held = b"".join(each.read_bytes() for each in path.parent.glob("ledger.db*"))
    for purpose in ("chain", "plan", "personal", "fingerprint test"):
        assert key.derive(purpose) not in held
        assert key.derive(purpose).hex().encode() not in held


def test_a_walk_sees_one_moment_while_others_write(rig: Rig) -> None:
    other = open_ledger(path_of(rig.ledger), find_kind)
    walk, seen = rig.ledger.store.all_runs, []

    def writing() -> Any:
        other.open(rig.engine.new_run("set z", Options()), [])
        seen.append(1)
        return walk()

    rig.ledger.store.all_runs = writing  # type: ignore[method-assign]
    assert examine(rig.ledger).wrong == []
    assert seen
