"""The procedures of sections 2, 7 and 9 of the Safawinet runbook: every line of it has its step, and they work."""

from __future__ import annotations

import pytest
from world import CLUSTER, World

from opsctl.config import shipped
from opsctl.playbook import conditions, loader
from opsctl.playbook.schema import Playbook

PROSE = {
    "forced-logout": [
        "2.1 Single User Logout",
        "Logout specific user",
        "2.2 Bulk User Logout",
        "Logout users by criteria (e.g., last login time)",
        "2.3 Global Logout (Emergency)",
        "Emergency: Logout all users",
        "Clear Redis session cache",
    ],
    "backup-and-restore": [
        "7.1 Database Backup",
        "Create manual snapshot",
        "List recent snapshots",
        "7.2 Restore from Snapshot",
        "Restore to new instance",
    ],
    "scheduled-maintenance": ["9.1 Scheduled Maintenance", "Notify users", "Deploy updates"],
    "emergency-maintenance": [
        "9.2 Emergency Maintenance",
        "Post status update",
        "Execute maintenance procedures",
        "Verify service health",
        "Update status page",
    ],
}
"""The runbook's lines, by the playbook that stands for them."""


def playbook(name: str) -> Playbook:
    found, problems = loader.inspect(shipped("playbooks") / f"{name}.yaml")
    assert problems == []
    assert found is not None
    return found.playbook


def lines(name: str, kind: str, **known: str) -> list[str]:
    """What is taken of a playbook, in order, with these parameters and answers."""
    return [s.text for s in playbook(name).steps if s.kind == kind and conditions.evaluate(s, known)]


@pytest.mark.parametrize("name", PROSE)
def test_every_line_of_the_runbook_has_its_step(name: str) -> None:
    found = playbook(name)
    there = "\n".join("\n".join([s.section, *s.items, s.ask or ""]) for s in found.steps)
    assert [line for line in PROSE[name] if line not in there] == []
    assert all(step.section for step in found.steps)
    assert found.about


def test_sessions_are_ended_before_anything_is_asked_and_an_exposed_key_ends_the_run() -> None:
    steps = playbook("forced-logout").steps
    asked = next(number for number, step in enumerate(steps) if step.kind == "ask")
    assert all(number < asked for number, step in enumerate(steps) if step.kind == "run")
    assert (steps[asked].id, steps[asked].expected) == ("exposed", ["no"])
    assert "playbook run token-compromise" in steps[asked].note


@pytest.mark.parametrize(
    ("known", "run"),
    [
        ({"scope": "single"}, "logout user {user}"),
        ({"scope": "bulk", "by": "last-login"}, "logout bulk --last-login-before {before}"),
        ({"scope": "bulk", "by": "inactive"}, "logout bulk --inactive-for {span}"),
        ({"scope": "bulk", "by": "file"}, "logout bulk --users-from {file}"),
        ({"scope": "global"}, "logout all"),
    ],
)
def test_one_logout_for_each_scope(known: dict[str, str], run: str) -> None:
    assert lines("forced-logout", "run", exposed="no", **known) == [run]


@pytest.mark.parametrize("work", ["restart", "deploy", "other"])
def test_health_is_proven_before_it_is_said_to_be_over(work: str) -> None:
    steps = [s.text for s in playbook("emergency-maintenance").steps if conditions.evaluate(s, {"work": work, "data": "yes"})]
    assert steps.index("service status {service} --healthy") < next(n for n, text in enumerate(steps) if "--status resolved" in text)
    assert sum(text.startswith("service redeploy") for text in steps) == (work != "other")


def test_health_is_proven_before_anything_is_said_and_after_the_rollout() -> None:
    steps = [s.text for s in playbook("scheduled-maintenance").steps]
    healthy = [n for n, text in enumerate(steps) if text.endswith("--healthy")]
    said = next(n for n, text in enumerate(steps) if text.startswith("maintenance announce"))
    rolled = next(n for n, text in enumerate(steps) if text.startswith("service redeploy"))
    assert healthy[0] < said < rolled < healthy[1]


def test_the_default_message_is_true_whenever_it_begins() -> None:
    said = playbook("scheduled-maintenance").parameters["message"].default
    assert said
    assert not any(letter.isdigit() for letter in said)


def run(world: World, name: str, *values: str, code: int = 0) -> str:
    """Run a playbook, its questions answered by their first choice."""
    done = world.opsctl("playbook", "run", name, *values, "-y", "--assume-answers", check=code)
    assert "Traceback" not in done.err
    return done.out + done.err


def test_a_snapshot_is_made_and_restored(world: World) -> None:
    run(world, "backup-and-restore", "age=0s")
    said = run(world, "backup-and-restore", "purpose=restore", "snapshot=before-the-upgrade", "to=copy")
    assert "copy-1 is available and answers" in said
    assert {CLUSTER, "copy"} <= {c["DBClusterIdentifier"] for c in world.aws("rds").describe_db_clusters()["DBClusters"]}


def test_scheduled_maintenance_from_proof_to_proof(world: World) -> None:
    said = run(world, "scheduled-maintenance", "at=now", "message=Now, for a while")
    assert [each["message"] for each in world.announcements()] == ["Now, for a while"]
    assert said.count("api calls itself healthy") == 2


def test_scheduled_maintenance_says_nothing_while_the_service_is_ill(world: World) -> None:
    world.fault("api", "GET /health", "fail", times=0)
    assert "Check" in run(world, "scheduled-maintenance", "at=now", code=1)
    assert world.announcements() == []


def test_emergency_maintenance_and_a_forced_logout(world: World) -> None:
    assert "redeploy api" in run(world, "emergency-maintenance")
    (incident,) = world.sent()["statuspage"]
    assert [update["status"] for update in incident["incident_updates"]] == ["resolved", "identified"]
    run(world, "forced-logout", "scope=single", "user=user9@example.com")
    assert world.count("SELECT count(*) FROM refresh_sessions WHERE user_id = 9") == 0
