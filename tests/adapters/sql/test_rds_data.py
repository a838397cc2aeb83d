"""What belongs to the Data API: its read-only transaction, its errors, its lost answers."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from opsctl.adapters.sql import rds_data
from opsctl.adapters.sql.database import Busy, ReferencedRows
from opsctl.adapters.sql.rds_data import RdsData, _refused, bind
from opsctl.errors import CredentialsInvalid, Denied, ExternalError, NotFound, OutcomeUnknown, ReadOnly, Throttled, Unreachable
from opsctl.retry import Policy
from opsctl.sandbox import lifecycle
from opsctl.sandbox.faults import Rule

DRIVER = {'driver = "postgres"': 'driver = "rds-data"'}
COUNT = "SELECT count(*) AS n FROM refresh_sessions WHERE user_id = 3"
DELETE = "DELETE FROM refresh_sessions WHERE user_id = 3"


@pytest.fixture
def reading(systems):
    made = systems(writing=False, replace=DRIVER).database
    yield made
    made.close()


@pytest.fixture
def writing(systems):
    made = systems(writing=True, replace=DRIVER).database
    yield made
    made.close()


def test_the_transaction_alone_stops_writes(reading):
    """Past the driver's own look at the words."""
    before = reading.query(COUNT)
    for statement in ("SET TRANSACTION READ WRITE", DELETE):
        with pytest.raises(ExternalError if statement.startswith("SET") else ReadOnly):
            reading._run_reading(statement, {})
        reading.close()
    assert reading.query(COUNT) == before


def test_the_session_of_a_reading_one_knows_no_commit(reading):
    reading.query(COUNT)
    with pytest.raises(ReadOnly, match="CommitTransaction"):
        reading._call("CommitTransaction", transactionId=reading._transaction)


def test_a_dropped_idle_transaction_is_begun_anew(reading):
    before = reading.query(COUNT)
    reading._client.rollback_transaction(
        resourceArn=reading._where["resourceArn"], secretArn=reading._where["secretArn"], transactionId=reading._transaction
    )
    assert reading.query(COUNT) == before


@pytest.mark.parametrize("action", ["timeout-after-effect", "fail"])
def test_an_answer_lost_under_a_write_leaves_a_doubt_and_is_not_sent_again(writing, folder, action):
    assert writing.query(COUNT)[0]["n"] > 0
    lifecycle.set_fault(folder, Rule("aws", "rds-data.ExecuteStatement", action))
    with pytest.raises(OutcomeUnknown):
        writing.execute(DELETE)
    assert lifecycle.faults(folder) == []
    assert (writing.query(COUNT)[0]["n"] == 0) == (action == "timeout-after-effect")


def test_an_answer_lost_before_the_commit_leaves_no_doubt(writing, folder):
    def delete():
        with writing.transaction():
            writing.execute(DELETE)

    before = writing.query(COUNT)
    lifecycle.set_fault(folder, Rule("aws", "rds-data.ExecuteStatement", "timeout-after-effect"))
    with pytest.raises(ExternalError):
        delete()
    assert writing.query(COUNT) == before


def test_an_answer_lost_during_the_commit_leaves_a_doubt(writing, folder):
    def delete():
        with writing.transaction():
            writing.execute(DELETE)

    lifecycle.set_fault(folder, Rule("aws", "rds-data.CommitTransaction", "timeout-after-effect"))
    with pytest.raises(OutcomeUnknown):
        delete()
    assert writing.query(COUNT)[0]["n"] == 0


@pytest.mark.parametrize(("action", "error"), [("throttle", Throttled), ("refuse", Denied)])
def test_what_aws_refuses_is_told_as_for_any_service(writing, folder, action, error):
    lifecycle.set_fault(folder, Rule("aws", "rds-data.*", action, times=0))
    with pytest.raises(error):
        writing.execute(DELETE)


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        ("StatementTimeoutException", "Request timed out", Busy),
        ("DatabaseResumingException", "The instance is resuming", Busy),
        ("DatabaseUnavailableException", "The writer instance in the DB cluster isn't available", Unreachable),
        ("BadRequestException", 'FATAL: password authentication failed for user "x"', CredentialsInvalid),
        ("BadRequestException", "Database returned more than the allowed response size limit", ExternalError),
        ("DatabaseErrorException", 'ERROR: relation "x" does not exist; Position: 15; SQLState: 42P01', NotFound),
        ("DatabaseErrorException", "ERROR: canceling statement due to lock timeout; SQLState: 55P03", Busy),
        ("BadRequestException", "ERROR: terminating connection; SQLState: 57P01", OutcomeUnknown),
    ],
)
def test_what_the_data_api_says_is_understood(code, message, error):
    assert type(_refused(code, message, effect=True)) is error


def test_placeholders_become_the_data_apis():
    statement, parameters = bind("SELECT '%%', %(a)s, :b, %(a)s::text, x %% %(n)s", {"a": "%(n)s", "n": 2, "unused": 1})
    assert statement == "SELECT '%', :a, :b, :a::text, x % :n"
    assert parameters == [
        {"name": "a", "value": {"stringValue": "%(n)s"}},
        {"name": "n", "value": {"longValue": 2}},
    ]
    with pytest.raises(KeyError):
        bind("SELECT %(missing)s", {})
    with pytest.raises(TypeError):
        bind("SELECT %(odd)s", {"odd": object()})


class Answering:
    """A client whose named operation fails as AWS would answer it; the others work."""

    def __init__(self, operation: str, code: str, message: str, status: int) -> None:
        self._operation = operation
        self._response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}

    def _answer(self, operation, **answer):
        if operation == self._operation:
            raise ClientError(self._response, operation)
        return answer

    def begin_transaction(self, **_):
        return self._answer("BeginTransaction", transactionId="t")

    def execute_statement(self, **_):
        return self._answer("ExecuteStatement", numberOfRecordsUpdated=1)

    def commit_transaction(self, **_):
        return self._answer("CommitTransaction")

    def rollback_transaction(self, **_):
        return {}


def failing(*how):
    return RdsData(Answering(*how), resource_arn="arn", secret_arn="secret", name="db", login="log in", writing=True)


# The codes and their statuses: botocore's model of rds-data.
@pytest.mark.parametrize(
    ("code", "message", "status", "error"),
    [
        ("DatabaseUnavailableException", "The writer isn't available", 504, OutcomeUnknown),
        ("InternalServerErrorException", "", 500, OutcomeUnknown),
        ("ServiceUnavailableError", "", 503, OutcomeUnknown),
        ("504", "Gateway Timeout", 504, OutcomeUnknown),
        ("StatementTimeoutException", "timed out", 400, OutcomeUnknown),
        ("DatabaseErrorException", "ERROR: deferred key; SQLState: 23503", 400, ReferencedRows),
        ("DatabaseErrorException", "ERROR: terminating; SQLState: 57P01", 400, OutcomeUnknown),
        ("TransactionNotFoundException", "", 404, ExternalError),
        ("AccessDeniedException", "no", 403, Denied),
    ],
)
def test_a_commit_that_aws_fails_is_in_doubt_and_one_that_is_refused_is_not(code, message, status, error):
    database = failing("CommitTransaction", code, message, status)
    with pytest.raises(error) as raised, database.transaction():
        database.execute(DELETE)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("DatabaseUnavailableException", 504, OutcomeUnknown),
        ("InternalServerErrorException", 500, OutcomeUnknown),
        ("UnsupportedResultException", 400, OutcomeUnknown),
        ("ServiceUnavailableError", 503, ExternalError),
        ("StatementTimeoutException", 400, Busy),
        ("DatabaseResumingException", 400, Busy),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.usefixtures("at_once")
def test_a_statement_that_aws_fails_is_in_doubt_where_it_commits_by_itself(code, status, error, inside):
    database = failing("ExecuteStatement", code, "", status)
    with pytest.raises(ExternalError if inside and error is OutcomeUnknown else error), database.transaction() if inside else nullcontext():
        database.execute(DELETE)


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(rds_data, "WAKING", Policy(tries=4, deadline=60.0, first=0.0))


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("resuming", "error"), [(1, None), (3, None), (4, Busy)])
@pytest.mark.parametrize("operation", ["BeginTransaction", "ExecuteStatement"])
def test_a_cluster_that_wakes_up_is_asked_again(operation, resuming, error):
    """AWS cancels the request that wakes it, so that another one has no second effect."""
    asked = []

    def answer(name):
        def call(**_):
            asked.append(name)
            if name == operation and asked.count(name) <= resuming:
                raise ClientError({"Error": {"Code": "DatabaseResumingException", "Message": "resuming"}}, name)
            return {"transactionId": "t", "numberOfRecordsUpdated": 1}

        return call

    client = SimpleNamespace(
        begin_transaction=answer("BeginTransaction"),
        execute_statement=answer("ExecuteStatement"),
        commit_transaction=answer("CommitTransaction"),
        rollback_transaction=answer("RollbackTransaction"),
    )
    database = RdsData(client, resource_arn="r", secret_arn="s", name="n", login="l", writing=True)
    with pytest.raises(error) if error else nullcontext(), database.transaction():
        assert database.execute(DELETE) == 1
    assert asked.count(operation) == min(resuming, 3) + 1
    assert asked.count("CommitTransaction") == (0 if error else 1)
