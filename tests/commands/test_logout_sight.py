"""`opsctl logout` where sessions can't be seen, or nothing shows how old they are: without the API, which ends sessions by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from world import World, table

CREATED = 'created-column = "created_at"\n'
DISABLED = (
    "ALTER TABLE refresh_sessions DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY; DROP POLICY IF EXISTS p ON refresh_sessions"
)


def without_api() -> dict[str, str]:
    return {table(name): "" for name in ("api", "api.login", "api.test")}


@pytest.fixture(params=["postgres", "rds-data"])
def either(request: pytest.FixtureRequest, world: World) -> World:
    """The sandbox over each driver, without the API."""
    world.configure({**without_api(), 'driver = "postgres"': f'driver = "{request.param}"'})
    return world


@pytest.fixture
def plain(world: World) -> World:
    """The sandbox without the API."""
    world.configure(without_api())
    return world


@pytest.fixture
def owner(world: World) -> Iterator[psycopg.Connection[Any]]:
    """A connection that commits each statement at once; what it made is put back."""
    with world.database() as connection:
        connection.autocommit = True
        yield connection
        for statement in (DISABLED, "DROP TABLE IF EXISTS others.refresh_sessions", "DROP SCHEMA IF EXISTS others"):
            connection.execute(statement.encode())


def rows(world: World, where: str = "true") -> int:
    return world.count(f"SELECT count(*) FROM refresh_sessions WHERE {where}")


@pytest.mark.parametrize("line", ["logout all -y", "logout user 3 -y", "logout bulk --inactive-for 30d -y", "sessions list"])
def test_a_role_that_sees_only_some_rows_is_refused(either: World, owner: psycopg.Connection[Any], line: str) -> None:
    owner.execute("ALTER TABLE refresh_sessions ENABLE ROW LEVEL SECURITY")
    owner.execute("CREATE POLICY p ON refresh_sessions USING (user_id::text = current_setting('app.user_id', true))")
    refused = either.opsctl(*line.split(), check=4)
    assert "opsctl_reader sees only some rows of refresh_sessions" in refused.err
    assert "BYPASSRLS" in refused.err
    assert rows(either) == 50_000


def test_hidden_users_are_no_reason_to_log_nobody_out(plain: World, owner: psycopg.Connection[Any]) -> None:
    owner.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
    try:
        for line in ("user user3@example.com", "bulk --inactive-for 30d"):
            assert "sees only some rows of users" in plain.opsctl("logout", *line.split(), "-y", check=4).err
    finally:
        owner.execute("ALTER TABLE users DISABLE ROW LEVEL SECURITY")


@pytest.mark.parametrize("began", ["NULL", "now() + interval '1 day'", "'infinity'"])
@pytest.mark.parametrize("line", ["all", "user 3"])
def test_no_time_of_beginning_or_one_in_the_future_counts_as_old(
    either: World, owner: psycopg.Connection[Any], began: str, line: str
) -> None:
    owner.execute("ALTER TABLE refresh_sessions ALTER created_at DROP NOT NULL")
    owner.execute(f"UPDATE refresh_sessions SET created_at = {began} WHERE user_id < 10".encode())
    owner.execute("DELETE FROM refresh_sessions WHERE user_id >= 10")
    done = either.opsctl("logout", *line.split(), "-y", "--only", "database", check=0)
    assert "have no created_at or one in the future; they count as old" in done.err
    assert rows(either, "true" if line == "all" else "user_id = 3") == 0


@pytest.mark.parametrize("ends", ["NULL", "now() + interval '90 days'"])
def test_an_end_that_the_lifetime_does_not_explain_counts_as_old(world: World, owner: psycopg.Connection[Any], ends: str) -> None:
    world.configure({**without_api(), CREATED: ""})
    owner.execute("ALTER TABLE refresh_sessions ALTER expires_at DROP NOT NULL")
    owner.execute(f"UPDATE refresh_sessions SET expires_at = {ends}".encode())
    done = world.opsctl("logout", "all", "-y", "--only", "database", check=0)
    assert "is lifetime too short" in done.err
    assert rows(world) == 0


def test_a_key_that_outlives_its_lifetime_counts_as_old(plain: World) -> None:
    cache = plain.cache()
    for key in cache.keys("session:3:*"):  # type: ignore[union-attr]
        cache.delete(key)
    cache.set("session:3:x", "", ex=2_592_000)
    done = plain.opsctl("logout", "user", "3", "-y", check=0)
    assert "redis-lifetime in [sessions] allows, so that setting is too short" in done.err
    assert not cache.exists("session:3:x")


def test_what_is_left_is_counted_beside_what_was_asked_for(plain: World) -> None:
    plain.opsctl("logout", "user", "3", "-y", check=0)
    again = [change["why"] for change in plain.opsctl("-o", "json", "logout", "user", "3", "-y", check=0).json["changes"]]
    assert "none of the 49,995 sessions in the database belongs to user 3" in again[0]
    assert "none of the 19,998 session keys in Redis belongs to user 3" in again[1]
    plain.opsctl("logout", "all", "-y", check=0)
    again = [change["why"] for change in plain.opsctl("-o", "json", "logout", "all", "-y", check=0).json["changes"]]
    assert "is empty" in again[0]
    assert "none of the 5,000 keys in Redis is a session key" in again[1]


def test_an_empty_table_with_a_namesake_may_be_the_wrong_one(plain: World, owner: psycopg.Connection[Any]) -> None:
    owner.execute("TRUNCATE refresh_sessions")
    owner.execute("CREATE SCHEMA others")
    owner.execute("CREATE TABLE others.refresh_sessions (id int)")
    refused = plain.opsctl("logout", "all", "-y", "--only", "database", check=4)
    assert "other tables have the same name: others.refresh_sessions" in refused.err


@pytest.mark.parametrize("role", ["CURRENT_USER", 'CURRENT_USER IN DATABASE "{database}"'])
@pytest.mark.parametrize("name", ["refresh_sessions", "users"])
def test_a_reader_that_finds_another_table_than_the_writer_tells_nothing(
    either: World, owner: psycopg.Connection[Any], name: str, role: str
) -> None:
    role = role.format(**either.facts)
    owner.execute("CREATE SCHEMA others")
    owner.execute(f"CREATE TABLE others.{name} (LIKE public.{name} INCLUDING ALL)".encode())
    try:
        either.opsctl("logout", "user", "3", "-n", "--only", "database", check=3)
        owner.execute(f"ALTER ROLE {role} SET search_path = 'others', public".encode())
        for user in ("3", "9000"):
            refused = either.opsctl("logout", "user", user, "-y", "--only", "database", check=4)
            assert f"finds others.{name}: one role would not see what the other changes" in refused.err
        assert either.count("SELECT count(*) FROM public.refresh_sessions WHERE user_id = 3") == 5
    finally:
        owner.execute(f"ALTER ROLE {role} RESET search_path".encode())
        owner.execute(f"DROP TABLE others.{name}".encode())


def test_sessions_in_another_database_of_redis(world: World) -> None:
    cache = world.cache()
    everything = {**without_api(), 'cluster = "safawinet-redis"\n': 'cluster = "safawinet-redis"\ndb = 1\n'}
    cache.flushall()
    moved = world.cache()
    moved.select(1)
    moved.set("session:3:x", "", ex=100)
    world.configure(without_api())
    blind = world.opsctl("logout", "user", "3", "-y", check=1)
    assert "Other databases of this Redis contain keys: 1." in blind.err
    assert "db = 1" in blind.err
    world.configure(everything)
    world.opsctl("logout", "user", "3", "-y", check=0)
    assert cache.info("keyspace") == {}


@pytest.mark.parametrize("line", ["all", "user 3"])
def test_a_pattern_that_meets_no_key_is_not_done(world: World, line: str) -> None:
    """The other store is emptied all the same."""
    world.configure({**without_api(), 'session:*"]': 'sess:*"]', "session:{user}:*": "sess:{user}:*"})
    blind = world.opsctl("logout", *line.split(), "-y", check=1)
    assert "No key of 25,000 in Redis' database 0 matches sess:" in blind.err
    assert rows(world, "true" if line == "all" else "user_id = 3") == 0


def test_two_users_of_one_e_mail_are_refused(plain: World, owner: psycopg.Connection[Any]) -> None:
    owner.execute("ALTER TABLE users DROP CONSTRAINT users_email_key")
    owner.execute("UPDATE users SET email = 'bob@corp.example' WHERE id IN (5, 6)")
    refused = plain.opsctl("logout", "user", "bob@corp.example", "-y", check=4)
    assert "'bob@corp.example' stands for 5, 6" in refused.err
    assert rows(plain) == 50_000


@pytest.mark.parametrize("name", ["User5@EXAMPLE.com", "005", "user5@example.com"])
def test_a_user_is_found_by_each_name(plain: World, name: str) -> None:
    plain.opsctl("logout", "user", name, "-y", check=0)
    assert rows(plain, "user_id = 5") == 0
    assert rows(plain) == 49_995


@pytest.mark.parametrize("left", ["rows", "keys"])
def test_sessions_of_a_deleted_account_can_be_ended(world: World, owner: psycopg.Connection[Any], left: str) -> None:
    """Also with the API, which knows no such user."""
    owner.execute("ALTER TABLE refresh_sessions DROP CONSTRAINT refresh_sessions_user_id_fkey")
    owner.execute("DELETE FROM users WHERE id = 5")
    if left == "keys":
        owner.execute("DELETE FROM refresh_sessions WHERE user_id = 5")
    world.opsctl("logout", "user", "5", "-y", check=0)
    assert rows(world, "user_id = 5") == 0
    assert not world.cache().keys("session:5:*")
    assert "for a deleted account, give the id" in world.opsctl("logout", "user", "5", "-y", check=1).err


def test_ids_that_read_alike_in_redis(world: World, owner: psycopg.Connection[Any]) -> None:
    owner.execute("ALTER TABLE users ADD COLUMN key text")
    owner.execute("ALTER TABLE refresh_sessions ADD COLUMN key text")
    owner.execute("UPDATE users SET key = 'tenant:' || id")
    world.configure({**without_api(), 'user-column = "user_id"': 'user-column = "key"\nusers-id-column = "key"'})
    cache = world.cache()
    cache.mset({"session:tenant:42:x": "", "session:tenant:7:x": "", "session:tenant:x": ""})
    world.opsctl("logout", "user", "tenant:42", "-y", check=0)
    assert cache.keys("session:tenant:*") != []
    assert sorted(cache.keys("session:tenant:*")) == [b"session:tenant:7:x", b"session:tenant:x"]  # type: ignore[type-var, arg-type]
    owner.execute("UPDATE users SET key = 'tenant' WHERE id = 8")
    for user, other in (("tenant", "tenant:1"), ("tenant:7", "tenant")):
        refused = world.opsctl("logout", "user", user, "-y", check=4)
        assert f"can't be told apart: '{user}' and '{other}'" in refused.err
    world.opsctl("logout", "user", "tenant:7", "-y", "--only", "database", check=0)
    assert cache.exists("session:tenant:7:x")
