"""What two looks at the world come to: what was done between them, and what stands."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from world import SERVICES, Snapshot


def essence(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """What was done to the world, without the ids, the generated values and the moments: equal for equal effects, once each."""
    changed: dict[str, Any] = {
        "secrets": {n: _versions(before["secrets"][n], v) for n, v in after["secrets"].items() if v != before["secrets"][n]},
        "services": {n: _service(before, after, n) for n in SERVICES},
        "bounds": after["bounds"],
        "database events": [event["Message"] for event in after["rds describe_events"]],
        "tables": {n: "as it was" if found == before["tables"].get(n) else found[0] for n, found in after["tables"].items()},
        "keys": {n: "as it was" if found == before["keys"].get(n) else found[0] for n, found in after["keys"].items()},
        "marks": Counter(_nameless(mark) for mark in after["marks"] if after["marks"][mark] != before["marks"].get(mark)),
        "slack": Counter(sent["message"]["text"] for sent in after["notices"]["slack"]),
        "alerts": sorted({(_nameless(sent["dedup_key"]), sent["event_action"]) for sent in after["notices"]["pagerduty"]}),
        "acknowledged": after["acknowledged"],
        "client": after["client"],
        "contacts": {
            id: _contact(before["contacts"][id], held) for id, held in after["contacts"].items() if held != before["contacts"][id]
        },
        "leases": after["leases"] - before["leases"],
        "firewall": after["firewall"],
        "protected": sorted(after["protected"]),
        "access": {name: held for name, held in after["access"].items() if held != before["access"].get(name)},
        "queries": [query in after["queries"] for query in before["queries"]],
        "announcements": [(each["message"], each["duration"]) for each in after["announcements"]],
        "snapshots": sorted(_tagged(each) for name in ("cluster_snapshots", "snapshots") for each in after[f"rds describe_db_{name}"]),
        "databases": sorted(_tagged(each) for name in ("clusters", "instances") for each in after[f"rds describe_db_{name}"]),
        "incidents": [(i["name"], [(u["status"], u["body"]) for u in i["incident_updates"]]) for i in after["notices"]["statuspage"]],
    }
    rest = {name for name in before if " " in name and before[name] != after[name]}
    return {**changed, "rest": rest}


def _versions(before: dict[str, Any], after: dict[str, Any]) -> list[Any]:
    return sorted([stages, "as it was" if version in before else "new"] for version, (stages, _) in after.items())


def _service(before: Snapshot, after: Snapshot, name: str) -> dict[str, Any]:
    known = {event["id"] for event in before["services"][name]["events"]}
    found = after["services"][name]
    return {
        "desired": found["desiredCount"],
        "running": found["runningCount"],
        "events": Counter(_nameless(e["message"]) for e in found["events"] if e["id"] not in known),
        "kept tasks": len(set(before["tasks"][name]) & set(after["tasks"][name])),
    }


def _tagged(found: dict[str, Any]) -> tuple[str, str, list[str]]:
    """What a snapshot or a database is of, whether it is whole, and which tags it has."""
    of = found.get("DBClusterIdentifier") or found["DBInstanceIdentifier"]
    return of, found.get("Status") or found["DBInstanceStatus"], sorted(tag["Key"] for tag in found["TagList"])


def _contact(before: list[str], after: list[str]) -> list[str]:
    *plain, token = after
    return [*plain, "as it was" if token == before[-1] else "another" if token else "none"]


def _nameless(text: str) -> str:
    return re.sub(r"[0-9a-f]{32}|ecs-svc/\d+|idempotency:[^:]+-(?=\d)|\d{4}-\d\d-\d\dT[\d:]+Z", "ID", text)


def standing(snapshot: Snapshot) -> dict[str, Any]:
    """What stands, whichever way it came about: what undo has to put back."""
    alerts: dict[str, str] = {sent["dedup_key"]: sent["event_action"] for sent in snapshot["notices"]["pagerduty"]}
    return {
        "secrets": {n: _staged(v) for n, v in snapshot["secrets"].items()},
        "desired": {n: snapshot["services"][n]["desiredCount"] for n in SERVICES},
        "bounds": snapshot["bounds"],
        "tables": snapshot["tables"],
        "keys": snapshot["keys"],
        "marks": snapshot["marks"],
        "slack": snapshot["notices"]["slack"],
        "contacts": snapshot["contacts"],
        "firewall": snapshot["firewall"],
        "protected": snapshot["protected"],
        "access": snapshot["access"],
        "alerts": {key for key, action in alerts.items() if action == "trigger"},
        "acknowledged": snapshot["acknowledged"],
        "reasons": {each["AlarmName"]: each["StateReason"] for each in snapshot["cloudwatch describe_alarms"]},
        "incidents": {i["name"] for i in snapshot["notices"]["statuspage"] if i["status"] != "resolved"},
    }


def _staged(versions: dict[str, Any]) -> dict[str, Any]:
    """AWS itself moves AWSPREVIOUS whenever AWSCURRENT moves, so that it isn't looked at."""
    stages = ("AWSCURRENT", "AWSPENDING")
    return {stage: (v, value) for v, (labels, value) in versions.items() for stage in stages if stage in labels}
