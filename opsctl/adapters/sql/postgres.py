"""PostgreSQL over psycopg at the endpoint from AWS. libpq's variables and files are ignored.

The server's certificate is verified before the login, which uses SCRAM, so that the password itself is never sent: libpq documentation,
"SSL Support" and "require_auth".
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from opsctl import certificates
from opsctl.adapters.base import Adapter, writes
from opsctl.adapters.loopback import loopback_address
from opsctl.adapters.sql import database, reader_rights
from opsctl.adapters.sql.database import Row
from opsctl.errors import ConfigurationError, CredentialsInvalid, ExternalError, NotFound, OpsctlError, Retry, Untrusted, WrongPlace
from opsctl.redaction import Secret

if TYPE_CHECKING:
    import psycopg

    from opsctl.adapters.sql.database import Statement

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 30
OLDEST_LIBPQ = 160_000
"""The first libpq with `require_auth`."""

SESSION = {"timezone": "UTC", "datestyle": "ISO", "intervalstyle": "postgres", "idle_in_transaction_session_timeout": "60s"}
# The Data API returns these types as text; psycopg has to do the same.
AS_TEXT = ("interval", "inet", "cidr", "time", "timetz")

TURNED_AWAY = re.compile(
    r"server does not support SSL.*|SSL error: .*certificate.*|server certificate for .*|could not get server's host name.*"
    r"|(?P<weak>authentication method requirement .*|channel binding .*)"
)
"""libpq's messages when it refuses a server before the login: its source, fe-secure-common.c, fe-secure-openssl.c and fe-auth.c."""

_variables = threading.Lock()


@dataclass(frozen=True)
class PostgresEndpoint:
    """Endpoint and login; with `anywhere`, a read-only instance is accepted too.

    `tunnel` is the local address and port of a tunnel to `host`; the certificate must still be for `host`.
    """

    host: str
    port: int
    name: str
    user: str
    password: Secret
    tls: bool = True
    ca: str = certificates.SYSTEM
    tunnel: tuple[str, int] | None = None
    anywhere: bool = False


class Postgres(Adapter):
    """A `Database` over one connection, which is opened at the first statement and again after it was lost.

    The server stops a statement after `statement_seconds`, and a transaction that idles for a minute.
    """

    def __init__(self, endpoint: PostgresEndpoint, *, writing: bool, statement_seconds: float = STATEMENT_SECONDS) -> None:
        super().__init__(writing=writing)
        self._endpoint = endpoint
        self._statement_seconds = statement_seconds
        self._lock = threading.RLock()
        self._open: psycopg.Connection[Row] | None = None
        self._inside = False

    def query(self, statement: Statement, /, **params: Any) -> list[Row]:
        """Return the rows of a statement, each by column name; ExternalError and its kinds when it fails."""
        text = database.render(statement)
        if not self.writing:
            database.require_read_statement(text)
        with self._lock:
            known = self._open is not None and not self._inside
            try:
                return self._fetched(text, params)
            except ExternalError:
                # A failover ends open connections: a read is retried once over a new one.
                if self.writing or not known or not self._ended:
                    raise
            return self._fetched(text, params)

    def _fetched(self, text: str, params: dict[str, Any]) -> list[Row]:
        with self._translating(effect=self._effect and not database.reads(text)):
            rows = self._connection.execute(text.encode(), self._bound(params)).fetchall()
        return [{name: _to_utc(value) for name, value in row.items()} for row in rows]

    @writes
    def execute(self, statement: Statement, /, **params: Any) -> int:
        """Run a statement and return how many rows it touched; see `Database`."""
        with self._lock, self._translating(effect=self._effect):
            cursor = self._connection.execute(database.render(statement).encode(), self._bound(params))
            return 0 if cursor.description else max(cursor.rowcount, 0)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction for the statements of this thread; see `Database`. It can't be nested."""
        with self._lock:
            if self._inside:
                raise RuntimeError("a transaction is already open")
            connection = self._begun()
            self._inside = True
            try:
                yield
            except BaseException:
                self._inside = False
                self._roll_back(connection)
                raise
            self._inside = False
            with self._translating(effect=self.writing):
                ended = self._commit(connection)
            if ended != "COMMIT":
                raise database.not_committed()

    def _begun(self) -> psycopg.Connection[Row]:
        """A connection in a new transaction; one that was closed while idle is opened again."""
        import psycopg

        known = self._open is not None
        with self._translating(effect=False):
            try:
                self._connection.execute("BEGIN")
            except psycopg.OperationalError:
                if not known or not self._ended:
                    raise
                self._connection.execute("BEGIN")
            return self._connection

    def server_time(self) -> datetime:
        """The server's current time."""
        now: datetime = self.query(database.SERVER_TIME)[0]["now"]
        return now

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    @property
    def _effect(self) -> bool:
        # A lost connection rolls its transaction back; only a statement outside of a transaction has an unknown outcome.
        return self.writing and not self._inside

    @property
    def _ended(self) -> bool:
        return self._open is not None and (self._open.broken or self._open.closed)

    @property
    def _connection(self) -> psycopg.Connection[Row]:
        if self._open is None or (self._ended and not self._inside):
            connection = self._connect()
            if not self.writing:
                try:
                    self._only_reads(connection)
                except BaseException:
                    connection.close()
                    raise
            self._open = connection
        return self._open

    def _only_reads(self, connection: psycopg.Connection[Row]) -> None:
        """Raise Refused when the connected role can do more than read."""
        rights = connection.execute(reader_rights.QUERY, self._bound(reader_rights.PARAMETERS)).fetchone()
        assert rights is not None
        reader_rights.require_reader_only(rights)

    def _connect(self) -> psycopg.Connection[Row]:
        import psycopg
        from psycopg.rows import dict_row

        try:
            with without_pg_variables():
                connection = psycopg.connect(**self._parameters, autocommit=True, prepare_threshold=None, row_factory=dict_row)
        except psycopg.OperationalError as cause:
            raise _no_connection(f"{self._endpoint.host}:{self._endpoint.port}", cause) from cause
        _same_types(connection)
        return connection

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        """All connection parameters; libpq documentation, section "Parameter Key Words"."""
        settings = SESSION | {"statement_timeout": f"{int(self._statement_seconds * 1000)}ms"}
        if not self.writing:
            settings["default_transaction_read_only"] = "on"
        endpoint = self._endpoint
        return {
            **self._security,
            "port": endpoint.tunnel[1] if endpoint.tunnel else endpoint.port,
            "dbname": endpoint.name,
            "user": endpoint.user,
            "password": endpoint.password.reveal(),
            "passfile": os.devnull,
            "application_name": "opsctl",
            "client_encoding": "UTF8",
            "connect_timeout": CONNECT_SECONDS,
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            "require_auth": "scram-sha-256",
            "channel_binding": "prefer",
            "sslcertmode": "disable",
            "gssencmode": "disable",
            "target_session_attrs": "read-write" if self.writing and not endpoint.anywhere else "any",
            "keepalives_idle": 5,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        }

    @property
    def _security(self) -> dict[str, Any]:
        """The parameters that authenticate the server: by the certificate of `host`, or by being on this machine.

        Raises WrongPlace where a password would go elsewhere without TLS, ConfigurationError for a libpq that can't ask for SCRAM.
        """
        from psycopg import pq

        if pq.version() < OLDEST_LIBPQ:
            raise ConfigurationError(
                f"This libpq ({pq.version()}) is too old to refuse insecure logins.",
                "pip install 'psycopg[binary]>=3.2.4'",
            )
        endpoint = self._endpoint
        address = endpoint.tunnel[0] if endpoint.tunnel else None
        if not endpoint.tls:
            address = loopback_address(endpoint.host)
            if address is None or endpoint.tunnel:
                raise WrongPlace(
                    f"The database at {endpoint.host} is not on this machine, but [database] has tls = false.",
                    "Remove tls = false from [database].",
                )
            return {"host": endpoint.host, "hostaddr": address, "sslmode": "disable"}
        verified = {"host": endpoint.host, "sslmode": "verify-full", "sslrootcert": certificates.authorities(endpoint.ca)}
        return verified | ({"hostaddr": address} if address else {})

    def _bound(self, params: dict[str, Any]) -> dict[str, Any]:
        from psycopg.types.json import Json

        return {name: Json(value) if isinstance(value, dict | list) else value for name, value in params.items()}

    def _commit(self, connection: psycopg.Connection[Row]) -> str | None:
        import psycopg

        try:
            return connection.execute("COMMIT").statusmessage
        except psycopg.Error:
            # A COMMIT that hit a time limit leaves the transaction open, and the next BEGIN would fail.
            self._roll_back(connection)
            raise

    def _roll_back(self, connection: psycopg.Connection[Row]) -> None:
        import psycopg

        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            # The server rolls back when the connection ends.
            connection.close()

    @contextmanager
    def _translating(self, *, effect: bool) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as cause:
            if cause.sqlstate:
                raise database.refusal(cause.sqlstate, cause.diag.message_primary or str(cause), writing=effect) from cause
            if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
                raise database.connection_lost(writing=effect, why=str(cause)) from cause
            if isinstance(cause, psycopg.DataError):
                raise ExternalError(f"The database sent an unreadable answer: {database.one_line(str(cause))}") from cause
            raise


@contextmanager
def without_pg_variables() -> Iterator[None]:
    """Hide every PG* variable from libpq; no parameter overrides PGSERVICE, PGTZ or PGSSLROOTCERT."""
    with _variables:
        kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PG")}
        try:
            yield
        finally:
            os.environ.update(kept)


def _same_types(connection: psycopg.Connection[Row]) -> None:
    from psycopg.types.string import StrDumper, TextLoader

    connection.adapters.register_dumper(str, StrDumper)
    for name in AS_TEXT:
        connection.adapters.register_loader(name, TextLoader)


def _to_utc(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value


def _untrusted(where: str, message: str) -> Untrusted | None:
    """The error for a server that libpq refused before it sent a password; None for other failures."""
    found = TURNED_AWAY.search(message)
    if found is None:
        return None
    why = database.one_line(found[0])
    if found["weak"]:
        what = f"The database at {where} asks for the password with an insecure method: {why} No password was sent."
        return Untrusted(what, "Give the role a SCRAM password: SET password_encryption = 'scram-sha-256', then ALTER ROLE ... PASSWORD.")
    bundle = f"Download {certificates.RDS_BUNDLE}, and set `ca` in [database] to the file."
    return certificates.untrusted("The database", where, why, f"RDS has its own certificate authority. {bundle}")


def _no_connection(where: str, cause: psycopg.OperationalError) -> OpsctlError:
    """The error for a failed connection; libpq gives no SQLSTATE, only the server's message."""
    message = str(cause)
    if (distrust := _untrusted(where, message)) is not None:
        return distrust
    fatal = next((line.partition("FATAL:")[2].strip() for line in message.splitlines() if "FATAL:" in line), "")
    if "connection slots" in fatal or "too many" in fatal:
        return database.Busy(
            f"The database has no free connection: {database.one_line(fatal)}",
            Retry(
                "Reserve connections, and GRANT pg_use_reserved_connections to the roles of [database] reader and rescue; or wait a minute"
            ),
        )
    if "authentication failed" in fatal or "pg_hba.conf" in fatal or "role " in fatal:
        return CredentialsInvalid(
            f"The database at {where} rejected the login: {database.one_line(fatal)}",
            "Check the login that [database] refers to.",
        )
    if "database " in fatal and "does not exist" in fatal:
        return NotFound(f"{database.one_line(fatal)}", "Check name in [database] of the configuration.")
    return database.unreachable(where, fatal or message)
