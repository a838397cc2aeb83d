"""Thousands of contacts in one run: each is changed once, whatever happens in the middle."""

from __future__ import annotations

import os
import signal
import sqlite3

import pytest
from bad_days import plain, runs, states
from customers import DISABLED, FIRST, ONE, told
from terminal import Result, until
from world import World

UPDATE = "POST /crm/v3/objects/contacts/batch/update"
MANY = 3_000


def many(world: World, count: int = MANY) -> str:
    """A file of contacts, every other by its e-mail."""
    lines = [f"contact{n}@example.com" if n % 2 else str(FIRST + n) for n in range(count)]
    path = world.home / "contacts.txt"
    path.write_text("\n".join(lines))
    return str(path)


def applied(world: World) -> int:
    """How many steps are proven so far; none before there is a ledger."""
    try:
        return states(world).count("applied")
    except sqlite3.OperationalError:
        return 0


def histories(world: World, count: int = MANY) -> dict[str, list[str]]:
    """What each contact's download_enabled was, newest first."""
    found: dict[str, list[str]] = {}
    for start in range(0, count, 50):
        inputs = [{"id": str(FIRST + n)} for n in range(start, min(start + 50, count))]
        answer = world.hubspot("POST", "/batch/read", {"inputs": inputs, "propertiesWithHistory": ["download_enabled"]})
        found |= {each["id"]: [h["value"] for h in each["propertiesWithHistory"]["download_enabled"]] for each in answer["results"]}
    return found


def once(world: World, count: int = MANY) -> bool:
    """Whether each contact is disabled, and was changed exactly once where it wasn't before."""
    found = histories(world, count)
    return len(found) == count and all(values in (["false", "true"], ["false"]) for values in found.values())


def finished(world: World, stopped: Result) -> None:
    """Take a run that stopped in the middle up again, and see that each change was made once."""
    assert not once(world)
    resumed = told(world, "runs", "resume", stopped.json["run"])
    assert resumed["result"] == "changed"
    assert once(world)
    assert world.opsctl("runs", "verify", check=0)


def test_the_days_limit_in_the_middle_pauses_it(world: World) -> None:
    file = many(world)
    asked = world.control("GET", "/hubspot/counts")["requests"]
    world.opsctl("downloads", "disable", "--from-file", file, "-n", check=3)
    planned = world.control("GET", "/hubspot/counts")["requests"] - asked
    world.control("POST", "/hubspot/limits", {"daily": planned + 20})
    done = world.opsctl("-o", "json", "downloads", "disable", "--from-file", file, "-y", "--timeout", "3s")
    plain(done, done.code)
    assert done.code in (1, 6)
    assert done.json["result"] in ("partial", "unknown")
    assert "runs resume" in done.err
    world.control("POST", "/hubspot/limits", {})
    finished(world, done)


@pytest.mark.parametrize("action", ["fail", "drop", "timeout-after-effect"])
def test_hubspot_down_in_the_middle_is_taken_up_again(world: World, action: str) -> None:
    child = world.opsctl.start("-o", "json", "downloads", "disable", "--from-file", many(world), "-y", "--timeout", "3s")
    until(lambda: applied(world) >= 1)
    world.fault("hubspot", "*", action, times=0)
    done = child.wait()
    world.heal()
    plain(done, done.code)
    assert done.code in (1, 6)
    finished(world, done)


def test_a_burst_limit_is_waited_out(world: World) -> None:
    world.fault("hubspot", UPDATE, "throttle", times=3)
    assert told(world, "downloads", "disable", "--from-file", many(world, 500), "-y")["result"] == "changed"
    assert once(world, 500)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_many_killed_in_the_middle_and_resumed_are_each_changed_once(world: World, number: signal.Signals) -> None:
    child = world.opsctl.start("downloads", "disable", "--from-file", many(world), "-y")
    until(lambda: applied(world) >= 5)
    os.kill(child.pid, number)
    done = child.wait()
    assert done.code == (-signal.SIGKILL if number == signal.SIGKILL else 6)
    run = runs(world)[0]["run"]
    assert told(world, "runs", "resume", run)["result"] == "changed"
    assert once(world)
    assert set(states(world)) == {"applied"}
    assert told(world, "downloads", "disable", "--from-file", str(world.home / "contacts.txt"), "-y")["result"] == "unchanged"
    assert world.opsctl("runs", "verify", check=0)


def test_many_are_taken_back_where_they_are_still_ours(world: World) -> None:
    run = told(world, "downloads", "disable", "--from-file", many(world, 250), "-y")["run"]
    world.hubspot("PATCH", f"/{ONE}", {"properties": {"download_enabled": "true"}})
    told(world, "runs", "undo", run, "-y")
    found = histories(world, 250)
    assert [values[0] for values in found.values()] == ["false" if n % 10 == 9 else "true" for n in range(250)]
    assert found[DISABLED] == ["false"]
