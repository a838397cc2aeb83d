import pytest

from opsctl.playbook import conditions, loader
from opsctl.playbook.schema import Playbook, PlaybookStep

CHECKBOXES = {
    "1.1 Assess the Situation": [
        "Determine scope of compromise (single user vs. widespread)",
        "Check Sentry for suspicious activity patterns",
        "Review CloudWatch logs for unusual authentication patterns",
        "Identify affected user accounts",
    ],
    "1.2 Emergency Response": [
        "Force logout all users (if widespread compromise)",
        "Revoke all refresh tokens",
        "Invalidate Redis cache",
    ],
    "1.3 Security Measures": [
        "Rotate JWT secrets in AWS Secrets Manager",
        "Update application environment variables",
        "Restart ECS services to pick up new secrets",
        "Enable enhanced monitoring",
    ],
    "1.4 Communication": [
        "Notify security team",
        "Send security alert to affected users",
        "Update status page",
        "Prepare incident report",
    ],
    "1.5 Service Restart": ["Restart ECS services with new secrets", "Verify service health"],
    "1.6 Verification": [
        "Test authentication endpoints",
        "Verify new tokens are being issued",
        "Check that old tokens are rejected",
        "Monitor error rates in Sentry",
    ],
}
"""Section 1 of the Safawinet runbook: its checkboxes, and what its code blocks say of themselves."""


@pytest.fixture(scope="module")
def playbook() -> Playbook:
    found, problems = loader.inspect(loader.shipped("playbooks") / "token-compromise.yaml")
    assert problems == []
    assert found is not None
    return found.playbook


def test_every_checkbox_of_the_runbook_has_its_step(playbook: Playbook) -> None:
    for section, boxes in CHECKBOXES.items():
        there = " | ".join(" | ".join([*s.items, s.ask or ""]) for s in playbook.steps if s.section == section)
        assert [box for box in boxes if box not in there] == []
    assert {s.section for s in playbook.steps} == set(CHECKBOXES)


def test_every_step_has_its_mark(playbook: Playbook) -> None:
    marks = {"1.5 Service Restart": "15-60 min", "1.6 Verification": "15-60 min"}
    assert all(s.mark == marks.get(s.section, "0-15 min") for s in playbook.steps)
    assert all(s.within == ("60m" if s.mark == "15-60 min" else "15m") for s in playbook.steps if s.kind == "ask")


CONTAINED = ["logout all", "secrets rotate jwt --value-from generate --compromised", "service redeploy api worker", "logout all"]


@pytest.mark.parametrize(
    ("known", "lines"),
    [
        ({"scope": "widespread", "exposed": ""}, CONTAINED),
        ({"scope": "single", "exposed": "yes"}, ["logout user {user}", *CONTAINED[1:]]),
        ({"scope": "single", "exposed": "no"}, ["logout user {user}"]),
    ],
)
def test_who_is_logged_out_and_when_the_key_is_changed(playbook: Playbook, known: dict[str, str], lines: list[str]) -> None:
    taken = [s for s in playbook.steps if conditions.evaluate(s, known)]
    assert [s.text for s in taken if s.kind == "run" and not s.text.startswith("notify")] == lines
    checks = [s.text for s in taken if s.kind == "verify"]
    assert checks[checks.index("service status --healthy") + 1] == "auth verify"
    assert taken[0].kind == "run", "containment comes before anything is asked"


@pytest.mark.parametrize("scope", ["single", "widespread"])
def test_every_scope_meets_every_checkbox_that_is_for_it(playbook: Playbook, scope: str) -> None:
    taken = [s for s in playbook.steps if conditions.evaluate(s, {"scope": scope, "exposed": "yes"})]
    there = " | ".join(" | ".join([*s.items, s.ask or ""]) for s in taken).lower()
    others = {"Force logout all users (if widespread compromise)", "Revoke all refresh tokens", "Invalidate Redis cache"}
    boxes = {box for section in CHECKBOXES.values() for box in section} - (others if scope == "single" else set())
    assert [box for box in boxes if box.lower() not in there] == []


def test_the_last_logout_is_bound_to_the_rollout_and_that_to_the_key(playbook: Playbook) -> None:
    by_id = {s.id: s for s in playbook.steps if s.id}
    assert by_id["rollout"].follows == "key"
    assert by_id["finish"].follows == "rollout"
    proofs = {s.id: s.follows for s in playbook.steps if s.kind == "verify" and s.follows}
    assert proofs == {"rolled-out": "key", "user-is-out": "contain-user", "all-are-out": "finish"}


def test_a_question_that_decides_takes_the_careful_answer_when_assumed(playbook: Playbook) -> None:
    asked: list[PlaybookStep] = [s for s in playbook.steps if s.choices]
    assert {s.choices[0] for s in asked} == {"yes"}
