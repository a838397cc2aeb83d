"""The procedure against a flood: every checkbox of the runbook, and nothing blocks before it has counted."""

from __future__ import annotations

import pytest

from opsctl.config import shipped
from opsctl.playbook import conditions, loader
from opsctl.playbook.schema import PlaybookStep

BOXES = ["Enable AWS Shield Advanced (if available)", "Configure WAF rules", "Scale up resources", "Contact AWS support"]
NO = {"subscribed": "no", "blocking": "no", "counted": "nobody", "list": "none", "room": "no"}
LIMIT, BLOCK = "protection rate-limit {limit}", "protection rate-limit {limit} --block"


def taken(known: dict[str, str]) -> list[PlaybookStep]:
    found, problems = loader.inspect(shipped("playbooks") / "ddos.yaml")
    assert problems == []
    assert found is not None
    return [step for step in found.playbook.steps if conditions.evaluate(step, known)]


@pytest.mark.parametrize("subscribed", ["yes", "no"])
def test_every_checkbox_has_its_step(subscribed: str) -> None:
    steps = taken({**NO, "subscribed": subscribed, "room": "yes"})
    there = [item for step in steps for item in (*step.items, step.ask or "")]
    assert [box for box in BOXES if box not in there] == []
    assert all(step.section for step in steps)
    assert not any("{" in step.note for step in steps), "a note is shown as it stands"


@pytest.mark.parametrize(
    ("answers", "changes"),
    [
        ({}, [LIMIT]),
        ({"subscribed": "yes"}, ["protection enable-shield {resource}", LIMIT]),
        ({"counted": "attackers"}, [LIMIT, BLOCK]),
        ({"counted": "customers"}, [LIMIT]),
        ({"blocking": "yes", "list": "given"}, ["protection block {addresses}"]),
        ({"blocking": "yes", "room": "yes"}, ["service scale {service} {count}"]),
    ],
)
def test_only_what_was_answered_is_changed(answers: dict[str, str], changes: list[str]) -> None:
    steps = taken({**NO, **answers})
    assert [step.text for step in steps if step.kind == "run"] == changes
    assert [step.follows for step in steps if step.text == BLOCK] == ["limited"] * (BLOCK in changes)
