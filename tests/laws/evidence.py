"""Holds what was recorded against what was declared: calls that no declared need covers, and needs that no call shows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from commands import lines
from recording import Call

from opsctl.changes import all_kinds
from opsctl.permissions import grants, iam
from opsctl.settings import Settings

KINDS = {kind.__struct_config__.tag: kind for kind in all_kinds()}
IAM_NAMES = {"sesv2": "ses"}
"""Services whose prefix in IAM isn't botocore's name (Service Authorization Reference)."""
IAM_ACTIONS = {"sqs:DeleteMessageBatch": "sqs:DeleteMessage"}
"""Operations that IAM knows by another's name (Amazon SQS Developer Guide, "Amazon SQS API permissions")."""
UNASKED = {"sts:GetCallerIdentity"}
"""Actions that need no permission (AWS STS API reference, GetCallerIdentity)."""
NAMING = [
    *("SecretId", "services", "service", "FunctionName", "logGroupName", "logGroupNames", "QueueName", "AlarmNames", "AlarmName"),
    *("DBClusterIdentifier", "DBInstanceIdentifier", "DBClusterSnapshotIdentifier", "CacheClusterId", "UserName", "Name"),
]
"""The parameters of an operation that name its resource."""

STATISTICS = re.compile(r"\bpg_(stat_activity|stat_statements|locks)\b")
SIGNALS = re.compile(r"\bpg_(cancel|terminate)_backend\b")
SHOWN_BY = {"redis:info": "INFO", "redis:sessions.count": "EVAL_RO", "redis:sessions.unlink": "EVAL", "redis:revocations": "GET"}
"""The command that shows that a need of Redis is one."""

PARTS = ("hubspot", "api", "sentry", "ghcr", "hh_lease", "notices")
"""The parts of the sandbox that HTTP reaches, by the names of their addresses."""


def declared(call: Call, words: str) -> frozenset[str]:
    """The needs that were declared for the part of a command that made this call."""
    if call.phase == "plan":
        return lines()[words].requirement.reads
    permissions = KINDS[call.part].permissions
    return permissions.write if call.phase == "apply" else permissions.read


def action(what: str) -> str:
    """An operation as IAM names it."""
    service, _, operation = what.partition(":")
    named = f"{IAM_NAMES.get(service, service)}:{operation}"
    return IAM_ACTIONS.get(named, named)


def undeclared(calls: Iterable[Call], words: str, settings: Settings, facts: dict[str, Any]) -> list[str]:
    """The calls of a command that what it declared doesn't cover, in words."""
    found = []
    for call in calls:
        needs = declared(call, words)
        covers = {"aws": _aws, "postgres": _postgres, "redis": _redis, "http": lambda *a: _http(*a, facts)}[call.system]
        if not covers(call, needs, settings):
            found.append(f"{call.phase} {call.part or words}: {call.system} {' '.join(call.what.split())[:300]} {call.more}")
    return list(dict.fromkeys(found))


def unshown(calls: list[Call], needs: Iterable[str], settings: Settings, facts: dict[str, Any]) -> set[str]:
    """Those of `needs` that no call shows to be needed."""
    aws = {action(call.what) for call in calls if call.system == "aws"}
    sql = " ".join(call.what for call in calls if call.system == "postgres")
    redis = {call.what for call in calls if call.system == "redis"}
    http = {asked for call in calls if call.system == "http" for asked in _asked(call, facts)}
    shown = {need for need in needs if need.removesuffix(iam.ANY) in aws or need in http}
    shown |= {need for need, command in SHOWN_BY.items() if command in redis}
    shown |= {need for need in needs if need in grants.TABLES and _all_used(need, sql, settings)}
    shown |= {"postgres"} if sql else set()
    shown |= {"postgres:stats", "postgres:activity"} if STATISTICS.search(sql) else set()
    shown |= {"postgres:activity.end"} if SIGNALS.search(sql) else set()
    shown |= {"postgres:temporary"} if "CREATE TEMPORARY" in sql else set()
    return set(needs) - shown


def _aws(call: Call, needs: frozenset[str], settings: Settings) -> bool:
    name = action(call.what)
    if name in UNASKED:
        return True
    allowed = [arn for each, arn in iam._pairs(settings, needs, writing=call.phase == "apply") if each == name]
    given = [value for key in NAMING if (value := (call.more or {}).get(key))]
    named = [each for value in given for each in (value if isinstance(value, list) else [value])]
    return bool(allowed) and all(any(_names(arn, each) for arn in allowed) for each in named)


def _names(arn: str, name: str) -> bool:
    """Whether an ARN is the one of this name, or a wildcard stands in its place."""
    return arn == "*" or name in arn or fnmatchcase(name, re.split(r"[:/]", arn.removesuffix("/*") if "wafv2" in arn else arn)[-1])


def _postgres(call: Call, needs: frozenset[str], settings: Settings) -> bool:
    held = {(each.table, each.privilege) for need in needs if need in grants.TABLES for each in grants.TABLES[need](settings)}
    used = {
        (table, verb)
        for table in _tables(settings)
        for verb, pattern in (("SELECT", r"(FROM|JOIN)"), ("DELETE", "DELETE FROM"), ("INSERT", "INSERT INTO"), ("UPDATE", "UPDATE"))
        if re.search(rf'(?<!DELETE )\b{pattern} "{table}"' if verb == "SELECT" else rf'\b{pattern} "{table}"', call.what)
    }
    return (
        bool({need for need in needs if need.startswith("postgres")})
        and used <= held
        and (not STATISTICS.search(call.what) or bool(needs & set(grants.MEMBERSHIPS)))
        and (not SIGNALS.search(call.what) or "postgres:activity.end" in needs)
        and ("CREATE TEMPORARY" not in call.what or "postgres:temporary" in needs)
    )


def _tables(settings: Settings) -> set[str]:
    return {each.table for table in grants.TABLES.values() for each in table(settings)}


def _all_used(need: str, sql: str, settings: Settings) -> bool:
    """Whether statements name all that a need grants: each table with its verb, and each column."""
    for each in grants.TABLES[need](settings):
        if f'"{each.table}"' not in sql or (each.privilege != "SELECT" and each.privilege not in sql):
            return False
        if not all(re.search(rf"\b{re.escape(column)}\b", sql) for column in each.columns):
            return False
    return True


def _redis(call: Call, needs: frozenset[str], settings: Settings) -> bool:
    allowed = {*grants.LOGGING_IN, "auth", "hello", *(word for need in needs for word in grants.COMMANDS.get(need, ()))}
    words = [call.what, *map(str, call.more or [])]
    pair = "|".join(" ".join(words).split()[:2])
    return bool({call.what.lower(), pair.lower()} & allowed)


def _http(call: Call, needs: frozenset[str], settings: Settings, facts: dict[str, Any]) -> bool:
    asked = _asked(call, facts)
    return not asked or bool(asked & needs) or (asked == {"hubspot:portal"} and any(need.startswith("hubspot") for need in needs))


def _asked(call: Call, facts: dict[str, Any]) -> set[str]:
    """The needs of which one covers a request; none for what takes no credential."""
    where, path = call.who, str(call.more)
    system = next((key for key in PARTS if _at(facts, key, where, path)), "")
    if system == "hubspot":
        if path.startswith("/account-info"):
            return {"hubspot:portal"}
        writes = call.what == "PATCH" or path.endswith("/batch/update")
        return {"hubspot:contacts.write" if writes else "hubspot:contacts.read"}
    if system == "api":
        ends = {"force-logout": "api:revoke", "force-logout-all": "api:revoke", "maintenance": "api:announce", "health": ""}
        return {found for found in [ends.get(path.rpartition("/")[2], "api:login")] if found}
    if system == "notices":
        return {path.split("/")[1]}
    if system == "hh_lease":
        return {"hubspot:webhook" if path.startswith("/webhook") else "lease"}
    return {system or f"unknown {where}{path}"}


def _at(facts: dict[str, Any], key: str, where: str, path: str) -> bool:
    """Whether a request went to a part of the sandbox; some share an address and have paths of their own."""
    base = str(facts.get(key, ""))
    origin, _, prefix = base.removeprefix("http://").partition("/")
    return bool(origin) and where == f"http://{origin}" and path.startswith(f"/{prefix}")
