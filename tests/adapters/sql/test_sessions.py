"""The sessions' table asked in words, over both drivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from opsctl.adapters.sql.sessions import SessionCount
from opsctl.systems import Systems


@pytest.fixture
def owner(world: dict[str, str]) -> Iterator[psycopg.Connection[Any]]:
    where = {"host": world["pg_host"], "port": world["pg_port"], "dbname": world["database"]}
    with psycopg.connect(user=world["pg_user"], password=world["pg_password"], **where) as connection:
        yield connection


@pytest.fixture(params=["postgres", "rds-data"])
def read(request: pytest.FixtureRequest, systems: Callable[..., Systems]) -> Iterator[Systems]:
    made = systems(writing=False, replace={'driver = "postgres"': f'driver = "{request.param}"'})
    yield made
    made.shut()


def test_sessions_count_as_old_unless_their_beginning_shows_that_they_are_new(read: Systems, owner: psycopg.Connection[Any]) -> None:
    owner.execute("DELETE FROM refresh_sessions WHERE user_id > 4; ALTER TABLE refresh_sessions ALTER created_at DROP NOT NULL")
    for user, began in ((1, "NULL"), (2, "now() + interval '1 hour'"), (3, "now()"), (4, "now() - interval '2 days'")):
        owner.execute(f"UPDATE refresh_sessions SET created_at = {began} WHERE user_id = {user}".encode())
    owner.commit()
    cutoff = read.database.server_time() - timedelta(days=1)
    assert read.session_rows.count(None, cutoff) == SessionCount(old=15, unproven=10, live=20)
    assert read.session_rows.count(["3"], cutoff) == SessionCount(0, 0, 5)
    assert read.session_rows.count(["3", "4", "77"], cutoff) == SessionCount(5, 0, 10)
    assert read.session_rows.total() == "20"


def test_a_transaction_that_may_still_add_sessions_is_told_with_who_holds_it(read: Systems, owner: psycopg.Connection[Any]) -> None:
    before = read.database.server_time()
    owner.execute("SELECT FROM refresh_sessions WHERE user_id = 3 FOR UPDATE")
    later = read.database.server_time()
    told = f"pid {owner.info.backend_pid} (safawinet, idle in transaction, since "
    assert [who.startswith(told) for who in read.session_rows.holders()] == [True]
    assert read.session_rows.writers(later) == []
    owner.execute("UPDATE refresh_sessions SET token_hash = token_hash WHERE user_id = 3")
    assert [who.startswith(told) for who in read.session_rows.writers(later)] == [True]
    assert read.session_rows.writers(before) == []
    owner.rollback()
    assert read.session_rows.holders() == []
