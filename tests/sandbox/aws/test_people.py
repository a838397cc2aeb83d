"""IAM's people in the sandbox: their ages and last uses, and policies that moto doesn't load by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from stand_in import Aws


@pytest.fixture
def iam(aws: Aws) -> Any:
    return aws.client("iam")


def test_keys_have_an_age_and_a_last_use(aws: Aws, iam: Any) -> None:
    (key,) = iam.list_access_keys(UserName="deploy")["AccessKeyMetadata"]
    now = datetime.fromtimestamp(aws.clock(), UTC)
    assert (now - key["CreateDate"]).days == 410
    used = iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])["AccessKeyLastUsed"]
    assert (used["ServiceName"], used["Region"]) == ("ecs", "us-east-1")
    assert (now - used["LastUsedDate"]).total_seconds() < 7200
    (never,) = iam.list_access_keys(UserName="reporting")["AccessKeyMetadata"]
    assert "LastUsedDate" not in iam.get_access_key_last_used(AccessKeyId=never["AccessKeyId"])["AccessKeyLastUsed"]


def test_the_callers_key_is_among_them_and_stands_still(aws: Aws, iam: Any) -> None:
    used = [iam.get_access_key_last_used(AccessKeyId=aws.world.facts["access_key_id"]) for _ in range(2)]
    assert used[0]["UserName"] == aws.client("sts").get_caller_identity()["Arn"].rpartition("/")[2] == "oncall"
    assert used[0]["AccessKeyLastUsed"] == used[1]["AccessKeyLastUsed"]


def test_a_key_can_be_ended_and_deleted(iam: Any) -> None:
    key = iam.list_access_keys(UserName="deploy")["AccessKeyMetadata"][0]["AccessKeyId"]
    iam.update_access_key(UserName="deploy", AccessKeyId=key, Status="Inactive")
    assert iam.list_access_keys(UserName="deploy")["AccessKeyMetadata"][0]["Status"] == "Inactive"
    iam.delete_access_key(UserName="deploy", AccessKeyId=key)
    assert iam.list_access_keys(UserName="deploy")["AccessKeyMetadata"] == []


def test_users_sign_in_with_and_without_a_second_factor(iam: Any) -> None:
    users = {user["UserName"]: user for user in iam.list_users()["Users"]}
    assert {name for name, user in users.items() if "PasswordLastUsed" in user} == {"oncall", "admin-break-glass", "former-contractor"}
    assert iam.get_login_profile(UserName="former-contractor")["LoginProfile"]
    assert iam.list_mfa_devices(UserName="former-contractor")["MFADevices"] == []
    assert len(iam.list_mfa_devices(UserName="oncall")["MFADevices"]) == 1
    assert users["ses-smtp"]["Arn"].endswith(":user/service/ses-smtp")


def test_the_listing_of_rights_holds_the_attached_policies_of_aws(iam: Any) -> None:
    found = iam.get_account_authorization_details(Filter=["User", "Group", "Role", "LocalManagedPolicy", "AWSManagedPolicy"])
    documents = {p["Arn"].rpartition("/")[2]: p["PolicyVersionList"][0]["Document"] for p in found["Policies"]}
    assert documents["AdministratorAccess"]["Statement"][0]["Action"] == "*"
    groups = {g["GroupName"]: [p["PolicyName"] for p in g["AttachedManagedPolicies"]] for g in found["GroupDetailList"]}
    assert groups == {"administrators": ["AdministratorAccess"], "operators": ["PowerUserAccess"]}
    roles = {role["RoleName"]: role for role in found["RoleDetailList"]}
    assert roles["prod-debug"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["AWS"].endswith("user/former-contractor")
    assert any(role["Path"].startswith("/aws-reserved/sso.amazonaws.com/") for role in roles.values())
