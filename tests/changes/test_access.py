"""What a revocation says of what it doesn't end."""

from __future__ import annotations

from typing import Any

import pytest

from opsctl.adapters.aws.iam import IamAccount, IamRole, Rights
from opsctl.changes.access import _left_over

ROOT = "arn:aws:iam::123456789012"


def role(name: str, trusted: str, path: str = "/", **may: Any) -> IamRole:
    """A role that trusts a principal, and may do one thing."""
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": trusted}, "Action": "sts:AssumeRole"}]}
    documents = {"own": {"Statement": [{"Effect": "Allow", **may}]}} if may else {}
    return IamRole(name, path, trust, Rights(f"{ROOT}:role/{name}", documents))


def account(*roles: IamRole) -> IamAccount:
    return IamAccount({"jo": Rights(f"{ROOT}:user/jo", {})}, list(roles))


def test_roles_are_followed_by_way_of_others_and_in_a_circle() -> None:
    assume = {"Action": "sts:AssumeRole", "Resource": "*"}
    found = account(
        role("one", f"{ROOT}:user/jo", **assume),
        role("two", "123456789012", **assume),
        role("three", f"{ROOT}:role/two"),
        role("back", f"{ROOT}:role/three"),
        role("four", f"{ROOT}:role/five"),
        role("five", "999999999999"),
    )
    assert [(each.role, each.by) for each in found.assumable_roles("jo")] == [
        ("back", "three"),
        ("one", "jo"),
        ("three", "two"),
        ("two", "one"),
    ]
    assert found.assumable_roles("somebody-new") == []


def test_many_roles_are_counted() -> None:
    told = _left_over(account(*(role(f"r{n:02}", f"{ROOT}:user/jo") for n in range(20))), "jo", f"{ROOT}:user/al")
    assert "r07 and 12 more" in told
    assert "Identity Center" not in told


@pytest.mark.parametrize(("session", "said"), [("one", True), ("two", False)])
def test_a_run_in_a_role_that_the_user_may_have_begun_is_told(session: str, said: bool) -> None:
    found = account(role("one", f"{ROOT}:user/jo"), role("two", f"{ROOT}:user/al"))
    told = _left_over(found, "jo", f"arn:aws:sts::123456789012:assumed-role/{session}/me")
    assert ("this run uses a session of" in told) is said


def test_sign_ins_by_sso_are_named_where_there_are_any() -> None:
    told = _left_over(account(role("r", "999999999999", path="/aws-reserved/sso.amazonaws.com/")), "jo", f"{ROOT}:user/al")
    assert told.startswith("SSO sign-in is not changed")
