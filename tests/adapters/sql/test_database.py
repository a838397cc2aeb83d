"""Both drivers, the same SQL, the same answers; against the sandbox's real PostgreSQL."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from psycopg import sql

from opsctl.adapters.sql.database import Busy
from opsctl.errors import ConfigurationError, Denied, ExternalError, NotFound, ReadOnly
from opsctl.sandbox import postgres

DRIVERS = ("postgres", "rds-data")
MOMENT = datetime(2024, 2, 29, 12, 30, 1, 123456, tzinfo=UTC)


@pytest.fixture(params=DRIVERS)
def open_database(request, systems):
    made = []

    def open_it(*, writing):
        made.append(systems(writing=writing, replace={'driver = "postgres"': f'driver = "{request.param}"'}).database)
        return made[-1]

    yield open_it
    for each in made:
        each.close()


VALUES = [
    ("bigint", 2**53 + 1),
    ("integer", -7),
    ("text", "it's 100 % :no_parameter; ö"),
    ("text", ""),
    ("boolean", True),
    ("double precision", 1.5),
    ("numeric", Decimal("12345678901234567890.12")),
    ("timestamptz", MOMENT),
    ("date", date(2024, 2, 29)),
    ("uuid", UUID(int=2**127 + 5)),
    ("jsonb", {"a": [1, None, "x"]}),
    ("bytea", b"\0\xff"),
    ("text", None),
]


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=lambda v: str(v)[:20])
@pytest.mark.parametrize("writing", [False, True])
def test_a_value_comes_back_as_it_was_sent(open_database, writing, kind, value):
    statement = sql.SQL("SELECT %(value)s::{} AS value").format(sql.SQL(kind))
    [row] = open_database(writing=writing).query(statement, value=value)
    assert row == {"value": value}
    assert type(row["value"]) is type(value)


def test_times_are_in_utc_and_unusual_types_are_text(open_database):
    [row] = open_database(writing=False).query(
        "SELECT timestamptz '2024-01-01 00:00:00.5+02' AS zoned, timestamp '2024-01-01' AS bare, interval '90 min' AS span,"
        " inet '10.0.0.1' AS address, ARRAY['a', 'b'] AS list, %(n)s::int %% 7 AS rest, 'x'::char(3) AS padded",
        n=100,
    )
    assert row == {
        "zoned": datetime(2023, 12, 31, 22, 0, 0, 500000, UTC),
        "bare": datetime(2024, 1, 1, tzinfo=UTC),
        "span": "01:30:00",
        "address": "10.0.0.1",
        "list": ["a", "b"],
        "rest": 2,
        "padded": "x  ",
    }
    assert row["zoned"].tzinfo is row["bare"].tzinfo is UTC


def test_an_aware_time_of_another_zone_finds_its_rows(open_database):
    database = open_database(writing=False)
    newest = database.query("SELECT max(created_at) AS at FROM refresh_sessions")[0]["at"]
    local = newest.astimezone(ZoneInfo("Asia/Tokyo"))
    count = "SELECT count(*) AS n FROM refresh_sessions WHERE created_at >= %(at)s"
    assert database.query(count, at=local)[0]["n"] >= 1
    assert database.query(count, at=local + timedelta(microseconds=1))[0]["n"] == 0


def test_a_list_goes_as_one_json_text(open_database):
    database = open_database(writing=True)
    statement = "DELETE FROM refresh_sessions WHERE user_id IN (SELECT jsonb_array_elements_text(%(users)s::jsonb)::bigint)"
    before = database.query("SELECT count(*) AS n FROM refresh_sessions WHERE user_id IN (3, 4)")[0]["n"]
    assert database.execute(statement, users="[3, 4]") == before > 0
    assert database.execute(statement, users="[3, 4]") == 0


def test_identifiers_are_quoted(open_database):
    statement = sql.SQL("SELECT 1 AS {}").format(sql.Identifier('we"ird'))
    assert open_database(writing=False).query(statement) == [{'we"ird': 1}]


def test_a_transaction_is_whole_or_nothing(open_database):
    database = open_database(writing=True)

    def count():
        return database.query("SELECT count(*) AS n FROM refresh_sessions")[0]["n"]

    def delete_and_think_again():
        with database.transaction():
            assert database.execute("DELETE FROM refresh_sessions") == before
            assert count() == 0
            raise KeyError

    before = count()
    with pytest.raises(KeyError):
        delete_and_think_again()
    assert count() == before
    with database.transaction():
        database.execute("DELETE FROM refresh_sessions WHERE user_id = 3")
    assert count() < before


def test_a_failed_statement_takes_its_transaction_with_it(open_database):
    database = open_database(writing=True)
    before = database.query("SELECT count(*) AS n FROM users")

    def fail():
        with database.transaction():
            database.execute("UPDATE users SET bounce_count = 9")
            database.query("SELECT 1 / 0")

    with pytest.raises(ExternalError):
        fail()
    assert database.query("SELECT count(*) AS n FROM users WHERE bounce_count <> 9") == before


def test_a_failure_that_is_swallowed_commits_nothing(open_database):
    database = open_database(writing=True)

    def go_on():
        with database.transaction():
            database.execute("DELETE FROM refresh_sessions")
            with suppress(ExternalError):
                database.query("SELECT 1 / 0")

    with pytest.raises(ExternalError, match="rolled back"):
        go_on()
    assert database.query("SELECT count(*) > 0 AS there FROM refresh_sessions") == [{"there": True}]


def test_transactions_do_not_nest(open_database):
    database = open_database(writing=True)
    with database.transaction(), pytest.raises(RuntimeError):
        database.transaction().__enter__()


def test_a_reading_transaction_reads(open_database):
    database = open_database(writing=False)
    with database.transaction():
        assert database.query("-- how many\nSELECT count(*) > 0 AS there FROM users;") == [{"there": True}]
    assert database.query("(SELECT 1 AS n) UNION SELECT 1") == [{"n": 1}]


def test_the_server_tells_its_time(open_database):
    database = open_database(writing=False)
    first = database.server_time()
    assert first.tzinfo is UTC
    # A reading session over the Data API is one transaction, in which now() would stand still.
    assert database.server_time() > first


def test_a_reading_one_reads_what_was_committed_since(open_database):
    reading, writing = open_database(writing=False), open_database(writing=True)
    count = "SELECT count(*) AS n FROM refresh_sessions"
    assert reading.query(count)[0]["n"] > 0
    writing.execute("DELETE FROM refresh_sessions")
    assert reading.query(count)[0]["n"] == 0


def test_a_reading_one_goes_on_after_a_refused_statement(open_database):
    database = open_database(writing=False)
    with pytest.raises(NotFound):
        database.query("SELECT * FROM nowhere")
    assert database.query("SELECT 1 AS one") == [{"one": 1}]


def test_execute_is_refused_on_a_reading_one(open_database):
    with pytest.raises(ReadOnly, match="execute writes"):
        open_database(writing=False).execute("DELETE FROM refresh_sessions")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM refresh_sessions RETURNING id",
        "SET TRANSACTION READ WRITE",
        "NOTIFY somebody",
        "COPY users TO PROGRAM 'cat'",
        "LOCK TABLE users",
        "SELECT pg_notify('a', 'b')",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
        "SELECT 1; DELETE FROM refresh_sessions",
        "WITH gone AS (DELETE FROM refresh_sessions RETURNING 1) SELECT count(*) FROM gone",
        "EXPLAIN ANALYZE DELETE FROM refresh_sessions",
        "SELECT nextval('refresh_sessions_id_seq')",
        "SELECT id FROM users FOR UPDATE",
    ],
)
def test_a_reading_one_cannot_write(open_database, statement):
    database = open_database(writing=False)
    with pytest.raises((ReadOnly, Denied)):
        database.query(statement)
    assert database.query("SELECT count(*) > 0 AS there FROM refresh_sessions") == [{"there": True}]


def test_waiting_for_a_lock_has_an_end(open_database):
    holder, other = open_database(writing=True), open_database(writing=True)

    def delete():
        with other.transaction():
            other.execute("SET LOCAL lock_timeout = '50ms'")
            other.execute("DELETE FROM refresh_sessions WHERE user_id = 3")

    with holder.transaction():
        holder.execute("LOCK TABLE refresh_sessions IN SHARE ROW EXCLUSIVE MODE")
        with pytest.raises(Busy):
            delete()
    assert other.execute("DELETE FROM refresh_sessions WHERE user_id = 3") > 0


def test_what_is_not_there_or_not_granted_is_named(open_database):
    database = open_database(writing=True)
    with pytest.raises(NotFound, match="nowhere"):
        database.execute("DELETE FROM nowhere")
    with pytest.raises(Denied, match="The database denied the statement"):
        database.execute("ALTER TABLE pg_catalog.pg_class ADD COLUMN x int")


def test_threads_take_turns(open_database):
    database = open_database(writing=True)
    answers = []

    def work(number):
        for _ in range(5):
            answers.append(database.query("SELECT %(n)s::bigint AS n", n=number)[0]["n"] == number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    with database.transaction():
        database.execute("UPDATE users SET bounce_count = 1 WHERE id = 3")
    for thread in threads:
        thread.join()
    assert answers == [True] * 20


def test_a_text_is_text_to_both(open_database):
    """What needs a cast over the Data API needs it over a connection: a statement that works with one works with the other."""
    with pytest.raises(ExternalError):
        open_database(writing=False).query("SELECT id FROM users WHERE id = %(id)s", id="3")


def test_the_data_api_needs_its_arns(systems):
    made = systems(
        writing=False, replace={'driver = "postgres"': 'driver = "rds-data"', '{ aws = "safawinet/prod/database-reader" }': '{ env = "X" }'}
    )
    with pytest.raises(ConfigurationError, match="an AWS secret"):
        _ = made.database


def test_reading_goes_on_after_a_failover(open_database, world):
    database = open_database(writing=False)
    assert database.query("SELECT 1 AS one") == [{"one": 1}]
    with postgres.connect(int(world["pg_port"]), world["pg_superuser_password"]) as superuser:
        superuser.execute("SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE datname = %s", [world["database"]])
    assert database.query("SELECT 1 AS one") == [{"one": 1}]
