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


RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'safawinet-api' AND state = 'active'"
SCENARIOS = {"database kill-long-running": [Scenario("database kill-long-running --older-than 1s", ended, prepare=long_queries)]}
