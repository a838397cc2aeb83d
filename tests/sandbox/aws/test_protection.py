"""What the stand-ins of Shield and WAF do as AWS does, and moto doesn't."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stand_in import Aws

from opsctl.sandbox.aws.firewall import ACL, LOAD_BALANCER

Refused = Callable[..., str]
SEEN = {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": "limit"}


def acl(aws: Aws) -> tuple[dict[str, Any], dict[str, str]]:
    """The ACL, and where it is."""
    client = aws.client("wafv2")
    (found,) = client.list_web_acls(Scope="REGIONAL")["WebACLs"]
    where = {"Name": ACL, "Id": found["Id"], "Scope": "REGIONAL"}
    return client.get_web_acl(**where), where


def limiting(limit: int, action: str, **more: Any) -> dict[str, Any]:
    rate = {"Limit": limit, "AggregateKeyType": "IP", **more}
    return {"Name": "limit", "Priority": 0, "Action": {action: {}}, "Statement": {"RateBasedStatement": rate}, "VisibilityConfig": SEEN}


def put(aws: Aws, *rules: dict[str, Any]) -> dict[str, Any]:
    """What to call UpdateWebACL with, so that the ACL has these rules beside the managed one."""
    found, where = acl(aws)
    kept = {name: found["WebACL"][name] for name in ("DefaultAction", "VisibilityConfig")}
    return {**where, **kept, "Rules": [*found["WebACL"]["Rules"], *rules], "LockToken": found["LockToken"]}


def samples(aws: Aws, metric: str = "ALL") -> dict[str, set[str]]:
    """The actions that each address met in the last five minutes."""
    now = datetime.now(UTC)
    window = {"StartTime": now - timedelta(minutes=5), "EndTime": now}
    asked = {"WebAclArn": acl(aws)[0]["WebACL"]["ARN"], "RuleMetricName": metric, "Scope": "REGIONAL", "TimeWindow": window}
    found: dict[str, set[str]] = {}
    for each in aws.client("wafv2").get_sampled_requests(**asked, MaxItems=500)["SampledRequests"]:
        found.setdefault(each["Request"]["ClientIP"], set()).add(each["Action"])
    return found


def test_without_a_subscription_shield_does_nothing(aws: Aws, refused: Refused) -> None:
    shield = aws.client("shield")
    assert shield.get_subscription_state()["SubscriptionState"] == "ACTIVE"
    until = shield.describe_subscription()["Subscription"]["EndTime"]
    assert until > datetime.now(UTC)
    shield.delete_subscription()
    assert shield.get_subscription_state()["SubscriptionState"] == "INACTIVE"
    for call in (shield.describe_subscription, shield.list_protections, shield.list_attacks):
        assert refused(call) == "ResourceNotFoundException"
    assert refused(shield.create_protection, Name="ours", ResourceArn=LOAD_BALANCER) == "ResourceNotFoundException"
    shield.create_subscription()
    assert shield.list_protections()["Protections"] == []


def test_a_resource_is_protected_once_and_only_one_that_is_there(aws: Aws, refused: Refused) -> None:
    shield = aws.client("shield")
    id = shield.create_protection(Name="ours", ResourceArn=LOAD_BALANCER)["ProtectionId"]
    assert refused(shield.create_protection, Name="theirs", ResourceArn=LOAD_BALANCER) == "ResourceAlreadyExistsException"
    for arn in (LOAD_BALANCER.replace("50dc", "0000"), "arn:aws:rds:us-east-1:123456789012:db:x"):
        assert refused(shield.create_protection, Name="theirs", ResourceArn=arn) == "InvalidResourceException"
    assert refused(shield.create_protection, Name="a/b", ResourceArn=LOAD_BALANCER) == "InvalidParameterException"
    shield.delete_protection(ProtectionId=id)
    assert refused(shield.describe_protection, ResourceArn=LOAD_BALANCER) == "ResourceNotFoundException"
    assert refused(shield.delete_protection, ProtectionId=id) == "ResourceNotFoundException"


def test_attacks_are_found_by_when_they_began(aws: Aws) -> None:
    now, shield = datetime.now(UTC), aws.client("shield")

    def attacks(days: int) -> int:
        begun = {"FromInclusive": now - timedelta(days=days), "ToExclusive": now}
        return len(shield.list_attacks(StartTime=begun)["AttackSummaries"])

    assert [attacks(days) for days in (0, 7, 60)] == [0, 1, 2]
    (newest,) = shield.list_attacks(StartTime={"FromInclusive": now - timedelta(days=7)})["AttackSummaries"]
    assert shield.describe_attack(AttackId=newest["AttackId"])["Attack"]["ResourceArn"] == newest["ResourceArn"]


def test_an_update_needs_the_newest_token_and_forgets_what_it_is_not_sent(aws: Aws, refused: Refused) -> None:
    client, given = aws.client("wafv2"), put(aws, limiting(500, "Count"))
    following = client.update_web_acl(**given)["NextLockToken"]
    assert refused(client.update_web_acl, **given) == "WAFOptimisticLockException"
    found, _ = acl(aws)
    assert found["LockToken"] == following
    assert "CustomResponseBodies" not in found["WebACL"]
    assert found["WebACL"]["Description"] == ""
    assert found["WebACL"]["Capacity"] == 702


@pytest.mark.parametrize(
    "rules",
    [
        [limiting(500, "Count", EvaluationWindowSec=90)],
        [limiting(500, "Count", AggregateKeyType="FORWARDED_IP")],
        [limiting(500, "Count"), {**limiting(500, "Count"), "Priority": 1}],
        [limiting(500, "Count"), {**limiting(500, "Count"), "Name": "other"}],
    ],
)
def test_rules_that_waf_does_not_take(aws: Aws, refused: Refused, rules: list[dict[str, Any]]) -> None:
    assert refused(aws.client("wafv2").update_web_acl, **put(aws, *rules)) == "WAFInvalidParameterException"


def test_a_set_keeps_addresses_in_its_own_way(aws: Aws, refused: Refused) -> None:
    client = aws.client("wafv2")
    four, six = client.list_ip_sets(Scope="REGIONAL")["IPSets"]
    for wrong in ("203.0.113.7", "0.0.0.0/0", "2001:db8::/48", "203.0.113.7/24", "here"):
        given = {"Name": four["Name"], "Id": four["Id"], "Scope": "REGIONAL", "LockToken": four["LockToken"], "Addresses": [wrong]}
        assert refused(client.update_ip_set, **given) == "WAFInvalidParameterException"
    given = {"Name": six["Name"], "Id": six["Id"], "Scope": "REGIONAL", "LockToken": six["LockToken"]}
    client.update_ip_set(**given, Addresses=["2001:db8::/48", "2001:db8::/48"])
    assert refused(client.update_ip_set, **given, Addresses=[]) == "WAFOptimisticLockException"
    found = client.get_ip_set(Name=six["Name"], Id=six["Id"], Scope="REGIONAL")["IPSet"]
    assert found["Addresses"] == ["2001:0db8:0000:0000:0000:0000:0000:0000/48"]


def test_who_is_behind_an_acl_is_asked_a_kind_at_a_time(aws: Aws) -> None:
    client, arn = aws.client("wafv2"), acl(aws)[0]["WebACL"]["ARN"]
    assert client.list_resources_for_web_acl(WebACLArn=arn)["ResourceArns"] == [LOAD_BALANCER]
    assert client.list_resources_for_web_acl(WebACLArn=arn, ResourceType="API_GATEWAY")["ResourceArns"] == []
    client.disassociate_web_acl(ResourceArn=LOAD_BALANCER)
    assert client.list_resources_for_web_acl(WebACLArn=arn)["ResourceArns"] == []


def test_each_scope_and_region_has_its_own(aws: Aws, refused: Refused) -> None:
    assert aws.client("wafv2").list_web_acls(Scope="CLOUDFRONT")["WebACLs"] == []
    assert aws.client("wafv2", "us-west-2").list_web_acls(Scope="REGIONAL")["WebACLs"] == []
    assert refused(aws.client("wafv2", "us-west-2").list_web_acls, Scope="CLOUDFRONT") == "WAFInvalidParameterException"
    assert refused(aws.client("wafv2").get_web_acl, Name=ACL, Id="another", Scope="REGIONAL") == "WAFNonexistentItemException"


def test_lists_come_in_pages(aws: Aws) -> None:
    client = aws.client("wafv2")
    first = client.list_ip_sets(Scope="REGIONAL", Limit=1)
    second = client.list_ip_sets(Scope="REGIONAL", Limit=1, NextMarker=first["NextMarker"])
    assert [each["Name"] for page in (first, second) for each in page["IPSets"]] == ["safawinet-blocked-v4", "safawinet-blocked-v6"]
    assert "NextMarker" not in second


def test_samples_and_who_is_over_the_limit_follow_the_rules(aws: Aws, refused: Refused) -> None:
    client = aws.client("wafv2")
    found = samples(aws)
    assert (found["203.0.113.66"], found["192.0.2.200"]) == ({"ALLOW"}, {"BLOCK"})
    client.update_web_acl(**put(aws, limiting(1_000, "Count")))
    assert samples(aws, "limit") == {"203.0.113.66": {"COUNT"}, "2001:db8:bad::7": {"COUNT"}}
    _, where = acl(aws)
    asked = {"Scope": "REGIONAL", "WebACLName": ACL, "WebACLId": where["Id"]}
    over = client.get_rate_based_statement_managed_keys(**asked, RuleName="limit")
    assert over["ManagedKeysIPV4"]["Addresses"] == ["203.0.113.66/32"]
    assert over["ManagedKeysIPV6"]["Addresses"] == ["2001:db8:bad::7/128"]
    assert refused(client.get_rate_based_statement_managed_keys, **asked, RuleName="absent") == "WAFNonexistentItemException"
    found, where = acl(aws)
    rules = [each for each in found["WebACL"]["Rules"] if each["Name"] != "limit"]
    client.update_web_acl(**{**put(aws), "Rules": [*rules, limiting(1_000, "Block")]})
    assert samples(aws)["203.0.113.66"] == {"BLOCK"}
