"""What is wrong in the rows that `status` shows, and the one line that stands for each system."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, Any

from opsctl.render.shapes import Finding, Level, SystemState

if TYPE_CHECKING:
    from opsctl.render.shapes import Alert

Rows = list[dict[str, Any]]
Problem = tuple[Level, str, str]
"""How bad it is, what is wrong, and what to type next."""

NOT_QUERIED = "could not be queried"
NOT_CONFIGURED = "not configured"
SLOW_MS = 2000
"""From how many milliseconds on an answer of a health check is a finding; less may be this process's own start."""
FAILED_SHARE = 0.05
"""The share of a function's runs from which on its errors are a finding."""
WORKING = frozenset(("available", "backing-up", "storage-optimization", "configuring-enhanced-monitoring"))
"""States of an RDS instance in which it serves queries, from the user guide's table of states."""
BOUNCES, COMPLAINTS = (5.0, 10.0), (0.1, 0.5)
"""Percent from which on SES puts an account under review, and from which on it may stop its sending (SES developer guide)."""
ORDER: tuple[Level, ...] = ("critical", "unknown", "warning")


def _unhealthy(row: dict[str, Any], level: Level) -> Iterator[Problem]:
    if not row["healthy"]:
        yield level, f"{row['base']} is not healthy: {row['detail']}", "opsctl playbook run alert-response"
    elif row["ms"] >= SLOW_MS:
        yield "warning", f"{row['base']} answered in {row['ms'] / 1000:.1f} s", "opsctl playbook run high-response-times"


def _services(row: dict[str, Any]) -> Iterator[Problem]:
    name, desired, running = row["service"], row["desired"], row["running"]
    if desired is None:
        yield "unknown", f"{name} {NOT_QUERIED}: {row['deployment']}", f"opsctl service status {quote(name)}"
        return
    if running < desired:
        level: Level = "warning" if running else "critical"
        yield level, f"{name} runs {running} of {desired} tasks", f"opsctl service status {quote(name)}"
    if row["deployment"] == "FAILED":
        yield "critical", f"the last deployment of {name} failed: {row['event']}", f"opsctl service status {quote(name)}"


def _database(row: dict[str, Any]) -> Iterator[Problem]:
    if row["status"] not in WORKING:
        yield "critical", f"{row['instance']} is {row['status']}", "opsctl database status"


def _alarms(row: dict[str, Any]) -> Iterator[Problem]:
    name = row["alarm"]
    if row["state"] == "ALARM":
        who = row["acknowledged"]
        seen = "nobody has acknowledged it" if who in (None, "nobody") else f"acknowledged by {who}"
        yield "critical", f"{name} is in ALARM since {row['since']:%Y-%m-%d %H:%M} UTC; {seen}", f"opsctl alarms ack {quote(name)}"
    elif row["state"] != "OK":
        yield "unknown", f"{name} is {row['state']}: {row['reason'] or row['warning']}", "opsctl alarms list"
    elif row["warning"]:
        yield "warning", f"{name}: {row['warning']}", "opsctl alarms list"


def _mail(row: dict[str, Any]) -> Iterator[Problem]:
    if not row["sending"]:
        yield "critical", "SES does not send", "opsctl bounces stats"
    if row["enforcement"] != "HEALTHY":
        yield "warning", f"SES's status of the account is {row['enforcement']}", "opsctl bounces stats"
    for what, (review, stop) in {"bounce": BOUNCES, "complaint": COMPLAINTS}.items():
        rate = row[f"{what}_percent"]
        if rate is not None and rate >= review:
            yield "critical" if rate >= stop else "warning", f"the {what} rate is {rate:g} %", "opsctl playbook run bounce-handling"


def _functions(row: dict[str, Any]) -> Iterator[Problem]:
    name, runs, errors = row["function"], row["runs_in_1h"], row["errors_in_1h"]
    if errors and errors >= FAILED_SHARE * runs:
        yield "warning", f"{name} failed {errors:,} of {runs:,} times in the last hour", f"opsctl logs tail {quote(name)}"


def _issues(row: dict[str, Any]) -> Iterator[Problem]:
    if row["suspicious"]:
        yield "warning", f"looks like an attack: {row['issue']} ({row['events']:,} events)", "opsctl status --only issues"


PROBLEMS: dict[str, Callable[[dict[str, Any]], Iterator[Problem]]] = {
    "API": partial(_unhealthy, level="critical"),
    "Staging": partial(_unhealthy, level="warning"),
    "Services": _services,
    "Database": _database,
    "Alarms": _alarms,
    "Mail": _mail,
    "Functions": _functions,
    "Issues": _issues,
}


def _health(row: dict[str, Any]) -> str:
    return f"{row['detail'] if row['healthy'] else 'not healthy'}, {row['ms']:,} ms"


SUMMARIES: dict[str, Callable[[dict[str, Any]], str]] = {
    "API": _health,
    "Staging": _health,
    "Services": lambda row: f"{row['service']} {_tasks(row)}",
    "Database": lambda row: f"{row['instance']} {row.get('role', '')} {row['status']}".replace("  ", " "),
    "Redis": lambda row: f"{row['used_mib']:,} MiB used ({row['of_maximum']}), {row['clients']} clients",
    "Alarms": lambda row: f"{row['alarm']} {row['state']}",
    "Mail": lambda row: f"{row['sent_in_24h']:,} of {row['of']:,} sent in 24 h, bounces {row['bounce_percent']} %",
    "Sentry": lambda row: f"{row['errors_in_1h']:,} errors in 1 h ({row['error_percent']} % of requests)",
    "Functions": lambda row: f"{row['function']} {row['errors_in_1h']:,} errors of {row['runs_in_1h']:,}",
    "WAF": lambda row: f"{row['acl']} {row['blocked']:,} blocked, {row['allowed']:,} allowed",
}


def _tasks(row: dict[str, Any]) -> str:
    return NOT_QUERIED if row["desired"] is None else f"{row['running']} of {row['desired']} tasks"


def silent(row: dict[str, Any]) -> bool:
    """Whether a row says that its source could not be queried."""
    return row.get("state") == NOT_QUERIED


def findings(sections: dict[str, Rows], alerts: list[tuple[str, Alert]]) -> list[Finding]:
    """What is wrong in the sections, and the alerts that fire or are unknown, each with its section; the worst first."""
    found = [_of_alert(system, alert) for system, alert in alerts if alert.state != "ok"]
    for system, rows in sections.items():
        for row in rows:
            if silent(row):
                found.append(Finding("unknown", system, f"{NOT_QUERIED}: {row['why']}", str(row.get("next") or "")))
            elif system in PROBLEMS and row.get("state") != NOT_CONFIGURED:
                found += [Finding(level, system, what, step) for level, what, step in PROBLEMS[system](row)]
    return sorted(found, key=lambda each: ORDER.index(each.severity))


def _of_alert(system: str, alert: Alert) -> Finding:
    if alert.value is None:
        return Finding("unknown", system, f"{alert.alert} ({alert.of}) {NOT_QUERIED}: {alert.source}", "opsctl alarms check")
    what = f"{alert.alert} ({alert.of}): {alert.value:g} {alert.unit}, threshold {alert.threshold:g} {alert.unit}"
    return Finding("critical", system, what, "opsctl playbook run alert-response")


def system_states(sections: dict[str, Rows], found: list[Finding]) -> list[SystemState]:
    """One line for each section: its worst finding's severity, and its rows in short."""
    worst = {finding.system: finding.severity for finding in reversed(found)}
    return [SystemState(name, worst.get(name, _calm(rows)), _summary(name, rows)) for name, rows in sections.items() if name != "Links"]


def _calm(rows: Rows) -> Level:
    return "not configured" if any(row.get("state") == NOT_CONFIGURED for row in rows) else "ok"


def _summary(name: str, rows: Rows) -> str:
    if name == "Issues":
        return f"{sum(not silent(row) for row in rows)} unresolved in the last hour" if not any(map(silent, rows)) else NOT_QUERIED
    texts = [row["state"] if row.get("state") in (NOT_QUERIED, NOT_CONFIGURED) else SUMMARIES[name](row) for row in rows]
    return "; ".join(texts) or "nothing to show"
