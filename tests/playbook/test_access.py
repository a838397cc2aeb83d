"""The playbook `unauthorized-access`: every line of 8.1, the revocation before anything else that takes time."""

from __future__ import annotations

import pytest
from world import World

from opsctl.config import shipped
from opsctl.playbook import conditions, loader
from opsctl.playbook.schema import Playbook

BOXES = [
    "Immediately revoke compromised credentials",
    "Check CloudTrail logs for suspicious activity",
    "Review IAM user access",
    "Rotate affected secrets",
]


@pytest.fixture(scope="module")
def playbook() -> Playbook:
    found, problems = loader.inspect(shipped("playbooks") / "unauthorized-access.yaml")
    assert problems == []
    assert found is not None
    return found.playbook


@pytest.mark.parametrize("known", ["yes", "no"])
def test_every_checkbox_has_its_step_whatever_the_answers(playbook: Playbook, known: str) -> None:
    taken = [step for step in playbook.steps if conditions.evaluate(step, {"key-known": known, "others": "no"})]
    items = [item for step in taken for item in step.items]
    assert list(dict.fromkeys(items)) == BOXES
    assert not any("{" in step.note for step in taken), "a note is shown as it stands"
    assert next(step.text for step in taken if step.kind == "run") == "access revoke {user} --compromised"


def test_nothing_that_may_fail_stands_before_the_revocation(playbook: Playbook) -> None:
    assert playbook.steps[0].text == "access revoke {user} --compromised"


def test_what_cannot_be_looked_at_leaves_nobody_in(world: World) -> None:
    world.fault("aws", "cloudtrail.LookupEvents", "refuse", times=0)
    world.fault("aws", "iam.GetAccountAuthorizationDetails", "refuse", times=0)
    world.configure({"administrators = []": 'administrators = ["admin-break-glass"]'})
    stopped = world.opsctl("playbook", "run", "unauthorized-access", "user=former-contractor", "-y", "--assume-answers", check=1)
    assert "iam:GetAccountAuthorizationDetails" in stopped.err
    world.heal()
    assert world.access()["former-contractor"][1] == ["false", "false", "false"]


def test_it_runs_to_its_end(world: World) -> None:
    done = world.opsctl("-o", "json", "playbook", "run", "unauthorized-access", "user=former-contractor", "-y", "--assume-answers", check=0)
    assert done.json["result"] == "changed"
    able = world.access()["former-contractor"][1]
    assert able == ["false", "false", "false"]
    assert world.secret("safawinet/prod/jwt", "secret") != world.facts["jwt_secret"]
    assert world.count("SELECT count(*) FROM refresh_sessions") <= 1
