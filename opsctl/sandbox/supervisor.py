"""An application that holds database connections, as the API's pool does: some idle, one inside a transaction, and on demand too many.

On demand it also runs long queries: ones that sleep, ones that wait for a lock, and ones that go on when they are cancelled. All come as
the application's role, under its name, and carry literals as real ones do.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping

import psycopg
from psycopg.rows import TupleRow

from opsctl.files import readable
from opsctl.sandbox import postgres
from opsctl.sandbox.processes import wait_until

APPLICATION = "safawinet-api"
IDLE = 2
PAUSE = 2.0
"""Seconds in which the pool comes back, as a real one's would."""
PATIENCE = 10.0
LOCK = 7919
MOST = 1_000

KINDS = {
    "sleeping": "SELECT email, last_login_at FROM users WHERE email = 'user9@example.com' AND pg_sleep(3600) IS NULL",
    "waiting": f"SELECT pg_advisory_xact_lock({LOCK}) /* for user9@example.com */",
    "stubborn": (
        "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(3600), 'user9@example.com'; EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$"
    ),
}
"""What a long query does, by its kind; the transaction that the pool holds has the lock."""


class ConnectionHolder:
    """Holds connections to the sandbox's database until they are released. Thread-safe."""

    def __init__(self, facts: Mapping[str, str]) -> None:
        self._facts = facts
        self._lock = threading.RLock()
        self._pool: list[postgres.Connection] = []
        self._demanded: list[postgres.Connection] = []
        self._timer: threading.Timer | None = None

    def open(self) -> None:
        """Open the pool's connections now."""
        with self._lock:
            if self._pool and not _is_open(self._pool[0]):
                self._end(self._pool)
            if not self._pool:
                self._pool = [self._connect() for _ in range(IDLE + 1)]
                self._pool[0].execute("BEGIN")
                self._pool[0].execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])

    def keep_open(self) -> None:
        """Have the pool's connections from in a moment on: who puts the data back again and again needn't wait for them.

        A connection that is lost, in a crash or a failover, comes back as soon.
        """
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(PAUSE, self._keep)
            self._timer.daemon = True
            self._timer.start()

    def run_queries(self, count: int, kind: str) -> list[int]:
        """Begin long queries, and return their backends' pids once all of them run.

        Raises KeyError for an unknown kind, ValueError for a count that is none, psycopg.Error where no connection is left.
        """
        text = KINDS[kind].encode()
        _check(count)
        with self._lock:
            self.open()
            made = [self._connect() for _ in range(count)]
            self._demanded += made
            for connection in made:
                connection.pgconn.send_query(text)
                connection.pgconn.flush()
            pids = [connection.info.backend_pid for connection in made]
            busy = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s) AND state = 'active'"
            with self._superuser() as looking:
                wait_until(lambda: _number(looking, busy, pids) == count, PATIENCE)
        return pids

    def take_connections(self, count: int) -> int:
        """Take so many idle connections, or all that an application can get when `count` is 0; returns how many those are."""
        _check(count or 1)
        with self._lock:
            self.open()
            taken = 0
            with contextlib.suppress(psycopg.OperationalError):
                while taken < (count or MOST):
                    self._demanded.append(self._connect())
                    taken += 1
        return taken

    def count(self) -> int:
        """How many client connections the database has; raises psycopg.Error when it can't be reached."""
        with self._superuser() as looking:
            row = looking.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'").fetchone()
        return int(row[0]) - 1 if row else 0

    def let_go(self) -> None:
        """End what was demanded, long queries too; the pool stays."""
        with self._lock:
            self._end(self._demanded)

    def reset(self) -> None:
        """End everything: the database is about to be put back."""
        with self._lock:
            self._end(self._demanded)
            self._end(self._pool)

    def _end(self, connections: list[postgres.Connection]) -> None:
        if not connections:
            return
        pids = [connection.info.backend_pid for connection in connections if not connection.closed]
        for connection in connections:
            # A backend that works doesn't see its client leave, so that it is told.
            connection.pgconn.finish()
        connections.clear()
        with contextlib.suppress(psycopg.Error), self._superuser() as telling:
            telling.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY(%s) AND application_name = %s", [pids, APPLICATION]
            )
            gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)"
            wait_until(lambda: _number(telling, gone, pids) == 0, PATIENCE)

    def _keep(self) -> None:
        # The database may be down or on its way, in a rehearsal as in life.
        with contextlib.suppress(psycopg.Error):
            self.open()
        self.keep_open()

    def _connect(self) -> postgres.Connection:
        return psycopg.connect(
            host=self._facts["pg_host"],
            port=self._facts["pg_port"],
            user=self._facts["pg_user"],
            password=self._facts["pg_password"],
            dbname=self._facts["database"],
            application_name=APPLICATION,
            autocommit=True,
            connect_timeout=5,
        )

    def _superuser(self) -> postgres.Connection:
        return postgres.connect(int(self._facts["pg_port"]), self._facts["pg_superuser_password"])


def _is_open(connection: postgres.Connection) -> bool:
    """Whether the server has said nothing: all that an idle connection can hear is its end."""
    return not connection.closed and not readable([connection.fileno()])


def _check(count: int) -> None:
    if not 0 < count <= MOST:
        raise ValueError(f"expected 1 to {MOST:,}, got {count}")


def _number(connection: psycopg.Connection[TupleRow], query: str, pids: list[int]) -> int:
    row = connection.execute(query.encode(), [pids]).fetchone()
    return int(row[0]) if row else 0
