"""The protocol of the application's database. Two drivers accept the same SQL and return the same Python types.

SQL is written as psycopg takes it: `%(name)s` for a value, `%%` for a percent sign, `psycopg.sql` objects for identifiers. A text
parameter is text: cast it where the column is something else, a list goes as one JSON text. Results are int, float, Decimal,
bool, str, bytes, UUID, date, decoded JSON, None, and datetimes aware in UTC; every other type comes as PostgreSQL's text.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from opsctl.errors import (
    CredentialsInvalid,
    Denied,
    ExternalError,
    NotFound,
    OpsctlError,
    OutcomeUnknown,
    ReadOnly,
    Retry,
    Unreachable,
)
from opsctl.redaction import clean_sentence

if TYPE_CHECKING:
    from psycopg import sql

    Statement = str | sql.Composable

Row = dict[str, Any]

SERVER_TIME = "SELECT clock_timestamp() AS now"

READING_WORD = re.compile(r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*(?:SELECT|WITH|SHOW|VALUES|TABLE|EXPLAIN)\b", re.IGNORECASE | re.DOTALL)
# A read-only transaction allows these functions; some can be revoked from a role, pg_notify can't.
EFFECT = re.compile(
    r"\b(pg_notify|pg_(?:terminate|cancel)_backend|pg_(?:try_)?advisory\w*|pg_reload_conf|pg_rotate_logfile|pg_switch_wal|pg_promote"
    r"|pg_stat_reset\w*|pg_stat_statements_reset|pg_logical_\w+|pg_(?:create|drop)_\w+|lo_\w+|dblink\w*|set_config)\s*\(",
    re.IGNORECASE,
)


class Busy(ExternalError):
    """Raised when a statement was rolled back because of a lock, a deadlock or a time limit; it may be retried."""


class ReferencedRows(ExternalError):
    """Raised when a statement was rolled back because of a constraint or a trigger."""


class Database(Protocol):
    """A connection to the application's database. Safe between threads: a statement or a transaction at a time."""

    writing: bool

    def query(self, statement: Statement, /, **params: Any) -> list[Row]:
        """Return the rows of a statement, each by column name; ExternalError and its kinds when it fails."""
        ...

    def execute(self, statement: Statement, /, **params: Any) -> int:
        """Run a statement that returns no rows, and return how many it touched.

        Raises ReadOnly on a reading system, Busy for a lock or a time limit, OutcomeUnknown when its connection was lost.
        """
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """A transaction for the statements of this thread inside the block; rolled back on an exception.

        Raises OutcomeUnknown when the connection was lost during the commit.
        """
        ...

    def server_time(self) -> datetime:
        """The server's current time."""
        ...

    def close(self) -> None:
        """Close the connection; the next statement opens another."""
        ...


def render(statement: Statement) -> str:
    """The SQL text of a statement, with its placeholders."""
    return statement if isinstance(statement, str) else statement.as_string(None)


def require_read_statement(text: str) -> None:
    """Raise ReadOnly unless the SQL text is a single read statement. The session and the role are read-only too."""
    if not READING_WORD.match(text):
        raise ReadOnly(f"{_begin(text)} is not a read statement, and this connection is read-only.")
    if ";" in text.rstrip().removesuffix(";"):
        raise ReadOnly("A read-only connection accepts one statement at a time, without a semicolon.")
    if found := EFFECT.search(text):
        raise ReadOnly(f"{found[1]} has side effects, and this connection is read-only.")


def reads(text: str) -> bool:
    """Whether a statement certainly has no side effects; one that starts with WITH may have some."""
    begun = READING_WORD.match(text)
    return begun is not None and not begun[0].upper().endswith(("WITH", "EXPLAIN")) and not EFFECT.search(text)


def _begin(text: str) -> str:
    return " ".join(text.split()[:2]) or "Nothing"


def refusal(state: str, message: str, *, writing: bool) -> OpsctlError:
    """The error for a SQLSTATE; `message` is PostgreSQL's, `writing` whether the statement was a write.

    States: PostgreSQL documentation, appendix A. All of these roll the statement back, except a lost connection.
    """
    if state in ("40003", "57P01", "57P02", "57P05") or state[:2] == "08":
        return connection_lost(writing=writing, why=message)
    message = one_line(message)
    own = {"code": state, "words": message}
    if state == "42501":
        return Denied(f"The database denied the statement: {message}", "Grant this role the missing permission.", **own)
    if state == "25006":
        return ReadOnly(f"The database session is read-only: {message}")
    if state in ("55P03", "40P01", "40001", "57014"):
        return Busy(f"The database was busy: {message} The statement was rolled back.", Retry("Wait a moment"), **own)
    if state == "53300":
        return Busy(f"The database has no free connection: {message}", Retry("Look at opsctl database connections"), **own)
    if state[:2] == "28":
        return CredentialsInvalid(f"The database rejected the login: {message}", "Check the login that [database] refers to.", **own)
    if state in ("3D000", "42P01", "42703", "3F000"):
        return NotFound(f"The database has no such object: {message}", "Check [database] and [sessions] in the configuration.", **own)
    if state[:2] in ("23", "27", "44") or state == "P0001":
        return ReferencedRows(f"The database refused the statement ({state}): {message}", **own)
    return ExternalError(f"The database refused the statement ({state}): {message}", **own)


def connection_lost(*, writing: bool, why: str) -> OpsctlError:
    """The error for a connection that was lost after a statement was sent; the outcome of a write is then unknown."""
    why = one_line(why)
    if writing:
        return OutcomeUnknown(
            f"The database connection was lost during a write: {why} It may or may not have been committed.",
            Retry(),
        )
    return ExternalError(
        f"The database did not answer in time, or closed the connection: {why} The transaction was not committed.", Retry()
    )


def not_committed() -> ExternalError:
    """The error for a COMMIT after a failed statement, which PostgreSQL turns into a rollback."""
    return ExternalError("A statement of the transaction failed, so the whole transaction was rolled back.", Retry())


def unreachable(where: str, why: str) -> Unreachable:
    """The error for a failed connection."""
    return Unreachable(
        f"The database at {where} is unreachable: {one_line(why)}",
        Retry("Check the network (VPN, security group)"),
    )


def one_line(text: str) -> str:
    """The first line of a server's message, cleaned of secrets, with a full stop."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "it gave no reason")
    return clean_sentence(first)
