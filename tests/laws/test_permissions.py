"""What a command asks of each outside system is what it declares, no less and no more."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import lines
from evidence import KINDS, declared, undeclared, unshown
from recording import Call, recorded, recording
from scenarios import Rehearsed, rehearsed
from world import World

from opsctl.config import load
from opsctl.settings import Settings

VIEWS: dict[str, list[str]] = {
    "access events": ["access events", "access events --user nobody-at-all"],
    "access review": ["access review", "access review former-contractor"],
    "alarms check": ["alarms check"],
    "alarms list": ["alarms list", "alarms list --all"],
    "auth verify": ["secrets rotate jwt --value-from generate -y", "service redeploy api worker -y", "auth verify"],
    "bounces list": ["bounces list", "bounces list --since 7d"],
    "bounces stats": ["bounces stats"],
    "client doctor": ["-e sandbox client doctor --user"],
    "client show": ["-e sandbox client show"],
    "database activity": ["database activity"],
    "database connections": ["database connections"],
    "database status": ["database status"],
    "downloads show": ["downloads show 156855158284", "downloads show contact3@example.com"],
    "logs query": ["logs query lease-errors", "logs query lease-outcomes --since 1h"],
    "logs tail": ["logs tail api --since 1h"],
    "people": ["people"],
    "permissions": ["permissions"],
    "protection status": ["protection rate-limit 800 -y", "protection status"],
    "secrets list": ["secrets list"],
    "secrets verify": [
        f"secrets verify {name}"
        for name in ("jwt", "hubspot-token", "ghcr", "hubspot-app-secret", "edge-shared-secret", "mail-key", "partner-key")
    ],
    "service metrics": ["service metrics api", "service metrics api --metric requests", "service metrics worker --metric 5xx"],
    "service status": ["service status", "service status --healthy"],
    "sessions list": ["sessions list --user user15@example.com", "sessions list --since 24h", "sessions list --user 987654321"],
    "snapshots list": ["snapshots list", "snapshots list --all"],
    "status": ["status"],
}
"""Lines of every command that only looks; a changing one before them prepares the world."""

UNREHEARSED: dict[str, dict[str, str]] = {
    "logs query": {"logs:StopQuery": "a query that is given up is stopped"},
    "protection status": {"cloudfront:ListDistributionsByWebACLId": "the web ACL guards CloudFront"},
    "secrets verify": {"logs:FilterLogEvents": "a function's secret changed within a day"},
    "service metrics": {"ecs:DescribeServices": "CloudWatch has nothing of the service"},
    "logout bulk": {
        "postgres:sessions.users": "an account is deleted and its sessions are left",
        "postgres:users.logins": "users are chosen by their last login",
        "redis:sessions.count": "an account is deleted and its sessions are left",
    },
    "logout user": dict.fromkeys(("postgres:sessions.users", "redis:sessions.count"), "an account is deleted and its sessions are left"),
    "end-database-sessions": {"postgres:sessions.delete": "the time is asked for where ids are no whole numbers"},
    "add-instance": {
        "postgres:copy": "a column is needed to count rows, whichever it is",
        "rds:AddTagsToResource": "RDS asks for it where tags are given",
    },
    "create-snapshot": {
        "rds:AddTagsToResource": "RDS asks for it where tags are given",
        "rds:CreateDBSnapshot": "the database is an instance",
    },
    "fail-over-instance": dict.fromkeys(("rds:DescribeDBInstances", "rds:RebootDBInstance"), "the database is an instance"),
    "prune-snapshot": {"rds:DeleteDBSnapshot": "the database is an instance"},
    "restore-cluster": {"rds:AddTagsToResource": "RDS asks for it where tags are given"},
    "restore-instance": dict.fromkeys(
        (
            *("postgres:copy", "rds:AddTagsToResource", "rds:DescribeDBInstances[any]", "rds:DescribeDBSnapshots"),
            "rds:RestoreDBInstanceFromDBSnapshot",
        ),
        "the database is an instance",
    ),
    "enable-data-api": dict.fromkeys(("rds:DescribeDBClusters[any]", "rds:EnableHttpEndpoint"), "the driver is rds-data"),
    "rotate-managed-secret": {"cloudtrail:LookupEvents": "a rotation lasts"},
    "set-denial": {"iam:SimulatePrincipalPolicy": "an administrator's policies hold conditions"},
}
"""Needs that no rehearsal shows, by the command or kind that declares them, and when they are needed."""


def settings(world: World) -> Settings:
    return load("sandbox", str(world.config)).settings


def looked(world: World, words: str) -> Iterator[Call]:
    """What the lines of a viewing command ask."""
    for line in VIEWS[words]:
        changing = line.endswith(" -y")
        path = world.home / "calls"
        world.opsctl("-o", "json", *shlex.split(line), check=0 if changing else None, before=recording(path))
        if not changing:
            yield from recorded(path)
        path.unlink(missing_ok=True)


def unrehearsed(name: str) -> set[str]:
    return set(UNREHEARSED.get(name, {}))


def test_every_command_that_looks_is_here() -> None:
    assert set(VIEWS) == {words for words, line in lines().items() if line.kind == "read-only"}


@pytest.mark.parametrize("words", VIEWS)
def test_a_command_that_looks_asks_for_what_it_declares(world: World, words: str) -> None:
    calls = list(looked(world, words))
    there = settings(world)
    assert undeclared(calls, words, there, world.facts) == []
    assert unshown(calls, lines()[words].requirement.reads, there, world.facts) == unrehearsed(words)


@pytest.mark.exhaustive
def test_a_change_and_its_planning_ask_for_what_they_declare(world: World) -> None:
    asked: dict[tuple[str, str], list[Call]] = {}
    made: dict[str, set[str]] = {}
    strays: list[str] = []
    for words, scenario in rehearsed():
        world.again()
        calls = list(rehearse(Rehearsed(scenario, world, sessions=False), world.home / "calls"))
        strays += undeclared(calls, words, settings(world), world.facts)
        for call in calls:
            part = call.part or words
            asked.setdefault((call.phase, part), []).append(call)
            if call.part:
                made.setdefault(words, set()).add(call.part)
    assert not strays, "\n".join(dict.fromkeys(strays))
    there, facts = settings(world), world.facts
    idle: dict[str, set[str]] = {}
    for words, line in lines().items():
        if line.kind == "mutating":
            assert made.get(words, set()) <= set(line.requirement.changes), words
            idle[words] = unshown(asked.get(("plan", words), []), line.requirement.reads, there, facts)
    for tag, kind in KINDS.items():
        read = unshown(asked.get(("check", tag), []), kind.permissions.read, there, facts)
        idle[tag] = read | unshown(asked.get(("apply", tag), []), kind.permissions.write, there, facts)
    told = {name: set(needs) for name, needs in UNREHEARSED.items() if name not in VIEWS}
    assert {name: needs for name, needs in idle.items() if needs} == told, [(n, i) for n, i in idle.items() if i != told.get(n, set())]


def rehearse(it: Rehearsed, path: Path) -> Iterator[Call]:
    """What a dry run, a run and, where there is one, an undo ask."""
    it.dry(before=recording(path))
    done = it.run(before=recording(path), check=0).json
    yield from recorded(path)
    path.unlink()
    if it.scenario.reversible:
        it.say("runs", "undo", done["run"], "-y", before=recording(path), check=0)
        yield from (call for call in recorded(path) if call.phase != "plan")
        path.unlink()


def test_what_a_kind_declares_can_be_looked_up() -> None:
    line = next(words for words, found in lines().items() if found.requirement.changes)
    call = Call("apply", lines()[line].requirement.changes[0], "aws", "", "sts:GetCallerIdentity", {})
    assert declared(call, line) == KINDS[call.part].permissions.write
