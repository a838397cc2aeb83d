from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from folders import short_folder
from psycopg import sql
from stand_in import Aws

from opsctl.sandbox import postgres
from opsctl.sandbox.aws import rdsdata

Refused = Callable[..., str]
PASSWORD = "only-for-this-test"


@pytest.fixture(scope="module")
def postgres_port(served_aws: Aws) -> Iterator[int]:
    folder = short_folder()
    facts = served_aws.world.facts
    try:
        _, port = postgres.start(folder, 0, PASSWORD)
        with postgres.connect(port, PASSWORD) as connection:
            role, password = sql.Identifier(facts["pg_user"]), sql.Literal(facts["pg_password"])
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
            connection.execute(sql.SQL("CREATE DATABASE safawinet OWNER {}").format(role))
        yield port
    finally:
        postgres.stop(folder)
        shutil.rmtree(folder)


@pytest.fixture
def data(aws: Aws, postgres_port: int) -> Iterator[Data]:
    former = aws.world.facts["pg_port"]
    aws.world.facts["pg_port"] = str(postgres_port)
    made = Data(aws)
    made.run("CREATE TABLE t (id bigint PRIMARY KEY, name text, at timestamptz, extra jsonb, key uuid, price numeric)")
    yield made
    aws.part.reset()
    made.run("DROP TABLE t")
    aws.world.facts["pg_port"] = former


class Data:
    def __init__(self, aws: Aws) -> None:
        self.client = aws.client("rds-data")
        facts = aws.world.facts
        self.where = {"resourceArn": facts["db_cluster_arn"], "secretArn": facts["db_secret_arn"]}

    def run(self, statement: str, *parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
        return dict(self.client.execute_statement(**self.where, sql=statement, parameters=list(parameters), **more))

    def one(self, statement: str, *parameters: dict[str, Any], **more: Any) -> Any:
        ((field,),) = self.run(statement, *parameters, **more)["records"]
        return field

    def begin(self) -> str:
        return str(self.client.begin_transaction(**self.where)["transactionId"])

    def end(self, how: str, transaction: str) -> str:
        method = getattr(self.client, f"{how}_transaction")
        return str(method(**self.where, transactionId=transaction)["transactionStatus"])


def parameter(name: str, hint: str = "", **value: Any) -> dict[str, Any]:
    return {"name": name, "value": value, **({"typeHint": hint} if hint else {})}


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        ("1", {"longValue": 1}),
        ("9223372036854775807", {"longValue": 9223372036854775807}),
        ("1.5::float8", {"doubleValue": 1.5}),
        ("1.50::numeric", {"stringValue": "1.50"}),
        ("true", {"booleanValue": True}),
        ("NULL::int", {"isNull": True}),
        ("'it''s :not a parameter'::text", {"stringValue": "it's :not a parameter"}),
        ("'100%'", {"stringValue": "100%"}),
        ("'\\x00ff'::bytea", {"blobValue": b"\x00\xff"}),
        ("'2026-01-02 03:04:05.5+02'::timestamptz", {"stringValue": "2026-01-02 01:04:05.5"}),
        ("'{\"a\": 1}'::jsonb", {"stringValue": '{"a": 1}'}),
        ("ARRAY[1,2]", {"arrayValue": {"longValues": [1, 2]}}),
        ("ARRAY['a','b,c']", {"arrayValue": {"stringValues": ["a", "b,c"]}}),
    ],
)
def test_fields_are_typed(data: Data, expression: str, field: dict[str, Any]) -> None:
    assert data.one(f"SELECT {expression}") == field


@pytest.mark.parametrize("expression", ["ARRAY[[1],[2]]", "'a'::mood"])
def test_some_types_are_not_returned(data: Data, refused: Refused, expression: str) -> None:
    data.run("DO $$ BEGIN CREATE TYPE mood AS ENUM ('a'); EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    assert refused(data.run, statement=f"SELECT {expression}") == "UnsupportedResultException"


def test_parameters_are_bound_by_name_and_type(data: Data) -> None:
    key = str(uuid.uuid4())
    written = data.run(
        "INSERT INTO t VALUES (:id, :name, :at, :extra, :key, :price)",
        parameter("id", longValue=1),
        parameter("name", stringValue="'; DROP TABLE t; --"),
        parameter("at", "TIMESTAMP", stringValue="2026-01-02 03:04:05"),
        parameter("extra", "JSON", stringValue='{"a": [1]}'),
        parameter("key", "UUID", stringValue=key),
        parameter("price", "DECIMAL", stringValue="9.90"),
    )
    assert written["numberOfRecordsUpdated"] == 1
    ((*fields,),) = data.run("SELECT * FROM t WHERE id = :id", parameter("id", longValue=1))["records"]
    assert fields == [
        {"longValue": 1},
        {"stringValue": "'; DROP TABLE t; --"},
        {"stringValue": "2026-01-02 03:04:05"},
        {"stringValue": '{"a": [1]}'},
        {"stringValue": key},
        {"stringValue": "9.90"},
    ]
    nothing = parameter("name", isNull=True)
    assert data.run("UPDATE t SET name = :name", nothing)["numberOfRecordsUpdated"] == 1
    assert data.one("SELECT name FROM t") == {"isNull": True}


def test_a_text_is_a_text_unless_hinted(data: Data, refused: Refused) -> None:
    text = [parameter("key", stringValue=str(uuid.uuid4()))]
    asked = {**data.where, "sql": "SELECT id FROM t WHERE key = :key", "parameters": text}
    assert refused(data.client.execute_statement, **asked) == "DatabaseErrorException"


def test_metadata_and_json_come_where_asked(data: Data) -> None:
    answer = data.run("SELECT 1::int8 AS n, 'x'::text AS s", includeResultMetadata=True)
    assert [(each["label"], each["typeName"]) for each in answer["columnMetadata"]] == [("n", "int8"), ("s", "text")]
    assert "columnMetadata" not in data.run("SELECT 1")
    formatted = data.run("SELECT 1 AS n, NULL AS s, ARRAY[1] AS l", formatRecordsAs="JSON")
    assert json.loads(formatted["formattedRecords"]) == [{"n": 1, "s": None, "l": [1]}]


def test_returning_gives_records(data: Data) -> None:
    answer = data.run("INSERT INTO t (id) VALUES (7) RETURNING id")
    assert (answer["records"], answer["numberOfRecordsUpdated"]) == ([[{"longValue": 7}]], 0)


def test_a_batch_runs_every_set_or_none(data: Data, refused: Refused) -> None:
    def sets(*ids: int) -> dict[str, Any]:
        numbers = [[parameter("id", longValue=number)] for number in ids]
        return {**data.where, "sql": "INSERT INTO t (id) VALUES (:id)", "parameterSets": numbers}

    assert len(data.client.batch_execute_statement(**sets(1, 2, 3))["updateResults"]) == 3
    assert refused(data.client.batch_execute_statement, **sets(4, 1)) == "DatabaseErrorException"
    assert data.one("SELECT count(*) FROM t") == {"longValue": 3}


def test_a_transaction_is_seen_by_others_only_when_committed(data: Data, refused: Refused) -> None:
    for how, said, count in (
        ("rollback", "Rollback Complete", 0),
        ("commit", "Transaction Committed", 1),
    ):
        transaction = data.begin()
        data.run("INSERT INTO t (id) VALUES (1)", transactionId=transaction)
        assert data.one("SELECT count(*) FROM t") == {"longValue": 0}
        assert data.end(how, transaction) == said
        assert data.one("SELECT count(*) FROM t") == {"longValue": count}
    over = {**data.where, "sql": "SELECT 1", "transactionId": transaction}
    assert refused(data.client.execute_statement, **over) == "TransactionNotFoundException"


def test_a_read_only_transaction_writes_nothing(data: Data, refused: Refused) -> None:
    transaction = data.begin()
    data.run("SET TRANSACTION READ ONLY", transactionId=transaction)
    data.run("SELECT 1", transactionId=transaction)
    written = {"statement": "INSERT INTO t (id) VALUES (1)", "transactionId": transaction}
    assert refused(data.run, **written) == "DatabaseErrorException"
    data.end("rollback", transaction)


def test_an_idle_transaction_is_dropped(aws: Aws, data: Data, refused: Refused) -> None:
    transaction = data.begin()
    aws.clock.pass_by(rdsdata.IDLE_SECONDS + 1)
    asked = {"statement": "SELECT 1", "transactionId": transaction}
    assert refused(data.run, **asked) == "TransactionNotFoundException"


def test_a_long_statement_is_stopped(data: Data, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rdsdata, "STATEMENT_MILLISECONDS", 50)
    assert refused(data.run, statement="SELECT pg_sleep(30)") == "StatementTimeoutException"


def test_too_much_is_refused(data: Data, refused: Refused) -> None:
    assert refused(data.run, statement="SELECT repeat('x', 2000000)") == "BadRequestException"


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT * FROM nobody", "DatabaseErrorException"),
        ("SELECT :missing", "BadRequestException"),
        ("SELECT 1; SELECT 2", "BadRequestException"),
    ],
)
def test_errors_are_said_as_aws_says_them(data: Data, refused: Refused, statement: str, code: str) -> None:
    assert refused(data.run, statement=statement) == code


def test_the_databases_own_words_come_through(data: Data) -> None:
    with pytest.raises(data.client.exceptions.DatabaseErrorException, match=r'"nobody" does not exist.*SQLState: 42P01'):
        data.run("SELECT * FROM nobody")


def test_a_trailing_semicolon_is_no_second_statement(data: Data) -> None:
    assert data.one("SELECT 1; -- that's it") == {"longValue": 1}


def test_a_wrong_place_or_login_is_refused(aws: Aws, data: Data, refused: Refused) -> None:
    run = data.client.execute_statement
    elsewhere = {**data.where, "resourceArn": data.where["resourceArn"] + "-other"}
    assert refused(run, **elsewhere, sql="SELECT 1") == "BadRequestException"
    assert refused(run, **{**data.where, "secretArn": "nothing-there"}, sql="SELECT 1") == "BadRequestException"
    secrets = aws.client("secretsmanager")
    login = json.dumps({"username": "safawinet", "password": "wrong"})
    secrets.put_secret_value(SecretId=data.where["secretArn"], SecretString=login)
    assert refused(run, **data.where, sql="SELECT 1") == "BadRequestException"
