"""The ledger's file: found safe, opened by many at once, watched while it is used, and read where it can't be written."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opsctl.changes import find_kind
from opsctl.engine.ledger import file, rows, verify
from opsctl.engine.ledger.keys import Keyring
from opsctl.engine.ledger.ledger import Ledger, open_ledger
from opsctl.engine.ledger.rows import Result, Run
from opsctl.errors import LedgerFailed, Refused

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


def a_run(name: str = "one", **more: str) -> Run:
    where = {"environment": "test", "account": "1", "caller": "me", "operator": "me", "version": "1", "config_digest": "c0ffee"}
    return Run(id=name, command="scale", opened=NOW, **{**where, **more})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def opened(path: Path) -> Ledger:
    return open_ledger(path, find_kind)


@pytest.mark.parametrize("mode", [0o666, 0o644, 0o660, 0o602])
@pytest.mark.parametrize("part", ["", "-wal"])
def test_a_ledger_that_others_can_read_or_write_is_not_used(path: Path, part: str, mode: int) -> None:
    ledger = opened(path)
    ledger.open(a_run(), [])
    path.with_name(path.name + part).chmod(mode)
    with pytest.raises(Refused, match=f"{mode:04o}") as caught:
        opened(path)
    assert f"chmod 600 {path}{part}" in caught.value.next
    path.with_name(path.name + part).chmod(0o600)
    assert opened(path).run("one")


def test_a_ledger_of_another_user_is_not_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(path).shut()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(Refused, match="another user"):
        opened(path)


def test_a_link_is_no_ledger(path: Path) -> None:
    other = path.with_name("other.db")
    opened(other).shut()
    path.symlink_to(other)
    with pytest.raises(Refused, match="it is a link"):
        opened(path)


def test_a_folder_that_everybody_can_change_holds_no_ledger(path: Path) -> None:
    path.parent.chmod(0o777)
    with pytest.raises(Refused, match="0777"):
        opened(path)
    assert not path.exists()
    path.parent.chmod(0o1777)
    opened(path)


def _first(path: Path, gate: multiprocessing.synchronize.Barrier, told: multiprocessing.queues.Queue[str]) -> None:
    gate.wait()
    try:
        ledger = opened(path)
        ledger.open(a_run(f"run-{os.getpid()}"), [])
        ledger.shut()
        told.put("")
    except BaseException as cause:  # noqa: BLE001 - the parent shows it
        told.put(repr(cause))


def test_the_first_use_by_many_at_once_is_waited_for(path: Path) -> None:
    # Not forked: the threads of other tests may hold a lock at that moment.
    fresh, many = multiprocessing.get_context("spawn"), 6
    gate, told = fresh.Barrier(many), fresh.Queue()
    children = [fresh.Process(target=_first, args=(path, gate, told), daemon=True) for _ in range(many)]
    for child in children:
        child.start()
    assert [told.get(timeout=120) for _ in children] == [""] * many
    for child in children:
        child.join(60)
    ledger = opened(path)
    assert len(ledger.runs()) == many
    assert verify.verify(ledger) == []


def test_a_column_that_a_later_release_adds_disturbs_nothing(path: Path) -> None:
    ledger = opened(path)
    ledger.open(a_run(), [])
    for name in ("runs", "steps", "events", "log", "locks", "personal"):
        ledger.store.query(f"ALTER TABLE {name} ADD COLUMN note TEXT")  # type: ignore[attr-defined]
    ledger.open(a_run("two"), [])
    ledger.locks.acquire("service/api", "two", "me", "scale")
    assert verify.verify(ledger) == []


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("other"))
    path.with_name("other").replace(path)


def start_anew(path: Path) -> None:
    for name in list(path.parent.iterdir()):
        name.unlink()
    opened(path).shut()


def delete_the_log(path: Path) -> None:
    path.with_name("ledger.db-wal").unlink()


def move_the_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


@pytest.mark.parametrize("happens", [delete, replace, start_anew, delete_the_log, move_the_folder])
def test_a_ledger_that_is_deleted_or_replaced_meanwhile_is_noticed(path: Path, happens: Callable[[Path], None]) -> None:
    ledger = opened(path)
    ledger.open(a_run(), [])
    happens(path)
    with pytest.raises(LedgerFailed, match="deleted or replaced"):
        ledger.event("one", "anything", {})


def test_one_that_is_deleted_while_a_record_is_written_is_noticed_too(path: Path) -> None:
    ledger = opened(path)
    with pytest.raises(LedgerFailed, match="deleted or replaced"), ledger.store.transaction():
        path.unlink()


@pytest.mark.parametrize(
    ("code", "advised"),
    [
        (sqlite3.SQLITE_FULL, "Free space"),
        (sqlite3.SQLITE_IOERR | 3 << 8, "dmesg"),
        (sqlite3.SQLITE_READONLY, "ls -l"),
        (sqlite3.SQLITE_BUSY, "Another opsctl"),
        (sqlite3.SQLITE_CORRUPT, "damaged"),
    ],
)
def test_the_disk_is_named_only_where_it_is_the_disk(path: Path, code: int, advised: str) -> None:
    cause = sqlite3.OperationalError("said")
    cause.sqlite_errorcode = code
    told = file.advice_for(cause, path)
    assert advised in told
    assert ("Free space" in told) == (code == sqlite3.SQLITE_FULL)


def test_two_runs_never_have_one_id(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = opened(path)
    drawn = iter("aaaaaaaaaaaaaaaaaaaaaaab")
    monkeypatch.setattr(rows.secrets, "choice", lambda letters: next(drawn))
    first = a_run(rows.run_id(NOW))
    second = a_run(first.id)
    ledger.open(first, [])
    ledger.open(second, [])
    assert first.id == "240501-120000-aaaaaaaa"
    assert second.id == "240501-120000-aaaaaaab"
    assert {run.id for run in ledger.runs()} == {first.id, second.id}


def test_ids_of_one_second_differ() -> None:
    assert len({rows.run_id(NOW) for _ in range(20_000)}) == 20_000


@pytest.mark.parametrize("result", ["partial", "failed", "unknown", "waiting", None])
def test_what_is_active_is_found_behind_any_number_of_ended_runs(path: Path, result: Result | None) -> None:
    ledger = opened(path)
    ledger.open(a_run("left"), [])
    if result:
        ledger.close("left", result, {})
    for number in range(30):
        ledger.open(a_run(f"ended-{number}"), [])
        ledger.close(f"ended-{number}", "changed", {})
    assert [run.id for run in ledger.active(limit=1)] == ["left"]
    ledger.request_stop("left", "cancel")
    assert ledger.active(limit=1) == []
    ledger.locks.acquire("service/api", "left", "me", "scale")
    assert [run.id for run in ledger.active(limit=1)] == ["left"]


def refuse(path: Path, keyring: Keyring) -> sqlite3.Connection:
    raise file.open_error(OSError(30, "Read-only file system"), path)


def test_one_that_can_only_be_read_is_shown_with_a_word_on_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = opened(path)
    writer.open(a_run(), [])
    before = path.read_bytes()
    monkeypatch.setattr(file, "open_for_writing", refuse)
    with pytest.raises(LedgerFailed, match="Read-only file system"):
        opened(path)
    said: list[str] = []
    ledger = open_ledger(path, find_kind, tell=said.append)
    assert ledger.run("one").command == "scale"
    assert "Read-only file system" in said[0]
    assert ledger.key("test") == ledger.key("test")
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 500])
def test_a_damaged_one_is_done_without_only_where_its_memory_is_not_needed(path: Path, damage: bytes) -> None:
    writer = opened(path)
    writer.open(a_run(), [])
    writer.shut()
    content = path.read_bytes()
    path.write_bytes(damage or content[:100] + b"\xff" * (len(content) - 100))
    said: list[str] = []
    with pytest.raises(LedgerFailed):
        open_ledger(path, find_kind, tell=said.append).runs()
    ledger = open_ledger(path, find_kind, tell=said.append, without=True)
    assert ledger.runs() == []
    assert ledger.key("test")
    assert "without the run history" in said[-1]


def test_a_read_only_copy_holds_what_only_the_log_holds(path: Path) -> None:
    ledger = opened(path)
    ledger.open(a_run(), [])
    assert path.with_name("ledger.db-wal").stat().st_size
    copy = file.open_copy(path, Keyring(path.parent))
    assert copy.execute("SELECT id FROM runs").fetchall() == [("one",)]
