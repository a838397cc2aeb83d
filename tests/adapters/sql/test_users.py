"""Users by the names that people give them, over both drivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from opsctl.adapters.sql.users import Users
from opsctl.systems import Systems

UUID = "0b9e6a3c-11aa-4c0e-9d5f-5a8f0e3b2c1d"
MADE = """
CREATE SCHEMA others;
CREATE TABLE others.people (id {type} PRIMARY KEY, email {email}, last_login_at timestamptz);
CREATE TABLE others.open_sessions (id bigint, user_id {type});
GRANT USAGE ON SCHEMA others TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA others TO PUBLIC;
ALTER ROLE opsctl_reader SET search_path = others, public;
"""
CONFIG = {
    'table = "refresh_sessions"': 'table = "open_sessions"',
    'users-table = "users"': 'users-table = "people"',
    'created-column = "created_at"': "",
}

Make = Callable[..., Users]


@pytest.fixture
def superuser(world: dict[str, str]) -> Iterator[psycopg.Connection]:
    where = {"host": world["pg_host"], "port": world["pg_port"], "dbname": world["database"]}
    with psycopg.connect(user="postgres", password=world["pg_superuser_password"], autocommit=True, **where) as connection:
        yield connection
        connection.execute("DROP SCHEMA IF EXISTS others CASCADE; ALTER ROLE opsctl_reader RESET search_path")


@pytest.fixture(params=["postgres", "rds-data"])
def users(request: pytest.FixtureRequest, systems: Callable[..., Systems], superuser: psycopg.Connection) -> Iterator[Make]:
    made: list[Systems] = []

    def make(type: str, *ids: str, email: str = "text") -> Users:
        if "citext" in (type, email):
            superuser.execute("CREATE EXTENSION IF NOT EXISTS citext")
        superuser.execute(MADE.format(type=type, email=email).encode())
        for number, id in enumerate(ids, 1):
            superuser.execute("INSERT INTO others.people VALUES (%s, %s)", [id, f"User{number}@Corp.example"])
        made.append(systems(writing=False, replace={**CONFIG, 'driver = "postgres"': f'driver = "{request.param}"'}))
        return made[-1].users

    yield make
    for each in made:
        each.shut()


@pytest.mark.parametrize(
    ("type", "id", "names"),
    [
        ("bigint", "42", ["42", "042", "user1@corp.example", "USER1@CORP.EXAMPLE"]),
        ("smallint", "-7", ["-7"]),
        ("uuid", UUID, [UUID, UUID.upper(), UUID.replace("-", "")]),
        ("text", UUID, [UUID, UUID.upper()]),
        ("text", UUID.upper(), [UUID, UUID.upper()]),
        ("text", "me@corp.example", ["me@corp.example"]),
        ("varchar(40)", "tenant:42", ["tenant:42"]),
        ("citext", "Bob", ["bob", "BOB"]),
    ],
)
def test_a_user_is_found_by_each_name(users: Make, type: str, id: str, names: list[str]) -> None:
    assert users(type, id).named(names) == {name: [id] for name in names}


@pytest.mark.parametrize(
    ("type", "id", "name"),
    [
        ("bigint", "42", "4 2"),
        ("bigint", "42", "9223372036854775808"),
        ("int", "42", "2147483648"),
        ("bigint", "42", "42; DROP TABLE people"),
        ("text", "Bob", "bob"),
        ("text", "a%", "ab"),
        ("bigint", "42", "someone@else.example"),
    ],
)
def test_a_name_of_nobody_is_nobodys(users: Make, type: str, id: str, name: str) -> None:
    assert users(type, id).named([name]) == {name: []}


def test_a_citext_column_of_e_mails(users: Make) -> None:
    assert users("bigint", "7", email="citext").named(["uSer1@corp.EXAMPLE"]) == {"uSer1@corp.EXAMPLE": ["7"]}


def test_a_name_that_is_two_users_is_both(users: Make, superuser: psycopg.Connection) -> None:
    """One e-mail in two tenants, in two cases, or one that is another user's id."""
    found = users("text", "a", "b", "user3@corp.example")
    superuser.execute("UPDATE others.people SET email = 'bob@corp.example' WHERE id = 'a'")
    superuser.execute("UPDATE others.people SET email = 'Bob@corp.example' WHERE id = 'b'")
    assert found.named(["bob@corp.example"]) == {"bob@corp.example": ["a", "b"]}
    superuser.execute("INSERT INTO others.people VALUES ('c', 'user3@corp.example')")
    assert found.named(["user3@corp.example"]) == {"user3@corp.example": ["c", "user3@corp.example"]}


@pytest.mark.parametrize("type", ["bigint", "text"])
def test_a_deleted_account_is_found_by_its_sessions(users: Make, superuser: psycopg.Connection, type: str) -> None:
    found = users(type, "1")
    superuser.execute("INSERT INTO others.open_sessions VALUES (1, '99')")
    assert found.named(["99", "98"]) == {"99": ["99"], "98": []}
    assert found.existing(["1", "99"]) == {"1"}


def test_no_login_and_one_in_the_future_count_as_long_ago(users: Make, superuser: psycopg.Connection) -> None:
    found = users("bigint", "1", "2", "3", "4")
    for id, at in ((1, "2020-01-01"), (2, "infinity"), (3, "now")):
        superuser.execute("UPDATE others.people SET last_login_at = %s WHERE id = %s", [at, id])
    before = datetime(2024, 1, 1, tzinfo=UTC)
    assert [sorted(found.matching(before, None).ids), found.matching(before, None).unproven] == [["1", "2", "4"], 2]
    assert found.matching(before, ["1", "3"]) == (["1"], 0)
    assert found.total() == 4


@pytest.mark.parametrize(
    ("ids", "asked", "pairs"),
    [
        (["tenant", "tenant:42"], ["tenant"], [("tenant", "tenant:42")]),
        (["tenant", "tenant:42"], ["tenant:42"], [("tenant:42", "tenant")]),
        (["tenant", "tenant:42"], ["tenant", "tenant:42"], []),
        (["tenant", "tenant42", "ten:ant", "enant:1"], ["tenant"], []),
        (["a", "a:b:c", "b"], ["a:b:c", "b"], [("a:b:c", "a")]),
    ],
)
def test_ids_whose_keys_read_alike_are_found(users: Make, ids: list[str], asked: list[str], pairs: list[tuple[str, str]]) -> None:
    assert users("text", *ids).confusable(asked, ":") == pairs
