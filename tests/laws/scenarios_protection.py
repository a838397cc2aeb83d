"""Rehearsals of what changes Shield's protections and the firewall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scenario import Scenario
from world import World

ACL, RULE = "safawinet-prod", "safawinet-rate-limit"
LOAD_BALANCER = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/safawinet-prod/50dc6c495c0c9188"


def limited(limit: int, action: str) -> Callable[[World], bool]:
    """Whether the rule is there with that limit and action, beside the managed one."""

    def so(world: World) -> bool:
        rules = {rule["Name"]: rule for rule in world.firewall()[ACL]["Rules"]}
        found = rules.get(RULE)
        if found is None or len(rules) != 2:
            return False
        return bool(found["Action"] == {action: {}} and found["Statement"]["RateBasedStatement"]["Limit"] == limit)

    return so


def set_limit(limit: int) -> Callable[[World], None]:
    """Somebody makes the rule, or changes it, so that it counts with another limit."""

    def meddle(world: World) -> None:
        client = world.aws("wafv2")
        where = {"Name": ACL, "Id": world.firewall()[ACL]["Id"], "Scope": "REGIONAL"}
        answer = client.get_web_acl(**where)
        acl: dict[str, Any] = answer["WebACL"]
        rate = {"Limit": limit, "EvaluationWindowSec": 300, "AggregateKeyType": "IP"}
        seen = {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": RULE}
        ours = {"Name": RULE, "Priority": 0, "Action": {"Count": {}}, "Statement": {"RateBasedStatement": rate}, "VisibilityConfig": seen}
        rules = [*(rule for rule in acl["Rules"] if rule["Name"] != RULE), ours]
        kept = {name: acl[name] for name in ("DefaultAction", "Description", "VisibilityConfig", "CustomResponseBodies", "TokenDomains")}
        client.update_web_acl(**where, **kept, Rules=rules, LockToken=answer["LockToken"])

    return meddle


def listed(four: list[str], six: list[str]) -> Callable[[World], bool]:
    """Whether these are the lists' entries, and a rule blocks who is on them."""

    def so(world: World) -> bool:
        wall = world.firewall()
        found = [wall[f"safawinet-blocked-{version}"]["Addresses"] for version in ("v4", "v6")]
        blocking = [rule["Name"] for rule in wall[ACL]["Rules"] if rule.get("Action") == {"Block": {}}]
        return found == [four, six] and ("safawinet-blocked" in blocking or not (four or six))

    return so


def list_two(world: World) -> None:
    """Somebody has blocked two addresses."""
    client = world.aws("wafv2")
    where = {"Name": "safawinet-blocked-v4", "Id": world.firewall()["safawinet-blocked-v4"]["Id"], "Scope": "REGIONAL"}
    token = client.get_ip_set(**where)["LockToken"]
    client.update_ip_set(**where, Addresses=["203.0.113.66/32", "198.51.100.23/32"], LockToken=token)


def left_one(world: World) -> bool:
    """Whether the other address is still listed."""
    return bool(world.firewall()["safawinet-blocked-v4"]["Addresses"] == ["198.51.100.23/32"])


SCENARIOS = {
    "protection enable-shield": [
        Scenario("protection enable-shield load-balancer", lambda world: LOAD_BALANCER in world.protected(), reversible=True)
    ],
    "protection rate-limit": [
        Scenario("protection rate-limit 800", limited(800, "Count"), meddle=set_limit(600), reversible=True),
        Scenario(
            "protection rate-limit 800 --block",
            limited(800, "Block"),
            prepare=set_limit(800),
            meddle=set_limit(600),
            reversible=True,
            variant=True,
        ),
    ],
    "protection block": [
        Scenario(
            "protection block 203.0.113.66 2001:db8:bad::/48",
            listed(["203.0.113.66/32"], ["2001:0db8:0bad:0000:0000:0000:0000:0000/48"]),
            reversible=True,
        )
    ],
    "protection unblock": [Scenario("protection unblock 203.0.113.66", left_one, prepare=list_two, alike=True, reversible=True)],
}
