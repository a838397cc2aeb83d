"""The rows of `database connections` and `database activity`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from opsctl.errors import ExternalError
from opsctl.render.shapes import UNASKED, Proportion

if TYPE_CHECKING:
    from opsctl.adapters.sql.activity import Activity, ConnectionCounts, InstanceResult
    from opsctl.systems import Systems

Rows = list[dict[str, Any]]

BY = {"state": "state", "user": "role", "application": "application", "client": "client"}


def _connection_row(systems: Systems, answer: InstanceResult[ConnectionCounts]) -> dict[str, Any]:
    """An instance as a row; what the database itself couldn't tell is CloudWatch's count, and said to be."""
    row: dict[str, Any] = {"instance": answer.instance.id, "role": "writer" if answer.instance.writer else "reader"}
    row |= dict.fromkeys(("connections", "maximum", "reserved", "share"))
    if answer.found is None:
        return {**row, **_cloudwatch_count(systems, answer.instance.id), "warning": "the database itself can't be asked"}
    found = answer.found
    share = Proportion(found.count / found.most)
    most = systems.config.limits.pool_share
    warning = f"at or above {most:.0%} of the maximum" if share >= most else ""
    counts = {"connections": found.count, "maximum": found.most, "reserved": found.reserved, "share": share}
    return {**row, **counts, "told_by": "the database", "warning": warning}


def connection_rows(systems: Systems, answers: Sequence[InstanceResult[ConnectionCounts]]) -> Rows:
    """A row an instance; one whose endpoint leads to another's server has that server's figures, which its clients meet."""
    rows = {answer.instance.id: _connection_row(systems, answer) for answer in answers if not answer.same_as}
    for answer in answers:
        if answer.same_as:
            own = {"instance": answer.instance.id, "role": "reader", "told_by": f"the same server as {answer.same_as}"}
            rows[answer.instance.id] = {**rows[answer.same_as], **own}
    return list(rows.values())


def _cloudwatch_count(systems: Systems, instance: str) -> dict[str, Any]:
    since = systems.now() - timedelta(minutes=15)
    where = {"DBInstanceIdentifier": instance}
    try:
        points = systems.cloudwatch.metric("AWS/RDS", "DatabaseConnections", where, since, statistic="Maximum")
    except ExternalError as cause:
        return {"told_by": f"nobody: {cause.what}"}
    if not points:
        return {"told_by": "nobody: CloudWatch has no value of the last 15 minutes"}
    return {"connections": round(points[-1].value), "told_by": f"CloudWatch, at {points[-1].at:%H:%M} UTC"}


def count_by(held: Rows, key: str) -> Rows:
    """The connections of each value of `key`, the most first."""
    counts: Counter[str] = Counter()
    for row in held:
        counts[row[key] or "(none)"] += row["connections"]
    return [{key: name, "connections": count} for name, count in counts.most_common()]


def unqueried(systems: Systems, answers: Sequence[InstanceResult[Any]]) -> list[tuple[str, Rows]]:
    """A last section with what could not be queried, and why; no section when everything answered."""
    rows = [{"instance": answer.instance.id, "why": answer.why.what} for answer in answers if answer.why]
    rows += [{"instance": instance.id, "why": UNSEEN} for instance in systems.backends.unavailable]
    return [(UNASKED, rows)] if rows else []


UNSEEN = "the Data API leads to the writer alone (driver postgres asks every instance)"


def activity_sections(
    running: Sequence[InstanceResult[list[Activity]]], older_than: timedelta | None, limit: int
) -> list[tuple[str, Rows]]:
    """What works, and what only keeps its transaction open."""
    least = older_than.total_seconds() if older_than else 0
    now = [(a.instance.id, each) for a in running if a.found for each in a.found if max(each.seconds, each.transaction_seconds) >= least]
    return [
        ("Active", [_activity_row(*each) for each in now if each[1].active][:limit]),
        ("Idle in a transaction", [_activity_row(*each) for each in now if not each[1].active][:limit]),
    ]


def _activity_row(instance: str, found: Activity) -> dict[str, Any]:
    return {
        "instance": instance,
        "pid": found.pid,
        "user": found.role,
        "application": found.application,
        "seconds": round(found.seconds, 1),
        "transaction": round(found.transaction_seconds, 1),
        "waits_for": found.waits_for,
        "blocked_by": found.blocked_by,
        "blocked": bool(found.blocked_by),
        "query": found.query,
    }


def statement_rows(systems: Systems, limit: int) -> Rows:
    """The statements that took most time on each instance, from pg_stat_statements."""
    rows: Rows = []
    for answer in systems.backends.statements(limit):
        instance = answer.instance.id
        if answer.why:
            rows.append({"instance": instance, "query": f"could not be queried: {answer.why.what}"})
        elif answer.found is None and not answer.same_as:
            rows.append(
                {"instance": instance, "query": "the extension pg_stat_statements isn't there: CREATE EXTENSION pg_stat_statements"}
            )
        for found in answer.found or []:
            times = {"calls": found["calls"], "mean_ms": round(found["mean_ms"], 1), "total_ms": round(found["total_ms"])}
            rows.append({"instance": instance, **times, "query": found["query"]})
    return rows


def insight_rows(systems: Systems, limit: int) -> Rows:
    """The load of each instance that is watched, and the statements that make it."""
    until = systems.now()
    since = until - timedelta(hours=1)
    rows: Rows = []
    for instance in sorted(systems.backends.members, key=lambda each: each.id):
        if not instance.insights:
            rows.append({"instance": instance.id, "load": None, "statement": "it is off on this instance"})
            continue
        try:
            loads = systems.performance.load(instance.insights, since, until) or [0.0]
            top = systems.performance.top(instance.insights, since, until, limit)
        except ExternalError as cause:
            rows.append({"instance": instance.id, "load": None, "statement": f"could not be queried: {cause.what}"})
            continue
        peak = f"all statements; at its peak {max(loads):.2f}"
        rows.append({"instance": instance.id, "load": round(sum(loads) / len(loads), 2), "statement": peak})
        rows += [{"instance": instance.id, "load": round(each.load, 2), "statement": each.statement} for each in top]
    return rows
