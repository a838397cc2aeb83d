"""Whose lock is void: told by the process where it can be seen, by the lease where it can't."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsctl.changes import find_kind
from opsctl.engine.ledger import locks, process
from opsctl.engine.ledger.ledger import Ledger, open_ledger
from opsctl.errors import LockHeld

BOOT, HOST, SPACE, NOW, WALL = "boot-1", "host-1", "pid:[1]", 10_000.0, 1_700_000_000.0


class Here:
    """Where this process is, and what it can see."""

    boot, host, namespace, uptime, wall = BOOT, HOST, SPACE, NOW, WALL
    alive = True


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> type[Here]:
    class Now(Here):
        pass

    for name in ("boot", "host", "namespace", "uptime"):
        monkeypatch.setattr(process, name, lambda name=name: getattr(Now, name))
    monkeypatch.setattr(process, "alive", lambda pid, began: Now.alive)
    monkeypatch.setattr(locks.time, "time", lambda: Now.wall)
    return Now


@pytest.fixture
def ledger(tmp_path: Path, here: type[Here]) -> Ledger:
    found = open_ledger(tmp_path / "ledger.db", find_kind)
    found.locks.acquire("service/api", "first", "ada", "scale api 4")
    return found


def taken_over(ledger: Ledger) -> bool:
    driven = ledger.locks.active_runs()
    try:
        ledger.locks.acquire("service/api", "second", "bob", "scale api 5")
    except LockHeld:
        over = False
    else:
        over = True
    assert driven == (set() if over else {"first"})
    return over


@pytest.mark.parametrize(
    ("changed", "over"),
    [
        ({}, False),
        ({"alive": False}, True),
        ({"uptime": NOW + 599}, False),
        ({"uptime": NOW + 601}, True),
        ({"wall": WALL + 10_000}, False),
        # Another container of this machine: its processes have numbers of their own.
        ({"namespace": "pid:[2]", "alive": False}, False),
        ({"namespace": "pid:[2]", "alive": False, "uptime": NOW + 59}, False),
        ({"namespace": "pid:[2]", "alive": True, "uptime": NOW + 61}, True),
        # This machine, started anew.
        ({"boot": "boot-2", "uptime": 5.0}, True),
        # Another machine: neither its processes nor its uptime can be told from here.
        ({"boot": "boot-2", "host": "host-2", "alive": False, "uptime": 5.0}, False),
        ({"boot": "boot-2", "host": "host-2", "alive": False, "uptime": NOW + 10_000}, False),
        ({"boot": "boot-2", "host": "host-2", "wall": WALL + 61}, True),
    ],
)
def test_a_lock_is_void_only_when_its_holder_surely_is_gone(
    ledger: Ledger, here: type[Here], changed: dict[str, object], over: bool
) -> None:
    for name, value in changed.items():
        setattr(here, name, value)
    assert taken_over(ledger) == over


@pytest.mark.parametrize(
    "elsewhere", [{"namespace": "pid:[2]"}, {"boot": "boot-2", "host": "host-2"}], ids=["another container", "another machine"]
)
def test_a_holder_that_renews_keeps_its_lock(ledger: Ledger, here: type[Here], elsewhere: dict[str, str]) -> None:
    for _ in range(5):
        here.uptime += 50
        here.wall += 50
        ledger.locks._renew_once()
    for name, value in elsewhere.items():
        setattr(here, name, value)
    assert not taken_over(ledger)


def test_this_process_can_be_seen_by_its_own_number() -> None:
    assert process.alive(process.number(), process.started(process.number()))
