"""An answer without the members that a conclusion rests on is an error, never an empty value."""

from __future__ import annotations

from typing import Any

import pytest

from opsctl.adapters.aws.functions import Functions
from opsctl.adapters.aws.iam import Iam
from opsctl.adapters.aws.sqs import Sqs
from opsctl.adapters.aws.waf import Waf
from opsctl.errors import ExternalError
from opsctl.settings.security import WafPlace

ACL = {"Name": "acl", "Id": "1", "ARN": "arn", "DefaultAction": {"Allow": {}}, "VisibilityConfig": {"MetricName": "m"}}
FUNCTION = {"FunctionName": "f", "LastModified": "2026-01-01T00:00:00.000+0000"}


class Answers:
    """A session that gives the same answer to each operation."""

    writing = False

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.answers = answers

    def call(self, service: str, operation: str, /, **how: Any) -> dict[str, Any]:
        return self.answers[operation]

    def call_complete(self, service: str, operation: str, /, **how: Any) -> tuple[dict[str, Any], Any]:
        from opsctl.adapters.aws.sent import SentAnswer

        return self.answers[operation], SentAnswer(self.answers[operation], ())

    def pages(self, service: str, operation: str, /, **how: Any) -> list[dict[str, Any]]:
        return [self.answers[operation]]


@pytest.mark.parametrize("told", [{}, {"Attributes": {}}, {"Attributes": {"ApproximateNumberOfMessages": "0"}}])
def test_a_queue_whose_figures_are_missing_is_not_empty(told: dict[str, Any]) -> None:
    session: Any = Answers(get_queue_url={"QueueUrl": "q"}, get_queue_attributes=told)
    with pytest.raises(ExternalError, match="returned no ApproximateNumberOf"):
        Sqs(session).depth("bounces")


def test_an_acl_that_uses_capacity_and_names_no_rule_is_not_empty() -> None:
    listed = {"WebACLs": [{"Name": "acl", "Id": "1"}]}
    full: Any = Answers(list_web_acls=listed, get_web_acl={"WebACL": {**ACL, "Capacity": 2}, "LockToken": "t"})
    with pytest.raises(ExternalError, match="returned no rules"):
        Waf(full).acl("acl", WafPlace())
    empty: Any = Answers(list_web_acls=listed, get_web_acl={"WebACL": {**ACL, "Capacity": 0}, "LockToken": "t"})
    assert Waf(empty).acl("acl", WafPlace()).rules == ()


def test_a_function_whose_code_isnt_told_is_not_like_another() -> None:
    with pytest.raises(ExternalError, match="CodeSha256"):
        Functions(Answers(get_function_configuration=FUNCTION)).state("f", version="3")  # type: ignore[arg-type]


@pytest.mark.parametrize(("version", "status"), [("$LATEST", "untold"), ("3", "Successful")])
def test_an_update_of_which_nothing_is_told_has_not_succeeded(version: str, status: str) -> None:
    session: Any = Answers(get_function_configuration={**FUNCTION, "CodeSha256": "x"})
    assert Functions(session).state("f", version=version).status == status


def test_a_policy_or_group_that_isnt_listed_is_unread() -> None:
    user = {"UserName": "jo", "Arn": "arn", "GroupList": ["ops"], "AttachedManagedPolicies": [{"PolicyName": "p", "PolicyArn": "a"}]}
    session: Any = Answers(get_account_authorization_details={"UserDetailList": [user]})
    assert Iam(session).account().rights["jo"].unreadable_policies == ["its policies (group ops)", "p"]
