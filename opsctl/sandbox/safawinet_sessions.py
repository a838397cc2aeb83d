"""The sessions of the Safawinet stand-in, in the real Postgres and the real Valkey.

A session is a row of refresh_sessions and, while an access token of it lives, a key `session:{user}:{row}`. Access
tokens are checked without either: only the marks `auth:revoked:all` and `auth:revoked:user:{id}` (epoch milliseconds)
end one before its time.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import redis
from psycopg.rows import TupleRow

from opsctl.sandbox.tokens import ACCESS_TTL, AccessToken, password_matches, refresh_token, token_hash

KEPT_CONNECTIONS = 8
ROWS_AT_ONCE = 5_000
KEYS_AT_ONCE = 1_000
REFRESH_LIFETIME = "30 days"
MARK_ALL = "auth:revoked:all"

Connection = psycopg.Connection[TupleRow]


class LoginRefused(Exception):
    """Raised when credentials or a refresh token aren't accepted, with the HTTP status and the reason to answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class OpenedSession:
    """A session that login or refresh began, and the only copy of its refresh token."""

    user_id: int
    role: str
    session_id: int
    refresh_token: str


class SessionDatabase:
    """A pool of a few connections to the sandbox's Postgres."""

    def __init__(self, conninfo: Callable[[], str]) -> None:
        self._conninfo = conninfo
        self._idle: queue.LifoQueue[Connection] = queue.LifoQueue(KEPT_CONNECTIONS)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Lend a connection in a transaction that commits unless the block raises."""
        connection = self._take()
        try:
            with connection.transaction():
                yield connection
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Close every idle connection."""
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def _take(self) -> Connection:
        while True:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                return psycopg.connect(self._conninfo(), autocommit=True)
            try:
                connection.execute("SELECT 1")
            except psycopg.OperationalError:
                # The server closed it while it was idle: a failover, a terminated backend, a reset.
                connection.close()
            else:
                return connection

    def _give_back(self, connection: Connection) -> None:
        if connection.closed:
            return
        try:
            self._idle.put_nowait(connection)
        except queue.Full:
            connection.close()


class SessionStore:
    """Creates, refreshes and ends sessions."""

    def __init__(self, database: SessionDatabase, cache: redis.Redis) -> None:
        self._database = database
        self._cache = cache

    def login(self, email: str, password: str) -> OpenedSession:
        """Create a session. Raises LoginRefused: 401 `bad-credentials`, 403 `inactive-user`."""
        with self._database.transaction() as connection:
            user = connection.execute("SELECT id, role, password_hash, is_active FROM users WHERE email = %s", [email]).fetchone()
            if user is None or not password_matches(password, user[2]):
                raise LoginRefused(401, "bad-credentials")
            if not user[3]:
                raise LoginRefused(403, "inactive-user")
            connection.execute("UPDATE users SET last_login_at = now() WHERE id = %s", [user[0]])
            opened = _insert(connection, user[0], user[1])
        self._remember(opened)
        return opened

    def refresh(self, token: str) -> OpenedSession:
        """Replace a session by a new row with a new time of creation; the old refresh token is spent.

        It checks the row only, not the revocations.
        Raises LoginRefused: 401 `bad-refresh-token`, 403 `inactive-user`; then nothing has changed.
        """
        with self._database.transaction() as connection:
            row = connection.execute(
                "DELETE FROM refresh_sessions USING users WHERE users.id = user_id AND token_hash = %s"
                " RETURNING refresh_sessions.id, user_id, role, is_active, expires_at > now()",
                [token_hash(token)],
            ).fetchone()
            if row is None or not row[4]:
                raise LoginRefused(401, "bad-refresh-token")
            if not row[3]:
                raise LoginRefused(403, "inactive-user")
            opened = _insert(connection, row[1], row[2])
        self._cache.unlink(_key(row[1], row[0]))
        self._remember(opened)
        return opened

    def email(self, user_id: int) -> str | None:
        """The e-mail of a user, or None where there is no such user."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT email FROM users WHERE id = %s", [user_id]).fetchone()
        return None if row is None else str(row[0])

    def revoked(self, access: AccessToken) -> bool:
        """Whether a mark ends this token: one issued at or before the mark's millisecond."""
        marks: list[Any] = self._cache.mget(MARK_ALL, _user_mark(access.user_id))
        return any(mark is not None and access.issued_at <= int(mark) for mark in marks)

    def end(self, session_id: int) -> int:
        """End one session by its row. Returns how many ended: 0 or 1."""
        return self._end("DELETE FROM refresh_sessions WHERE id = %s RETURNING user_id, id", [session_id])

    def end_by_token(self, token: str) -> int:
        """End one session by its refresh token. Returns how many ended: 0 or 1."""
        return self._end("DELETE FROM refresh_sessions WHERE token_hash = %s RETURNING user_id, id", [token_hash(token)])

    def revoke_user(self, user_id: int, now: int) -> int:
        """Mark every access token of a user up to `now` (epoch ms) as refused and end the user's sessions.

        Returns the number of rows deleted.
        """
        self._cache.set(_user_mark(user_id), now)
        ended = self._end("DELETE FROM refresh_sessions WHERE user_id = %s RETURNING user_id, id", [user_id])
        self._forget(f"session:{user_id}:*")
        return ended

    def revoke_all(self, now: int) -> int:
        """Mark every access token up to `now` (epoch ms) as refused and end all sessions begun so far, in batches.

        A session that is refreshed meanwhile has a later time of creation, and lives on. Returns the rows deleted.
        """
        self._cache.set(MARK_ALL, now)
        ended = self._delete_all_rows()
        self._forget("session:*")
        return ended

    def healthy(self) -> None:
        """Query both stores; raises their errors."""
        with self._database.transaction() as connection:
            connection.execute("SELECT 1")
        self._cache.ping()

    def _delete_all_rows(self) -> int:
        with self._database.transaction() as connection:
            cutoff = connection.execute("SELECT now()").fetchone()
        ended, last = 0, 0
        while True:
            with self._database.transaction() as connection:
                rows = connection.execute(
                    "DELETE FROM refresh_sessions WHERE id IN (SELECT id FROM refresh_sessions"
                    " WHERE id > %s AND created_at <= %s ORDER BY id LIMIT %s) RETURNING id",
                    [last, cutoff[0] if cutoff else None, ROWS_AT_ONCE],
                ).fetchall()
            if not rows:
                return ended
            ended += len(rows)
            last = max(row[0] for row in rows)

    def _end(self, statement: psycopg.sql.SQL | str, parameters: list[Any]) -> int:
        with self._database.transaction() as connection:
            rows = connection.execute(statement, parameters).fetchall()
        if rows:
            self._cache.unlink(*(_key(user_id, session_id) for user_id, session_id in rows))
        return len(rows)

    def _remember(self, opened: OpenedSession) -> None:
        self._cache.set(_key(opened.user_id, opened.session_id), json.dumps({"role": opened.role}), ex=ACCESS_TTL)

    def _forget(self, pattern: str) -> None:
        cursor = 0
        while True:
            cursor, keys = self._cache.scan(cursor, match=pattern, count=KEYS_AT_ONCE)
            if keys:
                self._cache.unlink(*keys)
            if cursor == 0:
                return


def _insert(connection: Connection, user_id: int, role: str) -> OpenedSession:
    token = refresh_token()
    row = connection.execute(
        "INSERT INTO refresh_sessions (user_id, token_hash, created_at, expires_at)"
        " VALUES (%s, %s, now(), now() + %s::interval) RETURNING id",
        [user_id, token_hash(token), REFRESH_LIFETIME],
    ).fetchone()
    assert row is not None
    return OpenedSession(user_id, role, row[0], token)


def _key(user_id: int, session_id: int) -> str:
    return f"session:{user_id}:{session_id}"


def _user_mark(user_id: int) -> str:
    return f"auth:revoked:user:{user_id}"
