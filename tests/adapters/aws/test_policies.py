"""What policies say: wildcards, exceptions, and denials."""

from __future__ import annotations

from typing import Any

import pytest

from opsctl.adapters.aws import policies

ARN = "arn:aws:iam::123456789012:user/jo"
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:jwt-AbCdEf"
READ = "secretsmanager:GetSecretValue"


def document(effect: str = "Allow", **statement: Any) -> dict[str, Any]:
    return {"Statement": {"Effect": effect, **({} if "NotResource" in statement else {"Resource": "*"}), **statement}}


@pytest.mark.parametrize(
    ("documents", "may"),
    [
        ([document(Action="*")], True),
        ([document(Action=["s3:*", "SECRETSMANAGER:get*"])], True),
        ([document(Action=READ, Resource="arn:aws:secretsmanager:*:*:secret:jwt-??????")], True),
        ([document(Action=READ, Resource="arn:aws:secretsmanager:*:*:secret:other-*")], False),
        ([document(NotAction="iam:*")], True),
        ([document(NotAction="secretsmanager:*")], False),
        ([document(Action=READ, NotResource=SECRET)], False),
        ([document(Action=READ, Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})], True),
        ([document(Action="*"), document("Deny", Action=READ)], False),
        ([document(Action="*"), document("Deny", Action=READ, Condition={"Bool": {}})], True),
        ([{}], False),
        ([], False),
    ],
)
def test_what_may_be_read(documents: list[dict[str, Any]], may: bool) -> None:
    assert policies.allows(documents, READ, SECRET) is may


@pytest.mark.parametrize(
    ("found", "administrator"),
    [
        (document(Action="*"), True),
        (document(Action="iam:*"), True),
        (document(Action="iam:PutUserPolicy", Resource="arn:aws:iam::*:user/${aws:username}"), False),
        (document(Action="iam:PutUserPolicy", Resource=ARN), True),
        (document(NotAction=["iam:*", "organizations:*"]), False),
        (document(Action="iam:Get*"), False),
    ],
)
def test_who_can_give_themselves_any_right(found: dict[str, Any], administrator: bool) -> None:
    assert policies.administers([found], ARN) is administrator
    assert not policies.administers([found, document("Deny", Action="*")], ARN)


def test_only_what_denies_everything_does() -> None:
    assert policies.denies_all([document("Deny", Action="*")])
    assert not policies.denies_all([document("Deny", Action="*", Resource="arn:aws:s3:::*")])
    assert not policies.denies_all([document("Deny", Action="*", Condition={"Bool": {}})])
    assert not policies.denies_all([document("Deny", Action="s3:*"), document(Action="*")])


@pytest.mark.parametrize(
    ("principal", "how"),
    [
        ({"AWS": ARN}, "by name"),
        ({"AWS": ["arn:aws:iam::1:root", ARN]}, "by name"),
        ("*", "by name"),
        ({"AWS": "arn:aws:iam::123456789012:root"}, "by account"),
        ({"AWS": "123456789012"}, "by account"),
        ({"AWS": "arn:aws:iam::999999999999:root"}, ""),
        ({"Service": "lambda.amazonaws.com"}, ""),
    ],
)
def test_who_may_assume_a_role(principal: Any, how: str) -> None:
    trust = {"Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}]}
    assert policies.trusts(trust, ARN, "123456789012") == how
    assert policies.trusts({"Statement": [{**trust["Statement"][0], "Effect": "Deny"}]}, ARN, "123456789012") == ""
    assert policies.trusts({"Statement": [{**trust["Statement"][0], "Action": "sts:AssumeRoleWithSAML"}]}, ARN, "123456789012") == ""
