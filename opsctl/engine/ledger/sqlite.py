"""The ledger's rows in one SQLite file: WAL, synchronous FULL, mode 0600. All writes but those of locks are durable transactions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from opsctl.engine.ledger import file
from opsctl.engine.ledger.keys import Keyring
from opsctl.engine.ledger.migrations import UNDECIDED, UNENDED
from opsctl.engine.ledger.store import EventRow, Holder, LockRow, LogRow, RunRow, RunState, StepRow
from opsctl.errors import LedgerFailed

Tell = Callable[[str], None]
WITHOUT = "The plan is made without the run history: recent runs, and runs with an unknown outcome, are not considered."
BATCH = 1_000
RUN, STEP, EVENT, LOG = (", ".join(row._fields) for row in (RunRow, StepRow, EventRow, LogRow))
HOLDER = ", ".join(Holder._fields)
NEWEST = "ORDER BY number DESC"
STEP_OF_RUN = ", ".join(f"s.{name}" for name in StepRow._fields)
LIST = "(SELECT value FROM json_each(?))"
STEPS = f"SELECT {STEP_OF_RUN} FROM steps s JOIN runs r ON r.id = s.run WHERE s.kind IN {LIST} AND r.environment = ?"
NEEDED = """
WITH open AS (
    SELECT id FROM runs AS r WHERE EXISTS (
        SELECT 1 FROM runs AS o WHERE (o.id = r.id OR o.id = r.parent) AND ifnull(o.wish, '') <> 'cancel'
        AND ifnull(o.result, '') NOT IN ('changed', 'unchanged', 'refused')
    )
)
SELECT row FROM runs WHERE id IN open UNION ALL SELECT change FROM steps WHERE run IN open
UNION ALL SELECT detail FROM events WHERE run IN open
"""
"""The texts of runs that can be resumed, and of their steps and events."""


class SqliteStore:
    """A ledger's rows in one file. Thread-safe.

    With `tell` (for read-only commands) a file that can't be written is read from a copy, and `tell` is called with the reason. With
    `without` also a file that can't be read is no error: the ledger is then empty. Without `durable` a power failure may lose writes.
    """

    def __init__(self, path: Path, keyring: Keyring, *, tell: Tell | None = None, without: bool = False, durable: bool = True) -> None:
        self._synchronous = "FULL" if durable else "OFF"
        self.path, self.keyring, self._tell, self._without = path, keyring, tell, without
        self._mutex = threading.RLock()
        self._identity: file.Identity | None = None
        self._db = self._opened()

    def _opened(self) -> sqlite3.Connection:
        try:
            db = file.open_for_writing(self.path, self.keyring)
            db.execute(f"PRAGMA synchronous={self._synchronous}")
            self._identity = file.Identity(self.path)
            return db
        except LedgerFailed as cause:
            if self._tell is None:
                raise
            return self._copied(cause, self._tell)

    def _copied(self, cause: LedgerFailed, tell: Tell) -> sqlite3.Connection:
        """A copy in memory of a ledger that can't be written."""
        self.keyring = Keyring(self.keyring.folder, keep=False)
        try:
            db, effect = file.open_copy(self.path, self.keyring), "It was opened read-only."
        except LedgerFailed:
            if not self._without:
                raise
            db, effect = file.open_empty(self.keyring), WITHOUT
            self._without = False
        tell(f"{cause.what} {effect}")
        return db

    def _forgotten(self, cause: LedgerFailed) -> bool:
        """Continue with an empty ledger if that is allowed. Returns whether it is."""
        if self._tell is None or not self._without:
            return False
        self._without, self._identity, self._db = False, None, file.open_empty(self.keyring)
        self._tell(f"{cause.what} {WITHOUT}")
        return True

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """One exclusive transaction. Without `durable` it is visible at once, but a power failure may lose it."""
        with self._mutex:
            if durable or self._synchronous == "OFF":
                yield from self._transaction()
                return
            self.query("PRAGMA synchronous=NORMAL")
            try:
                yield from self._transaction()
            finally:
                self.query("PRAGMA synchronous=FULL")

    def _transaction(self) -> Iterator[None]:
        try:
            if self._identity:
                self._identity.require_unchanged()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as cause:
            raise LedgerFailed(f"The ledger {self.path} can't be written: {cause}.", file.advice_for(cause, self.path)) from cause
        if self._identity:
            self._identity.require_unchanged()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A block in which all reads see the same state."""
        with self._mutex:
            self.query("BEGIN")
            try:
                yield
            finally:
                self.query("COMMIT")

    def close(self) -> None:
        """Close the file."""
        with self._mutex:
            self._db.close()

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read rows, seeing every committed write."""
        with self._mutex:
            try:
                return self._fetched(sql, values)
            except (sqlite3.Error, UnicodeEncodeError) as cause:
                failed = LedgerFailed(f"The ledger {self.path} can't be read: {cause}.", file.advice_for(cause, self.path))
                if not self._forgotten(failed):
                    raise failed from cause
        return self.query(sql, *values)

    def _fetched(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.OperationalError as cause:
            if "UTF-8" not in str(cause):
                raise
            # A damaged text must not hide other rows.
            self._db.text_factory = lambda raw: raw.decode(errors="surrogateescape")
            try:
                return self._db.execute(sql, values).fetchall()
            finally:
                self._db.text_factory = str

    def _each(self, columns: str, table: str, key: str, *keys: str) -> Iterator[tuple[Any, ...]]:
        """Yield a whole table in the order of its primary key, in batches."""
        order, marks = ", ".join((key, *keys)), ", ".join("?" * (1 + len(keys)))
        places = [columns.split(", ").index(name) for name in (key, *keys)]
        rows = self.query(f"SELECT {columns} FROM {table} ORDER BY {order} LIMIT {BATCH}")
        while rows:
            yield from rows
            last = [rows[-1][place] for place in places]
            rows = self.query(f"SELECT {columns} FROM {table} WHERE ({order}) > ({marks}) ORDER BY {order} LIMIT {BATCH}", *last)

    # Runs

    def add_run(self, run: RunRow) -> None:
        self._db.execute(f"INSERT INTO runs ({RUN}) VALUES ({', '.join('?' * len(run))})", run)

    def run_state(self, run: str) -> RunState | None:
        rows = self.query("SELECT head, events, closed, result, wish, mark FROM runs WHERE id = ?", run)
        return RunState._make(rows[0]) if rows else None

    def stop_requested(self, run: str) -> str | None:
        sql = "SELECT coalesce(r.wish, p.wish) FROM runs AS r LEFT JOIN runs AS p ON p.id = r.parent WHERE r.id = ?"
        return next((wish for (wish,) in self.query(sql, run)), None)

    def set_run_state(self, run: str, state: RunState) -> None:
        sql = "UPDATE runs SET head = ?, events = ?, closed = ?, result = ?, wish = ?, mark = ? WHERE id = ?"
        self._db.execute(sql, (*state, run))

    def run_ids(self, beginning: str) -> list[str]:
        sql = "SELECT id FROM runs WHERE id >= ?1 AND substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 3"
        return [str(run) for (run,) in self.query(sql, beginning)]

    def run_rows(self, ids: Collection[str]) -> list[RunRow]:
        return self._runs(f"id IN {LIST} {NEWEST}", _listed(ids))

    def _runs(self, where: str, *values: Any) -> list[RunRow]:
        return [RunRow._make(row) for row in self.query(f"SELECT {RUN} FROM runs WHERE {where}", *values)]

    def newest_runs(self, limit: int) -> list[RunRow]:
        return self._runs(f"parent IS NULL {NEWEST} LIMIT ?", limit)

    def unended_runs(self, limit: int) -> list[RunRow]:
        return self._runs(f"parent IS NULL AND {UNENDED} {NEWEST} LIMIT ?", limit)

    def children(self, parent: str) -> list[RunRow]:
        return self._runs(f"parent = ? {NEWEST}", parent)

    def runs_of_command(self, environment: str, command: str) -> list[RunRow]:
        return self._runs(f"environment = ? AND command = ? {NEWEST}", environment, command)

    def newest_complete(self, environment: str, command: str, besides: str) -> RunRow | None:
        made = "EXISTS (SELECT 1 FROM steps WHERE run = runs.id AND state = 'applied')"
        whole = "NOT EXISTS (SELECT 1 FROM steps WHERE run = runs.id AND state NOT IN ('applied', 'done'))"
        where = f"environment = ? AND command = ? AND id <> ? AND {made} AND {whole} {NEWEST} LIMIT 1"
        return next(iter(self._runs(where, environment, command, besides)), None)

    def undecided_runs(self, environment: str, command: str, besides: str) -> list[RunRow]:
        begun = "EXISTS (SELECT 1 FROM steps WHERE run = runs.id AND state IN ('begun', 'unknown'))"
        where = f"environment = ? AND command = ? AND id <> ? AND {UNDECIDED} AND {begun} {NEWEST}"
        return self._runs(where, environment, command, besides)

    def runs_later_than(self, number: int) -> list[str]:
        sql = "SELECT run FROM log WHERE number > ? UNION SELECT id FROM runs WHERE closed IS NULL"
        return [str(run) for (run,) in self.query(sql, number)]

    # Steps

    def add_steps(self, steps: Collection[StepRow]) -> None:
        self._db.executemany(f"INSERT INTO steps ({STEP}) VALUES ({', '.join('?' * len(StepRow._fields))})", steps)

    def update_step(self, step: StepRow) -> None:
        sql = "UPDATE steps SET state = ?, why = ?, at = ?, begun = ?, ended = ?, evidence = ? WHERE run = ? AND seq = ?"
        self._db.execute(sql, (step.state, step.why, step.at, step.begun, step.ended, step.evidence, step.run, step.seq))

    def step(self, run: str, seq: int) -> StepRow | None:
        rows = self.query(f"SELECT {STEP} FROM steps WHERE run = ? AND seq = ?", run, seq)
        return StepRow._make(rows[0]) if rows else None

    def steps(self, run: str) -> list[StepRow]:
        return [StepRow._make(row) for row in self.query(f"SELECT {STEP} FROM steps WHERE run = ? ORDER BY seq", run)]

    def steps_on(self, kinds: Collection[str], environment: str, target: str) -> list[StepRow]:
        sql = f"{STEPS} AND s.target = ? ORDER BY r.number DESC, s.seq"
        return [StepRow._make(row) for row in self.query(sql, _listed(kinds), environment, target)]

    def steps_below(self, kinds: Collection[str], environment: str, target: str) -> list[StepRow]:
        # What follows `/` is `0`.
        sql = f"{STEPS} AND s.target > ? AND s.target < ? ORDER BY r.number DESC, s.seq"
        return [StepRow._make(row) for row in self.query(sql, _listed(kinds), environment, f"{target}/", f"{target}0")]

    def steps_with_impact(self, kinds: Collection[str], environment: str, config_digest: str) -> Iterator[StepRow]:
        sql = f"{STEPS} AND r.config_digest = ? AND (s.count > 0 OR s.evidence IS NOT NULL)"
        yield from map(StepRow._make, self.query(sql, _listed(kinds), environment, config_digest))

    # History

    def add_event(self, event: EventRow) -> None:
        self._db.execute(f"INSERT INTO events ({EVENT}) VALUES (?, ?, ?, ?, ?, ?, ?)", event)

    def events(self, run: str) -> list[EventRow]:
        return [EventRow._make(row) for row in self.query(f"SELECT {EVENT} FROM events WHERE run = ? ORDER BY number", run)]

    def add_log(self, line: LogRow) -> None:
        self._db.execute(f"INSERT INTO log ({LOG}) VALUES (?, ?, ?, ?, ?, ?)", line)

    def last_log(self) -> LogRow | None:
        rows = self.query(f"SELECT {LOG} FROM log ORDER BY number DESC LIMIT 1")
        return LogRow._make(rows[0]) if rows else None

    def last_log_number(self, run: str) -> int:
        return int(self.query("SELECT ifnull(max(number), 0) FROM log WHERE run = ?", run)[0][0])

    def log_times_after(self, number: int) -> list[str]:
        return [str(at) for (at,) in self.query("SELECT at FROM log WHERE number > ? ORDER BY number", number)]

    def in_log(self, hash: str) -> bool:
        return bool(self.query("SELECT 1 FROM log WHERE hash = ?", hash))

    # Locks

    def locks(self) -> list[LockRow]:
        rows = self.query(f"SELECT target, run, fence, operator, doing, since, {HOLDER} FROM locks")
        return [LockRow._make((*row[:6], Holder._make(row[6:]))) for row in rows]

    def add_locks(self, locks: Collection[LockRow]) -> None:
        columns = f"target, run, fence, operator, doing, since, {HOLDER}"
        marks = ", ".join("?" * (6 + len(Holder._fields)))
        self._db.executemany(f"INSERT INTO locks ({columns}) VALUES ({marks})", [(*lock[:6], *lock.holder) for lock in locks])

    def remove_locks(self, fences: Collection[int]) -> None:
        self._db.executemany("DELETE FROM locks WHERE fence = ?", [(fence,) for fence in fences])

    def renew_locks(self, fences: Collection[int], expires: float, until: float) -> None:
        self._db.executemany("UPDATE locks SET expires = ?, until = ? WHERE fence = ?", [(expires, until, fence) for fence in fences])

    def holds_lock(self, target: str, fence: int) -> bool:
        return bool(self.query("SELECT 1 FROM locks WHERE target = ? AND fence = ?", target, fence))

    # Personal data

    def remember(self, texts: Mapping[str, str], at: str) -> None:
        rows = [(digest, plain, at) for digest, plain in texts.items()]
        self._db.executemany("INSERT OR REPLACE INTO personal (digest, text, at) VALUES (?, ?, ?)", rows)

    def texts(self, digests: Collection[str]) -> dict[str, str]:
        sql = f"SELECT digest, text FROM personal WHERE digest IN {LIST}"
        return {str(digest): str(text) for digest, text in self.query(sql, _listed(digests))}

    def needed_texts(self) -> Iterator[str]:
        yield from (str(text) for (text,) in self.query(NEEDED))

    def forget(self, before: str, needed: Callable[[], Collection[str]]) -> int:
        with self.transaction():
            old = {str(digest) for (digest,) in self.query("SELECT digest FROM personal WHERE at < ?", before)}
            forgotten = old.difference(needed())
            self._db.executemany("DELETE FROM personal WHERE digest = ?", [(digest,) for digest in forgotten])
        self.query("PRAGMA wal_checkpoint(TRUNCATE)")
        return len(forgotten)

    # Verifying

    def all_log(self) -> Iterator[LogRow]:
        return map(LogRow._make, self._each(LOG, "log", "number"))

    def all_runs(self) -> Iterator[RunRow]:
        return map(RunRow._make, self._each(RUN, "runs", "id"))

    def all_events(self) -> Iterator[EventRow]:
        return map(EventRow._make, self._each(EVENT, "events", "run", "number"))

    def all_steps(self) -> Iterator[StepRow]:
        return map(StepRow._make, self._each(STEP, "steps", "run", "seq"))

    def all_texts(self) -> Iterator[tuple[str, str]]:
        return ((str(digest), str(text)) for digest, text in self._each("digest, text", "personal", "digest"))


def _listed(values: Collection[str]) -> str:
    """Values as one parameter, whatever their number, for `json_each`."""
    return msgspec.json.encode(sorted(values)).decode()
