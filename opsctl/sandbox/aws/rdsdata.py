"""The RDS Data API, served from the sandbox's real PostgreSQL.

As AWS: a statement is stopped after 45 s, a transaction is dropped after 3 idle minutes, a result is at most 1 MB.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opsctl.sandbox.aws import rdsdata_sql
from opsctl.sandbox.aws.wire import Answer, AwsError, Request

if TYPE_CHECKING:
    import psycopg

STATEMENT_MILLISECONDS = 45_000
IDLE_SECONDS = 180
RESULT_BYTES = 1024 * 1024


@dataclass
class _Transaction:
    connection: psycopg.Connection[Any]
    used_at: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class FakeRdsData:
    """Statements and transactions. `login` reads a secret's value by ARN or name (and raises AwsError without one).

    `serves` tells whether another cluster than the seeded one has its Data API on, by its ARN.
    """

    def __init__(
        self,
        facts: Mapping[str, str],
        clock: Callable[[], float],
        login: Callable[[str, str], Mapping[str, Any]],
        serves: Callable[[str], bool] = lambda arn: False,
    ) -> None:
        self._facts = facts
        self._clock = clock
        self._login = login
        self._serves = serves
        self._transactions: dict[str, _Transaction] = {}
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {
            "ExecuteStatement": self._execute,
            "BatchExecuteStatement": self._batch,
            "BeginTransaction": self._begin,
            "CommitTransaction": self._commit,
            "RollbackTransaction": self._rollback,
        }

    def close(self) -> None:
        """Drop every open transaction."""
        while self._transactions:
            _, transaction = self._transactions.popitem()
            transaction.connection.close()

    def _execute(self, request: Request) -> dict[str, Any]:
        params = request.params
        sql, values = rdsdata_sql.bind(_sql(params), params.get("parameters", []))
        with self._connection(request) as connection, _database_errors():
            cursor = connection.execute(sql.encode(), values or None)
            rows = rdsdata_sql.records(cursor)
            updated = 0 if cursor.description else max(cursor.rowcount, 0)
            metadata = rdsdata_sql.column_metadata(cursor)
        answer: dict[str, Any] = {"numberOfRecordsUpdated": updated, "generatedFields": []}
        if params.get("formatRecordsAs") == "JSON" and metadata:
            answer["formattedRecords"] = rdsdata_sql.formatted([column["label"] for column in metadata], rows)
        elif metadata:
            answer["records"] = rows
        if params.get("includeResultMetadata") and metadata:
            answer["columnMetadata"] = metadata
        if len(json.dumps(answer)) > RESULT_BYTES:
            raise AwsError("BadRequestException", "Database returned more than the allowed response size limit")
        return answer

    def _batch(self, request: Request) -> dict[str, Any]:
        params = request.params
        sets = params.get("parameterSets") or [[]]
        bound = [rdsdata_sql.bind(_sql(params), parameters) for parameters in sets]
        with self._connection(request) as connection, _database_errors(), connection.transaction():
            for sql, values in bound:
                connection.execute(sql.encode(), values or None)
        return {"updateResults": [{"generatedFields": []} for _ in bound]}

    def _begin(self, request: Request) -> dict[str, Any]:
        self._drop_idle()
        connection = self._connect(request.params, request.region)
        with _database_errors():
            connection.execute("BEGIN")
        identifier = secrets.token_urlsafe(96)
        self._transactions[identifier] = _Transaction(connection, self._clock())
        return {"transactionId": identifier}

    def _commit(self, request: Request) -> dict[str, Any]:
        self._end(request, "COMMIT")
        return {"transactionStatus": "Transaction Committed"}

    def _rollback(self, request: Request) -> dict[str, Any]:
        self._end(request, "ROLLBACK")
        return {"transactionStatus": "Rollback Complete"}

    def _end(self, request: Request, command: str) -> None:
        self._check_cluster(request.params)
        identifier = str(request.params.get("transactionId"))
        transaction = self._transaction(identifier)
        with transaction.lock, _database_errors():
            try:
                transaction.connection.execute(command.encode())
            finally:
                self._transactions.pop(identifier, None)
                transaction.connection.close()

    def _transaction(self, identifier: str) -> _Transaction:
        self._drop_idle()
        transaction = self._transactions.get(identifier)
        if transaction is None:
            raise AwsError("TransactionNotFoundException", f"Transaction {identifier} is not found", 404)
        transaction.used_at = self._clock()
        return transaction

    def _drop_idle(self) -> None:
        oldest = self._clock() - IDLE_SECONDS
        idle = [key for key, each in self._transactions.items() if each.used_at < oldest and not each.lock.locked()]
        for identifier in idle:
            self._transactions.pop(identifier).connection.close()

    @contextmanager
    def _connection(self, request: Request) -> Iterator[psycopg.Connection[Any]]:
        if identifier := request.params.get("transactionId"):
            self._check_cluster(request.params)
            transaction = self._transaction(str(identifier))
            with transaction.lock:
                yield transaction.connection
                transaction.used_at = self._clock()
            return
        connection = self._connect(request.params, request.region)
        try:
            yield connection
        finally:
            connection.close()

    def _check_cluster(self, params: Mapping[str, Any]) -> None:
        arn = params.get("resourceArn")
        if arn != self._facts.get("db_cluster_arn") and not self._serves(str(arn)):
            message = f"HttpEndpoint is not enabled for resource {arn}"
            raise AwsError("BadRequestException", message)

    def _connect(self, params: Mapping[str, Any], region: str) -> psycopg.Connection[Any]:
        import psycopg
        from psycopg.types.string import StrDumperVarchar

        self._check_cluster(params)
        login = self._login(region, str(params.get("secretArn", "")))
        options = (
            f"-c statement_timeout={STATEMENT_MILLISECONDS} -c timezone=UTC -c bytea_output=hex "
            f"-c idle_in_transaction_session_timeout={IDLE_SECONDS * 1000}"
        )
        try:
            connection = psycopg.connect(
                host=self._facts["pg_host"],
                port=self._facts["pg_port"],
                dbname=params.get("database") or self._facts["database"],
                user=login["username"],
                password=login["password"],
                options=options,
                application_name="rds-data",
                autocommit=True,
                connect_timeout=5,
            )
        except psycopg.OperationalError as error:
            raise AwsError("BadRequestException", str(error).strip()) from error
        connection.adapters.register_dumper(str, StrDumperVarchar)
        return connection


def _sql(params: Mapping[str, Any]) -> str:
    if not params.get("sql"):
        raise AwsError("BadRequestException", "SQL is empty.")
    return str(params["sql"])


@contextmanager
def _database_errors() -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        if "statement timeout" in str(error):
            message = f"Request timed out after {STATEMENT_MILLISECONDS // 1000} s"
            raise AwsError("StatementTimeoutException", message, dbConnectionId=0) from error
        raise _as_aws_error(error) from error
    except psycopg.Error as error:
        raise _as_aws_error(error) from error


def _as_aws_error(error: psycopg.Error) -> AwsError:
    """The database's own words, and its SQLSTATE, as AWS gives them."""
    primary = error.diag.message_primary or str(error).strip()
    position = f"; Position: {error.diag.statement_position}" if error.diag.statement_position else ""
    severity = error.diag.severity or "ERROR"
    return AwsError("DatabaseErrorException", f"{severity}: {primary}{position}; SQLState: {error.sqlstate or '08006'}")
