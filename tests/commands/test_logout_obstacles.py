"""`opsctl logout` where one store, or one row of one, can't be done: all the rest is, and the run ends partly done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from world import World, table

LEFT = "SELECT count(*) FROM refresh_sessions"
LATE = """
INSERT INTO refresh_sessions (user_id, token_hash, created_at, expires_at)
VALUES (3, 'late', now() - interval '1 day', now() + interval '1 day')
"""
RAISING = """
CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'audited rows stay'; END $$;
CREATE TRIGGER no BEFORE DELETE ON refresh_sessions FOR EACH ROW WHEN (OLD.user_id = 3) EXECUTE FUNCTION no();
"""
CHILD = (
    "CREATE TABLE child (session bigint REFERENCES refresh_sessions); INSERT INTO child SELECT id FROM refresh_sessions WHERE user_id = 3"
)
MENDED = (
    "DROP TABLE IF EXISTS child",
    "DROP TRIGGER IF EXISTS no ON refresh_sessions",
    "DROP FUNCTION IF EXISTS no()",
)


@pytest.fixture(params=["postgres", "rds-data"])
def either(request: pytest.FixtureRequest, world: World) -> World:
    """The sandbox over each driver, without the API, which ends sessions by itself."""
    driver = {'driver = "postgres"': f'driver = "{request.param}"'}
    world.configure({**{table(name): "" for name in ("api", "api.login", "api.test")}, **driver})
    return world


@pytest.fixture
def other(world: World) -> Iterator[psycopg.Connection[Any]]:
    """Somebody else's connection, in a transaction as soon as it says something; what it made is put back."""
    with closing(world.database()) as connection:
        yield connection
    with world.database() as connection:
        for statement in MENDED:
            connection.execute(statement.encode())


def ended(world: World, *line: str) -> str:
    """Run a line that ends partly done; return what it said, once it is sure that all keys are gone."""
    done = world.opsctl("-o", "json", *line, check=1)
    assert done.json["result"] == "partial"
    assert f"opsctl runs resume {done.json['run']}" in done.err
    assert [change["state"] for change in done.json["changes"]] == ["failed", "applied"]
    assert not world.cache().keys("session:*")
    return done.err


def resumed(world: World) -> None:
    """Take the newest run up again, to its end."""
    [newest, *_] = world.opsctl("-o", "json", "runs", "list", check=0).json
    world.opsctl("runs", "resume", newest["run"], "-y", check=0)
    assert world.count(LEFT) == 0


def test_a_row_that_somebody_holds_keeps_no_other(either: World, other: psycopg.Connection[Any]) -> None:
    other.execute("SELECT FROM refresh_sessions WHERE user_id = 3 FOR UPDATE")
    said = ended(either, "logout", "all", "-y")
    assert "49,995 sessions were done" in said
    assert f"pid {other.info.backend_pid} (safawinet, idle in transaction" in said
    assert either.count(LEFT) == 5
    other.rollback()
    resumed(either)


def test_a_row_that_may_still_come_is_waited_for(either: World, other: psycopg.Connection[Any]) -> None:
    """Until its transaction ends nobody sees it, and then it is older than the cutoff."""
    other.execute(LATE)
    said = ended(either, "logout", "all", "-y")
    assert f"pid {other.info.backend_pid} (safawinet, idle in transaction" in said
    assert either.count(LEFT) == 0
    other.commit()
    assert either.count(LEFT) == 1
    resumed(either)


def test_nothing_is_said_to_be_gone_while_a_row_may_still_come(either: World, other: psycopg.Connection[Any]) -> None:
    either.opsctl("logout", "all", "-y", check=0)
    other.execute(LATE)
    [first, _] = either.opsctl("-o", "json", "logout", "all", "-n", check=3).json["changes"]
    assert first["state"] == "pending"
    assert "may still add sessions: pid" in first["why"]


@pytest.mark.parametrize(("obstacle", "why"), [(CHILD, "child_session_fkey"), (RAISING, "audited rows stay")])
@pytest.mark.parametrize("line", ["all", "bulk --inactive-for 1d"])
def test_rows_that_a_constraint_or_a_trigger_keeps_keep_no_other(
    either: World, other: psycopg.Connection[Any], obstacle: str, why: str, line: str
) -> None:
    other.execute(obstacle.encode())
    other.commit()
    gone = either.count("SELECT count(*) FROM refresh_sessions WHERE user_id > 3 AND user_id % 730 <> 0")
    done = either.opsctl("-o", "json", "logout", *line.split(), "-y", check=1)
    assert why in done.err
    assert done.json["result"] == "partial"
    assert either.count("SELECT count(*) FROM refresh_sessions WHERE user_id = 3") == 5
    assert either.count(LEFT) <= 50_000 - gone + 5_000
    for statement in MENDED:
        other.execute(statement.encode())
    other.commit()
    either.opsctl("runs", "resume", done.json["run"], "-y", check=0)


def test_a_table_that_is_locked_as_a_whole(either: World, other: psycopg.Connection[Any]) -> None:
    other.execute("LOCK TABLE refresh_sessions IN EXCLUSIVE MODE")
    assert "is locked" in ended(either, "logout", "all", "-y")
    other.rollback()
    resumed(either)


@pytest.mark.parametrize(("part", "states"), [("valkey", ["applied", "pending"]), ("postgres", ["pending", "applied"])])
def test_a_store_that_is_down_keeps_no_other(either: World, part: str, states: list[str]) -> None:
    try:
        either.opsctl("sandbox", "fault", "crash", part, check=0)
        done = either.opsctl("-o", "json", "logout", "all", "-y", check=1)
        assert [change["state"] for change in done.json["changes"]] == states
        assert "Not done: " in done.err
        assert f"opsctl runs resume {done.json['run']}" in done.err
    finally:
        either.rehearsal.up()
    either.opsctl("runs", "resume", done.json["run"], "-y", check=0)
    assert either.count(LEFT) == 0
    assert not either.cache().keys("session:*")


def test_ids_need_no_database(world: World) -> None:
    """An e-mail does: only the database knows whose it is."""
    try:
        world.opsctl("sandbox", "fault", "crash", "postgres", check=0)
        world.opsctl("logout", "user", "3", "-y", "--only", "redis", check=0)
        assert "is unreachable" in world.opsctl("logout", "user", "user3@example.com", "-y", "--only", "redis", check=1).err
    finally:
        world.rehearsal.up()
    assert not world.cache().keys("session:3:*")
    assert world.count("SELECT count(*) FROM refresh_sessions WHERE user_id = 3") == 5


@pytest.mark.parametrize(
    ("stores", "kinds"),
    [
        (["database"], ["end-database-sessions"]),
        (["redis"], ["end-cached-sessions"]),
        (["api"], ["revoke-tokens"]),
        (["api", "database"], ["end-database-sessions", "revoke-tokens"]),
    ],
)
@pytest.mark.parametrize("line", ["user 3", "bulk --inactive-for 400d", "all"])
def test_only_some_stores(world: World, stores: list[str], kinds: list[str], line: str) -> None:
    words = [word for store in stores for word in ("--only", store)]
    planned = world.opsctl("-o", "json", "logout", *line.split(), *words, "-n", check=3).json
    assert [change["kind"] for change in planned["changes"]] == kinds
    assert planned["command"] == f"logout {line} {' '.join(words)}"
