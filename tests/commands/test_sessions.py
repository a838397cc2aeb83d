"""`opsctl sessions list`: every kind of id, over both drivers, with and without a column that tells when a session began."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from world import World

from opsctl.adapters.sql.sessions import PAGE

DATA_API = {'driver = "postgres"': 'driver = "rds-data"'}
KINDS = {
    "bigint": "n - 3",
    "uuid": "gen_random_uuid()",
    "text": "'it''s ' || md5(n::text)",
}


@pytest.fixture(params=KINDS)
def other(request: pytest.FixtureRequest, world: World) -> Iterator[int]:
    """A table of sessions with such ids, more than one page of them; returns how many."""
    rows = PAGE + 3
    with world.database() as connection:
        connection.execute(
            f"CREATE TABLE other_sessions AS SELECT {KINDS[request.param]} AS id, 1 + n % 7 AS user_id, now() AS created_at,"
            f" now() + interval '30 days' AS expires_at FROM generate_series(1, {rows}::bigint) AS n"
        )
        connection.execute("ALTER TABLE other_sessions ADD PRIMARY KEY (id)")
    yield rows
    with world.database() as connection:
        connection.execute("DROP TABLE other_sessions")


@pytest.mark.parametrize("driver", [{}, DATA_API], ids=["postgres", "rds-data"])
def test_each_is_listed_once_whatever_its_id_is(world: World, other: int, driver: dict[str, str]) -> None:
    world.configure({'table = "refresh_sessions"': 'table = "other_sessions"', **driver})
    lines = world.opsctl("-o", "json", "sessions", "list", check=0).out.splitlines()
    assert len(lines) == len({json.loads(line)["session"] for line in lines}) == other


@pytest.mark.parametrize("driver", [{}, DATA_API], ids=["postgres", "rds-data"])
def test_the_lifetime_tells_when_a_session_began(world: World, driver: dict[str, str]) -> None:
    line = ("-o", "json", "sessions", "list", "--user", "15", "--since", "36500d")
    told = world.opsctl(*line, check=0).out.splitlines()
    assert told
    world.configure({'created-column = "created_at"\n': "", **driver})
    ends = {row["session"]: row["expires"] for row in map(json.loads, told)}
    by_lifetime = [json.loads(each) for each in world.opsctl(*line, check=0).out.splitlines()]
    assert {row["session"]: row["expires"] for row in by_lifetime} == ends
    assert all(row["began"] < row["expires"] for row in by_lifetime)


def test_a_limit_says_how_many_are_left(world: World) -> None:
    found = world.opsctl("sessions", "list", "--user", "15", check=0).out.splitlines()
    cut = world.opsctl("sessions", "list", "--user", "15", "--since", "36500d", "--limit", "1", check=0)
    assert cut.out.splitlines() == found[:1]
    assert f"{len(found) - 1} more" in cut.err
    assert world.opsctl("sessions", "list", "--limit", "1", "--all").code == 2
