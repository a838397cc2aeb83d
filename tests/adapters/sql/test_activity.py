"""What the backends do, over both drivers: seen on each instance, ended only where they are still at the same query."""

from __future__ import annotations

import time
from contextlib import contextmanager

import psycopg
import pytest
from terminal import until

from opsctl.adapters.aws.rds import Cluster, ClusterMember
from opsctl.adapters.sql.database import Busy
from opsctl.errors import Denied, NotFound, WrongPlace
from opsctl.sandbox import gateway as front_door

WRITER = "safawinet-prod"
DRIVERS = {"postgres": {}, "rds-data": {'driver = "postgres"': 'driver = "rds-data"'}}

SLOW_TO_INDEX = """
CREATE FUNCTION slow(id int) RETURNS int IMMUTABLE LANGUAGE plpgsql
AS $$ BEGIN PERFORM pg_sleep(current_setting('slow.by', true)::float8); RETURN id; END $$;
CREATE TABLE slow AS SELECT 1 AS id;
CREATE INDEX ON slow (slow(id));
"""
"""A table whose index takes as many seconds a row to build as `slow.by` says."""


@pytest.fixture(params=DRIVERS)
def driver(request):
    return DRIVERS[request.param]


@pytest.fixture
def fault(world):
    return lambda path, **body: front_door.call(world, "POST", path, body)


@contextmanager
def running(world, statement, user="pg_user", password="pg_password", **how):
    """A client of the database that is at a statement."""
    client = psycopg.connect(
        host=world["pg_host"],
        port=world["pg_port"],
        user=world.get(user, user),
        password=world[password],
        dbname=world["database"],
        autocommit=True,
        **{"application_name": "report", **how},
    )
    try:
        client.pgconn.send_query(statement.encode())
        yield client.info.backend_pid
    finally:
        client.cancel_safe()
        client.pgconn.finish()


def found(systems, pid):
    """The activity of one backend, once it is at its query."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for answer in systems.backends.running():
            for each in answer.found or []:
                if each.pid == pid:
                    return each
    raise AssertionError(f"{pid} isn't seen")


def test_one_server_under_three_names_is_asked_once(systems):
    first, *others = systems(writing=False).backends.connections()
    assert (first.instance.id, first.instance.writer) == (WRITER, True)
    assert (first.found.most, first.found.reserved) == (100, 8)
    assert first.found.count == sum(row["connections"] for row in first.found.held) > 0
    assert [answer.same_as for answer in others] == [WRITER, WRITER]


class Elsewhere:
    """RDS, as it describes another cluster."""

    def __init__(self, *members):
        self.members = list(members)

    def cluster(self, id):
        return Cluster(id, "arn", "available", "aurora-postgresql", "", "", 5432, self.members)


def test_a_cluster_without_an_instance_is_told(systems):
    made = systems(writing=False)
    made.__dict__["rds"] = Elsewhere()
    with pytest.raises(NotFound, match="no instance"):
        made.backends.running()


def test_an_instance_beyond_this_machine_is_refused(systems):
    made = systems(writing=True)
    made.__dict__["rds"] = Elsewhere(ClusterMember("one", True, "available", "a", "one.rds.amazonaws.com", 5432))
    with pytest.raises(WrongPlace, match="not on this machine"):
        made.backends.running()


def test_an_instance_that_starts_is_said_not_to_be_asked(systems, world):
    here = ClusterMember("one", True, "available", "a", world["pg_host"], int(world["pg_port"]))
    made = systems(writing=False)
    made.__dict__["rds"] = Elsewhere(here, ClusterMember("two", False, "creating", "b", "", 0))
    one, two = made.backends.running()
    assert one.found is not None
    assert "no endpoint" in two.why.what


def test_the_data_api_sees_the_writer_alone(systems):
    backends = systems(writing=False, replace=DRIVERS["rds-data"]).backends
    assert [answer.instance.id for answer in backends.connections()] == [WRITER]
    assert [instance.id for instance in backends.unavailable] == ["safawinet-prod-2", "safawinet-prod-3"]


def test_a_query_is_seen_and_ended(systems, driver, fault):
    (pid,) = fault("/queries", count=1, kind="sleeping")["pids"]
    reading, writing = systems(writing=False, replace=driver), systems(writing=True, replace=driver)
    seen = found(reading, pid)
    assert (seen.application, seen.role, seen.active, seen.spared) == ("safawinet-api", "safawinet", True, "")
    assert seen.query == "SELECT email, last_login_at FROM users WHERE email = ? AND pg_sleep(?) IS NULL"
    assert reading.backends.still_running(WRITER, [seen]) == [seen]
    assert writing.backends.cancel(WRITER, [seen]) == 1
    deadline = time.monotonic() + 10
    while reading.backends.still_running(WRITER, [seen]):
        assert time.monotonic() < deadline
    assert writing.backends.terminate(WRITER, [seen]) == 0


def test_who_has_moved_on_is_left_alone(systems, driver, world):
    reading, writing = systems(writing=False, replace=driver), systems(writing=True, replace=driver)
    with running(world, "SELECT pg_sleep(60)") as pid:
        seen = found(reading, pid)
        for other in ({"query_start": seen.query_start - 1}, {"backend_start": seen.backend_start - 1}):
            moved = type(seen)(**{name: getattr(seen, name) for name in seen.__struct_fields__} | other)
            assert reading.backends.still_running(WRITER, [moved]) == []
            assert writing.backends.cancel(WRITER, [moved]) == 0
            assert writing.backends.terminate(WRITER, [moved]) == 0
        assert found(reading, pid).active


@pytest.mark.parametrize(
    ("statement", "who", "why"),
    [
        ("SELECT pg_sleep(60)", {"application_name": "pg_dump"}, "application pg_dump"),
        ("SELECT pg_sleep(60)", {"application_name": "opsctl"}, "application opsctl"),
        ("SELECT pg_sleep(60)", {"user": "postgres", "password": "pg_superuser_password"}, "a superuser's"),
        ("SELECT pg_sleep(60)", {"user": "pg_rescue_user", "password": "pg_rescue_password"}, "role opsctl_rescue"),
    ],
)
def test_what_is_not_to_be_ended_says_why(systems, world, statement, who, why):
    named = {"tls = false\n\n[redis]": 'tls = false\nspare-roles = ["opsctl_rescue"]\n\n[redis]'}
    with running(world, statement, **who) as pid:
        assert found(systems(writing=False, replace=named), pid).spared == why


def test_a_vacuum_by_hand_is_spared(systems, world):
    options = "-c vacuum_cost_delay=100 -c vacuum_cost_limit=1"
    with running(world, "VACUUM (DISABLE_PAGE_SKIPPING) refresh_sessions", options=options) as pid:
        assert found(systems(writing=False), pid).spared == "it vacuums"


@pytest.mark.parametrize(
    "statement", ["VACUUM FULL users", "/* nightly, 'jo' */ -- by hand\n vacuum (ANALYZE) users", ";VACUUM users", "VACUUM(FULL) users"]
)
def test_a_vacuum_that_waits_for_its_table_is_spared(systems, driver, world, statement):
    with running(world, "BEGIN; LOCK TABLE users; SELECT pg_sleep(60)") as holder:
        found(systems(writing=False), holder)
        with running(world, statement) as pid:
            seen = found(systems(writing=False, replace=driver), pid)
            assert (seen.active, seen.spared) == (True, "it vacuums")


def test_a_full_vacuum_whose_text_is_cut_off_is_spared(systems, world):
    with psycopg.connect(
        host=world["pg_host"], port=world["pg_port"], user="postgres", password=world["pg_superuser_password"], dbname=world["database"]
    ) as owner:
        owner.execute(SLOW_TO_INDEX)
    cut = f"/* {'x' * 5_000} */ VACUUM FULL slow"
    with running(world, cut, user="postgres", password="pg_superuser_password", options="-c slow.by=60") as pid:
        reading = systems(writing=False)
        until(lambda: found(reading, pid).spared == "it vacuums")


def test_what_only_speaks_of_a_vacuum_is_not_spared(systems, world):
    with running(world, "/* VACUUM */ SELECT pg_sleep(60) AS vacuum") as pid:
        assert found(systems(writing=False), pid).spared == ""


def test_who_waits_names_the_one_that_blocks(systems, fault):
    (pid,) = fault("/queries", count=1, kind="waiting")["pids"]
    made = systems(writing=False)
    seen = found(made, pid)
    blocker = found(made, int(seen.blocked_by))
    assert seen.waits_for == "Lock: advisory"
    assert (blocker.state, blocker.application) == ("idle in transaction", "safawinet-api")


def test_statements_come_without_literals(systems, world):
    with psycopg.connect(
        host=world["pg_host"], port=world["pg_port"], user=world["pg_user"], password=world["pg_password"], dbname=world["database"]
    ) as client:
        client.execute("SELECT count(*) FROM users WHERE email <> 'jo@example.com' /* jo */")
    (answer, *_) = systems(writing=False).backends.statements(100)
    shown = [row["query"] for row in answer.found]
    assert "SELECT count(*) FROM users WHERE email <> $1" in shown
    assert not [query for query in shown if "jo" in query.split()]


def test_without_the_extension_there_are_no_statements(systems, world):
    with psycopg.connect(
        host=world["pg_host"], port=world["pg_port"], user="postgres", password=world["pg_superuser_password"], dbname=world["database"]
    ) as owner:
        owner.execute("DROP EXTENSION pg_stat_statements")
    assert systems(writing=False).backends.statements(5)[0].found is None


def test_when_no_connection_is_left_the_reserved_ones_are(systems, fault, world):
    (pid,) = fault("/queries", count=1, kind="sleeping")["pids"]
    assert fault("/connections")["taken"] > 50
    with pytest.raises(psycopg.OperationalError, match="reserved"):
        running(world, "SELECT 1").__enter__()
    seen = found(systems(writing=False), pid)
    assert systems(writing=True).backends.cancel(WRITER, [seen]) == 1
    without = systems(writing=True, replace={'rescue = { aws = "safawinet/prod/database-rescue" }\n': ""})
    with pytest.raises(Busy, match="no free connection") as refused:
        without.backends.cancel(WRITER, [seen])
    assert "pg_use_reserved_connections" in str(refused.value.next.first)


def test_a_role_that_sees_only_itself_is_told_so(systems, driver, world):
    with psycopg.connect(
        host=world["pg_host"], port=world["pg_port"], user="postgres", password=world["pg_superuser_password"], dbname=world["database"]
    ) as owner:
        owner.execute("REVOKE pg_monitor FROM opsctl_reader, opsctl_rescue")
    assert {answer.why.next for answer in systems(writing=False, replace=driver).backends.running()} == {
        "GRANT pg_read_all_stats TO opsctl_reader"
    }
    with pytest.raises(Denied, match="opsctl_rescue can't see"):
        systems(writing=True, replace=driver).backends.cancel(WRITER, [])


def test_a_role_that_may_not_signal_is_told_so(systems, fault, world):
    (pid,) = fault("/queries", count=1, kind="sleeping")["pids"]
    seen = found(systems(writing=False), pid)
    with psycopg.connect(
        host=world["pg_host"], port=world["pg_port"], user="postgres", password=world["pg_superuser_password"], dbname=world["database"]
    ) as owner:
        owner.execute("REVOKE pg_signal_backend FROM opsctl_rescue")
    with pytest.raises(Denied, match="denied"):
        systems(writing=True).backends.cancel(WRITER, [seen])
