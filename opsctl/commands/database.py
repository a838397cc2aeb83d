"""`opsctl database`: the database's state, connections, queries and failover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from opsctl.adapters.sql_redaction import brief
from opsctl.cli.app import group
from opsctl.cli.command import mutating, read_only, requires
from opsctl.cli.types import DURATION
from opsctl.concurrency import gather, unwrap
from opsctl.contract import Change, Planning
from opsctl.errors import ExternalError, NotFound, OpsctlError, Refused
from opsctl.render.shapes import UNASKED, Page, Proportion

if TYPE_CHECKING:
    from opsctl.adapters.aws.rds import Cluster, ClusterMember
    from opsctl.adapters.sql.activity import Activity, ConnectionCounts, InstanceResult
    from opsctl.changes.backends import LongQuery
    from opsctl.changes.failover import FailOverCluster, FailOverInstance
    from opsctl.systems import Systems

Figures = dict[tuple[str, str], float | None]
"""By instance and metric."""

FIGURES, WORLD = "CloudWatch's figures", "global databases"
Sections = list[tuple[str, Any]]
T = TypeVar("T")

database = group("database")


@database.command()
@requires("cloudwatch:GetMetricData rds:DescribeDBClusters rds:DescribeDBInstances rds:DescribeGlobalClusters")
@read_only
def status(systems: Systems) -> Page:
    """Show the cluster or instance: the writer, possible writers, lag, endpoints, connections and CPU.

    Examples:
        opsctl database status
    """
    settings = systems.environment.database
    sections, found = (_instance if settings.instance else _cluster)(systems, settings.instance or settings.cluster)
    unanswered = [{"what": what, "why": told.what} for what, told in found.items() if isinstance(told, ExternalError)]
    return Page([*sections, (UNASKED, unanswered)] if unanswered else sections)


def _told(told: T | OpsctlError) -> T | None:
    """What a source said, or None when it could not be queried."""
    return None if isinstance(told, ExternalError) else unwrap(told)


def _cluster(systems: Systems, name: str) -> tuple[Sections, dict[str, Any]]:
    """The sections of a cluster, and what was asked beside it: each source's answer or error."""
    state = systems.rds.cluster(name)
    lag = "AuroraReplicaLag" if state.aurora else "ReplicaLag"
    found: dict[str, Any] = gather(
        {
            FIGURES: partial(_figures, systems, [member.id for member in state.members], lag),
            WORLD: partial(systems.rds.global_database, state.arn),
        }
    )
    figures = _told(found[FIGURES]) or {}
    cluster = {
        "cluster": state.id,
        "kind": "Aurora" if state.aurora else "Multi-AZ DB cluster",
        "engine": f"{state.engine} {state.version}".strip(),
        "status": state.status,
        "writer": state.writer.id if state.writer else None,
        "next_writer": next((m.id for m in _candidates(state)), None),
        "global_database": _told(found[WORLD]) or None,
    }
    endpoints = [
        {"endpoint": "writer", "host": state.endpoint, "port": state.port},
        {"endpoint": "reader", "host": state.reader_endpoint, "port": state.port},
    ]
    rows = [_member(member, figures, lag, 1 if state.aurora else 1000) for member in state.members]
    return [("Cluster", cluster), ("Members", rows), ("Endpoints", endpoints)], found


def _member(member: ClusterMember, figures: Figures, lag: str, milliseconds: int) -> dict[str, Any]:
    behind = None if member.writer else figures.get((member.id, lag))
    return {
        "instance": member.id,
        "role": "writer" if member.writer else "reader",
        "status": member.status,
        "zone": member.zone,
        "tier": member.tier,
        "lag_ms": None if behind is None else round(behind * milliseconds),
        **_load(member.id, figures),
        "class": member.size,
        "insights": "on" if member.insights else "off",
    }


def _instance(systems: Systems, name: str) -> tuple[Sections, dict[str, Any]]:
    """As `_cluster`, of an instance by itself."""
    state = systems.rds.instance(name)
    found: dict[str, Any] = gather({FIGURES: partial(_figures, systems, [name])})
    instance = {
        "instance": state.id,
        "kind": "Multi-AZ instance" if state.multi_az else "instance in one zone",
        "engine": f"{state.engine} {state.version}".strip(),
        "status": state.status,
        "zone": state.zone,
        "standby": state.standby or None,
        **_load(name, _told(found[FIGURES]) or {}),
        "class": state.size,
        "insights": "on" if state.insights else "off",
    }
    return [("Instance", instance), ("Endpoints", [{"endpoint": "writer", "host": state.endpoint, "port": state.port}])], found


def _figures(systems: Systems, instances: list[str], *more: str) -> Figures:
    """CloudWatch's newest figures of instances, asked at once; their count of connections is there when the database can't be reached."""
    from opsctl.adapters.aws.cloudwatch import Metric

    asked = [(instance, name) for instance in instances for name in ("DatabaseConnections", "CPUUtilization", *more)]
    wanted = [Metric("AWS/RDS", name, {"DBInstanceIdentifier": instance}) for instance, name in asked]
    return dict(zip(asked, systems.cloudwatch.newest(wanted, systems.now()), strict=True))


def _load(instance: str, figures: Figures) -> dict[str, float | None]:
    found = {"connections": figures.get((instance, "DatabaseConnections")), "cpu_percent": figures.get((instance, "CPUUtilization"))}
    return {name: None if value is None else round(value, 1) for name, value in found.items()}


@database.command()
@requires(
    "cloudwatch:GetMetricData rds:DescribeDBClusters rds:DescribeDBInstances",
    changes="fail-over-cluster fail-over-instance prove-writes",
)
@click.option(
    "--to", metavar="INSTANCE", help="The reader that becomes the writer; by default the available reader with the lowest promotion tier."
)
@click.option(
    "--accept-global", is_flag=True, help="Continue in this region even if the cluster is part of a global database, or if that is unknown."
)
@mutating
def failover(planning: Planning, to: str | None, accept_global: bool) -> Iterator[Change]:
    """Make another instance the database's writer, and verify it with a test write. Every connection breaks and writes stop for a moment.

    Examples:
        opsctl database failover -n
        opsctl database failover --to safawinet-reader-1
    """
    from opsctl.changes.failover import ProveWrites

    systems = planning.systems
    settings = systems.environment.database
    if settings.instance:
        change: FailOverCluster | FailOverInstance = _of_instance(systems, settings.instance, to)
    else:
        change = _of_cluster(systems, settings.cluster, to, accept_global=accept_global)
    yield change
    yield ProveWrites(failover=change)


def _of_cluster(systems: Systems, name: str, to: str | None, *, accept_global: bool) -> FailOverCluster:
    from opsctl.changes.failover import FailOverCluster, fit_cluster

    state = systems.rds.cluster(name)
    chosen = _first(state) if to is None else _named(state, to.lower())
    if state.writer is None:
        raise Refused(f"{name} has no writer just now; it is {state.status}.", "Look again: opsctl database status")
    if chosen != state.writer.id:
        fit_cluster(systems, state, chosen)
    return FailOverCluster(cluster=name, writer=state.writer.id, to=chosen, named=to is not None, accept_global=accept_global)


def _of_instance(systems: Systems, name: str, to: str | None) -> FailOverInstance:
    from opsctl.changes.failover import FailOverInstance, fit_instance

    if to is not None:
        raise click.UsageError(f"--to names a reader of a cluster; {name} is an instance, which has one standby.")
    state = systems.rds.instance(name)
    fit_instance(state)
    return FailOverInstance(instance=name, zone=state.zone, to=state.standby)


def _named(state: Cluster, to: str) -> str:
    known = [member.id for member in state.members]
    if to not in known:
        there = ", ".join(known) or "none"
        raise NotFound(f"{state.id} has no instance {to!r}; it has {there}.", "Choose a reader: opsctl database status")
    return to


def _first(state: Cluster) -> str:
    if not state.readers:
        raise Refused(
            f"{state.id} has no reader that could become the writer, so a failover would only be an outage.",
            f"Add a reader (aws rds create-db-instance --db-cluster-identifier {state.id}); a restart is aws rds reboot-db-instance",
        )
    return (_candidates(state) or state.readers)[0].id


def _candidates(state: Cluster) -> list[ClusterMember]:
    """The readers that are available, the first to be promoted first."""
    return [member for member in state.readers if member.status == "available"]


def positive(ctx: click.Context, param: click.Parameter, value: timedelta) -> timedelta:
    """Refuse a time span of nothing."""
    if not value:
        raise click.BadParameter("expected more than no time at all, such as 5m.", ctx, param)
    return value


@database.command()
@requires("postgres:activity")
@read_only
def connections(systems: Systems) -> Page:
    """Count the database's connections against the maximum: by instance, state, user, application and client.

    Examples:
        opsctl database connections
        opsctl database connections -o json
    """
    answers = systems.backends.connections()
    rows = _shares(systems, answers)
    told = _untold(systems, answers)
    if not any(row["connections"] is not None for row in rows):
        raise next(answer.why for answer in answers if answer.why)
    held = [row for answer in answers if answer.found for row in answer.found.held]
    by = [(f"By {title}", _counted(held, key)) for title, key in BY.items()] if held else []
    return Page([("Instances", rows), *by, *told])


BY = {"state": "state", "user": "role", "application": "application", "client": "client"}


def _share(systems: Systems, answer: InstanceResult[ConnectionCounts]) -> dict[str, Any]:
    """An instance as a row; what the database itself couldn't tell is CloudWatch's count, and said to be."""
    row: dict[str, Any] = {"instance": answer.instance.id, "role": "writer" if answer.instance.writer else "reader"}
    row |= dict.fromkeys(("connections", "maximum", "reserved", "share"))
    if answer.found is None:
        return {**row, **_measured(systems, answer.instance.id), "warning": "the database itself can't be asked"}
    found = answer.found
    share = Proportion(found.count / found.most)
    most = systems.config.limits.pool_share
    warning = f"at or above {most:.0%} of the maximum" if share >= most else ""
    counts = {"connections": found.count, "maximum": found.most, "reserved": found.reserved, "share": share}
    return {**row, **counts, "told_by": "the database", "warning": warning}


def _shares(systems: Systems, answers: Sequence[InstanceResult[ConnectionCounts]]) -> list[dict[str, Any]]:
    """A row an instance; one whose endpoint leads to another's server has that server's figures, which its clients meet."""
    rows = {answer.instance.id: _share(systems, answer) for answer in answers if not answer.same_as}
    for answer in answers:
        if answer.same_as:
            own = {"instance": answer.instance.id, "role": "reader", "told_by": f"the same server as {answer.same_as}"}
            rows[answer.instance.id] = {**rows[answer.same_as], **own}
    return list(rows.values())


def _measured(systems: Systems, instance: str) -> dict[str, Any]:
    since = systems.now() - timedelta(minutes=15)
    where = {"DBInstanceIdentifier": instance}
    try:
        points = systems.cloudwatch.metric("AWS/RDS", "DatabaseConnections", where, since, statistic="Maximum")
    except ExternalError as cause:
        return {"told_by": f"nobody: {cause.what}"}
    if not points:
        return {"told_by": "nobody: CloudWatch has no value of the last 15 minutes"}
    return {"connections": round(points[-1].value), "told_by": f"CloudWatch, at {points[-1].at:%H:%M} UTC"}


def _counted(held: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    counts: Counter[str] = Counter()
    for row in held:
        counts[row[key] or "(none)"] += row["connections"]
    return [{key: name, "connections": count} for name, count in counts.most_common()]


def _untold(systems: Systems, answers: Sequence[InstanceResult[Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """A last section for what could not be queried, and why; none when all could."""
    rows = [{"instance": answer.instance.id, "why": answer.why.what} for answer in answers if answer.why]
    rows += [{"instance": instance.id, "why": UNSEEN} for instance in systems.backends.unavailable]
    return [(UNASKED, rows)] if rows else []


UNSEEN = "the Data API leads to the writer alone (driver postgres asks every instance)"


@database.command()
@requires("pi:DescribeDimensionKeys pi:GetResourceMetrics postgres:activity")
@click.option("--older-than", type=DURATION, help="Only queries and transactions that have run for this long.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many rows of each kind.")
@read_only
def activity(systems: Systems, older_than: timedelta | None, limit: int) -> Page:
    """Show running queries, what each waits for, slow statements, and Performance Insights' top queries. Values in queries are hidden.

    Examples:
        opsctl database activity
        opsctl database activity --older-than 5m --limit 50
    """
    found: dict[str, Any] = gather(
        {
            "running": systems.backends.running,
            "statements": partial(_statements, systems, limit),
            "insights": partial(_insights, systems, limit),
        }
    )
    running: list[InstanceResult[list[Activity]]] = unwrap(found["running"])
    insights: list[dict[str, Any]] = unwrap(found["insights"])
    asked = any(answer.found is not None for answer in running)
    if not asked and all(row["load"] is None for row in insights):
        raise next(answer.why for answer in running if answer.why)
    return Page(
        [
            *(_at_work(running, older_than, limit) if asked else []),
            ("Slow statements (pg_stat_statements)", unwrap(found["statements"])),
            ("Performance Insights, the last hour", insights),
            *_untold(systems, running),
        ]
    )


def _at_work(running: Sequence[InstanceResult[list[Activity]]], older_than: timedelta | None, limit: int) -> Sections:
    """What works, and what only keeps its transaction open."""
    least = older_than.total_seconds() if older_than else 0
    now = [(a.instance.id, each) for a in running if a.found for each in a.found if max(each.seconds, each.transaction_seconds) >= least]
    return [
        ("Active", [_running(*each) for each in now if each[1].active][:limit]),
        ("Idle in a transaction", [_running(*each) for each in now if not each[1].active][:limit]),
    ]


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
        "blocked": bool(found.blocked_by),
        "query": found.query,
    }


def _statements(systems: Systems, limit: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
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


def _insights(systems: Systems, limit: int) -> list[dict[str, Any]]:
    """The load of each instance that is watched, and the statements that make it."""
    until = systems.now()
    since = until - timedelta(hours=1)
    rows: list[dict[str, Any]] = []
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


@database.command("kill-long-running")
@requires("postgres:activity", changes="end-blockers end-queries")
@click.option(
    "--older-than",
    default="5m",
    show_default=True,
    type=DURATION,
    callback=positive,
    help="End queries that have run for longer than this.",
)
@click.option(
    "--grace",
    default="5s",
    show_default=True,
    type=DURATION,
    callback=positive,
    help="How long a cancelled query may go on before its connection is ended.",
)
@click.option("--blockers", is_flag=True, help="First end sessions that are idle in a transaction and block others.")
@mutating
def kill_long_running(planning: Planning, older_than: timedelta, grace: timedelta, blockers: bool) -> Iterator[Change]:
    """End active queries that run too long. Replication, vacuum, backups and superusers' queries are not ended.

    Examples:
        opsctl database kill-long-running --older-than 10m -n
        opsctl database kill-long-running --older-than 10m --blockers
    """
    from opsctl.changes.backends import EndQueries

    answers = planning.systems.backends.running()
    if not any(answer.found is not None for answer in answers):
        raise next(answer.why for answer in answers if answer.why)
    found = {answer.instance.id: answer.found for answer in answers if answer.found is not None}
    unasked = {answer.instance.id: f"it can't be asked: {answer.why.what}" for answer in answers if answer.why}
    unseen = {instance.id: UNSEEN for instance in planning.systems.backends.unavailable}
    for instance, running in found.items():
        yield from _blockers(instance, running, asked=blockers)
    for instance in [*found, *unasked, *unseen]:
        old = [each for each in found.get(instance, []) if each.active and each.seconds >= older_than.total_seconds()]
        yield EndQueries(
            instance=instance,
            older_than=str(older_than),
            grace=int(grace.total_seconds()),
            queries=tuple(_pinned(each) for each in old if not each.spared),
            spared=tuple(f"{each.pid} ({each.spared})" for each in old if each.spared),
            unasked=unasked.get(instance, ""),
            unseen=unseen.get(instance, ""),
        )


def _blockers(instance: str, running: Sequence[Activity], *, asked: bool) -> Iterator[Change]:
    """What others wait for without doing anything itself; nothing where nobody does."""
    from opsctl.adapters.sql.activity import holding
    from opsctl.changes.backends import EndBlockers, LongQuery

    known = {each.pid: each for each in running}
    sessions: list[LongQuery] = []
    kept: list[str] = []
    for pid, waiting in holding(running).items():
        each = known.get(pid)
        if each is None and pid == 0:
            kept.append(f"a prepared transaction, for which {waiting} wait (SELECT gid FROM pg_prepared_xacts; then ROLLBACK PREPARED)")
        elif each is not None and each.idle and each.spared:
            kept.append(f"{pid}, for which {waiting} wait ({each.spared})")
        elif each is not None and each.idle:
            told = f"{each.application or 'no name'} as {each.role}, {each.transaction_seconds:.0f} s in its transaction, {waiting} wait"
            sessions.append(LongQuery(pid=pid, backend_start=each.backend_start, query_start=each.query_start, told=told))
    if sessions or kept:
        yield EndBlockers(instance=instance, sessions=tuple(sessions), kept=tuple(kept), asked=asked)


def _pinned(found: Activity) -> LongQuery:
    from opsctl.changes.backends import LongQuery

    told = f"{found.application or 'no name'} as {found.role}, {found.seconds:.0f} s: {brief(found.query, 60)}"
    return LongQuery(pid=found.pid, backend_start=found.backend_start, query_start=found.query_start, told=told)
