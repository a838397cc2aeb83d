"""Deletion of many sessions from a table that is in use.

Small batches don't block other clients: whole pages (a TID range scan, PostgreSQL 14 and later) when all sessions are deleted, then a
thousand matching rows at a time. A batch that fails because of a lock, a constraint or a trigger is split until only the rows that can't
be deleted are left; they are named at the end, and all others are deleted. Rows that are inserted meanwhile have ids above the highest
one at the start: a last pass deletes them by index under a table lock of a few milliseconds. A row that is updated in place may move
behind a batch; the change counts again and deletes it in another pass.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from psycopg import sql

from opsctl.adapters.sql.database import Busy, ReferencedRows
from opsctl.errors import ExternalError, Retry

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from opsctl.adapters.sql.database import Database, Row
    from opsctl.protocols import ProgressCallback
    from opsctl.settings import SessionSettings

Condition = tuple[sql.Composable, dict[str, Any]]

PAGES = 200
ROWS = 1_000
SMALL = 500
TRIES = 50
LOCKED_MS = 8
BATCH_LOCK_MS = 200
"""Lock timeout of a batch; while it waits, others wait for the rows that it has deleted."""
PART_LOCK_MS = 20
"""Lock timeout of a part of a batch. At the end, each row that could not be deleted is tried once more."""
MOST_KEPT = 100
"""After this many rows that can't be deleted, the deletion stops."""
NAMED = 3
VACUUM_MS = 1_500
"""Autovacuum releases a table to a lock that has waited for `deadlock_timeout`, one second."""


class DeletionStart(Struct, frozen=True):
    """The state of the table at the start, when no other transaction was writing to it."""

    pages: int
    last: str | None
    moment: datetime
    whole: bool

    def came_since(self, above: Callable[[str], Condition], since: Callable[[datetime], Condition]) -> Condition:
        """The condition and its parameters for every row inserted since; for a small table, for every row."""
        if self.pages < SMALL:
            return sql.SQL("true"), {}
        if self.whole and self.last is not None:
            return above(self.last)
        return since(self.moment)


def begin(database: Database, settings: SessionSettings, progress: ProgressCallback) -> DeletionStart:
    """Read the state under a lock that has waited for all other writers, so that later ids are higher.

    When another transaction stays open and the lock times out, only the time of creation shows which rows are newer.
    """
    table = sql.Identifier(settings.table)
    query = sql.SQL(
        "WITH RECURSIVE tables (relation) AS (SELECT {name}::regclass::oid UNION"
        " SELECT inhrelid FROM pg_inherits JOIN tables ON inhparent = relation)"
        " SELECT (SELECT {ident}::text FROM {table} ORDER BY {table}.{ident} DESC LIMIT 1) AS last, clock_timestamp() AS moment,"
        " (SELECT coalesce(max(pg_relation_size(relation)), 0) FROM tables) / current_setting('block_size')::bigint AS pages,"
        " (SELECT atttypid IN ('int4'::regtype, 'int8'::regtype) FROM pg_attribute"
        " WHERE attrelid = {name}::regclass AND attname = {column}) AS whole"
    ).format(
        ident=sql.Identifier(settings.id_column),
        table=table,
        name=sql.Literal(table.as_string(None)),
        column=sql.Literal(settings.id_column),
    )
    try:
        row: Row = _locked(database, settings, lambda: database.query(query)[0], before=lambda: progress(0, None, "sessions"))
    except LockNotAcquired:
        row = {**database.query(query)[0], "last": None}
    return DeletionStart(pages=int(row["pages"]), last=row["last"], moment=row["moment"], whole=bool(row["whole"]))


class LockNotAcquired(ExternalError):
    """Raised when the table could not be locked because another transaction holds it."""


class SessionDeletion:
    """A deletion in progress; `deleted` counts its rows so far. It can be stopped between two transactions."""

    def __init__(self, database: Database, settings: SessionSettings, holders: Callable[[], list[str]], progress: ProgressCallback) -> None:
        self._database, self._holders = database, holders
        self._settings = settings
        self._progress = progress
        self._table = sql.Identifier(settings.table)
        # By id and user, because ids may be unique only within a partition or a user.
        self._ident, self._user = sql.Identifier(settings.id_column), sql.Identifier(settings.user_column)
        self._key = sql.SQL(", ").join([self._ident, self._user])
        self._kept: list[Row] = []
        self._why: dict[str, None] = {}
        self._crowded: LockNotAcquired | None = None
        self.deleted = 0

    def pages(self, pages: int) -> None:
        """Delete every row of the first `pages` pages, 200 pages per transaction."""
        for first in range(0, pages, PAGES):
            bounds = {"first": f"({first},0)", "last": f"({min(first + PAGES, pages)},0)"}
            self._batch(sql.SQL("ctid >= %(first)s::tid AND ctid < %(last)s::tid"), bounds)

    def rows(self, where: sql.Composable, values: dict[str, Any]) -> None:
        """Delete the rows that match, a thousand per transaction, until fewer than a thousand are left."""
        while True:
            free, kept = self._free
            some = sql.SQL("({key}) IN (SELECT {key} FROM {table} WHERE {where} AND {free} LIMIT {rows})").format(
                key=self._key, table=self._table, where=where, free=free, rows=sql.Literal(ROWS)
            )
            if self._batch(some, values | kept) < ROWS:
                return

    def alone(self, where: sql.Composable, values: dict[str, Any]) -> None:
        """Delete the rows that match under a table lock; no other writer waits longer than twice LOCKED_MS.

        Before each try, rows are deleted in batches, so that few are left under the lock. After fifty tries (autovacuum holds the table,
        or finding the rows is slow) it waits once for VACUUM_MS. Where the table can't be locked, rows are deleted in batches only,
        and `conclude` reports it.
        """

        def work() -> int:
            free, kept = self._free
            statement = sql.SQL("DELETE FROM {} WHERE {} AND {}").format(self._table, where, free)
            return self._database.execute(statement, **values, **kept)

        if self._crowded is not None:
            return self.rows(where, values)
        try:
            self.deleted += _locked(self._database, self._settings, work, before=lambda: self.rows(where, values))
        except LockNotAcquired as why:
            self._crowded = why
        return None

    def conclude(self) -> None:
        """Raise ExternalError when a row is left, or when an open transaction may still insert one."""
        self._once_more()
        message = []
        if self._kept:
            reasons = " ".join(list(self._why)[:NAMED])
            message.append(f"{len(self._kept):,} {'session' if len(self._kept) == 1 else 'sessions'} can't be deleted: {reasons}")
        if self._crowded is not None:
            message.append(self._crowded.what)
        if not message:
            return
        raise self._lock_error(" ".join(message))

    def _once_more(self) -> None:
        """Try once more to delete the rows that could not be deleted."""
        rows, self._kept = self._kept, []
        self._why.clear()
        for row in rows:
            try:
                self._delete(*self._row_condition([row], "row"))
            except (Busy, ReferencedRows) as why:
                self._divide([row], why)

    def _lock_error(self, what: str) -> ExternalError:
        """The error for rows that another transaction locks; it names the open transactions."""
        if holders := self._holders():
            open_ones = "; ".join(holders[:NAMED])
            what = f"{what} Open transactions on {self._settings.table}: {open_ones}. To end one: SELECT pg_terminate_backend(PID)."
        return ExternalError(what, Retry())

    @property
    def _free(self) -> Condition:
        """The condition that excludes the rows that can't be deleted."""
        if not self._kept:
            return sql.SQL("true"), {}
        condition, values = self._row_condition(self._kept, "kept")
        return sql.SQL("NOT {}").format(condition), values

    def _row_condition(self, rows: list[Row], name: str) -> Condition:
        condition = sql.SQL(
            "EXISTS (SELECT FROM jsonb_populate_recordset(NULL::{table}, {rows}::jsonb) AS part"
            " WHERE part.{ident} = {table}.{ident} AND part.{user} IS NOT DISTINCT FROM {table}.{user})"
        ).format(table=self._table, rows=sql.Placeholder(name), ident=self._ident, user=self._user)
        ident, user = self._settings.id_column, self._settings.user_column
        return condition, {name: json.dumps([{ident: row["id"], user: row["user"]} for row in rows])}

    def _batch(self, where: sql.Composable, values: dict[str, Any]) -> int:
        """Delete the rows that match; return their number, including those that can't be deleted."""
        try:
            return self._delete(where, values)
        except (Busy, ReferencedRows) as why:
            self._not_locked_as_a_whole()
            columns = sql.SQL("SELECT {}::text AS id, {}::text AS user FROM {} WHERE {}")
            query = columns.format(self._ident, self._user, self._table, where)
            rows = self._database.query(query, **values)
            self._divide(rows, why)
            return len(rows)

    def _not_locked_as_a_whole(self) -> None:
        """Raise ExternalError when the whole table is locked, so that splitting a batch is useless."""
        try:
            with self._database.transaction():
                self._wait_for_locks(BATCH_LOCK_MS)
                self._database.execute(sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(self._table))
        except Busy as why:
            raise self._lock_error(f"The whole table {self._settings.table} is locked, so no session can be deleted.") from why

    def _divide(self, rows: list[Row], why: ExternalError) -> None:
        """Delete rows of which at least one can't be deleted, by splitting them in halves."""
        if len(rows) <= 1:
            self._kept += rows
            self._why[why.what] = None
            if len(self._kept) > MOST_KEPT:
                raise why
            return
        for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            try:
                self._delete(*self._row_condition(half, "half"), PART_LOCK_MS)
            except (Busy, ReferencedRows) as no:
                self._divide(half, no)

    def _delete(self, where: sql.Composable, values: dict[str, Any], patience: int = BATCH_LOCK_MS) -> int:
        with self._database.transaction():
            self._wait_for_locks(patience)
            deleted = self._database.execute(sql.SQL("DELETE FROM {} WHERE {}").format(self._table, where), **values)
        self.deleted += deleted
        self._progress(self.deleted, None, "sessions")
        return deleted

    def _wait_for_locks(self, milliseconds: int) -> None:
        self._database.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(milliseconds)))


def _locked(database: Database, settings: SessionSettings, work: Callable[[], Any], before: Callable[[], None]) -> Any:
    """The result of `work` in a transaction that locks the table; `before` runs before each try. Raises LockNotAcquired."""
    lock = sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(sql.Identifier(settings.table))
    patience = [LOCKED_MS] * TRIES + [VACUUM_MS]
    held = False
    for milliseconds in patience:
        before()
        held = False
        try:
            with database.transaction():
                for name in ("lock_timeout", "statement_timeout"):
                    database.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(milliseconds)))
                database.execute(lock)
                held = True
                return work()
        except Busy:
            continue
    raise _too_slow(settings) if held else _never_alone(settings, len(patience))


def _never_alone(settings: SessionSettings, tries: int) -> LockNotAcquired:
    return LockNotAcquired(
        f"Could not lock {settings.table} in {tries} tries, so some sessions may have been refreshed meanwhile.",
        "Find long transactions on that table, then resume the run.",
    )


def _too_slow(settings: SessionSettings) -> ExternalError:
    return ExternalError(
        f"Deleting the new rows of {settings.table} under the lock took longer than {VACUUM_MS / 1000:g} s and was rolled back.",
        "Check the table for a slow trigger, a foreign key to it, or a missing index; then resume the run.",
    )
