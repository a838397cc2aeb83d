"""`opsctl database connections|activity|kill-long-running`: what is shown, what is ended, and what is said when it can't be asked."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import psycopg
import pytest
from terminal import until
from world import World

from opsctl.adapters.sql.activity import Activity, holding

LITERAL = "user9@example.com"
DATA_API = {'driver = "postgres"': 'driver = "rds-data"'}
KILL = ("database", "kill-long-running", "--older-than", "1s", "--grace", "1s")


def long_queries(world: World, kind: str = "sleeping", count: int = 1) -> list[int]:
    """Queries of the application that have run for more than a second, by pid."""
    pids: list[int] = world.control("POST", "/queries", {"count": count, "kind": kind})["pids"]
    world.count("SELECT count(pg_sleep(1.05))")
    return pids


def connected(world: World, user: str = "postgres", password: str = "pg_superuser_password", **how: Any) -> psycopg.Connection[Any]:
    """A connection of somebody else."""
    facts = world.facts
    return psycopg.connect(
        host=facts["pg_host"], port=facts["pg_port"], user=user, password=facts[password], dbname=facts["database"], autocommit=True, **how
    )


def test_connections_against_the_maximum(world: World) -> None:
    world.control("POST", "/queries", {"count": 2, "kind": "sleeping"})
    page = world.opsctl("-o", "json", "database", "connections", check=0).json
    writer, *readers = page["Instances"]
    assert (writer["instance"], writer["role"], writer["maximum"], writer["warning"]) == ("safawinet-prod", "writer", 100, "")
    assert writer["share"] == writer["connections"] / 100
    assert [reader["share"] for reader in readers] == [writer["share"]] * 2, "their clients meet the same server"
    assert {reader["told_by"] for reader in readers} == {"the same server as safawinet-prod"}
    assert {"application": "safawinet-api", "connections": 5} in page["By application"]
    assert {"state": "idle in transaction", "connections": 1} in page["By state"]
    assert sum(row["connections"] for row in page["By user"]) == writer["connections"]


def test_full_it_warns_and_still_ends_what_is_too_long(world: World) -> None:
    long_queries(world)
    world.control("POST", "/connections", {})
    (writer, *_) = world.opsctl("-o", "json", "database", "connections", check=0).json["Instances"]
    assert writer["warning"] == "at or above 80% of the maximum"
    assert writer["connections"] >= 90
    assert world.opsctl("-o", "json", *KILL, "-y", check=0).json["result"] == "changed"


def test_shut_out_it_shows_cloudwatchs_count_and_says_so(world: World) -> None:
    with closing(connected(world)) as owner:
        owner.execute("REVOKE pg_use_reserved_connections FROM opsctl_reader")
    world.control("POST", "/connections", {})
    page = world.opsctl("-o", "json", "database", "connections", check=0).json
    writer = page["Instances"][0]
    assert writer["connections"] >= 90
    assert writer["told_by"].startswith("CloudWatch, at ")
    assert (writer["maximum"], writer["share"]) == (None, None)
    assert "no free connection" in page["Could not be queried"][0]["why"]
    watched = world.opsctl("-o", "json", "database", "activity", check=0).json
    assert list(watched) == ["Slow statements (pg_stat_statements)", "Performance Insights, the last hour", "Could not be queried"]
    assert "at its peak" in watched["Performance Insights, the last hour"][0]["statement"]
    assert "no free connection" in watched["Could not be queried"][0]["why"]
    assert "pg_use_reserved_connections" in world.opsctl(*KILL, "-n", check=1).err


def test_when_nobody_can_tell_that_is_said(world: World) -> None:
    with closing(connected(world)) as owner:
        owner.execute("ALTER ROLE opsctl_reader NOLOGIN")
    world.fault("aws", "monitoring.*", "fail", times=0)
    world.fault("aws", "pi.*", "fail", times=0)
    for look in ("connections", "activity"):
        assert "rejected the login" in world.opsctl("database", look, check=1).err


def test_activity_shows_no_literal(world: World) -> None:
    long_queries(world, "waiting")
    page = world.opsctl("-o", "json", "database", "activity", "--older-than", "1s", check=0)
    assert LITERAL not in page.out
    (waits,) = page.json["Active"]
    (blocks,) = page.json["Idle in a transaction"]
    assert waits["blocked_by"] == str(blocks["pid"])
    watched = page.json["Performance Insights, the last hour"]
    assert "at its peak" in watched[0]["statement"]
    assert watched[1]["statement"].startswith("SELECT count")
    assert watched[-1]["statement"] == "it is off on this instance"
    assert world.opsctl("-o", "json", "database", "activity", "--older-than", "1h", check=0).json["Active"] == []


def test_what_can_be_asked_is_shown_beside_what_cannot(world: World) -> None:
    world.fault("aws", "pi.*", "refuse", times=0)
    with closing(connected(world)) as owner:
        owner.execute("DROP EXTENSION pg_stat_statements")
    page = world.opsctl("-o", "json", "database", "activity", check=0).json
    assert "pi:GetResourceMetrics" in page["Performance Insights, the last hour"][0]["statement"]
    assert "CREATE EXTENSION" in page["Slow statements (pg_stat_statements)"][0]["query"]


def test_backups_are_spared_and_the_stubborn_are_not(world: World) -> None:
    with closing(connected(world, world.facts["pg_user"], "pg_password", application_name="pg_dump")) as backup:
        backup.pgconn.send_query(b"SELECT pg_sleep(60)")
        pids = long_queries(world, "stubborn") + long_queries(world)
        planned = world.opsctl("-o", "json", *KILL, "-n", check=3)
        (change,) = planned.json["changes"]
        assert set(change["before"]) == {str(pid) for pid in pids}
        assert f"{backup.info.backend_pid} (application pg_dump)" in change["why"]
        done = world.opsctl("-o", "json", *KILL, "-y", check=0).json["changes"][0]
        assert done["evidence"] == {"cancelled": 2, "terminated": 1}
        assert world.count(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {backup.info.backend_pid} AND state = 'active'") == 1
        assert world.queries() == []
        backup.cancel_safe()


def test_interrupted_in_the_grace_it_ends_what_it_began(world: World) -> None:
    long_queries(world, "stubborn")
    child = world.opsctl.start("-o", "json", *KILL[:-1], "3s", "-y")
    until(lambda: "queries ended" in child._said(2))
    os.kill(child.pid, signal.SIGINT)
    stopped = child.wait()
    assert (stopped.code, world.queries()) == (6, [])
    assert "The steps that had begun were completed" in stopped.err
    assert [change["state"] for change in stopped.json["changes"]] == ["applied"]


def test_no_literal_is_kept(world: World) -> None:
    long_queries(world)
    plan = world.home / "plan.json"
    said = world.opsctl(*KILL, "-n", "--save", str(plan), check=3)
    done = world.opsctl("apply", str(plan), "-y", check=0)
    kept = plan.read_text() + world.ledger.read_bytes().decode(errors="replace")
    assert LITERAL not in kept + said.out + said.err + done.out + done.err
    assert "email = ?" in kept


def test_the_data_api_ends_the_writers_and_says_what_it_left_out(world: World) -> None:
    world.configure(replace=DATA_API)
    long_queries(world)
    done = world.opsctl("-o", "json", *KILL, "-y", check=0).json
    assert done["result"] == "partial"
    assert [change["state"] for change in done["changes"]] == ["applied", "skipped", "skipped"]
    assert "writer alone" in done["changes"][1]["why"]
    assert world.queries() == []


def test_a_dry_run_says_too_what_it_leaves_out(world: World) -> None:
    world.configure(replace=DATA_API)
    planned = world.opsctl("-o", "json", *KILL, "-n", check=0).json
    assert (planned["result"], world.opsctl("-o", "json", *KILL, "-y", check=0).json["result"]) == ("partial", "partial")
    said = world.opsctl(*KILL, "-n", check=0).out
    assert "0 of 3 to change; 2 skipped." in said
    assert said.rstrip().endswith("Dry run: it would be partly done; nothing was changed.")
    long_queries(world)
    assert world.opsctl("-o", "json", *KILL, "-n", check=3).json["result"] == "would-change"
    assert "1 of 3 to change; 2 skipped; affects 1 query." in world.opsctl(*KILL, "-n", check=3).out


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("kill-long-running --older-than 0s", "more than no time"),
        ("kill-long-running --older-than soon", "expected a duration"),
        ("kill-long-running --older-than -5m", "expected a duration"),
        ("kill-long-running --grace 0s", "more than no time"),
        ("activity --limit 0", "not in the range"),
        ("activity --older-than 5", "expected a duration"),
        ("connections now", "unexpected extra argument"),
    ],
)
def test_what_is_typed_wrong_is_told(world: World, line: str, why: str) -> None:
    refused = world.opsctl("database", *line.split(), check=2)
    assert why in refused.err


@contextmanager
def blocked(world: World, *, by: str = "pg_user", password: str = "pg_password", victims: int = 2) -> Iterator[int]:
    """Updates of the application that wait for a session which is idle in its transaction; gives that session's pid."""
    update = "UPDATE users SET bounce_count = bounce_count WHERE id = 5"
    with ExitStack() as ends:
        blocker = ends.enter_context(closing(connected(world, world.facts[by], password, application_name="blocker")))
        blocker.execute("BEGIN")
        blocker.execute(update)
        waiting = [
            ends.enter_context(closing(connected(world, world.facts["pg_user"], "pg_password", application_name="victim")))
            for _ in range(victims)
        ]

        def wait(victim: psycopg.Connection[Any]) -> None:
            with suppress(psycopg.Error):
                victim.execute(update)

        threads = [threading.Thread(target=wait, args=(victim,), daemon=True) for victim in waiting]
        for thread in threads:
            thread.start()
        until(lambda: world.count(VICTIMS) == victims)
        world.count("SELECT count(pg_sleep(1.05))")
        yield blocker.info.backend_pid
        blocker.close()
        for thread in threads:
            thread.join(30)


VICTIMS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'victim' AND wait_event_type = 'Lock'"
BLOCKERS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'blocker'"


def test_who_holds_the_long_ones_up_is_named_and_stays_unless_asked_for(world: World) -> None:
    with blocked(world) as pid:
        shown = world.opsctl("-o", "json", *KILL, "-n", check=3).json
        named, queries, *_ = shown["changes"]
        assert (named["kind"], named["state"], queries["impact"]["count"]) == ("end-blockers", "skipped", 2)
        done = world.opsctl("-o", "json", *KILL, "-y")
        assert done.json["result"] != "unchanged"
        stays = next(change for change in done.json["changes"] if change["kind"] == "end-blockers")
        assert f"{pid} (blocker as safawinet" in stays["why"]
        assert "2 wait" in stays["why"]
        assert "--blockers" in stays["why"]
        assert stays["state"] == "skipped"
        assert world.count(BLOCKERS) == 1


def test_asked_for_the_blocker_is_ended_first_and_its_victims_go_on(world: World) -> None:
    with blocked(world) as pid:
        plan = world.opsctl("-o", "json", *KILL, "--blockers", "-n", check=3).json["changes"]
        assert (plan[0]["kind"], plan[0]["impact"]) == ("end-blockers", {"count": 1, "unit": "sessions"})
        assert str(pid) in plan[0]["before"]
        done = world.opsctl("-o", "json", *KILL, "--blockers", "-y", check=0).json
        assert done["changes"][0]["evidence"] == {"ended": 1}
        assert world.count(BLOCKERS) == 0
        assert world.opsctl("-o", "json", *KILL, "--blockers", "-y", check=0).json["result"] == "unchanged"


def test_a_blocker_that_is_spared_is_named_and_stays(world: World) -> None:
    world.configure({"[database]\n": '[database]\nspare-applications = ["blocker"]\n'})
    with blocked(world) as pid:
        done = world.opsctl("-o", "json", *KILL, "--blockers", "-y")
        stays = next(change for change in done.json["changes"] if change["kind"] == "end-blockers")
        assert stays["state"] == "skipped"
        assert f"{pid}, for which 2 wait (application blocker)" in stays["why"]
        assert world.count(BLOCKERS) == 1


def activity(pid: int, blocked_by: str = "", state: str = "active") -> Activity:
    plain = {"kind": "client backend", "role": "r", "application": "a", "client": "c", "query": "", "spared": "", "waits_for": ""}
    return Activity(pid=pid, backend_start=1, query_start=1, state=state, seconds=1, transaction_seconds=1, blocked_by=blocked_by, **plain)


def test_the_end_of_every_chain_is_found() -> None:
    idle = activity(1, state="idle in transaction")
    chain = [
        idle,
        activity(2, "1"),
        activity(3, "2"),
        activity(4, "2, 1"),
        activity(5, "0"),
        activity(6, "7"),
        activity(8, "9"),
        activity(9, "8"),
    ]
    assert holding(chain) == {1: 3, 0: 1, 7: 1}
    assert holding([idle, activity(2)]) == {}
