"""Queries on the sessions table: counts, old sessions, and transactions that are writing to it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg import sql

from opsctl.adapters.base import Adapter, writes
from opsctl.adapters.sql.visibility import NAMESAKES, require_all_rows, require_same_table
from opsctl.errors import Denied
from opsctl.statements import sessions as statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opsctl.adapters.sql.database import Database, Row
    from opsctl.protocols import ProgressCallback
    from opsctl.settings import SessionSettings

Condition = tuple[sql.Composable, dict[str, Any]]

CLOCKS_APART = timedelta(seconds=10)
"""How far a session's time may be ahead of the server's clock before it counts as in the future."""

SOME = 500
"""How many users' sessions are deleted at a time."""

PAGE = 5_000
"""How many sessions are listed at a time."""

AT_ONCE = 5_000
"""How many users are queried at a time."""

COUNTED = 1_000_000
"""The maximum to which a table without matching sessions is counted."""

WRITING = "RowExclusiveLock ShareRowExclusiveLock ExclusiveLock AccessExclusiveLock"
HOLDING = f"RowShareLock {WRITING}"
"""The table locks of a transaction that has locked a row: PostgreSQL documentation, "Table-Level Locks"."""

# A transaction that wrote to the table holds such a lock until it ends. A prepared transaction has no process.
OPEN = """
WITH RECURSIVE tables (relation) AS (
    SELECT to_regclass(%(table)s)::oid
  UNION
    SELECT inhrelid FROM pg_inherits JOIN tables ON inhparent = relation
)
SELECT coalesce(held.pid, 0) AS pid, coalesce(usename::text, '') AS role, coalesce(application_name, '') AS application,
       coalesce(state, '') AS state, xact_start AS began, current_user::text AS reader, pg_has_role('pg_read_all_stats', 'USAGE') AS sees
FROM pg_locks AS held JOIN tables ON held.relation = tables.relation LEFT JOIN pg_stat_activity AS activity ON activity.pid = held.pid
WHERE held.granted AND held.pid IS DISTINCT FROM pg_backend_pid() AND held.mode = ANY (string_to_array(%(modes)s, ' '))
  AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY xact_start NULLS FIRST
"""


class SessionCount(NamedTuple):
    """`old` of `live` sessions were created before the cutoff; `unproven` of the old ones have no creation time, or one in the future."""

    old: int
    unproven: int
    live: int


class SessionRows(Adapter):
    """The sessions table; `writer` returns the role that deletes from it."""

    def __init__(self, database: Database, settings: SessionSettings, writer: Callable[[], str]) -> None:
        super().__init__(writing=database.writing)
        self._database, self._settings, self._writer = database, settings, writer
        self._table = sql.Identifier(settings.table)

    def require_all(self) -> None:
        """Raise Refused unless the connected role sees every row."""
        require_all_rows(self._database, self._settings.table)

    def require_same(self) -> None:
        """Raise Refused when the name is another table for the role that deletes."""
        require_same_table(self._database, self._settings.table, self._writer)

    def count(self, users: Sequence[str] | None, cutoff: datetime) -> SessionCount:
        """Count the sessions of `users`, or of everybody."""
        groups = [users] if users is None else [users[i : i + AT_ONCE] for i in range(0, len(users), AT_ONCE)]
        found = [self._count(group, cutoff) for group in groups]
        return SessionCount(*map(sum, zip(*found, strict=True)))

    def _count(self, users: Sequence[str] | None, cutoff: datetime) -> SessionCount:
        whose, values = self.of(users)
        query = sql.SQL(
            "SELECT count(*) FILTER (WHERE {old} OR {unproven}) AS old, count(*) FILTER (WHERE {unproven}) AS unproven, count(*) AS live"
            " FROM {table} WHERE {whose}"
        ).format(
            old=sql.SQL("{} < %(cutoff)s").format(_time(self._settings)),
            unproven=_unproven(self._settings),
            table=self._table,
            whose=whose,
        )
        shift = _shift(self._settings)
        found = self._database.query(query, cutoff=cutoff + shift, shift=shift.total_seconds(), **values)[0]
        return SessionCount(int(found["old"]), int(found["unproven"]), int(found["live"]))

    @writes
    def delete(self, users: Sequence[str] | None, holders: Callable[[], list[str]], progress: ProgressCallback) -> int:
        """Delete the sessions of `users`, or of everybody; return how many. `holders` describes the transactions that lock the table.

        Batches block nobody; rows inserted meanwhile are deleted last, under a lock, so that no refreshed session is missed.
        Raises ExternalError for rows that can't be deleted.
        """
        from opsctl.adapters.sql.session_deletion import SessionDeletion, begin

        self.require_all()
        start = begin(self._database, self._settings, progress)
        since, bounds = start.came_since(self.above, self.since)
        emptying = SessionDeletion(self._database, self._settings, holders, progress)
        # Few enough users at a time to find their sessions while the lock is held; all sessions are found at once.
        for some in [None] if users is None else [users[i : i + SOME] for i in range(0, len(users), SOME)]:
            whose, values = self.of(some)
            if some is None:
                emptying.pages(start.pages)
            else:
                emptying.rows(whose, values)
            emptying.alone(sql.SQL("{} AND {}").format(whose, since), values | bounds)
        emptying.conclude()
        return emptying.deleted

    def listed(self, user: str | None, since: timedelta | None) -> Iterator[Row]:
        """Each session ordered by id: `session`, `user`, `began` and `expires`.

        With `user`, only theirs; with `since`, only those created since then or without a creation time.
        """
        began, where, values = self._listing(user, since)
        owner, ends = sql.Identifier(self._settings.user_column), sql.Identifier(self._settings.expires_column)
        columns = sql.SQL("{} AS session, {}::text AS user, {} AS began, {} AS expires").format(
            sql.Identifier(self._settings.id_column), owner, began, ends
        )
        return self._pages(columns, where, values)

    def count_listed(self, user: str | None, since: timedelta | None) -> int:
        """The number of sessions that `listed` returns."""
        _, where, values = self._listing(user, since)
        conditions = sql.SQL(" AND ").join([sql.SQL("true"), *where])
        query = sql.SQL("SELECT count(*) AS found FROM {} WHERE {}").format(self._table, conditions)
        return int(self._database.query(query, **values)[0]["found"])

    def _listing(self, user: str | None, since: timedelta | None) -> tuple[sql.Composable, list[sql.Composable], dict[str, Any]]:
        """The expression of a session's beginning, the conditions of `listed`, and the values of both."""
        self.require_all()
        settings = self._settings
        owner, ends = sql.Identifier(settings.user_column), sql.Identifier(settings.expires_column)
        values: dict[str, Any] = {}
        began: sql.Composable = _time(settings)
        if not settings.created_column:
            began = sql.SQL("{} - make_interval(secs => %(lifetime)s)").format(ends)
            values["lifetime"] = settings.lifetime.total_seconds()
        where: list[sql.Composable] = []
        if user is not None:
            values["user"] = user
            where.append(sql.SQL("{}::text = %(user)s").format(owner))
        if since is not None:
            where.append(sql.SQL("({} >= %(since)s OR {} IS NULL)").format(began, began))
            values["since"] = self._database.server_time() - since
        return began, where, values

    def _pages(self, columns: sql.Composable, where: list[sql.Composable], values: dict[str, Any]) -> Iterator[Row]:
        """All pages, each starting after the highest id of the page before; works for every type of id."""
        after: Condition = (sql.SQL("true"), {})
        while True:
            query = sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT {}").format(
                columns,
                self._table,
                sql.SQL(" AND ").join([after[0], *where]),
                sql.Identifier(self._settings.table, self._settings.id_column),
                sql.Literal(PAGE),
            )
            rows = self._database.query(query, **values, **after[1])
            yield from rows
            if len(rows) < PAGE:
                return
            after = self.above(str(rows[-1]["session"]))

    def above(self, last: str) -> Condition:
        """The condition for a higher id; the id is passed as JSON, so that the table's type casts it in both drivers."""
        ident = sql.Identifier(self._settings.id_column)
        higher = sql.SQL("{} > (jsonb_populate_record(NULL::{}, %(last)s::jsonb)).{}").format(ident, self._table, ident)
        return higher, {"last": json.dumps({self._settings.id_column: last})}

    def of(self, users: Sequence[str] | None) -> Condition:
        """The condition for the sessions of `users`, or of everybody."""
        if users is None:
            return sql.SQL("true"), {}
        condition = sql.SQL(statements.OF_USERS).format(user=sql.Identifier(self._settings.user_column), table=self._table)
        return condition, {"users": statements.users_json(self._settings, users)}

    def since(self, moment: datetime) -> Condition:
        """The condition for sessions created at `moment` or later, or without a creation time."""
        time = _time(self._settings)
        return sql.SQL("({} >= %(moment)s OR {} IS NULL)").format(time, time), {"moment": moment + _shift(self._settings)}

    def total(self) -> str:
        """The number of rows as text, such as `more than 1,000,000`."""
        query = sql.SQL("SELECT count(*) AS n FROM (SELECT FROM {} LIMIT %(most)s) AS first").format(self._table)
        found = int(self._database.query(query, most=COUNTED + 1)[0]["n"])
        return f"more than {COUNTED:,}" if found > COUNTED else f"{found:,}"

    def same_named_tables(self) -> list[str]:
        """Tables of the same name in other schemas."""
        rows = self._database.query(NAMESAKES, name=self._settings.table, table=self._table.as_string(None))
        return [str(row["name"]) for row in rows]

    def writers(self, before: datetime) -> list[str]:
        """Descriptions of the open transactions that wrote to the table and began before a moment.

        Raises Denied for a role that can't see when other roles' transactions began.
        """
        rows = self._open(WRITING)
        for row in rows:
            if row["began"] is None and row["pid"] and not row["sees"]:
                raise Denied(
                    f"The role {row['reader']} can't see how long other roles have been writing to {self._settings.table}.",
                    f"GRANT pg_read_all_stats TO {row['reader']}",
                )
        # A process without a start time ended its transaction between the reads of the two joined views.
        old = [row for row in rows if (row["began"] < before if row["began"] else not row["pid"])]
        return list(dict.fromkeys(map(_holder, old)))

    def holders(self) -> list[str]:
        """Descriptions of the open transactions that lock the table or a row of it, the oldest first."""
        return list(dict.fromkeys(map(_holder, self._open(HOLDING))))

    def _open(self, modes: str) -> list[Row]:
        return self._database.query(OPEN, table=self._table.as_string(None), modes=modes)


def _time(settings: SessionSettings) -> sql.Identifier:
    """The expression for the creation time of a session, later than the real one by `_shift`."""
    return sql.Identifier(settings.created_column or settings.expires_column)


def _shift(settings: SessionSettings) -> timedelta:
    return timedelta(0) if settings.created_column else settings.lifetime


def _unproven(settings: SessionSettings) -> sql.Composed:
    """The condition for sessions without a creation time, or with one in the future: nothing shows that they are new."""
    return sql.SQL("({time} IS NULL OR {time} > statement_timestamp() + make_interval(secs => %(shift)s) + {apart}::interval)").format(
        time=_time(settings), apart=sql.Literal(f"{CLOCKS_APART.total_seconds():g} s")
    )


def _holder(row: Row) -> str:
    if not row["pid"]:
        return "a prepared transaction (see pg_prepared_xacts)"
    who = "/".join(filter(None, (row["role"], row["application"])))
    began = f"since {row['began']:%H:%M:%S} UTC" if row["began"] else ""
    return f"pid {row['pid']} ({', '.join(filter(None, (who, row['state'], began)))})"
