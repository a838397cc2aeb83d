"""A ledger that can't be written, read or had: no change is made that can't be recorded, and nothing that was is lost."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bad_days import plain, runs, taken
from terminal import until
from world import World

from opsctl.cli.context import AppContext
from opsctl.engine.ledger.ledger import Ledger

SCALE = ("-o", "json", "service", "scale", "api", "4", "-y")
FULL = 64 * 1024
"""Bytes beyond which no file grows: what a command prints fits in, the ledger's log doesn't."""


def full_after(method: str, calls: int) -> Callable[[], None]:
    """In the child: the disk is full from the given call on."""

    def before() -> None:
        inner, count = getattr(Ledger, method), 0

        def fills(self: Ledger, *args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if count == calls:
                resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, FULL))
            count += 1
            return inner(self, *args, **kwargs)

        setattr(Ledger, method, fills)

    return before


def test_a_full_disk_before_the_first_effect(world: World) -> None:
    before = world.snapshot()
    done = world.opsctl(*SCALE, before=full_after("open", 0))
    said = plain(done, 1)
    assert "can't be written" in said
    assert done.json["result"] == "failed"
    assert runs(world) == []
    assert world.snapshot() == before


@pytest.mark.parametrize("calls", range(6))
def test_a_full_disk_between_effects(world: World, calls: int) -> None:
    """`calls` records are kept: intent, acceptance and proof of the first change, then those of the second."""
    done = world.opsctl(*SCALE, before=full_after("put", calls))

    said = plain(done, 6 if calls else 1)
    assert "can't be written" in said
    assert ("can't be recorded" in said) == bool(calls)
    assert done.json["result"] == ("unknown" if calls else "failed")
    assert world.service("api")["desiredCount"] == (4 if calls else 2)
    assert world.bounds() == ((4, 10) if calls >= 4 else (2, 10))
    active = world.opsctl("-o", "json", "runs", "list", "--active", check=0).json
    assert len(active) == 1
    resumed = world.opsctl("-o", "json", "runs", "resume", active[0]["run"], check=0)
    assert resumed.json["result"] == "changed"
    assert world.service("api")["desiredCount"] == 4
    assert world.bounds() == (4, 10)
    assert world.opsctl("runs", "verify", check=0)


def test_a_full_disk_when_a_run_closes(world: World) -> None:
    assert "can't be recorded" in plain(world.opsctl(*SCALE, before=full_after("close", 0)), 6)
    run = runs(world)[0]["run"]
    assert world.opsctl("-o", "json", "runs", "resume", run, check=0).json["result"] == "changed"
    assert world.opsctl("runs", "verify", check=0)


@pytest.mark.parametrize("state", ["/proc/nowhere", "/dev/null"])
def test_a_folder_that_cannot_be_made(world: World, state: str) -> None:
    before = world.snapshot()
    for line in (SCALE, ("runs", "list"), ("playbook", "run", "token-compromise", "-y")):
        assert "ledger" in plain(world.opsctl(*line, env={"XDG_STATE_HOME": state}), 1)
    assert world.opsctl("service", "status", env={"XDG_STATE_HOME": state}).code == 0
    assert world.snapshot() == before


@pytest.fixture
def broken(world: World) -> Path:
    """Where the ledger will be, with one run in it."""
    world.opsctl("service", "scale", "api", "3", "-y", check=0)
    return world.ledger


@pytest.mark.parametrize("damage", ["garbage", "cut", "folder", "empty table"])
def test_a_broken_ledger(world: World, broken: Path, damage: str) -> None:
    raw = broken.read_bytes()
    for beside in broken.parent.glob("ledger.db-*"):
        beside.unlink()
    if damage == "garbage":
        broken.write_bytes(b"no database at all " * 1000)
    elif damage == "cut":
        broken.write_bytes(raw[:4096] + b"\xff" * (len(raw) - 4096))
    elif damage == "folder":
        broken.unlink()
        broken.mkdir()
    else:
        with contextlib.closing(sqlite3.connect(broken)) as ledger:
            ledger.executescript("DROP TABLE steps; CREATE TABLE steps (other)")
    before = world.snapshot()

    said = plain(world.opsctl(*SCALE), 1)

    assert "ledger" in said
    assert world.snapshot() == before


def test_an_edited_ledger_is_found_out(world: World, broken: Path) -> None:
    with contextlib.closing(sqlite3.connect(broken, isolation_level=None)) as ledger:
        ledger.execute("UPDATE events SET detail = replace(detail, '3', '9') WHERE number = 0")
    said = plain(world.opsctl("runs", "verify"), 1)
    assert "was changed" in said


def test_a_ledger_that_another_process_keeps_locked(world: World, broken: Path) -> None:
    """Somebody copies it by hand inside a transaction: opsctl waits its ten seconds, then says so."""
    with contextlib.closing(sqlite3.connect(broken, isolation_level=None)) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        said = plain(world.opsctl(*SCALE), 1)
        assert "locked" in said
        somebody.execute("ROLLBACK")
    assert world.service("api")["desiredCount"] == 3
    world.opsctl(*SCALE, check=0)


def test_no_home_and_no_state_folder(world: World) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")}

    def homeless() -> None:
        os.environ.clear()
        os.environ.update(environment)

    assert world.opsctl("service", "status", before=homeless).code == 0


@pytest.mark.parametrize("hours", [-5, 5, 24 * 400])
def test_a_clock_that_jumps_during_a_run(world: World, hours: int) -> None:
    """The clock of this machine jumps once the first effect is made, and back again after the second."""

    def jumps() -> None:
        inner, count = Ledger.put, 0

        def put(self: Ledger, *args: Any, **kwargs: Any) -> None:
            nonlocal count
            count += 1
            away = timedelta(hours=hours) if 1 < count < 5 else timedelta()
            self.now = lambda: datetime.now(UTC) + away
            inner(self, *args, **kwargs)

        Ledger.put = put  # type: ignore[method-assign]

    done = world.opsctl(*SCALE, before=jumps, check=0)
    assert done.json["result"] == "changed"
    assert world.opsctl("runs", "verify", check=0)
    assert world.opsctl("runs", "show", done.json["run"], check=0)
    assert world.opsctl(*SCALE, check=0).json["result"] == "unchanged"


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_is_wrong_logs_out_by_the_databases(world: World, hours: int) -> None:
    def wrong() -> None:
        inner = AppContext._systems

        def systems(self: AppContext, **how: Any) -> Any:
            found = inner(self, **how)
            found.now = lambda: datetime.now(UTC) + timedelta(hours=hours)
            return found

        AppContext._systems = systems  # type: ignore[method-assign]

    world.opsctl("logout", "all", "-y", before=wrong, check=0)
    assert world.count("SELECT count(*) FROM refresh_sessions") == 0


def test_two_at_once(world: World) -> None:
    """`logout all` and `logout user` share a target; the second says who has it, since when, doing what."""
    world.configure({'recently = "2m"': 'recently = "2m"\nlock-wait = "0s"'})
    world.fault("api", "POST /v1/auth/force-logout-all", "slow", seconds=5)
    first = world.opsctl.start("logout", "all", "-y")
    until(lambda: taken(world))
    second = world.opsctl("-o", "json", "logout", "user", "15", "-y")
    world.heal()
    assert first.wait().code == 0

    said = plain(second, 5)
    run = runs(world)[-1]["run"]
    for word in ("is locked by", "since", "UTC", "logout all", run):
        assert word in said
    assert second.json["result"] in ("refused", "partial")
    assert world.opsctl("-o", "json", "runs", "resume", second.json["run"], check=0).json["result"] in ("changed", "unchanged")


def test_a_run_is_driven_by_one_process(world: World) -> None:
    world.fault("aws", "ecs.UpdateService", "slow", seconds=5)
    child = world.opsctl.start(*SCALE)
    until(lambda: taken(world))
    run = runs(world)[0]
    assert run["state"] == "running"
    assert "is locked by" in plain(world.opsctl("runs", "resume", run["run"]), 5)
    world.heal()
    assert child.wait().code == 0


def test_paused_taken_up_cancelled(world: World) -> None:
    world.fault("aws", "ecs.UpdateService", "slow", seconds=3)
    child = world.opsctl.start(*SCALE)
    until(lambda: taken(world))
    run = runs(world)[0]["run"]
    assert world.opsctl("-o", "json", "runs", "pause", run, check=0).json["asked"] == "pause"
    world.heal()
    paused = child.wait()
    assert "paused" in plain(paused, 6)
    assert paused.json["result"] == "partial"
    assert "nothing to pause" in plain(world.opsctl("runs", "pause", run), 4)
    assert world.opsctl("-o", "json", "runs", "cancel", run, check=0).json["asked"] == "cancel"
    assert "cancelled" in plain(world.opsctl("runs", "resume", run), 4)
    assert world.opsctl("-o", "json", "runs", "list", "--active", check=0).json == []
    assert world.opsctl("runs", "verify", check=0)


def damaged(world: World) -> None:
    world.opsctl("service", "scale", "api", "4", "-y", check=0)
    content = world.ledger.read_bytes()
    world.ledger.write_bytes(content[:4096] + os.urandom(len(content) - 4096))


def no_database(world: World) -> None:
    world.ledger.parent.mkdir(parents=True, exist_ok=True)
    world.ledger.write_bytes(b"garbage " * 1000)
    world.ledger.chmod(0o600)


@pytest.mark.parametrize("damage", [damaged, no_database])
def test_with_a_damaged_ledger_a_dry_run_works_and_a_run_does_not(world: World, damage: Callable[[World], None]) -> None:
    damage(world)
    before = world.service("api")["desiredCount"]
    dry = world.opsctl("service", "scale", "api", "3", "-n", check=3)
    assert "without the run history" in " ".join(dry.err.split())
    assert world.opsctl("secrets", "verify", "mail-key").code in (0, 1)
    for line in ("service scale api 3 -y", "runs list", "runs verify"):
        said = plain(world.opsctl(*line.split()), 1)
        assert "damaged" in said, said
    assert world.service("api")["desiredCount"] == before


def test_a_ledger_that_others_could_edit_is_refused(world: World) -> None:
    world.opsctl("service", "scale", "api", "3", "-y", check=0)
    world.ledger.chmod(0o666)
    for line in ("service scale api 4 -y", "runs list"):
        done = world.opsctl(*line.split())
        assert "0666" in plain(done, 4)
        assert f"chmod 600 {world.ledger}" in done.err
