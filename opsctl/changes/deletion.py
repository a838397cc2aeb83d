"""Emptying a large table of sessions while others go on using it.

Batches keep no other client waiting: whole pages (a TID range scan, PostgreSQL 14 and later) where everybody's sessions go, then a thousand
rows at a time of those that match. What is inserted behind them has ids above
the highest one at the start, so that a last pass can take it by index under a lock of a few milliseconds. A row that is updated in place
meanwhile may move behind a batch; the change counts again, and takes it in another pass.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from psycopg import sql

from opsctl.errors import SystemFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from opsctl.settings import SessionSettings
    from opsctl.systems import Systems

PAGES = 200
ROWS = 1_000
SMALL = 500
TRIES = 50
LOCKED_MS = 8
VACUUM_MS = 1_500
"""Autovacuum gives a table up to a lock that has waited for `deadlock_timeout`, a second."""


class Start(Struct, frozen=True):
    """The table as the deletion found it, at a moment when no other transaction was writing to it."""

    pages: int
    last: str | None
    moment: datetime
    whole: bool

    def since(self, settings: SessionSettings) -> tuple[sql.Composable, dict[str, Any]]:
        """The condition, and its parameters, for every row that came since; for a small table, for every row."""
        if self.pages < SMALL:
            return sql.SQL("true"), {}
        if self.whole and self.last is not None:
            return above(settings, self.last)
        if settings.created_column:
            return sql.SQL("{} >= %(moment)s").format(sql.Identifier(settings.created_column)), {"moment": self.moment}
        return sql.SQL("{} >= %(moment)s").format(sql.Identifier(settings.expires_column)), {"moment": self.moment + settings.lifetime}


def above(settings: SessionSettings, last: str) -> tuple[sql.Composable, dict[str, Any]]:
    """The condition, and its parameters, for every row whose id is higher: JSON, so that the table's own type casts it in both drivers."""
    ident, table = sql.Identifier(settings.id_column), sql.Identifier(settings.table)
    higher = sql.SQL("{} > (jsonb_populate_record(NULL::{}, %(last)s::jsonb)).{}").format(ident, table, ident)
    return higher, {"last": json.dumps({settings.id_column: last})}


def begin(write: Systems, settings: SessionSettings) -> Start:
    """Look at the table while a lock has let every other writer end, so that later ids are higher than those seen."""
    query = sql.SQL(
        "SELECT (SELECT {ident}::text FROM {table} ORDER BY {table}.{ident} DESC LIMIT 1) AS last, clock_timestamp() AS moment,"
        " pg_relation_size({name}::regclass) / current_setting('block_size')::bigint AS pages,"
        " (SELECT atttypid IN ('int4'::regtype, 'int8'::regtype) FROM pg_attribute"
        " WHERE attrelid = {name}::regclass AND attname = {column}) AS whole"
    ).format(
        ident=sql.Identifier(settings.id_column),
        table=sql.Identifier(settings.table),
        name=sql.Literal(settings.table),
        column=sql.Literal(settings.id_column),
    )
    row: dict[str, Any] = _locked(write, settings, lambda: write.database.query(query)[0], before=lambda: write.beat(0, None, "sessions"))
    return Start(pages=int(row["pages"]), last=row["last"], moment=row["moment"], whole=bool(row["whole"]))


class Emptying:
    """A deletion under way; `deleted` is how many rows it has taken so far. It may be stopped between two of its transactions."""

    def __init__(self, write: Systems, settings: SessionSettings) -> None:
        self._write = write
        self._settings = settings
        self.deleted = 0

    def pages(self, pages: int) -> None:
        """Delete every row of the first `pages` pages, a transaction for each 200."""
        query = sql.SQL("DELETE FROM {} WHERE ctid >= %(first)s::tid AND ctid < %(last)s::tid")
        statement = query.format(sql.Identifier(self._settings.table))
        for first in range(0, pages, PAGES):
            self._execute(statement, {"first": f"({first},0)", "last": f"({min(first + PAGES, pages)},0)"})

    def rows(self, where: sql.Composable, values: dict[str, Any]) -> None:
        """Delete the rows of a condition, a transaction for each thousand, until no thousand is left."""
        # By id and user: no other user's session goes, not even where ids are unique only in a partition, or to a user.
        key = sql.SQL(", ").join([sql.Identifier(self._settings.id_column), sql.Identifier(self._settings.user_column)])
        statement = sql.SQL("DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {where} LIMIT {rows})").format(
            table=sql.Identifier(self._settings.table), key=key, where=where, rows=sql.Literal(ROWS)
        )
        while self._execute(statement, values) >= ROWS:
            pass

    def alone(self, where: sql.Composable, values: dict[str, Any]) -> None:
        """Delete the rows of a condition while nothing can be inserted; no other writer waits longer than two of LOCKED_MS.

        Before each try they are deleted in batches, so that the lock is held for the few that came since. Only where autovacuum holds
        the table, or finding them takes longer, after fifty tries, is it once VACUUM_MS.
        """
        statement = sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(self._settings.table), where)
        work = lambda: self._write.database.execute(statement, **values)  # noqa: E731
        self.deleted += _locked(self._write, self._settings, work, before=lambda: self.rows(where, values))

    def _execute(self, statement: sql.Composable, values: dict[str, Any]) -> int:
        deleted = self._write.database.execute(statement, **values)
        self.deleted += deleted
        self._write.beat(self.deleted, None, "sessions")
        return deleted


def _locked(write: Systems, settings: SessionSettings, work: Callable[[], Any], before: Callable[[], None]) -> Any:
    """What `work` returns, in a transaction that has the table alone; `before` goes before each try."""
    from opsctl.adapters.database import Busy

    lock = sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(sql.Identifier(settings.table))
    patience = [LOCKED_MS] * TRIES + [VACUUM_MS]
    held = False
    for milliseconds in patience:
        before()
        held = False
        try:
            with write.database.transaction():
                for name in ("lock_timeout", "statement_timeout"):
                    write.database.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(milliseconds)))
                write.database.execute(lock)
                held = True
                return work()
        except Busy:
            continue
    raise _too_slow(settings) if held else _never_alone(settings, len(patience))


def _never_alone(settings: SessionSettings, tries: int) -> SystemFailed:
    return SystemFailed(
        f"{settings.table} could not be had alone in {tries} tries, so a refresh may have slipped through.",
        "Look for long transactions on it, then resume the run.",
    )


def _too_slow(settings: SessionSettings) -> SystemFailed:
    return SystemFailed(
        f"What came to {settings.table} meanwhile took longer than {VACUUM_MS / 1000:g} s while it was had alone, and was rolled back.",
        "Look for a slow trigger on it, a foreign key to it, or an index that it lacks; then resume the run.",
    )
