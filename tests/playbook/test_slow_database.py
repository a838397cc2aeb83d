"""The procedures for a slow database and for one without a connection left, from end to end."""

from __future__ import annotations

import pytest
from world import World

from opsctl.playbook import loader

LINES = {
    "slow-database": ["Check RDS performance insights", "Check slow queries"],
    "connection-exhaustion": ["Check current connections", "Kill long-running queries"],
}
"""What the code blocks of sections 4.2 and 5.1 of the Safawinet runbook say of themselves."""


@pytest.mark.parametrize("name", LINES)
def test_every_line_of_the_runbook_has_its_step(name: str) -> None:
    found, problems = loader.inspect(loader.shipped("playbooks") / f"{name}.yaml")
    assert problems == []
    assert found is not None
    there = [item for step in found.playbook.steps for item in step.items]
    assert [line for line in LINES[name] if line not in there] == []


@pytest.mark.parametrize("name", LINES)
def test_from_end_to_end(world: World, name: str) -> None:
    world.control("POST", "/queries", {"count": 2, "kind": "waiting"})
    world.count("SELECT count(pg_sleep(1.05))")
    if name == "connection-exhaustion":
        world.control("POST", "/connections", {})
    shown = world.opsctl("playbook", "run", name, "older=1s", "-n", check=3)
    assert "2 queries" in shown.out
    done = world.opsctl("playbook", "run", name, "older=1s", "--assume-answers", "-y")
    if name == "connection-exhaustion":
        assert (done.code, "share is 9" in done.err) == (1, True), "the queries are gone, and the connections are still taken"
        world.heal()
        run = world.opsctl("-o", "json", "runs", "list").json[0]["run"]
        done = world.opsctl("runs", "resume", run, "-y")
    assert world.queries() == []
    assert done.code == 0, done


def test_a_dry_run_says_what_could_not_be_asked(world: World) -> None:
    world.configure(replace={'driver = "postgres"': 'driver = "rds-data"'})
    shown = world.opsctl("-o", "json", "playbook", "run", "connection-exhaustion", "-n", check=1).json
    assert {step["step"] for step in shown["steps"] if step["state"] == "fails now"} == {"below"}
