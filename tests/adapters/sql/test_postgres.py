"""What belongs to a connection: its role, its place, what ends it."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest

from opsctl.adapters.sql.database import Busy
from opsctl.adapters.sql.postgres import Postgres, PostgresEndpoint
from opsctl.errors import (
    ConfigurationError,
    CredentialsInvalid,
    ExternalError,
    NotFound,
    OutcomeUnknown,
    Refused,
    Unreachable,
    Untrusted,
    WrongPlace,
)
from opsctl.redaction import Secret
from opsctl.sandbox import world_file


@pytest.fixture
def endpoint(world):
    def make(user="pg_user", password="pg_password", **other):
        parts = {
            "host": world["pg_host"],
            "port": int(world["pg_port"]),
            "name": world["database"],
            "user": world.get(user, user),
            "password": Secret(world.get(password, password)),
            "tls": False,
        }
        return PostgresEndpoint(**(parts | other))

    return make


@pytest.fixture
def superuser(world):
    return {"user": "postgres", "password": "pg_superuser_password"}


@pytest.fixture
def writing(endpoint):
    made = Postgres(endpoint(), writing=True)
    yield made
    made.close()


@pytest.fixture
def reading(endpoint):
    made = Postgres(endpoint("pg_reader_user", "pg_reader_password"), writing=False)
    yield made
    made.close()


HOLES = [
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'safawinet'",
    "COPY users TO PROGRAM 'cat >/dev/null'",
    "LOCK TABLE users IN ACCESS EXCLUSIVE MODE",
    "DELETE FROM refresh_sessions",
    "UPDATE users SET role = 'admin'",
    "CREATE TABLE mine (id int)",
    "SELECT nextval('refresh_sessions_id_seq')",
]


@pytest.mark.parametrize("mode", ["READ ONLY", "READ WRITE"])
@pytest.mark.parametrize("hole", HOLES)
def test_the_role_alone_closes_what_a_read_only_session_leaves_open(reading, writing, hole, mode):
    """Past the driver's own look at the words, and past the session's default."""
    assert writing.query("SELECT 1 AS one") == [{"one": 1}]
    assert reading.query("SHOW default_transaction_read_only")[0]["default_transaction_read_only"] == "on"
    raw = reading._connection
    raw.execute("BEGIN")
    raw.execute(f"SET TRANSACTION {mode}")
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
        raw.execute(hole)
    raw.execute("ROLLBACK")
    assert writing.query("SELECT 1 AS one") == [{"one": 1}]


def test_a_reading_role_that_may_write_is_refused(endpoint):
    with pytest.raises(Refused, match=r"pg_signal_backend.*may write public") as refused:
        Postgres(endpoint(), writing=False).query("SELECT 1")
    assert "opsctl permissions --format grants" in refused.value.next


def test_a_reading_superuser_is_refused(endpoint, superuser):
    with pytest.raises(Refused, match="superuser"):
        Postgres(endpoint(**superuser), writing=False).query("SELECT 1")


def test_one_writable_column_is_enough_to_be_refused(endpoint, writing, reading):
    writing.execute("GRANT UPDATE (is_active) ON users TO opsctl_reader")
    with pytest.raises(Refused, match=r"may write public\.users"):
        reading.query("SELECT 1")


GRANTS = [
    ("GRANT UPDATE (is_active) ON users TO opsctl_reader", r"may write public\.users"),
    ("GRANT TRUNCATE ON users TO opsctl_reader", r"may write public\.users"),
    ("GRANT INSERT ON users TO PUBLIC", r"may write public\.users"),
    ("GRANT USAGE ON SEQUENCE refresh_sessions_id_seq TO opsctl_reader", r"may advance public\.refresh_sessions_id_seq"),
    ("GRANT safawinet TO opsctl_reader WITH INHERIT FALSE", r"may write public\."),
    ("GRANT pg_signal_backend TO opsctl_reader WITH INHERIT FALSE", "it has pg_signal_backend"),
    ("GRANT pg_maintain TO opsctl_reader", "it has pg_maintain"),
    ("GRANT EXECUTE ON FUNCTION pg_reload_conf TO opsctl_reader", "may call pg_reload_conf"),
    ("GRANT EXECUTE ON FUNCTION pg_promote TO PUBLIC", "may call pg_promote"),
    (
        "CREATE FUNCTION public.wipe(who bigint) RETURNS void LANGUAGE sql SECURITY DEFINER AS"
        " 'DELETE FROM public.refresh_sessions WHERE user_id = who'",
        r"may call public\.wipe\(who bigint\), which runs with its owner's rights",
    ),
    ("ALTER ROLE opsctl_reader CREATEROLE", "may create roles"),
]
BACK = [
    "ALTER ROLE opsctl_reader NOCREATEROLE",
    "REVOKE safawinet, pg_signal_backend, pg_maintain FROM opsctl_reader",
    "REVOKE EXECUTE ON FUNCTION pg_reload_conf FROM opsctl_reader",
    "REVOKE EXECUTE ON FUNCTION pg_promote FROM PUBLIC",
    "REVOKE ALL ON users FROM PUBLIC",
    "REVOKE UPDATE (is_active), TRUNCATE ON users FROM opsctl_reader",
    "REVOKE ALL ON SEQUENCE refresh_sessions_id_seq FROM opsctl_reader",
    "DROP FUNCTION IF EXISTS public.wipe(bigint)",
]


@pytest.fixture
def owner(endpoint, superuser):
    made = Postgres(endpoint(**superuser), writing=True)
    yield made
    for statement in BACK:
        made.execute(statement)
    made.close()


@pytest.mark.parametrize("driver", ["postgres", "rds-data"])
@pytest.mark.parametrize(("grant", "told"), GRANTS)
def test_any_right_beyond_reading_is_refused_over_both_drivers(systems, owner, driver, grant, told):
    reading = systems(writing=False, replace={'driver = "postgres"': f'driver = "{driver}"'}).database
    assert reading.query("SELECT 1 AS one") == [{"one": 1}]
    reading.close()
    owner.execute(grant)
    with pytest.raises(Refused, match=told) as refused:
        reading.query("SELECT 1")
    assert refused.value.next
    reading.close()


@pytest.mark.parametrize(
    "function",
    [
        "CREATE FUNCTION public.wipe(who bigint) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT who'",
        "CREATE FUNCTION public.wipe(who bigint) RETURNS bigint LANGUAGE sql AS 'SELECT who'",
    ],
)
@pytest.mark.parametrize("driver", ["postgres", "rds-data"])
def test_a_function_that_can_not_write_is_no_right_to_write(systems, owner, driver, function):
    owner.execute(function)
    reading = systems(writing=False, replace={'driver = "postgres"': f'driver = "{driver}"'}).database
    assert reading.query("SELECT 1 AS one") == [{"one": 1}]
    reading.close()


@pytest.mark.parametrize("driver", ["postgres", "rds-data"])
@pytest.mark.parametrize("secret", ["safawinet/prod/database", "safawinet/prod/database-rescue"])
def test_the_owners_secret_is_no_readers(systems, driver, secret):
    replace = {
        'driver = "postgres"': f'driver = "{driver}"',
        'reader = { aws = "safawinet/prod/database-reader" }': f'reader = {{ aws = "{secret}" }}',
    }
    with pytest.raises(Refused, match="can do more than read"):
        systems(writing=False, replace=replace).database.query("SELECT 1")


def test_the_reader_sees_what_others_do(reading, writing):
    writing.query("SELECT 1")
    seen = reading.query("SELECT query FROM pg_stat_activity WHERE usename = 'safawinet' AND application_name = 'opsctl'")
    assert seen
    assert "insufficient privilege" not in seen[0]["query"]


def test_variables_and_files_of_libpq_are_not_looked_at(endpoint, monkeypatch, tmp_path):
    (tmp_path / "services").write_text("[elsewhere]\nhost=203.0.113.1\n")
    stray = {
        "PGSERVICE": "elsewhere",
        "PGSERVICEFILE": str(tmp_path / "services"),
        "PGHOST": "203.0.113.1",
        "PGHOSTADDR": "203.0.113.1",
        "PGPORT": "1",
        "PGDATABASE": "nowhere",
        "PGUSER": "nobody",
        "PGPASSWORD": "wrong",
        "PGPASSFILE": "/dev/null",
        "PGOPTIONS": "-c default_transaction_read_only=on -c search_path=nowhere",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/nowhere",
        "PGREQUIREAUTH": "none",
        "PGTARGETSESSIONATTRS": "standby",
        "PGTZ": "Asia/Tokyo",
        "PGDATESTYLE": "German",
        "PGCLIENTENCODING": "LATIN1",
        "PGAPPNAME": "someone",
        "PGCONNECT_TIMEOUT": "1",
    }
    for name, value in stray.items():
        monkeypatch.setenv(name, value)
    database = Postgres(endpoint(), writing=True)
    assert database.query(
        "SELECT current_database()::text AS name, current_setting('TimeZone') AS zone, current_setting('DateStyle') AS style,"
        " current_setting('search_path') AS path, current_setting('application_name') AS application"
    ) == [{"name": "safawinet", "zone": "UTC", "style": "ISO, MDY", "path": '"$user", public', "application": "opsctl"}]
    assert database.execute("UPDATE users SET bounce_count = 0 WHERE id = 3") == 1
    assert {name: os.environ[name] for name in stray} == stray


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"password": "not it"}, CredentialsInvalid),
        ({"user": "nobody", "password": "not it"}, CredentialsInvalid),
        ({"name": "nowhere"}, NotFound),
        ({"port": "nobody's"}, Unreachable),
        ({"tls": True}, Untrusted),
    ],
    ids=str,
)
def test_a_connection_that_fails_says_why_and_no_secret(endpoint, world, wrong, error):
    if "port" in wrong:
        wrong = {"port": world_file.free_port()}
    with pytest.raises(error) as failed:
        Postgres(endpoint(**wrong), writing=True).query("SELECT 1")
    assert failed.value.next
    assert "\n" not in failed.value.what
    assert world["pg_password"] not in f"{failed.value!r} {failed.value.__cause__!r}"


def test_a_server_without_a_free_connection_is_busy(endpoint, superuser):
    owner = Postgres(endpoint(**superuser), writing=True)
    owner.execute("ALTER ROLE safawinet CONNECTION LIMIT 0")
    try:
        with pytest.raises(Busy, match="connection"):
            Postgres(endpoint(), writing=True).query("SELECT 1")
    finally:
        owner.execute("ALTER ROLE safawinet CONNECTION LIMIT -1")
        owner.close()


def test_a_statement_that_takes_too_long_is_stopped(endpoint):
    database = Postgres(endpoint(), writing=True, statement_seconds=0.05)
    with pytest.raises(Busy, match="statement timeout"):
        database.execute("UPDATE users SET bounce_count = 0 WHERE pg_sleep(20) IS NOT NULL")


END_ITSELF = "UPDATE users SET bounce_count = 1 WHERE id = 3 AND pg_terminate_backend(pg_backend_pid())"


def test_a_connection_lost_under_a_write_leaves_a_doubt_and_is_opened_again(writing):
    with pytest.raises(OutcomeUnknown, match="committed"):
        writing.execute(END_ITSELF)
    assert writing.query("SELECT 1 AS one") == [{"one": 1}]


def test_a_connection_lost_before_the_commit_leaves_no_doubt(writing):
    def delete_and_end():
        with writing.transaction():
            writing.execute("DELETE FROM refresh_sessions WHERE user_id = 3")
            writing.execute(END_ITSELF)

    with pytest.raises(ExternalError, match="The transaction was not committed"):
        delete_and_end()
    assert writing.query("SELECT count(*) > 0 AS there FROM refresh_sessions WHERE user_id = 3") == [{"there": True}]


def test_a_connection_lost_during_the_commit_leaves_a_doubt(writing):
    writing.execute(
        "CREATE FUNCTION public.leave() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
    )
    writing.execute(
        "CREATE CONSTRAINT TRIGGER leave AFTER UPDATE ON users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION leave()"
    )
    with pytest.raises(OutcomeUnknown), writing.transaction():
        writing.execute("UPDATE users SET bounce_count = 1 WHERE id = 3")


@pytest.fixture
def cut(endpoint, superuser):
    """Ends every connection of a role, as a failover does; with `closed` the role can't come back."""

    def end(role, *, closed=False):
        owner = Postgres(endpoint(**superuser), writing=True)
        owner.execute(f"ALTER ROLE {role} {'NOLOGIN' if closed else 'LOGIN'}")
        owner.query("SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE usename = %(role)s", role=role)
        owner.close()

    yield end
    end("opsctl_reader")


def test_a_read_over_a_connection_that_has_ended_is_asked_once_more(reading, cut):
    assert reading.query("SELECT 1 AS one") == [{"one": 1}]
    cut("opsctl_reader")
    assert reading.query("SELECT 1 AS one") == [{"one": 1}]


def test_a_transaction_begins_over_a_new_connection_when_the_old_one_has_ended(writing, cut):
    writing.execute("CREATE TEMPORARY TABLE held (id int)")
    cut("safawinet")
    with writing.transaction():
        writing.execute("CREATE TEMPORARY TABLE held (id int) ON COMMIT DROP")


def test_a_read_that_nobody_answers_is_a_plain_failure(reading, cut):
    assert reading.query("SELECT 1 AS one") == [{"one": 1}]
    cut("opsctl_reader", closed=True)
    with pytest.raises(ExternalError):
        reading.query("SELECT 1 AS one")


def test_the_sandbox_is_on_this_machine(systems, monkeypatch):
    class Elsewhere:
        def endpoint(self, *_):
            return "safawinet-prod.cluster-x.us-east-1.rds.amazonaws.com", 5432

    made = systems(writing=False)
    made.__dict__["rds"] = Elsewhere()
    with pytest.raises(WrongPlace, match="not on this machine"):
        _ = made.database


def test_reading_and_writing_log_in_as_different_roles(systems):
    who = "SELECT current_user::text AS who"
    assert systems(writing=False).database.query(who) == [{"who": "opsctl_reader"}]
    assert systems(writing=True).database.query(who) == [{"who": "safawinet"}]


def test_a_login_may_come_from_a_file_and_has_to_be_json(systems, world, tmp_path):
    held = tmp_path / "login.json"
    login = {'login = { aws = "safawinet/prod/database" }': f'login = {{ file = "{held}" }}'}
    held.write_text(f'{{"username": "safawinet", "password": "{world["pg_password"]}"}}')
    assert systems(writing=True, replace=login).database.query("SELECT 1 AS one") == [{"one": 1}]
    Path(held).write_text("only-a-password")
    with pytest.raises(ConfigurationError, match="JSON") as failed:
        _ = systems(writing=True, replace=login).database
    assert "only-a-password" not in str(failed.value)
