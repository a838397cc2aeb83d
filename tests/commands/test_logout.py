"""`opsctl logout`: whom it takes, and what others notice of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from world import World

from opsctl.adapters.sql import session_deletion as deletion
from opsctl.adapters.sql.session_deletion import ROWS
from opsctl.engine.ledger.rows import Step
from opsctl.engine.runner import Runner
from opsctl.errors import ExternalError


@pytest.mark.parametrize("line", ["--last-login-before 0001-01-01", "--users-from {home}/nobody.txt"])
def test_nobody_is_one_change_that_says_so(world: World, line: str) -> None:
    (world.home / "nobody.txt").write_text("# nobody yet\n")
    words = line.format(home=world.home).split()
    for dry in (["-n"], ["-y"]):
        done = world.opsctl("-o", "json", "logout", "bulk", *words, *dry, check=0)
        [change] = done.json["changes"]
        assert (done.json["result"], change["state"], change["why"]) == ("unchanged", "done", "no user meets the criteria, of 10,000")
    assert "no user meets the criteria" in world.opsctl("logout", "bulk", *words, "-n", check=0).out


ONLY = ("--only", "database")
"""The other stores go on where this one fails, and the API ends sessions by itself."""
SLOW = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({}); RETURN NULL; END $$;
CREATE TRIGGER slowly AFTER DELETE ON refresh_sessions FOR EACH ROW EXECUTE FUNCTION slowly();
"""
MANY = """
INSERT INTO refresh_sessions (user_id, token_hash, created_at, expires_at)
SELECT 1 + n % 10, 'many-' || n, now() - interval '1 day', now() + interval '29 days' FROM generate_series(1, 20000) AS n
"""
NOTED = """
CREATE TABLE noted (transaction xid8);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO noted VALUES (pg_current_xact_id()); RETURN NULL; END $$;
CREATE TRIGGER note AFTER DELETE ON refresh_sessions FOR EACH ROW EXECUTE FUNCTION note();
"""
"""Notes for each deleted session which transaction deleted it."""


@pytest.fixture
def slow(world: World) -> Iterator[Callable[[float], None]]:
    """Makes each deleted session take so many seconds, as an audit or a cascade does."""

    def make(seconds: float) -> None:
        with world.database() as connection:
            connection.execute(SLOW.format(seconds).encode())

    yield make
    with world.database() as connection:
        connection.execute("DROP TRIGGER IF EXISTS slowly ON refresh_sessions; DROP FUNCTION IF EXISTS slowly")


@pytest.fixture(params=["postgres", "rds-data"])
def either(request: pytest.FixtureRequest, world: World) -> World:
    """The sandbox over each driver."""
    world.configure({'driver = "postgres"': f'driver = "{request.param}"'})
    return world


@pytest.mark.parametrize(("line", "most"), [("bulk --users-from {home}/some.txt", ROWS), ("all", 40_000)])
def test_no_transaction_takes_all_of_them(either: World, line: str, most: int) -> None:
    """They are thousands, of more users than are found at once: in one transaction every login would wait for the last of them."""
    (either.home / "some.txt").write_text("\n".join(map(str, range(1, 1_001))))
    with either.database() as connection:
        connection.execute(NOTED)
    words = line.format(home=either.home).split()
    done = either.opsctl("-o", "json", "logout", *words, "-y", check=0)
    assert [change["state"] for change in done.json["changes"]] == ["applied"] * 3
    deleted = either.count("SELECT count(*) FROM noted")
    # The administrator's own, for the API, comes and goes beside them.
    assert deleted >= 50_000 - either.count("SELECT count(*) FROM refresh_sessions") > most
    assert either.count("SELECT max(rows) FROM (SELECT count(*) AS rows FROM noted GROUP BY transaction) AS each") <= most


def test_many_sessions_of_few_users_go_in_batches(either: World) -> None:
    """Between two of them the run may be stopped, and others' sessions stay."""
    with either.database() as connection:
        connection.execute(MANY.encode())
    others = either.count("SELECT count(*) FROM refresh_sessions WHERE user_id > 10")
    stopped = either.opsctl("-o", "json", "logout", "user", *map(str, range(1, 11)), *ONLY, "-y", before=stop_after(3), check=1)
    assert "3,000 sessions were done" in stopped.err
    assert either.count("SELECT count(*) FROM refresh_sessions WHERE user_id <= 10") == 20_050 - 3_000
    either.opsctl("runs", "resume", stopped.json["run"], check=0)
    assert either.count("SELECT count(*) FROM refresh_sessions WHERE user_id <= 10") == 0
    assert either.count("SELECT count(*) FROM refresh_sessions WHERE user_id > 10") == others


def stop_after(batches: int) -> Callable[[], None]:
    """What makes a child fail after so many batches."""

    def arm() -> None:
        progress = Runner._progress

        def count(self: Runner, step: Step, done: int, total: int | None = None, unit: str = "", *, effect: bool = True) -> None:
            progress(self, step, done, total, unit, effect=effect)
            if done >= batches * ROWS:
                raise ExternalError("The database said no.", "Mend it.")

        Runner._progress = count  # type: ignore[method-assign]

    return arm


def test_a_held_table_and_a_slow_deletion_are_told_apart(world: World, slow: Callable[[float], None]) -> None:
    with closing(world.database()) as holder:
        holder.execute("LOCK TABLE refresh_sessions IN SHARE ROW EXCLUSIVE MODE")
        done = world.opsctl("logout", "user", "15", *ONLY, "-y", before=impatient, check=1)
        pid = holder.info.backend_pid
    assert "is locked" in done.err
    assert f"Open transactions on refresh_sessions: pid {pid} (safawinet, idle in transaction" in done.err
    slow(0.1)
    done = world.opsctl("logout", "user", "15", *ONLY, "-y", "--again", before=lambda: (impatient(), unbatched()), check=1)  # type: ignore[func-returns-value]
    assert "under the lock took longer than 0.02 s" in done.err
    assert "trigger" in done.err


def impatient() -> None:
    """What makes a child give up after two tries."""
    deletion.TRIES, deletion.VACUUM_MS = 1, 20


def unbatched() -> None:
    """What makes a child leave all to the pass under the lock, as if others had inserted them just now."""
    deletion.SMALL = 10**9
    deletion.SessionDeletion.rows = lambda *_: None  # type: ignore[method-assign]
