"""Who sends requests to the sandbox's load balancer, and what a firewall's rules make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

PER_ADDRESS = 5
"""Samples of one sender; each stands for its share of the sender's requests."""

HOST = "api.safawinet.com"


@dataclass(frozen=True)
class TrafficSource:
    """One client: its address, country, what it asks for, and how many requests it sends in five minutes."""

    address: str
    country: str
    path: str
    requests: int


ATTACKERS = [
    TrafficSource("203.0.113.66", "NL", "/v1/auth/login", 1_500),
    TrafficSource("2001:db8:bad::7", "DE", "/v1/search", 1_200),
    TrafficSource("198.51.100.23", "BR", "/v1/auth/login", 900),
]
PROBE = TrafficSource("192.0.2.200", "US", "/wp-login.php", 30)
"""Whom the managed rules turn away."""

SENDERS = [*ATTACKERS, PROBE, *(TrafficSource(f"192.0.2.{number}", "US", "/v1/products", 20) for number in range(10, 30))]


@dataclass(frozen=True)
class AclRules:
    """An ACL's rules as WAF writes them, and the entries of every address set by its ARN."""

    rules: Sequence[Mapping[str, Any]]
    sets: Mapping[str, Sequence[str]]


def fate(rules: AclRules, sender: TrafficSource) -> tuple[str, str, list[str]]:
    """What becomes of a sender's requests: metric of the rule that ends it, BLOCK or ALLOW, names of the rules that count it."""
    counting = []
    for rule in sorted(rules.rules, key=lambda rule: int(rule["Priority"])):
        if not _matches(rules, rule["Statement"], sender):
            continue
        counting.append(rule["Name"])
        if "OverrideAction" in rule or "Block" in rule["Action"]:
            return rule["VisibilityConfig"]["MetricName"], "BLOCK", counting
        if "Allow" in rule["Action"]:
            return rule["VisibilityConfig"]["MetricName"], "ALLOW", counting
    return "Default_Action", "ALLOW", counting


def _matches(rules: AclRules, statement: Mapping[str, Any], sender: TrafficSource) -> bool:
    if either := statement.get("OrStatement"):
        return any(_matches(rules, one, sender) for one in either["Statements"])
    if named := statement.get("IPSetReferenceStatement"):
        address = ip_address(sender.address)
        return any(address in ip_network(entry) for entry in rules.sets.get(named["ARN"], []))
    if rate := statement.get("RateBasedStatement"):
        return bool(sender.requests * rate.get("EvaluationWindowSec", 300) / 300 > rate["Limit"])
    return "ManagedRuleGroupStatement" in statement and sender is PROBE


def counted(rules: AclRules, name: str) -> list[str]:
    """The addresses that a rate-based rule counts, or blocks."""
    return [sender.address for sender in SENDERS if name in fate(rules, sender)[2]]


def sampled(rules: AclRules, metric: str, start: float, end: float, most: int) -> tuple[list[dict[str, Any]], int]:
    """Samples of the requests that met the rule with this metric (ALL: any), and how many there were of them between two times."""
    names = {rule["VisibilityConfig"]["MetricName"]: rule["Name"] for rule in rules.rules}
    found: list[dict[str, Any]] = []
    population = 0
    for sender in SENDERS:
        ended, action, counting = fate(rules, sender)
        if metric not in ("ALL", ended) and names.get(metric) not in counting:
            continue
        word = action if metric in ("ALL", ended) else "COUNT"
        sent = round(sender.requests * (end - start) / 300)
        population += sent
        each = min(PER_ADDRESS, sent)
        found += [_sample(sender, word, end - number, max(1, sent // each)) for number in range(each)]
    return found[:most], population


def _sample(sender: TrafficSource, action: str, at: float, weight: int) -> dict[str, Any]:
    headers = {"Host": HOST, "User-Agent": "curl/8.5.0", "X-Forwarded-For": sender.address}
    request = {
        "ClientIP": sender.address,
        "Country": sender.country,
        "URI": sender.path,
        "Method": "GET",
        "HTTPVersion": "HTTP/2.0",
        "Headers": [{"Name": name, "Value": value} for name, value in headers.items()],
    }
    return {"Request": request, "Weight": weight, "Timestamp": at, "Action": action}
