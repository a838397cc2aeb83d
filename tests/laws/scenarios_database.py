"""Rehearsals of what is done to the database's backends."""

from __future__ import annotations

from scenario import Scenario
from world import World


def long_queries(world: World) -> None:
    """The application runs two long queries, for longer than a second."""
    world.control("POST", "/queries", {"count": 2, "kind": "sleeping"})
    world.count("SELECT count(pg_sleep(1.05))")


def ended(world: World) -> bool:
    """Whether no such query runs, and the application's other connections stand."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'safawinet-api' AND state LIKE 'idle%'"
    return world.count(RUNNING) == 0 and world.count(others) >= 3


def held_up(world: World) -> None:
    """A session of the application is idle in its transaction, one query waits for it, and another runs long."""
    world.control("POST", "/queries", {"count": 1, "kind": "waiting"})
    world.control("POST", "/queries", {"count": 1, "kind": "sleeping"})
    world.count("SELECT count(pg_sleep(1.05))")
    with world.database() as connection:
        (found,) = connection.execute(BLOCKER).fetchall()
    (world.home / "blocker").write_text(found[0])


def freed(world: World) -> bool:
    """Whether no such query runs, that session is gone, and those that hold up nobody stand."""
    with world.database() as connection:
        there = [row[0] for row in connection.execute(SESSIONS)]
    return world.count(RUNNING) == 0 and (world.home / "blocker").read_text() not in there and len(there) >= 2


RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'safawinet-api' AND state = 'active'"
SESSIONS = "SELECT concat_ws(' ', pid, backend_start) FROM pg_stat_activity WHERE application_name = 'safawinet-api' AND state LIKE 'idle%'"
BLOCKER = f"{SESSIONS} AND pid IN (SELECT unnest(pg_blocking_pids(victim.pid)) FROM pg_stat_activity victim)"
SCENARIOS = {
    "database kill-long-running": [
        Scenario("database kill-long-running --older-than 1s", ended, prepare=long_queries),
        Scenario("database kill-long-running --older-than 1s --blockers", freed, prepare=held_up),
    ]
}
