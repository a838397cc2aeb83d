"""The ledger in SQLite: one file, WAL, synchronous FULL, mode 0600; every write is one durable transaction, but for the locks'.

State in `steps` and `runs` is what the newest event says; the events are the truth and form the chain.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from opsctl.contract import Change
from opsctl.engine.ledger import file, personal
from opsctl.engine.ledger.chain import START, link
from opsctl.engine.ledger.locks import Locks
from opsctl.engine.ledger.rows import Event, Lease, Result, Run, State, Step, encode, run_id
from opsctl.engine.ledger.schema import NEEDED, STEP, UNENDED
from opsctl.errors import ConfigurationError, LedgerFailed, Refused

Decode = Callable[[bytes], Change]
Tell = Callable[[str], None]
WITHOUT = "opsctl goes on without its memory: what was done moments ago, and what nobody knows the outcome of, can't be told here."


class Ledger:
    """Runs, their steps and events, and the locks; used by several threads of one process at once.

    `decode` turns a stored change into its kind. Raises LedgerFailed for whatever the file or the disk refuses. Where a command only looks,
    `tell` is given: then a ledger that can't be written is read, with a word on it; and where its memory isn't needed, `without` says
    that one that can't be read either is done without.
    """

    def __init__(
        self,
        path: Path,
        decode: Decode,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        tell: Tell | None = None,
        without: bool = False,
    ) -> None:
        self.path, self.now, self._decode, self._tell, self._without = path, now, decode, tell, without
        self._mutex = threading.RLock()
        self._identity: file.Identity | None = None
        self._db = self._opened()
        self.locks = Locks(self)

    def _opened(self) -> sqlite3.Connection:
        try:
            self._db = file.connect(self.path)
            with self.transaction():
                self._personal_key = self._key("personal")
            self._identity = file.Identity(self.path)
        except LedgerFailed as cause:
            if self._tell is None:
                raise
            self._db = self._copied(cause, self._tell)
        return self._db

    def _copied(self, cause: LedgerFailed, tell: Tell) -> sqlite3.Connection:
        """What can be read of a ledger that can't be written, in memory."""
        try:
            db, told = file.reading(self.path), "It was only read."
        except LedgerFailed:
            if not self._without:
                raise
            db, told = file.empty(), WITHOUT
            self._without = False
        tell(f"{cause.what} {told}")
        self._personal_key = self._key("personal", db)
        return db

    def _forgotten(self, cause: LedgerFailed) -> bool:
        """Go on without what can't be read, where that is allowed; whether it was."""
        if self._tell is None or not self._without:
            return False
        self._without, self._identity, self._db = False, None, file.empty()
        self._tell(f"{cause.what} {WITHOUT}")
        return True

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One durable transaction, alone among threads and processes."""
        with self._mutex:
            try:
                if self._identity:
                    self._identity.hold()
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as cause:
                raise LedgerFailed(f"The ledger {self.path} can't be written: {cause}.", file.advice(cause, self.path)) from cause
            if self._identity:
                self._identity.hold()

    @contextmanager
    def passing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that all processes see at once, and that a loss of power may take."""
        with self._mutex:
            self.query("PRAGMA synchronous=NORMAL")
            try:
                with self.transaction() as db:
                    yield db
            finally:
                self.query("PRAGMA synchronous=FULL")

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read rows, seeing every committed write."""
        with self._mutex:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as cause:
                failed = LedgerFailed(f"The ledger {self.path} can't be read: {cause}.", file.advice(cause, self.path))
                if not self._forgotten(failed):
                    raise failed from cause
        return self.query(sql, *values)

    def _key(self, name: str, db: sqlite3.Connection | None = None) -> bytes:
        db = db or self._db
        db.execute("INSERT OR IGNORE INTO meta (name, value) VALUES (?, ?)", (f"key:{name}", secrets.token_bytes(32)))
        key: bytes = db.execute("SELECT value FROM meta WHERE name = ?", (f"key:{name}",)).fetchone()[0]
        return key

    def key(self, environment: str) -> bytes:
        """The key of an environment's fingerprints, made when it is first asked for."""
        rows = self.query("SELECT value FROM meta WHERE name = ?", f"key:environment:{environment}")
        if rows:
            return bytes(rows[0][0])
        with self.transaction():
            return self._key(f"environment:{environment}")

    def conceal(self, value: Any) -> str:
        """Write `value` as JSON, its e-mails kept aside; inside a transaction."""
        return self.aside(encode(value).decode())

    def hidden(self, text: str) -> str:
        """`text` as the columns hold it, each e-mail a digest: what to compare them with."""
        hidden: str = msgspec.json.decode(personal.hide(encode(text).decode(), self._personal_key)[0])
        return hidden

    def aside(self, text: str) -> str:
        """`text` with its e-mails kept aside; inside a transaction."""
        text, found = personal.hide(text, self._personal_key)
        rows = [(digest, plain, self._stamp()) for digest, plain in found.items()]
        self._db.executemany("INSERT OR REPLACE INTO personal (digest, text, at) VALUES (?, ?, ?)", rows)
        return text

    def reveal(self, text: str) -> str:
        """Put e-mails back that haven't been purged."""
        if "personal:" not in text:
            return text
        return personal.show(text, {str(d): str(t) for d, t in self.query("SELECT digest, text FROM personal")})

    def purge(self, before: datetime) -> int:
        """Forget the personal data last used before a moment, but what runs that may go on need; the chain holds. Returns how many."""
        with self.transaction() as db:
            old = {str(digest) for (digest,) in db.execute("SELECT digest FROM personal WHERE at < ?", (before.isoformat(),))}
            forgotten = old - {digest for (text,) in db.execute(NEEDED) for digest in personal.DIGEST.findall(text)}
            db.executemany("DELETE FROM personal WHERE digest = ?", [(digest,) for digest in forgotten])
        self.query("PRAGMA wal_checkpoint(TRUNCATE)")
        return len(forgotten)

    def intact(self, run: str) -> None:
        """Raise Refused for a run whose changes, or those of its steps, name somebody who was forgotten."""
        sql = "SELECT change FROM steps WHERE run IN (SELECT id FROM runs WHERE id = ?1 OR parent = ?1)"
        if any(personal.DIGEST.search(self.reveal(change)) for (change,) in self.query(sql, run)):
            raise Refused(f"Whom run {run} concerned was forgotten (purged), so nothing can be done with it.", "Type the line anew.")

    def _stamp(self) -> str:
        return self.now().isoformat()

    def open(self, run: Run, steps: list[Step]) -> None:
        """Begin a run: its row, its steps and its first event, at once. A run whose id is taken gets another."""
        with self.transaction() as db:
            while db.execute("SELECT 1 FROM runs WHERE id = ?", (run.id,)).fetchone():
                run.id = run_id(run.opened)
            row = self.conceal(run)
            db.execute(
                "INSERT INTO runs (id, parent, environment, command, opened, head, events, row) VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
                (run.id, run.parent, run.environment, self.hidden(run.command), run.opened.isoformat(), START, row),
            )
            self._log(run.id, "opened", link(START, [row]))
            db.executemany(
                f"INSERT INTO steps ({', '.join(STEP)}) VALUES ({', '.join('?' * len(STEP))})", [self._step_row(run.id, s) for s in steps]
            )
            told = [{**self._plain(s), "row": self._mark(run.id, s.seq)} for s in steps]
            self._event(run.id, "opened", None, {"command": run.command, "steps": told})

    def _plain(self, step: Step) -> dict[str, Any]:
        return {"seq": step.seq, "change": step.change, "state": step.state, "count": step.count, "unit": step.unit}

    def _mark(self, run: str, seq: int) -> str:
        """The digest of a step's row, which its newest event carries, so that an edit of the row shows."""
        return link(START, list(self._db.execute(f"SELECT {', '.join(STEP)} FROM steps WHERE run = ? AND seq = ?", (run, seq)).fetchone()))

    def _step_row(self, run: str, step: Step) -> tuple[Any, ...]:
        at = step.at.isoformat() if step.at else None
        kind = step.change.__struct_config__.tag
        change = self.conceal(step.change)
        return (
            run,
            step.seq,
            kind,
            self.aside(step.change.target),
            change,
            step.state,
            self.aside(step.why),
            at,
            step.count,
            step.unit,
            None,
            None,
            None,
        )

    def put(self, run: str, step: Step, state: State, detail: dict[str, Any], lease: Lease | None = None) -> None:
        """Record that a step reached `state`; with a lease, only if it still holds (LockHeld), in the same transaction."""
        with self.transaction() as db:
            if lease:
                self.locks.fence(lease)
            stamp = self._stamp()
            evidence = self.conceal(step.evidence) if step.evidence is not None else None
            db.execute(
                "UPDATE steps SET state = ?, why = ?, at = ?, begun = ?, ended = ?, evidence = ? WHERE run = ? AND seq = ?",
                (
                    state,
                    self.aside(step.why),
                    step.at.isoformat() if step.at else None,
                    step.begun.isoformat() if step.begun else None,
                    stamp,
                    evidence,
                    run,
                    step.seq,
                ),
            )
            self._event(run, state, step.seq, {**detail, "row": self._mark(run, step.seq)})
        step.state = state

    def event(self, run: str, what: str, detail: dict[str, Any], seq: int | None = None) -> None:
        """Append one event to a run."""
        with self.transaction():
            self._event(run, what, seq, detail)

    def _event(self, run: str, what: str, seq: int | None, detail: dict[str, Any]) -> None:
        head, number, closed = self._db.execute("SELECT head, events, closed FROM runs WHERE id = ?", (run,)).fetchone()
        text, stamp = self.conceal(detail), self._stamp()
        digest = link(head, [run, number, stamp, what, seq, text])
        self._db.execute(
            "INSERT INTO events (run, number, at, what, seq, detail, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (run, number, stamp, what, seq, text, digest),
        )
        self._db.execute("UPDATE runs SET head = ?, events = ? WHERE id = ?", (digest, number + 1, run))
        if closed:
            self._log(run, "closed", digest)

    def _log(self, run: str, what: str, head: str) -> None:
        last = self._db.execute("SELECT number, hash FROM log ORDER BY number DESC LIMIT 1").fetchone() or (0, START)
        stamp = self._stamp()
        digest = link(last[1], [last[0] + 1, stamp, run, what, head])
        self._db.execute(
            "INSERT INTO log (number, at, run, what, head, hash) VALUES (?, ?, ?, ?, ?, ?)", (last[0] + 1, stamp, run, what, head, digest)
        )

    def close(self, run: str, result: Result, detail: dict[str, Any]) -> None:
        """End a run, or a stretch of one that will be resumed: `waiting`, `partial`, `unknown` and `failed` may go on later."""
        with self.transaction() as db:
            self._event(run, "closed", None, {"result": result, **detail})
            closed = db.execute("SELECT at FROM events WHERE run = ? ORDER BY number DESC LIMIT 1", (run,)).fetchone()[0]
            db.execute("UPDATE runs SET closed = ?, result = ?, wish = nullif(wish, 'pause') WHERE id = ?", (closed, result, run))
            self._log(run, "closed", db.execute("SELECT head FROM runs WHERE id = ?", (run,)).fetchone()[0])

    def reopen(self, run: str, detail: dict[str, Any]) -> None:
        """Take a run up again."""
        with self.transaction() as db:
            self._event(run, "resumed", None, detail)
            db.execute("UPDATE runs SET closed = NULL, result = NULL, wish = NULL WHERE id = ?", (run,))

    def wish(self, run: str, wish: str) -> None:
        """Ask the process that drives a run to pause or to cancel it."""
        with self.transaction() as db:
            self._event(run, f"asked to {wish}", None, {})
            db.execute("UPDATE runs SET wish = ? WHERE id = ?", (wish, run))

    def wished(self, run: str) -> str | None:
        """What somebody asked of a run, or of the one that it belongs to."""
        sql = "SELECT wish FROM runs WHERE wish IS NOT NULL AND (id = ?1 OR id = (SELECT parent FROM runs WHERE id = ?1))"
        rows = self.query(sql, run)
        return str(rows[0][0]) if rows else None

    def run(self, run: str) -> Run:
        """One run by its id or a unique beginning of it; raises ConfigurationError when there is none, or several."""
        rows = self.query("SELECT id FROM runs WHERE id = ?1 OR substr(id, 1, length(?1)) = ?1 ORDER BY id", run)
        exact = [r for r in rows if r[0] == run] or rows
        if len(exact) != 1 or not run:
            what = "several runs begin with" if rows and run else "no run is called"
            raise ConfigurationError(f"In this ledger {what} {run!r}.", "opsctl runs list")
        return self.runs("id = ?", exact[0][0])[0]

    def active(self, limit: int) -> list[Run]:
        """The newest runs that haven't ended: those that some process drives, and those that were left before their end."""
        driven = msgspec.json.encode(sorted(self.locks.driven())).decode()
        return self.runs(f"parent IS NULL AND (id IN (SELECT value FROM json_each(?)) OR {UNENDED})", driven, limit=limit)

    def runs(self, where: str = "parent IS NULL", *values: Any, limit: int = -1) -> list[Run]:
        """Runs, the newest first, at most `limit` of those that match: by the log's order, since a clock may jump back.

        `where` is SQL of this package's own, never a person's.
        """
        opened = "(SELECT number FROM log WHERE run = runs.id AND what = 'opened')"
        sql = f"SELECT row, closed, result, wish, head, events FROM runs WHERE {where} ORDER BY {opened} DESC LIMIT ?"
        return [self._run(*row) for row in self.query(sql, *values, limit)]

    def _run(self, row: str, closed: str | None, result: Result | None, wish: Any, head: str, events: int) -> Run:
        run = msgspec.json.decode(self.reveal(row), type=Run)
        run.closed = datetime.fromisoformat(closed) if closed else None
        run.result, run.wish, run.head, run.events = result, wish, head, events
        return run

    def steps(self, run: str) -> list[Step]:
        """A run's steps in order, each with its change decoded."""
        sql = "SELECT seq, change, state, why, at, count, unit, begun, evidence FROM steps WHERE run = ? ORDER BY seq"
        return [self._step(*row) for row in self.query(sql, run)]

    def _step(self, seq: int, change: str, state: State, why: str, at: Any, count: int, unit: str, begun: Any, evidence: Any) -> Step:
        return Step(
            seq=seq,
            change=self._decode(self.reveal(change).encode()),
            state=state,
            why=self.reveal(why),
            at=datetime.fromisoformat(at) if at else None,
            count=count,
            unit=unit,
            begun=datetime.fromisoformat(begun) if begun else None,
            evidence=msgspec.json.decode(self.reveal(evidence)) if evidence else None,
        )

    def events(self, run: str) -> list[Event]:
        """A run's history in order."""
        rows = self.query("SELECT run, number, at, what, seq, detail, hash FROM events WHERE run = ? ORDER BY number", run)
        return [
            Event(
                run=r,
                number=n,
                at=datetime.fromisoformat(at),
                what=w,
                seq=s,
                detail=msgspec.json.decode(self.reveal(d)),
                hash=h,
            )
            for r, n, at, w, s, d, h in rows
        ]

    def shut(self) -> None:
        """Let go of the file."""
        with self._mutex:
            self._db.close()
