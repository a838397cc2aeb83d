"""The rules of a web ACL as WAF writes them: building, comparing, describing and estimating them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opsctl.adapters.aws.waf import Samples, WebAcl

Rule = dict[str, Any]

NARROWING = {"ForwardedIPConfig", "IPSetForwardedIPConfig", "ScopeDownStatement"}
"""What tells whom a statement meets; WAF adds none of it by itself."""

WINDOW = 300
"""The seconds over which WAF counts where a rule doesn't say."""


def limiting(acl: WebAcl, name: str, limit: int, window: int, *, block: bool, header: str | None) -> Rule:
    """The wanted rule `name`: above `limit` requests in `window` seconds it counts or blocks; its other fields stay.

    Behind a CDN the client is the first address in `header`; a request without a valid one passes.
    """
    former = acl.rule(name)
    kept = rate(former).get("ScopeDownStatement")
    statement: Rule = {"Limit": limit, "EvaluationWindowSec": window, "AggregateKeyType": "FORWARDED_IP" if header else "IP"}
    statement |= {"ForwardedIPConfig": {"HeaderName": header, "FallbackBehavior": "NO_MATCH"}} if header else {}
    statement |= {"ScopeDownStatement": kept} if kept else {}
    word = "Block" if block else "Count"
    action = former["Action"] if former and word in former.get("Action", {}) else {word: {}}
    return {**_outline(acl, name), "Action": action, "Statement": {"RateBasedStatement": statement}}


def refusing(acl: WebAcl, name: str, sets: Sequence[str], header: str | None) -> Rule:
    """The wanted rule `name`: it blocks clients in one of the address sets (ARNs).

    Behind a CDN any address in `header` counts, because a sender can put others before its own.
    """
    forwarded = {"IPSetForwardedIPConfig": {"HeaderName": header, "FallbackBehavior": "NO_MATCH", "Position": "ANY"}} if header else {}
    each: list[Rule] = [{"IPSetReferenceStatement": {"ARN": arn, **forwarded}} for arn in sets]
    statement = each[0] if len(each) == 1 else {"OrStatement": {"Statements": each}}
    return {**_outline(acl, name), "Action": {"Block": {}}, "Statement": statement}


def _outline(acl: WebAcl, name: str) -> Rule:
    """The rule's fields besides action and statement: as before, or with the first free priority."""
    if former := acl.rule(name):
        return former
    used = {rule["Priority"] for rule in acl.rules}
    free = next(number for number in range(len(used) + 1) if number not in used)
    seen = {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": name}
    return {"Name": name, "Priority": free, "VisibilityConfig": seen}


def rate(rule: Rule | None) -> Rule:
    """A rule's rate-based statement; empty for any other rule."""
    found: Rule = (rule or {}).get("Statement", {}).get("RateBasedStatement", {})
    return {"EvaluationWindowSec": WINDOW, **found} if found else {}


def blocks(rule: Rule | None) -> bool:
    """Whether a rule blocks what it matches."""
    return "Block" in (rule or {}).get("Action", {})


def blocking(acl: WebAcl, wanted: Rule) -> str | None:
    """The name of a rule that blocks all that `wanted` blocks: any of its address sets, by the same header or none. Otherwise None."""
    sets = _looked_up(wanted["Statement"])
    return next((str(rule["Name"]) for rule in acl.rules if blocks(rule) and sets <= _looked_up(rule["Statement"])), None)


def _looked_up(statement: Rule) -> set[tuple[str, str, str]]:
    """Each address set's ARN, and which address of which header it matches; both are empty for the sender's own address."""
    found = set()
    for one in _references(statement):
        given = one.get("IPSetForwardedIPConfig", {})
        found.add((one["ARN"], given.get("HeaderName", "").lower(), given.get("Position", "")))
    return found


def holds(now: Any, wanted: Any) -> bool:
    """Whether a rule has all wanted fields. WAF may have added others, but none that affect whom it matches."""
    if isinstance(now, dict) and isinstance(wanted, dict):
        return now.keys() & NARROWING <= wanted.keys() and all(name in now and holds(now[name], value) for name, value in wanted.items())
    if isinstance(now, list) and isinstance(wanted, list):
        return len(now) == len(wanted) and all(map(holds, now, wanted))
    return bool(now == wanted)


def describe_rule(rule: Rule | None) -> str | None:
    """A rule in a few words."""
    if rule is None:
        return None
    action = next(iter(rule.get("Action") or rule.get("OverrideAction") or {"": {}})).lower()
    if given := rate(rule):
        by = given.get("ForwardedIPConfig", {}).get("HeaderName") or given["AggregateKeyType"].lower().replace("ip", "address")
        return f"{action} above {given['Limit']:,} requests in {given['EvaluationWindowSec']} s by {by}"
    return f"{action} {matched(rule['Statement'])}"


def matched(statement: Rule) -> str:
    """Whom a statement matches, in a few words."""
    if managed := statement.get("ManagedRuleGroupStatement"):
        return f"requests that match {managed['VendorName']} {managed['Name']}"
    if sets := referred(statement):
        by = next((one["IPSetForwardedIPConfig"]["HeaderName"] for one in _references(statement) if "IPSetForwardedIPConfig" in one), "")
        return f"addresses in {' or '.join(map(named, sets))}" + (f" by {by}" if by else "")
    return "who sends more" if "RateBasedStatement" in statement else next(iter(statement))


def named(arn: str) -> str:
    """An address set's name, from its ARN."""
    return arn.partition("/ipset/")[2].partition("/")[0]


def referred(statement: Rule) -> list[str]:
    """The address sets (ARNs) of which any one is enough for a statement."""
    return [one["ARN"] for one in _references(statement)]


def _references(statement: Rule) -> list[Rule]:
    either = statement.get("OrStatement", {}).get("Statements", [statement])
    return [one["IPSetReferenceStatement"] for one in either if "IPSetReferenceStatement" in one]


def estimate(samples: Samples, limit: int, window: int) -> str:
    """The share of sampled addresses, and of their requests, above the limit; each sample counts by its weight."""
    weights: dict[str, int] = {}
    for request in samples.requests:
        if request.action != "BLOCK":
            weights[request.address] = weights.get(request.address, 0) + request.weight
    total = sum(request.weight for request in samples.requests)
    if not weights or not total or not samples.seconds:
        return "no sampled request to estimate the effect from"
    scale = samples.population / total * window / samples.seconds
    over = [weight for weight in weights.values() if weight * scale > limit]
    share = sum(over) / sum(weights.values())
    return (
        f"of {len(weights)} addresses sampled in the last {window} s, {len(over)} sent more ({share:.0%} of the requests now let through)"
    )
