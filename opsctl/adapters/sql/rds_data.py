"""The database over the RDS Data API, with the same SQL and Python types as the postgres driver.

Facts: a statement is stopped after 45 s, a transaction is dropped after 3 idle minutes, a result is at most 1 MB
(AWS, "Using RDS Data API").
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from opsctl.adapters.aws.failures import TURNED_AWAY
from opsctl.adapters.base import Adapter, writes
from opsctl.adapters.sql import database, reader_rights
from opsctl.adapters.sql.database import Busy, Row
from opsctl.errors import CredentialsInvalid, Denied, ExternalError, Hint, NotFound, OpsctlError, OutcomeUnknown, Retry, Unreachable
from opsctl.retry import Policy, TryAgain, retry

if TYPE_CHECKING:
    from opsctl.adapters.sql.database import Statement

PLACEHOLDER = re.compile(r"%%|%\((\w+)\)s|%")
STATE = re.compile(r";?\s*SQLState: (\w{5})")
# Errors of this API: AWS's code, the message, and the hint.
REFUSALS: dict[str, tuple[type[OpsctlError], str, Hint]] = {
    "StatementTimeoutException": (Busy, "The Data API stopped a statement at its time limit", Retry("Wait a moment")),
    "DatabaseResumingException": (Busy, "The database is waking up", Retry("Wait a minute")),
    "DatabaseUnavailableException": (Unreachable, "The Data API found no writer", Retry("Wait for the failover")),
    "DatabaseNotFoundException": (NotFound, "The Data API found no such database", "Check name in [database]."),
    "InvalidSecretException": (CredentialsInvalid, "The Data API can't log in", "Check login and reader in [database]."),
    "SecretsErrorException": (CredentialsInvalid, "The Data API can't log in", "Check login and reader in [database]."),
    "ForbiddenException": (Denied, "AWS denied rds-data:ExecuteStatement", "Ask your administrator for this permission."),
    "HttpEndpointNotEnabledException": (ExternalError, "The cluster has no Data API", "Enable it, or choose driver postgres."),
    "TransactionNotFoundException": (ExternalError, "The Data API dropped the transaction", Retry()),
    "BadRequestException": (ExternalError, "The Data API refused", ""),
}
DROPPED = "TransactionNotFoundException"
RESUMING = "DatabaseResumingException"
WAKING = Policy(tries=9, deadline=90.0, first=1.0, longest=10.0, jitter=0.2)
"""The retry policy while a cluster resumes from its automatic pause, which takes 15 s, or longer after a day; the request was cancelled."""
ENDED = ("57P01", "57P02", "57P05", "08003", "08006")
"""SQLSTATEs of a connection that the server closed; PostgreSQL documentation, appendix A."""


class RdsData(Adapter):
    """A `Database` over the Data API. A read-only one works in one read-only transaction that is never committed.

    `client` is botocore's `rds-data`, which must not retry when `writing`; `login` is the line to type when AWS knows no login.
    """

    def __init__(self, client: Any, *, resource_arn: str, secret_arn: str, name: str, login: str, writing: bool) -> None:
        super().__init__(writing=writing)
        self._client = client
        self._where = {"resourceArn": resource_arn, "secretArn": secret_arn}
        self._name = name
        self._login = login
        self._lock = threading.RLock()
        self._transaction: str | None = None
        self._inside = False
        self._failed = False

    def query(self, statement: Statement, /, **params: Any) -> list[Row]:
        """Return the rows of a statement, each by column name; ExternalError and its kinds when it fails."""
        text = database.render(statement)
        with self._lock:
            if self.writing:
                return _records(self._run(text, params, effect=not self._inside and not database.reads(text)))
            database.require_read_statement(text)
            return _records(self._read(text, params))

    @writes
    def execute(self, statement: Statement, /, **params: Any) -> int:
        """Run a statement and return how many rows it touched; see `Database`."""
        with self._lock:
            answer = self._run(database.render(statement), params, effect=not self._inside)
            return int(answer.get("numberOfRecordsUpdated", 0))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction for the statements of this thread; see `Database`. It can't be nested."""
        with self._lock:
            if self._inside:
                raise RuntimeError("a transaction is already open")
            if self.writing:
                self._transaction = self._begin()
            self._inside, self._failed = True, False
            try:
                yield
            except BaseException:
                self.close()
                raise
            finally:
                self._inside = False
            if self._failed:
                self.close()
                raise database.not_committed()
            if self.writing:
                identifier, self._transaction = self._transaction, None
                self._call("CommitTransaction", effect=True, transactionId=identifier)

    def server_time(self) -> datetime:
        """The server's current time."""
        now: datetime = self.query(database.SERVER_TIME)[0]["now"]
        return now

    def close(self) -> None:
        """Roll back the open transaction, if any; the service does it later when this fails."""
        with self._lock:
            identifier, self._transaction = self._transaction, None
            if identifier is not None:
                with suppress(OpsctlError):
                    self._call("RollbackTransaction", transactionId=identifier)

    def _read(self, text: str, params: dict[str, Any]) -> dict[str, Any]:
        """Run a read statement; retried in a new transaction when the service or a failover ended the open one."""
        fresh = self._transaction is None
        try:
            return self._run_reading(text, params)
        except OpsctlError as error:
            self.close()
            if fresh or not _is_dropped(error.__cause__):
                raise
        return self._run_reading(text, params)

    def _run_reading(self, text: str, params: dict[str, Any]) -> dict[str, Any]:
        if self._transaction is None:
            self._transaction = self._begin()
            self._run("SET TRANSACTION READ ONLY", {}, effect=False)
            # After its first query a transaction can't become READ WRITE again.
            (rights,) = _records(self._run(reader_rights.QUERY, reader_rights.PARAMETERS, effect=False))
            reader_rights.require_reader_only(rights)
        return self._run(text, params, effect=False)

    def _begin(self) -> str:
        return str(self._call("BeginTransaction", database=self._name)["transactionId"])

    def _run(self, text: str, params: dict[str, Any], *, effect: bool) -> dict[str, Any]:
        statement, parameters = bind(text, params)
        there = {"transactionId": self._transaction} if self._transaction else {}
        return self._call(
            "ExecuteStatement",
            effect=effect,
            database=self._name,
            sql=statement,
            parameters=parameters,
            includeResultMetadata=True,
            **there,
        )

    def _call(self, operation: str, *, effect: bool = False, **parameters: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        send = getattr(self._client, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).lower())

        def once() -> dict[str, Any]:
            try:
                answer: dict[str, Any] = send(**{**self._where, **parameters})
                return answer
            except (BotoCoreError, ClientError, ResponseParserError) as cause:
                error = self._translated(cause, operation, effect)
                error.__cause__ = cause
                raise TryAgain(error) if _code_and_message(cause)[0] == RESUMING else error from cause

        try:
            return retry(once, WAKING, sleep=time.sleep)
        except OpsctlError:
            self._failed = True
            raise

    def _translated(self, cause: BaseException, operation: str, effect: bool) -> OpsctlError:
        from opsctl.adapters.aws.failures import translate

        if effect and _may_have_committed(cause, operation):
            code, message = _code_and_message(cause)
            words = f"rds-data:{operation} answered {code}: {database.one_line(message)} It may or may not have been committed."
            return OutcomeUnknown(words, Retry())
        known = _refused(*_code_and_message(cause), effect)
        return known or translate(cause, effect=effect, service="rds-data", operation=operation, login=self._login)


def bind(text: str, params: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Turn psycopg's placeholders into the Data API's, and values into its typed fields; KeyError for one without a value."""
    used: dict[str, dict[str, Any]] = {}

    def placeholder(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return "%"
        used[name] = {"name": name, **_field(params[name])}
        # The TIMESTAMP hint supports neither microseconds nor a time zone.
        return f"CAST(:{name} AS timestamptz)" if isinstance(params[name], datetime) else f":{name}"

    statement = PLACEHOLDER.sub(placeholder, text)
    return statement, list(used.values())


def _field(value: Any) -> dict[str, Any]:
    """A value as the API's field, with its type hint; raises TypeError for an unsupported type."""
    hinted = {Decimal: "DECIMAL", UUID: "UUID", date: "DATE"}
    match value:
        case None:
            return {"value": {"isNull": True}}
        case bool():
            return {"value": {"booleanValue": value}}
        case int():
            return {"value": {"longValue": value}}
        case float():
            return {"value": {"doubleValue": value}}
        case str():
            return {"value": {"stringValue": value}}
        case bytes():
            return {"value": {"blobValue": value}}
        case datetime() if value.tzinfo is not None:
            return {"value": {"stringValue": value.astimezone(UTC).isoformat(sep=" ")}}
        case dict() | list():
            return {"value": {"stringValue": json.dumps(value)}, "typeHint": "JSON"}
        case Decimal() | UUID() | date() if type(value) in hinted:
            return {"value": {"stringValue": str(value)}, "typeHint": hinted[type(value)]}
    raise TypeError(f"a parameter can't be {type(value).__name__}; times are aware")


def _records(answer: dict[str, Any]) -> list[Row]:
    columns = [(column["label"], column["typeName"].lower()) for column in answer.get("columnMetadata", [])]
    return [
        {name: _value(kind, field) for (name, kind), field in zip(columns, record, strict=True)} for record in answer.get("records", [])
    ]


def _value(kind: str, field: dict[str, Any]) -> Any:
    if field.get("isNull"):
        return None
    value = next(iter(field.values()))
    if "arrayValue" in field:
        return _list(value)
    match kind:
        case "timestamptz" | "timestamp":
            found = datetime.fromisoformat(value)
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        case "date":
            return date.fromisoformat(value)
        case "numeric":
            return Decimal(str(value))
        case "uuid":
            return UUID(value)
        case "json" | "jsonb":
            return json.loads(value)
    return value


def _list(array: dict[str, Any]) -> list[Any]:
    values: list[Any] = next(iter(array.values()), [])
    return [_list(each) if isinstance(each, dict) else each for each in values]


def _is_dropped(cause: BaseException | None) -> bool:
    code, message = _code_and_message(cause)
    state = STATE.search(message)
    return code == DROPPED or ("Transaction" in message and "is not found" in message) or (state is not None and state[1] in ENDED)


def _code_and_message(cause: BaseException | None) -> tuple[str, str]:
    """AWS's code and message, empty without an answer; some botocore exceptions have a `response` of None."""
    error = (getattr(cause, "response", None) or {}).get("Error", {})
    return str(error.get("Code", "")), str(error.get("Message", ""))


def _may_have_committed(cause: BaseException, operation: str) -> bool:
    """Whether the outcome of a write is unknown: AWS failed, not the database, which would return a SQLSTATE.

    A commit's outcome is unknown after every error except a 4xx. A statement may also fail only because of its result.
    """
    code, message = _code_and_message(cause)
    status = int((getattr(cause, "response", None) or {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if STATE.search(message):
        return False
    if operation == "CommitTransaction":
        return status >= 500 or code == "StatementTimeoutException"
    return (status >= 500 and status != TURNED_AWAY) or code == "UnsupportedResultException"


def _refused(code: str, message: str, effect: bool) -> OpsctlError | None:
    """The error for a refusal of the Data API or the database; None for errors that any AWS service can return."""
    words = database.one_line(STATE.sub("", message).removeprefix("ERROR: "))
    if found := STATE.search(message):
        return database.refusal(found[1], words, writing=effect)
    if code == "BadRequestException" and "password authentication failed" in message:
        code = "InvalidSecretException"
    if code not in REFUSALS:
        return None
    kind, what, following = REFUSALS[code]
    return kind(f"{what}: {words}", following)
