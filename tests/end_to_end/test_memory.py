"""What our own memory satisfies, and what it calls compromised: only what was really done, for the very same change."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from bad_days import plain
from world import World

from opsctl.changes import all_kinds
from opsctl.changes.failover import FailOverInstance, ProveWrites
from opsctl.contract import Change

MAIL_KEY = "safawinet/prod/mail-key"
GENERATE = ("secrets", "rotate", "mail-key", "--value-from", "generate", "-y")
PINNED = {"before", "after", "version", "cutoff", "seen", "writer"}


def told(world: World, *line: str, code: int = 0) -> Any:
    return world.opsctl("-o", "json", *line, check=code).json


def current(world: World) -> str:
    return next(version for version, (stages, _) in world.secrets()[MAIL_KEY].items() if "AWSCURRENT" in stages)


def rotate_twice(world: World) -> None:
    """Compromised, the second time so already."""
    assert told(world, *GENERATE, "--compromised")["result"] == "changed"
    good = current(world)
    second = told(world, *GENERATE, "--compromised")
    assert second["result"] == "unchanged"
    assert current(world) == good
    moved = next(change for change in second["changes"] if change["target"] == "secret/mail-key/AWSCURRENT")
    assert moved["after"] == good, "the version that was made, not one that never was"
    assert good[:8] in moved["summary"]


def test_a_rotation_that_was_only_recalled_compromises_nothing(world: World) -> None:
    leaked = current(world)
    rotate_twice(world)
    good = current(world)
    run = told(world, *GENERATE)["run"]
    assert current(world) != good
    assert told(world, "secrets", "rollback", "mail-key", "-n", code=3)["result"] == "would-change"
    assert told(world, "runs", "undo", run, "-y")["result"] == "changed"
    assert current(world) == good
    assert "never comes back" in plain(world.opsctl("secrets", "rollback", "mail-key", "--to", leaked, "-y"), 4)
    assert current(world) == good


def test_a_value_that_was_found_so_compromises_only_the_one_before_it(world: World) -> None:
    leaked = current(world)
    lines = []
    for name in ("first", "second"):
        (world.home / name).write_text(f"{name}-value-that-is-long-enough\n")
        lines.append(("secrets", "rotate", "mail-key", "--value-from", f"file:{world.home / name}", "-y"))
    told(world, *lines[0])
    good = current(world)
    assert told(world, *lines[0], "--compromised")["result"] == "changed", "AWSPREVIOUS is taken off"
    run = told(world, *lines[1])["run"]
    assert told(world, "secrets", "rollback", "mail-key", "-n", code=3)["result"] == "would-change"
    assert told(world, "runs", "undo", run, "-y")["result"] == "changed"
    assert current(world) == good
    assert "never comes back" in plain(world.opsctl("secrets", "rollback", "mail-key", "--to", leaked, "-y"), 4)


def test_what_may_have_been_rotated_away_as_compromised_stays_away_before_the_run_goes_on(world: World) -> None:
    leaked = current(world)
    run = told(world, *GENERATE, "--compromised")["run"]
    good = current(world)
    with closing(sqlite3.connect(world.ledger)) as ledger, ledger:
        ledger.execute("UPDATE steps SET state = 'pending' WHERE run = ?", (run,))
        ledger.execute("UPDATE steps SET state = 'begun' WHERE run = ? AND target LIKE '%/AWSCURRENT'", (run,))
    assert "never comes back" in plain(world.opsctl("secrets", "rollback", "mail-key", "--to", leaked, "-y"), 4)
    assert current(world) == good


def test_a_changed_file_is_another_logout(world: World) -> None:
    named = world.home / "users.txt"
    line = ("logout", "bulk", "--users-from", str(named), "-y")
    named.write_text("5\n")
    told(world, *line)
    assert told(world, *line)["result"] == "unchanged"
    with world.database() as connection:
        connection.execute("DELETE FROM refresh_sessions WHERE user_id = 6")
    with closing(world.cache()) as cache:
        cache.delete(*cache.scan_iter("session:6:*"))
    named.write_text("6\n")
    assert told(world, *line)["result"] == "changed"
    with closing(world.cache()) as cache:
        assert cache.exists("auth:revoked:user:6")


def test_what_is_pinned_anew_is_no_part_of_what_a_remembered_change_is() -> None:
    for kind in all_kinds():
        if kind.proven_by_history is not Change.proven_by_history:
            assert PINNED.intersection(kind.__struct_fields__) <= kind.volatile_fields, kind
            assert kind.volatile_fields <= set(kind.__struct_fields__), kind


def test_a_failover_of_another_database_is_another_one() -> None:
    mine = FailOverInstance(instance="mine", zone="a", to="b")
    assert FailOverInstance(instance="mine", zone="b", to="a").identity == mine.identity
    assert FailOverInstance(instance="theirs", zone="a", to="b").identity != mine.identity
    assert ProveWrites(failover=FailOverInstance(instance="theirs", zone="a", to="b")).identity != ProveWrites(failover=mine).identity
