"""Emptying a large table of sessions while others go on using it.

Batches of whole pages (a TID range scan, PostgreSQL 14 and later) keep no other client waiting. What is inserted behind them has ids above
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
    row: dict[str, Any] = _locked(write, settings, lambda: write.database.query(query)[0])
    return Start(pages=int(row["pages"]), last=row["last"], moment=row["moment"], whole=bool(row["whole"]))


def delete_pages(write: Systems, settings: SessionSettings, pages: int) -> int:
    """Delete every row of the first `pages` pages, a transaction for each 200; may be stopped between two."""
    statement = sql.SQL("DELETE FROM {} WHERE ctid >= %(first)s::tid AND ctid < %(last)s::tid").format(sql.Identifier(settings.table))
    deleted = 0
    for first in range(0, pages, PAGES):
        deleted += write.database.execute(statement, first=f"({first},0)", last=f"({min(first + PAGES, pages)},0)")
        write.beat(deleted, None, "sessions deleted")
    return deleted


def delete_locked(write: Systems, settings: SessionSettings, where: sql.Composable, values: dict[str, Any]) -> int:
    """Delete the rows of a condition while nothing can be inserted; no other writer waits longer than two of LOCKED_MS.

    Only where autovacuum holds the table, after fifty tries, is it once VACUUM_MS.
    """
    statement = sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(settings.table), where)
    deleted: int = _locked(write, settings, lambda: write.database.execute(statement, **values))
    return deleted


def _locked(write: Systems, settings: SessionSettings, work: Callable[[], Any]) -> Any:
    from opsctl.adapters.database import Busy

    lock = sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(sql.Identifier(settings.table))
    patience = [LOCKED_MS] * TRIES + [VACUUM_MS]
    for tried, milliseconds in enumerate(patience, 1):
        try:
            with write.database.transaction():
                for name in ("lock_timeout", "statement_timeout"):
                    write.database.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(milliseconds)))
                write.database.execute(lock)
                return work()
        except Busy:
            write.beat(tried, len(patience), "tries to have the table alone")
    raise SystemFailed(
        f"{settings.table} could not be had alone in {len(patience)} tries, so a refresh may have slipped through.",
        "Look for long transactions on it, then resume the run.",
    )
