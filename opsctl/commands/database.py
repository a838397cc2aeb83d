"""`opsctl database`: the database's state, connections, queries and failover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from opsctl.adapters.literals import brief
from opsctl.changes.backends import EndQueries, LongQuery
from opsctl.changes.base import Change
from opsctl.changing import DURATION
from opsctl.cli import changes, group, views
from opsctl.errors import SystemFailed
from opsctl.render.shapes import Page

if TYPE_CHECKING:
    from opsctl.adapters.activity import Activity, Answer, Connections
    from opsctl.systems import Systems

database = group("database")


def positive(ctx: click.Context, param: click.Parameter, value: timedelta) -> timedelta:
    """Refuse a time span of nothing."""
    if not value:
        raise click.BadParameter("expected more than no time at all, such as 5m.", ctx, param)
    return value


@database.command()
@views
def connections(systems: Systems) -> Page:
    """Count connections against the maximum, by instance, state, user, application and client."""
    answers = systems.backends.connections()
    rows = [_share(systems, answer) for answer in answers]
    told = _untold(systems, answers)
    if not any(row["connections"] is not None for row in rows):
        raise next(answer.why for answer in answers if answer.why)
    held = [row for answer in answers if answer.found for row in answer.found.held]
    by = [(f"By {title}", _counted(held, key)) for title, key in BY.items()] if held else []
    return Page([("Instances", rows), *by, *told])


BY = {"state": "state", "user": "role", "application": "application", "client": "client"}


def _share(systems: Systems, answer: Answer[Connections]) -> dict[str, Any]:
    """An instance as a row; what the database itself couldn't tell is CloudWatch's count, and said to be."""
    row: dict[str, Any] = {"instance": answer.instance.id, "role": "writer" if answer.instance.writer else "reader"}
    row |= dict.fromkeys(("connections", "maximum", "reserved", "share"))
    if answer.same_as:
        return {**row, "told_by": f"the same server as {answer.same_as}", "warning": ""}
    if answer.found is None:
        return {**row, **_measured(systems, answer.instance.id), "warning": "the database itself can't be asked"}
    found = answer.found
    share = found.count / found.most
    most = systems.config.limits.pool_share
    warning = f"at or above {most:.0%} of the maximum" if share >= most else ""
    counts = {"connections": found.count, "maximum": found.most, "reserved": found.reserved, "share": f"{share:.0%}"}
    return {**row, **counts, "told_by": "the database", "warning": warning}


def _measured(systems: Systems, instance: str) -> dict[str, Any]:
    since = systems.now() - timedelta(minutes=15)
    where = {"DBInstanceIdentifier": instance}
    try:
        points = systems.cloudwatch.metric("AWS/RDS", "DatabaseConnections", where, since, statistic="Maximum")
    except SystemFailed as cause:
        return {"told_by": f"nobody: {cause.what}"}
    if not points:
        return {"told_by": "nobody: CloudWatch has no value of the last 15 minutes"}
    return {"connections": round(points[-1].value), "told_by": f"CloudWatch, at {points[-1].at:%H:%M} UTC"}


def _counted(held: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    counts: Counter[str] = Counter()
    for row in held:
        counts[row[key] or "(none)"] += row["connections"]
    return [{key: name, "connections": count} for name, count in counts.most_common()]


def _untold(systems: Systems, answers: Sequence[Answer[Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """A last section for what could not be asked, and why; none when all could."""
    rows = [{"instance": answer.instance.id, "why": answer.why.what} for answer in answers if answer.why]
    rows += [{"instance": instance.id, "why": UNSEEN} for instance in systems.backends.unseen]
    return [("Could not be asked", rows)] if rows else []


UNSEEN = "the Data API leads to the writer alone (driver postgres asks every instance)"


@database.command()
@click.option("--older-than", type=DURATION, help="Only queries and transactions that have run for this long.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many rows of each kind.")
@views
def activity(systems: Systems, older_than: timedelta | None, limit: int) -> Page:
    """Show what runs and what waits for what, slow statements, and what Performance Insights says; no query's literals."""
    running = systems.backends.running()
    if not any(answer.found is not None for answer in running):
        raise next(answer.why for answer in running if answer.why)
    least = older_than.total_seconds() if older_than else 0
    now = [(a.instance.id, each) for a in running if a.found for each in a.found if max(each.seconds, each.transaction_seconds) >= least]
    return Page(
        [
            ("Active", [_running(*each) for each in now if each[1].active][:limit]),
            ("Idle in a transaction", [_running(*each) for each in now if not each[1].active][:limit]),
            ("Slow statements (pg_stat_statements)", _statements(systems, limit)),
            ("Performance Insights, the last hour", _insights(systems, limit)),
            *_untold(systems, running),
        ]
    )


def _running(instance: str, found: Activity) -> dict[str, Any]:
    return {
        "instance": instance,
        "pid": found.pid,
        "user": found.role,
        "application": found.application,
        "seconds": round(found.seconds, 1),
        "transaction": round(found.transaction_seconds, 1),
        "waits_for": found.waits_for,
        "blocked_by": found.blocked_by,
        "query": found.query,
    }


def _statements(systems: Systems, limit: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for answer in systems.backends.statements(limit):
        instance = answer.instance.id
        if answer.why:
            rows.append({"instance": instance, "query": f"could not be asked: {answer.why.what}"})
        elif answer.found is None and not answer.same_as:
            rows.append(
                {"instance": instance, "query": "the extension pg_stat_statements isn't there: CREATE EXTENSION pg_stat_statements"}
            )
        for found in answer.found or []:
            times = {"calls": found["calls"], "mean_ms": round(found["mean_ms"], 1), "total_ms": round(found["total_ms"])}
            rows.append({"instance": instance, **times, "query": found["query"]})
    return rows


def _insights(systems: Systems, limit: int) -> list[dict[str, Any]]:
    """The load of each instance that is watched, and the statements that make it."""
    until = systems.now()
    since = until - timedelta(hours=1)
    rows: list[dict[str, Any]] = []
    instance = ""
    try:
        for watched in systems.performance.watched([each.id for each in systems.backends.members]):
            instance = watched.instance
            if watched.resource is None:
                rows.append({"instance": watched.instance, "load": None, "statement": "it is off on this instance"})
                continue
            loads = systems.performance.load(watched.resource, since, until) or [0.0]
            peak = f"all statements; at its peak {max(loads):.2f}"
            rows.append({"instance": watched.instance, "load": round(sum(loads) / len(loads), 2), "statement": peak})
            top = systems.performance.top(watched.resource, since, until, limit)
            rows += [{"instance": watched.instance, "load": round(each.load, 2), "statement": each.statement} for each in top]
    except SystemFailed as cause:
        rows.append({"instance": instance, "load": None, "statement": f"could not be asked: {cause.what}"})
    return rows


@database.command("kill-long-running")
@click.option(
    "--older-than", default="5m", show_default=True, type=DURATION, callback=positive, help="Which active queries: those running this long."
)
@click.option(
    "--grace", default="5s", show_default=True, type=DURATION, callback=positive, help="How long after the cancel the connection is ended."
)
@changes
def kill_long_running(systems: Systems, older_than: timedelta, grace: timedelta) -> Iterator[Change]:
    """End active queries that have run too long; replication, vacuum, backups and superusers' are spared."""
    answers = systems.backends.running()
    if not any(answer.found is not None for answer in answers):
        raise next(answer.why for answer in answers if answer.why)
    found = {answer.instance.id: answer.found for answer in answers if answer.found is not None}
    unasked = {answer.instance.id: f"it can't be asked: {answer.why.what}" for answer in answers if answer.why}
    unasked |= {instance.id: UNSEEN for instance in systems.backends.unseen}
    for instance in [*found, *unasked]:
        old = [each for each in found.get(instance, []) if each.active and each.seconds >= older_than.total_seconds()]
        yield EndQueries(
            instance=instance,
            older_than=str(older_than),
            grace=int(grace.total_seconds()),
            queries=tuple(_pinned(each) for each in old if not each.spared),
            spared=tuple(f"{each.pid} ({each.spared})" for each in old if each.spared),
            unasked=unasked.get(instance, ""),
        )


def _pinned(found: Activity) -> LongQuery:
    told = f"{found.application or 'no name'} as {found.role}, {found.seconds:.0f} s: {brief(found.query, 60)}"
    return LongQuery(pid=found.pid, backend_start=found.backend_start, query_start=found.query_start, told=told)
