"""Law 6: one at a time. Two runs that share a target exclude each other, and a lock that is lost, dead or old is told from a living one."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from customers import ONE, TWO
from scenarios import Rehearsed, some
from terminal import Child, until
from world import World

from opsctl.changes import find_kind
from opsctl.changes.sessions import EndDatabaseSessions
from opsctl.engine.ledger import locks, process
from opsctl.engine.ledger.ledger import Ledger, open_ledger
from opsctl.engine.ledger.locks import LEASE_SECONDS, Locks
from opsctl.errors import LedgerFailed, LockHeld

IMPATIENT = {"[limits]": '[limits]\nlock-wait = "0s"'}


def locked(world: World) -> list[str]:
    """The targets that are locked, as the ledger's file says."""
    if not world.ledger.exists():
        return []
    with closing(sqlite3.connect(world.ledger)) as ledger:
        if not ledger.execute("SELECT 1 FROM sqlite_master WHERE name = 'locks'").fetchone():
            return []
        return [target for (target,) in ledger.execute("SELECT target FROM locks WHERE target NOT LIKE 'run/%'")]


@contextmanager
def holding(world: World, target: str, *args: str) -> Iterator[Child]:
    """A command that sits in a step and holds its lock, until the block ends."""
    child = world.opsctl.start(*args, "-y")
    until(lambda: target in locked(world))
    try:
        yield child
    finally:
        world.heal()


@pytest.fixture
def slow_ecs(world: World) -> World:
    world.configure(replace=IMPATIENT)
    world.rotate("safawinet/prod/jwt", "secret", "e" * 64)
    world.fault("aws", "ecs.UpdateService", "slow", seconds=25)
    return world


@pytest.mark.parametrize("line", ["service redeploy api", "service scale api 3"])
def test_the_second_stops_and_says_who_since_when_and_what(slow_ecs: World, line: str) -> None:
    world = slow_ecs
    with holding(world, "service/api", "service", "redeploy", "api") as first:
        second = world.opsctl("-o", "json", *line.split(), "-y", check=5)
        assert second.json["result"] == "refused"
        assert {change["state"] for change in second.json["changes"]} <= {"pending", "done"}
        for told in ("service/api is locked by", "@", f"since {datetime.now(UTC):%Y-%m-%d}", "service redeploy api", "opsctl runs show"):
            assert told in second.err
    assert first.wait().code == 0


def test_other_targets_go_on(slow_ecs: World) -> None:
    world = slow_ecs
    with holding(world, "service/api", "service", "redeploy", "api") as first:
        world.opsctl("secrets", "rotate", "mail-key", "--value-from", "generate", "-y", check=0)
    assert first.wait().code == 0


def test_the_second_waits_as_long_as_it_may(world: World) -> None:
    world.rotate("safawinet/prod/jwt", "secret", "e" * 64)
    world.fault("aws", "ecs.UpdateService", "slow", seconds=25)
    with holding(world, "service/api", "service", "redeploy", "api") as first:
        second = world.opsctl.start("service", "redeploy", "api", "-y")
        until(lambda: "is locked by" in second._said(2))
    assert first.wait().code == 0
    done = second.wait()
    assert done.code == 0
    assert "already done" in done.err + done.out


def sitting(release: Path) -> Callable[[], None]:
    """What makes a child sit in the deletion of sessions until a file is there."""

    def arm() -> None:
        apply = EndDatabaseSessions.apply

        def wait(self: EndDatabaseSessions, write: Any, token: str, progress: Any) -> Any:
            until(release.exists)
            return apply(self, write, token, progress)

        EndDatabaseSessions.apply = wait  # type: ignore[method-assign]

    return arm


@pytest.mark.parametrize(("held", "line"), [("logout all", "logout user 5"), ("logout user 5", "logout all")])
def test_targets_nest(world: World, held: str, line: str) -> None:
    world.configure(replace=IMPATIENT)
    target = "sessions" if held == "logout all" else "sessions/5"
    release = world.home / "release"
    first = world.opsctl.start(*held.split(), "-y", before=sitting(release))
    until(lambda: target in locked(world))
    second = world.opsctl("-o", "json", *line.split(), "-y", check=5)
    assert f"{target} is locked by" in second.err
    assert second.json["result"] == "refused"
    release.touch()
    assert first.wait().code == 0


def test_many_at_once_hold_each_of_them(world: World) -> None:
    world.configure(replace=IMPATIENT)
    world.fault("hubspot", "POST /crm/v3/objects/contacts/batch/update", "slow", seconds=25)
    with holding(world, f"contact/{TWO}", "downloads", "disable", ONE, TWO) as first:
        second = world.opsctl("-o", "json", "downloads", "disable", TWO, "-y", check=5)
        assert f"contact/{TWO} is locked by" in second.err
        world.opsctl("downloads", "show", TWO, check=0)
    assert first.wait().code == 0
    assert locked(world) == []


def test_one_users_sessions_are_not_anothers(world: World) -> None:
    world.configure(replace=IMPATIENT)
    world.fault("api", "POST /v1/auth/force-logout", "slow", seconds=25)
    with holding(world, "tokens/5", "logout", "user", "5") as first:
        assert "tokens/5" in locked(world)
        world.opsctl("logout", "user", "6", "-y", check=0)
    assert first.wait().code == 0


def test_a_dead_holders_lock_is_void_at_once(slow_ecs: World) -> None:
    world = slow_ecs
    with holding(world, "service/api", "service", "redeploy", "api") as first:
        first.kill()
        assert "service/api" in locked(world)
        world.heal()
        world.opsctl("service", "redeploy", "api", "-y", check=0)
    assert locked(world) == []


def test_a_holder_who_is_dead_and_not_yet_buried_holds_nothing(tmp_path: Path) -> None:
    """A killed child that its parent hasn't asked after is still listed by the system."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    began = process.started(pid)
    assert process.alive(pid, began)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not process.alive(pid, began))
    os.waitpid(pid, 0)


def ledger(path: Path, ahead: timedelta = timedelta(0)) -> Ledger:
    return open_ledger(path / "ledger.db", find_kind, lambda: datetime.now(UTC) + ahead)


@pytest.mark.parametrize("jump", [timedelta(hours=9), timedelta(hours=-9), timedelta(days=400)])
def test_a_clock_that_jumps_neither_voids_nor_keeps_a_lock(tmp_path: Path, jump: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = ledger(tmp_path), ledger(tmp_path, jump)
    lease = one.locks.acquire("service/api", "run-1", "jo", "service redeploy api")
    with pytest.raises(LockHeld):
        other.locks.acquire("service/api/count", "run-2", "al", "service scale api 3")
    later = process.uptime() + LEASE_SECONDS + 1
    monkeypatch.setattr(process, "uptime", lambda: later)
    taken = other.locks.acquire("service/api", "run-2", "al", "service redeploy api")
    assert taken.fence != lease.fence


def expires(one: Ledger) -> float:
    """Until when the ledger's only lock is leased."""
    return one.store.locks()[0].holder.expires


def test_a_ledger_that_fails_for_a_while_does_not_end_the_renewal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "RENEW_INTERVAL", 0.01)
    monkeypatch.setattr(locks, "RETRY_INTERVAL", 0.01)
    one = ledger(tmp_path)
    one.store.query("PRAGMA busy_timeout = 0")  # type: ignore[attr-defined]
    failed = threading.Event()
    transaction = one.store.transaction

    @contextmanager
    def watched(*, durable: bool = True) -> Iterator[None]:
        try:
            with transaction(durable=durable):
                yield
        except LedgerFailed:
            failed.set()
            raise

    lease = one.locks.acquire("service/api", "run-1", "jo", "service redeploy api")
    monkeypatch.setattr(one.store, "transaction", watched)
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        until(failed.is_set)
        before = expires(one)
        writer.execute("ROLLBACK")
    until(lambda: expires(one) > before)
    one.locks.release(lease)


def test_a_living_holder_who_cannot_renew_for_a_minute_keeps_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = ledger(tmp_path), ledger(tmp_path)
    one.locks.acquire("service/api", "run-1", "jo", "service redeploy api")
    later = process.uptime() + 60
    monkeypatch.setattr(process, "uptime", lambda: later)
    with pytest.raises(LockHeld):
        other.locks.acquire("service/api", "run-2", "al", "service redeploy api")


def test_what_follows_a_lock_is_durable(tmp_path: Path) -> None:
    one = ledger(tmp_path)
    one.locks.acquire("service/api", "run-1", "jo", "service redeploy api")
    assert one.store.query("PRAGMA synchronous") == [(2,)]  # type: ignore[attr-defined]


def test_who_lost_a_lock_can_neither_write_nor_give_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = ledger(tmp_path), ledger(tmp_path)
    lease = one.locks.acquire("service/api", "run-1", "jo", "service redeploy api")
    later = process.uptime() + LEASE_SECONDS + 1
    monkeypatch.setattr(process, "uptime", lambda: later)
    taken = other.locks.acquire("service/api", "run-2", "al", "service redeploy api")
    with pytest.raises(LockHeld, match="was lost"), one.store.transaction():
        one.locks.require_held(lease)
    one.locks.release(lease)
    with other.store.transaction():
        other.locks.require_held(taken)


def losing(path: Path) -> Callable[[], None]:
    """What makes a child lose every step's lock right after taking it."""

    def arm() -> None:
        acquire = Locks.acquire

        def lost(self: Locks, target: str, *rest: Any) -> Any:
            lease = acquire(self, target, *rest)
            if not target.startswith("run/"):
                with closing(sqlite3.connect(path)) as stranger, stranger:
                    stranger.execute("DELETE FROM locks WHERE target = ?", (target,))
            return lease

        Locks.acquire = lost  # type: ignore[method-assign]

    return arm


@some()
def test_a_lost_lock_stops_before_the_effect(it: Rehearsed) -> None:
    stopped = it.run(check=5, before=losing(it.world.ledger))
    assert "was lost to another run" in stopped.err
    it.untouched()


def test_a_second_rotation_stages_nothing_beside_the_first(world: World) -> None:
    """Between staging a version and making it current nothing is locked: what the second one staged would be left over."""
    id = "safawinet/prod/mail-key"
    client = world.aws("secretsmanager")

    def versions() -> dict[str, list[str]]:
        return client.describe_secret(SecretId=id)["VersionIdsToStages"]  # type: ignore[no-any-return]

    before = set(versions())
    world.fault("aws", "secretsmanager.UpdateSecretVersionStage", "slow", seconds=20)
    first = world.opsctl.start("secrets", "rotate", "mail-key", "--value-from", "generate", "-y")
    until(lambda: any("OPSCTL" in stages for stages in versions().values()))
    second = world.opsctl("secrets", "rotate", "mail-key", "--value-from", "generate", "-y", check=5)
    assert "is rotating mail-key" in " ".join(second.err.split())
    assert len(set(versions()) - before) == 1
    world.heal()
    assert first.wait().code == 0
    (made,) = set(versions()) - before
    assert "AWSCURRENT" in versions()[made]
