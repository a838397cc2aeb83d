"""The playbook for bounces stands for section 3 of the Safawinet runbook, and leads through it."""

from __future__ import annotations

import pytest
from world import World

from opsctl.playbook import loader

LINES = ["Check SES bounce metrics", "List recent bounces", "Disable users with excessive bounces"]
"""What the section's code blocks say of themselves."""


def test_every_line_of_the_runbook_has_its_step() -> None:
    found, problems = loader.inspect(loader.shipped("playbooks") / "bounce-handling.yaml")
    assert problems == []
    assert found is not None
    there = [item for step in found.playbook.steps for item in step.items]
    assert [line for line in LINES if line not in there] == []


@pytest.mark.parametrize(("rate", "more"), [("below", 0), ("above", 1)])
def test_a_person_is_led_through_it_and_it_can_be_taken_back(world: World, rate: str, more: int) -> None:
    answers = f"\n\n{rate}\n" + "\n" * more
    done = world.opsctl("-o", "json", "playbook", "run", "bounce-handling", "-y", typed=answers, check=0).json
    assert world.count("SELECT count(*) FROM users WHERE NOT is_active") == 16
    world.undo(done["run"])
    assert world.count("SELECT count(*) FROM users WHERE NOT is_active") == 0


def test_an_outage_stops_it_before_anybody_is_deactivated(world: World) -> None:
    with world.database() as connection:
        connection.execute("UPDATE ses_notifications SET at = date_trunc('hour', now())")
    stopped = world.opsctl("playbook", "run", "bounce-handling", "-y", typed="\n\n", check=4)
    assert "of one hour" in stopped.err
    assert world.count("SELECT count(*) FROM users WHERE NOT is_active") == 0
